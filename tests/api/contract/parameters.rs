//! What the description says of parameters is so for every parameter of every path and query.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::contract::{DESCRIPTION, resolved};
use crate::support::examples::{Operation, is_of_type, operations};
use crate::support::{Reply, Sql, World, apply, on_both_databases};

/// Texts that are no id of any kind, and no word.
const NO_IDS: &[&str] = &["a%00b", "acme%0A9999", "a%20b", "%E2%80%AE", "%FF", "%C3%A4", "%F0%9F%99%82"];

/// Parameters that hold words of people, and those texts that are no words either.
const WORDS: &[&str] = &["ticket", "search"];
const NO_WORDS: &[&str] = &["a%00b", "acme%0A9999", "%E2%80%AE", "%FF", "", "%20", "%E2%80%8B"];

fn name_of(parameter: &Value) -> &str {
    parameter["name"].as_str().unwrap()
}

/// Calls an operation with a text for one of its parameters in the query.
async fn query(world: &World, operation: &Operation, name: &str, text: &str) -> Reply {
    let others: Vec<String> = operation
        .query()
        .split('&')
        .filter(|pair| !pair.starts_with(&format!("{name}=")) && !pair.is_empty())
        .map(ToOwned::to_owned)
        .collect();
    let pairs = others.into_iter().chain([format!("{name}={text}")]).collect::<Vec<_>>().join("&");
    let address = format!("{}?{pairs}", operation.address());
    world.admin.send(world.admin.request(operation.method.clone(), &address)).await
}

#[track_caller]
fn refused_by_name(reply: &Reply, code: &str, name: &str) {
    reply.refused(400, code);
    let pointer = format!("/{name}");
    let errors = reply.body["errors"].as_array().unwrap_or_else(|| panic!("{name}: {reply:?}"));
    assert!(errors.iter().any(|error| error["pointer"] == pointer.as_str()), "{name}: {reply:?}");
    let detail = reply.body["detail"].as_str().unwrap();
    assert!(detail.contains(name) || errors.len() > 1, "{name}: {reply:?}");
}

/// The names of all audit logs.
fn logs(world: &World) -> Vec<String> {
    let mut logs = Sql::of(world).texts("SELECT tenant_id AS text FROM audit_logs");
    logs.sort_unstable();
    logs
}

