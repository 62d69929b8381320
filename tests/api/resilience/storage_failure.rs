//! When the store cannot take it, nothing is half done: no act without its event, and no answer that is not true.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::{
    Api, Auditor, Database, Process, Settings, Sql, World, apply, eventually, folder, on_both_databases,
};

/// A small disk, unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` where nobody may mount.
    fn mount(kib: usize) -> Option<Self> {
        let folder = folder("small-disk");
        let size = format!("size={kib}k");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&folder).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).status());
    }
}

/// Issues until the store takes no more, which it says with this code; tells what was acknowledged.
async fn issue_until_full(operator: &Api, consultant: &str, (status, code): (u16, &str)) -> Vec<String> {
    let mut issued = Vec::new();
    let mut refused = 0;
    while refused < 5 {
        let reply = operator.post("/v1/magic-links", &Api::issue_request(consultant)).await;
        if reply.status == 201 {
            issued.push(reply.body["id"].as_str().unwrap().to_owned());
        } else {
            reply.refused(status, code);
            assert_eq!(reply.header("retry-after").is_empty(), status != 503, "{reply:?}");
            refused += 1;
        }
        assert!(issued.len() < 5_000, "the disk is not small");
    }
    issued
}

/// Every link has its event and its mail job, and those that were acknowledged are there.
async fn nothing_is_half_done(world: &World, operator: &Api, issued: &[String]) {
    let mut sql = Sql::of(world);
    let half_done = sql.texts(
        "SELECT id AS text FROM magic_links WHERE 1 <> (SELECT count(*) FROM audit_events WHERE \
         magic_link_id = magic_links.id AND event_type = 'magic_link.issued') OR 1 <> (SELECT count(*) \
         FROM mail_jobs WHERE magic_link_id = magic_links.id AND template = 'magic_link')",
    );
    assert!(half_done.is_empty(), "{half_done:?}");
    for id in issued {
        assert_eq!(operator.get(&format!("/v1/magic-links/{id}")).await.ok()["state"], "active");
    }
    for log in ["acme", "_system"] {
        Auditor::of(log, operator).await.audit(operator).await;
    }
}

async fn consultant(operator: &Api) -> String {
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_full_disk_stops_the_act_with_its_event() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start(world);
        let id = consultant(&world.admin.at(&process.base)).await;
        process.kill();
        // No file can grow beyond a mebibyte: to SQLite a disk error, which does not pass by itself.
        let process = Process::start_cramped(world, &[], 1024);
        let issued = issue_until_full(&world.admin.at(&process.base), &id, (500, "database_fault")).await;
        assert!(!issued.is_empty());
        process.kill();
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        nothing_is_half_done(world, &operator, &issued).await;
        operator.issue(&id).await;
    });
}

#[test]
fn a_small_disk_that_is_full_does_the_same() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let Some(disk) = SmallDisk::mount(3_072) else {
            eprintln!("skipped: nobody may mount here");
            return;
        };
        let file = disk.0.join("magic-link.db");
        let home = PathBuf::from(world.database_url.strip_prefix("sqlite://").unwrap());
        std::fs::copy(&home, &file).unwrap();
        let url = format!("sqlite://{}", file.display());
        let process =
            Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", url.as_str())], std::process::Stdio::null());
        let operator = world.admin.at(&process.base);
        let full = (503, "unavailable");
        let issued = issue_until_full(&operator, &consultant(&operator).await, full).await;
        assert!(!issued.is_empty());
        // Not a byte is left.
        let mut filler = std::fs::File::create(disk.0.join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
        eventually("the service says that it cannot write", async || {
            let reply = operator.get("/readyz").await;
            (reply.status != 200).then(|| {
                reply.refused(503, "unavailable");
                assert_eq!(reply.body["detail"], "writes: the database cannot be written");
            })
        })
        .await;
        process.kill();
        // There is room again, on another disk.
        for suffix in ["", "-wal"] {
            let from = PathBuf::from(format!("{}{suffix}", file.display()));
            if Path::exists(&from) {
                std::fs::copy(&from, format!("{}{suffix}", home.display())).unwrap();
            }
        }
        let process = Process::start(world);
        nothing_is_half_done(world, &world.admin.at(&process.base), &issued).await;
    });
}

