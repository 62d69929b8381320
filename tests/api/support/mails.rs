//! A mail server that keeps what it takes, in the shape of Mailpit.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// What a provider would have carried.
pub struct Mails {
    server: MockServer,
    manner: Arc<Mutex<Manner>>,
    silent: Arc<Mutex<BTreeSet<String>>>,
}

/// How mails are answered.
struct Manner {
    usual: ResponseTemplate,
    /// For mails that hold this text.
    about: Option<(String, ResponseTemplate)>,
}

impl Manner {
    fn answer(&self, request: &wiremock::Request) -> ResponseTemplate {
        match &self.about {
            Some((text, answer)) if String::from_utf8_lossy(&request.body).contains(text) => answer.clone(),
            _ => self.usual.clone(),
        }
    }
}

impl Mails {
    /// Starts taking mail.
    pub async fn start() -> Self {
        let server = MockServer::start().await;
        let manner = Arc::new(Mutex::new(Manner { usual: taken(), about: None }));
        let current = Arc::clone(&manner);
        let respond = move |request: &wiremock::Request| current.lock().expect("no test panics here").answer(request);
        Mock::given(method("POST")).and(path("/api/v1/send")).respond_with(respond).mount(&server).await;
        let silent = Arc::new(Mutex::new(BTreeSet::<String>::new()));
        let due = Arc::clone(&silent);
        let is_silent = move |request: &wiremock::Request| {
            let body = String::from_utf8_lossy(&request.body);
            let mut due = due.lock().expect("no test panics here");
            if due.is_empty() || !body.contains(r#""Tags":["magic_link"]"#) {
                return false;
            }
            let about = due.iter().find(|link| body.contains(link.as_str())).cloned();
            about.is_some_and(|link| due.remove(&link))
        };
        let hang_up = |_: &wiremock::Request| Error::from(ErrorKind::ConnectionReset);
        Mock::given(is_silent).respond_with_err(hang_up).with_priority(1).mount(&server).await;
        Self { server, manner, silent }
    }

    /// The base address for the configuration.
    pub fn url(&self) -> String {
        self.server.uri()
    }

    /// Answers like this from now on.
    pub fn misbehave(&self, answer: ResponseTemplate) {
        *self.manner.lock().expect("no test panics here") = Manner { usual: answer, about: None };
    }

    /// Answers mails with a text in them like this from now on, and takes all others.
    pub fn misbehave_about(&self, text: &str, answer: ResponseTemplate) {
        *self.manner.lock().expect("no test panics here") =
            Manner { usual: taken(), about: Some((text.to_owned(), answer)) };
    }

    /// Takes mail again.
    pub fn behave(&self) {
        self.misbehave(taken());
    }

    /// Takes the next mail of each of these links and hangs up, as if it had not.
    pub fn take_silently(&self, links: &[String]) {
        self.silent.lock().expect("no test panics here").extend(links.iter().cloned());
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

    /// The `traceparent` of each mail with a link so far, oldest first.
    pub async fn traceparents(&self) -> Vec<Option<String>> {
        let requests = self.server.received_requests().await.expect("requests are kept");
        let links = requests
            .iter()
            .filter(|request| String::from_utf8_lossy(&request.body).contains(r#""Tags":["magic_link"]"#));
        let header = |request: &wiremock::Request| Some(request.headers.get("traceparent")?.to_str().ok()?.to_owned());
        links.map(header).collect()
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
        token_of(&self.wait_for(link_id, count).await)
    }
}

/// The link token in a mail.
pub fn token_of(mail: &Value) -> String {
    let text = mail["Text"].as_str().expect("a text part");
    let line = text.lines().find(|line| line.contains("/l#")).expect("a link on a line of its own");
    line.split_once('#').expect("a fragment").1.to_owned()
}

/// The link that a mail is about.
pub fn link_of(mail: &Value) -> String {
    let (_, suffix) = mail["Text"].as_str().expect("a text part").split_once("mlk_").expect("the link's id");
    format!("mlk_{}", suffix.chars().take(26).collect::<String>())
}

/// The generation of the link that a mail carries.
pub fn generation_of(mail: &Value) -> i64 {
    use base64::Engine;
    let token = token_of(mail);
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("Base64");
    serde_json::from_slice::<Value>(&claims).expect("claims")["gen"].as_i64().expect("a generation")
}

fn taken() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({ "ID": "taken" }))
}
