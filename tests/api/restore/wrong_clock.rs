//! A restore on a machine whose clock is ahead, and is set right afterwards: the service's is right from the start.

use serde_json::json;
use time::Duration;

use super::{click, confirm, json, ready};
use crate::support::{Api, Backup, SecondCopy, Settings, World, apply, eventually, on_both_databases};

#[apply(on_both_databases)]
#[settings(Settings { clock_behind: Duration::days(40), ..Settings::manual_clock() })]
async fn a_restore_by_a_clock_that_is_ahead_ends_everything_all_the_same(world: &World) {
    let (admin, portal) = (world.admin.clone().patient(), world.portal("cloud", "acme").await.patient());
    let consultant = world.consultant().await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let unspent = portal.issue(&consultant).await;
    let token = world.token(&unspent, 1).await;
    let over = portal.issue(&consultant).await;
    let revoke = json!({ "reason": "No longer needed" });
    admin.post(&format!("/v1/magic-links/{over}/revoke"), &revoke).await.ok();
    let backup = Backup::of(world);
    backup.restore(world);
    ready(world).await;

    let done = json(world, &["restore"]).await;
    let counts = ["revoked_links", "ended_sessions", "revoked_keys"].map(|name| done[name].as_i64());
    assert_eq!(counts, [Some(2), Some(1), Some(1)], "{done}");
    // It may be repeated, and the service be started: keys of the backup stay what they are.
    let again = json(world, &["restore"]).await;
    let counts = ["revoked_links", "ended_sessions", "revoked_keys"].map(|name| again[name].as_i64());
    assert_eq!(counts, [Some(0), Some(0), Some(1)], "{again}");
    let copy = SecondCopy::start(world, world.clock.clone());
    ready(world).await;
    confirm(world, &[&admin, &portal]).await;
    json(world, &["consultant", "confirm", "--all"]).await;
    json(world, &["unfreeze"]).await;
    for caller in [&portal, &portal.at(&copy.base)] {
        assert!(!caller.is_active(access).await);
        assert_eq!(caller.get(&format!("/v1/magic-links/{unspent}")).await.ok()["state"], "revoked");
        caller.post(&format!("/v1/magic-links/{unspent}/resend"), &json!({})).await.refused(410, "link_revoked");
        caller.stranger().post("/l/continue", &json!({ "token": token })).await.refused(410, "signing_key_revoked");
    }
    let listed = portal.get("/v1/sessions?state=active").await.ok();
    assert_eq!(listed["items"], json!([]), "{listed}");

    // The key that the restore made was to sign in forty days.
    let request = Api::issue_request(&consultant);
    let link = eventually("a link is issued", async || {
        let reply = portal.clone().impatient().post_once("/v1/magic-links", "fresh", &request).await;
        (reply.status == 201).then(|| reply.body["id"].as_str().unwrap().to_owned())
    })
    .await;
    let fresh = portal.redeem(&click(world, &world.token(&link, 1).await).await).await.ok();
    assert!(portal.is_active(fresh["access_token"].as_str().unwrap()).await);
}