#[apply(on_both_databases)]
async fn a_trail_that_is_locked_stops_the_act(world: &World) {
    let consultant = world.consultant().await;
    let mut other = Sql::of(world);
    other
        .run(match world.database {
            Database::Sqlite => "BEGIN IMMEDIATE",
            Database::Postgres => "BEGIN; LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE",
        })
        .unwrap();
    let request = Api::issue_request(&consultant);
    let reply = world.admin.post_once("/v1/magic-links", "once", &request).await;
    reply.refused(503, "unavailable");
    assert!(!reply.header("retry-after").is_empty());
    other.run("ROLLBACK").unwrap();
    let mut sql = Sql::of(world);
    for table in ["magic_links", "mail_jobs", "idempotency_keys"] {
        assert_eq!(sql.count(&format!("FROM {table}")), 0, "{table}: nothing is half done");
    }
    // As a client does: what queued behind the lock goes first, which may take longer than a caller waits for a writer.
    eventually("the repeat is taken", async || {
        let reply = world.admin.post_once("/v1/magic-links", "once", &request).await;
        (reply.status != 503).then(|| reply.ok())
    })
    .await;
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.issued'"), 1);
    Auditor::of("acme", &world.admin).await.audit(&world.admin).await;
}

/// Removes the write-ahead log and its index, as a tidy-up does.
fn remove_the_log(world: &World) {
    let file = world.database_url.strip_prefix("sqlite://").unwrap();
    for rest in ["-wal", "-shm"] {
        std::fs::remove_file(format!("{file}{rest}")).unwrap();
    }
}

/// Nothing is acknowledged, nobody is let in, and the copy is not ready.
async fn nothing_works(operator: &Api, consultant: &str, access_token: &str) {
    operator.post("/v1/magic-links", &Api::issue_request(consultant)).await.refused(500, "database_fault");
    operator.form("/v1/introspect", &[("token", access_token)]).await.refused(500, "database_fault");
    assert_ne!(operator.get("/readyz").await.status, 200);
}

#[test]
fn a_database_that_is_moved_away_for_a_while_loses_nothing() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start(world);
        let id = consultant(&world.admin.at(&process.base)).await;
        process.ask_to_stop();
        process.stopped().await;
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        let link = operator.issue(&id).await;
        let file = std::path::PathBuf::from(world.database_url.strip_prefix("sqlite://").unwrap());
        let aside = file.with_extension("aside");
        std::fs::rename(&file, &aside).unwrap();
        nothing_works(&operator, &id, "any").await;
        operator.get("/readyz").await.refused(500, "database_fault");
        let list = crate::support::command(world).args(["consultant", "list"]).output().unwrap();
        assert!(!list.status.success(), "{}", String::from_utf8_lossy(&list.stdout));
        assert!(!file.exists(), "nobody makes another database");
        // Nor is one taken for it that somebody else has made there.
        std::fs::write(&file, "").unwrap();
        nothing_works(&operator, &id, "any").await;
        std::fs::rename(&aside, &file).unwrap();
        assert_eq!(operator.get("/readyz").await.status, 200);
        let revoke = serde_json::json!({ "reason": "A laptop was stolen" });
        operator.post(&format!("/v1/magic-links/{link}/revoke"), &revoke).await.ok();
        // Nor does it matter that the process stops meanwhile.
        std::fs::rename(&file, &aside).unwrap();
        process.ask_to_stop();
        process.stopped().await;
        std::fs::rename(&aside, &file).unwrap();
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        assert_eq!(operator.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
        nothing_is_half_done(world, &operator, &[]).await;
    });
}

#[test]
fn a_write_ahead_log_that_is_removed_is_noticed_until_the_service_starts_anew() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        let id = consultant(&operator).await;
        operator.issue(&id).await;
        remove_the_log(world);
        nothing_works(&operator, &id, "any").await;
        process.ask_to_stop();
        process.stopped().await;
        // The last connection writes what the log held, if it closes in time: nothing promises that.
        let process = Process::start(world);
        nothing_is_half_done(world, &world.admin.at(&process.base), &[]).await;
    });
}

