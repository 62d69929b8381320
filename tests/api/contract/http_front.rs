//! The HTTP layer in front of every route: offers, malformed requests, connections, `HEAD`, and pages for people.

use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, Process, Raw, Settings, World, apply, eventually, on_both_databases, unguarded};

const KIB: usize = 1024;

const FORM: &str = "content-type: application/x-www-form-urlencoded\r\n";

/// A POST with these lines in its head.
fn post(path: &str, lines: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n{lines}\r\n{body}", body.len())
}

#[track_caller]
fn assert_problem(answer: &str, status: u16, code: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(head.contains("content-type: application/problem+json"), "{answer}");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    assert_eq!((&body["status"], &body["code"]), (&json!(status), &json!(code)), "{answer}");
    let trace_id = head.lines().find_map(|line| line.strip_prefix("trace-id: ")).unwrap_or_default();
    assert_eq!((trace_id.len(), &body["trace_id"]), (32, &json!(trace_id)), "{answer}");
}

#[apply(on_both_databases)]
async fn an_offer_of_another_protocol_is_ignored_and_the_connection_stays(world: &World) {
    let key = format!("authorization: Bearer {}\r\n{FORM}", world.admin.key());
    let mut raw = Raw::connect(&world.base);
    for offer in [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nsec-websocket-version: 13\r\n",
        "connection: keep-alive, UPGRADE\r\nupgrade: TLS/1.0, irc/6.9\r\n",
        "upgrade: websocket\r\n",
    ] {
        for cut in [0, 60, 120] {
            let request = post("/v1/introspect", &format!("{offer}{key}"), "token=x");
            let (first, rest) = request.split_at(cut);
            raw.send(first.as_bytes());
            raw.send(rest.as_bytes());
            let answer = raw.answer();
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"active\":false}"), "{offer}: {answer}");
            let head = answer.to_lowercase();
            assert!(!head.contains("\nconnection:") && !head.contains("\nupgrade:"), "{offer}: {answer}");
        }
    }
    // A body that reads like an offer arrives as it is.
    let body = "token=x&connection: upgrade\r\nupgrade: h2c\r\n\r\n";
    raw.send(post("/v1/introspect", &key, body).as_bytes());
    assert!(raw.answer().ends_with("{\"active\":false}"));
}

