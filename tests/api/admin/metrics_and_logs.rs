//! What is counted, and what is logged.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Process, Settings, Sql, World, apply, eventually, folder, on_both_databases};

async fn metrics(process: &Process) -> String {
    let reply = reqwest::Client::new().get(format!("{}/metrics", process.metrics)).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    reply.text().await.unwrap()
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn metrics_have_a_listener_of_their_own(world: &World) {
    let process = Process::start_with(world, &[("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0")], Stdio::inherit());
    let admin = world.admin.at(&process.base);
    admin.get("/v1/clients").await.ok();
    admin.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await.refused(404, "not_found");
    admin.get("/metrics").await.refused(404, "route_not_found");
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
    let build = concat!("magic_link_build_info{schema=\"", "2");
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
    let old = "UPDATE mail_jobs SET finished_at = NULL, attempts = 1, state = 'queued', next_attempt_at = '2999-01-01 00:00:00',
        created_at = '2020-01-01 00:00:00' WHERE template = 'access_issued'";
    sql.run(old).unwrap();
    let text = metrics(&process).await;
    let oldest = text.lines().find_map(|line| line.strip_prefix("magic_link_outbox_oldest_seconds ")).unwrap();
    assert!(oldest.parse::<u64>().unwrap() > 100_000_000, "{oldest}");
}
