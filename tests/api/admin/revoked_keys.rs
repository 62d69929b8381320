//! What hangs on a signing key, and ends with it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::{Api, Settings, Sql, World, apply, eventually, on_both_databases};

/// More than are ended before the answer.
const MANY: usize = 1_250;

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// A new key that signs at once; returns the one that signed before.
async fn rotate(world: &World) -> String {
    let keys = world.admin.get("/v1/keys").await.ok();
    let old = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::seconds(61));
    old.as_str().unwrap().to_owned()
}

async fn revoke(world: &World, kid: &str) -> Value {
    let reason = json!({ "reason": "A backup with the master key was lost" });
    world.admin.post(&format!("/v1/keys/{kid}/revoke"), &reason).await.ok()
}

async fn state(portal: &Api, link: &str) -> Value {
    portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_ends_with_the_key_of_the_link_token_that_led_to_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let old = rotate(world).await;
    assert_eq!(kid_of(&token), old);
    let session = portal.redeem(&world.click(&token).await).await.ok();
    let access = session["access_token"].as_str().unwrap();
    assert_ne!(kid_of(access), old, "code and access token are of the new key");
    assert!(portal.is_active(access).await);

    let revoked = revoke(world, &old).await;
    assert_eq!((&revoked["revoked_links"], &revoked["ended_sessions"]), (&json!(0), &json!(1)));
    assert!(revoked["done_at"].is_string(), "{revoked}");
    assert!(!portal.is_active(access).await);
    let ended = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("revoked")));
    assert_eq!(portal.event_types("&type=session.ended").await.len(), 1);
    // Of a key that opened nothing, nothing ends.
    let next = world.open_session(&portal).await;
    let unused = rotate(world).await;
    let other = rotate(world).await;
    assert_ne!(unused, other);
    assert_eq!(revoke(world, &other).await["ended_sessions"], 0);
    assert!(portal.is_active(next["access_token"].as_str().unwrap()).await);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_ends_with_the_key_of_its_code(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::seconds(40));
    let code = world.click(&token).await;
    world.clock.advance(Duration::seconds(25));
    let session = portal.redeem(&code).await.ok();
    let access = session["access_token"].as_str().unwrap();
    assert_ne!(kid_of(access), kid_of(&code));
    // As if the link token were of a third key: the code's own must do.
    let mut sql = Sql::of(world);
    sql.run("UPDATE sessions SET link_kid = NULL").unwrap();
    assert_eq!(revoke(world, &kid_of(&code)).await["ended_sessions"], 1);
    assert!(!portal.is_active(access).await);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_link_ends_with_each_key_that_signed_a_token_of_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let link = portal.issue(&world.consultant().await).await;
    let path = format!("/v1/magic-links/{link}");
    eventually("the provider was asked once", async || {
        let seen = portal.get(&path).await.ok();
        (seen["delivery"]["attempts"] == 1 && seen["delivery"]["state"] == "queued").then_some(())
    })
    .await;
    let old = rotate(world).await;
    world.mails.behave();
    world.clock.advance(Duration::minutes(5));
    let token = world.token(&link, 2).await;
    assert_ne!(kid_of(&token), old, "the next attempt has the next key");
    // The provider may have kept the first mail all the same.
    let revoked = revoke(world, &old).await;
    assert_eq!((&revoked["revoked_links"], &revoked["ended_sessions"]), (&json!(1), &json!(0)));
    assert_eq!(state(&portal, &link).await, "revoked");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_repeated_opening_is_signed_as_before_and_ends_with_the_key(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let code = world.click(&world.token(&link, 1).await).await;
    let open = json!({ "token": code });
    let first = portal.post_once("/v1/sessions", "once", &open).await.ok();
    let old = rotate(world).await;
    let again = portal.post_once("/v1/sessions", "once", &open).await.ok();
    let access = again["access_token"].as_str().unwrap();
    assert_eq!(kid_of(access), kid_of(first["access_token"].as_str().unwrap()));
    assert!(portal.is_active(access).await);
    assert_eq!(revoke(world, &old).await["ended_sessions"], 1);
    assert!(!portal.is_active(access).await);
    portal.post_once("/v1/sessions", "once", &open).await.refused(410, "signing_key_revoked");

    // The key of the link token alone, and the end of the session is not on record yet.
    let token = world.token(&portal.issue(&world.consultant().await).await, 1).await;
    let first = rotate(world).await;
    let open = json!({ "token": world.click(&token).await });
    portal.post_once("/v1/sessions", "twice", &open).await.ok();
    Sql::of(world).run(&format!("UPDATE signing_keys SET revoked_at = created_at WHERE kid = '{first}'")).unwrap();
    portal.post_once("/v1/sessions", "twice", &open).await.refused(410, "session_ended");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn much_that_hangs_on_a_key_is_ended_in_ranges_and_refused_at_once(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let kid = rotate(world).await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    assert_ne!(kid_of(access), kid);
    let consultant = world.consultant().await;
    let (numbers, id) = Sql::numbers(world.database, MANY);
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access,
            starts_at, expires_at, issued_by_id, issued_by_name, created_at, generation)
         SELECT 'mlk_' || {id}, 'acme', 'cloud', '{consultant}', 'emp-1042', 'Asha Rao', 'Planted by a test',
            'full', '2026-01-01 00:00:00.000000', '2099-01-01 00:00:00.000000', 'emp-7', 'Meera Iyer',
            '2026-01-01 00:00:00.000000', 1 FROM ({numbers}) numbers;
         INSERT INTO link_keys (kid, magic_link_id, generation)
         SELECT '{kid}', 'mlk_' || {id}, 1 FROM ({numbers}) numbers"
    ))
    .unwrap();
    // The session hangs on it only by what opened it.
    sql.run(&format!("UPDATE sessions SET link_kid = '{kid}', code_kid = '{kid}'")).unwrap();
    sql.note_appends();
    let first = revoke(world, &kid).await;
    assert!(first["revoked_links"].as_u64().unwrap() >= 100, "{first}");
    assert!(!portal.is_active(access).await);
    // A repeat says how far it is.
    let done = eventually("everything is ended", async || {
        let seen = revoke(world, &kid).await;
        seen["done_at"].is_string().then_some(seen)
    })
    .await;
    assert_eq!((&done["revoked_links"], &done["ended_sessions"]), (&json!(MANY), &json!(1)));
    assert_eq!(sql.count("FROM magic_links WHERE revoked_at IS NOT NULL"), MANY);
    let recorded = sql.count("FROM audit_events WHERE event_type = 'magic_link.revoked'");
    assert_eq!(recorded, MANY);
    assert_eq!(sql.largest_append("acme"), 100, "a range at a time");
}

#[apply(on_both_databases)]
async fn what_hangs_on_a_revoked_key_is_inactive_before_its_end_is_recorded(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    for column in ["link_kid", "code_kid"] {
        let session = world.open_session(&portal).await;
        let (id, access) = (session["id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
        let mut sql = Sql::of(world);
        sql.run(&format!("UPDATE sessions SET {column} = 'key of {column}' WHERE id = '{id}'")).unwrap();
        assert!(portal.is_active(access).await);
        // The revocation of another copy that died right after its commit.
        sql.run(&format!(
            "INSERT INTO key_revocations (kid, reason, actor_type, actor_id, created_at, links, sessions)
             VALUES ('key of {column}', 'Lost', 'system', 'test', '2026-11-22 10:00:00.000000', 0, 0)"
        ))
        .unwrap();
        assert!(!portal.is_active(access).await, "{column}");
        let path = format!("/v1/sessions/{id}");
        eventually("a worker records its end", async || {
            (portal.get(&path).await.ok()["state"] == "ended").then_some(())
        })
        .await;
    }
}
