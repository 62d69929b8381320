//! What a session does beyond its access is taken, marked, and told: to few mailboxes, in few mails.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::{Api, Receiver, Settings, Sql, World, apply, eventually, on_both_databases, unguarded};

const LINKS: &str = "/v1/magic-links";

/// A session of a grant with these members, at a tenant with a contact: its portal, its link, and its path.
async fn visit(world: &World, members: &[(&str, Value)]) -> (Api, String, String) {
    let contacts = json!([
        { "name": "Meera Iyer", "email": "HR@acme.example" }, { "name": "Anil Rao", "email": "anil@acme.example" },
    ]);
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "contacts": contacts })).await.ok();
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    for (member, value) in members {
        request[*member] = value.clone();
    }
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let code = world.click(&world.token(&link, 1).await).await;
    let session = portal.redeem(&code).await.ok();
    (portal, link, format!("/v1/sessions/{}", session["id"].as_str().unwrap()))
}

fn act(world: &World, seq: i64, kind: &str, category: Option<&str>) -> Value {
    let mut act = json!({
        "seq": seq, "kind": kind, "occurred_at": world.clock.now(), "action": "employee.touched",
        "resource_type": "employee", "resource_id": "emp-9",
    });
    if let Some(category) = category {
        act["category"] = category.into();
    }
    act
}

async fn report(portal: &Api, path: &str, acts: &[Value]) -> Value {
    portal.post(&format!("{path}/events"), &json!({ "events": acts })).await.ok()
}

/// Who has a notice, or will have one: the jobs are written with the report.
async fn notified(world: &World) -> Vec<String> {
    let jobs = world.admin.get("/v1/mail-deliveries?template=policy_violation").await.ok();
    let recipients = jobs["items"].as_array().unwrap().iter();
    let mut recipients: Vec<String> = recipients.map(|job| job["recipient"].as_str().unwrap().to_owned()).collect();
    recipients.sort();
    recipients
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_an_access_forbids_is_taken_marked_and_told_once(world: &World) {
    let receiver = Receiver::start().await;
    let forbidden = json!(["export", "bank_account"]);
    let (portal, link, path) = visit(world, &[("forbidden", forbidden)]).await;
    receiver.endpoint_of(&portal).await;
    let acts = [
        act(world, 1, "change", Some("bank_account")),
        act(world, 2, "view", None),
        act(world, 3, "export", None),
        act(world, 4, "change", Some("roles")),
        act(world, 5, "export", Some("contact_details")),
    ];
    assert_eq!(report(&portal, &path, &acts).await["recorded"], 5, "all of it is taken");
    let marked: Vec<i64> =
        portal.events("&policy_violation=true").await.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(marked, [1, 3, 5]);
    let changed = portal.events("&type=data.changed").await;
    assert_eq!(
        (&changed[0]["data"]["category"], &changed[1]["data"]["category"]),
        (&json!("bank_account"), &json!("roles"))
    );
    // One event a report says so, and one message.
    let told = json!({ "violations": 3, "causes": ["forbidden"], "categories": ["export", "bank_account"] });
    let events = portal.events("&type=magic_link.policy_violation").await;
    assert_eq!((events.len(), &events[0]["data"]), (1, &told));
    assert_eq!(events[0]["magic_link_id"], json!(link));
    let message = eventually("the portal is told", async || {
        let messages = receiver.messages().await;
        messages.into_iter().find(|message| message.kind() == "magic_link.policy_violation")
    })
    .await;
    let data = &message.body["data"];
    assert_eq!(format!("/v1/sessions/{}", data["session_id"].as_str().unwrap()), path);
    assert_eq!(data["magic_link_id"], json!(link));
    for member in ["violations", "causes", "categories"] {
        assert_eq!(data[member], told[member]);
    }
    // The admin is one of the contacts, and hears once.
    assert_eq!(notified(world).await, ["anil@acme.example", "hr@acme.example"]);
    let mails = eventually("both notices", async || {
        Some(world.mails.notices("policy_violation").await).filter(|mails| mails.len() == 2)
    })
    .await;
    for mail in &mails {
        let text = mail["Text"].as_str().unwrap();
        let beyond = "Beyond the access so far: 3 (not included: exporting data, changing bank accounts)";
        assert!(text.contains(beyond), "{text}");
        let name = if mail["To"][0]["Email"] == "anil@acme.example" { "Hello Anil Rao," } else { "Hello Meera Iyer," };
        assert!(text.contains(name), "{text}");
    }
    // A repeat is none, and what follows within the hour is on record, and told to machines.
    report(&portal, &path, &acts).await;
    assert_eq!(portal.events("&type=magic_link.policy_violation").await.len(), 1);
    report(&portal, &path, &[act(world, 6, "export", None)]).await;
    assert_eq!(portal.events("&type=magic_link.policy_violation").await.len(), 2);
    assert_eq!(notified(world).await.len(), 2);
    world.clock.advance(Duration::hours(1));
    report(&portal, &path, &[act(world, 7, "export", None)]).await;
    assert_eq!(notified(world).await.len(), 4, "a new hour, a new notice");
    // The record of it all is in the evidence, and SIEMs hear of it.
    let evidence = portal.get(&format!("{LINKS}/{link}/evidence")).await.ok()["evidence"].clone();
    let kinds = evidence["events"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["leaf"]["type"] == "magic_link.policy_violation");
    assert_eq!(kinds.count(), 3);
    let ocsf =
        world.admin.get("/v1/audit-events/export?tenant_id=acme&format=ocsf&type=magic_link.policy_violation").await;
    assert_eq!(ocsf.text.matches("\"severity\":\"Medium\"").count(), 3, "{}", ocsf.text);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_change_in_a_read_only_session_and_an_act_after_the_end_are_told_too(world: &World) {
    let (portal, _link, path) = visit(world, &[("access", json!("read_only"))]).await;
    let acts = [act(world, 1, "change", None), act(world, 2, "export", None), act(world, 3, "view", Some("export"))];
    report(&portal, &path, &acts).await;
    let told = portal.events("&type=magic_link.policy_violation").await;
    assert_eq!(told[0]["data"], json!({ "violations": 1, "causes": ["read_only"] }), "nothing else is forbidden");
    assert_eq!(notified(world).await.len(), 2);
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 4 } })).await.ok();
    world.clock.advance(Duration::minutes(10));
    report(&portal, &path, &[act(world, 4, "change", None)]).await;
    let told = portal.events("&type=magic_link.policy_violation").await;
    assert_eq!(told[1]["data"], json!({ "violations": 1, "causes": ["read_only", "after_end"] }));
    for minutes in [1, 3 * 60, 30 * 60] {
        world.clock.advance(Duration::minutes(minutes));
        report(&portal, &path, &[act(world, 4 + minutes, "change", None)]).await;
    }
    assert_eq!(notified(world).await.len(), 4, "one about all that comes after the end");
    // The summary of the visit counts them.
    let summary = eventually("a summary", async || world.mails.notices("access_ended").await.into_iter().next()).await;
    let text = summary["Text"].as_str().unwrap();
    assert!(
        text.contains("\nBeyond the access: ") && text.contains("changes, though the access is read only"),
        "{text}"
    );
}

