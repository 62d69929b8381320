//! The folder of checkpoints is read again and again, by whoever cannot take back what it does.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::readiness::{kept, outside, readiness, restore, start};
use super::{confirm, output};
use crate::support::{
    Api, Auditor, Backup, Database, Process, Settings, Sql, Statements, World, apply, command, eventually,
    on_both_databases,
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
    // Nobody knows whether it would be another tree under the same name.
    world.admin.at(&process.base).get("/v1/audit-log/acme/checkpoint").await.refused(503, "unavailable");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    // Another one on purpose.
    fs::write(outside.join(MARK), "").unwrap();
    ready(&process).await;
    kept(&admin, &outside).await;
}

// There are more logs than files that were written last and are read each time.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn other_tenants_do_not_push_out_of_sight_what_the_database_lacks(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    let others: Vec<String> = (0..40).map(|number| format!("tenant-{number}")).collect();
    for other in &others {
        admin.put(&format!("/v1/tenants/{other}"), &json!({ "name": other })).await.ok();
        admin.get(&format!("/v1/audit-log/{other}/checkpoint")).await;
    }
    kept(&admin, &outside).await;
    let file = |other: &String| outside.join(format!("{other}.checkpoint"));
    eventually("all are outside", async || others.iter().all(|other| file(other).exists()).then_some(())).await;
    let backup = Backup::of(world);
    kept(&admin, &outside).await;
    process.kill();
    backup.restore(world);
    // As if they had been written since, by a copy that did not know.
    for other in &others {
        let written = fs::read(file(other)).unwrap();
        fs::write(outside.join("fresh"), written).unwrap();
        fs::rename(outside.join("fresh"), file(other)).unwrap();
    }
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    refused(world, &outside, &["maintain"], "magic-link restore").await;
    // A file that vanishes afterwards was seen, and changes nothing for who has seen it.
    fs::rename(outside.join("acme.checkpoint"), outside.join("aside")).unwrap();
    for _ in 0..5 {
        stepped(&process, "audit").await;
    }
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    fs::rename(outside.join("aside"), outside.join("acme.checkpoint")).unwrap();
    assert!(restore(world, &outside).await.status.success());
    ready(&process).await;
}

/// Waits until a worker has finished another step.
async fn stepped(process: &Process, worker: &str) {
    let last = async || {
        let page = reqwest::get(format!("{}/metrics", process.metrics)).await.unwrap().text().await.unwrap();
        let name = format!("worker_last_step_timestamp_seconds{{worker=\"{worker}\"}} ");
        page.lines().find_map(|line| line.split_once(&name).map(|(_, at)| at.to_owned()))
    };
    let before = last().await;
    eventually("the worker has done a step", async || (last().await != before).then_some(())).await;
}

