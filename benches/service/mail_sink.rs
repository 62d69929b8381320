//! A mail provider that takes everything and keeps the tokens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Takes mail in the shape of Mailpit.
pub struct MailSink {
    port: u16,
    tokens: Arc<Mutex<Vec<String>>>,
    failing: Arc<AtomicBool>,
}

pub async fn start() -> MailSink {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&tokens);
    let failing = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&failing);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, Arc::clone(&kept), Arc::clone(&fails)));
        }
    });
    MailSink { port, tokens, failing }
}

async fn take(mut stream: TcpStream, tokens: Arc<Mutex<Vec<String>>>, failing: Arc<AtomicBool>) {
    let mut request = Vec::new();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length: usize =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        if request.len() < head.len() + 4 + length {
            continue;
        }
        if failing.load(Ordering::SeqCst) {
            request.clear();
            let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let token = body.split_once("/l#").map(|(_, rest)| rest.split('\\').next().unwrap_or_default().to_owned());
        tokens.lock().unwrap().extend(token);
        request.clear();
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{\"ID\":\"x\"}";
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

impl MailSink {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Takes nothing any more.
    pub fn fail(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }

    /// Waits for so many tokens.
    pub async fn tokens(&self, count: usize) -> Vec<String> {
        for _ in 0..6_000 {
            if self.tokens.lock().unwrap().len() >= count {
                return self.tokens.lock().unwrap().clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the mails did not arrive");
    }
}
