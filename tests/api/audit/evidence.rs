//! What the log is asked for: evidence about one link, gaps, values, and who touched a person's data.

use serde_json::{Value, json};

use super::{acts, visit};
use crate::support::{Auditor, Settings, Sql, World, apply, on_both_databases};

#[apply(on_both_databases)]
async fn evidence_about_a_link_stands_by_itself(world: &World) {
    let (portal, session) = visit(world).await;
    let link = session["magic_link_id"].as_str().unwrap();
    let token = world.token(link, 1).await;
    world.stranger().post("/l/continue", &json!({ "token": token })).await.refused(410, "link_spent");
    let reason = json!({ "reason": "The work is done" });
    portal.post(&format!("/v1/magic-links/{link}/revoke"), &reason).await.ok();
    let pack = portal.get(&format!("/v1/magic-links/{link}/evidence")).await;
    assert_eq!(pack.status, 200, "{pack:?}");
    let evidence = &pack.body["evidence"];
    assert_eq!((&evidence["link"]["id"], &evidence["sessions"][0]["id"]), (&json!(link), &session["id"]));
    assert_eq!(evidence["mails"][0]["state"], "accepted");
    assert_eq!(evidence["revocation"]["reason"], "The work is done");
    assert_eq!(evidence["refusals"].as_array().unwrap().len(), 1);
    assert!(evidence["events"].as_array().unwrap().len() >= 14);

    let auditor = Auditor::of("acme", &world.admin).await;
    let said = auditor.accepts(&pack.text, &[]);
    assert!(said.contains("evidence") && said.contains("acme"), "{said}");
    for (what, forged) in [
        ("a reason", pack.text.replacen("The work is done", "The work was done", 1)),
        ("an index", pack.text.replacen("\"log_index\":1,", "\"log_index\":2,", 1)),
        ("a space", pack.text.replacen("{\"evidence\"", "{ \"evidence\"", 1)),
        ("the end", pack.text[..pack.text.len() - 10].to_owned()),
    ] {
        assert_ne!(forged, pack.text, "{what}");
        assert_eq!(auditor.verify(&forged, &[]).status.code(), Some(1), "{what}");
    }
    // What another program has saved is told in the words of evidence, and an end of the last line is none of its own.
    let pretty = serde_json::to_string_pretty(&pack.body).unwrap();
    let reversed = format!("{{\"signature\":{},\"evidence\":{}}}", pack.body["signature"], evidence);
    for saved in [
        format!("\u{feff}{}", pack.text),
        format!("\n{}", pack.text),
        format!("{pretty}\n"),
        format!(" {}", pack.text),
        reversed,
        pack.text.replace(':', ": "),
    ] {
        let verified = auditor.verify(&saved, &[]);
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.code() == Some(1) && said.contains("as it was downloaded"), "{said}");
        assert!(!said.contains("--checkpoint"), "{said}");
    }
    for end in ["", "\n", "\r\n"] {
        auditor.accepts(&format!("{}{end}", pack.text.trim_end()), &[]);
    }
    // Whoever asks about a whole log is not content with a pack.
    auditor.refuses(&pack.text, &[&auditor.checkpoint(&world.admin).await], "evidence pack");
    let system = Auditor::of("_system", &world.admin).await;
    system.refuses(&pack.text, &[], "signature");
    portal.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z/evidence").await.refused(404, "not_found");
    assert_eq!(world.admin.events("&type=audit.read&tenant_id=acme").await[0]["data"]["what"], "evidence");
}

#[apply(on_both_databases)]
async fn a_number_that_no_json_reader_can_hold_is_refused(world: &World) {
    let (portal, session) = visit(world).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    for seq in [1_000_000_001, 9_007_199_254_740_993, i64::MAX - 1] {
        portal.post(&format!("{path}/events"), &acts(world, "portal", seq, 1)).await.refused_field("/events/0/seq");
        let sources = json!({ "sources": { "portal": seq } });
        portal.post(&format!("{path}/end"), &sources).await.refused_field("/sources/portal");
    }
    portal.post(&format!("{path}/events"), &acts(world, "portal", 1_000_000_000, 1)).await.ok();
    Auditor::of("acme", &world.admin).await.audit(&world.admin).await;
}

