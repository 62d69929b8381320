//! The signals that stop a copy of the service, and the one at which it reads again what can change.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Api, Database, Process, Raw, Settings, Sql, World, command, eventually, folder};

#[test]
fn a_second_signal_ends_a_copy_at_once() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[("MAGIC_LINK_SHUTDOWN_DELAY_SECONDS", "300")], Stdio::null());
        let stranger = world.stranger().at(&process.base);
        process.ask_to_stop();
        eventually("it is told", async || (stranger.get("/readyz").await.status == 503).then_some(())).await;
        let asked = Instant::now();
        process.ask_to_stop();
        let status = process.stopped().await;
        assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
        assert_eq!(status.code(), Some(1), "what was in progress is not known");
    });
}

// Callers that post without a pause, each on the connection that it keeps.
#[test]
fn before_a_copy_stops_each_answer_says_that_its_connection_ends() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[("MAGIC_LINK_SHUTDOWN_DELAY_SECONDS", "300")], Stdio::null());
        let ask = |path: &str| format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        let closes = |answer: &str| answer.to_lowercase().contains("connection: close\r\n");
        // A refusal of a handler, of the route table, and of what comes before it.
        let kept = ["/v1/introspect", "/nowhere", "/v1//sessions"].repeat(7).into_iter().map(|path| {
            let (mut raw, request) = (Raw::connect(&process.base), ask(path));
            raw.send(request.as_bytes());
            let first = raw.answer();
            assert!(first.starts_with("HTTP/1.1 4") && !closes(&first), "{first}");
            std::thread::spawn(move || {
                loop {
                    assert!(raw.send(request.as_bytes()), "the connection ended");
                    let answer = raw.answer();
                    assert!(answer.starts_with("HTTP/1.1 4"), "no answer: {answer:?}");
                    if closes(&answer) {
                        return raw.ends_within(Duration::from_secs(20));
                    }
                }
            })
        });
        let kept: Vec<_> = kept.collect();
        process.ask_to_stop();
        for caller in kept {
            assert!(caller.join().unwrap(), "it ends");
        }
        let mut raw = Raw::connect(&process.base);
        raw.send(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = raw.rest().0;
        assert!(answer.starts_with("HTTP/1.1 200") && closes(&answer), "{answer}");
        process.ask_to_stop();
        process.stopped().await;
    });
}

#[test]
fn what_is_in_progress_does_not_hold_a_copy_that_is_told_twice() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[], Stdio::null());
        let admin = world.admin.at(&process.base);
        let mut sql = Sql::of(world);
        sql.run("BEGIN; LOCK TABLE consultants IN ACCESS EXCLUSIVE MODE").unwrap();
        let held = async { drop(admin.request(reqwest::Method::GET, "/v1/consultants").send().await) };
        // Not in the transaction, which sees the activity of one moment only.
        let mut control = Sql::control(world);
        let waiting = format!(
            "FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock' AND query LIKE '%consultants%'",
            Sql::name(world)
        );
        let stop = async {
            eventually("the caller waits", async || (control.count(&waiting) > 0).then_some(())).await;
            process.ask_to_stop();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let asked = Instant::now();
            process.ask_to_stop();
            assert_eq!(process.stopped().await.code(), Some(1));
            // By itself the caller would wait for the lock for five seconds.
            assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
        };
        futures_util::future::join(held, stop).await;
        sql.run("ROLLBACK").unwrap();
    });
}

