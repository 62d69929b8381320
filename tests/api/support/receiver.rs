//! Somebody who is told what happens: keeps what arrives, and answers as the test wants.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::{Api, Settings, eventually};

type Answer = Box<dyn Fn(&Request) -> ResponseTemplate + Send>;

/// The address of a portal's back end.
pub struct Receiver {
    server: MockServer,
    answer: Arc<Mutex<Answer>>,
}

/// What arrived in one call.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub timestamp: i64,
    pub signatures: Vec<String>,
    pub content_type: String,
    pub traceparent: Option<String>,
    pub text: String,
    /// The body, where it is JSON.
    pub body: Value,
}

impl Message {
    /// What it tells.
    pub fn kind(&self) -> &str {
        self.body["type"].as_str().expect("a type")
    }

    /// Whether one of the signatures is that of the secret.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let secret = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.text);
        self.signatures.iter().any(|signature| {
            let tag = STANDARD.decode(signature.strip_prefix("v1,").expect("a version")).expect("base64");
            hmac::verify(&key, signed.as_bytes(), &tag).is_ok()
        })
    }
}

impl Receiver {
    /// Starts taking messages.
    pub async fn start() -> Self {
        let server = MockServer::start().await;
        let taken: Answer = Box::new(|_| ResponseTemplate::new(202));
        let answer = Arc::new(Mutex::new(taken));
        let current = Arc::clone(&answer);
        let respond = move |request: &Request| current.lock().expect("no test panics here")(request);
        Mock::given(method("POST")).respond_with(respond).mount(&server).await;
        Self { server, answer }
    }

    /// Settings that let the service call this machine.
    pub fn allowed() -> Settings {
        Settings::config("webhooks.allow_addresses = '127.0.0.0/8'")
    }

    /// The same with a clock that the test moves.
    pub fn allowed_on_manual_clock() -> Settings {
        Settings { manual_clock: true, ..Self::allowed() }
    }

    /// The same for services that the test starts itself.
    pub const ENVIRONMENT: (&'static str, &'static str) = ("MAGIC_LINK_WEBHOOKS__ALLOW_ADDRESSES", "127.0.0.0/8");

    /// Where it takes messages.
    pub fn url(&self) -> String {
        format!("{}/hook", self.server.uri())
    }

    /// Answers like this from now on.
    pub fn answer(&self, with: impl Fn(&Request) -> ResponseTemplate + Send + 'static) {
        *self.answer.lock().expect("no test panics here") = Box::new(with);
    }

    /// Answers with a status from now on.
    pub fn answer_with(&self, status: u16) {
        self.answer(move |_| ResponseTemplate::new(status));
    }

    /// Takes its time from now on.
    pub fn dawdle(&self, seconds: u64) {
        self.answer(move |_| ResponseTemplate::new(202).set_delay(Duration::from_secs(seconds)));
    }

    /// Everything that arrived, in order.
    pub async fn messages(&self) -> Vec<Message> {
        let requests = self.server.received_requests().await.expect("requests are kept");
        let message = |request: Request| {
            let header = |name: &str| request.headers[name].to_str().expect("text").to_owned();
            let text = String::from_utf8(request.body.clone()).expect("text");
            Message {
                id: header("webhook-id"),
                timestamp: header("webhook-timestamp").parse().expect("a number"),
                signatures: header("webhook-signature").split(' ').map(ToOwned::to_owned).collect(),
                content_type: header("content-type"),
                traceparent: request.headers.get("traceparent").map(|_| header("traceparent")),
                body: serde_json::from_str(&text).unwrap_or(Value::Null),
                text,
            }
        };
        requests.into_iter().map(message).collect()
    }

    /// Waits until so many calls have arrived, and gives all that have.
    pub async fn wait_for(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} messages"), async || {
            let messages = self.messages().await;
            (messages.len() >= count).then_some(messages)
        })
        .await
    }

    /// Creates an endpoint that leads here, and gives it with its secret.
    pub async fn endpoint_of(&self, client: &Api) -> Value {
        client.post("/v1/webhook-endpoints", &json!({ "url": self.url() })).await.ok()
    }
}
