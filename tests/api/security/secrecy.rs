//! No secret lies where it should not: not in the database, not in a log, not in an answer that was not for it.

use std::cell::RefCell;
use std::process::Stdio;

use base64::Engine;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Api, Database, MASTER_KEY, PORTAL_SCOPES, Process, Receiver, Reply, Settings, Sql, World, apply, folder,
    on_both_databases,
};

/// Everything that the service said, with what was asked.
#[derive(Default)]
struct Transcript(RefCell<Vec<(String, String)>>);

impl Transcript {
    async fn say(&self, caller: &Api, method: Method, path: &str, body: &Value) -> Reply {
        let request = caller.request(method.clone(), path);
        let request = if method == Method::GET { request } else { request.json(body) };
        self.send(caller, &format!("{method} {path}"), request).await
    }

    async fn send(&self, caller: &Api, what: &str, request: reqwest::RequestBuilder) -> Reply {
        let reply = caller.send(request).await;
        self.0.borrow_mut().push((what.to_owned(), format!("{:?}\n{}", reply.headers, reply.text)));
        reply
    }

    async fn post(&self, caller: &Api, path: &str, body: &Value) -> Value {
        self.say(caller, Method::POST, path, body).await.ok()
    }

    /// The calls whose answers hold the text.
    fn that_hold(&self, text: &str) -> Vec<String> {
        let all = self.0.borrow();
        all.iter().filter(|(_, answer)| answer.contains(text)).map(|(what, _)| what.clone()).collect()
    }
}

/// A secret, with the one call that may answer with it.
struct Secret {
    name: &'static str,
    text: String,
    answered_by: Option<&'static str>,
}

impl Secret {
    fn new(name: &'static str, text: impl Into<String>, answered_by: Option<&'static str>) -> Self {
        Self { name, text: text.into(), answered_by }
    }

    /// The whole, and each part that would be as good as the whole.
    fn needles(&self) -> Vec<&str> {
        let mut needles = vec![self.text.as_str()];
        if self.text.starts_with("eyJ") {
            // The claims alone are no secret; the signature is what makes the token.
            needles.extend(self.text.rsplit('.').next());
        } else if self.text.starts_with("mlsk_") || self.text.starts_with("whsec_") {
            needles.extend(self.text.rsplit('_').next());
        }
        assert!(needles.iter().all(|needle| needle.len() >= 20), "{} is too short to look for", self.name);
        needles
    }
}

