//! A database that is behind a checkpoint outside is not ready, and says what to do.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use super::{confirm, output};
use crate::support::{
    Api, Auditor, Backup, Process, Settings, World, apply, command, eventually, folder, on_both_databases,
};

const FOLDER: &str = "MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER";

/// A folder outside of the database.
pub(super) fn outside() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    folder(&format!("outside-{}", NUMBER.fetch_add(1, Ordering::SeqCst)))
}

pub(super) fn start(world: &World, outside: &Path) -> Process {
    let listens = ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0");
    Process::start_with(world, &[(FOLDER, outside.to_str().unwrap()), listens], Stdio::inherit())
}

/// Lets the log of ACME grow, and waits until its checkpoint is outside.
pub(super) async fn kept(admin: &Api, outside: &Path) -> String {
    kept_of("acme", admin, outside).await
}

async fn kept_of(tenant: &str, admin: &Api, outside: &Path) -> String {
    admin.put(&format!("/v1/tenants/{tenant}"), &json!({ "name": tenant })).await.ok();
    let auditor = Auditor::of(tenant, admin).await;
    let file = outside.join(format!("{tenant}.checkpoint"));
    // Asked again each time: the log may grow by something else meanwhile.
    eventually("the checkpoint is outside", async || {
        let checkpoint = auditor.checkpoint(admin).await;
        (std::fs::read_to_string(&file).ok()? == checkpoint).then_some(checkpoint)
    })
    .await
}

/// `magic-link restore` with the folder.
pub(super) async fn restore(world: &World, outside: &Path) -> Output {
    let mut restore = command(world);
    restore.args(["restore", "--json"]).env(FOLDER, outside);
    output(restore).await
}

pub(super) async fn readiness(process: &Process) -> (u16, Value) {
    let reply = Api::new(&process.base, None).get("/readyz").await;
    (reply.status.as_u16(), reply.body)
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_database_that_is_behind_is_not_ready_until_the_restore(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &outside).await;
    let backup = Backup::of(world);
    let newest = kept(&admin, &outside).await;
    assert_eq!(readiness(&process).await.0, 200);

    // The running copy notices, and so does one that starts.
    backup.restore(world);
    let refused = eventually("the copy notices", async || {
        let (status, body) = readiness(&process).await;
        (body["code"] == "restore_required").then_some((status, body))
    });
    let (status, body) = refused.await;
    assert_eq!(status, 503);
    assert!(body["detail"].as_str().unwrap().contains("magic-link restore"), "{body}");
    process.kill();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    // Nothing is erased, and no mail leaves, of what the backup knows.
    let purge = json!({ "before": "2020-01-01T00:00:00Z", "reason": "The contract has ended" });
    let impatient = world.admin.at(&process.base);
    impatient.post("/v1/audit-log/acme/purges", &purge).await.refused(503, "restore_required");
    let ravi = admin.post("/v1/consultants", &json!({ "name": "Ravi Kumar", "email": "ravi@support.example" })).await;
    admin.issue(ravi.ok()["id"].as_str().unwrap()).await;
    // What is outside stays, although the log grows on, and nothing else is signed.
    admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    impatient.get("/v1/audit-log/acme/checkpoint").await.refused(503, "restore_required");
    assert_eq!(std::fs::read_to_string(outside.join("acme.checkpoint")).unwrap(), newest);

    let restored = restore(world, &outside).await;
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    let logs = restored["checkpoints"].as_array().unwrap();
    assert!(logs.iter().any(|log| log["tenant_id"] == "acme"), "{restored}");
    // That of the link, and the notice about it.
    assert_eq!(restored["cancelled_mails"], 2, "{restored}");
    assert_eq!(readiness(&process).await.0, 200);
    confirm(world, &[&admin]).await;
    let fresh = kept(&admin, &outside).await;
    assert!(fresh.starts_with(&format!("127.0.0.1:8080/audit/acme/{}", restored["origin_suffix"].as_str().unwrap())));
    // The service that starts next is ready, too, and the auditor has the whole story.
    process.kill();
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.0, 200);
    let admin = world.admin.at(&process.base);
    let auditor = Auditor::of("acme", &admin).await;
    auditor.accepts(&auditor.export(&admin).await, &[&fresh, &newest]);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_tenant_that_is_younger_than_the_backup_keeps_no_copy_from_being_ready(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &outside).await;
    let backup = Backup::of(world);
    let lost = kept_of("newco", &admin, &outside).await;
    process.kill();
    backup.restore(world);
    let restored = restore(world, &outside).await;
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let restored: Value = serde_json::from_slice(&restored.stdout).unwrap();
    let logs = restored["checkpoints"].as_array().unwrap();
    assert!(logs.iter().any(|log| log["tenant_id"] == "newco"), "{restored}");
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.0, 200);
    let admin = world.admin.at(&process.base).patient();
    confirm(world, &[&admin]).await;
    // Its checkpoints are kept outside again, and prove the whole.
    let fresh = kept_of("newco", &admin, &outside).await;
    let auditor = Auditor::of("newco", &admin).await;
    auditor.accepts(&auditor.export(&admin).await, &[&fresh, &lost]);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_second_rollback_is_noticed_like_the_first(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &outside).await;
    let first = Backup::of(world);
    for _ in 0..20 {
        admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    }
    kept(&admin, &outside).await;
    first.restore(world);
    let restored = restore(world, &outside).await;
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    eventually("the copy is ready", async || (readiness(&process).await.0 == 200).then_some(())).await;
    confirm(world, &[&admin]).await;
    kept(&admin, &outside).await;
    // The log is still shorter than what the first restore has named as lost.
    let second = Backup::of(world);
    kept(&admin, &outside).await;
    process.kill();
    second.restore(world);
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_rollback_beyond_a_change_of_the_log_key_is_noticed(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &outside).await;
    let backup = Backup::of(world);
    let mut rotate = command(world);
    rotate.args(["audit", "rotate-key"]);
    assert!(output(rotate).await.status.success());
    kept(&admin, &outside).await;
    process.kill();
    backup.restore(world);
    // The backup does not know who signed the file.
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    let restored = restore(world, &outside).await;
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert_eq!(readiness(&process).await.0, 200);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_file_that_is_no_checkpoint_of_ours_stops_the_restore_only(world: &World) {
    let outside = outside();
    let file = outside.join("acme.checkpoint");
    std::fs::write(&file, "links.example/audit/acme\n4711\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n").unwrap();
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.0, 200);
    let refused = restore(world, &outside).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("acme.checkpoint") && said.contains("move it away"), "{said}");
    std::fs::remove_file(&file).unwrap();
    assert!(restore(world, &outside).await.status.success());
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_checkpoint_that_cannot_be_read_holds_nothing_else(world: &World) {
    // A pipe stands for the file of a folder on another machine that does not answer.
    let outside = outside();
    let pipe = outside.join("acme.checkpoint");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    let link = admin.issue(&register(&admin).await).await;
    world.mails.wait_for(&link, 1).await;
    eventually("the failure is told", async || {
        let log = admin.get("/v1/audit-log/acme").await.ok();
        let error = log["deliveries"][0]["last_error"].as_str()?.to_owned();
        error.contains("no regular file").then_some(())
    })
    .await;
    assert_eq!(readiness(&process).await.0, 200);
    process.ask_to_stop();
    assert!(process.stopped().await.success());
}

async fn register(admin: &Api) -> String {
    let consultant = json!({ "name": "Ravi Kumar", "email": "ravi.kumar@support.example" });
    admin.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned()
}
