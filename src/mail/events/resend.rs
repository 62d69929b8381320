//! Resend: Svix headers, an HMAC-SHA256 over id, timestamp and body.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice};
use serde_json::Value;
use time::Duration;

use super::{Kind, Report, header, parse, require_recent, text, unproven};
use crate::clock::Timestamp;
use crate::error::Error;

/// Headers that prove a report.
pub(super) const PROOF: &[&str] = &["svix-id", "svix-timestamp", "svix-signature"];

/// Age of a report: each attempt is signed anew.
const MAX_AGE: Duration = Duration::minutes(5);

/// Every type that ends an e-mail. Of the documented types `email.sent`, `email.scheduled`, `email.delivery_delayed`,
/// `email.opened`, `email.clicked` and `email.received` do not.
pub(super) const EVENTS: &[(&str, Kind)] = &[
    ("email.delivered", Kind::Delivered),
    ("email.complained", Kind::Complained),
    ("email.bounced", Kind::Bounced),
    ("email.failed", Kind::GivenUp),
    // Resend did not send: the address is on its own list.
    ("email.suppressed", Kind::GivenUp),
];

pub(super) fn read(
    secret: &SecretSlice<u8>,
    headers: &HeaderMap,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Report>, Error> {
    let id = header(headers, "svix-id").ok_or_else(unproven)?;
    let timestamp = header(headers, "svix-timestamp").ok_or_else(unproven)?;
    let signatures = header(headers, "svix-signature").ok_or_else(unproven)?;
    let sent_at: i64 = timestamp.parse().map_err(|_garbage| unproven())?;
    require_recent(sent_at, MAX_AGE, now)?;
    let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret());
    // Several signatures during a rotation of the secret.
    let proved = signatures
        .split(' ')
        .filter_map(|signature| STANDARD.decode(signature.strip_prefix("v1,")?).ok())
        .any(|signature| hmac::verify(&key, &signed, &signature).is_ok());
    if !proved {
        return Err(unproven());
    }

    Ok(report(&parse(body)?).into_iter().collect())
}

fn report(body: &Value) -> Option<Report> {
    let word = text(body, "/type")?;
    let kind = match super::kind(EVENTS, word)? {
        // Without a type nothing is known of the address.
        Kind::Bounced if text(body, "/data/bounce/type") != Some("Permanent") => Kind::GivenUp,
        kind => kind,
    };
    let reason = ["/data/bounce/message", "/data/failed/reason", "/data/suppressed/message"];
    let reason = reason.into_iter().find_map(|pointer| text(body, pointer));
    Some(Report::new(kind, job(body), text(body, "/data/email_id"), word).because(reason))
}

/// The mail job's id among the tags, which are returned as an object, or as the list that was sent.
fn job(body: &Value) -> Option<&str> {
    let tags = body.pointer("/data/tags")?;
    let listed = || tags.as_array()?.iter().find(|tag| text(tag, "/name") == Some("mail_job_id"));
    text(tags, "/mail_job_id").or_else(|| text(listed()?, "/value"))
}
