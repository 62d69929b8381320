//! SendGrid v3: `POST {base}/v3/mail/send` with an API key.

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::call;
use super::provider::{Accepted, HEADERS, Mailbox, Outgoing, Provider, SendError};
use crate::config;
use crate::secrets::Kept;

/// An account at SendGrid.
pub(super) struct SendGrid {
    client: reqwest::Client,
    url: String,
    api_key: Kept<SecretString>,
}

#[derive(Serialize)]
struct Address<'a> {
    email: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

impl<'a> Address<'a> {
    fn sender(mailbox: &'a Mailbox) -> Self {
        Self { email: &mailbox.address, name: Some(&mailbox.name) }
    }

    /// Without a name, which could be parsed as a second recipient.
    fn recipient(mailbox: &'a Mailbox) -> Self {
        Self { email: &mailbox.address, name: None }
    }
}

#[derive(Serialize)]
struct Personalization<'a> {
    to: [Address<'a>; 1],
    custom_args: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: &'a str,
}

#[derive(Serialize)]
struct ClickTracking {
    enable: bool,
    enable_text: bool,
}

#[derive(Serialize)]
struct Switch {
    enable: bool,
}

/// Tracking is off in every message, because the account may have it on.
#[derive(Serialize)]
struct TrackingSettings {
    #[serde(rename = "click_tracking")]
    click: ClickTracking,
    #[serde(rename = "open_tracking")]
    open: Switch,
    #[serde(rename = "subscription_tracking")]
    subscription: Switch,
}

#[derive(Serialize)]
struct Message<'a> {
    personalizations: [Personalization<'a>; 1],
    from: Address<'a>,
    subject: &'a str,
    content: [Part<'a>; 2],
    headers: BTreeMap<&'a str, &'a str>,
    categories: [&'a str; 1],
    tracking_settings: TrackingSettings,
}

impl SendGrid {
    pub(super) fn new(sendgrid: &config::SendGrid) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: call::client()?,
            url: call::below(&sendgrid.url, "/v3/mail/send"),
            api_key: sendgrid.api_key.clone(),
        })
    }
}

#[async_trait]
impl Provider for SendGrid {
    fn name(&self) -> &'static str {
        "sendgrid"
    }

    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError> {
        let message = Message {
            personalizations: [Personalization {
                to: [Address::recipient(&mail.to)],
                custom_args: BTreeMap::from([("mail_job_id", mail.job_id.as_str())]),
            }],
            from: Address::sender(&mail.from),
            subject: &mail.subject,
            content: [Part { kind: "text/plain", value: &mail.text }, Part { kind: "text/html", value: &mail.html }],
            headers: HEADERS.iter().copied().collect(),
            categories: [mail.tag],
            tracking_settings: TrackingSettings {
                click: ClickTracking { enable: false, enable_text: false },
                open: Switch { enable: false },
                subscription: Switch { enable: false },
            },
        };
        let request = self.client.post(&self.url).bearer_auth(self.api_key.get().expose_secret());
        let answer = call::call(request, call::body(&message)?).await?;
        if answer.status == StatusCode::ACCEPTED {
            return Ok(Accepted { message_id: answer.header("x-message-id").map(ToOwned::to_owned) });
        }
        // Only 202 is SendGrid's own answer; a proxy may return 200.
        if answer.status.is_success() {
            return Err(SendError::Transient(
                answer.explain(format_args!("{} instead of 202", answer.status.as_u16())),
            ));
        }
        Err(answer.refusal())
    }
}
