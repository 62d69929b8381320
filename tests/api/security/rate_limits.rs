//! Who comes too often is told so, and how long to wait.

use reqwest::Method;
use serde_json::json;

use crate::support::{Process, Reply, Settings, World, apply, on_both_databases};

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
