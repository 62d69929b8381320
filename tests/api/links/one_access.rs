//! One access, one link: who has an access already gets no second link for it, and a link that is replaced alarms nobody.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use super::changing::extension;
use crate::support::{
    Api, Database, Receiver, Settings, Sql, World, apply, command, eventually, mails_have_left, on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

fn id(link: &Value) -> &str {
    link["id"].as_str().unwrap()
}

/// The same request, which takes the place of the link that gives the access.
fn replacing(request: &Value) -> Value {
    let mut request = request.clone();
    request["replace"] = json!(true);
    request
}

/// Asks for the access again, and is told which link gives it.
async fn exists(portal: &Api, request: &Value, link: &str) {
    let refused = portal.post(LINKS, request).await;
    refused.refused(409, "access_exists");
    assert_eq!(refused.body["magic_link_id"], link, "{refused:?}");
}

async fn act(portal: &Api, link: &str, what: &str, body: Value) -> Value {
    portal.post(&format!("{LINKS}/{link}/{what}"), &body).await.ok()
}

/// What the database holds of open grants: the links, whether or not their time is over.
fn grants(world: &World) -> Vec<String> {
    Sql::of(world).texts("SELECT magic_link_id AS text FROM open_grants ORDER BY magic_link_id")
}

#[apply(on_both_databases)]
async fn who_has_a_replaced_link_hears_what_became_of_the_other(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post(LINKS, &request).await.ok();
    let token = json!({ "token": world.token(id(&first), 1).await });
    let seen = async |fate: &str| {
        eventually(fate, async || {
            let shown = world.stranger().post("/l/preview", &token).await.ok();
            (shown["newest_mail"] == fate).then_some(shown)
        })
        .await
    };
    let shown = world.stranger().post("/l/preview", &token).await.ok();
    assert!(shown.get("successor_state").is_none() && shown.get("newest_mail").is_none(), "{shown}");

    let refusal = ResponseTemplate::new(400).set_body_json(json!({ "Error": "mailbox disabled" }));
    world.mails.misbehave_about("\"Tags\":[\"magic_link\"]", refusal);
    portal.post(LINKS, &replacing(&request)).await.ok();
    let shown = seen("lost").await;
    assert_eq!((&shown["state"], &shown["successor_state"]), (&json!("superseded"), &json!("ready")));
    assert_eq!((&shown["can_resend"], shown.get("newest_mailed_at")), (&json!(false), None));
    // The one that replaced the one that replaced it.
    world.mails.behave();
    let third = portal.post(LINKS, &replacing(&request)).await.ok();
    let shown = seen("mailed").await;
    assert!(shown["successor_state"] == "ready" && shown["newest_mailed_at"].is_string(), "{shown}");
    act(&portal, id(&third), "revoke", json!({ "reason": "The work is done" })).await;
    assert_eq!(seen("mailed").await["successor_state"], "revoked");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn one_access_has_one_link_until_it_ends(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post_once(LINKS, "first", &request).await.ok();
    exists(&portal, &request, id(&first)).await;
    portal.post_once(LINKS, "second", &request).await.refused(409, "access_exists");
    let repeat = portal.post_once(LINKS, "first", &request).await;
    assert_eq!((repeat.header("idempotency-replayed"), &repeat.body["id"]), ("true", &first["id"]));
    assert_eq!(portal.event_types("&type=magic_link.issued").await.len(), 1);
    // One that has not begun is an access, too.
    let mut later = request.clone();
    later["starts_at"] = json!(world.clock.now().plus(Duration::hours(2)));
    exists(&portal, &later, id(&first)).await;

    // Another consultant, profile, portal or tenant is another access.
    for (pointer, other) in [
        ("/consultant_id", json!(world.consultant().await)),
        ("/profile/id", json!("emp-1043")),
        ("/portal", json!("ess")),
        ("/tenant_id", json!("globex")),
    ] {
        let mut another = request.clone();
        *another.pointer_mut(pointer).unwrap() = other;
        world.admin.post(LINKS, &another).await.ok();
    }

    act(&portal, id(&first), "revoke", json!({ "reason": "The work is done" })).await;
    let second = portal.post(LINKS, &request).await.ok();
    act(&portal, id(&second), "extend", extension(2)).await;
    world.clock.advance(Duration::hours(5));
    exists(&portal, &request, id(&second)).await;
    let end = world.clock.now().plus(Duration::minutes(2));
    act(&portal, id(&second), "shorten", json!({ "expires_at": end, "reason": "Less to do" })).await;
    exists(&portal, &request, id(&second)).await;
    world.clock.advance(Duration::minutes(2));
    let third = portal.post(LINKS, &request).await.ok();
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&second))).await.ok()["state"], "expired");
    exists(&portal, &request, id(&third)).await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_has_ended_leaves_no_grant_behind(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let (over, stays) = (portal.issue(&consultant).await, portal.issue(&consultant).await);
    act(&portal, &stays, "extend", extension(4)).await;
    assert_eq!(grants(world).len(), 2);
    world.clock.advance(Duration::hours(5));
    eventually("the expiry is recorded", async || {
        (portal.event_types("&type=magic_link.expired").await.len() == 1).then_some(())
    })
    .await;
    assert_eq!((grants(world), over == stays), (vec![stays], false));
}

