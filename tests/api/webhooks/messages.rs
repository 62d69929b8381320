//! Who is told what: the whole story in order, and nothing of anybody else's.

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{
    Api, Database, Message, Process, Receiver, Settings, Sql, World, apply, eventually, on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

/// How many messages an endpoint has been written, whatever became of them, once every event has its messages.
async fn written(world: &World, endpoint: &Value) -> usize {
    let id = endpoint["id"].as_str().unwrap();
    let mut sql = Sql::of(world);
    eventually("no event waits", async || (sql.count("FROM webhook_events") == 0).then_some(())).await;
    sql.count(&format!("FROM webhook_deliveries WHERE endpoint_id = '{id}'"))
}

/// A whole visit: the link's id and the session's.
async fn visit(world: &World, portal: &Api) -> (String, String) {
    let session = world.open_session(portal).await;
    let [link, session] = ["magic_link_id", "id"].map(|name| session[name].as_str().unwrap().to_owned());
    portal.post(&format!("/v1/sessions/{session}/end"), &json!({ "consultant_done": true, "sources": {} })).await.ok();
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    (link, session)
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_portal_is_told_the_whole_story_in_order(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let secret = endpoint["secret"].as_str().unwrap();
    let (link, session) = visit(world, &portal).await;

    let mut messages = receiver.wait_for(5).await;
    // What ends an access may overtake what came before; the sequence tells.
    messages.sort_by_key(|message| message.body["sequence"].as_str().unwrap().to_owned());
    let kinds: Vec<&str> = messages.iter().map(Message::kind).collect();
    let story = ["magic_link.issued", "magic_link.opened", "session.opened", "session.ended", "magic_link.revoked"];
    assert_eq!(kinds, story);
    let trail = portal.events(&format!("&magic_link_id={link}")).await;
    for message in &messages {
        assert!(message.is_signed_with(secret), "{message:?}");
        assert_eq!(message.content_type, "application/cloudevents+json");
        let event = trail.iter().find(|event| event["id"] == message.body["id"]).expect("it stands in the trail");
        let body = &message.body;
        assert_eq!((&body["specversion"], &body["source"]), (&json!("1.0"), &json!("http://127.0.0.1:8080")));
        assert_eq!((&body["time"], &body["datacontenttype"]), (&event["recorded_at"], &json!("application/json")));
        assert_eq!((&body["data"]["tenant_id"], &body["data"]["magic_link_id"]), (&json!("acme"), &json!(link)));
        let about_session = message.kind().starts_with("session.");
        assert_eq!(body["subject"], if about_session { session.as_str() } else { link.as_str() });
        for name in ["Ravi", "Asha", "Meera", "Payroll", "SUP-48213", "The work is done", "@"] {
            assert!(!message.text.contains(name), "{name} in {}", message.text);
        }
    }
    assert_eq!(messages[3].body["data"]["cause"], "done");
    assert_eq!(messages[0].body["data"]["expires_at"], trail[0]["data"]["expires_at"]);
    assert_eq!(messages.iter().map(|message| &message.id).collect::<BTreeSet<_>>().len(), 5);

    let path = format!("/v1/webhook-endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
    let list = eventually("all are settled", async || {
        let list = portal.get(&path).await.ok();
        list["items"].as_array().unwrap().iter().all(|one| one["state"] == "delivered").then_some(list)
    })
    .await;
    let listed: Vec<(&Value, &Value)> =
        list["items"].as_array().unwrap().iter().map(|one| (&one["id"], &one["event_id"])).collect();
    let sent: Vec<(Value, Value)> = messages.iter().rev().map(|one| (json!(one.id), one.body["id"].clone())).collect();
    assert_eq!(listed, sent.iter().map(|(id, event)| (id, event)).collect::<Vec<_>>());
    assert!(
        list["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["attempts"] == 1 && one.get("next_attempt_at").is_none())
    );
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn an_endpoint_hears_what_it_asked_for(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let request = json!({ "url": receiver.url(), "events": ["session.ended", "magic_link.issued"] });
    let endpoint = portal.post("/v1/webhook-endpoints", &request).await.ok();
    visit(world, &portal).await;
    assert_eq!(written(world, &endpoint).await, 2);
    let messages = receiver.wait_for(2).await;
    assert_eq!(messages.iter().map(Message::kind).collect::<Vec<_>>(), ["magic_link.issued", "session.ended"]);
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn what_belongs_to_others_is_not_told(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let everywhere = world.client(None, &["*", "acme"], &["webhooks:manage"]).await;
    let (ours, all) = (receiver.endpoint_of(&portal).await, receiver.endpoint_of(&everywhere).await);
    let mut foreign = Vec::new();
    for (portal, tenants) in
        [(Some("ess"), ["acme", "globex"]), (Some("cloud"), ["globex", "acm"]), (None, ["globex", "acme2"])]
    {
        let other = world.client(portal, &tenants, &["webhooks:manage"]).await;
        foreign.push(receiver.endpoint_of(&other).await);
    }
    visit(world, &portal).await;
    assert_eq!((written(world, &ours).await, written(world, &all).await), (5, 5));
    for endpoint in &foreign {
        assert_eq!(written(world, endpoint).await, 0, "{endpoint}");
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_disabled_client_hears_nothing(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(500);
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    portal.issue(&world.consultant().await).await;
    receiver.wait_for(1).await;
    world.admin.post(&format!("/v1/clients/{}/disable", portal.client_id), &json!({})).await.ok();
    receiver.answer_with(202);
    world.admin.issue(&world.consultant().await).await;
    assert_eq!(written(world, &endpoint).await, 1, "nothing more is written");
    world.clock.advance(time::Duration::minutes(10));
    let path = format!("/v1/webhook-endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
    eventually("what waited is cancelled", async || {
        let list = world.admin.get(&path).await.ok();
        (list["items"][0]["state"] == "cancelled").then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn an_act_that_did_not_happen_tells_nothing(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let consultant = world.consultant().await;
    let link = portal.issue(&consultant).await;
    let token = world.token(&link, 1).await;
    assert_eq!(written(world, &endpoint).await, 1);
    let mut sql = Sql::of(world);
    // The head of the log is damaged, so the trail cannot be written: the act is undone, and so is what it would have told.
    let head = "UPDATE audit_logs SET frontier = (SELECT salt FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 0), \
        size = 7 WHERE tenant_id = 'acme'";
    sql.run(head).unwrap();
    let refused = portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await;
    assert!(refused.status.is_server_error(), "{refused:?}");
    let refused = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    assert!(refused.status.is_server_error(), "{refused:?}");
    assert_eq!(written(world, &endpoint).await, 1);
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_window_that_ends_and_reports_that_stay_out_are_told_once(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let request = json!({ "url": receiver.url(), "events": ["magic_link.expired", "session.ended", "audit.gap"] });
    let endpoint = portal.post("/v1/webhook-endpoints", &request).await.ok();
    let session = world.open_session(&portal).await;
    let revoked = portal.issue(&world.consultant().await).await;
    portal.post(&format!("{LINKS}/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    world.clock.advance(time::Duration::hours(5));
    receiver.wait_for(2).await;
    // Its end is known by now, and so begins the time in which it may be closed.
    world.clock.advance(time::Duration::minutes(16));
    let messages = receiver.wait_for(3).await;
    let mut kinds: Vec<&str> = messages.iter().map(Message::kind).collect();
    assert_eq!(kinds.pop(), Some("audit.gap"));
    kinds.sort_unstable();
    assert_eq!(kinds, ["magic_link.expired", "session.ended"]);
    assert!(messages.iter().all(|message| message.body["data"]["magic_link_id"] == session["magic_link_id"]));
    assert_eq!(messages[2].body["data"]["audit_state"], "unclosed");

    // Now it is closed, and two of its three acts are missing.
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 3 } })).await.ok();
    world.clock.advance(time::Duration::minutes(1));
    let messages = receiver.wait_for(4).await;
    assert_eq!(messages[3].body["data"]["audit_state"], "gaps");
    world.clock.advance(time::Duration::minutes(1));
    let late = json!({ "events": [{ "seq": 2, "kind": "view", "occurred_at": world.clock.now(), "action": "a",
        "resource_type": "b", "resource_id": "c" }] });
    portal.post(&format!("{path}/events"), &late).await.ok();
    world.clock.advance(time::Duration::minutes(1));
    let mut sql = Sql::of(world);
    eventually("it is looked at once more", async || (sql.count("FROM report_checks") == 0).then_some(())).await;
    assert_eq!(written(world, &endpoint).await, 4, "that there are gaps was told");
    assert_eq!(portal.event_types("&type=audit.gap").await.len(), 2);
    assert_eq!(portal.event_types("&type=magic_link.expired").await.len(), 1);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn several_copies_put_each_end_on_record_once(world: &World) {
    let process = Process::start(world);
    let operator = world.admin.at(&process.base);
    let ravi = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &ravi).await.ok()["id"].as_str().unwrap().to_owned();
    for _ in 0..230 {
        operator.issue(&consultant).await;
    }
    process.kill();
    let mut sql = Sql::of(world);
    sql.run("UPDATE magic_links SET starts_at = '2020-01-01 00:00:00', expires_at = '2020-01-02 00:00:00'").unwrap();
    let copies = if world.database == Database::Postgres { 3 } else { 1 };
    let _copies: Vec<Process> = (0..copies).map(|_| Process::start(world)).collect();
    let recorded = "FROM audit_events WHERE event_type = 'magic_link.expired'";
    eventually("every end is on record", async || (sql.count(recorded) >= 230).then_some(())).await;
    assert_eq!(sql.count(recorded), 230);
    let links = sql
        .count("FROM (SELECT DISTINCT magic_link_id FROM audit_events WHERE event_type = 'magic_link.expired') AS l");
    assert_eq!(links, 230);
}

#[apply(on_both_databases)]
#[settings(Settings { no_service: true, ..Settings::default() })]
async fn the_depth_of_the_outbox_is_shown(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(503);
    let environment = [Receiver::ENVIRONMENT, ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")];
    let process = Process::start_with(world, &environment, Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let endpoint = receiver.endpoint_of(&operator).await;
    let path = format!("/v1/webhook-endpoints/{}/test", endpoint["id"].as_str().unwrap());
    assert_eq!(operator.post(&path, &json!({})).await.status, 202);
    // A worker counts, now and then.
    eventually("the depth is told", async || {
        let metrics = world.stranger().at(&process.metrics).get("/metrics").await;
        metrics.text.contains("magic_link_webhook_outbox_depth 1").then_some(())
    })
    .await;
}
