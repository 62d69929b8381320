//! The nightly review: what it asks, night after night, names every finding, whenever that was recorded.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use time::Duration;

use magic_link::clock::Timestamp;

use crate::support::{Api, Reader, Settings, World, apply, blocks, eventually, on_both_databases};

/// How long before the end of the last range the next one begins, as the pages say.
const OVERLAP: Duration = Duration::minutes(2);

/// Reports of a session in a round.
const EACH: i64 = 5;

fn view(seq: i64, at: Timestamp) -> Value {
    json!({ "events": [{
        "seq": seq, "kind": "view", "occurred_at": at, "action": "employee.viewed", "resource_type": "employee",
        "resource_id": "emp-9", "principal_id": "emp-9",
    }] })
}

fn path_of(session: &Value) -> String {
    format!("/v1/sessions/{}", session["id"].as_str().unwrap())
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_visit_that_goes_on_during_a_review_is_named_by_one_that_follows(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let reviewer = world.client(None, &["acme"], &["links:read", "audit:read"]).await;
    let block = blocks("openapi/README.md", "## A nightly review").swap_remove(1);
    let question = block.lines().find(|line| line.contains("audit.gap")).expect("who has gaps");
    let mut reader = Reader::new(world, "nights");
    reader.learn("REVIEW_KEY", reviewer.key());
    let (mut since, mut sessions) = (world.clock.now(), Vec::new());
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for night in 1..=3 {
        // One loses reports, and the portal never closes the other one.
        let (lossy, open) = (world.open_session(&portal).await, world.open_session(&portal).await);
        world.clock.advance(Duration::minutes(30));
        let began = world.clock.now();
        reader.learn("SINCE", &since.minus(OVERLAP).to_string());
        for event in reader.call(question)["items"].as_array().unwrap() {
            let (session, id) = (event["session_id"].as_str().unwrap(), event["id"].as_str().unwrap());
            named.entry(session.to_owned()).or_default().insert(id.to_owned());
        }
        since = began;
        world.clock.advance(Duration::minutes(30));
        portal.post(&format!("{}/events", path_of(&lossy)), &view(1, world.clock.now())).await.ok();
        portal.post(&format!("{}/end", path_of(&lossy)), &json!({ "sources": { "portal": 5 } })).await.ok();
        sessions.extend([&lossy, &open].map(|session| session["id"].as_str().unwrap().to_owned()));
        // The link of the other one is open for four hours.
        world.clock.advance(Duration::hours(5));
        eventually("both are known to be incomplete", async || {
            // A record counts as never closed some time after its end was noticed.
            world.clock.advance(Duration::seconds(30));
            (portal.events("&type=audit.gap").await.len() == 2 * night).then_some(())
        })
        .await;
        world.clock.advance(Duration::hours(18));
    }
    // Those of the last night are for the review of the next one.
    let names: Vec<&String> = named.keys().collect();
    let mut expected: Vec<&String> = sessions.iter().take(4).collect();
    expected.sort();
    assert_eq!(names, expected);
    assert!(named.values().all(|events| events.len() == 1), "{named:?}");
}

// Reports are on their way while somebody asks, and are recorded behind the answer.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_begins_each_range_two_minutes_earlier_misses_nothing(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut reports = Vec::new();
    for _ in 0..4 {
        reports.push(format!("{}/events", path_of(&world.open_session(&portal).await)));
    }
    let ids = |events: Vec<Value>| events.into_iter().map(|event| event["id"].as_str().unwrap().to_owned());
    let (mut seen, mut since) = (BTreeSet::new(), world.clock.now());
    let ask = async |api: &Api, since: Timestamp| {
        api.events(&format!("&type=data.viewed&recorded_from={}", since.minus(OVERLAP))).await
    };
    let rounds = 8;
    for round in 0..rounds {
        let now = world.clock.now();
        let reported = join_all(reports.iter().map(|path| async move {
            for seq in 1..=EACH {
                world.admin.post(path, &view(round * EACH + seq, now)).await.ok();
            }
        }));
        let asked = async {
            for _ in 0..EACH {
                // Time passes while they are on their way: less than half a minute in all.
                world.clock.advance(Duration::seconds(5));
                let began = world.clock.now();
                seen.extend(ids(ask(&world.admin, since).await));
                since = began;
            }
        };
        join(reported, asked).await;
    }
    seen.extend(ids(ask(&world.admin, since).await));
    let all: BTreeSet<String> = ids(portal.events("&type=data.viewed").await).collect();
    assert_eq!(all.len(), reports.len() * usize::try_from(rounds * EACH).unwrap());
    assert_eq!(seen, all);
}
