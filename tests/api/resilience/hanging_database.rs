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

    /// The same, while none of them is at work: what is in the middle of something would hold others up.
    async fn resting(world: &World) -> Self {
        let mut control = Sql::control(world);
        let busy = format!("FROM pg_stat_activity WHERE datname = '{}' AND state <> 'idle'", Sql::name(world));
        eventually("all of them rest", async || {
            let stopped = Self::all(world);
            (control.count(&busy) == 0).then_some(stopped)
        })
        .await
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
        let portal = world.portal("cloud", "acme").await.impatient();
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
            // The connections that hang are given up meanwhile, and others answer.
            let later = portal.get("/v1/audit-events").await;
            assert!([200, 503].contains(&later.status.as_u16()), "{later:?}");
        }));
        let others = async {
            for round in 0..3 {
                let asked = Instant::now();
                let ready = portal.get("/readyz").await;
                assert!(asked.elapsed() < Duration::from_secs(3), "took {:?}", asked.elapsed());
                assert_eq!(portal.get("/healthz").await.status, 200);
                let introspection = portal.form("/v1/introspect", &[("token", access_token)]).await;
                let list = world.stranger().impatient().get("/v1/status-lists/1").await;
                for reply in [ready, introspection, list] {
                    assert!(reply.status == 503 || round > 0 && reply.status == 200, "round {round}: {reply:?}");
                }
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
        let introspected = async || {
            let reply = portal.form("/v1/introspect", &[("token", access_token)]).await;
            (reply.status == 200).then(|| assert_eq!(reply.body["active"], true))
        };
        eventually("introspection answers", introspected).await;
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
        let links = portal.clone().patient().get("/v1/magic-links?page_size=100").await.ok();
        for link in links["items"].as_array().unwrap() {
            world.mails.wait_for(link["id"].as_str().unwrap(), 1).await;
        }
        // No connection was lost for good.
        let portal = portal.clone().patient();
        join_all((0..40).map(async |_| portal.get("/v1/magic-links").await.ok())).await;
        for number in 100..140 {
            eventually("a link is issued", async || (issue(number).await.status == 201).then_some(())).await;
        }
    });
}

#[test]
fn connections_that_hang_are_given_up_and_others_are_opened() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let session = world.open_session(&portal).await;
        let access_token = session["access_token"].as_str().unwrap();
        assert!(portal.is_active(access_token).await);
        let _stopped = Stopped::resting(world).await;
        let started = Instant::now();
        let introspected = async || {
            let reply = portal.form("/v1/introspect", &[("token", access_token)]).await;
            (reply.status == 200).then(|| reply.body["active"] == true)
        };
        assert!(eventually("introspection answers", introspected).await);
        eventually("it is ready", async || (portal.get("/readyz").await.status == 200).then_some(())).await;
        let issued = async || {
            let reply = portal.post("/v1/magic-links", &Api::issue_request(&consultant)).await;
            (reply.status == 201).then_some(reply.body)
        };
        let link = eventually("a link is issued", issued).await;
        assert!(started.elapsed() < BOUND, "took {:?}", started.elapsed());
        eprintln!("back after {:?}, while the server's processes still hang", started.elapsed());
        world.mails.wait_for(link["id"].as_str().unwrap(), 1).await;
        let revoke = json!({ "reason": "The work is done" });
        let path = format!("/v1/magic-links/{}/revoke", session["magic_link_id"].as_str().unwrap());
        portal.post(&path, &revoke).await.ok();
        assert!(!portal.is_active(access_token).await);
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
        // A connection that the pool opens after the others were stopped would answer.
        let allow = |new: bool| {
            let database = Sql::name(world);
            Sql::control(world).run(&format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS {new}")).unwrap();
        };
        allow(false);
        let stopped = Stopped::all(world);
        for _ in 0..3 {
            let (text, took) = metrics().await;
            assert!(text.contains("magic_link_database_up 0"), "{text}");
            assert!(took < Duration::from_secs(2), "took {took:?}");
        }
        drop(stopped);
        allow(true);
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