#[apply(on_both_databases)]
async fn every_kind_of_revocation_gives_the_access_back_at_once(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&world.consultant().await);
    let consultant = format!("/v1/consultants/{}", request["consultant_id"].as_str().unwrap());
    let reason = json!({ "reason": "On leave" });
    portal.post(LINKS, &request).await.ok();
    // In force from the answer on, whether or not the links are marked already.
    world.admin.post(&format!("{consultant}/suspend"), &reason).await.ok();
    world.admin.post(&format!("{consultant}/reinstate"), &reason).await.ok();
    let second = portal.post(LINKS, &request).await.ok();
    exists(&portal, &request, id(&second)).await;
    let order = json!({ "profile_id": request["profile"]["id"], "reason": "Left the company" });
    portal.post("/v1/revocations", &order).await.ok();
    let third = portal.post(LINKS, &request).await.ok();
    exists(&portal, &request, id(&third)).await;
    eventually("the bulk revocations are carried out", async || {
        let revoked = portal.get(&format!("{LINKS}?state=revoked")).await.ok();
        let ended = portal.event_types("&type=magic_link.revoked").await.len();
        (revoked["items"].as_array().unwrap().len() == 2 && ended == 2).then_some(())
    })
    .await;
    assert_eq!(grants(world), [id(&third)]);
    exists(&portal, &request, id(&third)).await;
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_replaced_link_ends_with_its_visit_and_alarms_nobody(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    receiver.endpoint_of(&portal).await;
    let mut request = Api::issue_request(&world.consultant().await);
    let first = portal.post(LINKS, &request).await.ok();
    let token = world.token(id(&first), 1).await;
    let session = portal.redeem(&world.click(&token).await).await.ok();

    request["duration"]["value"] = json!(8);
    let second = portal.post_once(LINKS, "again", &replacing(&request)).await.ok();
    let replaced = portal.get(&format!("{LINKS}/{}", id(&first))).await.ok();
    assert_eq!((&replaced["state"], &replaced["replaced_by"]), (&json!("replaced"), &second["id"]));
    assert!(!portal.is_active(session["access_token"].as_str().unwrap()).await);
    let ended = portal.get(&format!("/v1/sessions/{}", id(&session))).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("replaced")));
    let repeat = portal.post_once(LINKS, "again", &replacing(&request)).await.ok();
    assert_eq!(repeat["id"], second["id"], "a repeat replaces nothing");
    exists(&portal, &request, id(&second)).await;

    let event = &portal.events("&type=magic_link.replaced").await[0];
    assert_eq!((&event["magic_link_id"], &event["data"]["replaced_by"]), (&first["id"], &second["id"]));
    assert_eq!(event["actor"]["id"], "emp-7");
    assert!(portal.events("&type=magic_link.revoked").await.is_empty());
    for (state, found) in [("replaced", &first["id"]), ("active", &second["id"])] {
        let list = portal.get(&format!("{LINKS}?state={state}")).await.ok();
        assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["id"]), (1, found), "{state}");
    }
    assert_eq!(portal.get(&format!("{LINKS}?state=revoked")).await.ok()["items"], json!([]));

    // Whoever opens the old mail is told that there is a newer one, and gets no other by it.
    let page = world.stranger();
    let preview = page.post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!((&preview["state"], &preview["can_resend"]), (&json!("superseded"), &json!(false)));
    for path in ["/l/continue", "/l/resend"] {
        page.post(path, &json!({ "token": token })).await.refused(410, "link_replaced");
    }
    let path = format!("{LINKS}/{}", id(&first));
    portal.post(&format!("{path}/resend"), &json!({})).await.refused(410, "link_replaced");
    portal.post(&format!("{path}/extend"), &extension(1)).await.refused(410, "link_replaced");
    let kept = act(&portal, id(&first), "revoke", json!({ "reason": "Too late" })).await;
    assert_eq!(kept["state"], "replaced");

    world.mails.wait_for(id(&second), 1).await;
    mails_have_left(&portal).await;
    for alarm in ["access_revoked", "access_withdrawn"] {
        assert_eq!(world.mails.notices(alarm).await, Vec::<Value>::new(), "{alarm}");
    }
    eventually("the portal is told", async || {
        let told = receiver.messages().await;
        let about = |kind: &str| told.iter().filter(|message| message.kind() == kind).count();
        (about("magic_link.replaced") == 1 && about("session.ended") == 1).then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
async fn replacing_needs_the_right_to_revoke_and_to_issue(world: &World) {
    let request = Api::issue_request(&world.consultant().await);
    let issuer = world.client(Some("cloud"), &["acme"], &["links:issue", "links:read"]).await;
    let first = issuer.post(LINKS, &request).await.ok();
    let refused = issuer.post(LINKS, &replacing(&request)).await;
    refused.refused(403, "insufficient_scope");
    assert!(refused.text.contains("links:revoke"), "{refused:?}");
    let portal = world.portal("cloud", "acme").await;
    world.admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "A key has leaked" })).await.ok();
    portal.post(LINKS, &replacing(&request)).await.refused(409, "issuing_frozen");
    assert_eq!(issuer.get(&format!("{LINKS}/{}", id(&first))).await.ok()["state"], "active");
    world.admin.put("/v1/issuing", &json!({ "frozen": false })).await.ok();
    // Whoever has the access keeps it until another link opens.
    let mut later = replacing(&request);
    later["starts_at"] = json!(world.clock.now().plus(Duration::days(1)));
    portal.post(LINKS, &later).await.refused_field("/replace");
    assert_eq!(issuer.get(&format!("{LINKS}/{}", id(&first))).await.ok()["state"], "active");
    exists(&portal, &request, id(&first)).await;
    let refused = portal.events(&format!("&type=magic_link.refused&magic_link_id={}", id(&first))).await;
    assert_eq!((refused.len(), &refused[0]["data"]["code"]), (1, &json!("access_exists")));
    // A request that fails replaces nothing.
    let mut wrong = replacing(&request);
    wrong["duration"]["value"] = json!(0);
    portal.post(LINKS, &wrong).await.refused_field("/duration");
    assert_eq!(issuer.get(&format!("{LINKS}/{}", id(&first))).await.ok()["state"], "active");
    // Where there is nothing to replace, it is an issue as any other.
    let other = portal.post(LINKS, &replacing(&Api::issue_request(&world.consultant().await))).await.ok();
    assert_eq!(other["state"], "active");
    assert!(portal.events("&type=magic_link.replaced").await.is_empty());
}

