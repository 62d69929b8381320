//! Mails that were refused at last, and had arrived before.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::body_string_contains;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::end_states::{DELIVERED, GIVEN_UP, SUPPRESSED, postmark, service};
use super::reporters::{Reporters, mailed, mailed_as_far_as, now, state, taken, tell};
use crate::support::{Api, Process, Settings, World, apply, eventually, on_both_databases};

// An attempt that had no answer may have been taken, whatever becomes of the next one.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_was_refused_at_last_is_delivered_where_an_earlier_attempt_was(world: &World) {
    let reporters = Reporters::new().await;
    let (api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-1")).await;
    let hang_up = |_: &wiremock::Request| std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let is_link = || Mock::given(body_string_contains(r#""Tag":"magic_link""#));
    let refused = ResponseTemplate::new(400).set_body_json(json!({ "ErrorCode": 300, "Message": "Invalid" }));
    is_link().respond_with_err(hang_up).up_to_n_times(1).with_priority(1).mount(&api).await;
    is_link().respond_with(refused).with_priority(2).mount(&api).await;
    for had_no_answer in [true, false] {
        let person = json!({ "name": "Ravi Kumar", "email": format!("ravi.{had_no_answer}@support.example") });
        let consultant = operator.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
        let link = operator.issue(&consultant).await;
        eventually("the mail is refused", async || (state(&operator, &link).await == GIVEN_UP).then_some(())).await;
        let mails = async |template: &str| {
            let query = format!("/v1/mail-deliveries?template={template}&magic_link_id={link}");
            operator.get(&query).await.ok()["items"].as_array().unwrap().clone()
        };
        let told = async |number: usize| {
            let left = async || {
                let told = mails("link_bounced").await;
                (told.len() == number && told.iter().all(|mail| mail["state"] == "accepted")).then_some(())
            };
            eventually("the admin is told", left).await;
        };
        told(1).await;
        let job = mails("magic_link").await[0]["id"].as_str().unwrap().to_owned();
        let report = async |record: &str, kind: &str| {
            let report = postmark(record, kind).to_string().replace("JOB", &job);
            for _ in 0..2 {
                let report = reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
                assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
            }
            state(&operator, &link).await
        };
        let end = if had_no_answer { DELIVERED } else { GIVEN_UP };
        assert_eq!(report("Delivery", "").await, end);
        // What comes back after all is told once more where it was taken back.
        assert_eq!(report("Bounce", "HardBounce").await, SUPPRESSED);
        told(if had_no_answer { 2 } else { 1 }).await;
        let mut types = vec!["magic_link.issued", "magic_link.mail_failed"];
        types.extend(had_no_answer.then_some("magic_link.mail_delivered"));
        types.push("magic_link.mail_bounced");
        assert_eq!(operator.event_types(&format!("&magic_link_id={link}")).await, types);
    }
}

/// Tells the service what Postmark reports on a mail.
async fn told(reporters: &Reporters, process: &Process, (record, kind): (&str, &str), job: &str) {
    let report = postmark(record, kind).to_string().replace("JOB", job);
    let report = reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
    assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
}

async fn suppressed(operator: &Api) -> Vec<Value> {
    operator.get("/v1/mail-suppressions?state=active").await.ok()["items"].as_array().unwrap().clone()
}

// Reports come in any order, and some providers call an automatic answer a bounce.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_the_provider_gave_up_too_early_is_delivered(world: &World) {
    let reporters = Reporters::new().await;
    let (_api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-1")).await;
    let (link, job, _) = mailed(&operator, "ravi@support.example").await;
    for (report, end) in
        [(("Bounce", "SoftBounce"), GIVEN_UP), (("Delivery", ""), DELIVERED), (("Bounce", "SoftBounce"), DELIVERED)]
    {
        told(&reporters, &process, report, &job).await;
        assert_eq!(state(&operator, &link).await, end, "{report:?}");
    }
    assert!(suppressed(&operator).await.is_empty());
}

// The report overtakes the provider's answer to the call.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn what_failed_before_the_provider_had_answered_is_delivered_too(world: &World) {
    let reporters = Reporters::new().await;
    let slow = taken("postmark", "message-1").set_delay(Duration::from_secs(2));
    let (_api, process, operator) = service(world, &reporters, "postmark", slow).await;
    let (link, job, _) = mailed_as_far_as("sending", &operator, "ravi@support.example").await;
    for (report, end) in [(("Bounce", "SoftBounce"), GIVEN_UP), (("Delivery", ""), DELIVERED)] {
        told(&reporters, &process, report, &job).await;
        assert_eq!(state(&operator, &link).await, end, "{report:?}");
    }
}

// The attempt without an answer was taken, as another message than the one that followed.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_complaint_about_an_attempt_that_had_no_answer_counts(world: &World) {
    let reporters = Reporters::new().await;
    for (kind, counts) in [(("Bounce", "SoftBounce"), false), (("SpamComplaint", "SpamComplaint"), true)] {
        let (api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-2")).await;
        let hang_up = |_: &wiremock::Request| std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let is_link = Mock::given(body_string_contains(r#""Tag":"magic_link""#));
        is_link.respond_with_err(hang_up).up_to_n_times(1).with_priority(1).mount(&api).await;
        let (link, job, _) = mailed(&operator, &format!("ravi.{counts}@support.example")).await;
        told(&reporters, &process, kind, &job).await;
        assert_eq!(state(&operator, &link).await, if counts { SUPPRESSED } else { "accepted" });
        assert_eq!(suppressed(&operator).await.len(), usize::from(counts));
    }
}

// The provider has it by then, and the consultant will.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_left_while_its_link_was_revoked_has_left(world: &World) {
    let reporters = Reporters::new().await;
    let slow = taken("postmark", "message-1").set_delay(Duration::from_secs(2));
    let (_api, process, operator) = service(world, &reporters, "postmark", slow).await;
    let (link, job, _) = mailed_as_far_as("sending", &operator, "ravi@support.example").await;
    let why = json!({ "reason": "No longer needed" });
    let revoked = operator.post(&format!("/v1/magic-links/{link}/revoke"), &why).await.ok();
    assert_eq!(revoked["delivery"]["state"], "cancelled");
    eventually("it has left", async || (state(&operator, &link).await == "accepted").then_some(())).await;
    told(&reporters, &process, ("Bounce", "HardBounce"), &job).await;
    assert_eq!(suppressed(&operator).await.len(), 1);
}

/// The provider takes so many mails with a link and hangs up; the next ones are answered like this.
async fn take_silently(api: &MockServer, number: u64, then: ResponseTemplate) {
    let hang_up = |_: &wiremock::Request| std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    let is_link = || Mock::given(body_string_contains(r#""Tag":"magic_link""#));
    is_link().respond_with_err(hang_up).up_to_n_times(number).with_priority(1).mount(api).await;
    is_link().respond_with(then).with_priority(2).mount(api).await;
}

/// The one mail with a link, as operators see it.
async fn job_of(operator: &Api, link: &str) -> Value {
    let query = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    operator.get(&query).await.ok()["items"][0].clone()
}

// The next attempt was refused for the moment, and the report comes before the one after that.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_report_on_an_attempt_without_an_answer_counts_while_the_mail_waits_or_was_cancelled(world: &World) {
    let reporters = Reporters::new().await;
    let (hard, soft, arrived) = (("Bounce", "HardBounce"), ("Bounce", "SoftBounce"), ("Delivery", ""));
    for (number, (report, is_revoked, end)) in [
        (hard, false, SUPPRESSED),
        (arrived, false, DELIVERED),
        (soft, false, "queued"),
        (hard, true, SUPPRESSED),
        (arrived, true, DELIVERED),
        (soft, true, "cancelled"),
    ]
    .into_iter()
    .enumerate()
    {
        let (api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-2")).await;
        // For an hour, so that nothing is sent meanwhile.
        let busy = ResponseTemplate::new(429).insert_header("retry-after", "3600");
        take_silently(&api, 1, busy).await;
        let person = json!({ "name": "Ravi Kumar", "email": format!("ravi.{number}@support.example") });
        let consultant = operator.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
        let link = operator.issue(&consultant).await;
        let job = eventually("it waits for its third attempt", async || {
            let job = job_of(&operator, &link).await;
            (job["state"] == "queued" && job["attempts"] == 2).then_some(job)
        });
        let job = job.await["id"].as_str().unwrap().to_owned();
        if is_revoked {
            let why = json!({ "reason": "No longer needed" });
            operator.post(&format!("/v1/magic-links/{link}/revoke"), &why).await.ok();
        }
        for _ in 0..2 {
            told(&reporters, &process, report, &job).await;
        }
        let shown = job_of(&operator, &link).await;
        assert_eq!(shown["state"], end, "{report:?} {is_revoked}: {shown}");
        assert_eq!(shown.get("next_attempt_at").is_some(), end == "queued", "{report:?} {is_revoked}: {shown}");
        let address = format!("ravi.{number}@support.example");
        let is_suppressed = suppressed(&operator).await.iter().any(|one| one["address"] == address);
        assert_eq!(is_suppressed, end == SUPPRESSED, "{report:?} {is_revoked}");
    }
}

// Nobody knew what became of the first round, so that a person had it sent again.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_report_on_the_round_before_counts_unless_it_came_before(world: &World) {
    let reporters = Reporters::new().await;
    for (report, end) in [(("Bounce", "HardBounce"), SUPPRESSED), (("Delivery", ""), DELIVERED)] {
        let (api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-2")).await;
        take_silently(&api, 2, taken("postmark", "message-2")).await;
        let person = json!({ "name": "Ravi Kumar", "email": format!("ravi.{end}@support.example") });
        let consultant = operator.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
        let link = operator.issue(&consultant).await;
        let ended = async |state: &str| {
            let job = eventually(state, async || {
                let job = job_of(&operator, &link).await;
                (job["state"] == state && job.get("next_attempt_at").is_none()).then_some(job)
            });
            job.await["id"].as_str().unwrap().to_owned()
        };
        let job = ended("unknown").await;
        let retry = format!("/v1/mail-deliveries/{job}/retry");
        operator.post(&retry, &json!({})).await.ok();
        ended("accepted").await;
        told(&reporters, &process, report, &job).await;
        assert_eq!(ended(end).await, job);
        assert_eq!(suppressed(&operator).await.len(), usize::from(end == SUPPRESSED));
        if end != SUPPRESSED {
            continue;
        }
        // The address was put right: what is told of the round that bounced once more is no news.
        let listed = suppressed(&operator).await[0]["id"].as_str().unwrap().to_owned();
        let why = json!({ "reason": "The mailbox is there by now" });
        operator.post(&format!("/v1/mail-suppressions/{listed}/clear"), &why).await.ok();
        operator.post(&retry, &json!({})).await.ok();
        ended("accepted").await;
        told(&reporters, &process, report, &job).await;
        assert_eq!(state(&operator, &link).await, "accepted");
        assert!(suppressed(&operator).await.is_empty());
    }
}
