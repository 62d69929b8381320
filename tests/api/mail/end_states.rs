//! Every end state in the providers' documentation, and what becomes of the mail.

use serde_json::{Value, json};
use time::Duration;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::reporters::{Reporters, mailed, now, state, taken, tell};
use crate::support::{Api, Process, Settings, Sql, World, apply, eventually, on_both_databases};

/// What a report makes of an accepted mail.
const OPEN: &str = "accepted";
pub(super) const DELIVERED: &str = "delivered";
/// The provider gave it up: the admin is told, and the address stays open.
pub(super) const GIVEN_UP: &str = "failed";
/// The address does not exist, or its owner complained: it gets no more.
pub(super) const SUPPRESSED: &str = "bounced";

/// A report in the shape of the documentation, with everything null that it calls optional or null.
fn ses(kind: &str, more: &Value) -> Value {
    let mut report = json!({
        "eventType": kind, "mail": { "messageId": "message-1", "tags": { "mail_job_id": ["JOB"] }, "commonHeaders": null },
        "bounce": null, "complaint": null, "delivery": null,
    });
    for (name, value) in more.as_object().unwrap() {
        report[name] = value.clone();
    }
    report
}

fn ses_bounce(kind: &str, sub: &str) -> Value {
    ses(
        "Bounce",
        &json!({ "bounce": {
            "bounceType": kind, "bounceSubType": sub, "bouncedRecipients": [{ "emailAddress": "ravi@support.example" }],
            "reportingMTA": null,
        }}),
    )
}

/// SES did not send it: the address is on the account's list, for a complaint about another mail.
fn ses_listed() -> Value {
    let complaint = json!({ "complaintSubType": "OnAccountSuppressionList", "complaintFeedbackType": null });
    ses("Complaint", &json!({ "complaint": complaint }))
}

pub(super) fn postmark(record: &str, kind: &str) -> Value {
    json!({
        "RecordType": record, "Type": kind, "MessageID": "message-1", "Metadata": { "mail_job_id": "JOB" },
        "Inactive": null, "Description": "The provider's words", "Details": null, "Tag": null,
    })
}

fn sendgrid(event: &str, more: &Value) -> Value {
    let mut report = json!({
        "event": event, "sg_message_id": "message-1.recvd-1", "mail_job_id": "JOB", "type": null, "reason": null,
        "category": ["magic_link"], "asm_group_id": 10, "ip": null,
    });
    for (name, value) in more.as_object().unwrap() {
        report[name] = value.clone();
    }
    // An entry that nobody can read spoils nothing.
    json!([null, { "event": 7 }, report])
}

fn resend(kind: &str, more: &Value) -> Value {
    let mut report = json!({ "type": kind, "data": {
        "email_id": "message-1", "tags": [{ "name": "mail_job_id", "value": "JOB" }], "bounce": null, "broadcast_id": null,
    }});
    for (name, value) in more.as_object().unwrap() {
        report["data"][name] = value.clone();
    }
    report
}

