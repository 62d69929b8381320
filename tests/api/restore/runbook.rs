//! The commands of the page about backup and restore, as they stand there.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::support::{
    Api, Auditor, Database, Process, Settings, Sql, World, apply, binaries, command, folder, grant, on_both_databases,
};

/// The blocks of commands in the chapter, in order: those for this database, and those for both.
fn blocks(database: Database) -> Vec<String> {
    let page = include_str!("../../../docker/README.md");
    let chapter = page.split("\n## Backup and restore\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = chapter.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let other = if database == Database::Sqlite { "# PostgreSQL" } else { "# SQLite" };
    blocks.filter(|block| !block.starts_with(other)).collect()
}

/// Runs a block in a folder, with the world's database in the place of the page's, and ids in that of its variables.
async fn run(world: &World, folder: &Path, ids: [&str; 2], block: &str) {
    let program = command(world);
    let mut shell = Command::new("sh");
    let path = std::env::var("PATH").unwrap();
    let programs = Path::new(program.get_program()).parent().unwrap().display().to_string();
    let servers = binaries().map(|folder| folder.display().to_string()).unwrap_or_default();
    // The file itself may be elsewhere: SQLite keeps its log there.
    let named = folder.join("named.db");
    if let Some(file) = world.database_url.strip_prefix("sqlite://") {
        drop(std::fs::remove_file(&named));
        std::os::unix::fs::symlink(file, &named).unwrap();
    }
    let block = block.replace("data/magic-link.db", &named.display().to_string());
    shell.args(["-eu", "-c", &block]).current_dir(folder);
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    // Whoever backs up and restores owns the tables.
    shell.env("MAGIC_LINK_DATABASE_URL", &world.database_url);
    let [client, consultant] = ids;
    shell.env("CLIENT", client).env("CONSULTANT", consultant);
    shell.env("PATH", format!("{programs}:{servers}:{path}"));
    let output = super::output(shell).await;
    assert!(output.status.success(), "{block}\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Takes the database back to the version before approvals could be signed, as a backup of that time has it.
fn take_back(world: &World) {
    let tree = if world.database == Database::Sqlite { "sqlite" } else { "postgres" };
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(tree);
    let mut names: Vec<_> = std::fs::read_dir(&tree).unwrap().map(|one| one.unwrap().file_name()).collect();
    names.sort();
    let mut sql = Sql::of(world);
    for name in names.iter().rev().map(|name| name.to_str().unwrap()).take_while(|name| *name >= "20261128020000") {
        sql.run(&std::fs::read_to_string(tree.join(name).join("down.sql")).unwrap()).expect(name);
        let version = name.split('_').next().unwrap();
        sql.run(&format!("DELETE FROM __diesel_schema_migrations WHERE version = '{version}'")).unwrap();
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_page_brings_a_backup_back_safely(world: &World) {
    bring_back(world, false).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn the_page_brings_a_backup_from_before_an_upgrade_back_safely(world: &World) {
    bring_back(world, true).await;
}

async fn bring_back(world: &World, is_older: bool) {
    let place = folder(&format!("runbook-{:?}-{is_older}", world.database));
    let [backup, put_back, restore] = blocks(world.database).try_into().expect("three blocks of commands");
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    let consultant =
        admin.post("/v1/consultants", &json!({ "name": "Ravi Kumar", "email": "ravi@support.example" })).await.ok();
    let consultant = consultant["id"].as_str().unwrap();
    let link = admin.issue(consultant).await;
    let wide = json!({ "name": "ESS", "tenants": ["acme"], "scopes": ["links:issue", "links:read"] });
    let wide = admin.post("/v1/clients", &wide).await.ok();
    let ids = [wide["id"].as_str().unwrap(), consultant];
    let (process, admin) = if is_older {
        process.kill();
        take_back(world);
        run(world, &place, ids, &backup).await;
        if world.database == Database::Postgres {
            grant(&world.database_url);
        }
        let process = Process::start(world);
        let admin = world.admin.at(&process.base);
        (process, admin)
    } else {
        run(world, &place, ids, &backup).await;
        (process, admin)
    };

    admin.post(&format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "No longer needed" })).await.ok();
    let auditor = Auditor::of("acme", &admin).await;
    let newest = auditor.checkpoint(&admin).await;
    std::fs::write(place.join("acme.checkpoint"), &newest).unwrap();
    // What was committed last stands in the log of SQLite alone.
    process.kill();

    run(world, &place, ids, &put_back).await;
    run(world, &place, ids, &restore).await;
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    assert_eq!(Api::new(&process.base, None).get("/readyz").await.status, 200);
    assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
    let said = auditor.accepts(&auditor.export(&admin).await, &[&newest]);
    assert!(said.contains("events were lost"), "{said}");
    admin.issue(consultant).await;
    let narrowed = admin.get(&format!("/v1/clients/{}", ids[0])).await.ok();
    assert_eq!((&narrowed["state"], &narrowed["scopes"]), (&json!("active"), &json!(["links:read"])), "{narrowed}");
    assert!(narrowed["rotated_at"].is_string(), "{narrowed}");
    let corrected = admin.get(&format!("/v1/consultants/{consultant}")).await.ok();
    assert_eq!(corrected["email"], "ravi.kumar@support.example");
}
