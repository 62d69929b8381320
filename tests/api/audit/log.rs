//! The trail can be checked by anybody, and who tampers with it is found out.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tlog_tiles::{Hash, check_record, check_tree};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::{acts, visit};
use crate::support::{
    Api, Auditor, Database, Process, Settings, Sql, World, apply, command, eventually, on_both_databases, rounds,
    unguarded,
};

fn hash(value: &Value) -> Hash {
    Hash::parse_hash(value.as_str().expect("a text")).expect("a hash")
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().expect("hashes").iter().map(hash).collect()
}

/// The root in a checkpoint, and its size.
fn root_of(checkpoint: &str) -> (Hash, u64) {
    let lines: Vec<&str> = checkpoint.lines().collect();
    (Hash::parse_hash(lines[2]).expect("a root"), lines[1].parse().expect("a size"))
}

#[apply(on_both_databases)]
async fn an_export_is_checked_without_the_service(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let early = auditor.checkpoint(&world.admin).await;
    assert!(early.starts_with("127.0.0.1:8080/audit/acme\n"), "{early}");
    assert_eq!(auditor.checkpoint(&world.admin).await, early, "nothing has happened since");
    visit(world).await;
    let export = auditor.export(&world.admin).await;
    let late = auditor.checkpoint(&world.admin).await;

    auditor.accepts(&export, &[&early]);
    let said = auditor.accepts(&auditor.export(&world.admin).await, &[&late, &early]);
    assert!(said.starts_with("verified: ") && said.contains("acme"), "{said}");
    // What came after the export is not in it.
    auditor.refuses(&export, &[&late], "are missing");

    // Other people's logs have other names: nothing of theirs fits.
    let system = Auditor::of("_system", &world.admin).await;
    system.audit(&world.admin).await;
    system.refuses(&export, &[&early], "checkpoint 1");
    assert_ne!(system.key, auditor.key);
    // Without a checkpoint from outside there is nothing to check against.
    auditor.refuses(&export, &[], "--checkpoint");
}

#[apply(on_both_databases)]
async fn every_line_carries_its_place_and_its_hash(world: &World) {
    let (portal, session) = visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let export = auditor.export(&world.admin).await;
    let lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (closing, events) = lines.split_last().unwrap();
    assert!(closing["checkpoint"].as_str().unwrap().contains("/audit/acme\n"));
    let shown = world.admin.events("&tenant_id=acme").await;
    for (index, event) in events.iter().enumerate() {
        assert_eq!(event["leaf"]["log_index"], index);
        let same = shown.iter().find(|one| one["log_index"] == index).unwrap();
        assert_eq!((&same["id"], &same["leaf_hash"]), (&event["leaf"]["id"], &event["leaf_hash"]));
        assert_eq!(same["data"], event["payload"]["data"]);
    }
    // Names and reasons are where they can be erased; what is hashed for ever is opaque.
    let opened = events.iter().find(|event| event["leaf"]["type"] == "session.opened").unwrap();
    assert_eq!(opened["payload"]["reason"], "Payroll run for November stops at step 3");
    assert_eq!(opened["payload"]["ticket"], "SUP-48213");
    assert_eq!(opened["leaf"]["session_id"], session["id"]);
    for name in ["Ravi", "Asha", "Meera", "Payroll", "50000"] {
        assert!(!events.iter().any(|event| event["leaf"].to_string().contains(name)), "{name}");
    }

    // A portal that is bound to one sees its own part of the log, which proves nothing by itself.
    let own = portal.get("/v1/audit-events/export?tenant_id=acme").await;
    let mut own: Vec<Value> = own.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let view = own.remove(0)["view"].clone();
    assert_eq!(view["filters"], json!({ "format": "ndjson", "tenant_id": "acme" }), "the first line says so");
    assert!(
        own.len() >= 10 && own.iter().all(|event| event["leaf"]["portal"] == "cloud"),
        "no line of others, no checkpoint"
    );
    portal.get("/v1/audit-events/export?tenant_id=globex").await.refused(404, "not_found");
    portal.get("/v1/audit-events/export?tenant_id=_system").await.refused(404, "not_found");
    portal.get("/v1/audit-events/export").await.refused(400, "invalid_query");

    let exported = world.admin.events("&type=audit.exported&tenant_id=acme").await;
    assert_eq!(exported.len(), 2, "exporting is an event");
    assert_eq!((&exported[0]["actor"]["type"], &exported[0]["data"]["format"]), (&json!("client"), &json!("ndjson")));
    let read = world.admin.events("&type=audit.read&tenant_id=acme").await;
    assert!(read.len() >= 2 && read.iter().all(|event| event["data"]["events"].is_number()), "{read:?}");
}

