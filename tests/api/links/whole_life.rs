//! The whole life of a link, as its people see it.

use serde_json::json;

use crate::support::{Settings, World, apply, on_both_databases};

#[apply(on_both_databases)]
async fn a_link_is_issued_mailed_used_reported_on_and_ended(world: &World) {
    let hr_portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;

    // The HR admin grants.
    let issued = hr_portal.post("/v1/magic-links", &crate::support::Api::issue_request(&consultant)).await;
    assert_eq!(issued.status, 201);
    assert!(!issued.text.contains("eyJ"), "no token in the answer");
    let link = issued.ok();
    let link_id = link["id"].as_str().unwrap();
    assert_eq!(link["state"], "active");

    // The consultant gets a mail, looks at the page and presses the button.
    let token = world.token(link_id, 1).await;
    let preview = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(preview["state"], "ready");
    assert_eq!(preview["profile"]["name"], "Asha Rao");
    let code = world.click(&token).await;

    // The portal's back end redeems the code.
    let session = hr_portal.redeem(&code).await.ok();
    let (session_id, access_token) = (session["id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    assert!(hr_portal.is_active(access_token).await);
    let seen = hr_portal.form("/v1/introspect", &[("token", access_token)]).await.ok();
    assert_eq!(seen["sub"], "emp-1042");
    assert_eq!(seen["act"]["sub"], consultant.as_str());

    // It reports what was done, out of order and twice.
    let act = |seq: i64, kind: &str| {
        json!({
            "seq": seq, "kind": kind, "occurred_at": world.clock.now(), "action": "employee.salary.updated",
            "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
        })
    };
    let events = format!("/v1/sessions/{session_id}/events");
    let reported = hr_portal.post(&events, &json!({ "events": [act(2, "change"), act(3, "view")] })).await.ok();
    assert_eq!(reported["audit_state"], "gaps");
    let first = json!({ "events": [act(1, "export")] });
    assert_eq!(hr_portal.post(&events, &first).await.ok()["audit_state"], "complete");
    assert_eq!(hr_portal.post(&events, &first).await.ok()["repeated"], 1);

    // "I am done."
    let end = format!("/v1/sessions/{session_id}/end");
    let ended = hr_portal.post(&end, &json!({ "consultant_done": true, "sources": { "portal": 3 } })).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("done")));
    assert_eq!(ended["audit_state"], "complete");
    assert!(!hr_portal.is_active(access_token).await);

    // The same link says that it was used, and a fresh one works.
    let preview = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(preview["state"], "spent");
    hr_portal.redeem(&code).await.refused(410, "link_spent");

    // The trail tells all of it, in order.
    let types = hr_portal.event_types(&format!("&magic_link_id={link_id}")).await;
    assert_eq!(
        types,
        [
            "magic_link.issued",
            "magic_link.mailed",
            "magic_link.continued",
            "session.opened",
            "data.changed",
            "data.viewed",
            "data.exported",
            "session.ended",
            "session.closed",
            "magic_link.refused",
        ]
    );
}

#[apply(on_both_databases)]
async fn a_raw_link_token_is_for_portals_with_a_page_of_their_own(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    portal.redeem(&token).await.refused(403, "code_required");
    assert!(portal.get(&format!("/v1/magic-links/{link}")).await.ok().get("spent_at").is_none());
    portal.redeem(&world.click(&token).await).await.ok();
    let types = portal.event_types(&format!("&magic_link_id={link}&type=magic_link.refused")).await;
    assert_eq!(types.len(), 1, "the refusal is on record, once");
}

#[apply(on_both_databases)]
#[settings(Settings::config(
    "portals.cloud = { audience = 'https://cloud.example', callback_url = 'https://cloud.example/callback', \
         landing_url = 'https://{tenant_id}.cloud.example/welcome' }",
))]
async fn a_portal_with_a_page_of_its_own_gets_the_token_there(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let mail = world.mails.wait_for(&link, 1).await;
    let text = mail["Text"].as_str().unwrap();
    let token = text.split_once("https://acme.cloud.example/welcome#").unwrap().1.lines().next().unwrap();
    let session = portal.redeem(token).await.ok();
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
    portal.redeem(token).await.refused(410, "link_spent");
}
