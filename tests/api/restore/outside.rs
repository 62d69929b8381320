//! The folder of checkpoints is read again and again, by whoever cannot take back what it does.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::json;

use super::output;
use super::readiness::{kept, outside, readiness, restore, start};
use crate::support::{
    Api, Backup, Database, Process, Settings, Sql, Statements, World, apply, command, eventually, on_both_databases,
};

const FOLDER: &str = "MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER";
const MARK: &str = "magic-link.mark";

async fn run(world: &World, outside: &Path, arguments: &[&str]) -> Output {
    let mut command = command(world);
    command.args(arguments).env(FOLDER, outside);
    output(command).await
}

/// The command is refused, and says why.
async fn refused(world: &World, outside: &Path, arguments: &[&str], why: &str) {
    let refused = run(world, outside, arguments).await;
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains(why), "{arguments:?}: {said}");
}

async fn register(admin: &Api) -> String {
    let consultant = json!({ "name": "Ravi Kumar", "email": "ravi.kumar@support.example" });
    admin.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned()
}

// A link whose retention is over by the backup, and that a later legal hold keeps.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn no_command_erases_or_sends_from_a_database_that_is_behind(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    let link = admin.issue(&register(&admin).await).await;
    world.mails.wait_for(&link, 1).await;
    eventually("its mails are sent", async || {
        (Sql::of(world).count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(())
    })
    .await;
    kept(&admin, &outside).await;
    let backup = Backup::of(world);
    admin.post("/v1/audit-log/acme/legal-holds", &json!({ "reason": "Labour court, case 2026-118" })).await.ok();
    kept(&admin, &outside).await;
    process.kill();
    backup.restore(world);
    Sql::of(world)
        .run("UPDATE magic_links SET starts_at = '2020-01-01 00:00:00', expires_at = '2020-01-02 00:00:00'")
        .unwrap();

    let reason = async || Sql::of(world).texts(&format!("SELECT reason AS text FROM magic_links WHERE id = '{link}'"));
    assert_ne!(reason().await, [""]);
    let held = Sql::of(world).texts("SELECT id AS text FROM mail_jobs");
    refused(world, &outside, &["maintain"], "magic-link restore").await;
    refused(world, &outside, &["mail", "retry", &held[0]], "magic-link restore").await;
    refused(world, &outside, &["audit", "checkpoint", "--tenant", "acme"], "magic-link restore").await;
    refused(world, &outside, &["audit", "rotate-key"], "magic-link restore").await;
    // Nor does it without the folder.
    refused(world, &outside.join("lost"), &["maintain"], "is not there").await;
    assert_ne!(reason().await, [""]);
    assert_eq!(Sql::of(world).texts("SELECT id AS text FROM mail_jobs"), held);

    // After the restore nothing is erased either, until somebody says which holds there are.
    assert!(restore(world, &outside).await.status.success());
    assert!(run(world, &outside, &["maintain"]).await.status.success());
    assert_ne!(reason().await, [""]);
    assert!(run(world, &outside, &["unfreeze"]).await.status.success());
    assert!(run(world, &outside, &["maintain"]).await.status.success());
    assert_eq!(reason().await, [""]);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn what_another_copy_has_kept_is_noticed_by_a_copy_that_runs(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &outside).await;
    let file = outside.join("acme.checkpoint");
    let before: Vec<_> = fs::read_dir(&outside).unwrap().map(|file| file.unwrap().path()).collect();
    let before: Vec<_> = before.iter().map(|file| (file, fs::read(file).unwrap())).collect();
    let backup = Backup::of(world);
    kept(&admin, &outside).await;
    let newest = fs::read(&file).unwrap();
    process.kill();
    // As it was when the backup was made: this copy knows nothing of what came later.
    for file in fs::read_dir(&outside).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    for (file, bytes) in &before {
        fs::write(file, bytes).unwrap();
    }
    backup.restore(world);
    let process = start(world, &outside);
    eventually("it is ready", async || (readiness(&process).await.0 == 200).then_some(())).await;
    fs::write(outside.join("fresh"), newest).unwrap();
    fs::rename(outside.join("fresh"), &file).unwrap();
    eventually("it notices", async || {
        let (_, body) = readiness(&process).await;
        (body["code"] == "restore_required").then_some(())
    })
    .await;
    // No mail leaves.
    let admin = world.admin.at(&process.base);
    let link = admin.issue(&register(&admin).await).await;
    assert!(restore(world, &outside).await.status.success());
    assert!(world.mails.about(&link).await.is_empty());
}

/// Waits until readiness names a fault of the folder.
async fn faulty(process: &Process, words: &str) {
    eventually("the fault is named", async || {
        let (status, body) = readiness(process).await;
        let said =
            body["detail"].as_str().is_some_and(|said| said.starts_with("checkpoints: ") && said.contains(words));
        (status == 503 && said).then_some(())
    })
    .await;
}

async fn ready(process: &Process) {
    eventually("it is ready", async || (readiness(process).await.0 == 200).then_some(())).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_folder_that_is_not_there_is_a_fault_that_is_named(world: &World) {
    let place = outside();
    let (outside, aside) = (place.join("checkpoints"), place.join("aside"));
    // Not mounted at the start: nobody makes it, and nothing leaves that could not be taken back.
    let process = start(world, &outside);
    faulty(&process, "is not there").await;
    let admin = world.admin.at(&process.base).patient();
    let link = admin.issue(&register(&admin).await).await;
    refused(world, &outside, &["restore"], "is not there").await;
    assert!(!outside.exists() && world.mails.about(&link).await.is_empty());
    // A new installation's.
    fs::create_dir(&outside).unwrap();
    ready(&process).await;
    world.mails.wait_for(&link, 1).await;
    kept(&admin, &outside).await;
    assert!(outside.join(MARK).exists());

    // It vanishes, and the place where it was mounted is empty.
    fs::rename(&outside, &aside).unwrap();
    faulty(&process, "is not there").await;
    fs::create_dir(&outside).unwrap();
    faulty(&process, MARK).await;
    refused(world, &outside, &["restore"], MARK).await;
    refused(world, &outside, &["maintain"], MARK).await;
    admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    admin.get("/v1/audit-log/acme/checkpoint").await;
    eventually("nothing is kept there", async || {
        let log = admin.get("/v1/audit-log/acme").await.ok();
        log["deliveries"][0]["last_error"].as_str().filter(|why| why.contains(MARK)).map(|_| ())
    })
    .await;
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Another one on purpose.
    fs::write(outside.join(MARK), "").unwrap();
    ready(&process).await;
    kept(&admin, &outside).await;
}

/// All that was ever signed stays in the table. Each of those outside is found by its log and its size, and not each log with
/// each of the sizes.
#[test]
fn checkpoints_outside_are_looked_for_in_pairs() {
    let outside = outside();
    let settings = Settings::config(&format!("audit.checkpoint_folder = '{}'", outside.display()));
    World::run(Database::Postgres, &settings, async |world| {
        kept(&world.admin, &outside).await;
        let (statements, _) = Statements::during(world, kept(&world.admin, &outside)).await;
        let found = statements.texts(&["audit_checkpoints", "unnest"]);
        assert_eq!(found.len(), 1, "{found:?}");
        let plan = Sql::of(world).plan(found.into_iter().next().unwrap(), &["text[]", "bigint[]"]).join("\n");
        assert!(plan.contains("Index Cond: ((tenant_id = a.tenant_id) AND (size = a.size))"), "{plan}");
    });
}