#[apply(on_both_databases)]
async fn what_is_no_request_gets_a_problem(world: &World) {
    let large = format!("GET / HTTP/1.1\r\nhost: test\r\ncookie: {}\r\n\r\n", "x".repeat(KIB * KIB));
    let many = format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "a: b\r\n".repeat(200));
    let far = format!("GET /{} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(17 * KIB));
    let asked = format!("GET /v1/magic-links?cursor={} HTTP/1.1\r\nhost: test\r\n\r\n", "x".repeat(70 * KIB));
    for (request, status, code) in [
        ("NONSENSE\r\n\r\n", 400, "invalid_request"),
        ("GET /healthz HTTP/1.1\r\n\r\n", 400, "invalid_request"),
        ("GET /healthz HTTP/9.9\r\nhost: test\r\n\r\n", 400, "invalid_request"),
        ("GET /he\u{1}althz HTTP/1.1\r\nhost: test\r\n\r\n", 400, "invalid_request"),
        ("GET /healthz HTTP/1.1\r\nhost: test\r\nhost: other\r\n\r\n", 400, "invalid_request"),
        ("GET /healthz HTTP/1.1\r\nhost: test\r\nna me: x\r\n\r\n", 400, "invalid_request"),
        ("POST /l/preview HTTP/1.1\r\nhost: test\r\ncontent-length: -1\r\n\r\n", 400, "invalid_request"),
        (
            "POST /l/preview HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
            400,
            "invalid_request",
        ),
        (
            "POST /l/preview HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "invalid_request",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "invalid_request"),
        ("GET /healthz#top HTTP/1.1\r\nhost: test\r\n\r\n", 400, "invalid_request"),
        ("GET /l?utm=mail#eyJ.eyJ.x HTTP/1.1\r\nhost: test\r\n\r\n", 400, "invalid_request"),
        (&far, 414, "target_too_long"),
        (&asked, 414, "target_too_long"),
        (&many, 431, "headers_too_large"),
        (&large, 431, "headers_too_large"),
    ] {
        let mut raw = Raw::connect(&world.base);
        raw.send(request.as_bytes());
        assert_problem(&raw.answer(), status, code);
        // The same behind a request that was right.
        let mut raw = Raw::connect(&world.base);
        raw.send(b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_problem(&raw.answer(), 404, "route_not_found");
        raw.send(request.as_bytes());
        assert_problem(&raw.answer(), status, code);
        assert_eq!(raw.answer(), "", "the connection has ended");
    }
    // A head that never ends, also the second one.
    for first in ["", "GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n"] {
        let mut raw = Raw::connect(&world.base);
        if !first.is_empty() {
            raw.send(first.as_bytes());
            raw.answer();
        }
        raw.send(b"GET /healthz HTTP/1.1\r\nhost: te");
        assert_problem(&raw.answer(), 408, "request_timeout");
    }
    // A body that breaks off has one answer.
    let mut raw = Raw::connect(&world.base);
    raw.send(b"POST /l/preview HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
    assert_problem(&raw.answer(), 400, "invalid_body");
    assert_eq!(raw.answer(), "", "no second answer to one request");
}

#[apply(on_both_databases)]
async fn a_body_whose_chunks_are_not_what_they_must_be_is_refused_at_once(world: &World) {
    let key = format!("authorization: Bearer {}\r\n", world.admin.key());
    let digits = format!("{}2\r\n{{}}\r\n0\r\n\r\n", "0".repeat(50));
    for (path, fields) in [("/l/preview", ""), ("/v1/magic-links", key.as_str())] {
        for body in [
            "2\r\n{}\r\n0\r\n\n",
            "2\r\n{}\r\n0\n\r\n",
            "2\r\n{}\r\n0\r\nx: 1\n\r\n",
            "2\r\n{}\n0\r\n\r\n",
            "2\n{}\r\n0\r\n\r\n",
            "2;\n{}\r\n0\r\n\r\n",
            &digits,
        ] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{fields}\
                 transfer-encoding: chunked\r\n\r\n"
            );
            let request = format!("{head}{body}GET /healthz HTTP/1.1\r\nhost: test\r\n\r\n");
            for cut in [0, head.len(), head.len() + body.len() - 1] {
                let (first, rest) = request.split_at(cut);
                let mut raw = Raw::connect(&world.base);
                raw.send(first.as_bytes());
                tokio::time::sleep(Duration::from_millis(20)).await;
                raw.send(rest.as_bytes());
                assert_problem(&raw.answer(), 400, "invalid_body");
                assert_eq!(raw.answer(), "", "{body:?} cut at {cut}: what follows is no request");
            }
        }
    }
    // A length that stands far behind its name.
    let mut raw = Raw::connect(&world.base);
    let length = format!("content-length:{}2\r\n", " ".repeat(100));
    raw.send(format!("POST /l/preview HTTP/1.1\r\nhost: test\r\n{length}\r\n{{}}").as_bytes());
    assert_problem(&raw.answer(), 400, "invalid_request");
    assert_eq!(raw.answer(), "", "the connection has ended");
}

#[apply(on_both_databases)]
async fn nobody_is_asked_for_a_body_that_is_refused_anyway(world: &World) {
    let json = "content-type: application/json\r\nexpect: 100-continue\r\n";
    let reader = world.client(None, &["acme"], &["audit:read"]).await;
    let keyed = |key: &str| format!("{json}authorization: Bearer {key}\r\ncontent-length: 5\r\n");
    for (path, lines, status, code) in [
        ("/l/preview", format!("{json}content-length: 65537\r\n"), 413, "body_too_large"),
        ("/v1/introspect", format!("{json}content-length: 5\r\n"), 401, "unauthenticated"),
        ("/v1/magic-links", keyed(&reader.with_a_wrong_secret()), 401, "unauthenticated"),
        ("/v1/magic-links", keyed(reader.key()), 403, "insufficient_scope"),
        ("/v1/nowhere", format!("{json}content-length: 5\r\n"), 404, "route_not_found"),
        (
            "/l/preview",
            "content-type: text/plain\r\nexpect: 100-continue\r\ncontent-length: 5\r\n".to_owned(),
            415,
            "unsupported_media_type",
        ),
        ("/v1/mail-events/postmark", format!("{json}content-length: 5\r\n"), 404, "route_not_found"),
    ] {
        let mut raw = Raw::connect(&world.base);
        raw.send(format!("POST {path} HTTP/1.1\r\nhost: test\r\n{lines}\r\n").as_bytes());
        assert_problem(&raw.answer(), status, code);
    }
    let mut raw = Raw::connect(&world.base);
    for _ in 0..2 {
        let body = json!({ "token": "x" }).to_string();
        let request = post("/l/preview", json, &body);
        let (head, body) = request.split_at(request.len() - body.len());
        raw.send(head.as_bytes());
        assert_eq!(raw.line(), "HTTP/1.1 100 Continue\r\n\r\n");
        raw.send(body.as_bytes());
        assert_problem(&raw.answer(), 400, "token_invalid");
    }
    // HTTP/1.0 has no `100 Continue`, wherever a long request line is cut.
    let key = format!("authorization: Bearer {}\r\n{json}", world.admin.key());
    let path = format!("/v1/audit-log/{}/legal-holds", "t".repeat(64));
    let request = post(&path, &key, "{}").replacen("HTTP/1.1", "HTTP/1.0", 1);
    for cut in [85, path.len() + 10, path.len() + 15] {
        let (first, rest) = request.split_at(cut);
        let mut raw = Raw::connect(&world.base);
        raw.send(first.as_bytes());
        tokio::time::sleep(Duration::from_millis(100)).await;
        raw.send(rest.as_bytes());
        let answer = raw.answer();
        assert!(answer.starts_with("HTTP/1.0 4"), "cut at {cut}: {answer}");
    }
}

#[apply(on_both_databases)]
async fn whoever_speaks_http_1_0_gets_exports_without_chunks(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    portal.issue(&world.consultant().await).await;
    let ask = |line: &str, format: &str, fields: &str| {
        let (method, version) = line.split_once(' ').unwrap();
        let mut raw = Raw::connect(&world.base);
        let path = format!("/v1/audit-events/export?tenant_id=acme&format={format}");
        let key = world.admin.key();
        raw.send(
            format!("{method} {path} {version}\r\nhost: test\r\nauthorization: Bearer {key}\r\n{fields}\r\n")
                .as_bytes(),
        );
        raw.rest()
    };
    for format in ["ndjson", "csv", "ocsf"] {
        for fields in ["", "connection: keep-alive\r\n", "connection: close\r\n"] {
            for method in ["GET", "HEAD"] {
                let (answer, is_orderly) = ask(&format!("{method} HTTP/1.0"), format, fields);
                let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
                assert!(is_orderly && head.starts_with("HTTP/1.0 200 "), "{method} {format}: {answer}");
                for field in ["\ntransfer-encoding:", "\ncontent-length:", "\nconnection:"] {
                    assert!(!head.contains(field), "{method} {format}: {head}");
                }
                match (method, format) {
                    ("HEAD", _) => assert_eq!(body, "", "{format}"),
                    (_, "csv") => assert!(body.starts_with("\u{feff}log_index,") && body.ends_with("\r\n"), "{body}"),
                    _ => {
                        let is_json = |line: &str| serde_json::from_str::<Value>(line).is_ok();
                        assert!(body.lines().count() > 1 && body.lines().all(is_json), "{format}: {body}");
                    }
                }
            }
        }
    }
    let (answer, _) = ask("GET HTTP/1.1", "csv", "connection: close\r\n");
    assert!(answer.contains("\r\ntransfer-encoding: chunked\r\n") && answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
    // What has a length leaves the connection as it is.
    let mut raw = Raw::connect(&world.base);
    for _ in 0..2 {
        raw.send(b"GET /nowhere HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
        let answer = raw.answer();
        assert!(answer.starts_with("HTTP/1.0 404 ") && answer.contains("\r\nconnection: keep-alive\r\n"), "{answer}");
    }
    // One that breaks off does not pass for complete.
    unguarded(world, "audit_payloads", "UPDATE audit_payloads SET payload = 'x' WHERE tenant_id = 'acme'");
    let (answer, is_orderly) = ask("GET HTTP/1.0", "csv", "");
    assert!(!is_orderly, "{answer}");
}

#[test]
fn a_connection_waits_for_the_next_request_as_long_as_balancers_do() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let (mut used, mut new) = (Raw::connect(&world.base), Raw::connect(&world.base));
        used.send(b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_problem(&used.answer(), 404, "route_not_found");
        // Longer than it was before.
        assert!(!used.ends_within(Duration::from_secs(6)));
        for raw in [&mut used, &mut new] {
            raw.send(b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
            assert_problem(&raw.answer(), 404, "route_not_found");
        }
    });
    // Whether it is shorter or longer than what a connection's other times are looked at by.
    let longer = Settings::config("keep_alive_seconds = 3\nwrite_timeout_seconds = 4");
    for settings in [Settings::config("keep_alive_seconds = 1"), longer] {
        World::run(Database::Sqlite, &settings, async |world| {
            let mut raw = Raw::connect(&world.base);
            raw.send(b"GET /nowhere HTTP/1.1\r\nhost: test\r\n\r\n");
            assert_problem(&raw.answer(), 404, "route_not_found");
            assert!(raw.ends_within(Duration::from_secs(20)));
        });
    }
    World::run(Database::Sqlite, &Settings::config("keep_alive_seconds = 1"), async |world| {
        let mut never_used = Raw::connect(&world.base);
        assert_eq!(never_used.answer(), "", "nothing was asked, and nothing is answered");
    });
}

#[apply(on_both_databases)]
async fn head_is_answered_wherever_get_is(world: &World) {
    let description = world.stranger().get("/openapi.json").await.ok();
    let documented = description["paths"].as_object().unwrap().iter().filter(|(_, item)| item["get"].is_object());
    let documented = documented.map(|(path, _)| path.replace("{tenant_id}", "acme"));
    let pages =
        ["/", "/l", "/l/page.js", "/problems", "/docs/", "/docs/swagger-ui.css", "/docs", "/openapi.json", "/nowhere"];
    // Whoever reads documentation by program finds all of it.
    let index = world.stranger().get("/llms.txt").await;
    assert!(index.header("content-type").starts_with("text/plain"), "{index:?}");
    let links: Vec<&str> = index.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert!(links.len() >= 8 && links.contains(&"/integrators.md"), "{links:?}");
    for link in links {
        assert_eq!(world.stranger().get(link).await.status, 200, "{link}");
    }
    assert_eq!(world.stranger().get("/openapi-3.0.json").await.ok()["openapi"], "3.0.3");
    for path in documented.chain(pages.map(str::to_owned)) {
        let get = world.admin.get(&path).await;
        let head = world.admin.send(world.admin.request(Method::HEAD, &path)).await;
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        // What is recorded meanwhile makes lists longer.
        if !path.starts_with("/v1/") && get.status.is_success() {
            assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
        }
    }
    let reply = world.admin.send(world.admin.request(Method::HEAD, "/v1/introspect")).await;
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, "POST"));
}

