//! Amazon SES reports through Amazon SNS: an RSA signature whose certificate is fetched.
//!
//! Only signatures of version 2 (SHA-256) are accepted, and only certificates from
//! the SNS hosts. A new subscription to the configured topic is confirmed
//! automatically.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use url::Url;
use webpki::EndEntityCert;

use super::{Kind, Report, require_recent, text, unproven};
use crate::clock::Timestamp;
use crate::config::SesEvents;
use crate::error::Error;
use crate::mail_providers::call;

/// Largest message: Amazon SNS takes texts of 256 KiB, of which each character may need another one to escape it, and adds
/// its own members.
pub(super) const BODY_LIMIT: usize = (2 * 256 + 64) * 1024;

/// Limit of a certificate, and of the response to a confirmation.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Age of a message: Amazon SNS repeats one for an hour, with the time at which it was published.
const MAX_AGE: Duration = Duration::minutes(65);

/// Cached certificates; SNS replaces its own every year or two.
const KEPT_CERTIFICATES: usize = 16;

/// Cache of SNS signing certificates by URL.
pub(crate) struct Certificates {
    client: reqwest::Client,
    kept: Mutex<HashMap<String, CertificateDer<'static>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    #[serde(rename = "Type")]
    kind: String,
    message_id: String,
    topic_arn: String,
    subject: Option<String>,
    message: String,
    timestamp: String,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: String,
}

impl Envelope {
    /// The signed text: names and values on separate lines, in order of name.
    fn signed_text(&self) -> String {
        let mut lines = vec![("Message", self.message.as_str()), ("MessageId", &self.message_id)];
        if self.kind == "Notification" {
            lines.extend(self.subject.as_deref().map(|subject| ("Subject", subject)));
        } else {
            lines.extend(self.subscribe_url.as_deref().map(|url| ("SubscribeURL", url)));
        }
        lines.push(("Timestamp", &self.timestamp));
        if self.kind != "Notification" {
            lines.extend(self.token.as_deref().map(|token| ("Token", token)));
        }
        lines.extend([("TopicArn", self.topic_arn.as_str()), ("Type", &self.kind)]);
        lines.iter().fold(String::new(), |text, (name, value)| text + name + "\n" + value + "\n")
    }
}

/// Every type that ends an e-mail, of a configuration set (`eventType`) or of an identity (`notificationType`). Of the
/// documented types `Send`, `DeliveryDelay`, `Open`, `Click` and `Subscription` do not.
pub(super) const EVENTS: &[(&str, Kind)] = &[
    ("Delivery", Kind::Delivered),
    ("Complaint", Kind::Complained),
    ("Bounce", Kind::Bounced),
    ("Reject", Kind::GivenUp),
    ("Rendering Failure", Kind::GivenUp),
    ("RenderingFailure", Kind::GivenUp),
];

