//! Postmark: Basic credentials, and both ids must match, because reports are not signed.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Kind, Report, header, parse, text};
use crate::error::Error;
use crate::secrets::Kept;

/// `Type` of a bounce. Of the documented types these end nothing: `Transient` (a delay), `Subscribe`, `Unsubscribe`,
/// `AutoResponder`, `AddressChange`, `OpenRelayTest` and `ChallengeVerification` (answers to an e-mail that arrived),
/// and `InboundError` (not our e-mail).
pub(super) const BOUNCES: &[(&str, Kind)] = &[
    ("HardBounce", Kind::Bounced),
    ("BadEmailAddress", Kind::Bounced),
    ("SpamComplaint", Kind::Complained),
    ("SoftBounce", Kind::GivenUp),
    ("DnsError", Kind::GivenUp),
    ("SpamNotification", Kind::GivenUp),
    ("VirusNotification", Kind::GivenUp),
    ("ManuallyDeactivated", Kind::GivenUp),
    ("Unconfirmed", Kind::GivenUp),
    ("Blocked", Kind::GivenUp),
    ("SMTPApiError", Kind::GivenUp),
    ("DMARCPolicy", Kind::GivenUp),
    ("TemplateRenderingFailed", Kind::GivenUp),
    ("Unknown", Kind::GivenUp),
];

/// Whether a head has the right credentials.
pub(super) fn is_login(login: &(String, Kept<SecretString>), headers: &HeaderMap) -> bool {
    let expected = format!("{}:{}", login.0, login.1.get().expose_secret());
    let given = header(headers, "authorization").and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic")).map(|(_, text)| text);
    let Some(given) = given.and_then(|text| STANDARD.decode(text.trim()).ok()) else { return false };
    // Digests are compared, so that not even the length leaks.
    let (given, expected) = (digest(&SHA256, &given), digest(&SHA256, expected.as_bytes()));
    verify_slices_are_equal(given.as_ref(), expected.as_ref()).is_ok()
}

/// Reads the report of whoever was admitted.
pub(super) fn read(body: &[u8]) -> Result<Vec<Report>, Error> {
    Ok(report(&parse(body)?).into_iter().collect())
}

fn report(body: &Value) -> Option<Report> {
    let word = text(body, "/Type").unwrap_or_default();
    let kind = match text(body, "/RecordType")? {
        "Delivery" => Kind::Delivered,
        "SpamComplaint" => Kind::Complained,
        "Bounce" => super::kind(BOUNCES, word)?,
        _ => return None,
    };
    let job_id = text(body, "/Metadata/mail_job_id")?;
    let reason = text(body, "/Details").filter(|text| !text.trim().is_empty()).or_else(|| text(body, "/Description"));
    Some(Report::new(kind, Some(job_id), Some(text(body, "/MessageID")?), word).because(reason))
}
