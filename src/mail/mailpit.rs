//! Mailpit: `POST {base}/api/v1/send`, for development and for staging behind a relay.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use url::Url;

use super::provider::{Accepted, HEADERS, Mailbox, Outgoing, Provider, SendError};

/// A provider that has not answered by then did not take the mail, as far as we know.
const TIMEOUT: Duration = Duration::from_secs(10);

/// More than any honest answer needs.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A Mailpit server.
pub(super) struct Mailpit {
    client: reqwest::Client,
    url: String,
    login: Option<(String, SecretString)>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Address<'a> {
    name: &'a str,
    email: &'a str,
}

impl<'a> From<&'a Mailbox> for Address<'a> {
    fn from(mailbox: &'a Mailbox) -> Self {
        Self { name: &mailbox.name, email: &mailbox.address }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    from: Address<'a>,
    to: [Address<'a>; 1],
    subject: &'a str,
    text: &'a str,
    #[serde(rename = "HTML")]
    html: &'a str,
    tags: [&'a str; 1],
    headers: BTreeMap<&'a str, &'a str>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "ID")]
    id: String,
}

impl Mailpit {
    pub(super) fn new(url: &Url, login: Option<(String, SecretString)>) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(Duration::from_secs(5))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { client, url: format!("{}/api/v1/send", url.as_str().trim_end_matches('/')), login })
    }
}

#[async_trait]
impl Provider for Mailpit {
    fn name(&self) -> &'static str {
        "mailpit"
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        let message = Message {
            from: (&mail.from).into(),
            to: [(&mail.to).into()],
            subject: &mail.subject,
            text: &mail.text,
            html: &mail.html,
            tags: [mail.tag],
            headers: HEADERS.iter().copied().collect(),
        };
        let mut request = self.client.post(&self.url).json(&message);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.expose_secret()));
        }
        let mut response = request.send().await.map_err(transient)?;
        let status = response.status();
        let wait = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(transient)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(SendError::Transient(format!("{status} with an answer that does not end")));
            }
            body.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::OK => match serde_json::from_slice::<Answer>(&body) {
                Ok(answer) => Ok(Accepted { message_id: Some(answer.id) }),
                Err(_garbage) => Err(SendError::Transient("200 without an ID".to_owned())),
            },
            StatusCode::TOO_MANY_REQUESTS => Err(SendError::Throttled(Duration::from_secs(wait.unwrap_or(30)))),
            // Only these are about the mail; a wrong address or a proxy between us must not lose any.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Err(SendError::Permanent(status.to_string()))
            }
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                Err(SendError::Credentials(status.to_string()))
            }
            status => Err(SendError::Transient(status.to_string())),
        }
    }
}

/// The error without the address: it may hold credentials.
fn transient(error: reqwest::Error) -> SendError {
    SendError::Transient(error.without_url().to_string())
}