#[apply(on_both_databases)]
async fn pages_for_people_are_found_and_guarded(world: &World) {
    let stranger = world.stranger();
    let start = stranger.get("/").await;
    assert!(start.status.is_success() && start.header("content-type").starts_with("text/html"), "{start:?}");
    for way in ["\"/l\"", "\"/docs/\"", "\"/problems\""] {
        assert!(start.text.contains(way), "{way}");
    }
    let docs = stranger.get("/docs/").await;
    assert_eq!(docs.header("content-encoding"), "", "nobody said that they can decompress");
    assert!(docs.text.to_lowercase().starts_with("<!doctype html>") || docs.text.contains("<html"), "{}", docs.text);
    assert!(docs.header("content-security-policy").contains("default-src 'none'"));
    let request = stranger.request(Method::GET, "/docs/swagger-ui.css").header("accept-encoding", "br, gzip;q=0.8");
    let packed = stranger.try_send(request).await;
    // The body is no text then, and the answer is read as one.
    assert!(packed.is_err() || packed.is_ok_and(|reply| reply.header("content-encoding") == "gzip"));
    let request = stranger.request(Method::GET, "/docs/swagger-ui.css").header("accept-encoding", "gzip;q=0");
    let plain = stranger.send(request).await;
    assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"));
    assert!(plain.text.contains(".swagger-ui"));
    assert!(stranger.get("/docs/swagger-initializer.js").await.text.contains("\"persistAuthorization\": true"));
}

