//! What the description says of bodies is so for every member of every body.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::examples::{bodies, example, inner, is_of_type, members, operations, with};
use crate::support::{Api, Database, Reply, World, apply, command, on_both_databases};

/// Whether a reply says that a member is not as it should be.
fn complains(reply: &Reply, pointer: &str) -> bool {
    let errors = reply.body["errors"].as_array();
    errors.is_some_and(|errors| errors.iter().any(|error| error["pointer"] == pointer))
        || reply.body["code"] == "invalid_body"
}

/// Makes what the examples name, where that can be done.
fn demo(world: &World) {
    if world.database == Database::Postgres {
        return;
    }
    assert!(command(world).arg("demo").output().unwrap().status.success());
}

#[apply(on_both_databases)]
async fn null_is_absent_in_every_body(world: &World) {
    demo(world);
    let mut tried = 0;
    for (operation, schema) in bodies() {
        let body = example(schema);
        for (pointer, property, required) in members(schema, &body) {
            let reply = operation.send(&world.admin, &with(&body, &pointer, Value::Null)).await;
            let at = format!("{} {}{pointer}: {reply:?}", operation.method, operation.path);
            // Without its duration a link needs a policy that sets one: that is absent, not malformed.
            let is_needed_here = reply.body["errors"][0]["code"] == "missing" && pointer == "/duration";
            assert_eq!(complains(&reply, &pointer) && !is_needed_here, required, "{at}");
            let may_be_null = property["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null")))
                || property["oneOf"][0]["type"] == "null";
            assert_eq!(may_be_null, !required, "{at}");
            tried += usize::from(!required);
        }
    }
    assert!(tried > 60, "{tried}");
}

/// A call that takes no body is not done for whoever means something by one. Some libraries send an empty object.
#[apply(on_both_databases)]
async fn a_body_is_refused_where_none_is_taken(world: &World) {
    demo(world);
    let mut tried = 0;
    for operation in operations().filter(|one| one.method != Method::GET && !one.takes_a_body()) {
        let send = async |kind: &str, text: &str| {
            let call = world.admin.request(operation.method.clone(), &operation.address());
            world.admin.send(call.header("content-type", kind).body(text.to_owned())).await
        };
        let at = format!("{} {}", operation.method, operation.path);
        let meant = send("application/json", r#"{"nope":1}"#).await;
        assert_eq!((meant.code(), &meant.body["errors"][0]["pointer"]), ("invalid_body", &json!("/nope")), "{at}");
        for text in ["[]", "null", "{", "x"] {
            send("application/json", text).await.refused(400, "invalid_body");
        }
        send("text/plain", "x").await.refused(415, "unsupported_media_type");
        send("application/json", &" ".repeat(70_000)).await.refused(413, "body_too_large");
        // Whether it is done or not, it is not for the body.
        for (kind, text) in [("application/json", ""), ("application/json", "{}"), ("application/json", " { } ")] {
            let reply = send(kind, text).await;
            assert!(![400, 413, 415].contains(&reply.status.as_u16()), "{at} {text:?}: {reply:?}");
        }
        tried += 1;
    }
    assert!(tried >= 4, "{tried}");
}

/// Libraries that serialise what their caller left out write null for the whole body.
#[apply(on_both_databases)]
async fn null_is_no_body_where_none_is_required(world: &World) {
    demo(world);
    let send = async |method: &Method, path: &str, text: &'static str| {
        let call = world.admin.request(method.clone(), path).header("content-type", "application/json");
        world.admin.send(call.header("idempotency-key", "once").body(text)).await
    };
    let mut tried = 0;
    for (operation, _) in bodies() {
        let reply = send(&operation.method, &operation.address(), "null").await;
        if operation.described["requestBody"]["required"] == true {
            reply.refused(400, "invalid_body");
        } else {
            assert_ne!(reply.body["code"], "invalid_body", "{} {}: {reply:?}", operation.method, operation.path);
            tried += 1;
        }
    }
    assert!(tried >= 15, "{tried}");
    for text in ["null", " null\n", "{}", ""] {
        let reply = send(&Method::POST, "/v1/keys/rotate", text).await;
        assert_eq!((reply.status.as_u16(), reply.header("idempotency-replayed")), (201, "true"), "{text:?}");
    }
}

