//! A mail provider that does what an imitation over HTTP cannot: hangs up, waits until it is told, never ends.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use super::Authority;

/// What it does with a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// Takes it and says so.
    Yes,
    /// Takes it and hangs up.
    Silently,
    /// Takes it, and says nothing until it may.
    Later,
    /// Does not read a byte of it until it may, and has lost it then.
    Unread,
    /// Answers with this status and header, and with this body.
    Answering(&'static str, &'static str),
    /// Says half of an answer and no more, but stays on the line.
    HalfClosed,
    /// Begins an answer and goes on a byte at a time.
    Dripping,
    /// Says nothing for as long as anybody waits.
    Hanging,
    /// Begins an answer whose body takes no end.
    EndlessBody,
    /// Begins an answer whose head takes no end.
    EndlessHead,
}

/// What "no end" is to this machine: enough to show in the memory of whoever keeps it.
const ENDLESS_BYTES: usize = 256 * 1024 * 1024;

#[derive(Default)]
struct Seen {
    mails: Vec<Value>,
    /// How many mails were offered, read or not.
    offered: usize,
    /// For the mails to come, one each.
    turns: VecDeque<Taking>,
    /// For all others.
    taking: Option<Taking>,
}

type Shared = Arc<(Mutex<Seen>, Condvar)>;

/// A provider in the shape of Mailpit.
pub struct Sink {
    address: String,
    shared: Shared,
}

impl Sink {
    /// Starts taking mail.
    pub fn start(taking: Taking) -> Self {
        Self::listen(taking, None)
    }

    /// The same over TLS, under this name and no other.
    pub fn start_as(name: &str, authority: &Authority) -> Self {
        Self::listen(Taking::Yes, Some(authority.server(name)))
    }

    fn listen(taking: Taking, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let address =
            if tls.is_some() { format!("https://localhost:{port}") } else { format!("http://127.0.0.1:{port}") };
        let shared: Shared = Arc::default();
        let sink = Self { address, shared: Arc::clone(&shared) };
        sink.take(taking);
        // Ends with the process: it holds nothing but its port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(&stream, &stream, &shared),
                    Some(config) => {
                        let tls = rustls::ServerConnection::new(config).expect("a configuration that works");
                        serve(rustls::StreamOwned::new(tls, &stream), &stream, &shared);
                    }
                });
            }
        });
        sink
    }

    /// The base address for the configuration.
    pub fn url(&self) -> &str {
        &self.address
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.shared.0.lock().expect("no test panics here")
    }

    /// From now on, also for mails that wait for their answer.
    pub fn take(&self, taking: Taking) {
        self.seen().taking = Some(taking);
        self.shared.1.notify_all();
    }

    /// What it does with the next mails, one each, before it goes back to its usual way.
    pub fn take_turns(&self, turns: impl IntoIterator<Item = Taking>) {
        self.seen().turns.extend(turns);
    }

    /// How many mails were offered, read or not.
    pub fn offered(&self) -> usize {
        self.seen().offered
    }

    /// Every mail with a link that it has read, oldest first.
    pub fn mails(&self) -> Vec<Value> {
        let mails = self.seen().mails.clone();
        mails.into_iter().filter(|mail| mail["Tags"][0] == "magic_link").collect()
    }
}

/// Serves one mail. `socket` is what is below `stream`.
fn serve(mut stream: impl Read + Write, socket: &TcpStream, (seen, told): &(Mutex<Seen>, Condvar)) {
    let mut state = seen.lock().expect("no test panics here");
    state.offered += 1;
    if state.taking == Some(Taking::Unread) {
        drop(told.wait_while(state, |state| state.taking == Some(Taking::Unread)));
        return;
    }
    drop(state);
    let Some(mail) = read_mail(&mut stream) else { return };
    let mut state = seen.lock().expect("no test panics here");
    state.mails.push(mail);
    let turn = state.turns.pop_front();
    if turn.is_none() {
        state = told.wait_while(state, |state| state.taking == Some(Taking::Later)).expect("no test panics here");
    }
    let taking = turn.or(state.taking).expect("it was told");
    drop(state);
    // The service may be gone by now, or hang up; that is what these tests are about.
    drop(answer(&mut stream, socket, taking));
}

/// Reads a request to its end; nothing where the other side gives up before.
fn read_mail(stream: &mut impl Read) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut part = [0; 8192];
    loop {
        let Ok(length @ 1..) = stream.read(&mut part) else { return None };
        bytes.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let (_, rest) = head.split_once("content-length: ").expect("a length");
        let expected: usize = rest.lines().next().and_then(|line| line.trim().parse().ok()).expect("a number");
        if body.len() >= expected {
            return Some(serde_json::from_str(body).expect("a mail is JSON"));
        }
    }
}

fn answer(stream: &mut (impl Read + Write), socket: &TcpStream, taking: Taking) -> std::io::Result<()> {
    let whole = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    let begun = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4294967296\r\n\r\n{\"ID\"";
    let mut byte = [0];
    match taking {
        Taking::Yes => stream.write_all(whole("200 OK", r#"{"ID":"taken"}"#).as_bytes())?,
        Taking::Answering(status, body) => stream.write_all(whole(status, body).as_bytes())?,
        Taking::Silently | Taking::Later | Taking::Unread => return Ok(()),
        Taking::HalfClosed => {
            stream.write_all(begun.as_bytes())?;
            socket.shutdown(Shutdown::Write)?;
            while stream.read(&mut byte)? > 0 {}
        }
        Taking::Hanging => while stream.read(&mut byte)? > 0 {},
        Taking::Dripping => {
            stream.write_all(begun.as_bytes())?;
            // Waiting for the other side to hang up is what paces the bytes.
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            while !matches!(stream.read(&mut byte), Ok(0)) {
                stream.write_all(b" ")?;
            }
        }
        Taking::EndlessBody | Taking::EndlessHead => {
            stream
                .write_all(if taking == Taking::EndlessBody { begun } else { "HTTP/1.1 200 OK\r\nx: " }.as_bytes())?;
            let part = [b'x'; 16 * 1024];
            for _ in 0..ENDLESS_BYTES / part.len() {
                stream.write_all(&part)?;
            }
        }
    }
    stream.flush()
}
