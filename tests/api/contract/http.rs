//! Requests that are wrong before anybody reads their fields: size, pace, type, method, route, query, headers.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Raw, Settings, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";
const KIB: usize = 1024;

/// A body of so many bytes that is right but for its size: JSON may be padded.
fn padded(body: &Value, bytes: usize) -> String {
    let text = body.to_string();
    let spaces = " ".repeat(bytes - text.len());
    text + &spaces
}

/// The head of a POST with the administrator's key.
fn head(world: &World, path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n{more}\r\n\r\n",
        world.admin.key()
    )
}

async fn no_link(world: &World) {
    assert_eq!(world.admin.get(LINKS).await.ok()["items"], json!([]));
    assert!(world.admin.events("&type=magic_link.issued").await.is_empty());
    assert!(world.mails.all().await.is_empty());
}

fn is_problem(answer: &str, status: u16, code: &str) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {status} "))
        && answer.contains(&format!("\"code\":\"{code}\""))
        && answer.contains("content-type: application/problem+json")
}

#[apply(on_both_databases)]
async fn a_body_over_64_kib_is_too_large_but_acts_may_take_1_mib(world: &World) {
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let send = async |path: &str, text: String| {
        let call = world.admin.request(Method::POST, path).header("content-type", "application/json");
        world.admin.send(call.body(text)).await
    };
    send(LINKS, padded(&request, 64 * KIB + 1)).await.refused(413, "body_too_large");

    // Without a length nobody knows until it is too much.
    let mut raw = Raw::connect(&world.base);
    raw.send(head(world, LINKS, "transfer-encoding: chunked").as_bytes());
    let chunk = format!("1000\r\n{}\r\n", " ".repeat(4096));
    for _ in 0..17 {
        raw.send(chunk.as_bytes());
    }
    let answer = raw.answer();
    assert!(is_problem(&answer, 413, "body_too_large"), "{answer}");

    // A length that is announced is enough.
    let session = "/v1/sessions/ses_01kaq3v9e8fwmvd2x7n0c5hb2z/events";
    let mut raw = Raw::connect(&world.base);
    raw.send(head(world, session, "content-length: 1048577").as_bytes());
    let answer = raw.answer();
    assert!(is_problem(&answer, 413, "body_too_large"), "{answer}");
    no_link(world).await;

    // Just right.
    assert_eq!(send(LINKS, padded(&request, 64 * KIB)).await.status, 201);
    let opened = world.open_session(&world.portal("cloud", "acme").await).await;
    let act = |seq: usize| {
        json!({
            "seq": seq, "occurred_at": world.clock.now(), "action": "x".repeat(100), "resource_type": "employee",
            "resource_id": "y".repeat(100),
        })
    };
    let events = json!({ "events": (1..=700).map(act).collect::<Vec<_>>() });
    assert!(events.to_string().len() > 200 * KIB);
    let path = format!("/v1/sessions/{}/events", opened["id"].as_str().unwrap());
    assert_eq!(world.admin.post(&path, &events).await.ok()["recorded"], 700);
    assert_eq!(send(&path, padded(&events, KIB * KIB)).await.ok()["repeated"], 700);
}

#[apply(on_both_databases)]
#[settings(Settings::config("body_timeout_seconds = 1"))]
async fn a_body_that_arrives_a_byte_at_a_time_is_given_up(world: &World) {
    let started = Instant::now();
    let mut raw = Raw::connect(&world.base);
    raw.send(head(world, LINKS, "content-length: 60000").as_bytes());
    let answer = raw.drip(Duration::from_millis(50));
    assert!(is_problem(&answer, 408, "request_timeout"), "{answer}");
    assert!((1..15).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());

    // The same for forms, for strangers, and where more may be sent.
    for (path, kind) in [
        ("/v1/introspect", "application/x-www-form-urlencoded"),
        ("/l/preview", "application/json"),
        ("/v1/sessions/ses_01kaq3v9e8fwmvd2x7n0c5hb2z/events", "application/json"),
    ] {
        let mut raw = Raw::connect(&world.base);
        let text = head(world, path, "content-length: 60000").replace("application/json", kind);
        raw.send(text.as_bytes());
        let answer = raw.drip(Duration::from_millis(50));
        assert!(is_problem(&answer, 408, "request_timeout"), "{path}: {answer}");
    }
    no_link(world).await;
}

