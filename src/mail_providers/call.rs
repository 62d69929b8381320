//! HTTP calls to a provider, bounded in time and size; an unknown outcome is reported as such.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use httpdate::parse_http_date;
use reqwest::header::HeaderMap;
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;

use super::provider::{SendError, providers_words};
use crate::telemetry::TraceContext;

/// Time-out of a call; after it the outcome is unknown.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Limit of a response body.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Wait after throttling without `Retry-After`.
pub(super) const WAIT: Duration = Duration::from_secs(30);

/// An HTTP client with the limits. It follows no redirect, which could lead to a host that is not configured.
pub(crate) fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .timeout(TIMEOUT)
        .connect_timeout(Duration::from_secs(5))
        .redirect(reqwest::redirect::Policy::none())
        .build()
}

/// The wait that a `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date in any of HTTP's three forms.
pub(crate) fn retry_after(text: &str, now: Option<SystemTime>) -> Option<Duration> {
    let text = text.trim();
    let until = || parse_http_date(text).ok()?.duration_since(now?).ok();
    text.parse().ok().map(Duration::from_secs).or_else(until)
}

/// A provider's complete response.
pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// The body of a success response.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &'static str) -> Result<T, SendError> {
        serde_json::from_slice(&self.body).map_err(|_garbage| {
            SendError::Transient(self.explain(format_args!("{} without {what}", self.status.as_u16())))
        })
    }

    /// `what`, followed by the provider's own explanation, wherever it has one.
    pub(super) fn explain(&self, what: impl std::fmt::Display) -> String {
        let body: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let members = ["/name", "/Message", "/message", "/Error", "/error", "/error/message", "/errors/0/message"];
        let said = |pointer: &str| body.as_ref()?.pointer(pointer)?.as_str();
        let kind = Some(self.aws_error()).filter(|kind| !kind.is_empty());
        let is_text = self.header("content-type").is_some_and(|kind| kind.starts_with("text/plain"));
        let plain = std::str::from_utf8(&self.body).ok().filter(|_| body.is_none() && is_text);
        let words = kind.as_deref().into_iter().chain(members.into_iter().filter_map(said)).chain(plain);
        let words = providers_words(&words.collect::<Vec<_>>().join(": "));
        if words.is_empty() { what.to_string() } else { format!("{what}: {words}") }
    }

    /// The error code in a member of the body.
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

    /// The kind of an AWS error; empty for another answer. It is named in a header, which may hold a colon and an address
    /// behind it, or in the body, which may hold a namespace and `#` before it.
    pub(super) fn aws_error(&self) -> String {
        let of_header = self.header("x-amzn-errortype").and_then(|kind| kind.split(':').next()).map(ToOwned::to_owned);
        let of_body = || {
            let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
            let kind = ["__type", "code"].iter().find_map(|member| body.get(member)?.as_str())?;
            Some(kind.rsplit('#').next().unwrap_or_default().to_owned())
        };
        of_header.or_else(of_body).unwrap_or_default()
    }

    /// Whether the answer says these words.
    pub(super) fn says(&self, words: &str) -> bool {
        String::from_utf8_lossy(&self.body).to_ascii_lowercase().contains(words)
    }

    /// The provider asks to wait, as long as it says, or this long.
    pub(super) fn throttled(&self, usual: Duration) -> SendError {
        let wait = self.wait().unwrap_or(usual);
        SendError::Throttled {
            wait,
            said: self.explain(format_args!("the provider asks to wait {} s", wait.as_secs())),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Classifies a refusal by its status.
    ///
    /// Only 400, 413 and 422 are permanent: a wrong URL or a proxy in between must not
    /// lose e-mails.
    pub(super) fn refusal(&self) -> SendError {
        let status = self.status;
        match status {
            StatusCode::TOO_MANY_REQUESTS => self.throttled(WAIT),
            StatusCode::SERVICE_UNAVAILABLE if self.wait().is_some() => self.throttled(WAIT),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                SendError::Permanent(self.explain(status))
            }
            status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                SendError::Credentials(self.explain(status))
            }
            status => SendError::Transient(self.explain(status)),
        }
    }

    /// `Retry-After`: a date is compared with that of the answer, so that nobody's clock matters.
    fn wait(&self) -> Option<Duration> {
        let now = self.header("date").and_then(|date| parse_http_date(date).ok());
        retry_after(self.header("retry-after")?, now)
    }
}

/// Sends the request and reads the response.
///
/// Without a connection nothing was sent. After it a failure is unknown: the
/// provider may have accepted the e-mail before the connection broke.
pub(super) async fn call(request: RequestBuilder, body: impl Into<Bytes>) -> Result<Answer, SendError> {
    let mut request = request.header("content-type", "application/json").body(body.into());
    if let Some(traceparent) = TraceContext::current().and_then(|trace| trace.traceparent()) {
        request = request.header("traceparent", traceparent);
    }
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
            // The refusal arrived before the connection broke.
            Err(_cut) if !status.is_success() => return Ok(Answer { status, headers, body }),
            Err(error) => return Err(classify(error)),
        }
    }
}

/// Classifies an error, without the URL: it may hold credentials.
fn classify(error: reqwest::Error) -> SendError {
    let connected = !error.is_connect() && !error.is_builder();
    let timed_out = error.is_timeout();
    let text = if timed_out { "timed out".to_owned() } else { error.without_url().to_string() };
    if connected { SendError::Unknown(text) } else { SendError::Transient(text) }
}

/// Joins a path to the base URL.
pub(super) fn below(base: &url::Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

/// The message as JSON. A serialisation error is permanent: a retry would fail too.
pub(super) fn body(message: &impl serde::Serialize) -> Result<Vec<u8>, SendError> {
    serde_json::to_vec(message).map_err(|error| SendError::Permanent(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_in_every_form_that_http_has() {
        let now = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").ok();
        let minute = Some(Duration::from_mins(1));
        for text in [
            "60",
            " 60 ",
            "Sun, 06 Nov 1994 08:50:37 GMT",
            "Sunday, 06-Nov-94 08:50:37 GMT",
            "Sun Nov  6 08:50:37 1994",
        ] {
            assert_eq!(retry_after(text, now), minute, "{text}");
        }
        for text in ["", "soon", "-1", "Sun, 06 Nov 1994 08:48:37 GMT"] {
            assert_eq!(retry_after(text, now), None, "{text}");
        }
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", None), None, "a date says nothing without another");
    }
}
