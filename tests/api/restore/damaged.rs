//! A restore over what cannot be restored: it says so, and ends.

use std::process::Stdio;

use super::{json, run};
use crate::support::{
    Backup, Database, Process, Settings, Sql, World, apply, command, eventually, folder, on_both_databases,
};

#[test]
fn a_backup_beside_the_log_of_the_file_before_is_refused_as_it_is() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let file = world.database_url.strip_prefix("sqlite://").unwrap();
        let (log, kept) = (format!("{file}-wal"), folder("mixture").join("log"));
        let backup = Backup::of(world);
        let mut sql = Sql::of(world);
        sql.run("PRAGMA wal_autocheckpoint = 0; UPDATE clients SET name = name || ' '").unwrap();
        // As a crash leaves it.
        std::fs::copy(&log, &kept).unwrap();
        drop(sql);
        backup.restore(world);
        std::fs::copy(&kept, &log).unwrap();

        let there = || [file, &log].map(|place| std::fs::read(place).unwrap());
        let before = there();
        let refused = run(world, &["restore"]).await;
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(&log), "{said}");
        assert!(there() == before, "something was written");

        for rest in ["-wal", "-shm"] {
            drop(std::fs::remove_file(format!("{file}{rest}")));
        }
        json(world, &["restore"]).await;
    });
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_restore_that_fails_for_good_ends(world: &World) {
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    let consultant = serde_json::json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = admin.post("/v1/consultants", &consultant).await.ok();
    admin.issue(consultant["id"].as_str().unwrap()).await;
    process.kill();
    let mut sql = Sql::of(world);
    let (damage, repair) = match world.database {
        Database::Sqlite => (
            "CREATE TRIGGER no_room BEFORE UPDATE OF revoked_at ON magic_links \
             BEGIN SELECT RAISE(ABORT, 'no room'); END",
            "DROP TRIGGER no_room",
        ),
        Database::Postgres => (
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'no room'; END $$; \
             CREATE TRIGGER no_room BEFORE UPDATE OF revoked_at ON magic_links FOR EACH ROW EXECUTE FUNCTION no_room()",
            "DROP TRIGGER no_room ON magic_links",
        ),
    };
    sql.run(damage).unwrap();
    let mut restoring = command(world);
    let mut restoring = restoring.arg("restore").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("the restore ends", async || restoring.try_wait().unwrap()).await;
    let ended = restoring.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("The database is damaged"), "{said}");

    sql.run(repair).unwrap();
    json(world, &["restore"]).await;
}
