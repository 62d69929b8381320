//! Postmark: `POST {base}/email` with a server token.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::call;
use super::provider::{Accepted, HEADERS, Outgoing, Provider, SendError};
use crate::config;
use crate::secrets::Kept;

/// A Postmark server: a sender with its own token.
pub(super) struct Postmark {
    client: reqwest::Client,
    url: String,
    server_token: Kept<SecretString>,
    message_stream: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Header<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Email<'a> {
    from: String,
    to: &'a str,
    subject: &'a str,
    text_body: &'a str,
    html_body: &'a str,
    message_stream: &'a str,
    tag: &'a str,
    headers: Vec<Header<'a>>,
    metadata: BTreeMap<&'a str, &'a str>,
    /// Off: tracking would put the link token into Postmark's logs.
    track_opens: bool,
    track_links: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "MessageID", default)]
    message_id: String,
    #[serde(rename = "ErrorCode")]
    error_code: i64,
}

impl Postmark {
    pub(super) fn new(postmark: &config::Postmark) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: call::client()?,
            url: call::below(&postmark.url, "/email"),
            server_token: postmark.server_token.clone(),
            message_stream: postmark.message_stream.clone(),
        })
    }
}

#[async_trait]
impl Provider for Postmark {
    fn name(&self) -> &'static str {
        "postmark"
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        let message = Email {
            from: mail.from.header(),
            to: &mail.to.address,
            subject: &mail.subject,
            text_body: &mail.text,
            html_body: &mail.html,
            message_stream: &self.message_stream,
            tag: mail.tag,
            headers: HEADERS.iter().map(|(name, value)| Header { name, value }).collect(),
            metadata: BTreeMap::from([("mail_job_id", mail.job_id.as_str())]),
            track_opens: false,
            track_links: "None",
        };
        let request = self.client.post(&self.url).header("accept", "application/json");
        let request = request.header("x-postmark-server-token", self.server_token.get().expose_secret());
        let answer = call::call(request, call::body(&message)?).await?;
        if answer.status == StatusCode::OK {
            let taken: Answer = answer.json("a MessageID")?;
            return match taken.error_code {
                0 if taken.message_id.is_empty() => Err(SendError::Transient("200 without a MessageID".to_owned())),
                0 => Ok(Accepted { message_id: Some(taken.message_id) }),
                code => Err(SendError::Permanent(answer.explain(format_args!("200 with ErrorCode {code}")))),
            };
        }
        let code = answer.error_word("ErrorCode").unwrap_or_default();
        Err(match (answer.status, code.as_str()) {
            // Only these concern the e-mail: its fields, its recipient. All others do the account: the sender's signature or
            // domain, credits, the message stream.
            (StatusCode::UNPROCESSABLE_ENTITY, "300" | "403" | "406" | "409" | "410" | "411")
                if !answer.says("'from'") =>
            {
                SendError::Permanent(answer.explain(format_args!("422 with ErrorCode {code}")))
            }
            (StatusCode::UNPROCESSABLE_ENTITY, code) if !code.is_empty() => {
                SendError::Credentials(answer.explain(format_args!("422 with ErrorCode {code}")))
            }
            _ => answer.refusal(),
        })
    }
}
