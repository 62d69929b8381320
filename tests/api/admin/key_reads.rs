//! After a leak: when and from where a key was used, and what it has seen.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Settings, World, apply, eventually, on_both_databases};

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_a_key_has_read_is_on_record_once_an_hour(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    for _ in 0..3 {
        portal.get(&format!("/v1/magic-links/{link}")).await.ok();
    }
    portal.get("/v1/sessions?tenant_id=acme&page_size=10").await.ok();
    portal.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await.refused(404, "not_found");
    let client = world.admin.get(&format!("/v1/clients/{}", portal.client_id)).await.ok();
    assert_eq!(client["last_used_from"], "127.0.0.1", "{client}");
    let read = async || -> Vec<Value> {
        let all = world.admin.events("&tenant_id=_system&type=client.read").await;
        all.into_iter().filter(|event| event["client_id"] == json!(portal.client_id)).collect()
    };
    world.clock.advance(Duration::minutes(30));
    assert!(read().await.is_empty(), "the hour is not over");
    world.clock.advance(Duration::minutes(31));
    let seen = eventually("the event", async || read().await.pop()).await;
    assert_eq!((&seen["actor"]["id"], &seen["data"]["addresses"]), (&json!(portal.client_id), &json!(["127.0.0.1"])));
    assert_eq!(
        seen["data"]["reads"],
        json!([
            { "route": "/v1/magic-links/{id}", "count": 3, "subjects": [link] },
            { "route": "/v1/sessions", "count": 1, "subjects": ["acme"] },
        ])
    );
    world.clock.advance(Duration::hours(2));
    portal.get("/v1/sessions").await.ok();
    assert_eq!(read().await.len(), 1, "nothing was read in between");
}
