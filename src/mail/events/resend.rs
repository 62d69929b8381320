//! Resend: Svix headers, an HMAC-SHA256 over id, timestamp and body.

use actix_web::http::header::HeaderMap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice};
use serde::Deserialize;

use super::{Kind, Report, header, unproven};
use crate::clock::Timestamp;
use crate::error::{Code, Error};

/// Accepted clock skew of a report.
const SKEW_SECONDS: u64 = 300;

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    email_id: Option<String>,
    bounce: Option<Bounce>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
struct Bounce {
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Tags are returned as an object, or as the list that was sent.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tags {
    Object { mail_job_id: Option<String> },
    List(Vec<Tag>),
}

#[derive(Deserialize)]
struct Tag {
    name: String,
    value: String,
}

impl Default for Tags {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Tags {
    fn job(&self) -> Option<&str> {
        match self {
            Self::Object { mail_job_id } => mail_job_id.as_deref(),
            Self::List(tags) => tags.iter().find(|tag| tag.name == "mail_job_id").map(|tag| tag.value.as_str()),
        }
    }
}

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
    if sent_at.abs_diff(now.unix_seconds()) > SKEW_SECONDS {
        return Err(unproven());
    }
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

    let body: Body = serde_json::from_slice(body).map_err(|_garbage| Error::new(Code::InvalidBody))?;
    let bounce = body.data.bounce.as_ref().and_then(|bounce| bounce.kind.as_deref()).unwrap_or_default();
    let kind = match body.kind.as_str() {
        "email.delivered" => Kind::Delivered,
        "email.complained" => Kind::Complained,
        "email.bounced" if !matches!(bounce, "Transient" | "Undetermined") => Kind::Bounced,
        _ => return Ok(Vec::new()),
    };
    Ok(vec![Report::new(kind, body.data.tags.job(), body.data.email_id.as_deref(), &body.kind)])
}
