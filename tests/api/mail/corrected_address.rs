//! Mails to an address that was corrected since: what is reported on them, and what is shown, is about the one that they went to.

use serde_json::{Value, json};

use super::end_states::service_with;
use super::reporters::{Reporters, mailed, state, taken, tell};
use crate::support::{Api, Process, Settings, Sink, Sql, Taking, World, apply, eventually, on_both_databases};

const WRONG: &str = "Ravi.Kumra@support.example";
const RIGHT: &str = "Ravi.Kumar@support.example";

/// The newest mail of a template with this state.
async fn in_state(operator: &Api, template: &str, state: &str) -> Value {
    eventually("the mail gets there", async || {
        let query = format!("/v1/mail-deliveries?template={template}&state={state}");
        operator.get(&query).await.ok()["items"].as_array().unwrap().first().cloned()
    })
    .await
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_bounce_of_the_old_address_leaves_the_corrected_one_open(world: &World) {
    let reporters = Reporters::new().await;
    let (provider, process, operator) =
        service_with(world, &reporters, "postmark", taken("postmark", "message-1"), &[]).await;
    let (link, job, consultant) = mailed(&operator, WRONG).await;
    let person = format!("/v1/consultants/{consultant}");
    operator.patch(&person, &json!({ "email": RIGHT })).await.ok();
    // What is mailed from now on goes to the address of today.
    let told = in_state(&operator, "access_withdrawn", "accepted").await;
    assert_eq!(told["recipient"], RIGHT, "{told}");
    let query = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    let shown = async || operator.get(&query).await.ok()["items"][0].clone();
    assert_eq!((&shown().await["id"], &shown().await["recipient"]), (&json!(job), &json!(WRONG)));

    let bounced = reporters.report("postmark", "bounced", &job, "message-1");
    for _ in 0..2 {
        assert_eq!(tell(&process.base, "postmark", bounced.clone()).await.status, 204);
    }
    assert_eq!((&shown().await["state"], &shown().await["recipient"]), (&json!("bounced"), &json!(WRONG)));
    let suppressed = operator.get("/v1/mail-suppressions").await.ok();
    let addresses: Vec<&Value> = suppressed["items"].as_array().unwrap().iter().map(|row| &row["address"]).collect();
    assert_eq!(addresses, [WRONG], "{suppressed}");
    // The admin hears that nothing goes to the address that the mail went to.
    let notice = in_state(&operator, "link_bounced", "accepted").await;
    let sent = provider.received_requests().await.unwrap();
    let mut mails = sent.iter().filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
    let text = mails.rfind(|mail| mail["Tag"] == "link_bounced").unwrap()["TextBody"].clone();
    let words = text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("No mail goes to that address any more"), "{notice}: {words}");

    let again = operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await.ok();
    let again = again["id"].as_str().unwrap();
    eventually("it is mailed", async || (state(&operator, again).await == "accepted").then_some(())).await;
    // The wrong one is suppressed in any spelling.
    operator.patch(&person, &json!({ "email": WRONG.to_uppercase() })).await.ok();
    operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await.refused(409, "address_suppressed");
}

// A mail that may have gone to the one address, and was then refused for the other, went to the one.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_may_have_left_before_one_was_refused_went_to_the_first_address(world: &World) {
    let sink = Sink::start(Taking::Answering("429 Too Many Requests\r\nretry-after: 3600", "{}"));
    let settings = [("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())];
    let process = Process::start_with(world, &settings, std::process::Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let person = json!({ "name": "Ravi Kumar", "email": WRONG });
    let consultant = operator.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
    let mut request = Api::issue_request(&consultant);
    request["issued_by"].as_object_mut().unwrap().remove("email");
    let link = operator.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let refused = async || (sink.offered() > 0).then_some(in_state(&operator, "magic_link", "queued").await);
    eventually("the provider has seen it", refused).await;
    process.kill();
    // As if that attempt had no answer, and the address was changed beside the next one: a change by the API ends the link.
    Sql::of(world)
        .run(&format!(
            "UPDATE consultants SET email = '{RIGHT}', email_key = lower('{RIGHT}'); \
             UPDATE mail_jobs SET state = 'unknown', unknown_attempts = 1, lease_until = NULL, \
             next_attempt_at = '2026-01-01 00:00:00'"
        ))
        .unwrap();
    sink.take(Taking::Answering("400 Bad Request", "{}"));
    let process = Process::start_with(world, &settings, std::process::Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let failed = in_state(&operator, "magic_link", "failed").await;
    assert_eq!((&failed["magic_link_id"], &failed["recipient"]), (&json!(link), &json!(WRONG)), "{failed}");
    // A person sends it again: to the address of today.
    sink.take(Taking::Yes);
    let retry = format!("/v1/mail-deliveries/{}/retry", failed["id"].as_str().unwrap());
    assert_eq!(operator.post(&retry, &json!({})).await.ok()["recipient"], RIGHT);
    let sent = in_state(&operator, "magic_link", "accepted").await;
    assert_eq!(sent["recipient"], RIGHT, "{sent}");
    assert_eq!(sink.mails().last().unwrap()["To"][0]["Email"], RIGHT);
}
