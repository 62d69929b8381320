//! A socket without a client's manners.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use super::contract::seen;
use super::eventually;

/// A connection to the service on which a test writes what it likes.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects.
    pub fn connect(base: &str) -> Self {
        let stream = TcpStream::connect(base.trim_start_matches("http://")).expect("a connection");
        Self::of(stream)
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit can be set");
        stream.set_nodelay(true).expect("the socket takes options");
        Self(stream)
    }

    /// Connects from another address of this machine.
    pub async fn connect_from(source: Ipv4Addr, base: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("an address of this machine");
        let address = base.trim_start_matches("http://").parse().expect("an address");
        let stream = socket.connect(address).await.and_then(tokio::net::TcpStream::into_std).expect("a connection");
        stream.set_nonblocking(false).expect("the socket takes options");
        Self::of(stream)
    }

    /// Sends bodies of a length without their last byte, each on a connection of its own from an address, until the service
    /// refuses one; returns those that are held back, and the refusal.
    pub async fn hold_back(source: Ipv4Addr, base: &str, head: &str, length: usize) -> (Vec<Self>, String) {
        let mut held = Vec::new();
        let refusal = eventually("there is no room for more", async || {
            let mut raw = Self::connect_from(source, base).await;
            raw.send(head.as_bytes());
            let answer = raw.answer_within(Duration::from_millis(200));
            if answer.is_empty() {
                raw.send(&vec![b' '; length - 1]);
                held.push(raw);
            }
            (!answer.is_empty()).then_some(answer)
        })
        .await;
        (held, refusal)
    }

    /// Sends bytes; a service that has hung up already is no failure.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// Sends a body a byte at a time until the service has had enough, and returns what it said.
    pub fn drip(&mut self, pause: Duration) -> String {
        self.0.set_read_timeout(Some(pause)).expect("a time limit can be set");
        let started = Instant::now();
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        while started.elapsed() < Duration::from_secs(20) {
            // Waiting for an answer is what paces the bytes.
            match self.0.read(&mut part) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&part[..length]),
                Err(_nothing_yet) if answer.is_empty() => drop(self.send(b" ")),
                Err(_) => break,
            }
        }
        noted(answer)
    }

    /// What the service says first, at once.
    pub fn line(&mut self) -> String {
        let mut part = [0; 4096];
        let length = self.0.read(&mut part).expect("an answer");
        String::from_utf8(part[..length].to_vec()).expect("text")
    }

    /// Whether the service hangs up within a time, in which it says nothing.
    pub fn ends_within(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).expect("a time limit can be set");
        let outcome = self.0.read(&mut [0; 1]);
        self.0.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit can be set");
        matches!(outcome, Ok(0))
    }

    /// What the service says until the connection ends, and whether it ended in an orderly way.
    pub fn rest(&mut self) -> (String, bool) {
        let mut rest = Vec::new();
        let is_orderly = self.0.read_to_end(&mut rest).is_ok();
        (String::from_utf8_lossy(&rest).into_owned(), is_orderly)
    }

    /// What the service says within a time; nothing, if it waits for more.
    pub fn answer_within(&mut self, time: Duration) -> String {
        self.0.set_read_timeout(Some(time)).expect("a time limit can be set");
        let answer = self.answer();
        self.0.set_read_timeout(Some(Duration::from_secs(20))).expect("a time limit can be set");
        answer
    }

    /// What the service says until it has said a whole problem document.
    pub fn answer(&mut self) -> String {
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        loop {
            match self.0.read(&mut part) {
                Ok(0) | Err(_) => break,
                Ok(length) => answer.extend_from_slice(&part[..length]),
            }
            if answer.ends_with(b"}") {
                break;
            }
        }
        noted(answer)
    }
}

/// An answer as text. Its code is noted: what is refused before there is a request belongs to no operation.
fn noted(answer: Vec<u8>) -> String {
    let answer = String::from_utf8(answer).expect("text");
    let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    if let Some(code) = problem["code"].as_str() {
        seen::note("-", code);
    }
    answer
}