#[apply(on_both_databases)]
async fn no_problem_shows_a_token_or_a_long_path(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let (token, key) = (world.token(&link, 1).await, world.admin.key().to_owned());
    for path in [
        format!("/l/x/{token}"),
        format!("/v1/magic-links/{token}"),
        format!("/v1/magic-links/{token}/revoke"),
        format!("/v1/sessions/x%23{token}"),
        format!("/v1/clients/{key}/rotate"),
        format!("/{}", "a/".repeat(400)),
    ] {
        for method in [Method::GET, Method::POST] {
            let reply = world.admin.send(world.admin.request(method, &path)).await;
            if reply.status == 200 {
                // Whoever opens a path with a token gets the page that takes it.
                assert!(path.starts_with("/l/") && !reply.text.contains(&token), "{reply:?}");
                continue;
            }
            let instance = reply.body["instance"].as_str().unwrap();
            assert!(reply.status.is_client_error() && instance.len() <= 200, "{reply:?}");
            assert!(!reply.text.contains(&token) && !reply.text.contains(&key), "{reply:?}");
        }
    }
}

#[apply(on_both_databases)]
async fn a_byte_order_mark_and_the_identity_coding_change_nothing(world: &World) {
    let body = format!("\u{feff}{}", json!({ "token": "x" }));
    let send = async |name: &str, value: &str, body: &str| {
        let stranger = world.stranger();
        let request = stranger.request(Method::POST, "/l/preview").header("content-type", "application/json");
        stranger.send(request.header(name, value).body(body.to_owned())).await
    };
    send("accept", "*/*", &body).await.refused(400, "token_invalid");
    send("accept", "*/*", &format!("\u{feff}{body}")).await.refused(400, "invalid_body");
    for coding in ["identity", "Identity", "identity, identity", ""] {
        send("content-encoding", coding, &body).await.refused(400, "token_invalid");
    }
    for coding in ["gzip", "identity, gzip", "br", "x"] {
        send("content-encoding", coding, &body).await.refused(415, "unsupported_media_type");
    }
}

