//! A clock that was ahead for a while, and was set right: what was granted then lasts no longer than was granted, and what
//! was taken away stays so.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, SecondCopy, Settings, Sql, World, apply, command, eventually, on_both_databases};

const LEAD: Duration = Duration::days(30);

/// The machine of the command line is ahead of the service's.
fn behind() -> Settings {
    Settings { clock_behind: LEAD, ..Settings::manual_clock() }
}

async fn cli(world: &World, arguments: &[&str]) -> Value {
    let mut command = command(world);
    command.args(arguments).arg("--json");
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn is_issued(portal: &Api, consultant: &str) {
    let request = Api::issue_request(consultant);
    eventually("a link is issued", async || {
        let reply = portal.clone().impatient().post_once("/v1/magic-links", "fresh", &request).await;
        (reply.status == 201).then_some(())
    })
    .await;
}

async fn state_of(portal: &Api, link: &str) -> Value {
    portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone()
}

#[apply(on_both_databases)]
#[settings(behind())]
async fn a_key_that_was_revoked_then_stays_revoked(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let unspent = portal.issue(&consultant).await;
    world.token(&unspent, 1).await;
    let keys = world.admin.get("/v1/keys").await.ok();
    let kid = keys["items"][0]["kid"].as_str().unwrap().to_owned();
    let order = ["key", "revoke", &kid, "--reason", "A laptop was stolen"];
    let revoked = cli(world, &order).await;

    // Again, by either clock: a repeat.
    assert_eq!(cli(world, &order).await["replaced_by"], revoked["replaced_by"]);
    let path = format!("/v1/keys/{kid}/revoke");
    let again = world.admin.post(&path, &json!({ "reason": "A laptop was stolen" })).await.ok();
    assert_eq!((&again["state"], &again["replaced_by"]), (&json!("expired"), &revoked["replaced_by"]));
    assert_eq!(world.admin.events("&tenant_id=_system&type=key.revoked").await.len(), 1);
    assert!(!portal.is_active(access).await);

    let copy = SecondCopy::start(world, world.clock.clone());
    for admin in [&world.admin, &world.admin.at(&copy.base)] {
        let page = admin.stranger();
        eventually("it is ready", async || (page.get("/readyz").await.status == 200).then_some(())).await;
        let keys = admin.get("/v1/keys").await.ok();
        let old = keys["items"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str()).unwrap();
        assert_eq!(old["state"], "expired");
        let set = admin.stranger().get("/.well-known/jwks.json").await.ok();
        assert!(set["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid.as_str()), "{set}");
    }
    // What hung on it was over by that clock, and is not.
    eventually("the link ends", async || (state_of(&portal, &unspent).await == "revoked").then_some(())).await;
    is_issued(&portal, &consultant).await;
    let next = world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::minutes(2));
    let session = world.open_session(&portal).await;
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
    let keys = world.admin.get("/v1/keys").await.ok();
    assert_eq!((&keys["items"][0]["kid"], &keys["items"][0]["state"]), (&next["kid"], &json!("active")), "{keys}");
}

#[apply(on_both_databases)]
#[settings(behind())]
async fn what_was_revoked_then_because_it_seemed_over_is_revoked(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let unspent = portal.issue(&world.consultant().await).await;
    let order = cli(world, &["link", "revoke-all", "--everything", "--reason", "Somebody broke in"]).await;
    eventually("the link ends", async || (state_of(&portal, &unspent).await == "revoked").then_some(())).await;
    assert!(!portal.is_active(access).await);
    let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
    let done = eventually("it is done", async || {
        let order = world.admin.get(&path).await.ok();
        (order["state"] == "done").then_some(order)
    })
    .await;
    assert_eq!((&done["links"], &done["sessions"]), (&json!(2), &json!(1)), "{done}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_was_granted_then_lasts_no_longer_than_was_granted(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let client = world.client(None, &["*"], &["links:read"]).await;
    world.clock.advance(LEAD);
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let [unspent, unwanted] = [portal.issue(&consultant).await, portal.issue(&consultant).await];
    let token = json!({ "token": world.token(&unspent, 1).await });
    let rotate = format!("/v1/clients/{}/rotate", client.client_id);
    let rotated = world.admin.post(&rotate, &json!({ "overlap_seconds": 60 })).await.ok();
    let rotated = Api::new(&world.base, Some(rotated["key"].as_str().unwrap()));
    assert!(portal.is_active(access).await);
    client.get("/v1/magic-links").await.ok();

    world.clock.advance(-LEAD);
    let copy = SecondCopy::start(world, world.clock.clone());
    for base in [&world.base, &copy.base] {
        let portal = &portal.at(base);
        assert!(!portal.is_active(access).await);
        let page = portal.stranger();
        assert_eq!(page.post("/l/preview", &token).await.ok()["state"], "not_yet");
        page.post("/l/continue", &token).await.refused(409, "link_not_yet_valid");
        assert_eq!(state_of(portal, &unspent).await, "scheduled");
        client.at(base).get("/v1/magic-links").await.refused(401, "unauthenticated");
        rotated.at(base).get("/v1/magic-links").await.ok();
    }
    for (state, count) in [("active", 0), ("ended", 1)] {
        let listed = portal.get(&format!("/v1/sessions?state={state}")).await.ok();
        assert_eq!(listed["items"].as_array().unwrap().len(), count, "{listed}");
    }
    // It ends before it has begun, and a key is followed by the next one.
    let revoke = format!("/v1/magic-links/{unwanted}/revoke");
    assert_eq!(portal.post(&revoke, &json!({ "reason": "Not needed" })).await.ok()["state"], "revoked");
    world.admin.post(&rotate, &json!({ "overlap_seconds": 60 })).await.ok();
    rotated.get("/v1/magic-links").await.ok();

    // When that time has come, it is what was granted.
    world.clock.advance(LEAD);
    assert!(portal.is_active(access).await);
    assert_eq!(state_of(&portal, &unspent).await, "active");
    world.clock.advance(Duration::hours(4));
    assert!(!portal.is_active(access).await);
    assert_eq!(state_of(&portal, &unspent).await, "expired");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_code_of_then_opens_nothing(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": 2, "unit": "weeks" });
    let link = portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let token = world.token(&link, 1).await;
    world.clock.advance(Duration::hours(20));
    let code = world.click(&token).await;
    world.clock.advance(-Duration::hours(20));
    portal.redeem(&code).await.refused(410, "token_expired");
    portal.redeem(&world.click(&token).await).await.ok();
}

#[apply(on_both_databases)]
async fn the_key_of_the_logs_that_was_made_last_is_the_newest(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let first = cli(world, &["audit", "rotate-key"]).await;
    Sql::of(world).run("UPDATE audit_keys SET created_at = '2099-01-01 00:00:00.000000' WHERE id LIKE '%-%'").unwrap();
    let second = cli(world, &["audit", "rotate-key"]).await;
    assert_ne!(second["public_key"], first["public_key"]);
    assert_eq!(second["logs"], 2, "{second}");
    assert_eq!(world.admin.events("&tenant_id=acme&type=log.key_changed").await.len(), 2);
}