/// A form holds text and no null, and a token of any length is one that is not active.
#[apply(on_both_databases)]
async fn a_form_takes_what_is_described(world: &World) {
    let description: Value = serde_json::from_str(include_str!("../../../openapi/openapi.json")).unwrap();
    let client = world.portal("cloud", "acme").await;
    for (path, schema) in [("/v1/introspect", "IntrospectionRequest"), ("/v1/revoke", "RevocationRequest")] {
        let members = description["components"]["schemas"][schema]["properties"].as_object().unwrap();
        for (name, member) in members {
            assert_eq!(member["type"], "string", "{schema} {name}");
        }
        let longest = |name: &str| "x".repeat(usize::try_from(members[name]["maxLength"].as_u64().unwrap()).unwrap());
        assert_eq!(longest("token").len(), 64 * 1024, "a whole body");
        for (token, hint) in
            [(longest("token").split_off(1_000), "null".to_owned()), ("x".to_owned(), "y".repeat(60_000))]
        {
            let form = [("token", &*token), ("token_type_hint", &*hint)];
            client.form(path, &form).await.ok();
            let with_secret =
                [("client_id", client.client_id.as_str()), ("client_secret", client.key()), form[0], form[1]];
            world.stranger().form(path, &with_secret).await.ok();
        }
    }
}

#[apply(on_both_databases)]
async fn null_changes_nothing_and_an_empty_text_clears(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let endpoint = json!({ "url": "https://portal.example/hook", "description": "Production", "format": "caep",
        "audience": "https://portal.example" });
    let made = portal.post("/v1/webhook-endpoints", &endpoint).await.ok();
    let path = format!("/v1/webhook-endpoints/{}", made["id"].as_str().unwrap());
    let nothing = json!({ "url": null, "description": null, "audience": null, "events": null, "state": null });
    let kept = portal.patch(&path, &nothing).await.ok();
    assert_eq!((&kept["description"], &kept["audience"]), (&endpoint["description"], &endpoint["audience"]));
    let cleared = portal.patch(&path, &json!({ "description": "", "audience": "" })).await.ok();
    assert!(cleared.get("description").is_none() && cleared.get("audience").is_none(), "{cleared}");
    assert!(portal.get(&path).await.ok().get("description").is_none());

    let consultant = format!("/v1/consultants/{}", world.consultant().await);
    let kept = world.admin.patch(&consultant, &json!({ "name": null, "email": null })).await.ok();
    assert_eq!(kept["name"], "Ravi Kumar");
    // What is not described is refused, null or not.
    world.admin.patch(&consultant, &json!({ "colour": null })).await.refused(400, "invalid_body");
}

#[apply(on_both_databases)]
async fn all_that_is_missing_or_wrong_is_told_at_once(world: &World) {
    for (operation, schema) in bodies() {
        let required: Vec<String> = members(schema, &json!({}))
            .into_iter()
            .filter_map(|(pointer, _, required)| required.then_some(pointer))
            .collect();
        let is_required = operation.described["requestBody"]["required"] == true;
        assert_eq!(is_required, !required.is_empty(), "{} {}", operation.method, operation.path);
        if required.is_empty() {
            continue;
        }
        let nothing = world.admin.request(operation.method.clone(), &operation.address());
        for reply in [operation.send(&world.admin, &json!({})).await, world.admin.send(nothing).await] {
            reply.refused(400, "invalid_body");
            for pointer in &required {
                let told = json!({ "pointer": pointer, "code": "required", "detail": "is missing" });
                assert!(reply.body["errors"].as_array().unwrap().contains(&told), "{pointer}: {reply:?}");
            }
        }
    }
    let consultant = world.consultant().await;
    let wrong = json!({ "tenant_id": 1, "portal": "cloud", "consultant_id": consultant, "reason": ["Payroll"],
        "duration": { "value": "4" }, "profile": { "id": "emp-1042", "name": null, "colour": "red" },
        "issued_by": [], "starts_at": "23.11.2026" });
    let reply = world.admin.post("/v1/magic-links", &wrong).await;
    reply.refused(400, "invalid_body");
    let told: Vec<&str> =
        reply.body["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    for pointer in [
        "/tenant_id",
        "/reason",
        "/duration/value",
        "/duration/unit",
        "/profile/name",
        "/profile/colour",
        "/issued_by",
        "/starts_at",
    ] {
        assert!(told.contains(&pointer), "{pointer}: {reply:?}");
    }
}

