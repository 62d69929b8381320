//! SendGrid: an ECDSA signature over the timestamp and the body.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{Kind, Report, header, unproven};
use crate::error::{Code, Error};

#[derive(Deserialize)]
struct Entry {
    event: String,
    /// `bounce` or `blocked`, in a bounce.
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    sg_message_id: Option<String>,
    mail_job_id: Option<String>,
}

/// `key` is a public key in DER (`SubjectPublicKeyInfo`), which SendGrid's console shows in base64.
pub(super) fn read(key: &[u8], headers: &HeaderMap, body: &[u8]) -> Result<Vec<Report>, Error> {
    let signature = header(headers, "x-twilio-email-event-webhook-signature").ok_or_else(unproven)?;
    let timestamp = header(headers, "x-twilio-email-event-webhook-timestamp").ok_or_else(unproven)?;
    let signature = STANDARD.decode(signature).map_err(|_garbage| unproven())?;
    let signed = [timestamp.as_bytes(), body].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed, &signature).map_err(|_wrong| unproven())?;

    let entries: Vec<Entry> = serde_json::from_slice(body).map_err(|_garbage| Error::new(Code::InvalidBody))?;
    Ok(entries.iter().filter_map(report).collect())
}

fn report(entry: &Entry) -> Option<Report> {
    let word = entry.kind.as_deref().unwrap_or_default();
    let kind = match entry.event.as_str() {
        "delivered" => Kind::Delivered,
        "spamreport" => Kind::Complained,
        "bounce" if word != "blocked" => Kind::Bounced,
        // The address is on SendGrid's own suppression list.
        "dropped" if entry.reason.as_deref().is_some_and(|reason| reason.starts_with("Bounced Address")) => {
            Kind::Bounced
        }
        _ => return None,
    };
    // It begins with the message id of the send response.
    let message_id = entry.sg_message_id.as_deref().and_then(|id| id.split('.').next());
    Some(Report::new(kind, entry.mail_job_id.as_deref(), message_id, &entry.event))
}
