//! The HTTP call: bounded in time and size, and only to the addresses that were checked.

use std::error::Error as _;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::addresses::{Addresses, Refusal};
use super::signed::TIME_OUT;
use crate::clock::Timestamp;
use crate::config::Webhooks;
use crate::domain::WebhookFormat;
use crate::mail_providers::call;
use crate::secrets::WebhookSecret;

/// Limit of a refusal's body (RFC 8935, section 2.4).
const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// Limit of a stored error text.
const MAX_ERROR_CHARACTERS: usize = 200;

/// Everything one call needs.
pub(super) struct SignedMessage {
    pub url: String,
    pub format: WebhookFormat,
    pub content_type: &'static str,
    pub id: String,
    pub body: String,
    /// The secrets that sign the message: one, or two during a rotation.
    pub secrets: Vec<WebhookSecret>,
    /// The place in the trace of the act that the message tells of.
    pub traceparent: Option<String>,
}

/// Outcome of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver accepted the message.
    Taken,
    /// Temporary failure; to be retried.
    NotTaken(String),
    /// Temporary failure of a receiver that says when to send this again.
    Later(String, Duration),
    /// The receiver takes nothing for so long: 429 or 503.
    Busy(String, Duration),
    /// Permanent refusal.
    Refused(String),
    /// The receiver responded with 410 (Gone).
    Gone,
}

/// Calls the URLs of clients.
pub(crate) struct Sender {
    http: Client,
    addresses: Addresses,
}

/// Error response of a SET receiver (RFC 8935, section 2.3).
#[derive(Deserialize)]
struct SetRefusal {
    err: String,
}

impl Sender {
    /// Sets up the HTTP client. Without a proxy, which would resolve names by itself.
    pub(crate) fn new(config: &Webhooks) -> Result<Self, reqwest::Error> {
        let addresses = Addresses::new(&config.allow_addresses);
        let http = Client::builder()
            .timeout(TIME_OUT)
            .redirect(Policy::none())
            .no_proxy()
            .dns_resolver(addresses.clone())
            .pool_max_idle_per_host(1)
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("magic-link/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, addresses })
    }

    /// Checks an endpoint's URL and returns it in normal form.
    pub(super) fn check(&self, url: &str) -> Result<String, Refusal> {
        self.addresses.read(url).map(|url| url.to_string())
    }

    /// Sends a message.
    pub(super) async fn send(&self, signed: SignedMessage, now: Timestamp) -> Answer {
        // Checked again: the allowed networks may have changed since the endpoint was created.
        let url = match self.addresses.read(&signed.url) {
            Ok(url) => url,
            Err((_, why)) => return Answer::NotTaken(format!("the address {why}")),
        };
        let seconds = now.unix_seconds();
        let signatures: Vec<String> =
            signed.secrets.iter().map(|secret| secret.sign(&signed.id, seconds, &signed.body)).collect();
        let mut request = self
            .http
            .post(url)
            .header("content-type", signed.content_type)
            .header("webhook-id", signed.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures.join(" "))
            .body(signed.body);
        if let Some(traceparent) = signed.traceparent {
            request = request.header("traceparent", traceparent);
        }
        if signed.format == WebhookFormat::Caep {
            request = request.header("accept", "application/json");
        }
        match request.send().await {
            Ok(response) => {
                let (asked, status) = (retry_after(&response, now), response.status());
                let is_busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
                match (judge(response, signed.format).await, asked) {
                    (Answer::NotTaken(error), Some(asked)) if is_busy => Answer::Busy(error, asked),
                    (Answer::NotTaken(error), Some(asked)) => Answer::Later(error, asked),
                    (answer, _) => answer,
                }
            }
            Err(error) => Answer::NotTaken(in_words(&error)),
        }
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(response: &Response, now: Timestamp) -> Option<Duration> {
    let text = response.headers().get("retry-after")?.to_str().ok()?;
    call::retry_after(text, Some(now.to_utc().into()))
}

async fn judge(response: Response, format: WebhookFormat) -> Answer {
    let status = response.status();
    let caep = format == WebhookFormat::Caep;
    if status == StatusCode::GONE {
        Answer::Gone
    } else if status == StatusCode::ACCEPTED || (status.is_success() && !caep) {
        Answer::Taken
    } else if status.is_redirection() {
        Answer::NotTaken(format!("{}: redirects are not followed", status.as_u16()))
    } else if status == StatusCode::BAD_REQUEST && caep {
        match refusal(response).await {
            Some(err) => Answer::Refused(format!("400: {err}")),
            None => Answer::NotTaken("400".to_owned()),
        }
    } else if status.is_success() {
        Answer::NotTaken(format!("{}, where a security event is taken with 202", status.as_u16()))
    } else {
        Answer::NotTaken(status.as_u16().to_string())
    }
}

/// The error code of a SET refusal; never free text.
async fn refusal(mut response: Response) -> Option<String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    let SetRefusal { err } = serde_json::from_slice(&body).ok()?;
    let plain = (1..=64).contains(&err.len()) && err.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    plain.then_some(err)
}

/// The error text without the URL, which may hold a secret.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} seconds", TIME_OUT.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    // Without a cause the error is reqwest's own, which names the URL.
    let text = if error.source().is_some() { cause.to_string() } else { "the call failed".to_owned() };
    let text: String = text.chars().filter(|character| !character.is_control()).collect();
    text.chars().take(MAX_ERROR_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn sender(open: &str) -> Sender {
        let config = Config::from_toml(&format!("webhooks.allow_addresses = '{open}'")).unwrap();
        Sender::new(&config.webhooks).unwrap()
    }

    #[tokio::test]
    async fn a_name_is_called_where_the_operator_has_opened_what_it_leads_to() {
        let server = wiremock::MockServer::start().await;
        wiremock::Mock::given(wiremock::matchers::any())
            .respond_with(wiremock::ResponseTemplate::new(204))
            .mount(&server)
            .await;
        let by_name = server.uri().replace("127.0.0.1", "localhost");
        let opened = sender("127.0.0.0/8, ::1").http.post(&by_name).send().await.unwrap();
        assert_eq!(opened.status(), 204);
        let refused = sender("10.0.0.0/8").http.post(&by_name).send().await.unwrap_err();
        assert_eq!(in_words(&refused), "the name leads to an address that is not public");
    }

    #[tokio::test]
    async fn a_failure_is_told_without_the_address() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let signed = SignedMessage {
            url: format!("http://{nobody}/hook?token=t0ps3cret"),
            format: WebhookFormat::Cloudevents,
            content_type: "application/cloudevents+json",
            id: "whm_x".to_owned(),
            body: "{}".to_owned(),
            secrets: Vec::new(),
            traceparent: None,
        };
        let Answer::NotTaken(why) = sender("127.0.0.0/8").send(signed, crate::clock::Clock::System.now()).await else {
            panic!("nobody listens")
        };
        assert!(!why.contains("t0ps3cret") && !why.contains("127.0.0.1") && !why.is_empty(), "{why}");
    }
}
