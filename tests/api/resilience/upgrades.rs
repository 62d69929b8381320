//! Migrations beside copies that run, databases of another version, and the role that changes no table.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Api, Database, Process, ROLE, Settings, Sql, World, apply, command, eventually, folder, on_both_databases,
};

/// The newest migration, which changes no table that is in use.
const NEWEST: &str = "20261128010000_tolerate_migrations";

/// The one before, which takes hold of every table of PostgreSQL, and may be run again.
const BEFORE: &str = "20261127220000_compare_texts_by_bytes";

/// Takes the newest migration back.
fn undo(sql: &mut Sql) {
    sql.run("DROP TABLE tolerated_migrations").unwrap();
    sql.run("DELETE FROM __diesel_schema_migrations WHERE version = '20261128010000'").unwrap();
}

/// `magic-link migrate` with the address of the database, and nothing else.
fn migrate(world: &World, arguments: &[&str]) -> Command {
    let whole = command(world);
    let mut command = Command::new(whole.get_program());
    command.env_clear().env("MAGIC_LINK_DATABASE_URL", &world.database_url).arg("migrate").args(arguments);
    command.current_dir(folder("migrate")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> (bool, String) {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    (output.status.success(), out + &err)
}

/// A command that writes its log to a file.
struct Logged {
    child: Child,
    path: std::path::PathBuf,
}

impl Logged {
    fn start(mut command: Command, name: &str) -> Self {
        let path = folder(name).join("log");
        let log = std::fs::File::create(&path).unwrap();
        Self { child: command.stdout(Stdio::null()).stderr(log).spawn().unwrap(), path }
    }

    async fn says(&self, what: &str) {
        eventually(what, async || {
            let text = std::fs::read_to_string(&self.path).unwrap();
            text.contains(what).then_some(())
        })
        .await;
    }

    async fn succeeds(mut self) {
        let status = eventually("it ends", async || self.child.try_wait().expect("a child")).await;
        assert!(status.success(), "{}", std::fs::read_to_string(&self.path).unwrap());
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn migrating_needs_only_the_address_and_says_what_it_did(world: &World) {
    let mut sql = Sql::of(world);
    let run = |arguments: &[&str]| said(&migrate(world, arguments).output().unwrap());
    assert_eq!(run(&["--check"]), (true, "the database is up to date\n".to_owned()));
    undo(&mut sql);
    let (is_done, text) = run(&["--check"]);
    assert!(!is_done && text.contains(&format!("pending {NEWEST}")), "{text}");
    let (_, text) = run(&["--check", "--json"]);
    assert!(text.starts_with(&format!(r#"{{"missing":[],"pending":["{NEWEST}"],"unknown":[]}}"#)), "{text}");

    // A service that is not to migrate does not start on it, and says what to do.
    let left = command(world).env("MAGIC_LINK_MIGRATE_AT_START", "false").arg("serve").output().unwrap();
    let (is_done, text) = said(&left);
    assert!(!is_done && text.contains(NEWEST) && text.contains("magic-link migrate"), "{text}");
    if world.database == Database::Postgres {
        // Nor does one that may not: its role owns no table.
        let (is_done, text) = said(&command(world).arg("serve").output().unwrap());
        assert!(!is_done && text.contains("permission denied"), "{text}");
    }

    let (is_done, text) = run(&[]);
    assert!(is_done && text.contains(&format!("applied {NEWEST}\n")), "{text}");
    assert_eq!(run(&["--json"]), (true, "{\"applied\":[],\"granted_to\":null}\n".to_owned()));
    if world.database == Database::Postgres {
        assert!(run(&["--grant-to", ROLE]).0);
    } else {
        let (is_done, text) = run(&["--grant-to", ROLE]);
        assert!(!is_done && text.contains("SQLite has no roles"), "{text}");
        let missing = format!("sqlite://{}/none.db", folder("none").display());
        let looked = migrate(world, &["--check"]).env("MAGIC_LINK_DATABASE_URL", &missing).output().unwrap();
        assert!(!looked.status.success() && !folder("none").join("none.db").exists(), "to look makes no file");
    }
    let process = Process::start_with(world, &[("MAGIC_LINK_MIGRATE_AT_START", "false")], Stdio::inherit());
    Api::new(&process.base, None).get("/readyz").await.ok();
}

/// The usual `search_path` begins with a schema of the role's name, which somebody may make at any time.
#[test]
fn a_schema_that_comes_first_later_gets_no_second_set_of_tables() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let mut sql = Sql::of(world);
        undo(&mut sql);
        sql.run(&format!("CREATE SCHEMA AUTHORIZATION postgres; CREATE SCHEMA AUTHORIZATION {ROLE}")).unwrap();
        let (is_done, text) = said(&migrate(world, &["--grant-to", ROLE]).output().unwrap());
        assert!(is_done && text.contains(&format!("applied {NEWEST}\n")), "{text}");
        assert_eq!(text.matches("applied ").count(), 1, "{text}");
        assert_eq!(sql.count(&format!("FROM pg_tables WHERE schemaname IN ('postgres', '{ROLE}')")), 0);
        let process = Process::start(world);
        Api::new(&process.base, None).get("/readyz").await.ok();
        world.admin.at(&process.base).get("/v1/clients").await.ok();
    });
}

#[test]
fn a_migration_that_waits_lets_everybody_else_through() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let (mut sql, mut reader, mut other) = (Sql::of(world), Sql::of(world), Sql::of(world));
        undo(&mut sql);
        sql.run("DELETE FROM __diesel_schema_migrations WHERE version = '20261127220000'").unwrap();
        // Somebody reads for long.
        reader.run("BEGIN").unwrap();
        reader.count("FROM magic_links");
        let first = Logged::start(migrate(world, &[]), "migrate-first");
        first.says("a migration waits for a lock; it was undone, and is tried again").await;
        let second = Logged::start(migrate(world, &[]), "migrate-second");
        second.says("another process migrates the database; waiting for it").await;
        for _ in 0..4 {
            let asked = Instant::now();
            other.count("FROM magic_links");
            assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        reader.run("COMMIT").unwrap();
        first.succeeds().await;
        second.succeeds().await;
        let applied = "FROM __diesel_schema_migrations WHERE version IN ('20261127220000', '20261128010000')";
        assert_eq!(sql.count(applied), 2, "{BEFORE}, {NEWEST}");
    });
}

#[apply(on_both_databases)]
async fn a_newer_database_is_left_alone_unless_it_says_that_this_program_may_go_on(world: &World) {
    let mut sql = Sql::of(world);
    let caller = world.stranger();
    caller.get("/readyz").await.ok();
    sql.run("INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')").unwrap();
    let reply = caller.get("/readyz").await;
    reply.refused(503, "unavailable");
    assert!(reply.body["detail"].as_str().unwrap().starts_with("schema: "), "{reply:?}");
    let (is_done, text) = said(&command(world).arg("serve").output().unwrap());
    assert!(!is_done && text.contains("29990101000000") && text.contains("newer"), "{text}");
    for arguments in [&["--check"] as &[&str], &[]] {
        let (is_done, text) = said(&migrate(world, arguments).output().unwrap());
        assert!(!is_done && text.contains("29990101000000"), "{text}");
    }

    // One that only adds: copies of both versions run side by side.
    sql.run("ALTER TABLE magic_links ADD COLUMN colour TEXT; CREATE TABLE colours (name TEXT)").unwrap();
    sql.run("INSERT INTO tolerated_migrations VALUES ('29990101000000', '20261128010000')").unwrap();
    caller.get("/readyz").await.ok();
    let process = Process::start(world);
    let old = world.admin.at(&process.base);
    old.get("/readyz").await.ok();
    let consultant = world.consultant().await;
    let link = old.issue(&consultant).await;
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");

    // One that was restored from before is noticed, too.
    sql.run("DELETE FROM __diesel_schema_migrations WHERE version = '20261127220000'").unwrap();
    let reply = caller.get("/readyz").await;
    assert!(reply.status == 503 && reply.body["detail"].as_str().unwrap().starts_with("schema: "), "{reply:?}");
}

#[test]
fn the_role_of_the_service_changes_no_table_and_nothing_on_record() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        world.admin.issue(&world.consultant().await).await;
        let mut sql = Sql::open(&crate::support::for_a_service(&world.database_url));
        assert_eq!(sql.texts("SELECT current_user::text AS text"), [ROLE]);
        for denied in [
            "CREATE TABLE more (a TEXT)",
            "ALTER TABLE magic_links ADD COLUMN more TEXT",
            "DROP TABLE consultants",
            "TRUNCATE idempotency_keys",
            "ALTER TABLE audit_events DISABLE TRIGGER ALL",
            "SET session_replication_role = replica",
            "UPDATE audit_events SET actor_id = 'nobody'",
            "DELETE FROM audit_events",
            "DELETE FROM audit_event_principals",
            "UPDATE audit_checkpoints SET size = 1",
            "DELETE FROM audit_checkpoints",
            "UPDATE audit_erasures SET reason = 'none'",
            "DELETE FROM audit_erasures",
            "DELETE FROM __diesel_schema_migrations",
            "UPDATE tolerated_migrations SET known_since = '0'",
        ] {
            let error = sql.run(denied).unwrap_err().to_string();
            assert!(error.contains("permission denied") || error.contains("must be owner"), "{denied}: {error}");
        }
        // Payloads end, but not before that is on record.
        let error = sql.run("DELETE FROM audit_payloads").unwrap_err().to_string();
        assert!(error.contains("before their erasure is on record"), "{error}");
        for unfit in ["postgres", "nobody_of_this_name", "x; DROP TABLE clients"] {
            let (is_done, text) = said(&migrate(world, &["--grant-to", unfit]).output().unwrap());
            assert!(!is_done && text.contains("must be a role of its own"), "{text}");
        }
    });
}

