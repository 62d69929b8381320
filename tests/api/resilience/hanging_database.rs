//! A database that hangs while its connections live: its processes are stopped, and the kernel answers for them.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Database, Process, Settings, Sql, World, eventually};

/// Longest time until a call is answered, with some for a slow machine.
const BOUND: Duration = Duration::from_secs(30);

/// Every process of PostgreSQL that serves the world's database, stopped until this is dropped.
struct Stopped(Vec<String>);

impl Stopped {
    fn all(world: &World) -> Self {
        let query = format!("SELECT pid::text AS text FROM pg_stat_activity WHERE datname = '{}'", Sql::name(world));
        let stopped = Self(Sql::control(world).texts(&query));
        assert!(!stopped.0.is_empty());
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        // One that has ended meanwhile is no failure.
        let sent = Command::new("kill").arg(signal).args(&self.0).stderr(Stdio::null()).status();
        assert!(sent.expect("kill runs").code().is_some());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

#[test]
fn while_the_database_hangs_every_call_is_answered_and_afterwards_all_is_as_it_was() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let request = Api::issue_request(&world.consultant().await);
        let session = world.open_session(&portal).await;
        let access_token = session["access_token"].as_str().unwrap();
        let issue = async |number: usize| {
            let (key, mut request) = (format!("key-{number}"), request.clone());
            request["profile"]["id"] = format!("emp-{number}").into();
            portal.post_once("/v1/magic-links", &key, &request).await
        };
        issue(0).await.ok();

        let stopped = Stopped::all(world);
        let started = Instant::now();
        // More than there are connections, of each kind.
        let issues = join_all((1..=20).map(&issue));
        let reads = join_all((0..20).map(|_| async {
            portal.get("/v1/magic-links").await.refused(503, "unavailable");
            portal.get("/v1/audit-events").await.refused(503, "unavailable");
        }));
        let others = async {
            for _ in 0..3 {
                let asked = Instant::now();
                portal.get("/readyz").await.refused(503, "unavailable");
                assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
                assert_eq!(portal.get("/healthz").await.status, 200);
                portal.form("/v1/introspect", &[("token", access_token)]).await.refused(503, "unavailable");
                world.stranger().get("/v1/status-lists/1").await.refused(503, "unavailable");
            }
        };
        let (replies, _) = join(issues, join(reads, others)).await;
        for reply in &replies {
            reply.refused(503, "unavailable");
            assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{reply:?}");
        }
        assert!(started.elapsed() < BOUND, "took {:?}", started.elapsed());
        drop(stopped);

        eventually("the service is ready again", async || (portal.get("/readyz").await.status == 200).then_some(()))
            .await;
        eventually("introspection answers", async || portal.is_active(access_token).await.then_some(())).await;
        // The outcome was unknown; the same key makes it known, and nothing happens twice.
        for number in 0..=20 {
            let again = async || {
                let reply = issue(number).await;
                (reply.status == 201).then_some(())
            };
            eventually("the repeat is answered", again).await;
        }
        let mut sql = Sql::of(world);
        assert_eq!(sql.count("FROM magic_links"), 22, "one for each key, and that of the session");
        assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.issued'"), 22);
        assert_eq!(sql.count("FROM mail_jobs WHERE template = 'magic_link'"), 22);
        let links = portal.get("/v1/magic-links?page_size=100").await.ok();
        for link in links["items"].as_array().unwrap() {
            world.mails.wait_for(link["id"].as_str().unwrap(), 1).await;
        }
        // No connection was lost for good.
        let crowd = (100..140).map(async |number| {
            let reply = issue(number).await;
            assert_eq!(reply.status, 201, "{reply:?}");
            portal.get("/v1/magic-links").await.ok()
        });
        join_all(crowd).await;
    });
}

#[test]
fn a_process_whose_database_hangs_stops_when_it_is_told_to() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[], Stdio::null());
        let admin = Api::new(&process.base, Some(world.admin.key()));
        let consultant = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        admin.post("/v1/consultants", &consultant).await.ok();
        let _stopped = Stopped::all(world);
        // Answered or cut off, but not left alone.
        let hangs = admin.request(Method::GET, "/v1/audit-events").send();
        let stop = async {
            process.ask_to_stop();
            process.stopped().await
        };
        let (end, _status) = join(tokio::time::timeout(BOUND, hangs), stop).await;
        assert!(end.is_ok(), "the caller still waits");
    });
}

#[test]
fn what_a_process_knows_itself_is_told_while_its_database_hangs() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], Stdio::null());
        let admin = Api::new(&process.base, Some(world.admin.key()));
        admin.get("/v1/clients").await.ok();
        let metrics = async || {
            let asked = Instant::now();
            let reply = reqwest::get(format!("{}/metrics", process.metrics)).await.unwrap();
            (reply.text().await.unwrap(), asked.elapsed())
        };
        assert!(metrics().await.0.contains("magic_link_database_up 1"));
        let stopped = Stopped::all(world);
        for _ in 0..3 {
            let (text, took) = metrics().await;
            assert!(text.contains("magic_link_database_up 0"), "{text}");
            assert!(took < Duration::from_secs(2), "took {took:?}");
        }
        drop(stopped);
        eventually("it is up again", async || metrics().await.0.contains("magic_link_database_up 1").then_some(()))
            .await;
    });
}

#[test]
fn a_command_whose_database_hangs_ends() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        // A command's own connections cannot be stopped before it has them: the writer's lock holds it there.
        let mut sql = Sql::of(world);
        sql.run("BEGIN; LOCK TABLE consultants IN ACCESS EXCLUSIVE MODE").unwrap();
        // Not in the transaction, which sees the activity of one moment only.
        let mut control = Sql::control(world);
        let mut command = crate::support::command(world);
        command.args(["consultant", "list"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the command line runs");
        let waiting = format!(
            "FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock' AND query LIKE '%consultants%'",
            Sql::name(world)
        );
        eventually("the command waits", async || (control.count(&waiting) > 0).then_some(())).await;
        let pids = format!("SELECT pid::text AS text {waiting}");
        let stopped = Stopped(control.texts(&pids));
        stopped.signal("-STOP");
        sql.run("ROLLBACK").unwrap();
        let status = eventually("the command ends", async || child.try_wait().expect("a child")).await;
        assert_eq!(status.code(), Some(1));
    });
}
