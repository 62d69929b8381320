//! Delivery reports: who may report, what a report changes, and what nobody can make it change.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{encoding::AsDer, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{Api, Process, Reply, Settings, World, apply, eventually, on_both_databases};

const TOPIC: &str = "arn:aws:sns:ap-south-1:123456789012:mail-reports";
const CERTIFICATE: &str = "/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem";
const PASSWORD: &str = "a-password-of-24-letters";

/// A service whose mail is carried by one of the four, and the keys that its reports are signed with.
struct Reporters {
    sns: MockServer,
    rsa: RsaKeyPair,
    ecdsa: EcdsaKeyPair,
    secret: Vec<u8>,
}

impl Reporters {
    async fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let names = vec!["sns.amazonaws.com".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let sns = MockServer::start().await;
        let pem = ResponseTemplate::new(200).set_body_string(certificate.pem());
        Mock::given(method("GET")).and(path(CERTIFICATE)).respond_with(pem).mount(&sns).await;
        Mock::given(method("GET")).and(path("/")).respond_with(ResponseTemplate::new(200)).mount(&sns).await;
        Self {
            sns,
            rsa: RsaKeyPair::from_pkcs8(&key.serialize_der()).unwrap(),
            ecdsa: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(),
            secret: vec![7; 32],
        }
    }

    /// What the service has to know of all four.
    fn environment(&self, provider: &str, api: &str) -> Vec<(String, String)> {
        let public = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.ecdsa.public_key()).unwrap();
        [
            ("PROVIDER", provider.to_owned()),
            ("SES_URL", api.to_owned()),
            ("SES_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
            ("SES_SECRET_ACCESS_KEY", "secret".to_owned()),
            ("SES_TRACKING_IS_OFF", "true".to_owned()),
            ("POSTMARK_URL", api.to_owned()),
            ("POSTMARK_SERVER_TOKEN", "token".to_owned()),
            ("SENDGRID_URL", api.to_owned()),
            ("SENDGRID_API_KEY", "key".to_owned()),
            ("RESEND_URL", api.to_owned()),
            ("RESEND_API_KEY", "key".to_owned()),
            ("RESEND_TRACKING_IS_OFF", "true".to_owned()),
            ("SES_EVENTS_TOPIC_ARN", TOPIC.to_owned()),
            ("SES_SNS_URL", self.sns.uri()),
            ("POSTMARK_EVENTS_USER", "postmark".to_owned()),
            ("POSTMARK_EVENTS_PASSWORD", PASSWORD.to_owned()),
            ("SENDGRID_EVENTS_PUBLIC_KEY", STANDARD.encode(public.as_ref())),
            ("RESEND_EVENTS_SECRET", format!("whsec_{}", STANDARD.encode(&self.secret))),
        ]
        .into_iter()
        .map(|(key, value)| (format!("MAGIC_LINK_MAIL__{key}"), value))
        .collect()
    }

