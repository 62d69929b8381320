//! A mail provider that hangs up, or waits until it is told: what an imitation over HTTP cannot do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use serde_json::Value;

/// What it does with a mail that it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Takes it and says so.
    Yes,
    /// Takes it and hangs up.
    Silently,
    /// Takes it, and says nothing until it may.
    Later,
}

#[derive(Default)]
struct Seen {
    mails: Vec<Value>,
    taking: Option<Taking>,
}

/// A provider in the shape of Mailpit.
pub struct Sink {
    address: String,
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Sink {
    /// Starts taking mail.
    pub fn start(taking: Taking) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new((Mutex::new(Seen { mails: Vec::new(), taking: Some(taking) }), Condvar::new()));
        let shared = Arc::clone(&seen);
        // Ends with the process: it holds nothing but its port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { address, seen }
    }

    /// The base address for the configuration.
    pub fn url(&self) -> &str {
        &self.address
    }

    /// From now on, also for mails that wait for their answer.
    pub fn take(&self, taking: Taking) {
        self.seen.0.lock().expect("no test panics here").taking = Some(taking);
        self.seen.1.notify_all();
    }

    /// Every mail with a link that it has read, oldest first.
    pub fn mails(&self) -> Vec<Value> {
        let mails = self.seen.0.lock().expect("no test panics here").mails.clone();
        mails.into_iter().filter(|mail| mail["Tags"][0] == "magic_link").collect()
    }
}

fn serve(mut stream: TcpStream, seen: &(Mutex<Seen>, Condvar)) {
    let mut bytes = Vec::new();
    let mut part = [0; 8192];
    let body = loop {
        let Ok(length @ 1..) = stream.read(&mut part) else { return };
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_lowercase();
            let (_, rest) = head.split_once("content-length: ").expect("a length");
            let expected: usize = rest.lines().next().and_then(|line| line.trim().parse().ok()).expect("a number");
            if body.len() >= expected {
                break serde_json::from_str(body).expect("a mail is JSON");
            }
        }
    };
    let mut state = seen.0.lock().expect("no test panics here");
    state.mails.push(body);
    while state.taking == Some(Taking::Later) {
        state = seen.1.wait(state).expect("no test panics here");
    }
    let says_so = state.taking == Some(Taking::Yes);
    drop(state);
    if says_so {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\nconnection: close\r\n\r\n{\"ID\":\"taken\"}";
        // The service may be gone by now; that is what some tests are about.
        drop(stream.write_all(answer.as_bytes()));
    }
}
