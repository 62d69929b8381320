//! Times that portals report: none is refused, and none that is wrong passes for right.

use serde_json::{Value, json};
use time::Duration;

use super::{acts, visit};
use crate::support::{Auditor, Settings, World, apply, eventually, on_both_databases};

fn event(seq: i64, at: impl serde::Serialize) -> Value {
    json!({
        "seq": seq, "kind": "view", "occurred_at": at, "action": "employee.viewed", "resource_type": "employee",
        "resource_id": "emp-9", "principal_id": "emp-5",
    })
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_shows_no_time_before_itself_as_its_last(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let start = world.clock.now();
    for (seq, at, shown) in [
        (1, json!("0001-01-01T00:00:00Z"), 5),
        (2, json!(start.plus(Duration::minutes(7))), 7),
        (3, json!("9999-12-31T23:59:59Z"), 15),
    ] {
        world.clock.advance(Duration::minutes(5));
        portal.post(&format!("{path}/events"), &json!({ "events": [event(seq, at)] })).await.ok();
        let last = portal.get(&path).await.ok()["last_event_at"].clone();
        assert_eq!(last, json!(start.plus(Duration::minutes(shown))), "{seq}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_time_outside_the_session_is_taken_and_marked(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let start = world.clock.now();
    world.clock.advance(Duration::minutes(10));
    let now = world.clock.now();
    let reported = json!({ "events": [
        event(1, "0001-01-01T00:00:00Z"),
        event(2, start.minus(Duration::minutes(6))),
        event(3, start.minus(Duration::minutes(4))),
        event(4, now),
        event(5, now.plus(Duration::minutes(4))),
        event(6, now.plus(Duration::minutes(6))),
        event(7, "9999-12-31T23:59:59Z"),
        // The largest value of a library, in local time: in UTC it lies in the year 10000.
        event(8, "9999-12-31T23:59:59.9999999-05:00"),
        // The smallest one likewise: in UTC it lies in a year that no calendar has.
        event(9, "0001-01-01T00:00:00+05:30"),
    ]});
    let answer = portal.post(&format!("{path}/events"), &reported).await.ok();
    assert_eq!(
        (&answer["recorded"], &answer["audit_state"]),
        (&json!(9), &json!("complete")),
        "the numbering is whole"
    );
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 10 } })).await.ok();
    let ended = world.clock.now();
    world.clock.advance(Duration::minutes(20));
    let late = json!({ "events": [event(10, ended.plus(Duration::minutes(10)))] });
    portal.post(&format!("{path}/events"), &late).await.ok();

    let events = portal.events("&type=data.viewed").await;
    let marks = |seq: i64| {
        let event = events.iter().find(|event| event["seq"] == seq).unwrap();
        ["out_of_session", "policy_violation", "late"].map(|mark| event.get(mark) == Some(&json!(true)))
    };
    for (seq, expected) in [
        (1, [true, false, false]),
        (2, [true, false, false]),
        (3, [false, false, false]),
        (4, [false, false, false]),
        (5, [false, false, false]),
        (6, [true, false, false]),
        (7, [true, true, false]),
        (8, [true, true, false]),
        (9, [true, false, false]),
        (10, [true, true, true]),
    ] {
        assert_eq!(marks(seq), expected, "{seq}");
    }
    assert_eq!(portal.events("&out_of_session=true").await.len(), 7);
    assert_eq!(portal.events("&type=data.viewed&out_of_session=false").await.len(), 3);
    // What was recorded when can be asked for, whatever the portal's clock says.
    let recorded = format!("&type=data.viewed&recorded_from={now}&recorded_to={}", now.plus(Duration::seconds(1)));
    assert_eq!(portal.events(&recorded).await.len(), 9);
    assert_eq!(
        portal.events(&format!("&type=data.viewed&recorded_from={}", ended.plus(Duration::minutes(1)))).await.len(),
        1
    );
    // Nothing has happened after it was told.
    let session = portal.get(&path).await.ok();
    assert_eq!(session["last_event_at"], json!(ended.plus(Duration::minutes(10))), "{session}");
    // The person is told no year 1.
    let summary = portal.get("/v1/access-summaries/emp-5?tenant_id=acme").await.ok()["items"][0].clone();
    assert_eq!(summary["first_at"], json!(start.minus(Duration::minutes(4))));
    assert_eq!((&summary["last_at"], &summary["views"]), (&json!(world.clock.now()), &json!(10)));
    let auditor = Auditor::of("acme", &world.admin).await;
    let checkpoint = auditor.checkpoint(&world.admin).await;
    let export = auditor.export(&world.admin).await;
    assert!(export.contains("\"out_of_session\":true"));
    assert!(auditor.verify(&export, &[&checkpoint]).status.success());
    // A search by the time finds it, and sees that it was told so.
    let ocsf = world.admin.get("/v1/audit-events/export?tenant_id=acme&format=ocsf&out_of_session=true").await.text;
    let lines: Vec<Value> = ocsf.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let lines: Vec<&Value> = lines.iter().filter(|line| line.get("metadata").is_some()).collect();
    assert_eq!(lines.len(), 7);
    for line in lines {
        assert_eq!(
            (&line["unmapped"]["out_of_session"], &line["time"]),
            (&json!(true), &line["metadata"]["logged_time"])
        );
    }
    let hidden = export.replacen("\"out_of_session\":true,", "", 1);
    assert!(!auditor.verify(&hidden, &[&checkpoint]).status.success(), "the mark is in the leaf");
}