// Neither the folder nor the receiver of checkpoints hears of another tree under the name of the one that is lost.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn nothing_is_signed_or_sent_outside_while_the_database_is_behind(world: &World) {
    let (outside, receiver) = (outside(), MockServer::start().await);
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&receiver).await;
    let heard = async || receiver.received_requests().await.unwrap().len();
    let environment = [
        (FOLDER, outside.to_str().unwrap()),
        ("MAGIC_LINK_AUDIT__WEBHOOK_URL", &receiver.uri()),
        ("MAGIC_LINK_AUDIT__WEBHOOK_SECRET", "whsec_dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHM="),
        ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0"),
    ];
    let process = Process::start_with(world, &environment, Stdio::inherit());
    let admin = world.admin.at(&process.base).patient();
    let link = admin.issue(&register(&admin).await).await;
    let hold = admin.post("/v1/audit-log/acme/legal-holds", &json!({ "reason": "Labour court, case 2026-118" })).await;
    let hold = hold.ok()["id"].as_str().unwrap().to_owned();
    kept(&admin, &outside).await;
    eventually("the receiver has it", async || (heard().await > 0).then_some(())).await;
    let backup = Backup::of(world);
    kept(&admin, &outside).await;
    process.kill();
    backup.restore(world);
    let again = "UPDATE checkpoint_deliveries SET size = 0, next_attempt_at = '2026-01-01 00:00:00'";
    Sql::of(world).run(again).unwrap();
    let newest = fs::read(outside.join("acme.checkpoint")).unwrap();
    fs::remove_file(outside.join("_system.checkpoint")).unwrap();
    let signed = Sql::of(world).count("FROM audit_checkpoints");
    let heard_before = heard().await;

    let process = Process::start_with(world, &environment, Stdio::inherit());
    let admin = world.admin.at(&process.base);
    admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    for path in [
        "/v1/audit-log/acme/checkpoint".to_owned(),
        format!("/v1/magic-links/{link}/evidence"),
        "/v1/audit-events/export?tenant_id=acme".to_owned(),
    ] {
        admin.get(&path).await.refused(503, "restore_required");
    }
    let release = format!("/v1/audit-log/acme/legal-holds/{hold}/release");
    admin.post(&release, &json!({ "reason": "The case was settled" })).await.refused(503, "restore_required");
    refused(world, &outside, &["audit", "export", "--tenant", "acme"], "magic-link restore").await;
    // A view is signed by nobody, and can be read.
    admin.get("/v1/audit-events?tenant_id=acme").await.ok();
    for worker in ["audit", "checkpoints", "checkpoint files"] {
        stepped(&process, worker).await;
        stepped(&process, worker).await;
    }
    assert_eq!(Sql::of(world).count("FROM audit_checkpoints"), signed);
    assert_eq!(heard().await, heard_before);
    assert!(!outside.join("_system.checkpoint").exists());
    assert_eq!(fs::read(outside.join("acme.checkpoint")).unwrap(), newest);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_folder_of_another_installation_vouches_for_nothing(world: &World) {
    let (place, theirs) = (outside(), outside());
    let foreign = "links.example/audit/acme\n4711\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n";
    let process = start(world, &place);
    let admin = world.admin.at(&process.base).patient();
    kept(&admin, &place).await;
    let backup = Backup::of(world);
    kept(&admin, &place).await;
    process.kill();
    backup.restore(world);
    for mark in [
        None,
        Some("links.example AAAA\n"),
        Some("Magic Link keeps the newest checkpoint of each audit log in this folder.\n"),
    ] {
        fs::write(theirs.join("acme.checkpoint"), foreign).unwrap();
        if let Some(mark) = mark {
            fs::write(theirs.join(MARK), mark).unwrap();
        }
        let process = start(world, &theirs);
        faulty(&process, "another installation").await;
        refused(world, &theirs, &["maintain"], "another installation").await;
        process.kill();
    }
    // One that does not know of any checkpoints that were kept is not made to begin there, either.
    Sql::of(world).run("DELETE FROM checkpoint_deliveries").unwrap();
    let process = start(world, &theirs);
    faulty(&process, "another installation").await;
    process.kill();
    // Its own folder says what it is.
    let process = start(world, &place);
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    let mark = fs::read_to_string(place.join(MARK)).unwrap();
    assert!(mark.lines().nth(1).is_some_and(|owner| owner.starts_with("127.0.0.1:8080 ")), "{mark}");
}

// What the backup had signed and not delivered is older than what is outside.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_checkpoint_that_waits_in_the_backup_takes_no_newer_ones_place(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    kept(&world.admin.at(&process.base).patient(), &outside).await;
    process.kill();
    let waits = "UPDATE checkpoint_deliveries SET size = 0, next_attempt_at = '2026-01-01 00:00:00'";
    Sql::of(world).run(waits).unwrap();
    let backup = Backup::of(world);
    let process = start(world, &outside);
    let newest = kept(&world.admin.at(&process.base).patient(), &outside).await;
    process.kill();
    backup.restore(world);
    assert!(restore(world, &outside).await.status.success());
    let file = outside.join("acme.checkpoint");
    let process = start(world, &outside);
    ready(&process).await;
    for _ in 0..2 {
        stepped(&process, "checkpoint files").await;
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), newest);
    process.kill();
    // The same backup once more is still behind what is outside.
    backup.restore(world);
    let process = start(world, &outside);
    assert_eq!(readiness(&process).await.1["code"], "restore_required");
    process.kill();
    // What goes on under another name takes its place.
    assert!(restore(world, &outside).await.status.success());
    let process = start(world, &outside);
    ready(&process).await;
    let admin = world.admin.at(&process.base).patient();
    confirm(world, &[&admin]).await;
    assert_ne!(kept(&admin, &outside).await.lines().next(), newest.lines().next());
}