    /// A message of Amazon SNS, signed.
    fn sns(&self, message: Value) -> Value {
        let mut message = message;
        let named = |name: &str| message[name].as_str().map(|value| format!("{name}\n{value}\n")).unwrap_or_default();
        let names: &[&str] = if message["Type"] == "Notification" {
            &["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        } else {
            &["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        };
        let signed: String = names.iter().map(|name| named(name)).collect();
        let mut signature = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        message["Signature"] = STANDARD.encode(signature).into();
        message
    }

    fn notification(&self, report: &Value) -> Value {
        self.sns(json!({
            "Type": "Notification", "MessageId": "22b80b92", "TopicArn": TOPIC, "Message": report.to_string(),
            "Timestamp": "2026-11-23T03:30:00.000Z", "SignatureVersion": "2",
            "SigningCertURL": format!("https://sns.ap-south-1.amazonaws.com{CERTIFICATE}"),
        }))
    }

    /// The provider's own words for `kind` about this mail, with its proof.
    fn report(&self, provider: &str, kind: &str, job: &str, message: &str) -> (String, Vec<(&'static str, String)>) {
        match provider {
            "ses" => {
                let word = match kind {
                    "delivered" => "Delivery",
                    "complained" => "Complaint",
                    _ => "Bounce",
                };
                let bounce = if kind == "delayed" { "Transient" } else { "Permanent" };
                let report = json!({
                    "eventType": word, "mail": { "messageId": message, "tags": { "mail_job_id": [job] } },
                    "bounce": { "bounceType": bounce, "bounceSubType": "General", "bouncedRecipients": [] },
                });
                (self.notification(&report).to_string(), vec![("content-type", "text/plain; charset=UTF-8".to_owned())])
            }
            "postmark" => {
                let (record, word) = match kind {
                    "delivered" => ("Delivery", ""),
                    "complained" => ("SpamComplaint", "SpamComplaint"),
                    "delayed" => ("Bounce", "SoftBounce"),
                    _ => ("Bounce", "HardBounce"),
                };
                let body = json!({
                    "RecordType": record, "Type": word, "MessageID": message, "Metadata": { "mail_job_id": job },
                    "Email": "ravi@support.example",
                });
                let login = format!("Basic {}", STANDARD.encode(format!("postmark:{PASSWORD}")));
                (body.to_string(), vec![("authorization", login)])
            }
            "sendgrid" => {
                let (event, word) = match kind {
                    "delivered" => ("delivered", ""),
                    "complained" => ("spamreport", ""),
                    "delayed" => ("deferred", ""),
                    _ => ("bounce", "bounce"),
                };
                let body = json!([
                    { "event": "processed", "sg_message_id": message },
                    { "event": event, "type": word, "sg_message_id": format!("{message}.filter0001"), "mail_job_id": job },
                ])
                .to_string();
                let timestamp = "1764000000";
                let signed = format!("{timestamp}{body}");
                let signature = self.ecdsa.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
                let signature = STANDARD.encode(signature.as_ref());
                (
                    body,
                    vec![
                        ("x-twilio-email-event-webhook-signature", signature),
                        ("x-twilio-email-event-webhook-timestamp", timestamp.to_owned()),
                    ],
                )
            }
            _ => {
                let bounce = if kind == "delayed" { "Transient" } else { "Permanent" };
                let word = if kind == "delayed" { "bounced" } else { kind };
                let body = json!({
                    "type": format!("email.{word}"),
                    "data": { "email_id": message, "tags": { "mail_job_id": job }, "bounce": { "type": bounce } },
                })
                .to_string();
                let timestamp = magic_link::clock::Clock::System.now().unix_seconds();
                let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
                let tag = hmac::sign(&key, format!("msg_1.{timestamp}.{body}").as_bytes());
                (
                    body,
                    vec![
                        ("svix-id", "msg_1".to_owned()),
                        ("svix-timestamp", timestamp.to_string()),
                        ("svix-signature", format!("v1,AAAA v1,{}", STANDARD.encode(tag.as_ref()))),
                    ],
                )
            }
        }
    }
}

/// Sends a report with its proof.
async fn tell(base: &str, provider: &str, (body, headers): (String, Vec<(&'static str, String)>)) -> Reply {
    let anybody = Api::new(base, None);
    let request = anybody.request(Method::POST, &format!("/v1/mail-events/{provider}")).body(body);
    anybody.send(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))).await
}

/// What a provider answers when it takes a mail.
fn taken(provider: &str, message: &str) -> ResponseTemplate {
    match provider {
        "ses" => ResponseTemplate::new(200).set_body_json(json!({ "MessageId": message })),
        "postmark" => ResponseTemplate::new(200).set_body_json(json!({ "MessageID": message, "ErrorCode": 0 })),
        "sendgrid" => ResponseTemplate::new(202).insert_header("x-message-id", message),
        _ => ResponseTemplate::new(200).set_body_json(json!({ "id": message })),
    }
}

async fn state(operator: &Api, link: &str) -> String {
    let link = operator.get(&format!("/v1/magic-links/{link}")).await.ok();
    link["delivery"]["state"].as_str().unwrap().to_owned()
}

/// Issues for a new consultant; waits until the mail was taken; the link, its mail job, and the consultant.
async fn mailed(operator: &Api, email: &str) -> (String, String, String) {
    let request = json!({ "name": "Ravi Kumar", "email": email });
    let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let link = operator.issue(&consultant).await;
    eventually("the mail is taken", async || (state(operator, &link).await == "accepted").then_some(())).await;
    let query = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    let job = operator.get(&query).await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    (link, job, consultant)
}

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
        let again = Api::issue_request(&consultant);
        operator.post("/v1/magic-links", &again).await.refused(409, "address_suppressed");
        let clear = format!("/v1/mail-suppressions/{}/clear", row["id"].as_str().unwrap());
        let reason = json!({ "reason": "The mailbox works again" });
        for _ in 0..2 {
            assert_eq!(operator.post(&clear, &reason).await.ok()["state"], "cleared");
        }
        assert_eq!(operator.post("/v1/magic-links", &again).await.status, 201);
        // A report that comes again does not undo what the person decided.
        assert_eq!(tell(&process.base, provider, report("bounced")).await.status, 204);
        assert_eq!(operator.post("/v1/magic-links", &again).await.status, 201);
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
    let signed = reporters.notification(&json!({
        "eventType": "Bounce", "bounce": { "bounceType": "Permanent" },
        "mail": { "messageId": "message-1", "tags": { "mail_job_id": [job] } },
    }));
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
            "Timestamp": "2026-11-23T03:30:00.000Z", "SignatureVersion": "2",
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
