//! Amazon SES v2: `POST {base}/v2/email/outbound-emails`, signed with SigV4.
//!
//! Click tracking cannot be switched off per message, only by a configuration set
//! without click events. The configuration has to state that it is so.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::call;
use super::provider::{Accepted, HEADERS, Outgoing, Provider, SendError};
use crate::clock::Clock;
use crate::config;
use crate::secrets::Kept;

/// Errors by which AWS asks to slow down, of whatever status.
const THROTTLING: &[&str] =
    &["ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded"];

/// An Amazon SES account in one region.
pub(super) struct Ses {
    client: reqwest::Client,
    url: String,
    region: String,
    access_key_id: Kept<SecretString>,
    secret_access_key: Kept<SecretString>,
    configuration_set: Option<String>,
    clock: Clock,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Text<'a> {
    data: &'a str,
    charset: &'static str,
}

impl<'a> Text<'a> {
    const fn new(data: &'a str) -> Self {
        Self { data, charset: "UTF-8" }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Pair<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    text: Text<'a>,
    html: Text<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Simple<'a> {
    subject: Text<'a>,
    body: Body<'a>,
    headers: Vec<Pair<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    simple: Simple<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Destination<'a> {
    to_addresses: [&'a str; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    from_email_address: String,
    destination: Destination<'a>,
    content: Content<'a>,
    email_tags: [Pair<'a>; 2],
    #[serde(skip_serializing_if = "Option::is_none")]
    configuration_set_name: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    message_id: String,
}

impl Ses {
    pub(super) fn new(ses: &config::Ses, clock: Clock) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: call::client()?,
            url: call::below(&ses.url, "/v2/email/outbound-emails"),
            region: ses.region.clone(),
            access_key_id: ses.access_key_id.clone(),
            secret_access_key: ses.secret_access_key.clone(),
            configuration_set: ses.configuration_set.clone(),
            clock,
        })
    }

    /// The SigV4 headers of a request with this body.
    fn signature(&self, body: &[u8]) -> Result<Vec<(String, String)>, SendError> {
        let broken = |error: &dyn std::fmt::Display| SendError::Credentials(format!("cannot sign: {error}"));
        let now = u64::try_from(self.clock.now().unix_seconds()).unwrap_or(0);
        let (id, secret) = (self.access_key_id.get(), self.secret_access_key.get());
        let credentials = Credentials::new(id.expose_secret(), secret.expose_secret(), None, None, "configuration");
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ses")
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(now))
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| broken(&error))?
            .into();
        let headers = [("content-type", "application/json")];
        let request = SignableRequest::new("POST", &self.url, headers.into_iter(), SignableBody::Bytes(body))
            .map_err(|error| broken(&error))?;
        let (instructions, _signature) = sign(request, &parameters).map_err(|error| broken(&error))?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

#[async_trait]
impl Provider for Ses {
    fn name(&self) -> &'static str {
        "ses"
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        let message = Message {
            from_email_address: mail.from.header(),
            destination: Destination { to_addresses: [&mail.to.address] },
            content: Content {
                simple: Simple {
                    subject: Text::new(&mail.subject),
                    body: Body { text: Text::new(&mail.text), html: Text::new(&mail.html) },
                    headers: HEADERS.iter().map(|(name, value)| Pair { name, value }).collect(),
                },
            },
            email_tags: [
                Pair { name: "template", value: mail.tag },
                Pair { name: "mail_job_id", value: mail.job_id.as_str() },
            ],
            configuration_set_name: self.configuration_set.as_deref(),
        };
        let body = call::body(&message)?;
        let mut request = self.client.post(&self.url);
        for (name, value) in self.signature(&body)? {
            request = request.header(name, value);
        }
        let answer = call::call(request, body).await?;
        if answer.status == StatusCode::OK {
            let taken: Answer = answer.json("a MessageId")?;
            return Ok(Accepted { message_id: Some(taken.message_id) });
        }
        Err(match answer.aws_error().as_str() {
            "LimitExceededException" => answer.throttled(Duration::from_mins(5)),
            kind if THROTTLING.contains(&kind) => answer.throttled(call::WAIT),
            // Only these are about the e-mail; but a sender that nobody verified is about the account.
            "BadRequestException" | "MessageRejected" | "" if !answer.says("not verified") => answer.refusal(),
            _ if answer.status == StatusCode::BAD_REQUEST => SendError::Credentials(answer.explain(answer.status)),
            _ => answer.refusal(),
        })
    }
}
