//! Reporting what the consultant viewed, exported and changed.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

/// A session, its portal, and where its acts go.
async fn visit(world: &World) -> (Api, String, String) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let events = format!("{path}/events");
    (portal, path, events)
}

fn act(world: &World, seq: i64) -> Value {
    json!({
        "seq": seq, "kind": "change", "occurred_at": world.clock.now(), "action": "employee.salary.updated",
        "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
        "changes": [{ "field": "basic", "before": "*****", "after": "*****" }],
    })
}

fn batch(acts: impl IntoIterator<Item = Value>) -> Value {
    json!({ "events": acts.into_iter().collect::<Vec<_>>() })
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_batch_is_taken_whole_or_not_at_all(world: &World) {
    let (portal, path, events) = visit(world).await;
    let first = batch([act(world, 1), act(world, 2)]);
    assert_eq!(portal.post(&events, &first).await.ok()["recorded"], 2);
    let before = portal.get(&path).await.ok();
    let mut other = act(world, 2);
    other["resource_id"] = "emp-10".into();
    for conflicting in [batch([act(world, 3), other.clone()]), batch([other, act(world, 3)])] {
        portal.post(&events, &conflicting).await.refused(409, "event_conflict");
    }
    assert_eq!(portal.get(&path).await.ok(), before);
    assert_eq!(portal.event_types("&type=data.changed").await.len(), 2);
    let refused = portal.events("&type=session.refused").await;
    assert_eq!(refused.len(), 2, "refusals stand in the trail");
    assert_eq!(refused[0]["data"]["code"], "event_conflict");

    // Unchanged acts may come again, alone or among new ones; another source counts by itself.
    let again = portal.post(&events, &batch([act(world, 3), act(world, 2), act(world, 1)])).await.ok();
    assert_eq!((&again["recorded"], &again["repeated"]), (&json!(1), &json!(2)));
    let mut elsewhere = act(world, 2);
    elsewhere["source"] = "batch".into();
    let reported = portal.post(&events, &batch([elsewhere])).await.ok();
    assert_eq!((&reported["recorded"], &reported["audit_state"]), (&json!(1), &json!("gaps")));
    let sources = portal.get(&path).await.ok()["sources"].clone();
    assert_eq!(
        sources,
        json!([
            { "source": "batch", "event_count": 1, "last_seq": 2, "missing": [{ "from": 1, "to": 1 }] },
            { "source": "portal", "event_count": 3, "last_seq": 3 },
        ])
    );
    assert_eq!(portal.event_types("&type=data.changed").await.len(), 4);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_act_that_is_wrong_is_named_and_takes_its_batch_along(world: &World) {
    let (portal, path, events) = visit(world).await;
    let with = |pointer: &str, value: Value| {
        let mut wrong = act(world, 2);
        wrong[pointer] = value;
        batch([act(world, 1), wrong])
    };
    let long = "x".repeat(129);
    for (body, pointer) in [
        (batch([]), "/events"),
        (batch((1..=1001).map(|seq| json!({
            "seq": seq, "occurred_at": world.clock.now(), "action": "a", "resource_type": "b", "resource_id": "c",
        }))), "/events"),
        (batch([act(world, 1), act(world, 1)]), "/events/1/seq"),
        (with("seq", json!(0)), "/events/1/seq"),
        (with("seq", json!(-1)), "/events/1/seq"),
        (with("source", json!("")), "/events/1/source"),
        (with("source", json!("two words")), "/events/1/source"),
        (with("source", json!("x".repeat(65))), "/events/1/source"),
        (with("action", json!("")), "/events/1/action"),
        (with("action", json!("a\nb")), "/events/1/action"),
        (with("resource_type", json!(long)), "/events/1/resource_type"),
        (with("resource_id", json!("\u{202e}")), "/events/1/resource_id"),
        (with("principal_id", json!("emp 9")), "/events/1/principal_id"),
        (with("kind", json!("view")), "/events/1/changes"),
        (with("kind", json!("export")), "/events/1/changes"),
        (with("changes", json!([{ "field": "" }])), "/events/1/changes/0/field"),
        (with("changes", json!([{ "field": "note", "after": "x".repeat(4001) }])), "/events/1/changes/0"),
        (with("changes", json!(vec![json!({ "field": "basic" }); 101])), "/events/1/changes"),
    ] {
        portal.post(&events, &body).await.refused_field(pointer);
    }
    for body in [
        json!([]),
        json!({}),
        json!({ "events": {} }),
        json!({ "events": [[1, "portal"]] }),
        json!({ "events": [1] }),
        json!({ "events": [act(world, 1)], "session_id": "x" }),
        with("colour", json!("red")),
        with("kind", json!("look")),
        with("kind", json!({ "view": null })),
        with("changes", json!([["basic", "1", "2"]])),
        with("seq", json!("2")),
        with("changes", json!([{ "field": "basic", "was": "1" }])),
        with("occurred_at", json!("now")),
        with("occurred_at", json!("10000-01-01T00:00:00Z")),
        with("occurred_at", json!("2026-02-30T00:00:00Z")),
        with("consultant_id", json!("con_01kaq3v9e8fwmvd2x7n0c5hb3z")),
        with("tenant_id", json!("globex")),
    ] {
        portal.post(&events, &body).await.refused(400, "invalid_body");
    }
    let deep = portal.request(reqwest::Method::POST, &events).header("content-type", "application/json");
    let deep = portal.send(deep.body(format!("{{\"events\":{}", "[".repeat(900_000)))).await;
    deep.refused(400, "invalid_body");
    assert_eq!(portal.get(&path).await.ok()["sources"], json!([]));
    assert!(portal.events("&type=data.changed").await.is_empty());

    let most = batch((1..=1000).map(|seq| {
        json!({
            "seq": seq, "occurred_at": world.clock.now(), "action": "a", "resource_type": "b", "resource_id": "c",
        })
    }));
    let reported = portal.post(&events, &most).await.ok();
    assert_eq!((&reported["recorded"], &reported["audit_state"]), (&json!(1000), &json!("complete")));
    assert_eq!(portal.events("&type=data.changed").await.len(), 1000);
}

#[apply(on_both_databases)]
async fn an_act_says_as_whom_by_whom_and_about_whom(world: &World) {
    let (portal, path, events) = visit(world).await;
    let session = portal.get(&path).await.ok();
    portal.post(&events, &batch([act(world, 1)])).await.ok();
    let event = &portal.events("&principal_id=emp-9").await[0];
    assert_eq!(event["type"], "data.changed");
    assert_eq!(event["profile_id"], "emp-1042");
    assert_eq!(event["actor"], json!({ "type": "consultant", "id": session["consultant_id"] }));
    assert_eq!(event["session_id"], session["id"]);
    assert_eq!(event["magic_link_id"], session["magic_link_id"]);
    assert_eq!((&event["source"], &event["seq"]), (&json!("portal"), &json!(1)));
    assert_eq!(
        event["data"],
        json!({
            "action": "employee.salary.updated", "resource_type": "employee", "resource_id": "emp-9",
            "changes": [{ "field": "basic", "before": "*****", "after": "*****" }],
        })
    );
    assert!(portal.events("&principal_id=emp-1042").await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn acts_are_taken_for_72_hours_after_the_end_and_marked_late(world: &World) {
    let (portal, path, events) = visit(world).await;
    portal.post(&events, &batch([act(world, 1)])).await.ok();
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 3 } })).await.ok();
    assert_eq!(portal.post(&events, &batch([act(world, 2)])).await.ok()["audit_state"], "gaps");
    world.clock.advance(Duration::hours(72) - Duration::microseconds(1));
    assert_eq!(portal.post(&events, &batch([act(world, 3)])).await.ok()["audit_state"], "complete");
    world.clock.advance(Duration::microseconds(1));
    for act in [act(world, 4), act(world, 1)] {
        portal.post(&events, &batch([act])).await.refused(410, "reporting_closed");
    }
    let late: Vec<Value> =
        portal.events("&type=data.changed").await.iter().map(|event| event["late"].clone()).collect();
    assert_eq!(late, [Value::Null, json!(true), json!(true)]);
    let refused = portal.events("&type=session.refused").await;
    assert_eq!((refused.len(), &refused[0]["data"]["code"]), (2, &json!("reporting_closed")));
    assert_eq!(portal.get(&path).await.ok()["audit_state"], "complete");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_72_hours_of_an_expired_session_run_from_its_expiry(world: &World) {
    let (portal, _, events) = visit(world).await;
    world.clock.advance(Duration::hours(4 + 72) - Duration::microseconds(1));
    portal.post(&events, &batch([act(world, 1)])).await.ok();
    world.clock.advance(Duration::microseconds(1));
    portal.post(&events, &batch([act(world, 2)])).await.refused(410, "reporting_closed");
    let acts = portal.events("&type=data.changed").await;
    assert_eq!((acts.len(), &acts[0]["late"]), (1, &json!(true)));
}

#[apply(on_both_databases)]
async fn a_change_in_a_read_only_session_is_taken_and_marked(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["access"] = "read_only".into();
    let link = portal.post("/v1/magic-links", &request).await.ok();
    let code = world.click(&world.token(link["id"].as_str().unwrap(), 1).await).await;
    let session = portal.redeem(&code).await.ok();
    assert_eq!(session["access"], "read_only");
    let seen = portal.form("/v1/introspect", &[("token", session["access_token"].as_str().unwrap())]).await.ok();
    assert_eq!(seen["access"], "read_only");
    let mut look = act(world, 2);
    look["kind"] = "view".into();
    look.as_object_mut().unwrap().remove("changes");
    let events = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    assert_eq!(portal.post(&events, &batch([act(world, 1), look])).await.ok()["recorded"], 2);
    assert_eq!(portal.events("&policy_violation=true").await[0]["type"], "data.changed");
    assert_eq!(portal.events("&type=data.changed").await[0]["policy_violation"], true);
    assert!(portal.events("&type=data.viewed").await[0].get("policy_violation").is_none());
}

#[apply(on_both_databases)]
async fn the_closing_count_tells_what_is_missing(world: &World) {
    let (portal, path, events) = visit(world).await;
    let link = portal.get(&path).await.ok()["magic_link_id"].as_str().unwrap().to_owned();
    let states = async || {
        let session = portal.get(&path).await.ok();
        let link = portal.get(&format!("/v1/magic-links/{link}")).await.ok();
        (session["audit_state"].clone(), link["audit_state"].clone())
    };
    let both = |state: &str| (json!(state), json!(state));
    assert_eq!(states().await, both("complete"));
    portal.post(&events, &batch([act(world, 2)])).await.ok();
    assert_eq!(states().await, both("gaps"));
    portal.post(&events, &batch([act(world, 1)])).await.ok();
    assert_eq!(states().await, both("complete"));
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 3, "batch": 1 } })).await.ok();
    assert_eq!(states().await, both("gaps"));
    portal.post(&events, &batch([act(world, 3)])).await.ok();
    assert_eq!(states().await, both("gaps"), "the other source said one");
    let mut other = act(world, 1);
    other["source"] = "batch".into();
    portal.post(&events, &batch([other])).await.ok();
    assert_eq!(states().await, both("complete"));
    portal.post(&events, &batch([act(world, 4)])).await.ok();
    assert_eq!(states().await, both("gaps"), "more than the portal said there was");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn each_source_is_closed_and_no_count_hides_what_is_missing(world: &World) {
    let (portal, path, events) = visit(world).await;
    let mut payroll = act(world, 1);
    payroll["source"] = "payroll".into();
    portal.post(&events, &batch([act(world, 1), payroll])).await.ok();
    let end = async |sources: Value| portal.post(&format!("{path}/end"), &json!({ "sources": sources })).await;
    let is_listed = async |state: &str| {
        let page = portal.get(&format!("/v1/sessions?audit_state={state}")).await.ok();
        !page["items"].as_array().unwrap().is_empty()
    };
    // One of two sources has said how much it reported: the other one may have lost everything after its first act.
    assert_eq!(end(json!({ "portal": 1 })).await.ok()["audit_state"], "complete");
    world.clock.advance(time::Duration::minutes(16));
    assert_eq!(portal.get(&path).await.ok()["audit_state"], "unclosed");
    assert!(is_listed("unclosed").await && !is_listed("complete").await && !is_listed("gaps").await);
    crate::support::eventually("the gap is told", async || {
        let gaps = portal.events("&type=audit.gap").await;
        gaps.first().map(|gap| assert_eq!(gap["data"]["audit_state"], "unclosed"))
    })
    .await;

    // Its own word is taken when it comes, and a lower one takes nothing back.
    assert_eq!(end(json!({ "payroll": 3 })).await.ok()["audit_state"], "gaps");
    let closed = end(json!({ "payroll": 1, "portal": 0 })).await.ok();
    assert_eq!((&closed["audit_state"], &closed["sources"][0]["closing_seq"]), (&json!("gaps"), &json!(3)));
    assert!(is_listed("gaps").await && !is_listed("unclosed").await);
    for seq in [2, 3] {
        let mut late = act(world, seq);
        late["source"] = "payroll".into();
        portal.post(&events, &batch([late])).await.ok();
    }
    assert_eq!(portal.get(&path).await.ok()["audit_state"], "complete");
    let told = portal.events("&type=session.closed").await;
    let told: Vec<&Value> = told.iter().map(|event| &event["data"]["sources"]).collect();
    assert!(
        told.len() == 2 && told.contains(&&json!({ "portal": 1 })) && told.contains(&&json!({ "payroll": 3 })),
        "{told:?}"
    );

    // However often a session is closed, it has no more than twice the sources that may report.
    let many = |of: &str| (0..100).map(|number| (format!("{of}{number}"), json!(0))).collect::<serde_json::Map<_, _>>();
    end(Value::Object(many("a"))).await.ok();
    end(Value::Object(many("b"))).await.refused(409, "report_limit_reached");
    let session = world.open_session(&portal).await;
    let events = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    portal.post(&events, &batch([act(world, 1)])).await.ok();
    portal.post(&events.replace("/events", "/end"), &json!({ "sources": {} })).await.ok();
    world.clock.advance(time::Duration::minutes(16));
    assert_eq!(portal.get(&events.replace("/events", "")).await.ok()["audit_state"], "unclosed", "it named no source");
}
