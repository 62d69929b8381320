//! What must be kept is kept, and what need not be is erased without a crack in the proof.

use serde_json::{Value, json};
use time::Duration;
use tlog_tiles::{Hash, check_record, check_tree};

use crate::support::{Auditor, Settings, Sql, World, apply, eventually, on_both_databases};

const PURGES: &str = "/v1/audit-log/acme/purges";

/// Everything that was recorded before now.
fn everything(world: &World) -> Value {
    json!({ "before": world.clock.now(), "reason": "The contract has ended", "requested_by": { "id": "emp-7", "name": "Meera Iyer" } })
}

fn hash(value: &Value) -> Hash {
    Hash::parse_hash(value.as_str().expect("a text")).expect("a hash")
}

/// A visit long ago.
async fn old_visit(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.open_session(&portal).await;
    let path = "/v1/audit-log/acme/checkpoint";
    assert_eq!(world.admin.get(path).await.status, 200);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn after_every_payload_is_erased_every_proof_still_holds(world: &World) {
    old_visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let before = auditor.checkpoint(&world.admin).await;
    let size: usize = before.lines().nth(1).unwrap().parse().unwrap();
    world.clock.advance(Duration::days(401));
    let request = json!({ "before": world.clock.now().minus(Duration::days(400)), "reason": "The contract has ended",
        "requested_by": { "id": "emp-7", "name": "Meera Iyer" } });
    let purged = world.admin.post(PURGES, &request).await.ok();
    assert_eq!((&purged["erased"], &purged["erased_to_index"]), (&json!(size), &json!(size)));
    assert_eq!(world.admin.post(PURGES, &request).await.ok()["erased"], 0, "there is nothing left");

    let after = auditor.checkpoint(&world.admin).await;
    let export = auditor.export(&world.admin).await;
    let said = auditor.accepts(&auditor.export(&world.admin).await, &[&after, &before]);
    assert!(said.contains(&format!("{size} of them erased")), "{said}");
    let first: Value = serde_json::from_str(export.lines().next().unwrap()).unwrap();
    assert_eq!(
        first["erased"]["by"],
        json!({ "type": "portal_user", "id": "emp-7" }),
        "kept for ever, and no name in it"
    );
    let root = Hash::parse_hash(before.lines().nth(2).unwrap()).unwrap();
    for index in 0..size {
        let path = format!("/v1/audit-log/acme/proofs/inclusion?index={index}&size={size}");
        let proof = world.admin.get(&path).await.ok();
        let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
        let number = u64::try_from(index).unwrap();
        check_record(&hashes, u64::try_from(size).unwrap(), root, number, hash(&proof["leaf_hash"])).unwrap();
    }
    let path = format!("/v1/audit-log/acme/proofs/consistency?from={size}&to={}", size + 1);
    let proof = world.admin.get(&path).await.ok();
    let hashes: Vec<Hash> = proof["hashes"].as_array().unwrap().iter().map(hash).collect();
    let size_before = u64::try_from(size).unwrap();
    check_tree(&hashes, size_before + 1, hash(&proof["to_root"]), size_before, root).unwrap();
    let events = world.admin.events("&tenant_id=acme").await;
    for event in events.iter().filter(|event| event["log_index"].as_u64() < u64::try_from(size).ok()) {
        assert_eq!(event["erased"]["reason"], "The contract has ended");
        assert!(event["erased"]["erased_at"].is_string(), "{event}");
        for gone in ["data", "reason", "ticket", "address"] {
            assert!(event.get(gone).is_none(), "{gone}: {event}");
        }
        assert!(event["actor"].get("name").is_none(), "{event}");
    }
    // Not even the words are left in the rows.
    let left = Sql::of(world).count(&format!("FROM audit_payloads WHERE tenant_id = 'acme' AND log_index < {size}"));
    assert_eq!(left, 0);
    let purge = world.admin.events("&type=audit.purged&tenant_id=acme").await;
    assert_eq!(
        (purge.len(), &purge[0]["data"]["from_index"], &purge[0]["data"]["to_index"]),
        (1, &json!(0), &json!(size))
    );

    // An erasure that no event of the log tells of is none.
    let forged = export.replacen("The contract has ended", "The contract was ended", 1);
    assert_eq!(auditor.verify(&forged, &[&before]).status.code(), Some(1));
    // Erasures answer for all others, and outlive them.
    world.clock.advance(Duration::days(500));
    let request = json!({ "before": world.clock.now().minus(Duration::days(400)), "reason": "The contract has ended" });
    assert!(world.admin.post(PURGES, &request).await.ok()["erased"].as_u64().unwrap() > 0);
    auditor.audit(&world.admin).await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn nothing_is_erased_before_its_time(world: &World) {
    old_visit(world).await;
    world.admin.post(PURGES, &everything(world)).await.refused(409, "retention_not_over");
    world.clock.advance(Duration::days(399));
    world.admin.post(PURGES, &everything(world)).await.refused(409, "retention_not_over");
    let mut long_ago = everything(world);
    long_ago["before"] = json!(world.clock.now().minus(Duration::days(400)));
    assert_eq!(world.admin.post(PURGES, &long_ago).await.ok()["erased"], 0, "nothing is that old");

    // A tenant may keep it longer, or for a year and a day, but no shorter.
    for days in [365, 0, -1, 36_501] {
        let tenant = json!({ "name": "ACME", "retention_days": days });
        world.admin.put("/v1/tenants/acme", &tenant).await.refused_field("/retention_days");
    }
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "retention_days": 700 })).await.ok();
    assert_eq!(world.admin.get("/v1/audit-log/acme").await.ok()["retention_days"], 700);
    world.clock.advance(Duration::days(100));
    long_ago["before"] = json!(world.clock.now().minus(Duration::days(450)));
    world.admin.post(PURGES, &long_ago).await.refused(409, "retention_not_over");
    let refused = world.admin.events("&type=audit.purge_refused&tenant_id=acme").await;
    assert_eq!(refused.len(), 3, "asking is on record");
    assert_eq!((&refused[0]["result"], &refused[0]["data"]["code"]), (&json!("refused"), &json!("retention_not_over")));
    assert_eq!(refused[0]["actor"]["id"], "emp-7");
    // What is not said of a tenant stays as it is.
    assert_eq!(world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd" })).await.ok()["retention_days"], 700);
    let portal = world.portal("cloud", "acme").await;
    portal.post(PURGES, &everything(world)).await.refused(403, "insufficient_scope");
    // Who is bound to one portal decides nothing for the others.
    let bound = world.client(Some("cloud"), &["acme"], &["audit:manage", "audit:read"]).await;
    bound.post(PURGES, &long_ago).await.refused(403, "client_not_permitted");
    let hold = json!({ "reason": "Labour court, case 2026-118" });
    bound.post("/v1/audit-log/acme/legal-holds", &hold).await.refused(403, "client_not_permitted");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_legal_hold_keeps_everything(world: &World) {
    old_visit(world).await;
    let holds = "/v1/audit-log/acme/legal-holds";
    let request =
        json!({ "reason": "Labour court, case 2026-118", "requested_by": { "id": "emp-7", "name": "Meera Iyer" } });
    let hold = world.admin.post_once(holds, "one", &request).await.ok();
    assert_eq!(hold["placed_by"]["name"], "Meera Iyer");
    assert_eq!(world.admin.post_once(holds, "one", &request).await.ok(), hold, "a repeat is one hold");
    let until = json!({ "reason": "Until the audit is over", "until": world.clock.now().plus(Duration::days(10)) });
    world.admin.post(holds, &until).await.ok();
    let past = json!({ "reason": "Until the audit is over", "until": world.clock.now() });
    world.admin.post(holds, &past).await.refused_field("/until");
    assert_eq!(world.admin.get(holds).await.ok()["items"].as_array().unwrap().len(), 2);

    world.clock.advance(Duration::days(500));
    let mut old = everything(world);
    old["before"] = json!(world.clock.now().minus(Duration::days(450)));
    world.admin.post(PURGES, &old).await.refused(409, "legal_hold");
    assert_eq!(world.admin.get("/v1/audit-log/acme").await.ok()["legal_hold"], true);

    let release = format!("{holds}/{}/release", hold["id"].as_str().unwrap());
    let released = world.admin.post(&release, &json!({ "reason": "The case was settled" })).await.ok();
    assert_eq!(
        (&released["release_reason"], &released["released_by"]["type"]),
        (&json!("The case was settled"), &json!("client"))
    );
    assert_eq!(world.admin.post(&release, &json!({ "reason": "Once more, to be sure" })).await.ok(), released);
    world.admin.post(PURGES, &old).await.ok();
    let erased = world.admin.get("/v1/audit-log/acme").await.ok()["erased_to_index"].as_u64().unwrap();
    assert!(erased > 0, "by this, or by the hourly run");
    let kinds = world.admin.event_types("&tenant_id=acme").await;
    let about: Vec<&str> = kinds.iter().map(String::as_str).filter(|kind| kind.starts_with("legal_hold")).collect();
    assert_eq!(about, ["legal_hold.placed", "legal_hold.placed", "legal_hold.released"]);
    let elsewhere = format!("/v1/audit-log/globex/legal-holds/{}/release", hold["id"].as_str().unwrap());
    world.admin.post(&elsewhere, &json!({ "reason": "Not of this log" })).await.refused(404, "not_found");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_service_erases_by_itself_when_the_time_is_over(world: &World) {
    old_visit(world).await;
    let auditor = Auditor::of("acme", &world.admin).await;
    let before = auditor.checkpoint(&world.admin).await;
    world.clock.advance(Duration::days(402));
    let erased = async || {
        let log = world.admin.get("/v1/audit-log/acme").await.ok();
        (log["erased_to_index"].as_u64() > Some(0)).then_some(())
    };
    eventually("old payloads are erased", erased).await;
    let export = auditor.export(&world.admin).await;
    auditor.accepts(&export, &[&before]);
    assert!(export.contains("The retention period is over"));
    let purge = &world.admin.events("&type=audit.purged&tenant_id=acme").await[0];
    assert_eq!(purge["actor"], json!({ "type": "system", "id": "retention" }));
}

#[apply(on_both_databases)]
async fn a_payload_goes_by_no_other_way(world: &World) {
    old_visit(world).await;
    let mut sql = Sql::of(world);
    let mut refused = |statement: &str| {
        let error = sql.run(statement).expect_err(statement).to_string();
        assert!(error.contains("cannot be") || error.contains("can only grow"), "{statement}: {error}");
    };
    for statement in [
        "DELETE FROM audit_payloads",
        "UPDATE audit_payloads SET payload = '{}'",
        "DELETE FROM audit_logs",
        "UPDATE audit_logs SET size = size - 1",
        "UPDATE audit_logs SET size = size",
        "UPDATE audit_checkpoints SET note = ''",
        "DELETE FROM audit_checkpoints",
    ] {
        refused(statement);
    }
    if world.database == crate::support::Database::Postgres {
        for table in ["audit_payloads", "audit_logs", "audit_checkpoints", "audit_erasures"] {
            refused(&format!("TRUNCATE {table} CASCADE"));
        }
    } else {
        refused("REPLACE INTO audit_payloads SELECT * FROM audit_payloads");
    }
    let erasure = "INSERT INTO audit_erasures (tenant_id, from_index, to_index, erased_at, actor_type, actor_id, reason) \
        VALUES ('acme', 0, 1, '2026-11-22 10:00:00', 'system', 'operator', 'On record')";
    let mut sql = Sql::of(world);
    sql.run(erasure).unwrap();
    for statement in ["UPDATE audit_erasures SET reason = ''", "DELETE FROM audit_erasures"] {
        sql.run(statement).expect_err(statement);
    }
    sql.run("DELETE FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 0").expect("its erasure is on record");
    sql.run("DELETE FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 1")
        .expect_err("that of another one is not");
}
