//! Calls whose bodies are held back until the operator has taken away what their client was let in by.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Database, Raw, SecondCopy, Settings, Sql, World, apply, eventually, on_both_databases};

const CLIENTS: &str = "/v1/clients";
const LINKS: &str = "/v1/magic-links";

/// A call that the service has let in, and whose body lacks its last byte.
struct Held {
    raw: Raw,
    last: u8,
}

impl Held {
    /// Sends all but the last byte, and waits until the key was judged.
    async fn by(world: &World, client: &Api, (method, path): (&str, &str), headers: &str, body: &Value) -> Self {
        let own = format!("{CLIENTS}/{}", client.client_id);
        let seen = async || world.admin.get(&own).await.ok()["last_used_at"].clone();
        let before = seen().await;
        let body = body.to_string().into_bytes();
        let (last, rest) = body.split_last().expect("a body");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            client.key(),
            body.len()
        );
        let mut raw = Raw::connect(&world.base);
        assert!(raw.send(head.as_bytes()) && raw.send(rest));
        eventually("the key is judged", async || (seen().await != before).then_some(())).await;
        Self { raw, last: *last }
    }

    /// Sends the last byte: the status and the body of the answer.
    fn finish(mut self) -> (u16, Value) {
        assert!(self.raw.send(&[self.last]));
        let answer = self.raw.answer();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = answer.rsplit("\r\n\r\n").next().unwrap_or_default();
        (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}")))
    }

    #[track_caller]
    fn refused(self, status: u16, code: &str) {
        let (found, body) = self.finish();
        assert_eq!((found, body["code"].as_str()), (status, Some(code)), "{body}");
        assert!(!body.to_string().contains("mlsk_"), "no key is handed out");
    }
}

const SCOPES: [&str; 4] = ["admin", "links:issue", "links:read", "links:revoke"];

async fn leaked(world: &World) -> Api {
    world.client(None, &["acme", "globex"], &SCOPES).await
}

/// What somebody with a leaked key would like to have done: to become more clients, or the only one who has this one.
fn acts(client: &Api, consultant: &str) -> [(&'static str, String, Value); 5] {
    let own = format!("{CLIENTS}/{}", client.client_id);
    let another = json!({ "name": "Another", "portal": "cloud", "tenants": ["acme"], "scopes": ["links:issue"] });
    [
        ("POST", CLIENTS.to_owned(), another),
        ("POST", format!("{own}/rotate"), json!({ "overlap_seconds": 0 })),
        ("PATCH", own.clone(), json!({ "scopes": SCOPES, "tenants": ["acme", "globex"], "portal": "" })),
        ("POST", format!("{own}/disable"), json!({ "revoke_links": true })),
        ("POST", LINKS.to_owned(), Api::issue_request(consultant)),
    ]
}

/// What an operator does about it, by the end of the client's path, and how each call with the key is refused from then on.
fn remedies() -> [(&'static str, &'static str, Value, (u16, &'static str)); 5] {
    [
        ("POST", "/disable", json!({}), (401, "unauthenticated")),
        ("POST", "/rotate", json!({ "overlap_seconds": 0 }), (401, "unauthenticated")),
        ("PATCH", "", json!({ "scopes": ["links:read"] }), (403, "insufficient_scope")),
        ("PATCH", "", json!({ "tenants": ["globex"] }), (403, "client_not_permitted")),
        ("PATCH", "", json!({ "portal": "ess" }), (403, "client_not_permitted")),
    ]
}

/// Everything that a client is, but for when it was seen.
async fn state(world: &World, client: &Api) -> Value {
    let mut state = world.admin.get(&format!("{CLIENTS}/{}", client.client_id)).await.ok();
    let members = state.as_object_mut().expect("a client");
    members.retain(|name, _| !name.starts_with("last_used"));
    state
}

/// Each act of a leaked key, held back while `operator` does something about it.
async fn nothing_is_done(world: &World, operator: &Api) {
    let consultant = world.consultant().await;
    for (method, end, remedy, (status, code)) in remedies() {
        for number in 0..5 {
            let client = leaked(world).await;
            let (verb, act, body) = acts(&client, &consultant)[number].clone();
            let held = Held::by(world, &client, (verb, &act), "", &body).await;
            let path = format!("{CLIENTS}/{}{end}", client.client_id);
            let answer = match method {
                "POST" => operator.post(&path, &remedy).await.ok(),
                _ => operator.patch(&path, &remedy).await.ok(),
            };
            let (then, clients) = (state(world, &client).await, Sql::of(world).count("FROM clients"));
            // Disabling refuses nothing for the reach of its caller: what is beyond that does not exist.
            let is_unseen = code == "client_not_permitted" && act.ends_with("/disable");
            let (status, code) = if is_unseen { (404, "not_found") } else { (status, code) };
            held.refused(status, code);
            assert_eq!(state(world, &client).await, then, "{verb} {act} after {remedy}");
            assert_eq!(Sql::of(world).count("FROM clients"), clients);
            if let Some(key) = answer["key"].as_str() {
                let fresh = Api::new(&world.base, Some(key));
                assert_eq!(fresh.get(LINKS).await.status, 200, "the operator's key is the one that counts");
            }
        }
    }
    assert_eq!(Sql::of(world).count("FROM magic_links"), 0);
}

#[apply(on_both_databases)]
async fn nothing_is_done_for_a_key_after_it_was_taken_away(world: &World) {
    nothing_is_done(world, &world.admin).await;
}

#[test]
fn nothing_is_done_for_a_key_that_was_taken_away_at_another_copy() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let copy = SecondCopy::start(world, world.clock.clone());
        nothing_is_done(world, &world.admin.at(&copy.base)).await;
    });
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn neither_a_repeat_nor_a_draft_is_answered_after_its_key_was_taken_away(world: &World) {
    let consultant = world.consultant().await;
    for draft in [false, true] {
        let client = leaked(world).await;
        let mut request = Api::issue_request(&consultant);
        client.post_once(LINKS, "first", &request).await.ok();
        if draft {
            request = Api::issue_request(&consultant);
            request["validate_only"] = true.into();
        }
        let header = if draft { "" } else { "Idempotency-Key: first\r\n" };
        // Uses are noted once a minute.
        world.clock.advance(Duration::minutes(2));
        let held = Held::by(world, &client, ("POST", LINKS), header, &request).await;
        world.admin.post(&format!("{CLIENTS}/{}/disable", client.client_id), &json!({})).await.ok();
        held.refused(401, "unauthenticated");
    }
}

#[apply(on_both_databases)]
async fn nothing_is_issued_after_a_freeze(world: &World) {
    let consultant = world.consultant().await;
    let client = leaked(world).await;
    let asks = world.client(None, &["acme"], &["links:request", "links:read"]).await;
    let urgent = world.client(None, &["acme"], &["links:issue", "links:emergency"]).await;
    let request = || Api::issue_request(&consultant);
    let mut emergency = request();
    emergency["emergency"] = json!({ "justification": "Salaries cannot be paid today" });
    let mut held = Vec::new();
    for (caller, body) in [(&client, request()), (&asks, request()), (&urgent, emergency)] {
        held.push(Held::by(world, caller, ("POST", LINKS), "", &body).await);
    }
    world.admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "A key has leaked" })).await.ok();
    for held in held {
        held.refused(409, "issuing_frozen");
    }
    assert_eq!(client.get(LINKS).await.ok()["items"], json!([]));
}

