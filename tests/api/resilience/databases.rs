//! Which databases the service works with: one that takes writes, in every script, and that was set up once.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Api, Database, Process, Replicated, Settings, Sql, World, apply, code_of, command, create_admin, eventually,
    folder, on_both_databases,
};

/// What `magic-link serve` says that does not start.
fn refused(world: &World, url: &str) -> String {
    let mut serve = command(world);
    serve.env("MAGIC_LINK_DATABASE_URL", url).args(["serve", "--json"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let (mut child, started) = (serve.spawn().unwrap(), Instant::now());
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_mins(1) {
            child.kill().unwrap();
            panic!("it serves {url}");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success(), "{url}");
    String::from_utf8(output.stderr).unwrap()
}

/// A session over a process, from the issue of its link on.
async fn open_session(world: &World, operator: &Api) -> serde_json::Value {
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &request).await.ok();
    let link = operator.issue(consultant["id"].as_str().unwrap()).await;
    let token = world.token(&link, 1).await;
    let answer = operator.post("/l/continue", &json!({ "token": token })).await.ok();
    operator.redeem(&code_of(&answer)).await.ok()
}

/// The last change of the signing keys is lost in a failover: the next primary has an earlier key epoch.
#[test]
fn a_copy_goes_on_with_the_keys_that_the_next_primary_has() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let Some(mut servers) = Replicated::start() else { return };
        let key = create_admin(&servers.primary());
        let both = servers.both();
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", both.as_str())], Stdio::null());
        let portal = Api::new(&process.base, Some(&key));
        let session = open_session(world, &portal).await;
        let kids = async || {
            let set = portal.get("/.well-known/jwks.json").await.ok();
            let keys = set["keys"].as_array().unwrap().iter();
            keys.map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let stands = kids().await;
        servers.order("lagging");
        let revoke = format!("/v1/keys/{}/revoke", stands[0]);
        portal.post(&revoke, &json!({ "reason": "It may have leaked" })).await.ok();
        let lost = kids().await;
        assert!(!lost.contains(&stands[0]), "{lost:?}");

        servers.order("stop");
        servers.order("promote");
        eventually("it is ready", async || (portal.get("/readyz").await.status == 200).then_some(())).await;
        let is_active = async || {
            let reply = portal.form("/v1/introspect", &[("token", session["access_token"].as_str().unwrap())]).await;
            (reply.status == 200).then(|| reply.body["active"] == true)
        };
        assert!(eventually("introspection answers", is_active).await, "the session lives on this primary");
        assert_eq!(kids().await, stands);
        // What is mailed is signed with a key that the database knows.
        let another = json!({ "name": "Asha Rao", "email": "asha@support.example" });
        let another = portal.post("/v1/consultants", &another).await.ok();
        let link = portal.issue(another["id"].as_str().unwrap()).await;
        let token = world.token(&link, 1).await;
        let answer = portal.post("/l/continue", &json!({ "token": token })).await.ok();
        let again = portal.redeem(&code_of(&answer)).await.ok();
        assert!(portal.is_active(again["access_token"].as_str().unwrap()).await);
    });
}

#[test]
fn a_standby_is_never_asked() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let Some(mut servers) = Replicated::start() else { return };
        let key = create_admin(&servers.primary());
        let environment = [("MAGIC_LINK_DATABASE_URL", servers.both())];
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let process = Process::start_with(world, &environment, Stdio::null());
        let portal = Api::new(&process.base, Some(&key));
        let session = open_session(world, &portal).await;
        let token = session["access_token"].as_str().unwrap();
        assert!(portal.is_active(token).await);
        servers.order("standby");
        Sql::open(&servers.standby()).texts("SELECT id AS text FROM sessions");
        assert!(refused(world, &servers.standby()).contains("read-only"));

        // The primary restarts; meanwhile the standby is all there is.
        servers.order("stop");
        for _ in 0..5 {
            portal.form("/v1/introspect", &[("token", token)]).await.refused(503, "unavailable");
        }
        assert_eq!(portal.get("/readyz").await.status, 503);
        servers.order("start");
        let is_active = async || {
            let reply = portal.form("/v1/introspect", &[("token", token)]).await;
            (reply.status == 200).then(|| reply.body["active"] == true)
        };
        assert!(eventually("introspection answers", is_active).await);
        let revoke = format!("/v1/magic-links/{}/revoke", session["magic_link_id"].as_str().unwrap());
        let reason = json!({ "reason": "The work is done" });
        eventually("it is revoked", async || (portal.post(&revoke, &reason).await.status == 200).then_some(())).await;
        for _ in 0..5 {
            assert!(!portal.is_active(token).await);
        }

        // A primary that is fenced off, while connections to it live: it may not know of what happens elsewhere.
        let mut sql = Sql::open(&servers.primary());
        sql.run("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
        sql.run("SELECT pg_reload_conf()").unwrap();
        eventually("introspection stops", async || {
            let reply = portal.form("/v1/introspect", &[("token", token)]).await;
            (reply.status == 503).then_some(())
        })
        .await;
        portal.get("/v1/consultants").await.refused(503, "unavailable");
    });
}