#[apply(on_both_databases)]
async fn proofs_hold_against_the_checkpoint(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let (old_root, old_size) = root_of(&auditor.checkpoint(&world.admin).await);
    visit(world).await;
    let (root, size) = root_of(&auditor.checkpoint(&world.admin).await);
    for index in 0..size {
        let proof =
            world.admin.get(&format!("/v1/audit-log/acme/proofs/inclusion?index={index}&size={size}")).await.ok();
        let leaf = hash(&proof["leaf_hash"]);
        check_record(&hashes(&proof["hashes"]), size, root, index, leaf).expect("the proof holds");
        assert!(check_record(&hashes(&proof["hashes"]), size, root, (index + 1) % size, leaf).is_err());
        assert_eq!(hash(&proof["root_hash"]), root);
    }
    let path = format!("/v1/audit-log/acme/proofs/consistency?from={old_size}&to={size}");
    let proof = world.admin.get(&path).await.ok();
    check_tree(&hashes(&proof["hashes"]), size, root, old_size, old_root).expect("the proof holds");
    for wrong in [
        format!("inclusion?index={size}&size={size}"),
        format!("inclusion?index=0&size={}", size + 1_000),
        "inclusion?index=-1&size=1".to_owned(),
        "inclusion?index=0&size=0".to_owned(),
        format!("inclusion?index=0&size={}", i64::MAX),
        "consistency?from=0&to=1".to_owned(),
        "consistency?from=2&to=1".to_owned(),
        format!("consistency?from=1&to={}", i64::MAX),
    ] {
        world.admin.get(&format!("/v1/audit-log/acme/proofs/{wrong}")).await.refused(400, "invalid_query");
    }
}

#[apply(on_both_databases)]
async fn a_row_that_was_changed_in_the_database_is_named(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let checkpoint = auditor.checkpoint(&world.admin).await;
    let auditor_sees = async |why: &str| {
        auditor.refuses(&auditor.export(&world.admin).await, &[&checkpoint], why);
    };
    unguarded(
        world,
        "audit_payloads",
        "UPDATE audit_payloads SET payload = replace(payload, '*****', '00000') \
        WHERE tenant_id = 'acme' AND log_index = 5",
    );
    auditor_sees("line 6: the payload is not the one that was committed to").await;
    unguarded(
        world,
        "audit_events",
        "UPDATE audit_events SET actor_id = 'con_somebody' \
        WHERE tenant_id = 'acme' AND log_index = 3",
    );
    auditor_sees("line 4: the leaf hash is not that of the event").await;
    unguarded(world, "audit_payloads", "DELETE FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 1");
    auditor_sees("line 2: the payload is missing").await;
}

#[apply(on_both_databases)]
async fn no_checkpoint_is_signed_that_does_not_extend_the_last(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    auditor.checkpoint(&world.admin).await;
    // An old copy is restored: its head has forgotten the newest events.
    unguarded(
        world,
        "audit_logs",
        "UPDATE audit_logs SET size = 1, frontier = \
        (SELECT hashes FROM audit_events WHERE tenant_id = 'acme' AND log_index = 0) WHERE tenant_id = 'acme'",
    );
    let reply = world.admin.get("/v1/audit-log/acme/checkpoint").await;
    reply.refused(500, "log_forked");
    world.admin.get("/v1/audit-events/export?tenant_id=acme").await.refused(500, "log_forked");
    let alarm = world.admin.events("&tenant_id=_system&type=audit.checkpoint_refused").await;
    assert_eq!(
        (alarm.len(), &alarm[0]["data"]["tenant_id"], &alarm[0]["data"]["size"]),
        (2, &json!("acme"), &json!(1))
    );
    // The other logs are as good as before.
    Auditor::of("_system", &world.admin).await.audit(&world.admin).await;
}

