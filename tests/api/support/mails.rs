//! A mail server that keeps what it takes, in the shape of Mailpit.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// What a provider would have carried.
pub struct Mails {
    server: MockServer,
    answer: Arc<Mutex<ResponseTemplate>>,
}

impl Mails {
    /// Starts taking mail.
    pub async fn start() -> Self {
        let server = MockServer::start().await;
        let answer = Arc::new(Mutex::new(taken()));
        let current = Arc::clone(&answer);
        let respond = move |_: &wiremock::Request| current.lock().expect("no test panics here").clone();
        Mock::given(method("POST")).and(path("/api/v1/send")).respond_with(respond).mount(&server).await;
        Self { server, answer }
    }

    /// The base address for the configuration.
    pub fn url(&self) -> String {
        self.server.uri()
    }

    /// Answers like this from now on.
    pub fn misbehave(&self, answer: ResponseTemplate) {
        *self.answer.lock().expect("no test panics here") = answer;
    }

    /// Takes mail again.
    pub fn behave(&self) {
        self.misbehave(taken());
    }

    /// Every mail with a link so far, oldest first.
    pub async fn all(&self) -> Vec<Value> {
        self.everything().await.into_iter().filter(|mail| mail["Tags"][0] == "magic_link").collect()
    }

    /// Every notice of this kind so far, oldest first.
    pub async fn notices(&self, kind: &str) -> Vec<Value> {
        self.everything().await.into_iter().filter(|mail| mail["Tags"][0] == kind).collect()
    }

    /// Every mail so far, oldest first.
    pub async fn everything(&self) -> Vec<Value> {
        let requests = self.server.received_requests().await.expect("requests are kept");
        requests.iter().map(|request| serde_json::from_slice(&request.body).expect("a mail is JSON")).collect()
    }

    /// The mails that carry one link.
    pub async fn about(&self, link_id: &str) -> Vec<Value> {
        let requests = self.server.received_requests().await.expect("requests are kept");
        // Reading them all as JSON for every question would take longer than sending them.
        let named = requests.iter().filter(|request| String::from_utf8_lossy(&request.body).contains(link_id));
        let mails = named.map(|request| serde_json::from_slice::<Value>(&request.body).expect("a mail is JSON"));
        let carries = |mail: &Value| {
            mail["Tags"][0] == "magic_link" && mail["Text"].as_str().is_some_and(|text| text.contains(link_id))
        };
        mails.filter(carries).collect()
    }

    /// Waits until there are `count` mails about a link, and returns the newest.
    pub async fn wait_for(&self, link_id: &str, count: usize) -> Value {
        let started = Instant::now();
        loop {
            let mut mails = self.about(link_id).await;
            if mails.len() >= count {
                return mails.pop().expect("at least one");
            }
            assert!(started.elapsed() < Duration::from_mins(1), "no mail number {count} about {link_id}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The link token in the newest of `count` mails about a link.
    pub async fn token(&self, link_id: &str, count: usize) -> String {
        let mail = self.wait_for(link_id, count).await;
        let text = mail["Text"].as_str().expect("a text part");
        let line = text.lines().find(|line| line.contains("/l#")).expect("a link on a line of its own");
        line.split_once('#').expect("a fragment").1.to_owned()
    }
}

fn taken() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "ID": "taken" }))
}