#[test]
fn a_backlog_does_not_hold_a_copy_that_stops_and_the_next_one_goes_on_with_it() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let mut sql = Sql::of(world);
        let first = Process::start(world);
        let person = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        let consultant = world.admin.at(&first.base).post("/v1/consultants", &person).await.ok();
        drop(first);
        // Links whose end nobody has recorded yet, and a database that takes half a second for each range of them.
        let (numbers, id) = Sql::numbers(world.database, 3_000);
        sql.run(&format!(
            "INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access,
                starts_at, expires_at, issued_by_id, issued_by_name, created_at, generation)
             SELECT 'mlk_' || {id}, 'acme', 'cloud', '{}', 'emp-1042', 'Asha Rao', 'Planted by a test', 'full',
                '2026-01-01 00:00:00', '2026-01-02 00:00:00', 'emp-7', 'Meera Iyer', '2026-01-01 00:00:00', 1
             FROM ({numbers}) numbers;
             CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$;
             CREATE TRIGGER linger BEFORE UPDATE ON link_expiry FOR EACH ROW EXECUTE FUNCTION linger()",
            consultant["id"].as_str().unwrap()
        ))
        .unwrap();
        let recorded = "FROM audit_events WHERE event_type = 'magic_link.expired'";
        let second = Process::start(world);
        eventually("some ends are recorded", async || (sql.count(recorded) > 0).then_some(())).await;
        second.ask_to_stop();
        assert_eq!(second.stopped().await.code(), Some(0));
        assert!(sql.count(recorded) < 3_000);
        sql.run("DROP TRIGGER linger ON link_expiry").unwrap();
        let _third = Process::start(world);
        eventually("all ends are recorded", async || (sql.count(recorded) == 3_000).then_some(())).await;
    });
}

#[test]
fn secrets_and_the_level_of_the_log_are_read_again() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let place = folder("read-again");
        let [file, secret, log] = ["magic-link.toml", "password", "log"].map(|name| place.join(name));
        let write = |level: &str, hours: u32| {
            let text = format!(
                "[links]\ntoken_hours = {hours}\n[log]\nlevel = '{level}'\n[mail]\npostmark_events_user = 'postmark'\n\
                 postmark_events_password_file = '{}'\n",
                secret.display()
            );
            fs::write(&file, text).unwrap();
        };
        let set = |password: &str| fs::write(&secret, format!("{password}\n")).unwrap();
        write("warn", 12);
        set("the-first-password");
        let mut command = command(world);
        command.env_remove("MAGIC_LINK_LOG__LEVEL").stderr(fs::File::create(&log).unwrap());
        command.args(["serve", "--json", "--config"]).arg(&file);
        let process = Process::of(command);
        let stranger = Api::new(&process.base, None);
        let report = async |password: &str| {
            let login = format!("Basic {}", STANDARD.encode(format!("postmark:{password}")));
            let request = stranger.request(reqwest::Method::POST, "/v1/mail-events/postmark");
            let body = json!({ "RecordType": "Open" });
            stranger.send(request.header("authorization", login).json(&body)).await.status.as_u16()
        };
        let said = || fs::read_to_string(&log).unwrap();
        assert!(report("the-first-password").await < 300);
        assert_eq!(report("the-second-password").await, 401);

        set("the-second-password");
        write("info", 13);
        process.ask_to_read_again();
        eventually("it is read", async || (report("the-second-password").await < 300).then_some(())).await;
        assert_eq!(report("the-first-password").await, 401);
        eventually("it says so", async || said().contains("SIGHUP: read again").then_some(())).await;
        assert!(said().contains("\"config.needs_restart\":\"links.token_hours\""), "{}", said());

        // What cannot be used changes nothing.
        set("short");
        write("nonsense", 13);
        process.ask_to_read_again();
        eventually("it says so", async || said().contains("the configuration is kept as it was").then_some(())).await;
        assert!(said().contains("this secret is kept as it was"), "{}", said());
        assert!(report("the-second-password").await < 300);
        assert!(!said().contains("-password") && !said().contains("short"), "{}", said());
        process.ask_to_stop();
        assert!(process.stopped().await.success());
    });
}

// A supervisor that reloads what it has just started.
#[test]
fn a_hangup_while_it_starts_ends_nothing() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let database = format!("sqlite://{}", crate::support::folder("hangup").join("new.db").display());
        let mut command = command(world);
        command.args(["serve", "--json"]).env("MAGIC_LINK_DATABASE_URL", &database);
        let mut child =
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let pid = child.id().to_string();
        // As soon as it makes its database.
        let file = database.trim_start_matches("sqlite://");
        while !std::path::Path::new(file).exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended");
            std::thread::yield_now();
        }
        for _ in 0..20 {
            assert!(std::process::Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        assert!(line.contains("\"port\""), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