// More than are delivered at a time have grown since what was signed of them last.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn logs_that_grow_do_not_keep_the_checkpoint_of_another_one_from_its_turn(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    let others: Vec<String> = (0..60).map(|number| format!("aa-{number}")).collect();
    for other in &others {
        admin.put(&format!("/v1/tenants/{other}"), &json!({ "name": other })).await.ok();
        admin.get(&format!("/v1/audit-log/{other}/checkpoint")).await;
    }
    let file = |other: &String| outside.join(format!("{other}.checkpoint"));
    eventually("all are outside", async || others.iter().all(|other| file(other).exists()).then_some(())).await;
    for other in &others {
        admin.put(&format!("/v1/tenants/{other}"), &json!({ "name": "It grows" })).await.ok();
    }
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

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_delivery_that_a_restore_overtakes_is_none_of_the_backups(world: &World) {
    let archive = MockServer::start().await;
    let seconds = Arc::new(AtomicU64::new(0));
    let waits = Arc::clone(&seconds);
    let takes = move |_: &wiremock::Request| {
        ResponseTemplate::new(204).set_delay(Duration::from_secs(waits.load(Ordering::SeqCst)))
    };
    Mock::given(method("POST")).respond_with(takes).mount(&archive).await;
    let url = archive.uri();
    let settings = [
        ("MAGIC_LINK_AUDIT__WEBHOOK_URL", url.as_str()),
        ("MAGIC_LINK_AUDIT__WEBHOOK_SECRET", "whsec_dGVzdHMgdGVzdHMgdGVzdHMgdGVzdHMgdGVzdHM="),
    ];
    let process = Process::start_with(world, &settings, Stdio::inherit());
    let admin = world.admin.at(&process.base).patient();
    admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let auditor = Auditor::of("acme", &admin).await;
    // Signs a checkpoint of ACME's log, and says its size.
    let grow = async || {
        admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
        let checkpoint = auditor.checkpoint(&admin).await;
        checkpoint.lines().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // The last size of ACME's log that the archive was told, after so many messages.
    let told = async |since: usize| {
        let requests = archive.received_requests().await.unwrap();
        let messages =
            requests.iter().skip(since).map(|request| serde_json::from_slice::<Value>(&request.body).unwrap());
        let of_acme = messages.filter(|message| message["subject"] == "acme");
        of_acme.map(|message| message["data"]["size"].as_u64().unwrap()).next_back().unwrap_or_default()
    };
    let size = grow().await;
    eventually("the archive has it", async || (told(0).await >= size).then_some(())).await;
    let backup = Backup::of(world);

    // The database is replaced while the archive is about to say that it took what the backup does not know.
    for _ in 0..30 {
        grow().await;
    }
    seconds.store(3, Ordering::SeqCst);
    let lost = grow().await;
    eventually("the archive is asked", async || (told(0).await >= lost).then_some(())).await;
    backup.restore(world);
    tokio::time::sleep(Duration::from_secs(4)).await;
    seconds.store(0, Ordering::SeqCst);
    let asked = archive.received_requests().await.unwrap().len();

    assert!(run(world, &outside(), &["restore"]).await.status.success());
    confirm(world, &[&admin]).await;
    let size = grow().await;
    assert!(size < lost, "{size} of {lost}");
    eventually("the archive is told", async || (told(asked).await >= size).then_some(())).await;
}

// A disk that loses what a file held: of that log nobody can tell what the database lacks.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_checkpoint_that_is_damaged_is_not_taken_for_none(world: &World) {
    let outside = outside();
    let process = start(world, &outside);
    let admin = world.admin.at(&process.base).patient();
    let newest = kept(&admin, &outside).await;
    let backup = Backup::of(world);
    kept(&admin, &outside).await;
    process.kill();
    backup.restore(world);
    let file = outside.join("acme.checkpoint");
    let lost = fs::read_to_string(&file).unwrap();
    for damaged in ["", &lost[..lost.len() / 2], "\0\0\0\0"] {
        fs::write(&file, damaged).unwrap();
        let process = start(world, &outside);
        let (status, told) = readiness(&process).await;
        assert_eq!((status, &told["code"]), (503, &json!("unavailable")), "{damaged:?}: {told}");
        assert!(told["detail"].as_str().unwrap().contains("is damaged"), "{damaged:?}: {told}");
        process.kill();
    }
    // What it held is seen again, also by a service that runs.
    let process = start(world, &outside);
    fs::write(&file, &lost).unwrap();
    eventually("it is read again", async || (readiness(&process).await.1["code"] == "restore_required").then_some(()))
        .await;
    // Where nobody has it, the operator moves the file away; a file of another name is nobody's.
    fs::write(&file, "").unwrap();
    fs::write(outside.join("notes.txt"), "Whatever").unwrap();
    process.kill();
    fs::remove_file(&file).unwrap();
    fs::write(&file, &newest).unwrap();
    let process = start(world, &outside);
    eventually("it is ready", async || (readiness(&process).await.0 == 200).then_some(())).await;
}