/// Each documented state of a provider, and what becomes of the mail.
pub(super) fn documented(provider: &str) -> Vec<(Value, &'static str)> {
    let none = json!({});
    match provider {
        "ses" => {
            let complaint =
                |feedback: Value| ses("Complaint", &json!({ "complaint": { "complaintFeedbackType": feedback } }));
            let mut identity = ses_bounce("Transient", "General");
            identity["notificationType"] = identity["eventType"].take();
            vec![
                (ses("Delivery", &none), DELIVERED),
                (ses("Send", &none), OPEN),
                (ses("Open", &none), OPEN),
                (ses("Click", &none), OPEN),
                (ses("Subscription", &none), OPEN),
                (ses("DeliveryDelay", &json!({ "deliveryDelay": { "delayType": "MailboxFull" } })), OPEN),
                (ses("Reject", &json!({ "reject": { "reason": "Bad content" } })), GIVEN_UP),
                (ses("Rendering Failure", &json!({ "failure": { "errorMessage": "x" } })), GIVEN_UP),
                (ses("Bounce", &none), GIVEN_UP),
                (identity, GIVEN_UP),
                (ses_bounce("Undetermined", "Undetermined"), GIVEN_UP),
                (ses_bounce("Transient", "MailboxFull"), GIVEN_UP),
                (ses_bounce("Transient", "MessageTooLarge"), GIVEN_UP),
                (ses_bounce("Transient", "ContentRejected"), GIVEN_UP),
                (ses_bounce("Transient", "AttachmentRejected"), GIVEN_UP),
                (ses_bounce("Permanent", "General"), SUPPRESSED),
                (ses_bounce("Permanent", "NoEmail"), SUPPRESSED),
                (ses_bounce("Permanent", "Suppressed"), SUPPRESSED),
                (ses_bounce("Permanent", "OnAccountSuppressionList"), SUPPRESSED),
                (complaint(json!("abuse")), SUPPRESSED),
                (complaint(Value::Null), SUPPRESSED),
                (complaint(json!("not-spam")), OPEN),
                (complaint(json!("auth-failure")), OPEN),
                (complaint(json!("virus")), OPEN),
                (ses_listed(), SUPPRESSED),
            ]
        }
        "postmark" => [
            ("Delivery", "", DELIVERED),
            ("Open", "", OPEN),
            ("Click", "", OPEN),
            ("SubscriptionChange", "", OPEN),
            ("SpamComplaint", "SpamComplaint", SUPPRESSED),
            ("Bounce", "HardBounce", SUPPRESSED),
            ("Bounce", "BadEmailAddress", SUPPRESSED),
            ("Bounce", "SpamComplaint", SUPPRESSED),
            ("Bounce", "Transient", OPEN),
            ("Bounce", "AutoResponder", OPEN),
            ("Bounce", "Subscribe", OPEN),
            ("Bounce", "Unsubscribe", OPEN),
            ("Bounce", "AddressChange", OPEN),
            ("Bounce", "OpenRelayTest", OPEN),
            ("Bounce", "ChallengeVerification", OPEN),
            ("Bounce", "InboundError", OPEN),
            ("Bounce", "SoftBounce", GIVEN_UP),
            ("Bounce", "DnsError", GIVEN_UP),
            ("Bounce", "SpamNotification", GIVEN_UP),
            ("Bounce", "VirusNotification", GIVEN_UP),
            ("Bounce", "ManuallyDeactivated", GIVEN_UP),
            ("Bounce", "Unconfirmed", GIVEN_UP),
            ("Bounce", "Blocked", GIVEN_UP),
            ("Bounce", "SMTPApiError", GIVEN_UP),
            ("Bounce", "DMARCPolicy", GIVEN_UP),
            ("Bounce", "TemplateRenderingFailed", GIVEN_UP),
            ("Bounce", "Unknown", GIVEN_UP),
        ]
        .map(|(record, kind, end)| (postmark(record, kind), end))
        .to_vec(),
        "sendgrid" => {
            let dropped = |reason: &str| sendgrid("dropped", &json!({ "reason": reason }));
            let mut cases = vec![
                (sendgrid("delivered", &none), DELIVERED),
                (sendgrid("spamreport", &none), SUPPRESSED),
                (sendgrid("bounce", &json!({ "type": "bounce", "status": "5.1.1" })), SUPPRESSED),
                (sendgrid("bounce", &json!({ "status": "5.0.0", "bounce_classification": "invalid" })), SUPPRESSED),
                (sendgrid("bounce", &json!({ "type": "blocked", "status": "5.7.1" })), GIVEN_UP),
                (sendgrid("blocked", &none), GIVEN_UP),
                (dropped("Bounced Address"), SUPPRESSED),
                (dropped("Spam Reporting Address"), SUPPRESSED),
                (sendgrid("dropped", &none), GIVEN_UP),
            ];
            for reason in [
                "Invalid",
                "Invalid SMTPAPI header",
                "Spam Content (if Spam Checker app is enabled)",
                "Unsubscribed Address",
                "Recipient List over Package Quota",
            ] {
                cases.push((dropped(reason), GIVEN_UP));
            }
            for event in
                ["processed", "deferred", "open", "click", "unsubscribe", "group_unsubscribe", "group_resubscribe"]
            {
                cases.push((sendgrid(event, &none), OPEN));
            }
            cases
        }
        _ => {
            let bounced = |kind: Value| {
                resend("email.bounced", &json!({ "bounce": { "type": kind, "subType": null, "message": "x" } }))
            };
            let mut cases = vec![
                (resend("email.delivered", &none), DELIVERED),
                (resend("email.delivered", &json!({ "tags": { "mail_job_id": "JOB" } })), DELIVERED),
                (resend("email.complained", &none), SUPPRESSED),
                (bounced(json!("Permanent")), SUPPRESSED),
                (bounced(json!("Transient")), GIVEN_UP),
                (bounced(json!("Undetermined")), GIVEN_UP),
                (resend("email.failed", &json!({ "failed": { "reason": "reached_daily_quota" } })), GIVEN_UP),
                (
                    resend(
                        "email.suppressed",
                        &json!({ "suppressed": { "message": "x", "type": "OnAccountSuppressionList" } }),
                    ),
                    GIVEN_UP,
                ),
                // Without any tags the message's id finds the mail.
                (resend("email.opened", &json!({ "tags": null })), OPEN),
            ];
            for kind in ["sent", "scheduled", "delivery_delayed", "clicked", "received"] {
                cases.push((resend(&format!("email.{kind}"), &none), OPEN));
            }
            cases
        }
    }
}

