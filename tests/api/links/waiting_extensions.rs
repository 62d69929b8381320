//! An extension that waits for a second pair of eyes: the link stays as it is until another person approves it.

use serde_json::{Value, json};
use time::Duration;

use super::approvals::{acme, act, approval, id, vikram};
use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

fn longer(hours: i64, who: &Value) -> Value {
    json!({"duration": {"value": hours, "unit": "hours"}, "reason": "The payroll run has to be repeated", "extended_by": who})
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_extension_waits_for_another_person_too_and_the_link_stays_as_it_is(world: &World) {
    let portal = acme(world, &json!({"required_for": "none", "longer_than": {"value": 6, "unit": "hours"}})).await;
    let link = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let meera = json!({"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"});
    // Up to six hours nobody is asked.
    let extended = act(&portal, id(&link), "extend", &longer(2, &meera)).await.ok();
    assert_eq!(extended["extension"], Value::Null);
    let nobody = json!({"id": "emp-7", "name": "Meera Iyer"});
    act(&portal, id(&link), "extend", &longer(4, &nobody)).await.refused_field("/extended_by/email");
    let asked = portal.post_once(&format!("{LINKS}/{}/extend", id(&link)), "once", &longer(4, &meera)).await.ok();
    assert_eq!(asked["expires_at"], extended["expires_at"], "it stays as it is");
    let extension = asked["extension"]["id"].as_str().unwrap().to_owned();
    let until = world.clock.now().plus(Duration::hours(10));
    assert_eq!(
        (&asked["extension"]["expires_at"], &asked["extension"]["duration"]["value"]),
        (&json!(until), &json!(4))
    );
    let repeat = portal.post_once(&format!("{LINKS}/{}/extend", id(&link)), "once", &longer(4, &meera)).await;
    assert_eq!((repeat.header("idempotency-replayed"), &repeat.body["extension"]["id"]), ("true", &json!(extension)));
    act(&portal, id(&link), "extend", &longer(3, &meera)).await.refused(409, "extension_exists");
    let mail =
        eventually("the question", async || world.mails.notices("extension_requested").await.pop()).await.to_string();
    assert!(mail.contains("vikram@acme.example") && mail.contains("The payroll run has to be repeated"), "{mail}");

    let path = |what: &str| format!("{LINKS}/{}/extensions/{extension}/{what}", id(&link));
    let own = json!({"approver": {"id": "EMP-7", "name": "Meera", "email": "other@acme.example"}});
    portal.post(&path("approve"), &own).await.refused(403, "own_request");
    let own = json!({"approver": {"id": "emp-9", "name": "Meera", "email": "HR@acme.example"}});
    portal.post(&path("approve"), &own).await.refused(403, "own_request");
    let mut wider = approval();
    wider["duration"] = json!({"value": 5, "unit": "hours"});
    portal.post(&path("approve"), &wider).await.refused_field("/duration");
    let mut shorter = approval();
    shorter["duration"] = json!({"value": 3, "unit": "hours"});
    let longer_now = portal.post(&path("approve"), &shorter).await.ok();
    assert_eq!(longer_now["expires_at"], json!(world.clock.now().plus(Duration::hours(9))));
    assert_eq!(longer_now["extension"], Value::Null);
    // How it was decided is told, as of a link.
    let reason = json!({"approver": approval()["approver"], "reason": "Too late"});
    for (what, body) in [("approve", &shorter), ("deny", &reason), ("withdraw", &json!({}))] {
        let refused = portal.post(&path(what), body).await;
        assert_eq!(refused.body["detail"], "it was approved", "{what}");
        refused.refused(409, "already_decided");
    }
    let event = portal.events("&type=magic_link.extended").await.pop().unwrap();
    assert_eq!((&event["actor"]["id"], &event["data"]["asked_by"]["id"]), (&json!("emp-3"), &json!("emp-7")));

    // The next one is denied, the one after it withdrawn, and the last one lapses.
    let next = async || {
        let asked = act(&portal, id(&link), "extend", &longer(1, &meera)).await.ok();
        format!("{LINKS}/{}/extensions/{}", id(&link), asked["extension"]["id"].as_str().unwrap())
    };
    let denial = json!({"approver": vikram(), "reason": "Enough is enough"});
    let denied = portal.post(&format!("{}/deny", next().await), &denial).await.ok();
    assert_eq!((&denied["expires_at"], &denied["extension"]), (&longer_now["expires_at"], &Value::Null));
    let mail = eventually("the answer", async || world.mails.notices("extension_denied").await.pop()).await.to_string();
    assert!(mail.contains("Enough is enough") && mail.contains("Vikram Shah"), "{mail}");
    portal.post(&format!("{}/withdraw", next().await), &json!({})).await.ok();
    let last = next().await;
    world.clock.advance(Duration::hours(10));
    portal.post(&format!("{last}/approve"), &approval()).await.refused(410, "link_expired");
    eventually("the lapse", async || {
        (portal.events("&type=magic_link.extension_lapsed").await.len() == 1).then_some(())
    })
    .await;
    let kinds = portal.event_types(&format!("&magic_link_id={}", id(&link))).await;
    let asked = kinds.iter().filter(|kind| *kind == "magic_link.extension_requested").count();
    assert_eq!(asked, 4, "{kinds:?}");
    // Nobody else's link.
    let foreign =
        portal.post(&format!("{LINKS}/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z/extensions/{extension}/deny"), &denial).await;
    foreign.refused(404, "not_found");
}

#[apply(on_both_databases)]
async fn an_extension_never_takes_time_away_and_waits_alone(world: &World) {
    let portal = acme(world, &json!({"required_for": "none", "longer_than": {"value": 8, "unit": "hours"}})).await;
    let link = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let meera = json!({"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"});
    let asked = act(&portal, id(&link), "extend", &longer(8, &meera)).await.ok();
    // A short one needs nobody, but not beside one that waits.
    act(&portal, id(&link), "extend", &longer(1, &meera)).await.refused(409, "extension_exists");
    act(&portal, id(&link), "extend", &longer(9, &meera)).await.refused(409, "extension_exists");
    let evidence =
        async || portal.get(&format!("{LINKS}/{}/evidence", id(&link))).await.ok()["evidence"]["extensions"].clone();
    assert_eq!(evidence().await[0]["state"], "pending");
    let extension = asked["extension"]["id"].as_str().unwrap();
    let denial = json!({"approver": vikram(), "reason": "Not now"});
    portal.post(&format!("{LINKS}/{}/extensions/{extension}/deny", id(&link)), &denial).await.ok();
    let shown = &evidence().await[0];
    assert_eq!(
        (&shown["state"], &shown["asked_by"]["name"], &shown["decision"]["by"]["name"]),
        (&json!("denied"), &json!("Meera Iyer"), &json!("Vikram Shah"))
    );
    act(&portal, id(&link), "extend", &longer(1, &meera)).await.ok();

    // A policy that became stricter binds what lasts longer from then on.
    let strict = json!({"access_allowed": ["read_only"], "forbidden": ["export"], "require_ticket": true});
    world.admin.put("/v1/tenants/acme/policy", &strict).await.ok();
    act(&portal, id(&link), "extend", &longer(1, &meera)).await.refused(403, "policy_forbids");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_ends_a_link_withdraws_the_extension_that_waits(world: &World) {
    let portal = acme(world, &json!({"required_for": "none", "longer_than": {"value": 6, "unit": "hours"}})).await;
    let meera = json!({"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"});
    let (mut links, mut consultants) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let consultant = world.consultant().await;
        let link = portal.post(LINKS, &Api::issue_request(&consultant)).await.ok();
        let asked = act(&portal, id(&link), "extend", &longer(4, &meera)).await.ok();
        assert!(asked["extension"]["id"].is_string(), "{asked}");
        links.push(id(&link).to_owned());
        consultants.push(consultant);
    }
    let reason = json!({"reason": "A laptop was stolen"});
    act(&portal, &links[0], "revoke", &reason).await.ok();
    let order = json!({"consultant_id": consultants[1], "reason": "A laptop was stolen"});
    let mut dry = order.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(portal.post("/v1/revocations", &dry).await.ok()["requests"], 1);
    let order = portal.post("/v1/revocations", &order).await.ok();
    let path = format!("/v1/revocations/{}", id(&order));
    let done = eventually("the bulk revocation is done", async || {
        let order = portal.get(&path).await.ok();
        (order["state"] == "done").then_some(order)
    });
    assert_eq!(done.await["requests"], 1);
    world.admin.post(&format!("/v1/consultants/{}/suspend", consultants[2]), &reason).await.ok();
    let mut replacing = Api::issue_request(&consultants[3]);
    // The first one was for the same profile.
    replacing["profile"]["id"] = json!("emp-1042");
    replacing["replace"] = json!(true);
    portal.post(LINKS, &replacing).await.ok();
    for (number, link) in links[..4].iter().enumerate() {
        let pack = portal.get(&format!("{LINKS}/{link}/evidence")).await.ok();
        let shown = &pack["evidence"]["extensions"][0];
        assert_eq!(shown["state"], "withdrawn", "{number}: {shown}");
        assert!(shown["decided_at"].is_string() && shown["decision"]["by"].is_object(), "{number}: {shown}");
        eventually("the withdrawal", async || {
            let events = portal.events(&format!("&type=magic_link.extension_withdrawn&magic_link_id={link}")).await;
            (events.len() == 1).then_some(())
        })
        .await;
    }
    // One whose end comes sooner waits until then.
    let end = world.clock.now().plus(Duration::hours(2));
    let shorten = json!({"expires_at": end, "reason": "The work was done sooner"});
    let shortened = act(&portal, &links[4], "shorten", &shorten).await.ok();
    assert_eq!(shortened["extension"]["lapses_at"], json!(end));
    for hours in [2, 25] {
        world.clock.advance(Duration::hours(hours));
        let lapsed = eventually("the lapse", async || {
            let lapsed = portal.events("&type=magic_link.extension_lapsed").await;
            (!lapsed.is_empty()).then_some(lapsed)
        })
        .await;
        assert_eq!((lapsed.len(), &lapsed[0]["magic_link_id"]), (1, &json!(links[4])));
    }
}
