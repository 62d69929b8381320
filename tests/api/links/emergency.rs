//! Break-glass: an access that waits for no approval is short, told to everybody concerned, and reviewed.

use std::process::Stdio;

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::Duration;

use super::changing::extension;
use crate::support::{Api, Process, Receiver, Settings, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";
const POLICY: &str = "/v1/tenants/acme/policy";

/// A back end that may issue in an emergency, at a tenant whose policy allows it and who has muted every notice.
async fn portal(world: &World) -> Api {
    let contacts = json!([{ "name": "Anil Rao", "email": "anil@acme.example" }]);
    let muted = json!(["access_issued", "access_used", "access_ended", "owner_access_used", "owner_access_ended"]);
    let tenant = json!({ "name": "ACME", "contacts": contacts, "muted_notices": muted });
    world.admin.put("/v1/tenants/acme", &tenant).await.ok();
    world.admin.put(POLICY, &json!({ "emergency": "allowed" })).await.ok();
    able(world).await
}

/// A back end that may issue in an emergency, as far as the policy allows it.
async fn able(world: &World) -> Api {
    let scopes = [
        "links:issue",
        "links:emergency",
        "links:read",
        "links:revoke",
        "links:approve",
        "audit:read",
        "sessions:redeem",
        "webhooks:manage",
    ];
    world.client(Some("cloud"), &["acme"], &scopes).await
}

fn emergency(consultant: &str, profile: &str) -> Value {
    let mut request = Api::issue_request(consultant);
    request["profile"] = json!({ "id": profile, "name": "Asha Rao", "email": "asha@acme.example" });
    request["emergency"] = json!({ "justification": "Salaries are paid in one hour, and the run is stuck" });
    request
}

fn review(reviewer: &str, finding: &str) -> Value {
    json!({
        "reviewer": { "id": reviewer, "name": "Anil Rao" }, "finding": finding,
        "comment": "The run was stuck, and nothing else was touched",
    })
}

async fn end(portal: &Api, link: &str) {
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
}

fn id(link: &Value) -> String {
    link["id"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
async fn an_emergency_is_for_whom_policy_and_scope_allow_it(world: &World) {
    let consultant = world.consultant().await;
    let request = emergency(&consultant, "emp-1042");
    let able = able(world).await;
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    able.post(LINKS, &request).await.refused(403, "policy_forbids");
    world.admin.put(POLICY, &json!({ "emergency": "forbidden" })).await.ok();
    able.post(LINKS, &request).await.refused(403, "policy_forbids");
    world.admin.put(POLICY, &json!({ "emergency": "allowed" })).await.ok();
    let unable = world.client(Some("cloud"), &["acme"], &["links:issue"]).await;
    unable.post(LINKS, &request).await.refused(403, "insufficient_scope");
    let mut inside = request.clone();
    inside["acting_session_id"] = json!("ses_01kaq3v9e8fwmvd2x7n0c5hb2z");
    able.post(LINKS, &inside).await.refused(403, "support_session_cannot_grant");
    // Every other rule of the policy holds.
    world.admin.put(POLICY, &json!({ "emergency": "allowed", "access_allowed": ["read_only"] })).await.ok();
    able.post(LINKS, &request).await.refused(403, "policy_forbids");
    assert_eq!(world.admin.get(LINKS).await.ok()["items"], json!([]));
    assert!(world.admin.events("&type=magic_link.emergency_issued").await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_emergency_is_short_begins_at_once_and_says_why(world: &World) {
    let portal = portal(world).await;
    let consultant = world.consultant().await;
    let with = |pointer: &str, value: Value| {
        let mut request = emergency(&consultant, "emp-1042");
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        request.pointer_mut(parent).unwrap()[member] = value;
        request
    };
    for (pointer, value, field) in [
        ("/duration/value", json!(5), "/duration"),
        ("/duration", json!({ "value": 1, "unit": "days" }), "/duration"),
        ("/starts_at", json!(world.clock.now().plus(Duration::hours(1))), "/starts_at"),
        ("/emergency/justification", json!("too short"), "/emergency/justification"),
        ("/emergency/justification", json!("x".repeat(501)), "/emergency/justification"),
        ("/emergency/justification", json!("with a\nline break"), "/emergency/justification"),
        ("/reentry", json!("device"), "/reentry"),
    ] {
        portal.post(LINKS, &with(pointer, value)).await.refused_field(field);
    }
    for value in [json!(true), json!("yes"), json!({}), json!([]), json!({ "justification": 1 })] {
        portal.post(LINKS, &with("/emergency", value)).await.refused(400, "invalid_body");
    }
    assert_eq!(portal.get(LINKS).await.ok()["items"], json!([]));
    // No emergency is what it is without the member.
    let link = portal.post(LINKS, &with("/emergency", Value::Null)).await.ok();
    assert!(link.get("emergency").is_none(), "{link}");
    portal
        .post(&format!("{LINKS}/{}/review", id(&link)), &review("emp-8", "justified"))
        .await
        .refused(404, "not_found");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn an_emergency_is_told_to_everybody_and_reviewed_once(world: &World) {
    let receiver = Receiver::start().await;
    let portal = portal(world).await;
    receiver.endpoint_of(&portal).await;
    let link = portal.post_once(LINKS, "one", &emergency(&world.consultant().await, "emp-1042")).await.ok();
    let justification = "Salaries are paid in one hour, and the run is stuck";
    let due = json!(world.clock.now().plus(Duration::hours(72)));
    let pending = json!({ "justification": justification, "review_state": "pending", "review_due_at": due });
    assert_eq!(link["emergency"], pending);
    assert_eq!(
        portal.post_once(LINKS, "one", &emergency(link["consultant"]["id"].as_str().unwrap(), "emp-1042")).await.ok()["emergency"],
        pending
    );
    let path = format!("{LINKS}/{}", id(&link));
    assert_eq!(portal.get(&path).await.ok()["emergency"], pending);
    // Nobody has muted this.
    for (kind, recipients) in [
        ("emergency_issued", &["anil@acme.example", "hr@acme.example"][..]),
        ("owner_emergency_issued", &["asha@acme.example"]),
    ] {
        let mails = eventually(kind, async || {
            Some(world.mails.notices(kind).await).filter(|mails| mails.len() == recipients.len())
        })
        .await;
        let mut found: Vec<&str> = mails.iter().map(|mail| mail["To"][0]["Email"].as_str().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, recipients);
        for mail in mails {
            assert!(mail["Subject"].as_str().unwrap().starts_with("Emergency access"), "{mail}");
            assert!(mail["Text"].as_str().unwrap().contains(justification), "{mail}");
        }
    }
    assert!(world.mails.notices("access_issued").await.is_empty(), "one notice says it");
    // It stays as it is, and nothing takes its place.
    portal.post(&format!("{path}/extend"), &extension(1)).await.refused(409, "emergency_access");
    let mut replacing = emergency(link["consultant"]["id"].as_str().unwrap(), "emp-1042");
    replacing["replace"] = json!(true);
    for request in [&replacing, &{
        let mut ordinary = replacing.clone();
        ordinary.as_object_mut().unwrap().remove("emergency");
        ordinary
    }] {
        let refused = portal.post(LINKS, request).await;
        refused.refused(409, "emergency_access");
        assert_eq!(refused.body["magic_link_id"], link["id"]);
    }
    // Another one for the profile waits for the review, whoever is to get it; another profile does not.
    let other = emergency(&world.consultant().await, "emp-1042");
    let refused = portal.post(LINKS, &other).await;
    refused.refused(409, "review_due");
    assert_eq!(refused.body["magic_link_id"], link["id"]);
    let elsewhere = portal.post(LINKS, &emergency(&world.consultant().await, "emp-9")).await.ok();
    // The review comes after the end, and from somebody else.
    let reviewing = format!("{path}/review");
    portal.post(&reviewing, &review("emp-8", "justified")).await.refused(409, "review_too_early");
    end(&portal, &id(&link)).await;
    portal.post(&reviewing, &review("EMP-7", "justified")).await.refused(403, "own_request");
    portal.post(LINKS, &other).await.refused(409, "review_due");
    let states = async |state: &str| {
        let list = portal.get(&format!("{LINKS}?review_state={state}")).await.ok();
        list["items"].as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    assert_eq!(states("pending").await, [id(&elsewhere), id(&link)]);
    world.clock.advance(Duration::hours(72));
    assert_eq!((states("pending").await, states("overdue").await), (vec![], vec![id(&elsewhere), id(&link)]));
    let reviewed = portal.post_once(&reviewing, "two", &review("emp-8", "unjustified")).await.ok();
    let said = json!({
        "reviewer": { "id": "emp-8", "name": "Anil Rao" }, "finding": "unjustified",
        "comment": "The run was stuck, and nothing else was touched", "reviewed_at": world.clock.now(),
    });
    assert_eq!((&reviewed["emergency"]["review"], &reviewed["emergency"]["review_state"]), (&said, &json!("done")));
    assert_eq!(
        portal.post_once(&reviewing, "two", &review("emp-8", "unjustified")).await.ok()["emergency"],
        reviewed["emergency"]
    );
    portal.post(&reviewing, &review("emp-8", "justified")).await.refused(409, "already_decided");
    assert_eq!((states("done").await, states("overdue").await), (vec![id(&link)], vec![id(&elsewhere)]));
    portal.post(LINKS, &other).await.ok();
    // On record, in the evidence, and told to machines.
    for (kind, member, value) in [
        ("magic_link.emergency_issued", "justification", justification),
        ("magic_link.reviewed", "finding", "unjustified"),
    ] {
        let events = portal.events(&format!("&type={kind}&magic_link_id={}", id(&link))).await;
        assert_eq!((events.len(), &events[0]["data"][member]), (1, &json!(value)));
    }
    let evidence = portal.get(&format!("{path}/evidence")).await.ok();
    assert_eq!(evidence["evidence"]["link"]["emergency"]["review"], said);
    for (kind, member, value) in [
        ("magic_link.emergency_issued", "review_due_at", due),
        ("magic_link.reviewed", "finding", json!("unjustified")),
    ] {
        let message = eventually(kind, async || {
            let messages = receiver.messages().await;
            messages
                .into_iter()
                .find(|message| message.kind() == kind && message.body["data"]["magic_link_id"] == link["id"])
        })
        .await;
        assert_eq!(message.body["data"][member], value, "{message:?}");
        assert!(!message.text.contains("Salaries") && !message.text.contains("stuck"), "{}", message.text);
    }
}

#[apply(on_both_databases)]
async fn of_several_emergencies_for_a_profile_one_is_issued(world: &World) {
    let portal = portal(world).await;
    let mut requests = Vec::new();
    for _ in 0..6 {
        requests.push(emergency(&world.consultant().await, "emp-1042"));
    }
    let replies = join_all(requests.iter().map(|request| portal.post(LINKS, request))).await;
    let (made, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 201);
    assert_eq!(made.len(), 1, "{replies:?}");
    for reply in refused {
        reply.refused(409, "review_due");
        assert_eq!(reply.body["magic_link_id"], made[0].body["id"]);
    }
    let issued = portal.event_types("&type=magic_link.issued").await;
    let declared = portal.event_types("&type=magic_link.emergency_issued").await;
    assert_eq!((issued.len(), declared.len()), (1, 1));
    // Of several reviews one counts.
    let path = format!("{LINKS}/{}/review", id(&made[0].body));
    end(&portal, &id(&made[0].body)).await;
    let reviews = ["justified", "unjustified", "inconclusive"].map(|finding| review("emp-8", finding));
    let replies = join_all(reviews.iter().map(|review| portal.post(&path, review))).await;
    let given = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(given, 1, "{replies:?}");
    assert_eq!(portal.event_types("&type=magic_link.reviewed").await.len(), 1);
}

#[apply(on_both_databases)]
#[settings(crate::support::device::careful())]
async fn an_emergency_never_skips_the_mailed_code(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    world.admin.put(POLICY, &json!({ "emergency": "allowed" })).await.ok();
    let link = world.admin.post(LINKS, &emergency(&world.consultant().await, "emp-1042")).await.ok();
    let token = world.token(&id(&link), 1).await;
    world.admin.redeem(&token).await.refused(403, "step_up_required");
    let continued = world.stranger().post("/l/continue", &json!({ "token": token })).await.ok();
    assert!(continued.get("redirect_url").is_none() && continued.get("step_up").is_some(), "{continued}");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn open_reviews_are_counted_for_whoever_watches(world: &World) {
    let process = Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], Stdio::inherit());
    let admin = world.admin.at(&process.base);
    let ravi = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = admin.post("/v1/consultants", &ravi).await.ok();
    admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    admin.put(POLICY, &json!({ "emergency": "allowed" })).await.ok();
    admin.post(LINKS, &emergency(consultant["id"].as_str().unwrap(), "emp-1042")).await.ok();
    // A worker counts, now and then.
    let counted = async |pending: u8, overdue: u8| {
        eventually("the reviews are counted", async || {
            let address = format!("{}/metrics", process.metrics);
            let text = reqwest::Client::new().get(address).send().await.unwrap().text().await.unwrap();
            let says = |state: &str, number: u8| {
                let line = format!("magic_link_emergency_reviews{{state=\"{state}\"}} {number}");
                text.lines().any(|one| one == line)
            };
            (says("pending", pending) && says("overdue", overdue)).then_some(())
        })
        .await;
    };
    counted(1, 0).await;
    Sql::of(world).run("UPDATE link_reviews SET review_due_at = created_at").unwrap();
    counted(0, 1).await;
}