/// A service with this provider, on both databases the same.
pub(super) async fn service(
    world: &World,
    reporters: &Reporters,
    provider: &str,
    answer: ResponseTemplate,
) -> (MockServer, Process, Api) {
    service_with(world, reporters, provider, answer, &[]).await
}

/// The same, with settings.
pub(super) async fn service_with(
    world: &World,
    reporters: &Reporters,
    provider: &str,
    answer: ResponseTemplate,
    settings: &[(&str, &str)],
) -> (MockServer, Process, Api) {
    let api = MockServer::start().await;
    Mock::given(method("POST")).respond_with(answer).mount(&api).await;
    let mut environment = reporters.environment(provider, &api.uri());
    environment.push(("MAGIC_LINK_LIMITS__MAILS_PER_CLIENT_MINUTE".to_owned(), "1000".to_owned()));
    let mut environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
    environment.extend_from_slice(settings);
    let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
    let operator = world.admin.at(&process.base);
    (api, process, operator)
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn every_documented_end_of_a_mail_is_known_and_only_hard_bounces_and_complaints_suppress(world: &World) {
    let reporters = Reporters::new().await;
    for provider in ["ses", "postmark", "sendgrid", "resend"] {
        let (_api, process, operator) = service(world, &reporters, provider, taken(provider, "message-1")).await;
        for (number, (report, end)) in documented(provider).into_iter().enumerate() {
            let email = format!("ravi.{number}.{provider}@support.example");
            let (link, job, consultant) = mailed(&operator, &email).await;
            let report: Value = serde_json::from_str(&report.to_string().replace("JOB", &job)).unwrap();
            for _ in 0..2 {
                let reply = tell(&process.base, provider, reporters.prove(provider, &report, now())).await;
                assert_eq!(reply.status, 204, "{provider}: {report}");
            }
            assert_eq!(state(&operator, &link).await, end, "{provider}: {report}");
            let query = format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}");
            let told = operator.get(&query).await.ok()["items"].as_array().unwrap().len();
            let is_told = end == GIVEN_UP || end == SUPPRESSED;
            assert_eq!(told, usize::from(is_told), "{provider}: {report}");
            let again = operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await;
            let expected = if end == SUPPRESSED { 409 } else { 201 };
            assert_eq!(again.status, expected, "{provider}: {report}");
            let failed = format!("&type=magic_link.mail_failed&magic_link_id={link}");
            assert_eq!(operator.event_types(&failed).await.len(), usize::from(end == GIVEN_UP), "{provider}: {report}");
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn what_is_given_up_later_is_no_longer_undone_and_a_hard_bounce_is_heard_after_all(world: &World) {
    let reporters = Reporters::new().await;
    let (_api, process, operator) = service(world, &reporters, "postmark", taken("postmark", "message-1")).await;
    let (link, job, consultant) = mailed(&operator, "ravi@support.example").await;
    let report = async |record: &str, kind: &str| {
        let report = postmark(record, kind).to_string().replace("JOB", &job);
        let report = reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
        assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
        state(&operator, &link).await
    };
    assert_eq!(report("Delivery", "").await, DELIVERED);
    assert_eq!(report("Bounce", "SoftBounce").await, DELIVERED, "an automatic answer");

    let (link, job, _) = mailed(&operator, "mira@support.example").await;
    let report = async |record: &str, kind: &str| {
        let report = postmark(record, kind).to_string().replace("JOB", &job);
        let report = reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
        assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
        state(&operator, &link).await
    };
    assert_eq!(report("Bounce", "Blocked").await, GIVEN_UP);
    let delivery = operator.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone();
    assert_eq!(delivery["last_error"], "the provider gave the e-mail up: Blocked: The provider's words");
    assert_eq!(report("Bounce", "HardBounce").await, SUPPRESSED);
    let told = operator.get(&format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}")).await.ok();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "told once: {told}");
    assert_eq!(operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await.status, 201);
}

// What a provider keeps back because of an earlier complaint never came to anybody who could report it.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_was_not_sent_because_of_an_earlier_complaint_is_none_that_was_reported(world: &World) {
    let reporters = Reporters::new().await;
    let dropped = sendgrid("dropped", &json!({ "reason": "Spam Reporting Address" }));
    let settings = [("MAGIC_LINK_LINKS__RESEND_COOL_DOWN_SECONDS", "0")];
    for (provider, report) in [("sendgrid", dropped), ("ses", ses_listed())] {
        let answer = taken(provider, "message-1");
        let (api, process, operator) = service_with(world, &reporters, provider, answer, &settings).await;
        let (link, first, consultant) = mailed(&operator, &format!("ravi.{provider}@support.example")).await;
        let bodies = async || {
            let sent = api.received_requests().await.unwrap();
            let texts =
                sent.iter().map(|mail| String::from_utf8_lossy(&mail.body).replace("\\r", "").replace("\\n", " "));
            texts.collect::<Vec<_>>()
        };
        let token = bodies().await.iter().find_map(|body| {
            let rest = body.split_once("/l#")?.1;
            Some(rest.split(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).next()?.to_owned())
        });
        let token = json!({ "token": token.unwrap() });
        operator.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
        let query = format!("/v1/mail-deliveries?template=magic_link&state=accepted&magic_link_id={link}");
        let job = eventually("the fresh link is mailed", async || {
            let newest = operator.get(&query).await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
            (newest != first).then_some(newest)
        });
        let job = job.await;
        let report: Value = serde_json::from_str(&report.to_string().replace("JOB", &job)).unwrap();
        assert_eq!(tell(&process.base, provider, reporters.prove(provider, &report, now())).await.status, 204);

        let delivery = operator.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone();
        let error = delivery["last_error"].as_str().unwrap();
        assert!(error.starts_with("the provider has the address on its list of complaints"), "{provider}: {delivery}");
        let bounced = operator.events(&format!("&type=magic_link.mail_bounced&magic_link_id={link}")).await;
        assert_eq!((bounced.len(), &bounced[0]["data"]["complaint"]), (1, &json!(false)), "{provider}: {bounced:?}");
        let notice = eventually("the admin is told", async || {
            bodies().await.into_iter().find(|body| body.contains("list of complaints"))
        });
        let notice = notice.await;
        for words in ["could not be delivered", "No mail goes to that address any more"] {
            assert!(notice.contains(words), "{provider}: {notice}");
        }
        for words in ["unwanted", "may still open"] {
            assert!(!notice.contains(words), "{provider}: {notice}");
        }
        let page = world.stranger().at(&process.base);
        assert_eq!(page.post("/l/preview", &token).await.ok()["newest_mail"], "lost", "{provider}");
        operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await.refused(409, "address_suppressed");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_report_finds_its_mail_by_an_id_with_dots(world: &World) {
    let reporters = Reporters::new().await;
    // SendGrid appends the way that the mail took, with another dot.
    let id = "14c5d75ce93.dfd.64b469";
    let (_api, process, operator) = service(world, &reporters, "sendgrid", taken("sendgrid", id)).await;
    let (link, job, _) = mailed(&operator, "ravi@support.example").await;
    // This provider gives every mail the same id: the notice for whoever issued the link would be found as well.
    Sql::of(world).run("DELETE FROM mail_jobs WHERE template <> 'magic_link'").unwrap();
    let report = async |event: &str, job: Option<&str>, told: &str| {
        let more = json!({ "type": "bounce", "mail_job_id": job, "sg_message_id": told });
        let report = reporters.prove("sendgrid", &sendgrid(event, &more), now());
        assert_eq!(tell(&process.base, "sendgrid", report).await.status, 204);
        state(&operator, &link).await
    };
    let whole = format!("{id}.recvd-5f.0");
    assert_eq!(report("delivered", Some(&job), &format!("{id}x.recvd-5f.0")).await, OPEN, "another mail");
    assert_eq!(report("delivered", None, &whole).await, DELIVERED);
    assert_eq!(report("bounce", Some(&job), &whole).await, SUPPRESSED);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_recorded_report_cannot_be_sent_again_much_later(world: &World) {
    let reporters = Reporters::new().await;
    for (provider, old) in
        [("ses", Duration::hours(2)), ("sendgrid", Duration::hours(26)), ("resend", Duration::minutes(6))]
    {
        let (_api, process, operator) = service(world, &reporters, provider, taken(provider, "message-1")).await;
        let (link, job, _) = mailed(&operator, &format!("ravi.{provider}@support.example")).await;
        let report = documented(provider).into_iter().find(|(_, end)| *end == SUPPRESSED).unwrap().0;
        let report: Value = serde_json::from_str(&report.to_string().replace("JOB", &job)).unwrap();
        for at in [now().minus(old), now().plus(Duration::minutes(6))] {
            let reply = tell(&process.base, provider, reporters.prove(provider, &report, at)).await;
            reply.refused(401, "signature_invalid");
        }
        assert_eq!(state(&operator, &link).await, OPEN, "{provider}");
        let repeated = reporters.prove(provider, &report, now().minus(old / 2));
        assert_eq!(tell(&process.base, provider, repeated).await.status, 204, "{provider}");
        assert_eq!(state(&operator, &link).await, SUPPRESSED, "{provider}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_refused_mail_says_why_in_the_providers_own_words_and_the_admin_is_told(world: &World) {
    let reporters = Reporters::new().await;
    let said = "Domain   contains\r\nno verified sender for ravi@support.example";
    for (provider, answer, words) in [
        ("ses", json!({ "message": said }), "400 Bad Request: Domain contains no verified sender for …"),
        (
            "postmark",
            json!({ "ErrorCode": 300, "Message": said }),
            "400 Bad Request: Domain contains no verified sender for …",
        ),
        (
            "sendgrid",
            json!({ "errors": [{ "message": said }] }),
            "400 Bad Request: Domain contains no verified sender for …",
        ),
        (
            "resend",
            json!({ "name": "validation_error", "message": said }),
            "400 Bad Request: validation_error: Domain contains no verified sender for …",
        ),
    ] {
        let answer = ResponseTemplate::new(400).set_body_json(answer);
        let (_api, _process, operator) = service(world, &reporters, provider, answer).await;
        let request = json!({ "name": "Ravi Kumar", "email": format!("ravi.{provider}@support.example") });
        let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
        let link = operator.issue(&consultant).await;
        eventually("the mail is refused", async || (state(&operator, &link).await == "failed").then_some(())).await;
        let delivery = operator.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone();
        assert_eq!(delivery["last_error"], words, "{provider}");
        let told = operator.get(&format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}")).await.ok();
        assert_eq!(told["items"].as_array().unwrap().len(), 1, "{provider}: {told}");
    }
}

// Whether it is a rate or a quota, and whose: only the provider knows.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_that_has_to_wait_says_why_in_the_providers_own_words(world: &World) {
    let reporters = Reporters::new().await;
    let too_many = |body: Value| ResponseTemplate::new(429).set_body_json(body);
    let said = "You have reached your daily email sending quota for ravi@support.example.";
    for (provider, answer, seconds, words) in [
        ("resend", too_many(json!({ "name": "daily_quota_exceeded", "message": said })), 30, "daily_quota_exceeded: "),
        ("sendgrid", too_many(json!({ "errors": [{ "message": said, "field": null }] })), 30, ""),
        ("postmark", too_many(json!({ "ErrorCode": 429, "Message": said })), 30, ""),
        (
            "ses",
            ResponseTemplate::new(400)
                .insert_header("x-amzn-errortype", "LimitExceededException:http://x/")
                .set_body_json(json!({ "message": said })),
            300,
            "LimitExceededException: ",
        ),
    ] {
        let (_api, _process, operator) = service(world, &reporters, provider, answer).await;
        let request = json!({ "name": "Ravi Kumar", "email": format!("ravi.{provider}@support.example") });
        let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
        let link = operator.issue(&consultant).await;
        let seen = eventually("the mail is refused", async || {
            let delivery = operator.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone();
            delivery["last_error"].as_str().map(ToOwned::to_owned)
        });
        let words = format!("{words}You have reached your daily email sending quota for …");
        assert_eq!(seen.await, format!("the provider asks to wait {seconds} s: {words}"), "{provider}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_code_that_comes_back_is_told_as_a_link_is(world: &World) {
    let reporters = Reporters::new().await;
    let settings = [("MAGIC_LINK_PORTALS__CLOUD__STEP_UP", "email_code")];
    let answer = taken("postmark", "message-1");
    let (api, process, operator) = service_with(world, &reporters, "postmark", answer, &settings).await;
    let (link, _, _) = mailed(&operator, "ravi@support.example").await;
    let sent = api.received_requests().await.unwrap();
    let texts = sent.iter().filter_map(|request| serde_json::from_slice::<Value>(&request.body).ok());
    let texts: Vec<String> = texts.filter_map(|mail| mail["TextBody"].as_str().map(ToOwned::to_owned)).collect();
    let line = texts.iter().flat_map(|text| text.lines()).find(|line| line.contains("/l#")).unwrap();
    let token = json!({ "token": line.split_once('#').unwrap().1 });
    let page = world.stranger().at(&process.base);
    page.post("/l/continue", &token).await.ok();
    let query = format!("/v1/mail-deliveries?template=step_up_code&magic_link_id={link}");
    let job = eventually("the code is mailed", async || {
        let job = operator.get(&query).await.ok()["items"][0].clone();
        (job["state"] == "accepted").then_some(job)
    })
    .await;
    assert!(page.post("/l/preview", &token).await.ok().get("step_up").is_some());

    let report = postmark("Bounce", "HardBounce").to_string().replace("JOB", job["id"].as_str().unwrap());
    for _ in 0..2 {
        let report = reporters.prove("postmark", &serde_json::from_str(&report).unwrap(), now());
        assert_eq!(tell(&process.base, "postmark", report).await.status, 204);
    }
    assert_eq!(operator.get(&query).await.ok()["items"][0]["state"], SUPPRESSED);
    let shown = page.post("/l/preview", &token).await.ok();
    assert_eq!((shown.get("step_up"), &shown["code_not_delivered"]), (None, &json!(true)), "{shown}");
    page.post("/l/continue", &token).await.refused(409, "address_suppressed");
    let bounced = operator.events(&format!("&type=magic_link.mail_bounced&magic_link_id={link}")).await;
    assert_eq!((bounced.len(), &bounced[0]["data"]["template"]), (1, &json!("step_up_code")));
    let told = operator.get(&format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}")).await.ok();
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "told once: {told}");
}
