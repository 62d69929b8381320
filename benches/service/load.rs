//! A load generator that costs little: requests as bytes over connections that stay open.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

/// A request, ready to be written.
#[derive(Clone)]
pub struct Request(Vec<u8>);

impl Request {
    pub fn get(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes())
    }

    pub fn get_with(key: &str, path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\n\r\n").into_bytes())
    }

    pub fn post(key: &str, path: &str, body: &Value) -> Self {
        Self::with_body(key, path, "application/json", &body.to_string())
    }

    /// A call that may be repeated.
    pub fn post_once(key: &str, once: &str, path: &str, body: &Value) -> Self {
        let Self(bytes) = Self::post(key, path, body);
        let text = String::from_utf8(bytes).expect("text");
        Self(text.replacen("\r\n", &format!("\r\nidempotency-key: {once}\r\n"), 1).into_bytes())
    }

    pub fn introspect(key: &str, token: &str) -> Self {
        Self::with_body(key, "/v1/introspect", "application/x-www-form-urlencoded", &format!("token={token}"))
    }

    pub fn revoke(key: &str, token: &str) -> Self {
        Self::with_body(key, "/v1/revoke", "application/x-www-form-urlencoded", &format!("token={token}"))
    }

    fn with_body(key: &str, path: &str, kind: &str, body: &str) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {key}\r\ncontent-type: {kind}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        Self((head + body).into_bytes())
    }
}

/// What was measured.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    elapsed: Duration,
    /// CPU time of the server.
    cpu: Duration,
    /// One of each request.
    latencies: Vec<Duration>,
}

impl Figures {
    /// Those of several measurements together.
    pub fn joined(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, one| {
            sum.elapsed += one.elapsed;
            sum.cpu += one.cpu;
            sum.latencies.extend(one.latencies);
            sum
        })
    }

    pub fn requests(&self) -> usize {
        self.latencies.len()
    }

    pub fn per_second(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// Server CPU in microseconds, for a request.
    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests() as f64
    }

    /// So many of a hundred requests took no longer, in milliseconds.
    pub fn percentile(&self, part: usize) -> f64 {
        let mut latencies = self.latencies.clone();
        let at = latencies.len() * part / 100;
        latencies.select_nth_unstable(at).1.as_secs_f64() * 1e3
    }

    fn of(server: &Server, (started, cpu): (Instant, Duration), latencies: Vec<Duration>) -> Self {
        Self { elapsed: started.elapsed(), cpu: server.cpu().saturating_sub(cpu), latencies }
    }
}

/// Figures, and every answer in order of its number.
pub struct Answers {
    pub figures: Figures,
    pub answers: Vec<String>,
}

/// Sends requests for some time. Every answer must be a success.
pub async fn drive(server: &Server, callers: usize, length: Duration, request: impl Fn(usize) -> Request) -> Figures {
    let (started, cpu) = (Instant::now(), server.cpu());
    let number = AtomicUsize::new(0);
    let callers = (0..callers).map(async |_| {
        let mut connection = Connection::open(server.address).await;
        let mut latencies = Vec::new();
        while started.elapsed() < length {
            let sent = Instant::now();
            connection.send(&request(number.fetch_add(1, Ordering::Relaxed))).await;
            latencies.push(sent.elapsed());
        }
        latencies
    });
    let latencies = join_all(callers).await.concat();
    Figures::of(server, (started, cpu), latencies)
}

/// Sends a number of requests, each once.
pub async fn each(server: &Server, callers: usize, count: usize, request: impl Fn(usize) -> Request) -> Answers {
    let (started, cpu) = (Instant::now(), server.cpu());
    let next = AtomicUsize::new(0);
    let callers = (0..callers).map(async |_| {
        let mut connection = Connection::open(server.address).await;
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return answers;
            }
            let sent = Instant::now();
            let text = connection.send(&request(number)).await;
            answers.push((number, sent.elapsed(), text));
        }
    });
    let mut answers = join_all(callers).await.concat();
    let latencies = answers.iter().map(|(_, latency, _)| *latency).collect();
    let figures = Figures::of(server, (started, cpu), latencies);
    answers.sort_unstable_by_key(|(number, _, _)| *number);
    Answers { figures, answers: answers.into_iter().map(|(_, _, text)| text).collect() }
}

/// A connection that stays open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, buffer: vec![0; 16 * 1024] }
    }

    /// Sends one request and returns the body of its answer; comes back as long as the service is busy.
    pub async fn send(&mut self, request: &Request) -> String {
        loop {
            let (status, body) = self.try_send(request).await;
            if status != "503" {
                assert!(status.starts_with('2'), "{status} {body}");
                return body;
            }
        }
    }

    async fn try_send(&mut self, request: &Request) -> (String, String) {
        self.stream.write_all(&request.0).await.expect("the server reads");
        let mut length = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[length..]).await.expect("the server answers");
            assert!(read > 0, "the server closed the connection");
            length += read;
            let text = String::from_utf8_lossy(&self.buffer[..length]);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let declared = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() == declared.expect("a length").parse::<usize>().expect("a number") {
                let status = head.split(' ').nth(1).expect("a status").to_owned();
                return (status, body.to_owned());
            }
        }
    }
}
