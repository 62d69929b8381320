//! Postmark: Basic credentials, and both ids must match, because reports are not signed.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Kind, Report, header, unproven};
use crate::error::{Code, Error};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body {
    record_type: String,
    #[serde(rename = "MessageID")]
    message_id: String,
    #[serde(rename = "Type")]
    kind: Option<String>,
    #[serde(default)]
    inactive: bool,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
struct Metadata {
    mail_job_id: Option<String>,
}

pub(super) fn read(login: &(String, SecretString), headers: &HeaderMap, body: &[u8]) -> Result<Vec<Report>, Error> {
    let expected = format!("{}:{}", login.0, login.1.expose_secret());
    let given = header(headers, "authorization").and_then(|value| value.strip_prefix("Basic "));
    let given = given.and_then(|text| STANDARD.decode(text.trim()).ok()).ok_or_else(unproven)?;
    // Digests are compared, so that not even the length leaks.
    let (given, expected) = (digest(&SHA256, &given), digest(&SHA256, expected.as_bytes()));
    verify_slices_are_equal(given.as_ref(), expected.as_ref()).map_err(|_differs| unproven())?;

    let body: Body = serde_json::from_slice(body).map_err(|_garbage| Error::new(Code::InvalidBody))?;
    let word = body.kind.as_deref().unwrap_or_default();
    let kind = match body.record_type.as_str() {
        "Delivery" => Kind::Delivered,
        "SpamComplaint" => Kind::Complained,
        // Only bounces that deactivate the address; the others are temporary.
        "Bounce" if body.inactive || matches!(word, "HardBounce" | "BadEmailAddress") => Kind::Bounced,
        _ => return Ok(Vec::new()),
    };
    let Some(job_id) = body.metadata.mail_job_id.as_deref() else { return Ok(Vec::new()) };
    Ok(vec![Report::new(kind, Some(job_id), Some(&body.message_id), word)])
}
