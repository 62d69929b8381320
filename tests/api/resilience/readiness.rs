//! `/readyz` says what works, and a fault that lasts is not told as one that passes.

use std::io::{Seek, SeekFrom, Write};

use serde_json::json;

use crate::support::{
    Api, Database, Process, Settings, Sql, World, apply, command, eventually, mails_have_left, on_both_databases,
};

/// Waits until the service is ready, or is not.
async fn ready(caller: &Api, is_ready: bool) -> crate::support::Reply {
    eventually("readiness changes", async || {
        let reply = caller.get("/readyz").await;
        ((reply.status == 200) == is_ready).then_some(reply)
    })
    .await
}

/// The value of a metric without labels.
async fn metric(process: &Process, name: &str) -> String {
    let text = reqwest::get(format!("{}/metrics", process.metrics)).await.unwrap().text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).to_owned()
}

#[apply(on_both_databases)]
async fn a_service_is_ready_when_its_database_takes_what_is_written(world: &World) {
    let mut sql = Sql::of(world);
    let written = "SELECT CAST(written_at AS TEXT) AS text FROM write_probe";
    let before = sql.texts(written);
    assert_eq!(world.stranger().get("/readyz").await.status, 200);
    let after = sql.texts(written);
    assert_ne!(after, before, "it has written");
    for _ in 0..20 {
        assert_eq!(world.stranger().get("/readyz").await.status, 200);
    }
    assert!(sql.texts(written) == after, "who asks often does not make it write often");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_fault_that_lasts_is_named_and_is_no_503(world: &World) {
    let process =
        Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], std::process::Stdio::null());
    let admin = world.admin.at(&process.base);
    ready(&admin, true).await;
    assert_eq!(metric(&process, "magic_link_database_faults_total").await, "0");
    assert_eq!(metric(&process, "magic_link_ready{check=\"writes\"}").await, "1");
    let mut sql = Sql::of(world);
    let needed = [
        ("write_probe", "writes"),
        ("audit_logs", "writes"),
        ("audit_events", "writes"),
        ("audit_payloads", "writes"),
        ("signing_keys", "reads"),
        ("access_epoch", "access"),
    ];
    for (table, check) in needed {
        sql.run(&format!("ALTER TABLE {table} RENAME TO gone")).unwrap();
        let reply = ready(&admin, false).await;
        reply.refused(500, "database_fault");
        assert_eq!(reply.header("retry-after"), "", "to wait would not help");
        assert!(reply.body["detail"].as_str().unwrap().starts_with(&format!("{check}: ")), "{reply:?}");
        assert_eq!(metric(&process, &format!("magic_link_ready{{check=\"{check}\"}}")).await, "0");
        sql.run(&format!("ALTER TABLE gone RENAME TO {table}")).unwrap();
        ready(&admin, true).await;
    }
    assert_ne!(metric(&process, "magic_link_database_faults_total").await, "0");

    sql.run("ALTER TABLE consultants RENAME TO gone").unwrap();
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    admin.get("/v1/consultants").await.refused(500, "database_fault");
    admin.post("/v1/consultants", &request).await.refused(500, "database_fault");
    sql.run("ALTER TABLE gone RENAME TO consultants").unwrap();
    admin.post("/v1/consultants", &request).await.ok();
}

#[apply(on_both_databases)]
async fn a_row_that_is_gone_is_no_503(world: &World) {
    let mut sql = Sql::of(world);
    ready(&world.admin, true).await;
    sql.run("CREATE TABLE aside AS SELECT * FROM access_epoch; DELETE FROM access_epoch").unwrap();
    assert_eq!(world.admin.get("/v1/clients").await.status, 500);
    assert_eq!(world.admin.get("/readyz").await.status, 500);
    sql.run("INSERT INTO access_epoch SELECT * FROM aside").unwrap();
    world.admin.get("/v1/clients").await.ok();
}

#[test]
fn a_database_that_is_not_there_is_no_503() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        ready(&world.admin, true).await;
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        control.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).unwrap();
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        control.run(&end).unwrap();
        eventually("it has another name", async || {
            control.run(&end).unwrap();
            control.run(&format!("ALTER DATABASE {name} RENAME TO {name}_gone")).ok()
        })
        .await;
        eventually("that is told as what it is", async || {
            let reply = world.admin.get("/readyz").await;
            (reply.status == 500).then(|| reply.refused(500, "database_fault"))
        })
        .await;
        // The first one meets the connection that has just ended.
        eventually("every caller is told so", async || {
            let reply = world.admin.get("/v1/consultants").await;
            (reply.status == 500).then(|| reply.refused(500, "database_fault"))
        })
        .await;
        control.run(&format!("ALTER DATABASE {name}_gone RENAME TO {name}")).unwrap();
        control.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).unwrap();
        ready(&world.admin, true).await;
    });
}

