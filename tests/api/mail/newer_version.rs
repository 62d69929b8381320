//! Mails of a newer version that runs, or ran, on the same database: of a template that this one does not know.

use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer};

use super::reporters::{Reporters, mailed, now, state, taken, tell};
use crate::support::{Process, Settings, Sql, World, apply, command, eventually, on_both_databases};

// A mail of a newer version that has left, one that waits, and whatever reads them.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn mails_of_a_newer_version_are_shown_reported_on_and_erased(world: &World) {
    let (reporters, api) = (Reporters::new().await, MockServer::start().await);
    Mock::given(method("POST")).respond_with(taken("sendgrid", "message-1")).mount(&api).await;
    let environment = reporters.environment("sendgrid", &api.uri());
    let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
    let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let (link, job, _) = mailed(&operator, "ravi@support.example").await;
    let mut sql = Sql::of(world);
    let open = "FROM mail_jobs WHERE finished_at IS NULL";
    eventually("its notices are sent", async || (Sql::of(world).count(open) == 0).then_some(())).await;
    let notice = sql.texts(&format!("SELECT id AS text FROM mail_jobs WHERE id <> '{job}'")).remove(0);
    sql.run(&format!("UPDATE mail_jobs SET template = 'access_polished' WHERE id = '{notice}'")).unwrap();

    let reply = operator.get(&format!("/v1/magic-links/{link}/evidence")).await;
    let evidence = reply.ok();
    let mails = evidence["evidence"]["mails"].as_array().unwrap();
    assert!(mails.iter().any(|mail| mail["template"] == "access_polished"), "{mails:?}");
    // A report on it keeps its address, and the report behind it in the same call is not lost.
    let bounce =
        |job: &str| json!({ "event": "bounce", "type": "bounce", "sg_message_id": "message-1.x", "mail_job_id": job });
    let reports = json!([bounce(&notice), bounce(&job)]);
    for _ in 0..2 {
        let proved = reporters.prove("sendgrid", &reports, now());
        assert_eq!(tell(&process.base, "sendgrid", proved).await.status, 204);
    }
    assert_eq!(state(&operator, &link).await, "bounced");
    let suppressed = operator.get("/v1/mail-suppressions?state=active").await.ok();
    let mut addresses: Vec<&str> =
        suppressed["items"].as_array().unwrap().iter().map(|row| row["address"].as_str().unwrap()).collect();
    addresses.sort_unstable();
    assert_eq!(addresses, ["hr@acme.example", "ravi@support.example"]);
    let retry = format!("/v1/mail-deliveries/{notice}/retry");
    operator.post(&retry, &json!({})).await.refused(409, "mail_not_retryable");

    eventually("the notices about it are settled", async || (Sql::of(world).count(open) == 0).then_some(())).await;

    // One that nobody has sent, and nobody will, keeps neither its link nor itself.
    process.kill();
    sql.run(&format!(
        "UPDATE mail_jobs SET state = 'queued', finished_at = NULL, next_attempt_at = '2020-01-01 00:00:00' WHERE id = '{notice}'; \
         UPDATE magic_links SET starts_at = '2020-01-01 00:00:00', expires_at = '2020-01-02 00:00:00'; \
         INSERT INTO mail_jobs (id, template, dedup_key, tenant_id, portal, recipient, state, attempts, unknown_attempts, \
            retry_round, next_attempt_at, created_at) VALUES ('mjb_00000000000000000000000001', 'policy_polished', 'x', 'acme', \
            '', 'meera@acme.example', 'queued', 0, 0, 0, '2020-01-01 00:00:00', '2020-01-01 00:00:00')"
    ))
    .unwrap();
    let done = command(world).args(["maintain"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(sql.texts("SELECT reason AS text FROM magic_links"), [""]);
    assert_eq!(sql.count("FROM mail_jobs"), 0);
}