#[apply(on_both_databases)]
async fn what_is_no_id_of_its_kind_touches_nothing(world: &World) {
    world.admin.get("/v1/audit-events").await.ok();
    let before = logs(world);
    let mut tried = 0;
    for operation in operations() {
        for parameter in operation.parameters("path") {
            let (name, example) = (name_of(parameter), operation.address());
            for text in NO_IDS {
                let template = operation.path.replace(&format!("{{{name}}}"), text);
                let path = template.split('/').zip(example.split('/'));
                let path: Vec<&str> = path.map(|(one, other)| if one.starts_with('{') { other } else { one }).collect();
                let request =
                    world.admin.request(operation.method.clone(), &format!("{}?{}", path.join("/"), operation.query()));
                let reply = world.admin.send(request).await;
                refused_by_name(&reply, "invalid_id", name);
                tried += 1;
            }
        }
        for parameter in operation.parameters("query").filter(|one| is_of_type(&one["schema"], "string")) {
            for text in if WORDS.contains(&name_of(parameter)) { NO_WORDS } else { NO_IDS } {
                let reply = query(world, &operation, name_of(parameter), text).await;
                match name_of(parameter) {
                    "cursor" => reply.refused(400, "invalid_cursor"),
                    name => refused_by_name(&reply, "invalid_query", name),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 500, "{tried}");
    assert_eq!(logs(world), before);
}

/// No text of a request's line goes on unchecked: each has a pattern, or is one of some words, or a time.
#[test]
fn every_text_of_a_parameter_has_a_syntax() {
    for operation in operations() {
        for parameter in ["path", "query", "header"].into_iter().flat_map(|place| operation.parameters(place)) {
            let schema = resolved(&parameter["schema"]);
            let known = ["pattern", "enum", "format"].iter().any(|bound| !schema[bound].is_null());
            assert!(known || schema["type"] == "boolean", "{} {}", operation.path, parameter["name"]);
        }
    }
    assert!(DESCRIPTION["paths"].is_object());
}

#[apply(on_both_databases)]
async fn a_time_that_is_not_understood_is_told_by_its_name(world: &World) {
    let mut tried = 0;
    for operation in operations() {
        for parameter in operation.parameters("query").filter(|one| one["schema"]["format"] == "date-time") {
            let name = name_of(parameter);
            for text in
                ["2026-11-23T14:30:00+05:30", "2026-11-23", "2026-11-23T14:30:00", "23.11.2026", "1795410764", ""]
            {
                let reply = query(world, &operation, name, text).await;
                refused_by_name(&reply, "invalid_query", name);
                assert!(reply.text.contains("%2B") && reply.text.contains("RFC 3339"), "{reply:?}");
                tried += 1;
            }
            for text in ["2026-11-23T14:30:00%2B05:30", "2026-11-23T09:00:00Z", "2026-11-23T09:00:00.1234567Z"] {
                query(world, &operation, name, text).await.ok();
            }
        }
    }
    assert!(tried > 30, "{tried}");
}

#[apply(on_both_databases)]
async fn numbers_words_and_missing_parameters_are_as_described(world: &World) {
    for operation in operations() {
        for parameter in operation.parameters("query") {
            let (name, schema) = (name_of(parameter), &parameter["schema"]);
            if let Some(least) = schema["minimum"].as_i64() {
                for text in [(least - 1).to_string(), "x".into(), String::new(), "1.5".into(), "1e9".into()] {
                    refused_by_name(&query(world, &operation, name, &text).await, "invalid_query", name);
                }
                // Without a largest one, no number is too large to be one.
                for text in ["2147483648", "9223372036854775808", "99999999999999999999", &"9".repeat(100)] {
                    let reply = query(world, &operation, name, text).await;
                    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
                    assert!(errors.iter().all(|error| error["code"] != "malformed"), "{name}={text}: {reply:?}");
                }
            }
            if schema["type"] == "boolean" {
                refused_by_name(&query(world, &operation, name, "yes").await, "invalid_query", name);
            }
            if parameter["required"] == true {
                let reply = world.admin.send(world.admin.request(Method::GET, &operation.address())).await;
                refused_by_name(&reply, "invalid_query", name);
            }
        }
    }
    world.admin.get("/v1/magic-links?page_size=2.0&state=active").await.ok();
}

#[apply(on_both_databases)]
async fn a_parameter_that_no_call_has_is_refused_by_every_call(world: &World) {
    let before = logs(world);
    let mut tried = 0;
    for operation in operations().filter(|one| one.path.starts_with("/v1/")) {
        let address = format!("{}?dry_run=true", operation.address());
        let request = world.admin.request(operation.method.clone(), &address);
        if operation.query().contains("dry_run") {
            continue;
        }
        refused_by_name(&world.admin.send(request).await, "invalid_query", "dry_run");
        tried += 1;
    }
    assert!(tried > 60, "{tried} operations");
    assert_eq!(logs(world), before, "nothing was done");
}

// A letter that is escaped without need is the same address (RFC 3986, 6.2.2.2): nothing goes around the contract.
#[apply(on_both_databases)]
async fn a_needless_escape_in_a_path_changes_nothing(world: &World) {
    let before = logs(world);
    let mut tried = 0;
    for operation in operations().filter(|one| one.path.starts_with("/v1/")) {
        let plain = operation.address();
        let mut escaped = Vec::new();
        for (place, segment) in operation.path.split('/').enumerate() {
            let Some(letter) = segment.chars().next().filter(char::is_ascii_alphanumeric) else { continue };
            let mut segments: Vec<String> = plain.split('/').map(ToOwned::to_owned).collect();
            segments[place] = format!("%{:02x}{}", u32::from(letter), &segment[1..]);
            escaped.push(segments.join("/"));
        }
        for path in escaped {
            let request = world.admin.request(operation.method.clone(), &format!("{path}?bogus=1"));
            let refused = world.admin.send(request).await;
            refused_by_name(&refused, "invalid_query", "bogus");
            assert_eq!(refused.header("cache-control"), "no-store", "{path}");
            tried += 1;
        }
    }
    assert!(tried > 150, "{tried} paths");
    assert_eq!(logs(world), before, "nothing was done");
    world.admin.get("/v1/%6dagic-links?state=active").await.ok();
    let stranger = world.stranger().post("/v1/%69ntrospect", &Value::Null).await;
    assert_eq!(stranger.body["error"], "invalid_client", "{stranger:?}");
}

// Half an escape hid a whole one from whatever looks at the path but the router: `%%37%32` is no path (RFC 3986, 2.1).
#[apply(on_both_databases)]
async fn a_percent_sign_that_begins_no_escape_is_refused_at_the_door(world: &World) {
    let before = logs(world);
    let order = json!({ "tenant_id": "acme", "reason": "The contract ended today" });
    for path in [
        "/v1/%%37%32evocations?dry_run=true",
        "/v1/%%372evocations?dry_run=true",
        "/v1/%7%32evocations?dry_run=true",
        "/v1/%%36%64agic-links",
        "/%%37%361/magic-links",
        "/v1/audit%%32%64events?tenant_id=acme",
        "/%%37%36%%33%31/introspect",
        "/v1/magic-links/%",
        "/%zz",
        "/lx/%2",
        "/%%36%63",
    ] {
        for method in [Method::GET, Method::POST] {
            let refused = world.admin.send(world.admin.request(method, path).json(&order)).await;
            refused.refused(400, "invalid_request");
            assert!(refused.body["detail"].as_str().unwrap().contains('%'), "{refused:?}");
            assert_eq!(refused.header("cache-control"), "no-store", "{path}");
        }
    }
    assert_eq!(logs(world), before, "nothing was done");
}
