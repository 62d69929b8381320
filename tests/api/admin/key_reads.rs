//! After a leak: when and from where a key was used, and what it has seen.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

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

// What was answered and left no event was seen all the same: what had ended, a dry run, a repeat, a draft.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_a_key_saw_without_a_reading_is_on_record(world: &World) {
    let scopes = ["links:issue", "links:read", "links:revoke", "audit:read", "sessions:redeem", "sessions:introspect"];
    let key = world.client(Some("cloud"), &["acme"], &scopes).await;
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let link = key.post_once("/v1/magic-links", "one", &request).await.ok()["id"].as_str().unwrap().to_owned();
    key.post_once("/v1/magic-links", "one", &request).await.ok();
    let session = key.redeem(&world.click(&world.token(&link, 1).await).await).await.ok();
    let token = session["access_token"].as_str().unwrap();
    assert!(key.is_active(token).await);
    let session = session["id"].as_str().unwrap();
    let why = json!({ "reason": "The work is done" });
    for _ in 0..3 {
        key.post(&format!("/v1/sessions/{session}/revoke"), &why).await.ok();
        key.post(&format!("/v1/magic-links/{link}/revoke"), &why).await.ok();
    }
    let mut draft = request.clone();
    draft["validate_only"] = json!(true);
    key.post("/v1/magic-links", &draft).await.ok();
    key.get("/v1/access-summaries/emp%2F9%25?tenant_id=acme").await.ok();
    key.get("/v1/access-summaries/emp+9?tenant_id=acme").await.ok();
    world.clock.advance(Duration::minutes(61));
    let seen = eventually("the event", async || {
        let all = world.admin.events("&tenant_id=_system&type=client.read").await;
        all.into_iter().find(|event| event["client_id"] == json!(key.client_id))
    })
    .await;
    assert_eq!(
        seen["data"]["reads"],
        json!([
            { "route": "/v1/access-summaries/{principal_id}", "count": 2, "subjects": ["emp+9", "emp/9%"] },
            { "route": "/v1/magic-links", "count": 2, "subjects": [] },
            { "route": "/v1/magic-links/{id}/revoke", "count": 2, "subjects": [link] },
            { "route": "/v1/sessions/{id}/revoke", "count": 2, "subjects": [session] },
        ])
    );
    // A refusal names the same person.
    world.client(None, &["globex"], &["audit:read"]).await.get("/v1/access-summaries/emp%2F9?tenant_id=acme").await;
    let refused = world.admin.events("&tenant_id=_system&type=access.refused").await;
    assert!(refused.iter().all(|event| !event["data"].to_string().contains("%2F")), "{refused:?}");
}
