//! Mailpit: `POST {base}/api/v1/send`, for development and for staging behind a relay.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::call;
use super::provider::{Accepted, HEADERS, Mailbox, Outgoing, Provider, SendError};
use crate::secrets::Kept;

/// A Mailpit server.
pub(super) struct Mailpit {
    client: reqwest::Client,
    url: String,
    login: Option<(String, Kept<SecretString>)>,
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
    pub(super) fn new(url: &Url, login: Option<(String, Kept<SecretString>)>) -> Result<Self, reqwest::Error> {
        Ok(Self { client: call::client()?, url: call::below(url, "/api/v1/send"), login })
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
        let mut request = self.client.post(&self.url);
        if let Some((user, password)) = &self.login {
            request = request.basic_auth(user, Some(password.get().expose_secret()));
        }
        let answer = call::call(request, call::body(&message)?).await?;
        if answer.status == StatusCode::OK {
            let taken: Answer = answer.json("an ID")?;
            return Ok(Accepted { message_id: Some(taken.id) });
        }
        Err(answer.refusal())
    }
}
