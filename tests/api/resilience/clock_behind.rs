//! A clock that was set back below the birth of the first signing key.

use serde_json::json;
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn nothing_is_acknowledged_that_cannot_be_mailed(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let before = portal.post_once("/v1/magic-links", "before", &request).await.ok();
    let token = world.token(before["id"].as_str().unwrap(), 1).await;
    world.clock.advance(Duration::hours(-2));
    portal.post("/v1/magic-links", &request).await.refused(503, "clock_behind");
    assert_eq!(portal.post_once("/v1/magic-links", "before", &request).await.ok()["id"], before["id"], "a repeat");
    let link = format!("/v1/magic-links/{}", before["id"].as_str().unwrap());
    portal.post(&format!("{link}/resend"), &json!({})).await.refused(503, "clock_behind");
    world.stranger().post("/l/resend", &json!({ "token": token })).await.refused(503, "clock_behind");
    world.clock.advance(Duration::hours(2));
    let after = portal.issue(&consultant).await;
    world.token(&after, 1).await;
}
