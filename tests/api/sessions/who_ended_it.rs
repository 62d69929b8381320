//! The end of a session is told as it was: by whom, and on whose word.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

/// Ends a new session: the session, and the event of its end.
async fn end(world: &World, caller: &Api, body: Value) -> (Value, Value) {
    let session = world.open_session(&world.portal("cloud", "acme").await).await;
    let id = session["id"].as_str().unwrap();
    let ended = caller.post(&format!("/v1/sessions/{id}/end"), &body).await.ok();
    let mut events = world.admin.events(&format!("&session_id={id}&type=session.ended")).await;
    assert_eq!(events.len(), 1);
    (ended, events.remove(0))
}

#[apply(on_both_databases)]
async fn an_end_is_the_consultants_only_where_the_portal_says_so(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let support_desk = world.client(None, &["*"], &["sessions:redeem"]).await;
    for caller in [&portal, &support_desk] {
        for body in [json!({}), json!({ "sources": {} }), json!({ "consultant_done": false })] {
            let (ended, event) = end(world, caller, body).await;
            assert_eq!((&ended["end_cause"], &event["data"]["cause"]), (&json!("revoked"), &json!("revoked")));
            assert_eq!(event["actor"]["type"], "client");
            assert_eq!(
                (&event["actor"]["id"], &event["client_id"]),
                (&json!(caller.client_id), &json!(caller.client_id))
            );
        }
    }
    let (ended, event) = end(world, &portal, json!({ "consultant_done": true })).await;
    assert_eq!((&ended["end_cause"], &event["data"]["cause"]), (&json!("done"), &json!("done")));
    assert_eq!((&event["actor"]["type"], &event["actor"]["id"]), (&json!("consultant"), &ended["consultant_id"]));
    assert_eq!(event["client_id"], portal.client_id.as_str(), "on whose word");

    let admin = json!({ "id": "emp-7", "name": "Meera Iyer" });
    let (ended, event) = end(world, &portal, json!({ "requested_by": admin })).await;
    assert_eq!(ended["end_cause"], "revoked");
    assert_eq!(event["actor"], json!({ "type": "portal_user", "id": "emp-7", "name": "Meera Iyer" }));

    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/end", session["id"].as_str().unwrap());
    let both = json!({ "consultant_done": true, "requested_by": admin });
    portal.post(&path, &both).await.refused_field("/requested_by");
    portal.post(&path, &json!({ "requested_by": { "id": "", "name": "" } })).await.refused(422, "validation_failed");
}

#[apply(on_both_databases)]
async fn an_admin_throws_a_visitor_out_and_the_link_stays(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (id, token) = (session["id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let path = format!("/v1/sessions/{id}/revoke");
    let admin = json!({ "id": "emp-7", "name": "Meera Iyer" });
    let revoke = json!({ "reason": " Nobody knows this visitor ", "requested_by": admin });
    for wrong in
        [json!({ "reason": "no" }), json!({ "reason": "Long enough", "requested_by": { "id": "", "name": "x" } })]
    {
        portal.post(&path, &wrong).await.refused(422, "validation_failed");
    }
    portal.post(&path, &json!({})).await.refused(400, "invalid_body");
    assert!(portal.is_active(token).await);

    let revoked = portal.post(&path, &revoke).await.ok();
    assert_eq!((&revoked["state"], &revoked["end_cause"]), (&json!("ended"), &json!("revoked")));
    assert!(!portal.is_active(token).await);
    let link = portal.get(&format!("/v1/magic-links/{}", session["magic_link_id"].as_str().unwrap())).await.ok();
    assert_eq!(link["state"], "active");
    // Again it changes nothing.
    let again = json!({ "reason": "Once more", "acting_session_id": id });
    assert_eq!(portal.post(&path, &again).await.ok(), revoked);
    let events = world.admin.events(&format!("&session_id={id}&type=session.ended")).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["actor"], json!({ "type": "portal_user", "id": "emp-7", "name": "Meera Iyer" }));
    assert_eq!(events[0]["client_id"], portal.client_id.as_str());
    assert_eq!(events[0]["data"]["end_reason"], "Nobody knows this visitor");

    // Taking away is no granting: a support session may, and that is on record.
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/revoke", session["id"].as_str().unwrap());
    let own = json!({ "reason": "I am done here", "acting_session_id": session["id"] });
    portal.post(&path, &own).await.ok();
    let events = world.admin.events("&type=session.ended").await;
    assert_eq!(events.last().unwrap()["data"]["acting_session_id"], session["id"]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_that_ran_out_was_ended_by_nobody(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut sessions = Vec::new();
    for _ in 0..2 {
        sessions.push(world.open_session(&portal).await);
    }
    let suspend = format!("/v1/consultants/{}/suspend", sessions[1]["consultant"]["id"].as_str().unwrap());
    world.clock.advance(Duration::hours(5));
    let id = |session: &Value| session["id"].as_str().unwrap().to_owned();
    // Whether a caller or the clock's worker finds it first: the end is told the same.
    portal.post(&format!("/v1/sessions/{}/end", id(&sessions[0])), &json!({ "consultant_done": true })).await.ok();
    world.admin.post(&suspend, &json!({ "reason": "Left the support team" })).await.ok();
    for session in &sessions {
        let event = crate::support::eventually("the end is on record", async || {
            portal.events(&format!("&session_id={}&type=session.ended", id(session))).await.pop()
        })
        .await;
        assert_eq!(event["data"]["cause"], "expired");
        assert_eq!(event["actor"], json!({ "type": "system", "id": "clock" }), "{event}");
        assert_eq!(event.get("client_id"), None, "{event}");
    }
}