#[apply(on_both_databases)]
async fn a_damaged_head_is_an_alarm(world: &World) {
    visit(world).await;
    unguarded(
        world,
        "audit_logs",
        "UPDATE audit_logs SET frontier = (SELECT salt FROM audit_payloads WHERE \
        tenant_id = 'acme' AND log_index = 0), size = 3 WHERE tenant_id = 'acme'",
    );
    world.admin.get("/v1/audit-log/acme/checkpoint").await.refused(500, "log_forked");
    assert!(!world.admin.events("&tenant_id=_system&type=audit.checkpoint_refused").await.is_empty());
    Auditor::of("_system", &world.admin).await.audit(&world.admin).await;
}

#[apply(on_both_databases)]
async fn a_log_keeps_its_name_wherever_the_service_moves(world: &World) {
    let auditor = Auditor::of("acme", &world.admin).await;
    let mut moved = command(world);
    moved.env("MAGIC_LINK_PUBLIC_URL", "http://127.0.0.1:9090").args(["audit", "verifier-key", "--tenant", "acme"]);
    let key = moved.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&key.stdout).trim(), auditor.key);
}

#[apply(on_both_databases)]
async fn nodes_that_were_changed_do_not_get_a_signature(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    auditor.checkpoint(&world.admin).await;
    visit(world).await;
    unguarded(
        world,
        "audit_events",
        "UPDATE audit_events SET hashes = \
        (SELECT hashes FROM audit_events WHERE tenant_id = 'acme' AND log_index = 5) \
        WHERE tenant_id = 'acme' AND log_index = 7",
    );
    world.admin.get("/v1/audit-log/acme/checkpoint").await.refused(500, "log_forked");
}

#[apply(on_both_databases)]
async fn sixty_four_writers_make_one_tree(world: &World) {
    let second = (world.database == Database::Postgres).then(|| Process::start(world));
    let bases = [world.base.clone(), second.as_ref().map_or_else(|| world.base.clone(), |second| second.base.clone())];
    for tenants in [1, 16] {
        let (mut writers, mut sessions) = (Vec::new(), Vec::new());
        for number in 0..tenants {
            let portal = world.portal("cloud", &format!("t{tenants}-{number}")).await;
            let mut request = Api::issue_request(&world.consultant().await);
            request["tenant_id"] = format!("t{tenants}-{number}").into();
            let link = portal.post("/v1/magic-links", &request).await.ok();
            let code = world.click(&world.token(link["id"].as_str().unwrap(), 1).await).await;
            let session = portal.redeem(&code).await.ok();
            sessions.push((portal, format!("/v1/sessions/{}/events", session["id"].as_str().unwrap())));
        }
        for writer in 0..64 {
            let (portal, path) = &sessions[writer % tenants];
            let portal = portal.at(&bases[writer % 2]).patient();
            let path = path.clone();
            writers.push(async move {
                for round in 0..i64::try_from(rounds(4)).unwrap().min(20) {
                    let source = format!("writer-{writer}");
                    portal.post(&path, &acts(world, &source, 1 + round * 3, 3)).await.ok();
                }
            });
        }
        join_all(writers).await;
        let expected = 64 * rounds(4).min(20) * 3;
        let mut found = 0;
        for number in 0..tenants {
            let tenant = format!("t{tenants}-{number}");
            Auditor::of(&tenant, &world.admin).await.audit(&world.admin).await;
            let reported = format!("FROM audit_events WHERE tenant_id = '{tenant}' AND event_type = 'data.changed'");
            found += Sql::of(world).count(&reported);
        }
        assert_eq!(found, expected, "every acknowledged act is there");
    }
    let mut sql = Sql::of(world);
    // Gapless, and what the heads say.
    let torn = sql.texts(
        "SELECT l.tenant_id AS text FROM audit_logs l JOIN (SELECT tenant_id, count(*) AS n, min(log_index) AS first, \
         max(log_index) AS last FROM audit_events GROUP BY tenant_id) e ON e.tenant_id = l.tenant_id \
         WHERE e.n <> l.size OR e.first <> 0 OR e.last <> l.size - 1",
    );
    assert!(torn.is_empty(), "{torn:?}");
}