#[test]
fn transactions_are_isolated_as_the_service_expects_whatever_the_database_says() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        control.run(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")).unwrap();
        Sql::of(world)
            .run(
                "CREATE TABLE seen (level TEXT); CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
                 $$ BEGIN INSERT INTO seen VALUES (current_setting('transaction_isolation')); RETURN NULL; END $$; \
                 CREATE TRIGGER see AFTER INSERT ON magic_links FOR EACH ROW EXECUTE FUNCTION see()",
            )
            .unwrap();
        let process = Process::start(world);
        let admin = world.admin.at(&process.base);
        let request = serde_json::json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        let consultant = admin.post("/v1/consultants", &request).await.ok();
        admin.issue(consultant["id"].as_str().unwrap()).await;
        assert_eq!(Sql::of(world).texts("SELECT level AS text FROM seen"), ["read committed"]);
    });
}

#[test]
fn a_copy_opens_the_connections_that_it_needs() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_CONNECTIONS", "60")], Stdio::inherit());
        let admin = world.admin.at(&process.base);
        let open = format!("FROM pg_stat_activity WHERE datname = '{}' AND usename = '{ROLE}'", Sql::name(world));
        let mut control = Sql::control(world);
        for _ in 0..20 {
            admin.get("/v1/clients").await.ok();
        }
        let before = control.count(&open);
        assert!((2..30).contains(&before), "{before} of 60 for a lone caller");
        // Many at once get more of them.
        let crowd = (0..200).map(|_| admin.get("/v1/magic-links"));
        for reply in futures_util::future::join_all(crowd).await {
            reply.ok();
        }
        assert!(control.count(&open) <= 60);
    });
}
