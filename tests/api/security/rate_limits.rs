//! Who comes too often is told so, and how long to wait.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Process, Reply, Settings, World, apply, eventually, on_both_databases};

#[track_caller]
fn too_often(reply: &Reply, policy: &str) {
    reply.refused(429, "rate_limited");
    let wait: u32 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=61).contains(&wait), "{wait}");
    assert_eq!(reply.header("ratelimit-policy"), policy);
    assert!(reply.header("ratelimit").ends_with(&format!(";r=0;t={wait}")), "{}", reply.header("ratelimit"));
}

#[apply(on_both_databases)]
#[settings(Settings::config("limits.client_per_minute = 20"))]
async fn a_client_that_calls_too_often_waits_and_no_other_does(world: &World) {
    let (busy, calm) = (world.portal("cloud", "acme").await, world.portal("cloud", "acme").await);
    let session = world.open_session(&calm).await;
    let token = session["access_token"].as_str().unwrap();
    for number in 0..20 {
        let reply = busy.form("/v1/introspect", &[("token", token)]).await;
        assert_eq!(reply.status, 200, "call {number}");
    }
    too_often(&busy.form("/v1/introspect", &[("token", token)]).await, "\"client\";q=20;w=60");
    too_often(&busy.get("/v1/magic-links").await, "\"client\";q=20;w=60");
    assert!(calm.is_active(token).await);
    // A wrong key does not count against the client that it names.
    let (front, _) = calm.key().rsplit_once('_').unwrap();
    let wrong = format!("{front}_{}", "x".repeat(43));
    for _ in 0..30 {
        let request = world.stranger().request(Method::GET, "/v1/magic-links").bearer_auth(&wrong);
        world.stranger().send(request).await.refused(401, "unauthenticated");
    }
    assert!(calm.is_active(token).await);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn strangers_are_counted_by_where_they_come_from(world: &World) {
    let limits = [
        ("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "3"),
        ("MAGIC_LINK_LIMITS__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
    ];
    let process = Process::start_with(world, &limits, std::process::Stdio::inherit());
    let stranger = world.stranger().at(&process.base);
    let from = async |said: &str| {
        let request = stranger.request(Method::POST, "/l/preview").json(&json!({ "token": "x" }));
        stranger.send(request.header("x-forwarded-for", said)).await
    };
    for _ in 0..3 {
        from("198.51.100.7").await.refused(400, "token_invalid");
    }
    too_often(&from("198.51.100.7").await, "\"public\";q=3;w=60");
    // Another name for itself helps nobody: it stands left of what the proxy has seen.
    too_often(&from("203.0.113.9, 198.51.100.7, 10.0.0.1").await, "\"public\";q=3;w=60");
    from("198.51.100.8").await.refused(400, "token_invalid");
    for host in ["2001:db8::1", "2001:db8::2", "2001:db8::3"] {
        from(host).await.refused(400, "token_invalid");
    }
    too_often(&from("2001:db8::4").await, "\"public\";q=3;w=60");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn proxies_name_callers_in_the_header_that_is_configured(world: &World) {
    for (header, ignored, forms) in [
        ("X-Forwarded-For", "forwarded", ["198.51.100.7:51234", "\"198.51.100.7\"", "[::ffff:198.51.100.7]:443"]),
        (
            "forwarded",
            "x-forwarded-for",
            [
                "for=198.51.100.7",
                "for=192.0.2.1, For=\"198.51.100.7:4711\";proto=https",
                "proto=https;for=\"[::ffff:198.51.100.7]\", for=10.0.0.9",
            ],
        ),
    ] {
        let settings = [
            ("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "3"),
            ("MAGIC_LINK_LIMITS__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8"),
            ("MAGIC_LINK_LIMITS__TRUSTED_HEADER", header),
        ];
        let process = Process::start_with(world, &settings, std::process::Stdio::inherit());
        let stranger = world.stranger().at(&process.base);
        let from = async |name: &str, said: &str| {
            let request = stranger.request(Method::POST, "/l/preview").json(&json!({ "token": "x" }));
            stranger.send(request.header(name, said)).await
        };
        for form in forms {
            from(header, form).await.refused(400, "token_invalid");
        }
        too_often(&from(header, forms[0]).await, "\"public\";q=3;w=60");
        // One who is locked out does not lock out the others, whatever the other header says.
        let other = forms[0].replace('7', "8");
        let request = stranger.request(Method::POST, "/l/preview").json(&json!({ "token": "x" }));
        let reply = stranger.send(request.header(ignored, forms[0]).header(header, other)).await;
        reply.refused(400, "token_invalid");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_header_from_a_peer_that_is_not_trusted_is_worth_one_warning(world: &World) {
    // Of a client the address is on record.
    for (caller, method, path, status, code) in [
        (world.stranger(), Method::POST, "/l/preview", 400, json!("token_invalid")),
        (world.admin.clone(), Method::GET, "/v1/keys", 200, json!(null)),
    ] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let file = std::fs::File::create(log.path()).unwrap();
        let process = Process::start_with(world, &[], std::process::Stdio::from(file));
        let caller = caller.at(&process.base);
        for _ in 0..5 {
            let request = caller.request(method.clone(), path).json(&json!({ "token": "x" }));
            let reply = caller.send(request.header("x-forwarded-for", "198.51.100.7")).await;
            assert_eq!((reply.status.as_u16(), &reply.body["code"]), (status, &code), "{reply:?}");
        }
        process.ask_to_stop();
        assert!(process.stopped().await.success());
        let log = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(log.matches("limits.trusted_proxies").count(), 1, "{path}: {log}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn of_many_equal_refusals_sixty_a_minute_are_events_and_the_rest_is_counted(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let spent = world.click(&world.token(&link, 1).await).await;
    portal.redeem(&spent).await.ok();
    for _ in 0..75 {
        portal.get("/v1/clients").await.refused(403, "insufficient_scope");
        portal.redeem(&spent).await.refused(410, "link_spent");
    }
    // Another reason is not an equal one.
    portal.get("/v1/keys").await.refused(403, "insufficient_scope");
    world.clock.advance(Duration::minutes(2));
    for (log, kind, route) in [("_system", "access.refused", "/v1/clients"), ("acme", "magic_link.refused", "")] {
        let of_route = |event: &Value| event["data"]["route"].as_str().unwrap_or_default() == route;
        let events = eventually("what was left out is counted", async || {
            let mut events = world.admin.events(&format!("&tenant_id={log}&type={kind}")).await;
            events.retain(of_route);
            events.last().is_some_and(|last| last["data"]["count"].is_number()).then_some(events)
        })
        .await;
        assert_eq!((events.len(), &events[60]["data"]["count"]), (61, &json!(15)), "{kind}");
        assert_eq!(events[60]["client_id"], portal.client_id, "{kind}");
    }
    let other = world.admin.events("&tenant_id=_system&type=access.refused").await;
    assert_eq!(other.iter().filter(|event| event["data"]["route"] == "/v1/keys").count(), 1);
}