#[apply(on_both_databases)]
async fn only_plain_json_is_taken(world: &World) {
    let text = Api::issue_request(&world.consultant().await).to_string();
    for kind in [
        "text/plain",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "json",
        "application/json, text/plain",
    ] {
        let call = world.admin.request(Method::POST, LINKS).header("content-type", kind);
        world.admin.send(call.body(text.clone())).await.refused(415, "unsupported_media_type");
    }
    let call = world.admin.request(Method::POST, LINKS).body(text.clone());
    world.admin.send(call).await.refused(415, "unsupported_media_type");
    let call = world.admin.request(Method::POST, LINKS).header("content-type", "application/json");
    let call = call.header("content-encoding", "gzip");
    world.admin.send(call.body(text.clone())).await.refused(415, "unsupported_media_type");
    world.admin.post("/v1/introspect", &json!({ "token": "x" })).await.refused(415, "unsupported_media_type");
    no_link(world).await;
    // In chunks it is known at its end whether there is a body at all.
    let path = "/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb6z/resend";
    for (chunks, status) in [("0\r\n\r\n", "404"), ("2\r\n{}\r\n0\r\n\r\n", "415")] {
        let mut raw = Raw::connect(&world.base);
        let key = world.admin.key();
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {key}\r\n");
        raw.send(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}").as_bytes());
        let answer = raw.answer();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    let call = world.admin.request(Method::POST, LINKS).header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(world.admin.send(call.body(text)).await.status, 201);
}

#[apply(on_both_databases)]
async fn a_wrong_method_is_told_the_right_ones(world: &World) {
    let link = "/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z";
    let revoke = format!("{link}/revoke");
    for (method, path, allow) in [
        (Method::DELETE, LINKS, "GET, HEAD, POST"),
        (Method::PUT, LINKS, "GET, HEAD, POST"),
        (Method::DELETE, link, "GET, HEAD, PATCH"),
        (Method::GET, revoke.as_str(), "POST"),
        (Method::GET, "/v1/introspect", "POST"),
        (Method::POST, "/v1/tenants/acme", "GET, HEAD, PUT"),
        (Method::GET, "/l/preview", "POST"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::POST, "/.well-known/jwks.json", "GET, HEAD"),
        (Method::POST, "/l", "GET, HEAD"),
        (Method::DELETE, "/l/page.js", "GET, HEAD"),
        (Method::PUT, "/problems", "GET, HEAD"),
        (Method::POST, "/docs/", "GET, HEAD"),
        (Method::DELETE, "/docs/swagger-ui.css", "GET, HEAD"),
        (Method::PUT, "/openapi.json", "GET, HEAD"),
        (Method::OPTIONS, "/openapi-3.0.json", "GET, HEAD"),
        (Method::PATCH, "/webhooks.json", "GET, HEAD"),
    ] {
        for api in [&world.admin, &world.stranger()] {
            let reply = api.send(api.request(method.clone(), path)).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (405, "method_not_allowed"), "{method} {path}");
            assert_eq!(reply.header("allow"), allow, "{method} {path}");
        }
    }
}

#[apply(on_both_databases)]
async fn an_unknown_route_is_a_problem_like_any_other(world: &World) {
    for path in [
        "/v1",
        "/v1/",
        "/v2/magic-links",
        "/v1/magic-links/",
        "/v1//magic-links",
        "/v1/magic-link",
        "/l/x",
        "/lx",
        "/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z/delete",
        "/.env",
        "/v1/%2e%2e/admin",
        "/dev/mailbox",
        "/dev/mailbox.json",
        "/metrics",
        "/%ff",
    ] {
        for method in [Method::GET, Method::POST, Method::PATCH] {
            let reply = world.admin.send(world.admin.request(method.clone(), path)).await;
            let right = matches!((reply.status.as_u16(), reply.code()), (404, "route_not_found"))
                || (path.starts_with("/dev/") && method != Method::GET && reply.status == 405);
            assert!(right, "{method} {path}: {reply:?}");
        }
    }
}

