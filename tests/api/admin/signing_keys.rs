//! The life of a signing key: rotate, retire, drop, and who knows of it when.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, command, on_both_databases, rounds};

/// The key that signed a token.
fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

/// The key that signs.
async fn active_kid(admin: &Api) -> String {
    let keys = admin.get("/v1/keys").await.ok();
    let active = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").expect("an active key");
    active["kid"].as_str().unwrap().to_owned()
}

/// The key of another copy's command line.
fn cli(world: &World, arguments: &[&str]) -> Value {
    let output = command(world).args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn states(admin: &Api) -> Vec<String> {
    let keys = admin.get("/v1/keys").await.ok();
    let items = keys["items"].as_array().unwrap().iter();
    items.map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

const WHY: &str = "A backup with the master key was lost";

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn live_links_and_sessions_survive_a_rotation(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let old = kid_of(access);
    // Another copy publishes the key: this one knows on its next request.
    let fresh = cli(world, &["key", "rotate", "--now"]);
    assert_eq!(fresh["state"], "published");
    assert!(portal.is_active(access).await);
    world.clock.advance(Duration::minutes(2));
    assert_eq!(states(&world.admin).await, ["active", "retiring"]);
    let next = world.open_session(&portal).await;
    assert_eq!(kid_of(next["access_token"].as_str().unwrap()), fresh["kid"].as_str().unwrap());
    assert_ne!(old, fresh["kid"].as_str().unwrap());
    assert!(portal.is_active(access).await);
    assert_eq!(kid_of(&token), old);
    let session = portal.redeem(&world.click(&token).await).await.ok();
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
}

#[apply(on_both_databases)]
async fn a_revoked_key_takes_with_it_what_it_signed(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let link = portal.issue(&consultant).await;
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let old = kid_of(access);
    assert!(portal.is_active(access).await);

    // It is another copy that drops it.
    let revoked = cli(world, &["key", "drop", &old, "--reason", WHY]);
    let fresh = revoked["replaced_by"].as_str().expect("no other key could sign").to_owned();
    assert_eq!(revoked["state"], "expired");
    assert_eq!((&revoked["revoked_links"], &revoked["ended_sessions"]), (&json!(1), &json!(1)));

    assert_eq!(portal.form("/v1/introspect", &[("token", access)]).await.text, "{\"active\":false}");
    world.stranger().post("/l/preview", &json!({ "token": token })).await.refused(410, "signing_key_revoked");
    portal.redeem(&code).await.refused(410, "signing_key_revoked");
    let set = world.stranger().get("/.well-known/jwks.json").await.ok();
    let kids: Vec<&Value> = set["keys"].as_array().unwrap().iter().map(|key| &key["kid"]).collect();
    assert_eq!(kids, [&fresh]);
    let seen = portal.get(&format!("/v1/magic-links/{link}")).await.ok();
    assert_eq!(seen["state"], "revoked");
    assert_eq!(seen["revoke_reason"], "the signing key was revoked", "why is for operators");
    let ended = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("revoked")));

    let trail = world.admin.events("&tenant_id=_system&type=key.revoked").await;
    assert_eq!(trail.len(), 1);
    assert_eq!((&trail[0]["data"]["kid"], &trail[0]["data"]["reason"]), (&json!(old), &json!(WHY)));
    assert_eq!(portal.event_types("&type=session.ended").await.len(), 1);
    assert_eq!(portal.event_types("&type=magic_link.revoked").await.len(), 1);
    // Again changes nothing, and life goes on with the new key.
    let path = format!("/v1/keys/{old}/revoke");
    let again = world.admin.post(&path, &json!({ "reason": WHY })).await.ok();
    assert_eq!((&again["state"], &again["revoked_links"]), (&json!("expired"), &json!(1)));
    assert_eq!(world.admin.events("&tenant_id=_system&type=key.revoked").await.len(), 1);
    let next = world.open_session(&portal).await;
    assert_eq!(kid_of(next["access_token"].as_str().unwrap()), fresh);
    assert!(portal.is_active(next["access_token"].as_str().unwrap()).await);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_last_key_that_can_sign_is_not_retired(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let old = active_kid(&world.admin).await;
    let retire = format!("/v1/keys/{old}/retire");
    world.admin.post(&retire, &json!({})).await.refused(409, "last_signing_key");
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    // Published is not enough.
    world.admin.post(&retire, &json!({})).await.refused(409, "last_signing_key");
    world.clock.advance(Duration::minutes(2));
    let retired = world.admin.post(&retire, &json!({})).await.ok();
    assert_eq!(retired["state"], "retiring");
    assert_eq!(world.admin.post(&retire, &json!({})).await.ok(), retired);
    assert_eq!(world.admin.events("&tenant_id=_system&type=key.retired").await.len(), 1);
    assert!(portal.is_active(access).await, "what it signed counts on");
    assert_ne!(kid_of(world.open_session(&portal).await["access_token"].as_str().unwrap()), old);
    // In the end it is gone by itself.
    world.clock.advance(Duration::weeks(9));
    assert_eq!(states(&world.admin).await, ["active", "expired"]);
}

#[apply(on_both_databases)]
async fn a_rotation_can_be_repeated_safely(world: &World) {
    let first = world.admin.post_once("/v1/keys/rotate", "once", &json!({})).await;
    let again = world.admin.post_once("/v1/keys/rotate", "once", &json!({})).await;
    assert_eq!((first.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(first.body["kid"], again.body["kid"]);
    assert_eq!(states(&world.admin).await, ["published", "active"]);
    let bound = world.client(None, &["acme"], &["admin"]).await;
    bound.get("/v1/keys").await.refused(403, "client_not_permitted");
    bound.post("/v1/keys/rotate", &json!({})).await.refused(403, "client_not_permitted");
    world.admin.post("/v1/keys/nobody/revoke", &json!({ "reason": WHY })).await.refused(404, "not_found");
    world.admin.post("/v1/keys/nobody/retire", &json!({})).await.refused(404, "not_found");
    // One name of 64 begins with a dash, and is no option for that.
    let unknown = command(world).args(["key", "retire", "-5nobody"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
}

#[apply(on_both_databases)]
async fn no_token_of_a_revoked_key_is_active_whoever_was_at_it(world: &World) {
    let portal = world.portal("cloud", "acme").await.patient();
    let consultant = world.consultant().await;
    for round in 0..rounds(4) {
        let mut codes = Vec::new();
        for _ in 0..6 {
            let link = portal.issue(&consultant).await;
            codes.push(world.click(&world.token(&link, 1).await).await);
        }
        let old = active_kid(&world.admin).await;
        let path = format!("/v1/keys/{old}/revoke");
        let redeemers = join_all(codes.iter().map(|code| portal.redeem(code)));
        let reason = json!({ "reason": WHY });
        let (redeemed, revoked) = join(redeemers, world.admin.post(&path, &reason)).await;
        revoked.ok();
        for reply in &redeemed {
            match reply.status.as_u16() {
                201 => {
                    let token = reply.body["access_token"].as_str().unwrap();
                    let active = portal.is_active(token).await;
                    assert!(!active || kid_of(token) != old, "round {round}");
                }
                _ if reply.body["code"] == "signing_key_revoked" => {}
                _ => reply.refused(410, "link_revoked"),
            }
        }
    }
}

#[apply(on_both_databases)]
async fn libraries_find_the_keys_by_themselves(world: &World) {
    let stranger = world.stranger();
    let first = stranger.get("/.well-known/openid-configuration").await;
    assert_eq!(first.header("cache-control"), "public, max-age=3600");
    let tag = first.header("etag").to_owned();
    let document = first.ok();
    assert_eq!(document, stranger.get("/.well-known/oauth-authorization-server").await.ok());
    assert_eq!(document["issuer"], "http://127.0.0.1:8080");
    let address = |name: &str| document[name].as_str().unwrap().strip_prefix("http://127.0.0.1:8080").unwrap();
    let set = stranger.get(address("jwks_uri")).await;
    assert_eq!(set.header("cache-control"), "public, max-age=300");
    assert_eq!(set.ok()["keys"][0]["alg"], "ES256");
    let portal = world.portal("cloud", "acme").await;
    for name in ["introspection_endpoint", "revocation_endpoint"] {
        assert_eq!(portal.form(address(name), &[("token", "x")]).await.status, 200, "{name}");
    }
    let again = stranger.request(Method::GET, "/.well-known/openid-configuration").header("if-none-match", tag);
    assert_eq!(stranger.send(again).await.status, 304);
}
