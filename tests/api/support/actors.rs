//! Who talks to the service: a caller with a key, or nobody in particular.

use std::collections::BTreeMap;
use std::sync::Mutex;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use super::contract;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Reply {
    /// The stable code of a problem document, after a look at the rest of it.
    #[track_caller]
    pub fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(self.body["status"], self.status.as_u16(), "{self:?}");
        let code = self.body["code"].as_str().expect("a code");
        assert!(
            self.body["type"].as_str().is_some_and(|kind| kind.ends_with(&format!("/problems#{code}"))),
            "{self:?}"
        );
        assert_eq!(self.body["trace_id"], self.header("trace-id"), "{self:?}");
        code
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a readable header"))
    }

    /// The body of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        self.body
    }

    /// Asserts a refusal.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status.as_u16(), self.code()), (status, code), "{self:?}");
    }

    /// Asserts that a field was refused.
    #[track_caller]
    pub fn refused_field(&self, pointer: &str) {
        self.refused(422, "validation_failed");
        let errors = self.body["errors"].as_array().expect("errors");
        assert!(errors.iter().any(|error| error["pointer"] == pointer), "{pointer} is not among {errors:?}");
    }
}

/// Whether a text is the id of a trace (W3C Trace Context).
pub fn is_trace_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) && text != "0".repeat(32)
}

/// A caller of the API.
#[derive(Clone)]
pub struct Api {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
    tries: usize,
    pub client_id: String,
}

impl Api {
    pub fn new(base: &str, key: Option<&str>) -> Self {
        let suffix = key.and_then(|key| key.split('_').nth(1)).unwrap_or_default();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        Self {
            http: http.build().expect("a client"),
            base: base.to_owned(),
            key: key.map(ToOwned::to_owned),
            tries: 3,
            client_id: format!("cli_{suffix}"),
        }
    }

    pub fn key(&self) -> &str {
        self.key.as_deref().expect("a caller with a key")
    }

    /// A key of the right form that names the same client, and is not its own.
    pub fn with_a_wrong_secret(&self) -> String {
        format!("mlsk_{}_{}", self.client_id.trim_start_matches("cli_"), "A".repeat(43))
    }

    /// The same caller, who repeats what was answered with 503 until it is not.
    pub fn patient(self) -> Self {
        Self { tries: usize::MAX, ..self }
    }

    /// The same caller, who takes the first answer.
    pub fn impatient(self) -> Self {
        Self { tries: 1, ..self }
    }

    /// Somebody without a key at the same copy of the service.
    pub fn stranger(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    /// The same caller at another copy of the service.
    pub fn at(&self, base: &str) -> Self {
        Self { base: base.to_owned(), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    /// Sends a request, and again where the service is unavailable, as it asks: beside other tests a call may get no
    /// connection in time.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        let mut request = request;
        let mut tries = self.tries;
        loop {
            let again = request.try_clone().expect("a body that can be sent twice");
            let reply = self.try_send(request).await.expect("an answer");
            tries -= 1;
            if reply.status != 503 || tries == 0 {
                return reply;
            }
            request = again;
        }
    }

    /// Sends a request, and holds the answer against the API description.
    pub async fn try_send(&self, request: RequestBuilder) -> Result<Reply, reqwest::Error> {
        let (http, request) = request.build_split();
        let request = request?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let response = http.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let found = contract::differences(method.as_str(), &path, status.as_u16(), &headers, &text);
        assert!(found.is_empty(), "{method} {path} {status}: {}\n{text}", found.join("; "));
        let trace_id = headers.get("trace-id").map_or("", |id| id.to_str().expect("a readable header"));
        // The listener of metrics has no requests that anybody asks about.
        assert!(is_trace_id(trace_id) || path == "/metrics", "{method} {path} {status} is of the trace {trace_id:?}");
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, headers, text, body })
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// The same with an `Idempotency-Key`.
    pub async fn post_once(&self, path: &str, key: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).header("idempotency-key", key).json(body)).await
    }

    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.send(self.request(Method::POST, path).form(fields)).await
    }

    /// A request to issue a link, as an HR admin's form would make it: for `emp-1042` the first time, and for somebody
    /// else each further time, because one access has one link.
    pub fn issue_request(consultant_id: &str) -> Value {
        static ASKED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
        let mut asked = ASKED.lock().expect("no test panics here");
        let before = asked.entry(consultant_id.to_owned()).or_default();
        *before += 1;
        let profile = if *before == 1 { "emp-1042".to_owned() } else { format!("emp-1042-{before}") };
        json!({
            "tenant_id": "acme", "portal": "cloud", "consultant_id": consultant_id,
            "reason": "Payroll run for November stops at step 3", "ticket": "SUP-48213",
            "duration": { "value": 4, "unit": "hours" },
            "profile": { "id": profile, "name": "Asha Rao" },
            "issued_by": { "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" },
            "access": "full"
        })
    }

    /// Issues a link and returns its id.
    pub async fn issue(&self, consultant_id: &str) -> String {
        let link = self.post("/v1/magic-links", &Self::issue_request(consultant_id)).await.ok();
        link["id"].as_str().expect("an id").to_owned()
    }

    /// Redeems a code.
    pub async fn redeem(&self, token: &str) -> Reply {
        self.post("/v1/sessions", &json!({ "token": token })).await
    }

    /// Rotates eight times at once: what the only rotation answers that begins an overlap.
    pub async fn rotated_once(&self, path: &str) -> Value {
        let overlap = json!({ "overlap_seconds": 3600 });
        let replies = futures_util::future::join_all((0..8).map(|_| self.post(path, &overlap))).await;
        let (mut done, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 200);
        assert_eq!((done.len(), refused.len()), (1, 7));
        for reply in refused {
            reply.refused(409, "overlap_running");
        }
        done.remove(0).ok()
    }

    /// Whether an access token is active.
    pub async fn is_active(&self, access_token: &str) -> bool {
        self.form("/v1/introspect", &[("token", access_token)]).await.ok()["active"].as_bool().expect("active")
    }

    /// Every event that matches the query, oldest first.
    pub async fn events(&self, query: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/audit-events?page_size=200{query}{cursor}")).await.ok();
            events.extend(page["items"].as_array().expect("items").clone());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        events.reverse();
        events
    }

    /// The types of the events that match the query, oldest first.
    pub async fn event_types(&self, query: &str) -> Vec<String> {
        let events = self.events(query).await;
        events.iter().map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    }
}