#[apply(on_both_databases)]
async fn a_whole_number_is_whole_however_it_is_written(world: &World) {
    demo(world);
    let mut tried = 0;
    for (operation, schema) in bodies() {
        let body = example(schema);
        for (pointer, property, _) in members(schema, &body) {
            let Some(number) = body.pointer(&pointer).filter(|_| is_of_type(property, "integer")) else { continue };
            let number = number.as_f64().unwrap();
            let reply = operation.send(&world.admin, &with(&body, &pointer, json!(number))).await;
            assert!(!complains(&reply, &pointer), "{}{pointer}: {reply:?}", operation.path);
            let reply = operation.send(&world.admin, &with(&body, &pointer, json!(number + 0.5))).await;
            assert!(complains(&reply, &pointer), "{}{pointer}: {reply:?}", operation.path);
            tried += 1;
        }
    }
    assert!(tried > 3, "{tried}");
    let consultant = world.consultant().await;
    let text = Api::issue_request(&consultant).to_string().replace("\"value\":4", "\"value\":4.0e0");
    let request = world.admin.request(Method::POST, "/v1/magic-links").header("content-type", "application/json");
    world.admin.send(request.body(text)).await.ok();
}

/// PostgreSQL has no NUL in text: it would fail as if it were broken.
#[apply(on_both_databases)]
async fn no_nul_goes_past_a_body(world: &World) {
    demo(world);
    let mut tried = 0;
    for (operation, schema) in bodies() {
        let body = example(schema);
        for (pointer, property, _) in members(schema, &body) {
            if !is_of_type(property, "string") {
                continue;
            }
            let reply = operation.send(&world.admin, &with(&body, &pointer, json!("a\0b"))).await;
            // What a field was and is may be any text, which is kept as JSON. An address for notices that cannot be used
            // blocks no grant, and is not kept.
            let is_taken = ["/before", "/after", "/profile/email", "/issued_by/email", "/extended_by/email"]
                .iter()
                .any(|end| pointer.ends_with(end));
            let is_refused = (400..500).contains(&reply.status.as_u16());
            assert!(is_refused || is_taken && reply.status.is_success(), "{}{pointer}: {reply:?}", operation.path);
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

/// Words of the libraries that read requests.
const THEIR_WORDS: &[&str] = &[
    "expected",
    "invalid type",
    "missing field",
    "unknown field",
    "duplicate field",
    "unknown variant",
    "deserialize",
    "trailing",
    "EOF",
    "recursion",
    "invalid digit",
    "invalid value",
    "component",
    "serde",
    "utf-8 sequence",
];

#[track_caller]
fn in_our_words(reply: &Reply) {
    reply.code();
    for word in THEIR_WORDS {
        assert!(!reply.text.to_lowercase().contains(&word.to_lowercase()), "{word}: {reply:?}");
    }
}

#[apply(on_both_databases)]
async fn nobody_reads_the_words_of_a_library(world: &World) {
    for (operation, schema) in bodies() {
        let body = example(schema);
        for (pointer, property, _) in members(schema, &body) {
            for wrong in [json!([[]]), json!(1.5), json!({ "a": {} }), json!(true), json!("no such word")] {
                let reply = operation.send(&world.admin, &with(&body, &pointer, wrong)).await;
                if !reply.status.is_success() {
                    in_our_words(&reply);
                }
            }
            assert!(!inner(property).is_null());
        }
    }
    for text in
        ["", "{", "[]", "null", "nul", "{\"token\":", "{\"a\":1,\"a\":1}", "{} {}", "1e999", "\u{1}", "{\"a\":04}"]
    {
        let request = world.admin.request(Method::POST, "/v1/sessions").header("content-type", "application/json");
        in_our_words(&world.admin.send(request.body(text)).await);
    }
    let request = world.admin.request(Method::POST, "/v1/sessions").header("content-type", "application/json");
    in_our_words(&world.admin.send(request.body(&b"{\"token\":\"\xff\"}"[..])).await);
    for form in [&[("colour", "red")][..], &[("token", "a"), ("token", "b")]] {
        in_our_words(&world.admin.form("/v1/introspect", form).await);
        in_our_words(&world.admin.form("/v1/revoke", form).await);
    }
}
