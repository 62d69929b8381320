//! Problem documents (RFC 9457): the body of every error response.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Code, Error, FieldError};
use crate::id::LinkId;
use crate::telemetry::TraceId;

/// Problem document (RFC 9457). Programs read `code`, people read the rest.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "http://127.0.0.1:8080/problems#validation_failed",
    "title": "A field is out of range",
    "status": 422,
    "instance": "/v1/magic-links",
    "code": "validation_failed",
    "errors": [{"pointer": "/reason", "code": "too_short", "detail": "must have at least 10 characters"}],
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"
}))]
pub struct Problem<'a> {
    /// URL of the page that explains the code.
    #[serde(rename = "type")]
    #[schema(max_length = 500, format = "uri")]
    kind: String,
    /// Summary of the problem, the same for each code.
    #[schema(max_length = 200)]
    title: &'static str,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Details of this occurrence of the problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    detail: Option<&'a str>,
    /// Path of the request; `-` stands for a part that may be a secret.
    #[schema(max_length = 200)]
    instance: &'a str,
    /// Stable name of the problem.
    #[schema(value_type = Code)]
    code: &'static str,
    /// Fields that are invalid.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(max_items = 100)]
    errors: &'a [FieldError],
    /// Error code of OAuth 2.0 (RFC 6749, 5.2; RFC 6750, 3.1), at the endpoints that follow it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32, example = "invalid_client")]
    error: Option<&'static str>,
    /// Link that gives the access which was asked for: only with `access_exists`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<LinkId>)]
    magic_link_id: Option<&'a str>,
    /// Trace id of the request, to quote to the operators; it is in their logs.
    #[schema(max_length = 32)]
    trace_id: String,
}

/// Builds the response for an error.
pub(super) fn respond(error: &Error, public_url: &str, instance: &str, trace_id: TraceId) -> HttpResponse {
    let code = error.code();
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponseBuilder::new(status);
    response.insert_header((CONTENT_TYPE, "application/problem+json")).insert_header((CACHE_CONTROL, "no-store"));
    response.insert_header(trace_header(trace_id));
    if let Some(seconds) = error.retry_after_seconds() {
        response.insert_header((RETRY_AFTER, seconds));
    }
    if let Some((name, per_minute)) = error.limit_met() {
        let wait = error.retry_after_seconds().unwrap_or(1);
        response.insert_header(("ratelimit-policy", format!("\"{name}\";q={per_minute};w=60")));
        response.insert_header(("ratelimit", format!("\"{name}\";r=0;t={wait}")));
    }
    if let Some(methods) = error.allowed_methods() {
        response.insert_header((ALLOW, methods));
    }
    if code == Code::Unauthenticated {
        response.insert_header((WWW_AUTHENTICATE, "Bearer realm=\"magic-link\""));
        response.append_header((WWW_AUTHENTICATE, "Basic realm=\"magic-link\", charset=\"UTF-8\""));
    }
    if code == Code::SignatureInvalid {
        // Of the ways in which providers prove their reports, the one that HTTP knows.
        response.insert_header((WWW_AUTHENTICATE, "Basic realm=\"mail-events\""));
    }
    response.json(Problem::of(error, public_url, &instance_of(instance), trace_id))
}

/// The header in which every answer tells the trace id of its request.
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("trace-id");

pub(super) fn trace_header(trace_id: TraceId) -> (HeaderName, HeaderValue) {
    // Hex digits are always a value.
    (TRACE_ID, HeaderValue::from_str(&trace_id.to_string()).unwrap_or(HeaderValue::from_static("")))
}

/// The body for what never became a request: it has no path.
pub(crate) fn bare_problem(code: Code, public_url: &str, trace_id: TraceId) -> String {
    let error = Error::new(code);
    serde_json::to_string(&Problem::of(&error, public_url, "/", trace_id)).unwrap_or_default()
}

impl<'a> Problem<'a> {
    fn of(error: &'a Error, public_url: &str, instance: &'a str, trace_id: TraceId) -> Self {
        let code = error.code();
        Self {
            kind: format!("{public_url}/problems#{}", code.slug()),
            title: code.title(),
            status: code.status(),
            detail: error.detail_text(),
            instance,
            code: code.slug(),
            errors: error.fields(),
            error: oauth_error(instance, code),
            magic_link_id: error.magic_link_id(),
            trace_id: trace_id.to_string(),
        }
    }
}

/// The endpoints whose clients read OAuth's own `error`.
const OAUTH: &[&str] = &["/v1/introspect", "/v1/revoke"];

fn oauth_error(path: &str, code: Code) -> Option<&'static str> {
    OAUTH.contains(&path).then(|| match (code, code.status()) {
        (Code::InsufficientScope, _) => "insufficient_scope",
        (_, 401) => "invalid_client",
        (_, 403) => "unauthorized_client",
        (_, 429 | 503) => "temporarily_unavailable",
        (_, 400..=499) => "invalid_request",
        _ => "server_error",
    })
}

/// Longest `instance`, in bytes.
const INSTANCE: usize = 200;

/// Longest part of a path that is shown: ids are shorter, tokens and keys longer.
const SEGMENT: usize = 64;

/// The path without what may be a secret. Problem documents end up in logs and in reports to strangers.
fn instance_of(path: &str) -> Cow<'_, str> {
    // CONNECT names a host instead of a path.
    let path = if path.is_empty() { "/" } else { path };
    let is_secret = |part: &str| part.len() > SEGMENT || ["eyJ", "mlsk_"].iter().any(|start| part.contains(start));
    let shown = if path.split('/').any(is_secret) {
        Cow::Owned(path.split('/').map(|part| if is_secret(part) { "-" } else { part }).collect::<Vec<_>>().join("/"))
    } else {
        Cow::Borrowed(path)
    };
    if shown.len() <= INSTANCE {
        return shown;
    }
    // The path of a request is ASCII, but for what a client should have escaped.
    let end = shown.rmatch_indices('/').map(|(at, _)| at).find(|at| (1..=INSTANCE).contains(at));
    Cow::Owned(shown.get(..end.unwrap_or(1)).unwrap_or("/").to_owned())
}

/// Only the status: the middleware, which knows the path and the trace, writes the body.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_short_and_holds_no_secret() {
        let token = format!("eyJhbGciOiJFUzI1NiJ9.{}.{}", "x".repeat(300), "y".repeat(86));
        for (path, instance) in [
            ("/v1/magic-links", "/v1/magic-links"),
            (&format!("/l%23{token}"), "/-"),
            (&format!("/l/{token}/more"), "/l/-/more"),
            ("/v1/x/eyJhb.eyJz.c", "/v1/x/-"),
            ("/v1/mlsk_abc_def", "/v1/-"),
            (&format!("/v1/{}", "%65".repeat(100)), "/v1/-"),
            (&"/ab".repeat(100), &"/ab".repeat(66)),
            (&"/".repeat(500), &"/".repeat(200)),
            ("", "/"),
        ] {
            assert_eq!(instance_of(path), instance, "{path}");
        }
    }
}