#[apply(on_both_databases)]
async fn an_export_ends_with_the_key_that_reads_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let values = vec![json!({ "field": "notes", "after": "x".repeat(4_000) }); 15];
    for report in 0..20 {
        let event = |number: i64| {
            json!({
                "seq": report * 15 + number, "source": "portal", "kind": "change", "occurred_at": world.clock.now(),
                "action": "employee.changed", "resource_type": "employee", "resource_id": "emp-9", "changes": values,
            })
        };
        portal.post(&path, &json!({ "events": (1..=15).map(event).collect::<Vec<_>>() })).await.ok();
    }
    let auditor = world.client(None, &["acme"], &["audit:read"]).await;
    let export = auditor.request(Method::GET, "/v1/audit-events/export?tenant_id=acme&format=ocsf");
    let mut answer = export.send().await.unwrap();
    let mut read = answer.chunk().await.unwrap().expect("a beginning").len();
    world.admin.post(&format!("{CLIENTS}/{}/disable", auditor.client_id), &json!({})).await.ok();
    let broken = loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            outcome => break outcome.is_err(),
        }
    };
    assert!(broken, "{read} bytes pass for the whole");
}

#[apply(on_both_databases)]
async fn what_takes_nothing_away_stops_no_call(world: &World) {
    let consultant = world.consultant().await;
    for (method, end, change) in [
        ("POST", "/rotate", json!({ "overlap_seconds": 600 })),
        ("PATCH", "", json!({ "scopes": ["admin", "audit:read", "links:issue", "links:read", "links:revoke"] })),
        ("PATCH", "", json!({ "tenants": ["*"], "name": "A wider client" })),
    ] {
        let [create, .., issue] = acts(&leaked(world).await, &consultant);
        for (verb, act, body) in [create, issue] {
            let client = leaked(world).await;
            let held = Held::by(world, &client, (verb, &act), "", &body).await;
            let path = format!("{CLIENTS}/{}{end}", client.client_id);
            match method {
                "POST" => world.admin.post(&path, &change).await.ok(),
                _ => world.admin.patch(&path, &change).await.ok(),
            };
            let (status, answer) = held.finish();
            assert_eq!(status, 201, "{act} after {change}: {answer}");
        }
    }
}