#[apply(on_both_databases)]
async fn values_are_kept_as_the_tenant_says(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let mut seen = Vec::new();
    for (number, how) in ["masked", "plain", "keyed_hash", "keyed_hash"].into_iter().enumerate() {
        if number > 0 {
            let tenant = json!({ "name": "ACME", "change_values": how });
            assert_eq!(world.admin.put("/v1/tenants/acme", &tenant).await.ok()["change_values"], how);
        }
        let report = acts(world, "portal", 1 + i64::try_from(number).unwrap(), 1);
        portal.post(&path, &report).await.ok();
        // A repeat is still told from another act, whatever is kept.
        assert_eq!(portal.post(&path, &report).await.ok()["repeated"], 1);
        let mut other = report.clone();
        other["events"][0]["changes"][0]["after"] = "53000".into();
        portal.post(&path, &other).await.refused(409, "event_conflict");
        seen.push(portal.events("&type=data.changed").await[number]["data"]["changes"][0].clone());
    }
    assert_eq!(seen[0], json!({ "field": "basic", "before": "*****", "after": "*****" }));
    assert_eq!(seen[1], json!({ "field": "basic", "before": "50000", "after": "52000" }));
    assert!(seen[2]["before"].as_str().unwrap().starts_with("hmac-sha256:") && seen[2]["before"] != seen[2]["after"]);
    assert_eq!(seen[2], seen[3], "equal values can be told");
    let stored = Sql::of(world).texts("SELECT payload AS text FROM audit_payloads WHERE payload LIKE '%52000%'");
    assert_eq!(stored.len(), 1, "the plain one");
    world
        .admin
        .put("/v1/tenants/acme", &json!({ "name": "ACME", "change_values": "rot13" }))
        .await
        .refused(400, "invalid_body");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_a_portal_did_not_report_is_listed(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    for first in [2, 3, 7, 12] {
        portal.post(&format!("{path}/events"), &acts(world, "portal", first, 1)).await.ok();
    }
    let missing = async || portal.get(&path).await.ok()["sources"][0]["missing"].clone();
    let ranges = json!([{ "from": 1, "to": 1 }, { "from": 4, "to": 6 }, { "from": 8, "to": 11 }]);
    assert_eq!(missing().await, ranges);
    let states = async |state: &str| {
        let list = portal.get(&format!("/v1/sessions?audit_state={state}")).await.ok();
        list["items"].as_array().unwrap().len()
    };
    assert_eq!((states("complete").await, states("gaps").await, states("unclosed").await), (0, 1, 0));
    portal.post(&format!("{path}/end"), &json!({ "sources": { "portal": 14 } })).await.ok();
    let mut more = ranges;
    more.as_array_mut().unwrap().push(json!({ "from": 13, "to": 14 }));
    assert_eq!(missing().await, more);
    for (first, number) in [(1, 1), (4, 3), (8, 4), (13, 2)] {
        portal.post(&format!("{path}/events"), &acts(world, "portal", first, number)).await.ok();
    }
    assert_eq!(missing().await, Value::Null);
    assert_eq!((states("complete").await, states("gaps").await, states("unclosed").await), (1, 0, 0));
    assert_eq!(portal.events("&late=true").await.len(), 10);
    assert_eq!(portal.events("&late=false&type=data.changed").await.len(), 4);

    world.open_session(&portal).await;
    world.clock.advance(time::Duration::hours(5));
    assert_eq!((states("complete").await, states("gaps").await, states("unclosed").await), (1, 0, 1));
}

#[apply(on_both_databases)]
async fn a_person_learns_who_touched_their_data(world: &World) {
    let (portal, session) = visit(world).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let mut look = acts(world, "portal", 11, 1);
    look["events"][0]["kind"] = "view".into();
    look["events"][0].as_object_mut().unwrap().remove("changes");
    portal.post(&path, &look).await.ok();
    visit(world).await;
    let summary = portal.get("/v1/access-summaries/emp-9?tenant_id=acme").await.ok();
    let items = summary["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{summary}");
    let first = &items[1];
    assert_eq!((&first["session_id"], &first["changes"], &first["views"]), (&session["id"], &json!(10), &json!(1)));
    assert_eq!((&first["consultant"]["name"], &first["profile"]["name"]), (&json!("Ravi Kumar"), &json!("Asha Rao")));
    assert_eq!(first["reason"], "Payroll run for November stops at step 3");
    assert!(first["first_at"].as_str() <= first["last_at"].as_str());

    let page = portal.get("/v1/access-summaries/emp-9?tenant_id=acme&page_size=1").await.ok();
    assert_eq!(page["items"][0], items[0]);
    let next = page["next_cursor"].as_str().unwrap();
    let rest = portal.get(&format!("/v1/access-summaries/emp-9?tenant_id=acme&page_size=1&cursor={next}")).await.ok();
    assert_eq!((&rest["items"][0], rest.get("next_cursor")), (&items[1], None));
    // As whom the sessions were opened, whatever was reported about others.
    let acted_as = portal.get("/v1/access-summaries/emp-1042?tenant_id=acme").await.ok();
    assert_eq!(acted_as["items"].as_array().map(Vec::len), Some(2), "{acted_as}");
    assert_eq!(portal.get("/v1/access-summaries/emp-1?tenant_id=acme").await.ok(), json!({ "items": [] }));
    let elsewhere = world.portal("ess", "acme").await;
    assert_eq!(elsewhere.get("/v1/access-summaries/emp-9?tenant_id=acme").await.ok(), json!({ "items": [] }));
    portal.get("/v1/access-summaries/emp-9?tenant_id=globex").await.refused(404, "not_found");
    let read = world.admin.events("&type=audit.read&tenant_id=acme").await;
    assert!(read.iter().any(|event| event["data"]["principal_id"] == "emp-9"), "asking is an event");
}

// A pipe gives what it has, which may be one byte.
#[apply(on_both_databases)]
async fn evidence_that_comes_through_a_slow_pipe_is_evidence(world: &World) {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let (portal, session) = visit(world).await;
    let link = session["magic_link_id"].as_str().unwrap();
    let pack = portal.get(&format!("/v1/magic-links/{link}/evidence")).await.text;
    let auditor = Auditor::of("acme", &world.admin).await;
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command.args(["audit", "verify", "-", "--key", &auditor.key]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut verifier = command.spawn().unwrap();
    let mut pipe = verifier.stdin.take().unwrap();
    for piece in [&pack[..1], &pack[1..9], &pack[9..]] {
        pipe.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    drop(pipe);
    let output = verifier.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A consultant's entry is somebody else's later: a mailbox that goes on under another name.
#[apply(on_both_databases)]
async fn evidence_names_who_the_consultant_was_when_the_link_was_issued(world: &World) {
    let (portal, session) = visit(world).await;
    let link = session["magic_link_id"].as_str().unwrap();
    let known = portal.get(&format!("/v1/magic-links/{link}")).await.ok()["consultant"].clone();
    let path = format!("/v1/consultants/{}", known["id"].as_str().unwrap());
    world.admin.patch(&path, &json!({ "name": "Somebody Else", "email": "else@support.example" })).await.ok();
    let pack = portal.get(&format!("/v1/magic-links/{link}/evidence")).await;
    assert_ne!(pack.body["evidence"]["link"]["consultant"], known, "as the entry is now");
    for then in ["name", "email"] {
        assert!(pack.text.contains(known[then].as_str().unwrap()), "{then}: {}", pack.text);
    }
    let issued = portal.events(&format!("&magic_link_id={link}&type=magic_link.issued")).await;
    assert_eq!(issued[0]["data"]["consultant"], known);
}