#[apply(on_both_databases)]
async fn a_malformed_id_in_the_path_is_named_as_such(world: &World) {
    for id in [
        "1",
        "mlk_1",
        "ses_01kaq3v9e8fwmvd2x7n0c5hb1z",
        "MLK_01KAQ3V9E8FWMVD2X7N0C5HB1Z",
        "mlk_01KAQ3V9E8FWMVD2X7N0C5HB1Z",
        "mlk_81kaq3v9e8fwmvd2x7n0c5hb1z",
        "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z%00",
        "mlk_01kaq3v9e8fwmvd2x7n0c5hb1u",
        "%27",
        "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z0",
        "01kaq3v9e8fwmvd2x7n0c5hb1z",
        "%e2%80%ae",
    ] {
        world.admin.get(&format!("{LINKS}/{id}")).await.refused(400, "invalid_id");
        let body = json!({ "reason": "Not needed" });
        world.admin.post(&format!("{LINKS}/{id}/revoke"), &body).await.refused(400, "invalid_id");
    }
    world.admin.get("/v1/sessions/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await.refused(400, "invalid_id");
    world.admin.get("/v1/consultants/1").await.refused(400, "invalid_id");
    world.admin.post("/v1/clients/1/disable", &json!({})).await.refused(400, "invalid_id");
}

#[apply(on_both_databases)]
async fn a_query_takes_what_is_documented_once(world: &World) {
    for query in [
        "colour=red",
        "page_size=many",
        "page_size=-1",
        "page_size=0",
        "page_size=04",
        "page_size=1e9",
        "page_size=99999999999999999999.5.1",
        "page_size=",
        "state=gone",
        "state=",
        "created_from=yesterday",
        "created_from=2026-11-22",
        "consultant_id=1",
        "state=active&state=revoked",
        "created_to=10000-01-01T00:00:00Z",
    ] {
        let reply = world.admin.get(&format!("{LINKS}?{query}")).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, "invalid_query"), "{query}: {reply:?}");
    }
    for path in ["/v1/sessions", "/v1/consultants", "/v1/tenants", "/v1/clients", "/v1/audit-events"] {
        world.admin.get(&format!("{path}?colour=red")).await.refused(400, "invalid_query");
        world.admin.get(&format!("{path}?page_size=0x1")).await.refused(400, "invalid_query");
    }
    world.admin.get("/v1/audit-events?type=magic_link.lost").await.refused(400, "invalid_query");
    for size in
        ["200", "201", "2147483648", "4294967296", "9223372036854775808", "99999999999999999999", &"9".repeat(400)]
    {
        let page = world.admin.get(&format!("{LINKS}?page_size={size}")).await;
        assert_eq!(page.status, 200, "more than 200 counts as 200: {page:?}");
    }
    for query in ["page_size=100000&state=active", "created_to=9999-12-31T23:59:59-23:59"] {
        assert_eq!(world.admin.get(&format!("{LINKS}?{query}")).await.ok()["items"], json!([]));
    }
}

#[apply(on_both_databases)]
async fn a_cursor_serves_its_own_list_only(world: &World) {
    let consultant = world.consultant().await;
    for _ in 0..3 {
        world.admin.issue(&consultant).await;
    }
    let first = world.admin.get(&format!("{LINKS}?page_size=1")).await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(world.admin.get(&format!("{LINKS}?page_size=2&cursor={cursor}")).await.status, 200);
    let mut cut = cursor.to_owned();
    cut.pop();
    let turned: String = cursor.chars().rev().collect();
    for (path, cursor) in [
        (LINKS, ""),
        (LINKS, "x"),
        (LINKS, "%00"),
        (LINKS, cut.as_str()),
        (LINKS, turned.as_str()),
        (LINKS, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAJyBPUiAxPTEgLS0"),
        ("/v1/sessions", cursor),
        ("/v1/consultants", cursor),
        ("/v1/tenants", cursor),
        ("/v1/clients", cursor),
        ("/v1/audit-events", cursor),
    ] {
        let reply = world.admin.get(&format!("{path}?cursor={cursor}")).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, "invalid_cursor"), "{path} {cursor}");
    }
    for filter in ["tenant_id=acme", "state=active", "portal=cloud", "profile_id=emp-1042"] {
        let reply = world.admin.get(&format!("{LINKS}?{filter}&cursor={cursor}")).await;
        reply.refused(400, "invalid_cursor");
    }
}

