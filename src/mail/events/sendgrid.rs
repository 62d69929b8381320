//! SendGrid: an ECDSA signature over the timestamp and the body.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::Duration;

use super::{Kind, Report, header, parse, require_recent, text, unproven};
use crate::clock::Timestamp;
use crate::error::{Code, Error};

/// Headers that prove a report.
pub(super) const PROOF: &[&str] = &["x-twilio-email-event-webhook-signature", "x-twilio-email-event-webhook-timestamp"];

/// Age of a report: SendGrid repeats one for 24 hours.
const MAX_AGE: Duration = Duration::hours(25);

/// Every event that ends an e-mail. Of the documented events `processed`, `deferred`, `open`, `click`, `unsubscribe`,
/// `group_unsubscribe` and `group_resubscribe` do not.
pub(super) const EVENTS: &[(&str, Kind)] = &[
    ("delivered", Kind::Delivered),
    ("spamreport", Kind::Complained),
    ("bounce", Kind::Bounced),
    ("blocked", Kind::GivenUp),
    ("dropped", Kind::GivenUp),
];

/// `reason` of `dropped`, where the address is on SendGrid's own list for a bounce or complaint: the e-mail was not sent. The
/// other documented reasons are about the e-mail or the account.
pub(super) const DROPS: &[(&str, Kind)] =
    &[("Bounced Address", Kind::Bounced), ("Spam Reporting Address", Kind::Listed)];

/// `key` is a public key in DER (`SubjectPublicKeyInfo`), which SendGrid's console shows in base64.
pub(super) fn read(key: &[u8], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<Vec<Report>, Error> {
    let signature = header(headers, "x-twilio-email-event-webhook-signature").ok_or_else(unproven)?;
    let timestamp = header(headers, "x-twilio-email-event-webhook-timestamp").ok_or_else(unproven)?;
    let signature = STANDARD.decode(signature).map_err(|_garbage| unproven())?;
    let signed = [timestamp.as_bytes(), body].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed, &signature).map_err(|_wrong| unproven())?;
    let sent_at = timestamp.parse().map_err(|_garbage| unproven())?;
    require_recent(sent_at, MAX_AGE, now)?;

    match parse(body)? {
        Value::Array(entries) => Ok(entries.iter().filter_map(report).collect()),
        _ => Err(Code::InvalidBody.into()),
    }
}

fn report(entry: &Value) -> Option<Report> {
    let word = text(entry, "/event")?;
    let reason = text(entry, "/reason");
    let kind = match super::kind(EVENTS, word)? {
        Kind::Bounced if !is_hard(entry) => Kind::GivenUp,
        kind if word == "dropped" => {
            let begins = |(begin, _): &&(&str, Kind)| reason.is_some_and(|reason| reason.starts_with(begin));
            DROPS.iter().find(begins).map_or(kind, |(_, kind)| *kind)
        }
        kind => kind,
    };
    Some(Report::new(kind, text(entry, "/mail_job_id"), text(entry, "/sg_message_id"), word).because(reason))
}

/// Whether a bounce is permanent. Without the optional `type` the recipient's server decides, by its status.
fn is_hard(entry: &Value) -> bool {
    match text(entry, "/type") {
        Some(kind) => kind == "bounce",
        None => !text(entry, "/status").is_some_and(|status| status.starts_with('4')),
    }
}
