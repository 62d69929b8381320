//! Resend: `POST {base}/emails` with an API key. The only one that removes duplicates.
//!
//! Tracking is a setting of the domain and cannot be switched off per message. The
//! configuration has to state that it is off.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::call;
use super::provider::{Accepted, HEADERS, Outgoing, Provider, SendError};
use crate::config;
use crate::secrets::Kept;

/// An account at Resend.
pub(super) struct Resend {
    client: reqwest::Client,
    url: String,
    api_key: Kept<SecretString>,
}

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct Message<'a> {
    from: String,
    to: [&'a str; 1],
    subject: &'a str,
    text: &'a str,
    html: &'a str,
    headers: BTreeMap<&'a str, &'a str>,
    tags: [Tag<'a>; 2],
}

#[derive(Deserialize)]
struct Answer {
    id: String,
}

impl Resend {
    pub(super) fn new(resend: &config::Resend) -> Result<Self, reqwest::Error> {
        Ok(Self { client: call::client()?, url: call::below(&resend.url, "/emails"), api_key: resend.api_key.clone() })
    }
}

#[async_trait]
impl Provider for Resend {
    fn name(&self) -> &'static str {
        "resend"
    }

    fn removes_duplicates(&self) -> bool {
        true
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        let message = Message {
            from: mail.from.header(),
            to: [&mail.to.address],
            subject: &mail.subject,
            text: &mail.text,
            html: &mail.html,
            headers: HEADERS.iter().copied().collect(),
            tags: [Tag { name: "template", value: mail.tag }, Tag { name: "mail_job_id", value: mail.job_id.as_str() }],
        };
        let request = self.client.post(&self.url).bearer_auth(self.api_key.get().expose_secret());
        let request = request.header("idempotency-key", &mail.idempotency_key);
        let answer = call::call(request, call::body(&message)?).await?;
        if answer.status == StatusCode::OK {
            let taken: Answer = answer.json("an id")?;
            return Ok(Accepted { message_id: Some(taken.id) });
        }
        let name = answer.error_word("name").unwrap_or_default();
        match (answer.status, name.as_str()) {
            // The body differs by its newer token: an earlier attempt was accepted.
            (StatusCode::CONFLICT, "invalid_idempotent_request") => Ok(Accepted { message_id: None }),
            (StatusCode::CONFLICT, _) => Err(SendError::Transient(answer.explain(answer.status))),
            (StatusCode::UNPROCESSABLE_ENTITY, "invalid_from_address") => {
                Err(SendError::Credentials(answer.explain("422")))
            }
            _ => Err(answer.refusal()),
        }
    }
}
