//! The four providers as they report: what the service has to know of them, and their reports with the proof.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use aws_lc_rs::{encoding::AsDer, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use magic_link::clock::Timestamp;

use crate::support::{Api, Reply, eventually};

pub(super) const TOPIC: &str = "arn:aws:sns:ap-south-1:123456789012:mail-reports";
pub(super) const CERTIFICATE: &str = "/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem";
const PASSWORD: &str = "a-password-of-24-letters";

/// A report, and the headers that prove it.
pub(super) type Proved = (String, Vec<(&'static str, String)>);

/// A service whose mail is carried by one of the four, and the keys that its reports are signed with.
pub(super) struct Reporters {
    pub(super) sns: MockServer,
    rsa: RsaKeyPair,
    ecdsa: EcdsaKeyPair,
    secret: Vec<u8>,
}

impl Reporters {
    pub(super) async fn new() -> Self {
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
    pub(super) fn environment(&self, provider: &str, api: &str) -> Vec<(String, String)> {
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
    pub(super) fn sns(&self, message: Value) -> Value {
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

    pub(super) fn notification(&self, report: &Value, at: Timestamp) -> Value {
        self.sns(json!({
            "Type": "Notification", "MessageId": "22b80b92", "TopicArn": TOPIC, "Message": report.to_string(),
            "Timestamp": at, "SignatureVersion": "2",
            "SigningCertURL": format!("https://sns.ap-south-1.amazonaws.com{CERTIFICATE}"),
        }))
    }

    /// The provider's own words for `kind` about this mail, with its proof.
    pub(super) fn report(&self, provider: &str, kind: &str, job: &str, message: &str) -> Proved {
        let body = match provider {
            "ses" => {
                let word = match kind {
                    "delivered" => "Delivery",
                    "complained" => "Complaint",
                    "delayed" => "DeliveryDelay",
                    _ => "Bounce",
                };
                json!({
                    "eventType": word, "mail": { "messageId": message, "tags": { "mail_job_id": [job] } },
                    "bounce": { "bounceType": "Permanent", "bounceSubType": "General", "bouncedRecipients": [] },
                })
            }
            "postmark" => {
                let (record, word) = match kind {
                    "delivered" => ("Delivery", ""),
                    "complained" => ("SpamComplaint", "SpamComplaint"),
                    "delayed" => ("Bounce", "Transient"),
                    _ => ("Bounce", "HardBounce"),
                };
                json!({
                    "RecordType": record, "Type": word, "MessageID": message, "Metadata": { "mail_job_id": job },
                    "Email": "ravi@support.example",
                })
            }
            "sendgrid" => {
                let (event, word) = match kind {
                    "delivered" => ("delivered", ""),
                    "complained" => ("spamreport", ""),
                    "delayed" => ("deferred", ""),
                    _ => ("bounce", "bounce"),
                };
                json!([
                    { "event": "processed", "sg_message_id": message },
                    { "event": event, "type": word, "sg_message_id": format!("{message}.filter0001.16648.5515E0B88.0"), "mail_job_id": job },
                ])
            }
            _ => {
                let word = if kind == "delayed" { "delivery_delayed" } else { kind };
                json!({
                    "type": format!("email.{word}"),
                    "data": { "email_id": message, "tags": { "mail_job_id": job }, "bounce": { "type": "Permanent" } },
                })
            }
        };
        self.prove(provider, &body, now())
    }

    /// A report in the provider's own words, with its proof.
    pub(super) fn prove(&self, provider: &str, body: &Value, at: Timestamp) -> Proved {
        match provider {
            "ses" => {
                let headers = vec![("content-type", "text/plain; charset=UTF-8".to_owned())];
                (self.notification(body, at).to_string(), headers)
            }
            "postmark" => {
                let login = format!("Basic {}", STANDARD.encode(format!("postmark:{PASSWORD}")));
                (body.to_string(), vec![("authorization", login)])
            }
            "sendgrid" => {
                let (body, timestamp) = (body.to_string(), at.unix_seconds());
                let signed = format!("{timestamp}{body}");
                let signature = self.ecdsa.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
                let signature = STANDARD.encode(signature.as_ref());
                (
                    body,
                    vec![
                        ("x-twilio-email-event-webhook-signature", signature),
                        ("x-twilio-email-event-webhook-timestamp", timestamp.to_string()),
                    ],
                )
            }
            _ => {
                let (body, timestamp) = (body.to_string(), at.unix_seconds());
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

pub(super) fn now() -> Timestamp {
    magic_link::clock::Clock::System.now()
}

/// Sends a report with its proof.
pub(super) async fn tell(base: &str, provider: &str, (body, headers): Proved) -> Reply {
    let anybody = Api::new(base, None);
    let request = anybody.request(Method::POST, &format!("/v1/mail-events/{provider}")).body(body);
    anybody.send(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))).await
}

/// What a provider answers when it takes a mail.
pub(super) fn taken(provider: &str, message: &str) -> ResponseTemplate {
    match provider {
        "ses" => ResponseTemplate::new(200).set_body_json(json!({ "MessageId": message })),
        "postmark" => ResponseTemplate::new(200).set_body_json(json!({ "MessageID": message, "ErrorCode": 0 })),
        "sendgrid" => ResponseTemplate::new(202).insert_header("x-message-id", message),
        _ => ResponseTemplate::new(200).set_body_json(json!({ "id": message })),
    }
}

pub(super) async fn state(operator: &Api, link: &str) -> String {
    let link = operator.get(&format!("/v1/magic-links/{link}")).await.ok();
    link["delivery"]["state"].as_str().unwrap().to_owned()
}

/// Issues for a new consultant; waits until the mail was taken; the link, its mail job, and the consultant.
pub(super) async fn mailed(operator: &Api, email: &str) -> (String, String, String) {
    mailed_as_far_as("accepted", operator, email).await
}

/// The same, until the mail is in this state.
pub(super) async fn mailed_as_far_as(reached: &str, operator: &Api, email: &str) -> (String, String, String) {
    let request = json!({ "name": "Ravi Kumar", "email": email });
    let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let link = operator.issue(&consultant).await;
    eventually(reached, async || (state(operator, &link).await == reached).then_some(())).await;
    let query = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    let job = operator.get(&query).await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    (link, job, consultant)
}
