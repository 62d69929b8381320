//! What a newer version writes that runs, or ran, on the same database: events, mails and messages of types that this one
//! does not know. No migration tells of them.

use serde_json::{Value, json};

use crate::support::{Message, Receiver, Sql, World, apply, on_both_databases, unguarded};

/// Keeps mails and messages in their queues, as a restore does that is being carried out.
fn hold_back(sql: &mut Sql) {
    sql.run("UPDATE service_state SET restoring_at = '2026-11-22 10:00:00'").unwrap();
}

fn let_go(sql: &mut Sql) {
    sql.run("UPDATE service_state SET restoring_at = NULL").unwrap();
}

#[apply(on_both_databases)]
async fn an_event_of_a_newer_version_is_handed_on_as_it_stands_in_the_log(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    portal.post(&format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    unguarded(
        world,
        "audit_events",
        "UPDATE audit_events SET event_type = 'magic_link.polish_refused' WHERE event_type = 'magic_link.issued'",
    );
    unguarded(
        world,
        "audit_payloads",
        "UPDATE audit_payloads SET payload = replace(payload, '{\"', '{\"shine\":1,\"') WHERE log_index = 0",
    );
    // Not by its own description, which does not know the word.
    let get = async |path: &str| {
        let reply = world.admin.request(reqwest::Method::GET, path).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    let (status, text) = get("/v1/audit-events?tenant_id=acme").await;
    assert_eq!(status, 200, "{text}");
    let page: Value = serde_json::from_str(&text).unwrap();
    let polished = page["items"].as_array().unwrap().iter().find(|one| one["log_index"] == 0).unwrap();
    assert_eq!((&polished["type"], &polished["result"]), (&json!("magic_link.polish_refused"), &json!("refused")));
    for format in ["ndjson", "csv", "ocsf"] {
        let (status, text) = get(&format!("/v1/audit-events/export?tenant_id=acme&format={format}")).await;
        assert!(status == 200 && text.contains("magic_link.polish_refused"), "{format} {status}: {text}");
    }
    let (status, text) = get(&format!("/v1/magic-links/{link}/evidence")).await;
    assert!(status == 200 && text.contains("magic_link.polish_refused"), "{status}: {text}");
}

#[apply(on_both_databases)]
async fn mails_of_a_newer_version_are_left_to_it_and_hold_no_other_back(world: &World) {
    let mut sql = Sql::of(world);
    let mut consultants = Vec::new();
    for _ in 0..21 {
        consultants.push(world.consultant().await);
    }
    let last = consultants.pop().unwrap();
    hold_back(&mut sql);
    for consultant in &consultants {
        world.admin.issue(consultant).await;
    }
    sql.run("UPDATE mail_jobs SET template = 'newer_' || template").unwrap();
    let waiting = sql.count("FROM mail_jobs");
    let_go(&mut sql);
    let link = world.admin.issue(&last).await;
    world.token(&link, 1).await;
    let newer = "FROM mail_jobs WHERE template LIKE 'newer_%' AND attempts = 0 AND finished_at IS NULL";
    assert_eq!(sql.count(newer), waiting);
    let listed = world.admin.get("/v1/mail-deliveries").await.ok();
    let listed = listed["items"].as_array().unwrap();
    assert!(!listed.is_empty() && listed.iter().all(|mail| mail["magic_link_id"] == *link), "{listed:?}");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_webhook_event_of_a_newer_version_goes_to_those_who_hear_all(world: &World) {
    let mut sql = Sql::of(world);
    let (portal, all, some) = (world.portal("cloud", "acme").await, Receiver::start().await, Receiver::start().await);
    all.endpoint_of(&portal).await;
    let only = json!({ "url": some.url(), "events": ["magic_link.issued"] });
    portal.post("/v1/webhook-endpoints", &only).await.ok();
    let (first, second) = (world.consultant().await, world.consultant().await);
    hold_back(&mut sql);
    portal.issue(&first).await;
    let word = "replace(data, '\"access\":\"full\"', '\"access\":\"gleaming\"')";
    sql.run(&format!("UPDATE webhook_events SET event_type = 'magic_link.polished', data = {word}")).unwrap();
    let_go(&mut sql);
    portal.issue(&second).await;
    let kinds = |messages: &[Message]| messages.iter().map(|one| one.kind().to_owned()).collect::<Vec<_>>();
    let messages = all.wait_for(2).await;
    let mut access: Vec<_> = messages.iter().map(|one| one.body["data"]["access"].clone()).collect();
    access.sort_by_key(Value::to_string);
    assert_eq!(access, [json!("full"), json!("gleaming")]);
    let mut heard = kinds(&messages);
    heard.sort();
    assert_eq!(heard, ["magic_link.issued", "magic_link.polished"]);
    assert_eq!(kinds(&some.wait_for(1).await), ["magic_link.issued"]);
}
