//! What is counted, and what is logged.

use std::process::Stdio;

use reqwest::Method;
use serde_json::Value;
use time::OffsetDateTime;
use wiremock::ResponseTemplate;

use crate::support::{
    Api, Database, Process, Settings, Sql, World, apply, eventually, folder, on_both_databases, stored,
};

const LISTENS: (&str, &str) = ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0");

async fn metrics(process: &Process) -> String {
    let reply = reqwest::Client::new().get(format!("{}/metrics", process.metrics)).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.text().await.unwrap()
}

/// The value of a metric with its labels.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// A consultant, where no service runs yet.
fn consultant_of(world: &World) -> String {
    let arguments = ["consultant", "add", "--name", "Neha Joshi", "--email", "neha.joshi@support.example", "--json"];
    let output = crate::support::command(world).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let added: Value = serde_json::from_slice(&output.stdout).unwrap();
    added["id"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn metrics_have_a_listener_of_their_own(world: &World) {
    let process = Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], Stdio::inherit());
    let admin = world.admin.at(&process.base);
    admin.get("/v1/clients").await.ok();
    admin.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await.refused(404, "not_found");
    admin.get("/metrics").await.refused(404, "route_not_found");
    // What tables hold is counted by a worker.
    eventually("it is counted", async || metrics(&process).await.contains("magic_link_outbox_depth").then_some(()))
        .await;
    let text = metrics(&process).await;
    for line in [
        "magic_link_http_request_seconds_count{method=\"GET\",route=\"/v1/clients\",status=\"200\"} 1",
        // The pattern and never the path: an id would make a series of its own.
        "magic_link_http_request_seconds_count{method=\"GET\",route=\"/v1/magic-links/{id}\",status=\"404\"} 1",
        "magic_link_http_request_seconds_count{method=\"GET\",route=\"unmatched\",status=\"404\"} 1",
        "magic_link_active_sessions 0",
        "magic_link_outbox_depth 0",
        "magic_link_outbox_oldest_seconds 0",
        "magic_link_webhook_outbox_oldest_seconds 0",
        "magic_link_database_up 1",
        "magic_link_events_total{type=\"access.refused\"} 1",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is missing in {text}");
    }
    let schema = text.split_once("magic_link_database_schema_info{schema=\"").unwrap().1.split_once('"').unwrap().0;
    let build = &format!("magic_link_build_info{{schema=\"{schema}\"");
    assert!(text.contains(build) && text.contains(&format!("version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))), "{text}");
    assert!(text.contains("state=\"active\"") && text.contains("magic_link_read_batch_bucket"), "{text}");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn successes_are_logged_by_sample_and_the_rest_always(world: &World) {
    let path = folder(&format!("log-{:?}", world.database)).join("log");
    let log = std::fs::File::create(&path).unwrap();
    let environment = [("MAGIC_LINK_LOG__SAMPLE", "10"), ("MAGIC_LINK_LOG__LEVEL", "info")];
    let process = Process::start_with(world, &environment, log.into());
    let admin = world.admin.at(&process.base);
    for _ in 0..30 {
        admin.get("/v1/clients").await.ok();
        admin.get("/v1/nothing").await.refused(404, "route_not_found");
    }
    process.ask_to_stop();
    process.stopped().await;
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |status: u16| lines.iter().filter(|line| line["http.status"] == status).collect::<Vec<_>>();
    assert_eq!((of(200).len(), of(404).len()), (3, 30), "{text}");
    assert_eq!(of(200)[0]["client.id"], world.admin.client_id.as_str());
    assert_eq!(of(200)[0]["trace_id"].as_str().map(str::len), Some(32));
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn mails_are_counted_by_provider_and_outcome_and_the_oldest_tells_its_age(world: &World) {
    let process = Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], Stdio::inherit());
    let admin = world.admin.at(&process.base);
    let consultant = serde_json::json!({ "name": "Ravi Kumar", "email": "ravi.kumar@support.example" });
    let consultant = admin.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned();
    let link = admin.issue(&consultant).await;
    world.mails.wait_for(&link, 1).await;
    eventually("the mails are counted", async || {
        metrics(&process)
            .await
            .contains("mail_attempts_total{outcome=\"accepted\",provider=\"mailpit\"} 2")
            .then_some(())
    })
    .await;
    let mut sql = Sql::of(world);
    let open = "FROM mail_jobs WHERE finished_at IS NULL";
    eventually("the mails are settled", async || (sql.count(open) == 0).then_some(())).await;
    let later = stored(world.clock.now().plus(time::Duration::HOUR));
    let old = format!(
        "UPDATE mail_jobs SET finished_at = NULL, attempts = 1, state = 'queued', next_attempt_at = '{later}', \
         created_at = '2020-01-01 00:00:00' WHERE template = 'access_issued'"
    );
    sql.run(&old).unwrap();
    eventually("its age is told", async || {
        (value(&metrics(&process).await, "magic_link_outbox_oldest_seconds") > Some(100_000_000.0)).then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_process_tells_what_it_uses_and_when_its_workers_worked(world: &World) {
    let process = Process::start_with(world, &[LISTENS], Stdio::inherit());
    let text = metrics(&process).await;
    let resident = value(&text, "process_resident_memory_bytes").unwrap();
    let peak = f64::from(u32::try_from(process.peak_memory_kib().unwrap()).unwrap()) * 1024.0;
    assert!(resident > 10e6 && resident <= peak, "{resident} of {peak}");
    let now = f64::from(u32::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap());
    let age = now - value(&text, "process_start_time_seconds").unwrap();
    assert!((-1.0..600.0).contains(&age), "{age}");
    let open = value(&text, "process_open_fds").unwrap();
    assert!(open > 10.0 && open < value(&text, "process_max_fds").unwrap(), "{open}");
    let clock: &[&str] = if world.database == Database::Postgres { &["clock"] } else { &[] };
    let workers = ["mail", "revocations", "audit", "maintenance", "counts", "webhook messages", "webhook calls"];
    for worker in workers.iter().chain(clock) {
        let name = format!("magic_link_worker_last_step_timestamp_seconds{{worker=\"{worker}\"}}");
        eventually("the worker has worked", async || {
            let at = value(&metrics(&process).await, &name)?;
            assert!((now - at).abs() < 600.0, "{worker}: {at}");
            Some(())
        })
        .await;
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn refused_calls_are_counted_by_their_limit(world: &World) {
    let limits = [
        LISTENS,
        ("MAGIC_LINK_LIMITS__PUBLIC_PER_MINUTE", "1"),
        ("MAGIC_LINK_LIMITS__MAILS_PER_CLIENT_MINUTE", "1"),
        ("MAGIC_LINK_LIMITS__CLIENT_PER_MINUTE", "5"),
    ];
    let consultant = consultant_of(world);
    let process = Process::start_with(world, &limits, Stdio::inherit());
    let admin = world.admin.at(&process.base);
    admin.issue(&consultant).await;
    admin.post("/v1/magic-links", &Api::issue_request(&consultant)).await.refused(429, "rate_limited");
    for _ in 0..3 {
        admin.get("/v1/clients").await.ok();
    }
    admin.get("/v1/clients").await.refused(429, "rate_limited");
    let stranger = world.stranger().at(&process.base);
    let preview = || stranger.request(Method::POST, "/l/preview").json(&serde_json::json!({ "token": "none" }));
    stranger.send(preview()).await;
    for _ in 0..2 {
        stranger.send(preview()).await.refused(429, "rate_limited");
    }
    let text = metrics(&process).await;
    for (limit, count) in [("mails_per_client_minute", 1.0), ("client_per_minute", 1.0), ("public_per_minute", 2.0)] {
        let name = format!("magic_link_rate_limited_total{{limit=\"{limit}\"}}");
        assert_eq!(value(&text, &name), Some(count), "{text}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_provider_that_keeps_failing_is_seen(world: &World) {
    let consultant = consultant_of(world);
    let process = Process::start_with(world, &[LISTENS], Stdio::null());
    let admin = world.admin.at(&process.base);
    let circuit = async || value(&metrics(&process).await, "magic_link_mail_circuit_open{provider=\"mailpit\"}");
    eventually("the circuit is told", async || (circuit().await == Some(0.0)).then_some(())).await;
    world.mails.misbehave(ResponseTemplate::new(503));
    for _ in 0..20 {
        admin.issue(&consultant).await;
    }
    eventually("the circuit is open", async || (circuit().await == Some(1.0)).then_some(())).await;
}

#[test]
fn a_transaction_that_takes_long_is_seen_while_it_does() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let process = Process::start_with(world, &[LISTENS], Stdio::null());
        let oldest = async || value(&metrics(&process).await, "magic_link_writer_oldest_seconds").unwrap();
        let mut sql = Sql::of(world);
        // Reads go on.
        sql.run("BEGIN; LOCK TABLE audit_events IN EXCLUSIVE MODE").unwrap();
        let admin = world.admin.at(&process.base);
        let body = serde_json::json!({ "name": "Ravi Kumar", "email": "ravi.kumar@support.example" });
        let held = admin.post("/v1/consultants", &body);
        let seen = async {
            eventually("it is seen", async || (oldest().await > 0.2).then_some(())).await;
            sql.run("ROLLBACK").unwrap();
        };
        let (reply, ()) = futures_util::future::join(held, seen).await;
        reply.ok();
        eventually("nothing is in progress", async || (oldest().await == 0.0).then_some(())).await;
    });
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn checkpoints_that_do_not_leave_are_seen(world: &World) {
    let outside = folder(&format!("kept-{:?}", world.database));
    let path = outside.to_str().unwrap();
    let consultant = consultant_of(world);
    let environment = [LISTENS, ("MAGIC_LINK_AUDIT__CHECKPOINT_FOLDER", path)];
    let process = Process::start_with(world, &environment, Stdio::null());
    world.admin.at(&process.base).issue(&consultant).await;
    eventually("a checkpoint is kept", async || {
        let text = metrics(&process).await;
        let age = value(&text, "magic_link_checkpoint_delivered_age_seconds{channel=\"folder\"}")?;
        assert!((0.0..600.0).contains(&age), "{age}");
        assert_eq!(value(&text, "magic_link_checkpoints_failing{channel=\"folder\"}"), Some(0.0));
        Some(())
    })
    .await;
    let later = stored(world.clock.now().plus(time::Duration::minutes(20)));
    let failing = format!(
        "UPDATE checkpoint_deliveries SET last_error = 'no room', size = size - 1, next_attempt_at = '{later}'"
    );
    Sql::of(world).run(&failing).unwrap();
    eventually("it is seen", async || {
        (value(&metrics(&process).await, "magic_link_checkpoints_failing{channel=\"folder\"}") > Some(0.0))
            .then_some(())
    })
    .await;
}