#[apply(on_both_databases)]
async fn a_category_is_one_of_the_words_and_nothing_is_marked_where_nothing_is_forbidden(world: &World) {
    let (portal, _link, path) = visit(world, &[]).await;
    for wrong in [json!("exports"), json!(""), json!(1), json!(["export"]), json!({ "export": null })] {
        let mut wrongly = act(world, 1, "change", None);
        wrongly["category"] = wrong;
        let body = json!({ "events": [wrongly] });
        portal.post(&format!("{path}/events"), &body).await.refused(400, "invalid_body");
    }
    let mut unnamed = act(world, 1, "view", None);
    unnamed["category"] = Value::Null;
    let acts = [unnamed, act(world, 2, "export", Some("export")), act(world, 3, "change", Some("delete"))];
    assert_eq!(report(&portal, &path, &acts).await["recorded"], 3);
    // The number is taken, with this category.
    let another = json!({ "events": [act(world, 3, "change", Some("mfa"))] });
    portal.post(&format!("{path}/events"), &another).await.refused(409, "event_conflict");
    assert!(portal.events("&policy_violation=true").await.is_empty());
    assert!(portal.events("&type=magic_link.policy_violation").await.is_empty());
    assert!(notified(world).await.is_empty());
}

// As a newer version writes it while this one still runs, or somebody who changes the database.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_mail_whose_facts_are_not_understood_holds_up_no_other(world: &World) {
    world.mails.misbehave_about("Beyond the access", ResponseTemplate::new(503));
    let (portal, _, path) = visit(world, &[("forbidden", json!(["export"]))]).await;
    report(&portal, &path, &[act(world, 1, "export", None)]).await;
    let notices = async || {
        let page = world.admin.get("/v1/mail-deliveries?template=policy_violation").await.ok();
        page["items"].as_array().unwrap().clone()
    };
    let tried = async |attempts: i64| {
        eventually("both notices are tried", async || {
            Some(notices().await).filter(|jobs| jobs.iter().all(|job| job["attempts"].as_i64() >= Some(attempts)))
        })
        .await
    };
    tried(1).await;
    let renamed = |from: &str, to: &str| {
        format!(
            "UPDATE audit_payloads SET payload = replace(payload, '\"causes\":[\"{from}\"]', '\"causes\":[\"{to}\"]')"
        )
    };
    unguarded(world, "audit_payloads", &renamed("forbidden", "too_late_at_night"));
    world.mails.behave();
    world.clock.advance(Duration::hours(1));
    let other = portal.issue(&world.consultant().await).await;
    world.mails.wait_for(&other, 1).await;
    for job in tried(2).await {
        assert_eq!(
            (&job["state"], &job["last_error"]),
            (&json!("queued"), &json!("what the mail is about could not be read"))
        );
    }
    Sql::of(world).run(&renamed("too_late_at_night", "forbidden")).unwrap();
    world.clock.advance(Duration::hours(1));
    eventually("both notices leave", async || {
        Some(world.mails.notices("policy_violation").await).filter(|mails| mails.len() >= 2)
    })
    .await;
}