/// A cursor is good for whatever means the same, as an idempotency key is.
#[apply(on_both_databases)]
async fn a_cursor_belongs_to_what_a_filter_means(world: &World) {
    for _ in 0..3 {
        let mut request = Api::issue_request(&world.consultant().await);
        request["ticket"] = json!("SUP-1");
        world.admin.post(LINKS, &request).await.ok();
    }
    // Pages say what became of the mails.
    let sent = async || (Sql::of(world).count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(());
    eventually("the mails are sent", sent).await;
    for (path, one, other) in [
        (LINKS, "state=active,scheduled", "state=scheduled,active"),
        (LINKS, "state=active", "state=active,active"),
        (LINKS, "ticket=SUP-1", "ticket=%20SUP-1%20"),
        (LINKS, "ticket=SUP-1&state=active", "state=active&ticket=SUP-1%C2%A0"),
        (LINKS, "created_from=2026-01-01T00:00:00Z", "created_from=2026-01-01T05:30:00%2B05:30"),
        ("/v1/consultants", "search=ravi", "search=%20RAVI"),
    ] {
        let first = world.admin.get(&format!("{path}?{one}&page_size=1")).await.ok();
        let cursor = first["next_cursor"].as_str().unwrap_or_else(|| panic!("{one}: {first}"));
        let next = world.admin.get(&format!("{path}?{one}&page_size=1&cursor={cursor}")).await.ok();
        assert_eq!(world.admin.get(&format!("{path}?{other}&page_size=1&cursor={cursor}")).await.ok(), next, "{other}");
    }
    let first = world.admin.get(&format!("{LINKS}?state=active&page_size=1")).await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let other = world.admin.get(&format!("{LINKS}?state=active,revoked&page_size=1&cursor={cursor}")).await;
    other.refused(400, "invalid_cursor");
}

#[apply(on_both_databases)]
async fn an_idempotency_key_is_one_printable_word_for_one_request(world: &World) {
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let long = "x".repeat(129);
    for key in ["", "\"\"", "two words", "\"open", "k\u{e9}y", long.as_str()] {
        world.admin.post_once(LINKS, key, &request).await.refused(400, "invalid_header");
    }
    let call = world.admin.request(Method::POST, LINKS).header("idempotency-key", "a").header("idempotency-key", "b");
    world.admin.send(call.json(&request)).await.refused(400, "invalid_header");
    no_link(world).await;

    let link = world.admin.post_once(LINKS, "one", &request).await.ok();
    let mut other = request.clone();
    other["reason"] = "Another reason altogether".into();
    world.admin.post_once(LINKS, "one", &other).await.refused(422, "idempotency_key_reused");
    let links = world.admin.get(LINKS).await.ok();
    assert_eq!(links["items"].as_array().unwrap().len(), 1);
    assert_eq!(links["items"][0]["id"], link["id"]);
    // Somebody else's key of the same name is another key.
    let request = Api::issue_request(&consultant);
    let portal = world.portal("cloud", "acme").await;
    assert_ne!(portal.post_once(LINKS, "one", &request).await.ok()["id"], link["id"]);
}

#[apply(on_both_databases)]
async fn garbage_for_a_token_is_refused_at_once(world: &World) {
    for token in [".", "..", "...", "eyJ.eyJ.x", "", "\u{0}", "a.b.c.d", &".".repeat(60 * KIB), &"a".repeat(4097)] {
        let body = json!({ "token": token });
        for path in ["/l/preview", "/l/continue", "/l/resend"] {
            world.stranger().post(path, &body).await.refused(400, "token_invalid");
        }
        world.admin.post("/v1/sessions", &body).await.refused(400, "token_invalid");
        let introspected = world.admin.form("/v1/introspect", &[("token", token)]).await;
        assert_eq!(introspected.text, "{\"active\":false}");
    }
    for (path, kind, start) in [
        ("/l/preview", "application/json", "{\"token\":\""),
        ("/v1/introspect", "application/x-www-form-urlencoded", "token="),
    ] {
        let length = KIB * KIB + start.len();
        let mut raw = Raw::connect(&world.base);
        let text = head(world, path, &format!("content-length: {length}")).replace("application/json", kind);
        raw.send(text.as_bytes());
        raw.send(start.as_bytes());
        raw.send(".".repeat(32 * KIB).as_bytes());
        let answer = raw.answer();
        assert!(is_problem(&answer, 413, "body_too_large"), "{answer}");
    }
    world.admin.form("/v1/introspect", &[("colour", "red")]).await.refused(400, "invalid_body");
    world.admin.form("/v1/introspect", &[("token", "a"), ("token", "b")]).await.refused(400, "invalid_body");
    assert!(world.mails.all().await.is_empty());
    assert!(world.admin.events("&type=magic_link.refused").await.is_empty());
    assert!(world.admin.events("&type=access.refused").await.is_empty(), "garbage is not worth an event");
}
