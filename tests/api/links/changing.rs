//! A link that was issued is extended, shortened and corrected, as long as it has not ended.

use magic_link::clock::Clock;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{
    Api, Auditor, Receiver, SecondCopy, Settings, World, apply, command, eventually, mailed, on_both_databases,
};

pub fn extension(hours: i64) -> Value {
    json!({
        "duration": { "value": hours, "unit": "hours" }, "reason": "The payroll run has to be repeated",
        "extended_by": { "id": "emp-8", "name": "Anil Rao" },
    })
}

fn path(link: &str, what: &str) -> String {
    format!("/v1/magic-links/{link}/{what}")
}

fn link_of(session: &Value) -> &str {
    session["magic_link_id"].as_str().unwrap()
}

/// What introspection says of an access token.
async fn asked(portal: &Api, session: &Value) -> Value {
    portal.form("/v1/introspect", &[("token", session["access_token"].as_str().unwrap())]).await.ok()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_extended_link_opens_further_visits_and_leaves_the_present_one_as_it_is(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let link = link_of(&session);
    let end = world.clock.now().plus(Duration::hours(24)).to_string();
    let extended = portal.post(&path(link, "extend"), &extension(20)).await.ok();
    assert_eq!((&extended["state"], &extended["expires_at"]), (&json!("active"), &json!(end)));
    let present = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!(present["expires_at"], session["expires_at"], "to its own end");

    world.clock.advance(Duration::hours(5));
    assert_eq!(asked(&portal, &session).await, json!({ "active": false }));
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");
    portal.post(&path(link, "resend"), &json!({})).await.ok();
    let next = portal.redeem(&world.click(&world.token(link, 2).await).await).await.ok();
    assert!(next["expires_at"].as_str() > session["expires_at"].as_str(), "the next one reaches further: {next}");
    let expired = portal.events("&type=magic_link.expired").await;
    assert_eq!(expired, Vec::<Value>::new(), "it has not expired");
    world.clock.advance(Duration::hours(20));
    eventually("it expires once, at its new end", async || {
        let expired = portal.events("&type=magic_link.expired").await;
        (expired.len() == 1).then(|| assert_eq!(expired[0]["data"]["expires_at"], json!(end)))
    })
    .await;
    portal.post(&path(link, "extend"), &extension(1)).await.refused(410, "link_expired");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_window_is_extended_to_the_longest_that_is_configured_in_all(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let extend = async |hours| portal.post(&path(&link, "extend"), &extension(hours)).await;
    extend(669).await.refused_field("/duration");
    extend(673).await.refused_field("/duration");
    extend(0).await.refused_field("/duration");
    extend(600).await.ok();
    let refused = extend(69).await;
    refused.refused_field("/duration");
    assert!(refused.body["errors"][0]["detail"].as_str().unwrap().contains("672 hours"), "{refused:?}");
    extend(68).await.ok();
    extend(1).await.refused_field("/duration");
    for (member, value) in [("reason", json!("short")), ("extended_by", json!({ "id": "emp-8", "name": "" }))] {
        let mut request = extension(1);
        request[member] = value;
        portal.post(&path(&link, "extend"), &request).await.refused(422, "validation_failed");
    }
    let mut from_a_session = extension(1);
    from_a_session["acting_session_id"] = json!("ses_01kaq3v9e8fwmvd2x7n0c5hb2z");
    portal.post(&path(&link, "extend"), &from_a_session).await.refused(403, "support_session_cannot_grant");

    // The keys that signed its tokens are published until its end, however many follow them.
    let keys = async || world.stranger().get("/.well-known/jwks.json").await.ok()["keys"].as_array().unwrap().clone();
    let first = keys().await[0]["kid"].clone();
    world.token(&link, 1).await;
    world.admin.post("/v1/keys/rotate", &json!({ "at_once": true })).await.ok();
    world.clock.advance(Duration::hours(672 + 24));
    assert!(keys().await.iter().any(|key| key["kid"] == first), "a day after the end, still");
}

#[apply(on_both_databases)]
async fn a_repeated_extension_is_one_and_a_frozen_service_extends_nothing(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let first = portal.post_once(&path(&link, "extend"), "one", &extension(2)).await.ok();
    let freeze = |word: &str| {
        let reason = ["--reason", "Somebody issues links"];
        let output = command(world).arg(word).args(reason.iter().filter(|_| word == "freeze")).output().unwrap();
        assert!(output.status.success());
    };
    freeze("freeze");
    let again = portal.post_once(&path(&link, "extend"), "one", &extension(2)).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok()["expires_at"], first["expires_at"]);
    portal.post_once(&path(&link, "extend"), "two", &extension(2)).await.refused(409, "issuing_frozen");
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "Less is needed" });
    portal.post(&path(&link, "shorten"), &shorter).await.ok();
    freeze("unfreeze");
    portal.post_once(&path(&link, "extend"), "two", &extension(2)).await.ok();
    assert_eq!(portal.events("&type=magic_link.extended").await.len(), 2);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_shortened_link_cuts_its_session_at_its_new_end(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let link = link_of(&session);
    let before = asked(&portal, &session).await;
    let end = world.clock.now().plus(Duration::minutes(30));
    let shorten = async |to: Value, reason: &str| {
        portal.post(&path(link, "shorten"), &json!({ "expires_at": to, "reason": reason })).await
    };
    let soon = world.clock.now().plus(Duration::seconds(59));
    shorten(json!(soon), "Too soon to be told").await.refused_field("/expires_at");
    shorten(session["expires_at"].clone(), "As it was").await.ok();
    let late = world.clock.now().plus(Duration::hours(5));
    shorten(json!(late), "This is no extension").await.refused_field("/expires_at");
    shorten(json!(end), "no").await.refused_field("/reason");
    assert!(portal.events("&type=magic_link.shortened").await.is_empty());

    let shortened = shorten(json!(end), "Less is needed").await.ok();
    assert_eq!((&shortened["state"], &shortened["expires_at"]), (&json!("active"), &json!(end)));
    let after = asked(&portal, &session).await;
    assert_eq!((&after["active"], &after["exp"]), (&json!(true), &json!(end.unix_seconds())));
    assert!(before["exp"].as_i64() > after["exp"].as_i64());
    let present = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!(present["expires_at"], json!(end));
    let event = &portal.events("&type=magic_link.shortened").await[0];
    assert_eq!((&event["data"]["session_id"], &event["data"]["reason"]), (&session["id"], &json!("Less is needed")));

    world.clock.advance(Duration::minutes(30));
    assert_eq!(asked(&portal, &session).await, json!({ "active": false }));
    shorten(json!(world.clock.now().plus(Duration::hours(1))), "Over already").await.refused(410, "link_expired");
    let ended =
        eventually("its end is recorded", async || portal.events("&type=session.ended").await.into_iter().next()).await;
    assert_eq!((&ended["data"]["cause"], &ended["data"]["ended_at"]), (&json!("expired"), &json!(end)));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_scheduled_link_keeps_a_window(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    let starts = world.clock.now().plus(Duration::hours(2));
    request["starts_at"] = json!(starts);
    let link = portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let shorten =
        async |to| portal.post(&path(&link, "shorten"), &json!({ "expires_at": to, "reason": "Less is needed" })).await;
    shorten(starts).await.refused_field("/expires_at");
    shorten(starts.minus(Duration::hours(1))).await.refused_field("/expires_at");
    let end = starts.plus(Duration::minutes(5));
    assert_eq!(shorten(end).await.ok()["expires_at"], json!(end));
    let extended = portal.post(&path(&link, "extend"), &extension(1)).await.ok();
    assert_eq!(extended["expires_at"], json!(end.plus(Duration::hours(1))));
    assert_eq!(extended["state"], "scheduled");
}

#[apply(on_both_databases)]
async fn reason_and_ticket_are_corrected_and_what_stood_there_is_kept(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let link = link_of(&session);
    let granted = "Payroll run for November stops at step 3";
    let correct = async |body: Value| portal.patch(&format!("/v1/magic-links/{link}"), &body).await;
    let unchanged = correct(json!({})).await.ok();
    assert_eq!((&unchanged["reason"], &unchanged["ticket"]), (&json!(granted), &json!("SUP-48213")));
    correct(json!({ "reason": granted, "ticket": " SUP-48213 " })).await.ok();
    assert!(portal.events("&type=magic_link.corrected").await.is_empty(), "nothing was corrected");

    let admin = json!({ "id": "emp-8", "name": "Anil Rao" });
    let ticket = correct(json!({ "ticket": " SUP-48231 ", "requested_by": admin })).await.ok();
    assert_eq!((&ticket["reason"], &ticket["ticket"]), (&json!(granted), &json!("SUP-48231")));
    let reason = "Payroll run for October stops at step 3";
    let corrected = correct(json!({ "reason": reason, "ticket": "" })).await.ok();
    assert_eq!((&corrected["reason"], corrected.get("ticket")), (&json!(reason), None));
    assert_eq!(asked(&portal, &session).await["reason"], reason, "the visit is told under the corrected reason");
    for wrong in [json!({ "reason": "short" }), json!({ "ticket": "  " }), json!({ "ticket": "x".repeat(65) })] {
        correct(wrong).await.refused(422, "validation_failed");
    }
    correct(json!({ "ticket": "SUP-1", "acting_session_id": session["id"] }))
        .await
        .refused(403, "support_session_cannot_grant");

    portal.post(&path(link, "extend"), &extension(2)).await.ok();
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "Less is needed" });
    portal.post(&path(link, "shorten"), &shorter).await.ok();
    let pack = portal.get(&format!("/v1/magic-links/{link}/evidence")).await;
    let evidence = &pack.body["evidence"];
    let [first, second] = &evidence["corrections"].as_array().unwrap()[..] else { panic!("{evidence}") };
    assert_eq!((&first["previous_ticket"], &first["ticket"]), (&json!("SUP-48213"), &json!("SUP-48231")));
    assert_eq!((&first["by"]["id"], &first["by"]["name"]), (&json!("emp-8"), &json!("Anil Rao")));
    assert_eq!((&second["previous_reason"], &second["reason"]), (&json!(granted), &json!(reason)));
    assert_eq!((&second["by"]["type"], &second["client_id"]), (&json!("client"), &json!(portal.client_id)));
    let [longer, shorter] = &evidence["ends"].as_array().unwrap()[..] else { panic!("{evidence}") };
    assert_eq!(longer["previous_expires_at"], session["expires_at"]);
    assert_eq!((&longer["reason"], &longer["by"]["id"]), (&extension(2)["reason"], &json!("emp-8")));
    assert_eq!(shorter["previous_expires_at"], longer["expires_at"]);
    assert_eq!(shorter["expires_at"], evidence["link"]["expires_at"]);
    assert!(longer["at"].is_string() && shorter["at"].is_string());
    Auditor::of("acme", &world.admin).await.accepts(&pack.text, &[]);
}