#[test]
fn strangers_write_few_lines_into_the_log_and_no_errors() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let log = tempfile::NamedTempFile::new().unwrap();
        let settings = [("MAGIC_LINK_LOG__LEVEL", "info")];
        let process = Process::start_with(world, &settings, Stdio::from(File::create(log.path()).unwrap()));
        let (stranger, admin) = (world.stranger().at(&process.base), world.admin.at(&process.base));
        for number in 0..150 {
            stranger.get("/v1/magic-links").await.refused(401, "unauthenticated");
            stranger.get(&format!("/nowhere/{number}")).await.refused(404, "route_not_found");
            stranger.get("/docs").await;
            let mut raw = Raw::connect(&process.base);
            raw.send(b"NONSENSE\r\n\r\n");
            assert_problem(&raw.answer(), 400, "invalid_request");
            admin.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await.refused(404, "not_found");
        }
        process.ask_to_stop();
        assert!(process.stopped().await.success());
        let log = std::fs::read_to_string(log.path()).unwrap();
        assert!(!log.contains("ERROR"), "{log}");
        let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        assert_eq!(lines("\"http.status\":404") - lines("unmatched"), 150, "what a client was refused is all there");
        let refused = lines("\"http.status\":401") + lines("unmatched") + lines("no request");
        assert!((1..=180).contains(&refused), "{refused} of 450");
    });
}

#[test]
fn a_copy_that_is_told_to_stop_is_not_ready_before_it_stops_listening() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let settings = [("MAGIC_LINK_SHUTDOWN_DELAY_SECONDS", "3")];
        let process = Process::start_with(world, &settings, Stdio::inherit());
        let stranger = world.stranger().at(&process.base);
        stranger.get("/readyz").await.ok();
        process.ask_to_stop();
        eventually("it says that it is not ready", async || {
            let ready = stranger.get("/readyz").await;
            (ready.status == 503).then(|| {
                ready.refused(503, "unavailable");
                assert!(ready.body["detail"].as_str().unwrap().starts_with("stopping"), "{ready:?}");
            })
        })
        .await;
        // It serves as before.
        stranger.get("/healthz").await.ok();
        world.admin.at(&process.base).get("/v1/magic-links").await.ok();
        assert!(process.stopped().await.success());
    });
}

#[apply(on_both_databases)]
async fn a_host_that_is_no_address_is_refused(world: &World) {
    for host in ["a b", "a/b", "user@host", "a?b", "a\\b", "<a>"] {
        let mut raw = Raw::connect(&world.base);
        raw.send(format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        assert_problem(&raw.answer(), 400, "invalid_request");
    }
    let answer = world.stranger().get("/.well-known/jwks.json").await;
    assert_eq!(answer.status, 200);
    let any = world.stranger();
    let any = any.send(any.request(Method::GET, "/.well-known/jwks.json").header("if-none-match", "*")).await;
    assert_eq!(any.status, 304);
}
