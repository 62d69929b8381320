//! Who asks is judged before what is asked, whatever is wrong with it, and the rest in one order.

use std::collections::BTreeMap;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::refusals;
use crate::support::examples::{Operation, operations};
use crate::support::{Api, Raw, World, apply, on_both_databases};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// What is wrong with a call.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "any of them may be wrong at a time")]
struct Flaws {
    query: bool,
    path: bool,
    header: bool,
    body: bool,
}

/// One thing at a time, and all at once.
const FLAWS: [Flaws; 5] = [
    Flaws { query: true, path: true, header: true, body: true },
    Flaws { query: true, path: false, header: false, body: false },
    Flaws { query: false, path: true, header: false, body: false },
    Flaws { query: false, path: false, header: true, body: false },
    Flaws { query: false, path: false, header: false, body: true },
];

fn keyed() -> impl Iterator<Item = Operation> {
    operations().filter(|operation| operation.described["security"] != json!([{}]))
}

/// Whether the credentials may be in the body, too.
fn takes_a_form(operation: &Operation) -> bool {
    !operation.described["requestBody"]["content"][FORM].is_null()
}

fn has_parameters(operation: &Operation) -> bool {
    operation.path.contains('{')
}

fn call(operation: &Operation, caller: &Api, flaws: Flaws) -> RequestBuilder {
    let mut address = operation.address();
    if flaws.path && has_parameters(operation) {
        let texts = operation.path.split('/').map(|part| if part.starts_with('{') { "a%20b" } else { part });
        address = texts.collect::<Vec<_>>().join("/");
    }
    let query = operation.query();
    let query = if flaws.query { format!("{query}&zz=1") } else { query };
    let mut request = caller.request(operation.method.clone(), &format!("{address}?{}", query.trim_start_matches('&')));
    if flaws.header {
        request = request.header("idempotency-key", "a b");
    }
    if !flaws.body || operation.method == Method::GET {
        return request;
    }
    let (kind, body) = if takes_a_form(operation) { (FORM, "token=a&token=b") } else { (JSON, r#"{"zz":1}"#) };
    request.header("content-type", kind).body(body)
}

/// Announces a body that no call takes, sends nothing of it, and returns what is said first.
fn announce_too_much(world: &World, operation: &Operation, key: &str) -> String {
    let (method, path) = (&operation.method, operation.address());
    let kind = if takes_a_form(operation) { FORM } else { JSON };
    let mut raw = Raw::connect(&world.base);
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\nexpect: 100-continue\r\n\
         content-type: {kind}\r\ncontent-length: 1048577\r\n\r\n"
    );
    raw.send(head.as_bytes());
    raw.answer()
}

/// Sends every call that is wrong in any way, and returns their number by method and path.
async fn everything_wrong(world: &World, status: u16, code: &str, who: impl Fn(&Operation) -> Api) -> Sent {
    let mut sent = Sent::new();
    for operation in keyed() {
        let caller = who(&operation);
        let name = format!("{} {}", operation.method, operation.path);
        let mut count = 0;
        for flaws in FLAWS {
            // Credentials may be in the query, where they do not belong: that is said to whoever sends them there.
            let flaws = Flaws { query: flaws.query && !takes_a_form(&operation), ..flaws };
            let reply = caller.send(call(&operation, &caller, flaws)).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (status, code), "{name} {flaws:?}: {reply:?}");
            count += 1;
        }
        if operation.method != Method::GET {
            let answer = announce_too_much(world, &operation, caller.key());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{name}: {answer}");
            count += 1;
        }
        sent.insert((operation.method.to_string(), operation.path.to_owned()), count);
    }
    assert!(sent.len() > 70, "{sent:?}");
    sent
}

type Sent = BTreeMap<(String, String), usize>;

#[apply(on_both_databases)]
async fn whoever_has_no_valid_key_is_told_nothing_else(world: &World) {
    let disabled = world.client(None, &["*"], &["links:read"]).await;
    let path = format!("/v1/clients/{}/disable", disabled.client_id);
    world.admin.post(&path, &json!({})).await.ok();
    let wrong = Api::new(&world.base, Some(&world.admin.with_a_wrong_secret()));
    for stranger in [wrong, disabled] {
        everything_wrong(world, 401, "unauthenticated", |_| stranger.clone()).await;
    }
    assert!(refusals(world).await.is_empty(), "strangers do not fill the log");
}

#[apply(on_both_databases)]
async fn whoever_lacks_the_scope_is_told_nothing_else_and_is_on_record(world: &World) {
    let [reader, auditor] =
        [world.client(None, &["*"], &["links:read"]).await, world.client(None, &["*"], &["audit:read"]).await];
    let sent = everything_wrong(world, 403, "insufficient_scope", |operation| {
        let needs = operation.described["security"].to_string();
        if needs.contains("\"links:read\"") { auditor.clone() } else { reader.clone() }
    })
    .await;
    let mut recorded = Sent::new();
    for event in refusals(world).await {
        assert_eq!(event["data"]["code"], "insufficient_scope", "{event}");
        let text = |name: &str| event["data"][name].as_str().unwrap().to_owned();
        *recorded.entry((text("method"), text("route"))).or_default() += 1;
    }
    assert_eq!(recorded, sent, "each refusal is on record");
}

#[apply(on_both_databases)]
async fn the_rest_is_judged_in_one_order(world: &World) {
    for operation in keyed().filter(|one| !takes_a_form(one)) {
        let takes_a_key = operation.parameters("header").any(|header| header["name"] == "Idempotency-Key");
        let mut flaws = FLAWS[0];
        let mut expected = vec!["invalid_query"];
        expected.extend(has_parameters(&operation).then_some("invalid_id"));
        expected.extend(takes_a_key.then_some("invalid_header"));
        expected.extend((operation.method != Method::GET).then_some("invalid_body"));
        for code in expected {
            let reply = world.admin.send(call(&operation, &world.admin, flaws)).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (400, code), "{} {flaws:?}", operation.path);
            match code {
                "invalid_query" => flaws.query = false,
                "invalid_id" => flaws.path = false,
                _ => flaws.header = false,
            }
        }
    }
}