/// Every text in the database, with its table and column; for SQLite the bytes of its files too.
fn database(world: &World) -> Vec<(String, String)> {
    let mut sql = Sql::of(world);
    let columns = match world.database {
        Database::Sqlite => {
            "SELECT t.name || '.' || c.name AS text FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'"
        }
        Database::Postgres => {
            "SELECT table_name || '.' || column_name AS text FROM information_schema.columns WHERE table_schema = 'public'"
        }
    };
    let mut found = Vec::new();
    for column in sql.texts(columns) {
        let (table, name) = column.split_once('.').unwrap();
        // Bytes are read as they would look in a dump.
        let bytes = matches!(name, "frontier" | "payload_commitment" | "hashes" | "salt" | "fingerprint" | "root");
        let shown = match world.database {
            Database::Sqlite if bytes => format!("hex(\"{name}\")"),
            Database::Sqlite | Database::Postgres => format!("CAST(\"{name}\" AS TEXT)"),
        };
        for text in sql.texts(&format!("SELECT {shown} AS text FROM \"{table}\"")) {
            found.push((column.clone(), text));
        }
    }
    assert!(found.len() > 100, "the dump is too small to be the whole");
    if let Some(file) = world.database_url.strip_prefix("sqlite://") {
        for suffix in ["", "-wal", "-shm"] {
            // Freed pages and the write-ahead log keep what is in no row any more.
            let bytes = std::fs::read(format!("{file}{suffix}")).unwrap_or_default();
            found.push((format!("the file{suffix}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    found
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn secrets_stay_where_they_belong(world: &World) {
    let file = folder(&format!("canary-{:?}", world.database)).join("log");
    let log = Stdio::from(std::fs::File::create(&file).unwrap());
    let trace = [
        ("MAGIC_LINK_LOG__LEVEL", "trace"),
        ("MAGIC_LINK_LOG__SAMPLE", "1"),
        ("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0"),
        Receiver::ENVIRONMENT,
    ];
    let process = Process::start_with(world, &trace, log);
    let (admin, stranger) = (world.admin.at(&process.base), Api::new(&process.base, None));
    let said = Transcript::default();
    let mut secrets = vec![
        Secret::new("the master key", MASTER_KEY, None),
        Secret::new("the administrator's key", admin.key(), None),
    ];

    // A client, whose key is shown once; then rotated.
    let client = json!({ "name": "Cloud", "portal": "cloud", "tenants": ["acme"], "scopes": PORTAL_SCOPES });
    let create = admin.request(Method::POST, "/v1/clients").header("idempotency-key", "client").json(&client);
    let made = said.send(&admin, "create the client", create).await.ok();
    let create = admin.request(Method::POST, "/v1/clients").header("idempotency-key", "client").json(&client);
    said.send(&admin, "create the client again", create).await.ok();
    let old_key = made["key"].as_str().unwrap();
    secrets.push(Secret::new("the first key", old_key, Some("create the client")));
    let path = format!("/v1/clients/{}/rotate", made["id"].as_str().unwrap());
    let rotate = admin.request(Method::POST, &path).json(&json!({}));
    let rotated = said.send(&admin, "rotate the key", rotate).await.ok();
    let key = rotated["key"].as_str().unwrap();
    secrets.push(Secret::new("the second key", key, Some("rotate the key")));
    let portal = Api::new(&process.base, Some(key));

    // An endpoint, whose secret is shown once; then rotated. From then on both sign whatever happens.
    let receiver = Receiver::start().await;
    for what in ["create the endpoint", "create the endpoint again"] {
        let create = portal.request(Method::POST, "/v1/webhook-endpoints").header("idempotency-key", "hook");
        let made = said.send(&portal, what, create.json(&json!({ "url": receiver.url() }))).await.ok();
        if let Some(secret) = made["secret"].as_str() {
            secrets.push(Secret::new("the first webhook secret", secret, Some("create the endpoint")));
        }
    }
    let list = said.say(&portal, Method::GET, "/v1/webhook-endpoints", &Value::Null).await.ok();
    let hook = format!("/v1/webhook-endpoints/{}", list["items"][0]["id"].as_str().unwrap());
    let rotate = portal.request(Method::POST, &format!("{hook}/rotate-secret")).json(&json!({}));
    let rotated = said.send(&portal, "rotate the secret", rotate).await.ok();
    let secret = rotated["secret"].as_str().unwrap();
    secrets.push(Secret::new("the second webhook secret", secret, Some("rotate the secret")));

    // A whole life, with every mistake that puts a secret where it does not belong.
    let consultant =
        said.post(&admin, "/v1/consultants", &json!({ "name": "Ravi", "email": "ravi@support.example" })).await;
    let request = Api::issue_request(consultant["id"].as_str().unwrap());
    let link = said.post(&portal, "/v1/magic-links", &request).await;
    let link = link["id"].as_str().unwrap();
    let first = world.token(link, 1).await;
    said.post(&portal, &format!("/v1/magic-links/{link}/resend"), &json!({})).await;
    let token = world.token(link, 2).await;
    secrets.push(Secret::new("the superseded link token", &first, None));
    secrets.push(Secret::new("the link token", &token, None));
    for token in [&first, &token] {
        said.say(&stranger, Method::POST, "/l/preview", &json!({ "token": token })).await;
    }
    said.say(&stranger, Method::POST, "/l/continue", &json!({ "token": first })).await.refused(410, "link_superseded");
    let click = stranger.request(Method::POST, "/l/continue").json(&json!({ "token": token }));
    let answer = said.send(&stranger, "press the button", click).await.ok();
    let code = answer["redirect_url"].as_str().unwrap().split_once("code=").unwrap().1.to_owned();
    secrets.push(Secret::new("the code", &code, Some("press the button")));
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "token": token })).await.refused(403, "code_required");
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "token": format!("{code}x") })).await;
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "token": [code] })).await;
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "token": code, "visitor": { "address": token } })).await;
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "tokens": code, "token": token, "x": key })).await;
    let redeem = |name: &'static str| {
        let request = portal.request(Method::POST, "/v1/sessions").header("idempotency-key", "redeem");
        (name, request.json(&json!({ "token": code, "visitor": { "user_agent": "Mozilla/5.0" } })))
    };
    for (name, request) in [redeem("redeem"), redeem("redeem again")] {
        let session = said.send(&portal, name, request).await.ok();
        secrets.push(Secret::new("the access token", session["access_token"].as_str().unwrap(), Some(name)));
    }
    let access_token = secrets.last().unwrap().text.clone();
    said.say(&portal, Method::POST, "/v1/sessions", &json!({ "token": code })).await.refused(410, "link_spent");
    let introspect = portal.request(Method::POST, "/v1/introspect").form(&[("token", &access_token)]);
    let seen = said.send(&portal, "introspect", introspect).await.ok();
    let session = seen["sid"].as_str().unwrap();
    for wrong in [&token, &code] {
        let introspect = portal.request(Method::POST, "/v1/introspect").form(&[("token", wrong)]);
        assert_eq!(said.send(&portal, "introspect another kind", introspect).await.ok()["active"], false);
    }
    let act = json!({
        "seq": 1, "occurred_at": "2026-01-01T00:00:00Z", "action": "employee.salary.updated", "resource_type": "employee",
        "resource_id": "emp-9", "changes": [{ "field": "basic", "before": "50000", "after": "52000" }],
    });
    said.post(&portal, &format!("/v1/sessions/{session}/events"), &json!({ "events": [act] })).await;
    said.post(&portal, &format!("/v1/sessions/{session}/end"), &json!({ "sources": { "portal": 1 } })).await;
    said.say(&stranger, Method::POST, "/l/resend", &json!({ "token": token })).await;
    secrets.push(Secret::new("the third link token", world.token(link, 3).await, None));
    said.post(&portal, &format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "The work is done" })).await;
    // Secrets in addresses and headers: a caller's mistake. The answer names the caller's own path, the log does not.
    for path in [format!("/l?token={token}"), format!("/v1/magic-links/{token}"), format!("/nowhere/{code}?key={key}")]
    {
        let request = portal.request(Method::GET, &path).header("referer", format!("http://x/#{token}"));
        portal.send(request.header("traceparent", &*code)).await;
    }
    for wrong in [access_token.as_str(), token.as_str(), old_key, &format!("{key}x")] {
        let wrong = Api::new(&process.base, Some(wrong));
        said.say(&wrong, Method::GET, "/v1/magic-links", &Value::Null).await.refused(401, "unauthenticated");
    }
    for path in
        ["/v1/magic-links", "/v1/sessions", "/v1/audit-events", "/.well-known/jwks.json", "/openapi.json", "/healthz"]
    {
        said.say(&portal, Method::GET, path, &Value::Null).await.ok();
    }
    for path in ["/v1/clients", "/v1/consultants", "/v1/tenants", "/v1/audit-events?page_size=200"] {
        said.say(&admin, Method::GET, path, &Value::Null).await.ok();
    }
    said.say(&portal, Method::GET, &format!("{hook}/deliveries"), &Value::Null).await.ok();
    let told = receiver.wait_for(5).await;
    assert_eq!(secrets.iter().filter(|secret| secret.name.ends_with("webhook secret")).count(), 2);
    let dump = database(world);
    process.ask_to_stop();
    assert_eq!(process.stopped().await.code(), Some(0));

    let log = std::fs::read_to_string(&file).unwrap();
    assert!(log.contains("/v1/sessions") && log.contains("\"TRACE\""), "the log is not the whole");
    let mails: String = world.mails.everything().await.iter().map(ToString::to_string).collect();
    let raw_master_key = base64::engine::general_purpose::STANDARD.decode(MASTER_KEY).unwrap();
    secrets.push(Secret::new("the raw master key", String::from_utf8(raw_master_key).unwrap(), None));
    for secret in &secrets {
        for needle in secret.needles() {
            let line = log.lines().find(|line| line.contains(needle));
            assert_eq!(line, None, "{} is in the log", secret.name);
            let place = dump.iter().find(|(_, text)| text.contains(needle)).map(|(place, _)| place);
            assert_eq!(place, None, "{} is in the database", secret.name);
            let answers = said.that_hold(needle);
            let expected: Vec<&str> = secret.answered_by.into_iter().collect();
            assert_eq!(answers, expected, "{} is in these answers", secret.name);
            let mailed = secret.name.ends_with("link token");
            assert_eq!(mails.contains(needle), mailed, "{} and the mails", secret.name);
            let message = told.iter().find(|message| message.text.contains(needle));
            assert!(message.is_none(), "{} is in a webhook message", secret.name);
        }
    }
}
