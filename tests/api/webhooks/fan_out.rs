//! From events to messages: the act writes one row, and a worker one message for each endpoint that could hear it then
//! and still can.

use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Database, Process, Receiver, Settings, Sql, World, apply, eventually, on_both_databases};

const ENDPOINTS: &str = "/v1/webhook-endpoints";

/// Keeps events in the queue, as a restore does that is being carried out.
fn hold_back(sql: &mut Sql) {
    sql.run("UPDATE service_state SET restoring_at = '2026-11-22 10:00:00'").unwrap();
}

/// Lets them go, and waits until each has its messages.
async fn let_go(sql: &mut Sql) {
    sql.run("UPDATE service_state SET restoring_at = NULL").unwrap();
    eventually("every event has its messages", async || (sql.count("FROM webhook_events") == 0).then_some(())).await;
}

fn path_of(endpoint: &Value) -> String {
    format!("{ENDPOINTS}/{}", endpoint["id"].as_str().unwrap())
}

/// Endpoints of a client that nobody serves, as many as no client may create.
fn plant_endpoints(world: &World, sql: &mut Sql, client: &Api, tenant: &str, count: usize) {
    let (numbers, id) = Sql::numbers(world.database, count);
    sql.run(&format!(
        "INSERT INTO webhook_endpoints (id, client_id, url, events, format, sealed_secret, created_at, updated_at) \
         SELECT 'whe_' || {id}, '{}', 'http://127.0.0.1:9/hook', '*', 'cloudevents', 'x', '2026-11-22 10:00:00', \
         '2026-11-22 10:00:00' FROM ({numbers}) AS numbers; \
         INSERT INTO webhook_endpoint_tenants (tenant_id, endpoint_id) SELECT '{tenant}', id FROM webhook_endpoints",
        client.client_id
    ))
    .unwrap();
}

#[apply(on_both_databases)]
async fn an_act_writes_one_row_for_its_event_however_many_endpoints_listen(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut sql = Sql::of(world);
    plant_endpoints(world, &mut sql, &portal, "acme", 600);
    hold_back(&mut sql);
    let link = portal.issue(&world.consultant().await).await;
    assert_eq!((sql.count("FROM webhook_events"), sql.count("FROM webhook_deliveries")), (1, 0));
    let revoke = format!("/v1/magic-links/{link}/revoke");
    portal.post(&revoke, &json!({ "reason": "Not needed" })).await.ok();
    portal.issue(&world.consultant().await).await;
    assert_eq!((sql.count("FROM webhook_events"), sql.count("FROM webhook_deliveries")), (3, 0));
    let_go(&mut sql).await;
    assert_eq!(sql.count("FROM webhook_deliveries"), 1_800);
    let each = "FROM (SELECT DISTINCT endpoint_id, event_id FROM webhook_deliveries) AS each_once";
    assert_eq!(sql.count(each), 1_800);
}

#[apply(on_both_databases)]
async fn what_nobody_can_hear_is_not_queued(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let on = async |client: &Api, more: Value| {
        let mut request = json!({ "url": "https://portal.example/hook" });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.post(ENDPOINTS, &request).await.ok()
    };
    on(&world.portal("ess", "acme").await, json!({})).await;
    on(&world.portal("cloud", "globex").await, json!({})).await;
    on(&portal, json!({ "events": ["session.opened"] })).await;
    on(&portal, json!({ "format": "caep" })).await;
    let off = on(&portal, json!({})).await;
    portal.patch(&path_of(&off), &json!({ "state": "disabled" })).await.ok();
    let gone = on(&portal, json!({})).await;
    portal.send(portal.request(Method::DELETE, &path_of(&gone))).await;
    let former = world.portal("cloud", "acme").await;
    on(&former, json!({})).await;
    world.admin.post(&format!("/v1/clients/{}/disable", former.client_id), &json!({})).await.ok();
    let mut sql = Sql::of(world);
    hold_back(&mut sql);
    let consultant = world.consultant().await;
    portal.issue(&consultant).await;
    assert_eq!(sql.count("FROM webhook_events"), 0);
    portal.patch(&path_of(&off), &json!({ "state": "active" })).await.ok();
    portal.issue(&consultant).await;
    assert_eq!(sql.count("FROM webhook_events"), 1);
}