#[test]
fn what_another_process_acknowledges_beside_a_removed_log_stays() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        let id = consultant(&operator).await;
        process.ask_to_stop();
        process.stopped().await;
        let process = Process::start(world);
        let operator = world.admin.at(&process.base);
        operator.issue(&id).await;
        remove_the_log(world);
        let suspend = crate::support::command(world)
            .args(["consultant", "suspend", &id, "--reason", "Left the company"])
            .output()
            .unwrap();
        assert!(suspend.status.success(), "{}", String::from_utf8_lossy(&suspend.stderr));
        nothing_works(&operator, &id, "any").await;
        process.ask_to_stop();
        process.stopped().await;
        let process = Process::start(world);
        let seen = world.admin.at(&process.base).get(&format!("/v1/consultants/{id}")).await.ok();
        assert_eq!(seen["state"], "suspended");
    });
}

/// A command through another name would have a write-ahead log of its own, and say that it has stopped what goes on.
#[test]
fn no_command_acts_through_another_name_of_the_database() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let file = std::path::PathBuf::from(world.database_url.strip_prefix("sqlite://").unwrap());
        let other = file.with_extension("other");
        std::fs::hard_link(&file, &other).unwrap();
        let through = |url: &str, arguments: &[&str]| {
            crate::support::command(world).args(arguments).env("MAGIC_LINK_DATABASE_URL", url).output().unwrap()
        };
        let (named, freeze) = (format!("sqlite://{}", other.display()), ["freeze", "--reason", "A break-in"]);
        let brake = ["link", "revoke-all", "--everything", "--reason", "A break-in"];
        let refused: [(&str, &[&str]); 4] =
            [(&named, &freeze), (&named, &brake), (&named, &["restore"]), (&world.database_url, &freeze)];
        for (url, arguments) in refused {
            let refused = through(url, arguments);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success() && said.contains("hard links"), "{arguments:?}: {said}");
        }
        assert!(!std::path::Path::new(&format!("{}-wal", other.display())).exists());
        std::fs::remove_file(&other).unwrap();
        assert!(through(&world.database_url, &freeze).status.success());
        assert_eq!(world.admin.get("/v1/issuing").await.ok()["frozen"], true);
    });
}

/// The configuration names a symbolic link: SQLite keeps its log beside the file itself.
#[test]
fn a_symbolic_link_to_the_database_hides_nothing() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let file = std::path::PathBuf::from(world.database_url.strip_prefix("sqlite://").unwrap());
        let named = crate::support::folder("named-by-a-link").join("named.db");
        drop(std::fs::remove_file(&named));
        std::os::unix::fs::symlink(&file, &named).unwrap();
        let url = format!("sqlite://{}", named.display());
        let start = || Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &url)], std::process::Stdio::inherit());
        let process = start();
        let operator = world.admin.at(&process.base);
        let id = consultant(&operator).await;
        operator.issue(&id).await;
        remove_the_log(world);
        nothing_works(&operator, &id, "any").await;
        process.kill();

        // It leads elsewhere: another database, which nobody writes beside this one's log.
        let process = start();
        let operator = world.admin.at(&process.base);
        let id = if operator.get(&format!("/v1/consultants/{id}")).await.status == 200 {
            id
        } else {
            consultant(&operator).await
        };
        operator.issue(&id).await;
        let other = named.with_file_name("other.db");
        std::fs::copy(&file, &other).unwrap();
        std::fs::remove_file(&named).unwrap();
        std::os::unix::fs::symlink(&other, &named).unwrap();
        nothing_works(&operator, &id, "any").await;
        std::fs::remove_file(&named).unwrap();
        std::os::unix::fs::symlink(&file, &named).unwrap();
        assert_eq!(operator.get("/readyz").await.status, 200);
        process.kill();

        // Nobody makes a database beside the log of one that was moved away.
        let log = format!("{}-wal", file.display());
        assert!(std::fs::metadata(&log).is_ok_and(|log| log.len() > 0), "{log}");
        let aside = file.with_extension("aside");
        std::fs::rename(&file, &aside).unwrap();
        let list =
            crate::support::command(world).args(["consultant", "list"]).env("MAGIC_LINK_DATABASE_URL", &url).output();
        assert!(!list.unwrap().status.success() && !file.exists());
        std::fs::rename(&aside, &file).unwrap();
    });
}