#[apply(on_both_databases)]
async fn whoever_acted_as_a_person_is_in_that_persons_summary(world: &World) {
    let (portal, session) = visit(world).await;
    // emp-1042 is the profile; the reported acts were about emp-9.
    let summary = async |person: &str| {
        portal.get(&format!("/v1/access-summaries/{person}?tenant_id=acme")).await.ok()["items"].clone()
    };
    let acted = summary("emp-1042").await;
    assert_eq!((&acted[0]["session_id"], &acted[0]["views"]), (&session["id"], &json!(0)));
    assert_eq!(acted[0]["first_at"], session["started_at"]);
    assert_eq!((summary("emp-9").await[0]["changes"].as_i64(), summary("emp-8").await), (Some(10), json!([])));
    let again = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/events", again["id"].as_str().unwrap());
    let mut report = acts(world, "portal", 1, 1);
    report["events"][0]["principal_id"] = json!("emp-1042");
    portal.post(&path, &report).await.ok();
    let acted = summary("emp-1042").await;
    let ids: Vec<&Value> = acted.as_array().unwrap().iter().map(|one| &one["session_id"]).collect();
    assert_eq!(ids, [&again["id"], &session["id"]], "each once, newest first");
    let first = portal.get("/v1/access-summaries/emp-1042?tenant_id=acme&page_size=1").await.ok();
    let next = first["next_cursor"].as_str().unwrap();
    let second =
        portal.get(&format!("/v1/access-summaries/emp-1042?tenant_id=acme&page_size=1&cursor={next}")).await.ok();
    assert_eq!((&first["items"][0]["session_id"], &second["items"][0]["session_id"]), (&again["id"], &session["id"]));
    // Another portal's client sees nothing of it.
    let ess = world.portal("ess", "acme").await;
    assert_eq!(ess.get("/v1/access-summaries/emp-1042?tenant_id=acme").await.ok()["items"], json!([]));
    eventually("nothing is left", async || Some(())).await;
}

#[apply(on_both_databases)]
async fn a_view_of_the_log_says_that_it_is_one_and_so_does_whoever_checks_it(world: &World) {
    let (portal, _) = visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let checkpoint = auditor.checkpoint(&world.admin).await;
    let export = "/v1/audit-events/export?tenant_id=acme";
    let cut = portal.get(export).await.text;
    let first: Value = serde_json::from_str(cut.lines().next().unwrap()).unwrap();
    assert_eq!((&first["view"]["portal"], &first["view"]["filters"]["tenant_id"]), (&json!("cloud"), &json!("acme")));
    let filtered = world.admin.get(&format!("{export}&type=data.changed")).await.text;
    let first: Value = serde_json::from_str(filtered.lines().next().unwrap()).unwrap();
    assert_eq!(first["view"]["filters"]["type"], "data.changed");
    let csv = world.admin.get(&format!("{export}&format=csv")).await.text;
    let ocsf = world.admin.get(&format!("{export}&format=ocsf")).await.text;
    for view in [&cut, &filtered, &csv, &ocsf] {
        let checked = auditor.verify(view, &[&checkpoint]);
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.code() == Some(1) && said.contains("is a view of the log"), "{said}");
    }
    let whole = world.admin.get(export).await.text;
    assert!(whole.starts_with("{\"leaf\"") && auditor.verify(&whole, &[&checkpoint]).status.success());
    // A spreadsheet reads the names of everybody right.
    let csv = world.admin.request(reqwest::Method::GET, &format!("{export}&format=csv")).send().await.unwrap();
    assert!(csv.bytes().await.unwrap().starts_with(b"\xef\xbb\xbflog_index,"));
}
