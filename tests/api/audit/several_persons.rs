//! Events that concern the data of several persons: each of them finds them, and the log proves them.

use serde_json::{Value, json};

use super::{acts, visit};
use crate::support::{Api, Auditor, Sql, World, apply, on_both_databases};

/// An export that concerns some persons.
fn list_of(world: &World, seq: i64, persons: &[&str]) -> Value {
    json!({ "events": [{
        "seq": seq, "kind": "export", "occurred_at": world.clock.now(), "action": "payroll.list.exported",
        "resource_type": "payroll", "resource_id": "2026-11", "principal_ids": persons,
    }] })
}

async fn numbers(api: &Api, query: &str) -> Vec<i64> {
    let events = api.events(&format!("&tenant_id=acme{query}")).await;
    events.iter().filter_map(|event| event["seq"].as_i64()).collect()
}

#[apply(on_both_databases)]
async fn each_of_the_persons_finds_the_event(world: &World) {
    let (portal, session) = visit(world).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let several = list_of(world, 11, &["emp-20", "emp-9", "emp-3"]);
    assert_eq!(portal.post(&path, &several).await.ok()["recorded"], 1);
    assert_eq!(portal.post(&path, &several).await.ok()["repeated"], 1);
    portal.post(&path, &list_of(world, 12, &["emp-9"])).await.ok();
    portal.post(&path, &list_of(world, 13, &[])).await.ok();
    let other = list_of(world, 11, &["emp-20", "emp-9"]);
    portal.post(&path, &other).await.refused(409, "event_conflict");

    assert_eq!(numbers(&portal, "&principal_id=emp-9").await, (1..=12).collect::<Vec<_>>());
    for person in ["emp-20", "emp-3"] {
        assert_eq!(numbers(&portal, &format!("&principal_id={person}")).await, [11]);
    }
    assert_eq!(numbers(&portal, "&principal_id=emp-9&type=data.exported").await, [11, 12]);
    assert!(numbers(&portal, "&principal_id=emp-2").await.is_empty());
    // Page by page.
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = portal.get(&format!("/v1/audit-events?principal_id=emp-9&page_size=5{cursor}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().filter_map(|event| event["seq"].as_i64()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, (1..=12).rev().collect::<Vec<_>>());

    let events = portal.events("&tenant_id=acme&type=data.exported").await;
    assert_eq!(events[0]["principal_ids"], json!(["emp-20", "emp-3", "emp-9"]));
    assert_eq!((&events[1]["principal_id"], events[1].get("principal_ids")), (&json!("emp-9"), None));
    assert_eq!((events[2].get("principal_id"), events[2].get("principal_ids")), (None, None));

    let summary = async |person: &str| {
        portal.get(&format!("/v1/access-summaries/{person}?tenant_id=acme")).await.ok()["items"].clone()
    };
    let of_one = summary("emp-9").await;
    assert_eq!((&of_one[0]["changes"], &of_one[0]["exports"]), (&json!(10), &json!(2)), "{of_one}");
    let of_other = summary("emp-3").await;
    assert_eq!((&of_other[0]["changes"], &of_other[0]["exports"]), (&json!(0), &json!(1)), "{of_other}");
    assert_eq!(of_other[0]["session_id"], session["id"]);
    let export = async |format: &str| {
        let query = format!("/v1/audit-events/export?tenant_id=acme&principal_id=emp-3&format={format}");
        world.admin.get(&query).await.text
    };
    assert!(export("csv").await.contains(r#""[""emp-20"",""emp-3"",""emp-9""]""#));
    assert!(export("ndjson").await.contains("\"principal_ids\":[\"emp-20\",\"emp-3\",\"emp-9\"]"));
    assert!(export("ocsf").await.contains("\"principal_ids\":[\"emp-20\",\"emp-3\",\"emp-9\"]"));
}

#[apply(on_both_databases)]
async fn the_log_proves_events_about_one_person_and_about_several(world: &World) {
    let (portal, session) = visit(world).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    portal.post(&path, &list_of(world, 11, &["emp-20", "emp-9"])).await.ok();
    let auditor = Auditor::of("acme", &world.admin).await;
    let checkpoint = auditor.checkpoint(&world.admin).await;
    let export = auditor.export(&world.admin).await;
    let verified = auditor.verify(&export, &[&checkpoint]);
    assert!(verified.status.success(), "{verified:?}");
    let forged = export.replace("\"principal_ids\":[\"emp-20\",\"emp-9\"]", "\"principal_ids\":[\"emp-20\",\"emp-8\"]");
    assert_ne!(forged, export);
    assert!(!auditor.verify(&forged, &[&checkpoint]).status.success());
    let pack = format!("/v1/magic-links/{}/evidence", session["magic_link_id"].as_str().unwrap());
    let evidence = portal.get(&pack).await;
    assert!(evidence.text.contains("emp-20"), "{}", evidence.text);
    assert!(auditor.verify(&evidence.text, &[]).status.success());
    assert_eq!(Sql::of(world).count("FROM audit_event_principals"), 2);
}

#[apply(on_both_databases)]
async fn persons_are_named_once_and_in_one_way(world: &World) {
    let (portal, session) = visit(world).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let mut both = acts(world, "portal", 11, 1);
    both["events"][0]["principal_ids"] = json!(["emp-9", "emp-3"]);
    portal.post(&path, &both).await.refused_field("/events/0/principal_ids");
    portal.post(&path, &list_of(world, 11, &["emp-9", "Asha Rao"])).await.refused_field("/events/0/principal_ids/1");
    let many: Vec<String> = (0..101).map(|number| format!("emp-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = portal.post(&path, &list_of(world, 11, &many)).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    assert_eq!(refused.body["errors"][0]["pointer"], "/events/0/principal_ids");
    portal.post(&path, &list_of(world, 11, &many[..100])).await.ok();
    portal.post(&path, &list_of(world, 12, &["emp-3", "emp-3"])).await.ok();
    let events = portal.events("&tenant_id=acme&type=data.exported").await;
    assert_eq!(events[0]["principal_ids"].as_array().map(Vec::len), Some(100));
    assert_eq!(events[1]["principal_id"], "emp-3", "each once");
    // Each is a row of the transaction that the others wait for: a report names no more than 5,000.
    let report = |events: i64| {
        let one = |seq: i64| list_of(world, seq, &many[..100])["events"][0].clone();
        json!({ "events": (13..13 + events).map(one).collect::<Vec<_>>() })
    };
    portal.post(&path, &report(51)).await.refused_field("/events");
    assert_eq!(portal.post(&path, &report(50)).await.ok()["recorded"], 50);
}