#[apply(on_both_databases)]
async fn of_links_from_before_the_rule_one_is_extended(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post(LINKS, &request).await.ok();
    Sql::of(world).run("DELETE FROM open_grants").unwrap();
    let second = portal.post(LINKS, &request).await.ok();
    let refused = portal.post(&format!("{LINKS}/{}/extend", id(&first)), &extension(1)).await;
    refused.refused(409, "access_exists");
    assert_eq!(refused.body["magic_link_id"], second["id"]);
    act(&portal, id(&first), "revoke", json!({ "reason": "There is another" })).await;
    exists(&portal, &request, id(&second)).await;
    assert_eq!(act(&portal, id(&second), "extend", extension(1)).await["state"], "active");
}

#[apply(on_both_databases)]
async fn what_the_demonstration_grants_is_an_access_like_any_other(world: &World) {
    if world.database == Database::Postgres {
        return;
    }
    // Beside links that were issued before, whoever they are for.
    let mut before = Api::issue_request(&world.consultant().await);
    before["profile"]["id"] = json!("emp-1071");
    let issued = world.admin.post(LINKS, &before).await.ok();
    assert!(command(world).arg("demo").output().unwrap().status.success());
    assert!(world.admin.get(&format!("{LINKS}/{}", id(&issued))).await.ok().get("extension").is_none());
    for link in ["mlk_01kaq3v9e8fwmvd2x7n0c5hb1z", "mlk_01kaq3v9e8fwmvd2x7n0c5hb6z"] {
        let shown = world.admin.get(&format!("{LINKS}/{link}")).await.ok();
        let mut request = Api::issue_request(shown["consultant"]["id"].as_str().unwrap());
        request["profile"] = shown["profile"].clone();
        exists(&world.admin, &request, link).await;
    }
}
