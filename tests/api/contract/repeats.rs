//! A repeat with the same Idempotency-Key: what is the same request, and what is asked of a repeat.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Reply, Settings, World, apply, command, on_both_databases};

const LINKS: &str = "/v1/magic-links";

async fn post_text(caller: &Api, path: &str, key: &str, text: String) -> Reply {
    let request = caller.request(Method::POST, path).header("content-type", "application/json");
    caller.send(request.header("idempotency-key", key).body(text)).await
}

#[track_caller]
fn repeats(reply: Reply, first: &Value) {
    assert_eq!(reply.header("idempotency-replayed"), "true", "{reply:?}");
    assert_eq!(reply.ok()["id"], first["id"]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn one_request_is_the_same_however_it_is_spelled(world: &World) {
    let consultant = world.consultant().await;
    let starts = world.clock.now().plus(Duration::hours(2)).to_string();
    let mut request = Api::issue_request(&consultant);
    request["starts_at"] = json!(starts);
    let first = world.admin.post_once(LINKS, "one", &request).await.ok();

    let mut without = request.clone();
    without.as_object_mut().unwrap().remove("access");
    repeats(world.admin.post_once(LINKS, "one", &without).await, &first);
    let mut nulls = without.clone();
    nulls["access"] = Value::Null;
    nulls["requested_by"] = Value::Null;
    nulls["profile"]["email"] = Value::Null;
    repeats(world.admin.post_once(LINKS, "one", &nulls).await, &first);
    let mut offset = request.clone();
    offset["starts_at"] = json!(starts.replace('Z', "+00:00"));
    offset["duration"]["value"] = json!(4.0);
    repeats(world.admin.post_once(LINKS, "one", &offset).await, &first);
    // Members in another order, with other white space and escapes.
    let members = request.as_object().unwrap().iter().rev().map(|(name, value)| format!("\n\t\"{name}\" : {value}"));
    let text = format!("{{{}\r\n}}", members.collect::<Vec<_>>().join(",")).replace("Payroll", "\\u0050ayroll");
    repeats(post_text(&world.admin, LINKS, "one", text).await, &first);

    for (pointer, value) in
        [("/access", json!("read_only")), ("/reason", json!("Another reason")), ("/ticket", json!("SUP-1"))]
    {
        let mut other = request.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        world.admin.post_once(LINKS, "one", &other).await.refused(422, "idempotency_key_reused");
    }
    let twice = request.to_string().replacen('{', "{\"access\":\"full\",", 1);
    post_text(&world.admin, LINKS, "one", twice).await.refused(400, "invalid_body");
    assert_eq!(world.admin.get(LINKS).await.ok()["items"].as_array().unwrap().len(), 1);

    // The parameters of the path belong to the request.
    let hold = json!({ "reason": "Labour court, case 2026-118" });
    world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await.ok();
    world
        .admin
        .post_once("/v1/audit-log/globex/legal-holds", "hold", &hold)
        .await
        .refused(422, "idempotency_key_reused");
    // An empty body has every default.
    let rotated = world
        .admin
        .send(world.admin.request(Method::POST, "/v1/keys/rotate").header("idempotency-key", "key"))
        .await
        .ok();
    let again = world.admin.post_once("/v1/keys/rotate", "key", &json!({ "at_once": false })).await;
    assert_eq!(again.ok()["kid"], rotated["kid"]);
}

/// Blanks around a text are kept by no call, so they make no other request of it.
#[apply(on_both_databases)]
async fn blanks_around_a_text_change_nothing(world: &World) {
    let consultant = world.consultant().await;
    let person = json!({ "id": "emp-7", "name": "Meera Iyer" });
    let mut issue = Api::issue_request(&consultant);
    issue["ticket"] = json!("SUP-1");
    let link = world.admin.issue(&consultant).await;
    let extend = json!({ "duration": { "value": 1, "unit": "hours" }, "reason": "The payroll run takes longer",
        "extended_by": person });
    issue["profile"]["id"] = json!("emp-9");
    for (path, request, texts) in [
        (LINKS.to_owned(), issue, &["/reason", "/ticket", "/profile/name", "/issued_by/name"][..]),
        (format!("{LINKS}/{link}/extend"), extend, &["/reason", "/extended_by/name"]),
        (
            "/v1/revocations".to_owned(),
            json!({ "tenant_id": "acme", "ticket": "SUP-9", "reason": "The ticket was closed", "requested_by": person }),
            &["/reason", "/ticket", "/requested_by/name"],
        ),
        (
            "/v1/consultants".to_owned(),
            json!({ "name": "Anita Desai", "email": "anita@support.example", "requested_by": person }),
            &["/name", "/requested_by/name"],
        ),
        (
            "/v1/clients".to_owned(),
            json!({ "name": "Portal", "scopes": ["links:read"], "tenants": ["acme"] }),
            &["/name"],
        ),
        (
            "/v1/audit-log/acme/legal-holds".to_owned(),
            json!({ "reason": "Labour court, case 2026-118", "requested_by": person }),
            &["/reason", "/requested_by/name"],
        ),
        (
            "/v1/webhook-endpoints".to_owned(),
            json!({ "url": "https://portal.example/hook", "description": "Production", "format": "caep",
                "audience": "https://portal.example" }),
            &["/description", "/audience"],
        ),
    ] {
        let first = world.admin.post_once(&path, "one", &request).await.ok();
        let mut blanks = request.clone();
        for text in texts {
            let text = blanks.pointer_mut(text).unwrap();
            *text = json!(format!("\u{200b} {}\u{a0} ", text.as_str().unwrap()));
        }
        assert_eq!(world.admin.post_once(&path, "one", &blanks).await.ok()["id"], first["id"], "{path}");
        // What is stored is the text without them.
        if path != format!("{LINKS}/{link}/extend") && path != "/v1/consultants" {
            if path == LINKS {
                blanks["profile"]["id"] = json!("emp-10");
            }
            let other = world.admin.post_once(&path, "two", &blanks).await.ok();
            for text in texts.iter().filter(|text| first.pointer(text).is_some()) {
                assert_eq!(other.pointer(text), first.pointer(text), "{path} {text}");
            }
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::config("limits.mails_per_client_minute = 2") })]
async fn a_repeat_is_answered_whatever_the_limits_the_freeze_and_the_time(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&consultant);
    request["starts_at"] = json!(world.clock.now().plus(Duration::hours(1)).to_string());
    let first = portal.post_once(LINKS, "one", &request).await.ok();
    for _ in 0..5 {
        repeats(portal.post_once(LINKS, "one", &request).await, &first);
    }
    // Repeats have used nothing up.
    let mut other = request.clone();
    other["profile"]["id"] = json!("emp-9");
    portal.post_once(LINKS, "two", &other).await.ok();
    portal.post_once(LINKS, "three", &other).await.refused(429, "rate_limited");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    assert!(command(world).args(["freeze", "--reason", "Somebody issues links"]).output().unwrap().status.success());
    portal.post_once(LINKS, "four", &request).await.refused(409, "issuing_frozen");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    assert!(command(world).arg("unfreeze").output().unwrap().status.success());
    let until = world.clock.now().plus(Duration::hours(1)).to_string();
    let hold = json!({ "reason": "Labour court, case 2026-118", "until": until });
    let held = world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await.ok();
    world.clock.advance(Duration::hours(3));
    portal.post_once(LINKS, "five", &request).await.refused_field("/starts_at");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    repeats(world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await, &held);
}

#[apply(on_both_databases)]
#[settings(Settings::config("limits.client_per_minute = 6"))]
async fn a_repeat_needs_the_key_the_scope_and_the_clients_own_limit(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&consultant);
    let first = portal.post_once(LINKS, "one", &request).await.ok();
    for _ in 0..5 {
        repeats(portal.post_once(LINKS, "one", &request).await, &first);
    }
    portal.post_once(LINKS, "one", &request).await.refused(429, "rate_limited");
    // Its reach is part of the row: by hand, because no call narrows it.
    let mut sql = crate::support::Sql::of(world);
    let other = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&consultant);
    let link = other.post_once(LINKS, "one", &request).await.ok();
    assert_ne!(link["id"], first["id"]);
    sql.run(&format!("UPDATE clients SET tenants = 'globex' WHERE id = '{}'", other.client_id)).unwrap();
    let beyond = other.post_once(LINKS, "one", &request).await;
    assert!(matches!(beyond.status.as_u16(), 403 | 404), "{beyond:?}");
    sql.run(&format!("UPDATE clients SET tenants = 'acme', scopes = 'links:read' WHERE id = '{}'", other.client_id))
        .unwrap();
    other.post_once(LINKS, "one", &request).await.refused(403, "insufficient_scope");
    sql.run(&format!("UPDATE clients SET disabled_at = created_at WHERE id = '{}'", other.client_id)).unwrap();
    other.post_once(LINKS, "one", &request).await.refused(401, "unauthenticated");
}
