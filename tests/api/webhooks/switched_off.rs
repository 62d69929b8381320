//! What becomes of messages whose endpoint is switched off.

use serde_json::json;

use super::delivery::{deliveries, path_of, test, tried};
use crate::support::{Receiver, Sql, World, apply, eventually, on_both_databases};

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_waits_is_cancelled_with_its_endpoint_even_if_that_is_on_again_at_once(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let path = path_of(&endpoint);
    let switch = async |state: &str| portal.patch(&path, &json!({ "state": state })).await.ok();
    receiver.answer_with(500);
    portal.issue(&world.consultant().await).await;
    tried(&portal, &endpoint, 1).await;
    switch("disabled").await;
    assert_eq!(deliveries(&portal, &endpoint).await[0]["state"], "cancelled");

    // What was cancelled can be sent again, and waits again. As after days: more than one transaction cancels.
    switch("active").await;
    assert_eq!(portal.post(&format!("{path}/retry"), &json!({})).await.status, 202);
    tried(&portal, &endpoint, 1).await;
    let (numbers, id) = Sql::numbers(world.database, 1_200);
    let columns = "event_type, log_index, data, state, attempts, next_attempt_at, created_at";
    let many = format!(
        "INSERT INTO webhook_deliveries (id, endpoint_id, {columns})
         SELECT 'whm_' || {id}, endpoint_id, {columns} FROM webhook_deliveries, ({numbers}) numbers"
    );
    Sql::of(world).run(&many).unwrap();
    switch("disabled").await;
    switch("active").await;
    assert_eq!(Sql::of(world).count("FROM webhook_deliveries WHERE state = 'queued'"), 0);
    assert_eq!(Sql::of(world).count("FROM webhook_deliveries WHERE state = 'cancelled'"), 1_201);

    // Of one that is under way it is told what came of it.
    receiver.dawdle(2);
    world.clock.advance(time::Duration::seconds(1));
    test(&portal, &endpoint).await;
    eventually("it is under way", async || (deliveries(&portal, &endpoint).await[0]["attempts"] == 1).then_some(()))
        .await;
    switch("disabled").await;
    switch("active").await;
    eventually("it is delivered", async || {
        (deliveries(&portal, &endpoint).await[0]["state"] == "delivered").then_some(())
    })
    .await;
}

// What an endpoint has already, or nothing at all, is no change.
#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_changes_nothing_is_not_recorded(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let path = format!("/v1/webhook-endpoints/{}", endpoint["id"].as_str().unwrap());
    let known = portal.patch(&path, &json!({ "events": ["session.ended", "magic_link.issued"] })).await.ok();
    world.clock.advance(time::Duration::minutes(1));
    for none in [json!({}), json!({ "state": "active", "url": known["url"], "events": known["events"] })] {
        assert_eq!(portal.patch(&path, &none).await.ok(), known);
    }
    let changed = async || world.admin.events("&tenant_id=_system&type=webhook_endpoint.changed").await.len();
    assert_eq!(changed().await, 1);
    portal.patch(&path, &json!({ "description": "Another" })).await.ok();
    assert_eq!(changed().await, 2);
}
