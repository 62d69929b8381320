//! Mails that were refused at last, and had arrived before.

use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::body_string_contains;
use wiremock::{Mock, ResponseTemplate};

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
    operator.get("/v1/mail-suppressions").await.ok()["items"].as_array().unwrap().clone()
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
