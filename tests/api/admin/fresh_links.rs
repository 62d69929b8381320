//! When a signing key is revoked: what those are told who still have a link of it, and who gets a fresh one.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, command, eventually, on_both_databases};

fn kid_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
async fn a_link_of_a_revoked_key_is_told_apart_from_what_was_never_ours(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    let revoke = format!("/v1/keys/{}/revoke", kid_of(&token));
    world.admin.post(&revoke, &json!({ "reason": "A backup was lost" })).await.ok();
    let stranger = world.stranger();
    for path in ["/l/preview", "/l/continue", "/l/resend"] {
        stranger.post(path, &json!({ "token": token })).await.refused(410, "signing_key_revoked");
    }
    portal.redeem(&token).await.refused(410, "signing_key_revoked");
    portal.redeem(&code).await.refused(410, "signing_key_revoked");
    // The name of the key alone does not do.
    let (head, signature) = token.rsplit_once('.').unwrap();
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    stranger.post("/l/preview", &json!({ "token": forged })).await.refused(400, "token_invalid");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn one_order_mails_a_fresh_link_to_all_who_need_one(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let [unspent, spent, revoked] =
        [portal.issue(&consultant).await, portal.issue(&consultant).await, portal.issue(&consultant).await];
    let token = world.token(&unspent, 1).await;
    let session = portal.redeem(&world.click(&world.token(&spent, 1).await).await).await.ok();
    let access = session["access_token"].as_str().unwrap();
    portal.post(&format!("/v1/magic-links/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    let old = kid_of(&token);
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::seconds(61));
    let newer = portal.issue(&consultant).await;
    let good = world.token(&newer, 1).await;
    assert_ne!(kid_of(&good), old);

    let order = json!({ "reason": "A backup was lost", "fresh_links": true });
    let done = world.admin.post(&format!("/v1/keys/{old}/revoke"), &order).await.ok();
    let counts = ["revoked_links", "renewed_links", "ended_sessions"].map(|name| done[name].as_i64());
    assert_eq!(counts, [Some(0), Some(2), Some(1)], "{done}");
    assert!(!portal.is_active(access).await);
    world.stranger().post("/l/preview", &json!({ "token": token })).await.refused(410, "signing_key_revoked");
    for link in [&unspent, &spent] {
        let fresh = world.token(link, 2).await;
        assert_ne!(kid_of(&fresh), old);
        let opened = portal.redeem(&world.click(&fresh).await).await.ok();
        assert!(portal.is_active(opened["access_token"].as_str().unwrap()).await);
    }
    world.click(&good).await;
    let state = portal.get(&format!("/v1/magic-links/{revoked}")).await.ok()["state"].clone();
    assert_eq!(state, "revoked");
    let resent = portal.events("&type=magic_link.resent").await;
    assert_eq!(resent.len(), 2);
    assert!(resent.iter().all(|event| event["data"]["revoked_kid"] == old.as_str()), "{resent:?}");
    let again = world.admin.post(&format!("/v1/keys/{old}/revoke"), &order).await.ok();
    assert_eq!((&again["renewed_links"], &again["done_at"]), (&json!(2), &done["done_at"]));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_link_whose_visit_is_over_is_among_those_who_need_one(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let mut links = Vec::new();
    for _ in 0..4 {
        let mut request = Api::issue_request(&consultant);
        request["duration"] = json!({ "value": 4, "unit": "weeks" });
        links.push(portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned());
    }
    let [done, expired, resent, revoked] = &links[..] else { panic!("four links") };
    let mut tokens = Vec::new();
    for link in &links {
        let token = world.token(link, 1).await;
        let session = portal.redeem(&world.click(&token).await).await.ok();
        if link == done {
            let path = format!("/v1/sessions/{}/end", session["id"].as_str().unwrap());
            portal.post(&path, &json!({ "consultant_done": true })).await.ok();
        }
        tokens.push(token);
    }
    let old = kid_of(&tokens[0]);
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::hours(9));
    // One has asked already, under the next key; of one the access was revoked.
    world.stranger().post("/l/resend", &json!({ "token": tokens[2] })).await.ok();
    let newer = world.token(resent, 2).await;
    assert_ne!(kid_of(&newer), old);
    portal.post(&format!("/v1/magic-links/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();

    let order = json!({ "reason": "A backup was lost", "fresh_links": true });
    let ended = world.admin.post(&format!("/v1/keys/{old}/revoke"), &order).await.ok();
    let counts = ["revoked_links", "renewed_links", "ended_sessions"].map(|name| ended[name].as_i64());
    assert_eq!(counts, [Some(0), Some(2), Some(0)], "{ended}");
    for link in [done, expired] {
        let fresh = world.token(link, 2).await;
        assert_ne!(kid_of(&fresh), old);
        portal.redeem(&world.click(&fresh).await).await.ok();
    }
    portal.redeem(&world.click(&newer).await).await.ok();
    let again = world.admin.post(&format!("/v1/keys/{old}/revoke"), &order).await.ok();
    assert_eq!(again["renewed_links"], 2);
}

#[apply(on_both_databases)]
async fn the_command_line_gives_the_same_order(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let old = kid_of(&world.token(&link, 1).await);
    let arguments = ["--json", "key", "revoke", &old, "--reason", "A backup was lost", "--fresh-links"];
    let output = command(world).args(arguments).output().unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&done["renewed_links"], &done["revoked_links"]), (&json!(1), &json!(0)), "{done}");
    let fresh = world.token(&link, 2).await;
    let code = eventually("the service knows the next key", async || {
        let pressed = world.stranger().post("/l/continue", &json!({ "token": fresh })).await;
        (pressed.status == 200).then_some(pressed.body)
    })
    .await;
    assert!(code["redirect_url"].is_string(), "{code}");
}