#[test]
fn a_damaged_file_is_told_as_damage() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let session = world.open_session(&portal).await;
        let token = session["access_token"].as_str().unwrap();
        // What became of a mail is stored until it is, and a service that stops waits for that as long as it may.
        mails_have_left(&portal).await;
        ready(&portal, true).await;
        // All pages but the first are garbage; a commit beside the service makes it read them again.
        Sql::of(world).run("PRAGMA wal_checkpoint(TRUNCATE); CREATE TABLE beside (a TEXT)").unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).open(&world.database_url["sqlite://".len()..]).unwrap();
        let size = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(4_096)).unwrap();
        file.write_all(&vec![0xA5; usize::try_from(size).unwrap() - 4_096]).unwrap();
        ready(&portal, false).await.refused(500, "database_fault");
        let request = Api::issue_request(&consultant);
        let issue = portal.post("/v1/magic-links", &request).await;
        issue.refused(500, "database_fault");
        assert_eq!(issue.header("retry-after"), "");
        portal.form("/v1/introspect", &[("token", token)]).await.refused(500, "database_fault");
        assert_eq!(portal.get("/healthz").await.status, 200);
    });
}

#[test]
fn a_database_that_has_become_read_only_is_not_ready_and_comes_back() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let request = Api::issue_request(&world.consultant().await);
        ready(&portal, true).await;
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        control.run(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).unwrap();
        // As a fail-over does: whoever connects again finds a server that takes no writes.
        let end = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
        control.run(&end).unwrap();
        let reply = ready(&portal, false).await;
        reply.refused(503, "unavailable");
        assert!(!reply.header("retry-after").is_empty(), "{reply:?}");
        portal.post("/v1/magic-links", &request).await.refused(503, "unavailable");
        // The connections that answered so were thrown away: nobody has to restart the service, or to end them.
        control.run(&format!("ALTER DATABASE {name} RESET default_transaction_read_only")).unwrap();
        ready(&portal, true).await;
        eventually("a link can be issued", async || {
            (portal.post("/v1/magic-links", &request).await.status == 201).then_some(())
        })
        .await;
    });
}

/// The triggers that a database has, as the program lists them.
fn triggers(world: &World) -> String {
    let query = match world.database {
        Database::Sqlite => "SELECT name AS text FROM sqlite_schema WHERE type = 'trigger' ORDER BY name",
        Database::Postgres => {
            "SELECT tgname || CASE tgenabled WHEN 'A' THEN ' always' ELSE '' END AS text \
             FROM pg_trigger WHERE NOT tgisinternal ORDER BY tgname COLLATE \"C\""
        }
    };
    Sql::of(world).texts(query).join("\n") + "\n"
}

// A backup that was brought back in part: the tables are there, and what keeps their rules is not.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_database_without_its_triggers_is_not_served(world: &World) {
    let listed = match world.database {
        Database::Sqlite => include_str!("../../../src/db/guards/sqlite.txt"),
        Database::Postgres => include_str!("../../../src/db/guards/postgres.txt"),
    };
    assert_eq!(triggers(world), listed);

    let process = Process::start(world);
    let stranger = Api::new(&process.base, None);
    stranger.get("/readyz").await.ok();
    let (damage, named) = match world.database {
        Database::Sqlite => ("DROP TRIGGER clients_update_raises_access_epoch", "clients_update_raises_access_epoch"),
        Database::Postgres => (
            "ALTER TABLE clients DISABLE TRIGGER clients_change_raises_access_epoch; \
             ALTER TABLE clients ENABLE TRIGGER clients_change_raises_access_epoch",
            "clients_change_raises_access_epoch always",
        ),
    };
    Sql::of(world).run(damage).unwrap();
    let reply = ready(&stranger, false).await;
    let detail = reply.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("schema: the database lacks triggers"), "{reply:?}");
    for arguments in [&["serve"][..], &["restore"], &["migrate"], &["migrate", "--check"]] {
        let output = command(world).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(named), "{arguments:?}: {said}");
    }
}