#[apply(on_both_databases)]
async fn views_carry_the_same_index_and_hash(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["reason"] = "=HYPERLINK(\"http://evil.example\")".into();
    let link = portal.post("/v1/magic-links", &request).await.ok();
    let code = world.click(&world.token(link["id"].as_str().unwrap(), 1).await).await;
    let session = portal.redeem(&code).await.ok();
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    portal.post(&format!("{path}/events"), &acts(world, "portal", 1, 2)).await.ok();
    portal.post(&format!("{path}/end"), &json!({})).await.ok();

    let csv = world.admin.get("/v1/audit-events/export?tenant_id=acme&format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert!(csv.header("link").contains("format=ndjson"), "it says where the log itself is");
    let mut reader = csv::Reader::from_reader(csv.text.as_bytes());
    let titles = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let cell = |row: &csv::StringRecord, title: &str| {
        row.get(titles.iter().position(|one| one == title).unwrap()).unwrap().to_owned()
    };
    let shown = world.admin.events("&tenant_id=acme").await;
    for row in &rows {
        let event =
            shown.iter().find(|event| event["log_index"].as_u64() == cell(row, "log_index").parse().ok()).unwrap();
        // A hash may begin with a plus, which a spreadsheet would take for a formula.
        assert_eq!(event["leaf_hash"], cell(row, "leaf_hash").trim_start_matches('\''));
        assert!(row.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@'])), "{row:?}");
    }
    assert!(rows.iter().any(|row| cell(row, "reason").starts_with("'=HYPERLINK")));
    assert_eq!(rows.iter().filter(|row| cell(row, "action") == "employee.salary.updated").count(), 2);

    let ocsf = world.admin.get("/v1/audit-events/export?tenant_id=acme&format=ocsf&portal=cloud").await;
    let events: Vec<Value> = ocsf.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_code = |code: &str| events.iter().find(|event| event["metadata"]["event_code"] == code).unwrap();
    let opened = by_code("session.opened");
    assert_eq!(
        (&opened["class_uid"], &opened["activity_id"], &opened["type_uid"]),
        (&json!(3002), &json!(7), &json!(300_207))
    );
    assert_eq!(
        (&opened["user"]["uid"], &opened["actor"]["user"]["uid"]),
        (&json!("emp-1042"), &session["consultant"]["id"])
    );
    assert_eq!(by_code("session.ended")["type_uid"], 300_202);
    let changed = by_code("data.changed");
    assert_eq!((&changed["class_uid"], &changed["type_uid"]), (&json!(6003), &json!(600_303)));
    assert_eq!(changed["api"]["operation"], "employee.salary.updated");
    for event in &events {
        for required in ["activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"] {
            assert!(!event[required].is_null(), "{required}: {event}");
        }
        assert_eq!(event["metadata"]["version"], "1.8.0");
        assert!(event["class_uid"] == 3002 || !event["src_endpoint"].is_null() && !event["actor"].is_null(), "{event}");
        assert!(event["unmapped"]["leaf_hash"].is_string() && event["metadata"]["sequence"].is_number(), "{event}");
    }
}

#[apply(on_both_databases)]
async fn a_cell_holds_no_more_than_a_spreadsheet_takes(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "change_values": "plain" })).await.ok();
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let mut report = acts(world, "portal", 1, 1);
    let change = json!({ "field": "note", "before": "x".repeat(4_000), "after": "नोट ".repeat(300) });
    report["events"][0]["changes"] = json!(vec![change.clone(); 8]);
    portal.post(&format!("/v1/sessions/{}/events", session["id"].as_str().unwrap()), &report).await.ok();

    let export = async |format: &str| {
        let query = format!("/v1/audit-events/export?tenant_id=acme&type=data.changed&format={format}");
        world.admin.get(&query).await.text
    };
    let csv = export("csv").await;
    let rows: Vec<csv::StringRecord> = csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).collect();
    let lengths = rows[0].iter().map(|cell| cell.encode_utf16().count());
    assert_eq!(lengths.max(), Some(32_767));
    assert!(rows[0].iter().any(|cell| cell.ends_with("(cut: NDJSON has the whole)")), "it says so");
    assert!(export("ndjson").await.contains(&serde_json::to_string(&vec![change; 8]).unwrap()));
}

