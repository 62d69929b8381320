//! Delivery reports: who may report, what a report changes, and what nobody can make it change.

use std::net::Ipv4Addr;

use serde_json::json;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer};

use super::reporters::{CERTIFICATE, Reporters, TOPIC, mailed, now, state, taken, tell};
use crate::support::{Api, Process, Raw, Settings, Sql, Statements, World, apply, eventually, on_both_databases};

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_report_moves_its_mail_once_and_a_bounce_keeps_mail_from_the_address(world: &World) {
    let reporters = Reporters::new().await;
    for provider in ["ses", "postmark", "sendgrid", "resend"] {
        let api = MockServer::start().await;
        Mock::given(method("POST")).respond_with(taken(provider, "message-1")).mount(&api).await;
        let environment = reporters.environment(provider, &api.uri());
        let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
        let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
        let operator = world.admin.at(&process.base);
        let email = format!("Ravi.{provider}@support.example");
        let (link, job, consultant) = mailed(&operator, &email).await;
        let report = |kind: &str| reporters.report(provider, kind, &job, "message-1");

        // Nothing that is for good.
        assert_eq!(tell(&process.base, provider, report("delayed")).await.status, 204, "{provider}");
        assert_eq!(state(&operator, &link).await, "accepted", "{provider}");
        for _ in 0..2 {
            assert_eq!(tell(&process.base, provider, report("delivered")).await.status, 204, "{provider}");
            assert_eq!(state(&operator, &link).await, "delivered", "{provider}");
        }
        for _ in 0..2 {
            assert_eq!(tell(&process.base, provider, report("bounced")).await.status, 204, "{provider}");
        }
        // What came back does not arrive any more.
        assert_eq!(tell(&process.base, provider, report("delivered")).await.status, 204);
        assert_eq!(state(&operator, &link).await, "bounced", "{provider}");
        let types = operator.event_types(&format!("&magic_link_id={link}")).await;
        assert_eq!(
            types,
            ["magic_link.issued", "magic_link.mailed", "magic_link.mail_delivered", "magic_link.mail_bounced"]
        );

        // The admin is told, and the address gets no more.
        let told = operator.get(&format!("/v1/mail-deliveries?template=link_bounced&magic_link_id={link}")).await.ok();
        assert_eq!(told["items"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!(told["items"][0]["recipient"], "hr@acme.example");
        let suppressed = operator.get("/v1/mail-suppressions?state=active").await.ok();
        let row = &suppressed["items"][0];
        assert_eq!(
            (&row["address"], &row["cause"], &row["provider"]),
            (&json!(email), &json!("bounce"), &json!(provider))
        );
        let again = async || operator.post("/v1/magic-links", &Api::issue_request(&consultant)).await;
        again().await.refused(409, "address_suppressed");
        let clear = format!("/v1/mail-suppressions/{}/clear", row["id"].as_str().unwrap());
        let reason = json!({ "reason": "The mailbox works again" });
        for _ in 0..2 {
            assert_eq!(operator.post(&clear, &reason).await.ok()["state"], "cleared");
        }
        assert_eq!(again().await.status, 201);
        // A report that comes again does not undo what the person decided.
        assert_eq!(tell(&process.base, provider, report("bounced")).await.status, 204);
        assert_eq!(again().await.status, 201);
    }
    let process = Process::start(world);
    let operator = world.admin.at(&process.base);
    assert_eq!(operator.event_types("&tenant_id=_system&type=mail_address.suppressed").await.len(), 4);
    assert_eq!(operator.event_types("&tenant_id=_system&type=mail_address.cleared").await.len(), 4);
    // Nobody may report to a service that knows no provider.
    let nobody = reporters.report("postmark", "bounced", "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z", "message-1");
    tell(&process.base, "postmark", nobody.clone()).await.refused(404, "route_not_found");
    tell(&process.base, "pigeon", nobody).await.refused(404, "route_not_found");
}

// A report without the id of a mail is looked for by the provider's, in one statement, whatever that is.
#[apply(on_both_databases)]
#[settings(Settings::config("mail.resend_events_secret = 'whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc='"))]
async fn an_id_that_no_provider_has_is_of_no_mail(world: &World) {
    let reporters = Reporters::new().await;
    let (link, ..) = mailed(&world.admin, "ravi@support.example").await;
    let of_resend =
        "UPDATE mail_jobs SET provider = 'resend', provider_message_id = 'm.1' WHERE template = 'magic_link'";
    Sql::of(world).run(of_resend).unwrap();
    let told = async |id: &str| {
        let report = json!({ "type": "email.delivered", "data": { "email_id": id } });
        let telling = tell(&world.base, "resend", reporters.prove("resend", &report, now()));
        let (statements, reply) = Statements::during(world, telling).await;
        assert_eq!(reply.status, 204, "{reply:?}");
        let (looks, _) = statements.that_say(&["\"provider_message_id\" = ", "\"provider_message_id\" IN"]);
        (looks, state(&world.admin, &link).await)
    };
    let accepted = |looks| (looks, "accepted".to_owned());
    for none in ["a\0b", "m.1\0", "", "\u{645}", &"m.".repeat(5_000), &"x".repeat(900_000)] {
        assert_eq!(told(none).await, accepted(0));
    }
    for unknown in ["m.2".to_owned(), "m".to_owned(), "m.1x".to_owned(), "n.".repeat(120)] {
        assert_eq!(told(&unknown).await, accepted(1), "{unknown}");
    }
    assert_eq!(told("m.1.filter0001.16648.5515E0B88.0").await, (1, "delivered".to_owned()));
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_report_that_does_not_prove_itself_changes_nothing(world: &World) {
    let reporters = Reporters::new().await;
    let api = MockServer::start().await;
    Mock::given(method("POST")).respond_with(taken("postmark", "message-1")).mount(&api).await;
    let environment = reporters.environment("postmark", &api.uri());
    let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
    let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let (link, job, _) = mailed(&operator, "ravi@support.example").await;

    let stranger = Reporters::new().await;
    for provider in ["ses", "postmark", "sendgrid", "resend"] {
        let (body, headers) = reporters.report(provider, "bounced", &job, "message-1");
        if provider != "ses" {
            tell(&process.base, provider, (body.clone(), Vec::new())).await.refused(401, "signature_invalid");
            tell(&process.base, provider, (body.replace("message-1", "message-2"), headers.clone())).await;
            for (at, _) in headers.iter().enumerate() {
                let mut wrong = headers.clone();
                wrong[at].1 = "x".repeat(wrong[at].1.len());
                let reply = tell(&process.base, provider, (body.clone(), wrong)).await;
                reply.refused(401, "signature_invalid");
            }
        }
        if provider == "ses" || provider == "sendgrid" {
            let forged = stranger.report(provider, "bounced", &job, "message-1");
            tell(&process.base, provider, forged).await.refused(401, "signature_invalid");
        }
    }
    let signed = reporters.notification(
        &json!({
            "eventType": "Bounce", "bounce": { "bounceType": "Permanent" },
            "mail": { "messageId": "message-1", "tags": { "mail_job_id": [job] } },
        }),
        now(),
    );
    for (member, value) in [
        ("Message", signed["Message"].as_str().unwrap().replace("message-1", "message-2")),
        ("TopicArn", "arn:aws:sns:ap-south-1:123456789012:another".to_owned()),
        ("SignatureVersion", "1".to_owned()),
        ("Type", "SubscriptionConfirmation".to_owned()),
        ("SigningCertURL", format!("https://sns.ap-south-1.amazonaws.com.evil.example{CERTIFICATE}")),
        ("SigningCertURL", format!("{}{CERTIFICATE}", reporters.sns.uri())),
        ("Signature", "AAAA".to_owned()),
    ] {
        let mut forged = signed.clone();
        forged[member] = value.into();
        tell(&process.base, "ses", (forged.to_string(), Vec::new())).await.refused(401, "signature_invalid");
    }
    // Proved, but about another provider's mail, or about none; and what nobody can read.
    let (body, headers) = reporters.report("resend", "bounced", &job, "message-1");
    assert_eq!(tell(&process.base, "resend", (body, headers)).await.status, 204);
    let other = reporters.report("postmark", "bounced", &job, "message-2");
    assert_eq!(tell(&process.base, "postmark", other).await.status, 204, "both ids have to match");
    let unknown = reporters.report("postmark", "bounced", "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z", "message-1");
    assert_eq!(tell(&process.base, "postmark", unknown).await.status, 204);
    let (_, headers) = reporters.report("postmark", "bounced", &job, "message-1");
    tell(&process.base, "postmark", ("{".to_owned(), headers)).await.refused(400, "invalid_body");

    assert_eq!(state(&operator, &link).await, "accepted");
    assert_eq!(operator.get("/v1/mail-suppressions").await.ok(), json!({ "items": [] }));
    let types = operator.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(types, ["magic_link.issued", "magic_link.mailed"]);

    // A subscription for our own topic is confirmed, at Amazon's address only.
    let confirm = |url: &str| {
        reporters.sns(json!({
            "Type": "SubscriptionConfirmation", "MessageId": "165545c9", "TopicArn": TOPIC, "Token": "2336412f",
            "Message": "You have chosen to subscribe", "SubscribeURL": url,
            "Timestamp": now(), "SignatureVersion": "2",
            "SigningCertURL": format!("https://sns.ap-south-1.amazonaws.com{CERTIFICATE}"),
        }))
    };
    let elsewhere = confirm("https://evil.example/?Action=ConfirmSubscription");
    tell(&process.base, "ses", (elsewhere.to_string(), Vec::new())).await.refused(401, "signature_invalid");
    let right = confirm("https://sns.ap-south-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f");
    assert_eq!(tell(&process.base, "ses", (right.to_string(), Vec::new())).await.status, 204);
    let asked = reporters.sns.received_requests().await.unwrap();
    assert_eq!(
        asked.iter().filter(|request| request.url.query() == Some("Action=ConfirmSubscription&Token=2336412f")).count(),
        1
    );
    assert_eq!(asked.iter().filter(|request| request.url.path() == CERTIFICATE).count(), 1, "kept");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn bodies_that_one_address_holds_back_keep_no_report_of_another_out(world: &World) {
    const LENGTH: usize = 1024 * 1024;
    let reporters = Reporters::new().await;
    let mut environment = reporters.environment("postmark", "http://127.0.0.1:1");
    environment.push(("MAGIC_LINK_BODY_TIMEOUT_SECONDS".to_owned(), "300".to_owned()));
    let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
    let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
    let stranger = Ipv4Addr::new(127, 0, 0, 2);
    let head = format!(
        "POST /v1/mail-events/sendgrid HTTP/1.1\r\nhost: test\r\ncontent-length: {LENGTH}\r\n\
         x-twilio-email-event-webhook-signature: AAAA\r\nx-twilio-email-event-webhook-timestamp: 1\r\n\r\n"
    );
    // All but the last byte, until the address has its share: then nobody waits for a body any more.
    let (mut held, refusal) = Raw::hold_back(stranger, &process.base, &head, LENGTH).await;
    assert!(refusal.starts_with("HTTP/1.1 503 ") && refusal.contains("\"unavailable\""), "{refusal}");
    assert!(refusal.to_ascii_lowercase().contains("\r\nretry-after: "), "{refusal}");

    // Providers report from elsewhere, and whoever proves itself in the head counts for nobody.
    for provider in ["ses", "postmark", "sendgrid", "resend"] {
        let report = reporters.report(provider, "bounced", "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z", "message-1");
        assert_eq!(tell(&process.base, provider, report).await.status, 204, "{provider}");
    }
    // What the address held is given back with its connections.
    held.clear();
    eventually("a body of the address is read to its end", async || {
        let mut raw = Raw::connect_from(stranger, &process.base).await;
        raw.send(head.as_bytes());
        raw.send(&vec![b' '; LENGTH]);
        raw.answer().starts_with("HTTP/1.1 401 ").then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn nobody_sends_the_body_of_a_report_without_the_providers_login(world: &World) {
    let reporters = Reporters::new().await;
    let environment = reporters.environment("postmark", "http://127.0.0.1:1");
    let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (&**key, &**value)).collect();
    let process = Process::start_with(world, &environment, std::process::Stdio::inherit());
    let mut raw = Raw::connect(&process.base);
    raw.send(
        b"POST /v1/mail-events/postmark HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\
          authorization: Basic cG9zdG1hcms6d3Jvbmc=\r\n\r\n",
    );
    let answer = raw.answer();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\"signature_invalid\""), "{answer}");
}