impl Certificates {
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        Ok(Self { client: call::client()?, kept: Mutex::default() })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, CertificateDer<'static>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn certificate(&self, ses: &SesEvents, url: &Url) -> Result<CertificateDer<'static>, Error> {
        if let Some(known) = self.kept().get(url.as_str()) {
            return Ok(known.clone());
        }
        let pem = self.fetch(ses, url).await?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|_garbage| unproven())?;
        let mut kept = self.kept();
        if kept.len() >= KEPT_CERTIFICATES {
            kept.clear();
        }
        kept.insert(url.to_string(), certificate.clone());
        Ok(certificate)
    }

    /// Fetches from SNS, or from the configured `sns_url` instead.
    async fn fetch(&self, ses: &SesEvents, url: &Url) -> Result<Vec<u8>, Error> {
        let mut address = url.clone();
        if let Some(instead) = &ses.sns_url {
            address = instead.clone();
            address.set_path(url.path());
            address.set_query(url.query());
        }
        // An error makes SNS repeat the report.
        let unavailable = |error: reqwest::Error| {
            tracing::warn!(error.cause = %error.without_url(), "Amazon SNS did not answer");
            Error::unavailable()
        };
        let response = self.client.get(address).send().await.map_err(unavailable)?;
        let mut response = response.error_for_status().map_err(unavailable)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(unproven());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The URL, if it is one of an Amazon SNS host.
fn of_sns(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?;
    let region = host.strip_prefix("sns.")?.strip_suffix(".amazonaws.com")?;
    let plain = !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let bare = url.scheme() == "https" && url.port().is_none() && url.username().is_empty() && url.password().is_none();
    (plain && bare).then_some(url)
}

fn certificate_url(text: &str) -> Option<Url> {
    let url = of_sns(text)?;
    let name = url.path().strip_prefix("/SimpleNotificationService-")?.strip_suffix(".pem")?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (plain && url.query().is_none()).then_some(url)
}

pub(super) async fn read(
    certificates: &Certificates,
    ses: &SesEvents,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Report>, Error> {
    let envelope: Envelope = serde_json::from_slice(body).map_err(|_garbage| unproven())?;
    // The cheap checks first.
    if envelope.topic_arn != ses.topic_arn || envelope.signature_version != "2" {
        return Err(unproven());
    }
    let url = certificate_url(&envelope.signing_cert_url).ok_or_else(unproven)?;
    let signature = STANDARD.decode(&envelope.signature).map_err(|_garbage| unproven())?;
    let certificate = certificates.certificate(ses, &url).await?;
    EndEntityCert::try_from(&certificate)
        .and_then(|certificate| {
            let signed = envelope.signed_text();
            certificate.verify_signature(webpki::aws_lc_rs::RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        })
        .map_err(|_wrong| unproven())?;
    let published_at = OffsetDateTime::parse(&envelope.timestamp, &Rfc3339).map_err(|_garbage| unproven())?;
    require_recent(published_at.unix_timestamp(), MAX_AGE, now)?;

    match envelope.kind.as_str() {
        "SubscriptionConfirmation" => {
            let url = envelope.subscribe_url.as_deref().and_then(of_sns).ok_or_else(unproven)?;
            certificates.fetch(ses, &url).await?;
            tracing::info!(mail.topic = ses.topic_arn, "the subscription to mail reports is confirmed");
            Ok(Vec::new())
        }
        "Notification" => Ok(report(&envelope.message).into_iter().collect()),
        _ => Ok(Vec::new()),
    }
}

/// Parses a report; `None` for other messages, such as the test texts of SES.
fn report(message: &str) -> Option<Report> {
    let body: Value = serde_json::from_str(message).ok()?;
    let mut word = text(&body, "/eventType").or_else(|| text(&body, "/notificationType"))?.to_owned();
    let mut kind = super::kind(EVENTS, &word)?;
    if kind == Kind::Complained
        && matches!(text(&body, "/complaint/complaintFeedbackType"), Some("not-spam" | "auth-failure" | "virus"))
    {
        // The recipient took the e-mail out of the spam folder, or a program of theirs reports what no person complained
        // about (RFC 5965, RFC 6591).
        return None;
    }
    let sub = text(&body, "/complaint/complaintSubType").unwrap_or_default();
    if kind == Kind::Complained && sub == "OnAccountSuppressionList" {
        // SES took the e-mail and did not send it.
        kind = Kind::Listed;
        word = format!("{word} {sub}");
    }
    if kind == Kind::Bounced {
        // Transient and undetermined bounces end the e-mail, too: SES has stopped trying.
        let bounce = text(&body, "/bounce/bounceType").unwrap_or("Undetermined");
        if bounce != "Permanent" {
            kind = Kind::GivenUp;
        }
        word = format!("{bounce} {}", text(&body, "/bounce/bounceSubType").unwrap_or_default());
    }
    let reason = ["/bounce/bouncedRecipients/0/diagnosticCode", "/reject/reason", "/failure/errorMessage"];
    let reason = reason.into_iter().find_map(|pointer| text(&body, pointer));
    let job_id = text(&body, "/mail/tags/mail_job_id/0");
    Some(Report::new(kind, job_id, text(&body, "/mail/messageId"), word.trim()).because(reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_amazon_says_what_amazon_said() {
        let right =
            "https://sns.ap-south-1.amazonaws.com/SimpleNotificationService-9c6465fa7f48f5cacd23014631ec1136.pem";
        assert!(certificate_url(right).is_some());
        for wrong in [
            "http://sns.ap-south-1.amazonaws.com/SimpleNotificationService-9c.pem",
            "https://sns.ap-south-1.amazonaws.com.evil.example/SimpleNotificationService-9c.pem",
            "https://evil.example/SimpleNotificationService-9c.pem",
            "https://sns.evil.example/sns.ap-south-1.amazonaws.com/SimpleNotificationService-9c.pem",
            "https://bucket.s3.amazonaws.com/SimpleNotificationService-9c.pem",
            "https://sns.a.b.amazonaws.com/SimpleNotificationService-9c.pem",
            "https://sns.amazonaws.com@evil.example/SimpleNotificationService-9c.pem",
            "https://user@sns.ap-south-1.amazonaws.com/SimpleNotificationService-9c.pem",
            "https://sns.ap-south-1.amazonaws.com:8443/SimpleNotificationService-9c.pem",
            "https://sns.ap-south-1.amazonaws.com/x/../SimpleNotificationService-9c.pem?x=.pem",
            "https://sns.ap-south-1.amazonaws.com/other.pem",
            "",
        ] {
            assert!(certificate_url(wrong).is_none(), "{wrong}");
        }
    }
}