#[test]
fn a_database_that_cannot_hold_every_script_is_refused_at_start() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        for encoding in ["LATIN1", "SQL_ASCII"] {
            let other = format!("{name}_{}", encoding.to_lowercase());
            control
                .run(&format!("CREATE DATABASE {other} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"))
                .unwrap();
            let said = refused(world, &world.database_url.replace(&format!("/{name}?"), &format!("/{other}?")));
            control.run(&format!("DROP DATABASE {other}")).unwrap();
            assert!(said.contains(encoding) && said.contains("UTF8") && said.contains("template0"), "{said}");
        }
    });
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn copies_that_start_at_once_on_an_empty_database_make_each_key_once(world: &World) {
    for round in 0..3 {
        let (url, mut control) = match world.database {
            Database::Sqlite => (format!("sqlite://{}/new.db", folder(&format!("empty-{round}")).display()), None),
            Database::Postgres => {
                let (mut control, name) = (Sql::control(world), Sql::name(world));
                control.run(&format!("CREATE DATABASE {name}_{round} TEMPLATE template0")).unwrap();
                let url = world.database_url.replace(&format!("/{name}?"), &format!("/{name}_{round}?"));
                (url, Some((control, format!("{name}_{round}"))))
            }
        };
        let processes: Vec<Process> = std::thread::scope(|scope| {
            let start = || Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &url)], Stdio::inherit());
            let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
            started.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let mut sql = Sql::open(&url);
        assert_eq!(sql.count("FROM signing_keys"), 1, "round {round}");
        assert_eq!(sql.count("FROM audit_keys"), 1, "round {round}");
        assert_eq!(sql.count("FROM audit_events WHERE event_type = 'key.added'"), 2, "round {round}");
        for process in &processes {
            assert_eq!(world.stranger().at(&process.base).get("/readyz").await.status, 200);
        }
        drop((processes, sql));
        if let Some((control, name)) = &mut control {
            control.run(&format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
        }
    }
}

#[test]
fn the_log_of_sqlite_does_not_stay_large() {
    World::run(Database::Sqlite, &Settings::manual_clock(), async |world| {
        let log = format!("{}-wal", world.database_url.strip_prefix("sqlite://").unwrap());
        let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        // As long as somebody reads what is old, nothing new can be written back.
        let (mut reader, mut writer) = (Sql::of(world), Sql::of(world));
        reader.run("BEGIN").unwrap();
        reader.count("FROM clients");
        writer.run("CREATE TABLE beside (a BLOB); INSERT INTO beside VALUES (randomblob(40000000))").unwrap();
        assert!(size() > 40_000_000, "the log is {} bytes long", size());
        reader.run("ROLLBACK").unwrap();
        eventually("the log is small", async || {
            world.clock.advance(time::Duration::seconds(16));
            (size() <= 16 << 20).then_some(())
        })
        .await;
        assert_eq!(writer.count("FROM beside"), 1);
    });
}

#[cfg(unix)]
#[test]
fn nobody_but_its_owner_reads_the_database() {
    use std::os::unix::fs::PermissionsExt;
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let file = folder("owner").join("deep/new.db");
        let url = format!("sqlite://{}", file.display());
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &url)], Stdio::inherit());
        for suffix in ["", "-wal", "-shm"] {
            let file = format!("{}{suffix}", file.display());
            assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
        }
        process.kill();
    });
}
