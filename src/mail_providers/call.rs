//! Calling a provider: bounded in time and size, and never silent about what is not known.

use std::time::Duration;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use super::provider::SendError;

/// A provider that has not answered by then did not take the mail, as far as we know.
const TIMEOUT: Duration = Duration::from_secs(10);

/// More than any honest answer needs.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long to wait where a provider throttles and does not say.
const WAIT: Duration = Duration::from_secs(30);

/// A client with our limits. It follows no redirect: the mail would go where nobody configured.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// What a provider answered, read to its end.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The body of an answer that says the mail was taken.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, SendError> {
        serde_json::from_slice(&self.body)
            .map_err(|_garbage| SendError::Transient(format!("{} without {what}", self.status.as_u16())))
    }

    /// A member of the body that names the error; never a sentence, which may quote the mail.
    pub(super) fn error_word(&self, member: &str) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        let word = match body.get(member)? {
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::String(text) => text.clone(),
            _ => return None,
        };
        let plain = word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        plain.then_some(word)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Why the mail was not taken, where the status alone tells.
    ///
    /// Only 400, 413 and 422 are about the mail; a wrong address or a proxy
    /// between us must not lose any.
    pub(super) fn refusal(&self) -> SendError {
        let status = self.status;
        match status {
            StatusCode::TOO_MANY_REQUESTS => SendError::Throttled(self.wait().unwrap_or(WAIT)),
            StatusCode::SERVICE_UNAVAILABLE if self.wait().is_some() => {
                SendError::Throttled(self.wait().unwrap_or(WAIT))
            }
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                SendError::Permanent(status.to_string())
            }
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                SendError::Credentials(status.to_string())
            }
            status => SendError::Transient(status.to_string()),
        }
    }

    /// `Retry-After` in seconds.
    fn wait(&self) -> Option<Duration> {
        self.header("retry-after")?.trim().parse().ok().map(Duration::from_secs)
    }
}

/// Sends the request and reads the answer.
///
/// Where no connection came about nothing was sent. Everything later is
/// unknown: the provider may have taken the mail before the line went dead.
pub(super) async fn call(request: RequestBuilder, body: impl Into<Bytes>) -> Result<Answer, SendError> {
    let request = request.header("content-type", "application/json").body(body.into());
    let mut response = request.send().await.map_err(classify)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER_BYTES => {
                return Err(SendError::Transient(format!("{status} with an answer that does not end")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(Answer { status, headers, body }),
            // It said no before the line went dead.
            Err(_cut) if !status.is_success() => return Ok(Answer { status, headers, body }),
            Err(error) => return Err(classify(error)),
        }
    }
}

/// The error without the address: it may hold credentials.
fn classify(error: reqwest::Error) -> SendError {
    let connected = !error.is_connect() && !error.is_builder();
    let timed_out = error.is_timeout();
    let text = if timed_out { "timed out".to_owned() } else { error.without_url().to_string() };
    if connected { SendError::Unknown(text) } else { SendError::Transient(text) }
}

/// The address of a call below a base address.
pub(super) fn below(base: &url::Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

/// The message as JSON. What we send always serialises; if it did not, it never would.
pub(super) fn body(message: &impl serde::Serialize) -> Result<Vec<u8>, SendError> {
    serde_json::to_vec(message).map_err(|error| SendError::Permanent(error.to_string()))
}