#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::default() })]
async fn an_event_is_for_those_who_could_hear_it_then_and_still_can(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let on = async |client: &Api, events: &[&str]| {
        let request = json!({ "url": "https://portal.example/hook", "events": events });
        client.post(ENDPOINTS, &request).await.ok()
    };
    let both = ["magic_link.issued", "magic_link.revoked"];
    let stays = on(&portal, &both).await;
    let (deleted, off, off_and_on) = (on(&portal, &both).await, on(&portal, &both).await, on(&portal, &both).await);
    let (narrowed, widened) = (on(&portal, &both).await, on(&portal, &both[1..]).await);
    let mover = world.client(Some("cloud"), &["acme", "globex"], &["webhooks:manage"]).await;
    let (left, joined) = (on(&mover, &both).await, world.client(Some("ess"), &["acme"], &["webhooks:manage"]).await);
    let came = on(&joined, &both).await;
    let keeper = world.client(None, &["acme", "globex"], &["webhooks:manage"]).await;
    let kept = on(&keeper, &both).await;

    let mut sql = Sql::of(world);
    hold_back(&mut sql);
    let issued = portal.issue(&world.consultant().await).await;
    portal.send(portal.request(Method::DELETE, &path_of(&deleted))).await;
    portal.patch(&path_of(&off), &json!({ "state": "disabled" })).await.ok();
    for state in ["disabled", "active"] {
        portal.patch(&path_of(&off_and_on), &json!({ "state": state })).await.ok();
    }
    portal.patch(&path_of(&narrowed), &json!({ "events": both[1..] })).await.ok();
    portal.patch(&path_of(&widened), &json!({ "events": both })).await.ok();
    let late = on(&portal, &both).await;
    for (client, change) in [
        (&mover, json!({ "tenants": ["globex"] })),
        (&joined, json!({ "portal": "cloud" })),
        (&keeper, json!({ "tenants": ["acme"] })),
    ] {
        world.admin.patch(&format!("/v1/clients/{}", client.client_id), &change).await.ok();
    }
    let revoke = format!("/v1/magic-links/{issued}/revoke");
    portal.post(&revoke, &json!({ "reason": "Not needed" })).await.ok();
    let_go(&mut sql).await;
    let mut heard = |endpoint: &Value| {
        let id = endpoint["id"].as_str().unwrap();
        let query = "SELECT event_type AS text FROM webhook_deliveries WHERE endpoint_id = ";
        sql.texts(&format!("{query}'{id}' ORDER BY log_index"))
    };
    for endpoint in [&stays, &kept] {
        assert_eq!(heard(endpoint), both);
    }
    for endpoint in [&deleted, &off, &left] {
        assert!(heard(endpoint).is_empty(), "{endpoint}");
    }
    for endpoint in [&off_and_on, &narrowed, &widened, &late, &came] {
        assert_eq!(heard(endpoint), both[1..], "{endpoint}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_crash_between_act_and_messages_loses_and_doubles_nothing(world: &World) {
    let receiver = Receiver::start().await;
    let start = || Process::start_with(world, &[Receiver::ENVIRONMENT], Stdio::inherit());
    let first = start();
    let operator = world.admin.at(&first.base);
    let ravi = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &ravi).await.ok()["id"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        receiver.endpoint_of(&operator).await;
    }
    let mut sql = Sql::of(world);
    hold_back(&mut sql);
    for _ in 0..20 {
        operator.issue(&consultant).await;
    }
    first.kill();
    assert_eq!((sql.count("FROM webhook_events"), sql.count("FROM webhook_deliveries")), (20, 0));
    let copies = if world.database == Database::Postgres { 3 } else { 1 };
    let _copies: Vec<Process> = (0..copies).map(|_| start()).collect();
    let_go(&mut sql).await;
    let waiting = "FROM webhook_deliveries WHERE finished_at IS NULL";
    eventually("all are delivered", async || (sql.count(waiting) == 0).then_some(())).await;
    assert_eq!(sql.count("FROM webhook_deliveries WHERE state = 'delivered'"), 60);
    assert_eq!(sql.count("FROM (SELECT DISTINCT endpoint_id, event_id FROM webhook_deliveries) AS each_once"), 60);
    let messages = receiver.messages().await;
    let events: std::collections::BTreeSet<&str> =
        messages.iter().map(|message| message.body["id"].as_str().unwrap()).collect();
    assert_eq!((messages.len(), events.len()), (60, 20));
}