#[apply(on_both_databases)]
async fn a_revoked_link_is_not_changed_and_each_refusal_is_recorded(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    mailed(&portal, &link).await;
    portal.post(&path(&link, "revoke"), &json!({ "reason": "The work is done" })).await.ok();
    let before = portal.get(&format!("/v1/magic-links/{link}")).await.ok();
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "Less is needed" });
    portal.post(&path(&link, "extend"), &extension(1)).await.refused(410, "link_revoked");
    portal.post(&path(&link, "shorten"), &shorter).await.refused(410, "link_revoked");
    portal.patch(&format!("/v1/magic-links/{link}"), &json!({ "ticket": "SUP-2" })).await.refused(410, "link_revoked");
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok(), before);
    let refused = portal.events(&format!("&magic_link_id={link}&type=magic_link.refused")).await;
    assert_eq!(refused.len(), 3);
    assert_eq!(refused[0]["actor"]["name"], "Anil Rao");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_link_whose_end_another_copy_has_recorded_is_not_changed(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let ahead = Clock::manual(world.clock.now().plus(Duration::hours(4)));
    let copy = SecondCopy::start(world, ahead);
    eventually("the copy that is ahead records the end", async || {
        (portal.events("&type=magic_link.expired").await.len() == 1).then_some(())
    })
    .await;
    drop(copy);
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active", "for this copy");
    portal.post(&path(&link, "extend"), &extension(1)).await.refused(410, "link_expired");
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "Less is needed" });
    portal.post(&path(&link, "shorten"), &shorter).await.refused(410, "link_expired");
    portal.patch(&format!("/v1/magic-links/{link}"), &json!({ "ticket": "SUP-2" })).await.refused(410, "link_expired");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_portal_is_told_of_each_new_end(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    receiver.endpoint_of(&portal).await;
    let extended = portal.post(&path(&link, "extend"), &extension(2)).await.ok();
    let end = json!(world.clock.now().plus(Duration::hours(1)));
    portal.post(&path(&link, "shorten"), &json!({ "expires_at": end, "reason": "Less is needed" })).await.ok();
    let messages = receiver.wait_for(2).await;
    let told: Vec<_> = messages.iter().map(|one| (one.kind(), &one.body["data"]["expires_at"])).collect();
    assert_eq!(told, [("magic_link.extended", &extended["expires_at"]), ("magic_link.shortened", &end)]);
    for name in ["Anil", "repeated", "Less"] {
        assert!(messages.iter().all(|message| !message.text.contains(name)), "{name}");
    }
}

#[apply(on_both_databases)]
async fn admin_and_consultant_are_told_by_whom_and_why_the_end_was_moved(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    portal.post(&path(&link, "extend"), &extension(2)).await.ok();
    for (kind, recipient) in [("access_changed", "hr@acme.example"), ("access_moved", "ravi.")] {
        let mail = eventually("the notice", async || world.mails.notices(kind).await.into_iter().next()).await;
        assert!(mail["To"][0]["Email"].as_str().unwrap().starts_with(recipient), "{mail}");
        let text = mail["Text"].as_str().unwrap();
        assert!(text.contains("Changed by: Anil Rao") && text.contains("Because: The payroll run"), "{text}");
    }
    // The tenant can do without; the consultant is told all the same.
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "muted_notices": ["access_changed"] })).await.ok();
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "Less is needed" });
    portal.post(&path(&link, "shorten"), &shorter).await.ok();
    eventually("the consultant is told", async || (world.mails.notices("access_moved").await.len() == 2).then_some(()))
        .await;
    let jobs = portal.get("/v1/mail-deliveries?template=access_changed").await.ok();
    assert_eq!(jobs["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.mails.notices("access_changed").await.len(), 1);
}
