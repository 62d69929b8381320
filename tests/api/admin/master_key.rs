//! Changing the master key: what is sealed moves, what is derived is handled, and no copy goes on with the old one.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{MASTER_KEY, Process, Receiver, Sql, World, apply, command, eventually, on_both_databases};

const OTHER: &str = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgISE=";
const THIRD: &str = "dGhpcmQgdGhpcmQgdGhpcmQgdGhpcmQgdGhpcmQgISE=";

fn key_file(folder: &tempfile::TempDir, name: &str, key: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, key).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Changes the master key at the command line; the answer, or what it complains of.
fn rewrap(world: &World, configured: &str, new: &str) -> Result<Value, String> {
    let mut command = command(world);
    command.env("MAGIC_LINK_MASTER_KEY", configured).args(["key", "rewrap", "--new-master-key-file", new, "--json"]);
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8(output.stderr).unwrap())
}

fn report(world: &World) -> Value {
    json!({ "events": [{
        "seq": 1, "kind": "change", "occurred_at": world.clock.now(), "action": "employee.salary.updated",
        "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
        "changes": [{ "field": "basic", "before": "50000", "after": "52000" }],
    }] })
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn everything_survives_a_change_of_the_master_key(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let (other, third) = (key_file(&folder, "other.key", OTHER), key_file(&folder, "third.key", THIRD));
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&world.admin).await;
    let hook = format!("/v1/webhook-endpoints/{}", endpoint["id"].as_str().unwrap());
    world.admin.post(&format!("{hook}/rotate-secret"), &json!({ "overlap_seconds": 3600 })).await.ok();
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    let events = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    let reported = report(world);
    assert_eq!(portal.post(&events, &reported).await.ok()["recorded"], 1);
    let token = world.token(&portal.issue(&world.consultant().await).await, 1).await;
    let vkey = world.admin.get("/v1/audit-log/acme/verifier-key").await.text;
    let page = portal.get("/v1/magic-links?page_size=1").await.ok();
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();

    // With the wrong old key nothing changes.
    let refused = rewrap(world, THIRD, &other).unwrap_err();
    assert!(refused.contains("master_key_mismatch"), "{refused}");
    assert!(portal.is_active(access).await);

    let done = rewrap(world, MASTER_KEY, &other).unwrap();
    assert_eq!(
        (&done["changed"], &done["signing_keys"], &done["log_keys"], &done["webhook_secrets"]),
        (&json!(true), &json!(1), &json!(1), &json!(2)),
        "{done}"
    );
    let again = rewrap(world, MASTER_KEY, &other).unwrap();
    assert_eq!((&again["changed"], &again["master_key_id"]), (&json!(false), &done["master_key_id"]));
    assert!(rewrap(world, MASTER_KEY, &third).unwrap_err().contains("master_key_mismatch"));

    // The copy that runs with the old key says so, and seals nothing.
    portal.form("/v1/introspect", &[("token", access)]).await.refused(503, "master_key_mismatch");
    world.admin.post("/v1/keys/rotate", &json!({})).await.refused(503, "master_key_mismatch");
    world.stranger().get("/readyz").await.refused(503, "master_key_mismatch");
    let old = command(world).args(["key", "rotate"]).output().unwrap();
    assert!(String::from_utf8_lossy(&old.stderr).contains("sealed under another master key"));

    let key = [("MAGIC_LINK_MASTER_KEY", OTHER), Receiver::ENVIRONMENT];
    let process = Process::start_with(world, &key, Stdio::inherit());
    let (portal, admin) = (portal.at(&process.base), world.admin.at(&process.base));
    assert!(portal.is_active(access).await);
    let preview = world.stranger().at(&process.base).post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(preview["state"], "ready");
    let repeated = portal.post(&events, &reported).await.ok();
    assert_eq!((&repeated["recorded"], &repeated["repeated"]), (&json!(0), &json!(1)), "digests are as before");
    assert_eq!(admin.get("/v1/audit-log/acme/verifier-key").await.text, vkey);
    portal.get(&format!("/v1/magic-links?page_size=1&cursor={cursor}")).await.refused(400, "invalid_cursor");
    let test = admin.post(&format!("{hook}/test"), &json!({})).await;
    assert_eq!(test.status, 202);
    let message = test.body["id"].as_str().unwrap();
    let deliveries = format!("{hook}/deliveries");
    eventually("the secret of the endpoint opens", async || {
        let items = admin.get(&deliveries).await.ok()["items"].clone();
        let sent = items.as_array().unwrap().iter().find(|one| one["id"] == message)?.clone();
        (sent["state"] == "delivered").then_some(())
    })
    .await;
    let recorded = admin.events("&tenant_id=_system&type=master_key.changed").await;
    assert_eq!((recorded.len(), &recorded[0]["data"]["to"]), (1, &done["master_key_id"]));
    assert_eq!(admin.post("/v1/keys/rotate", &json!({})).await.ok()["state"], "published");
    // And on to a third one: what is kept of the first moves along.
    drop(process);
    assert_eq!(rewrap(world, OTHER, &third).unwrap()["changed"], true);
    let process = Process::start_with(world, &[("MAGIC_LINK_MASTER_KEY", THIRD)], Stdio::inherit());
    let repeated = portal.at(&process.base).post(&events, &reported).await.ok();
    assert_eq!(repeated["repeated"], 1);
}

#[apply(on_both_databases)]
async fn open_challenges_end_with_the_master_key_that_made_their_codes(world: &World) {
    let folder = tempfile::tempdir().unwrap();
    let other = key_file(&folder, "other.key", OTHER);
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "INSERT INTO step_ups (id, magic_link_id, generation, page_sha256, tries, created_at, expires_at)
         VALUES ('stp_00000000000000000000000000', '{link}', 1, 'x', 0, '2026-01-01 00:00:00.000000',
            '2099-01-01 00:00:00.000000')"
    ))
    .unwrap();
    rewrap(world, MASTER_KEY, &other).unwrap();
    assert_eq!(sql.count("FROM step_ups WHERE expires_at < '2098-01-01 00:00:00.000000'"), 1);
}

#[apply(on_both_databases)]
async fn a_session_that_hangs_on_a_revoked_key_is_over_in_the_status_list_at_once(world: &World) {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let list = async || {
        let token = world.stranger().get("/v1/status-lists/1").await.text;
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        serde_json::from_slice::<Value>(&claims).unwrap()["status_list"]["lst"].clone()
    };
    let before = list().await;
    let mut sql = Sql::of(world);
    sql.run("UPDATE sessions SET code_kid = 'lost'").unwrap();
    sql.run(
        "INSERT INTO key_revocations (kid, reason, actor_type, actor_id, created_at, links, sessions)
         VALUES ('lost', 'Lost', 'system', 'test', '2026-11-22 10:00:00.000000', 0, 0)",
    )
    .unwrap();
    assert_ne!(list().await, before);
    assert!(!portal.is_active(session["access_token"].as_str().unwrap()).await);
}

#[apply(on_both_databases)]
async fn a_wrong_master_key_says_so(world: &World) {
    for arguments in [&["key", "rotate"][..], &["audit", "checkpoint", "--tenant", "acme"], &["serve"]] {
        let refused = command(world).env("MAGIC_LINK_MASTER_KEY", OTHER).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("this is not the master key of the database"), "{said}");
    }
}