#[apply(on_both_databases)]
#[settings(Settings { no_service: true, ..Settings::default() })]
async fn checkpoints_leave_the_machine(world: &World) {
    let archive = MockServer::start().await;
    let away = Mock::given(method("POST")).respond_with(ResponseTemplate::new(503)).up_to_n_times(1).expect(1);
    away.mount(&archive).await;
    Mock::given(method("POST")).and(path("/archive")).respond_with(ResponseTemplate::new(204)).mount(&archive).await;
    let secret = "whsec_dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHM=";
    let process = Process::start_with(
        world,
        &[
            ("MAGIC_LINK_AUDIT__WEBHOOK_URL", &format!("{}/archive", archive.uri())),
            ("MAGIC_LINK_AUDIT__WEBHOOK_SECRET", secret),
        ],
        std::process::Stdio::inherit(),
    );
    let operator = world.admin.at(&process.base);
    operator.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let delivered = async || {
        let log = operator.get("/v1/audit-log/acme").await.ok();
        let delivery = log["deliveries"][0].clone();
        (delivery["size"].as_u64() > Some(0)).then_some(delivery)
    };
    let delivery = eventually("the checkpoint is outside", delivered).await;
    assert!(delivery["delivered_at"].is_string() && delivery.get("last_error").is_none(), "{delivery}");

    let auditor = Auditor::of("acme", &operator).await;
    let requests = archive.received_requests().await.unwrap();
    let of_acme =
        |request: &&wiremock::Request| serde_json::from_slice::<Value>(&request.body).unwrap()["subject"] == "acme";
    let request = requests.iter().rev().find(of_acme).unwrap();
    let header = |name: &str| request.headers[name].to_str().unwrap().to_owned();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap());
    let signed =
        format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), String::from_utf8_lossy(&request.body));
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, signed.as_bytes(), &signature).expect("the receiver can tell who sent it");
    let message: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((&message["specversion"], &message["type"]), (&json!("1.0"), &json!("audit.checkpoint")));
    // What the archive keeps is what later exports are checked against.
    auditor.accepts(&auditor.export(&operator).await, &[message["data"]["checkpoint"].as_str().unwrap()]);
}

// What a program on the way has saved anew is said to be that, and nothing worse.
#[apply(on_both_databases)]
async fn a_checkpoint_that_was_saved_anew_is_told_as_that(world: &World) {
    visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let checkpoint = auditor.checkpoint(&world.admin).await;
    let export = auditor.export(&world.admin).await;
    auditor.accepts(&export, &[&checkpoint]);
    for (saved, why) in [
        (format!("\u{feff}{checkpoint}"), "in another encoding"),
        (checkpoint.replace('\n', "\r\n"), "as lines of Windows do"),
        (checkpoint.trim_end().to_owned(), "has lost its last line break"),
    ] {
        auditor.refuses(&export, &[&saved], why);
    }
}
