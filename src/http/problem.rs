//! Problem documents (RFC 9457): the body of every error response.

use std::borrow::Cow;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Code, Error, FieldError, cut};
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
    #[schema(max_length = 500)]
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
    /// Path of the request.
    #[schema(max_length = 1000)]
    instance: &'a str,
    /// Stable name of the problem.
    #[schema(max_length = 64)]
    code: &'static str,
    /// Fields that are invalid.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(max_items = 100)]
    errors: &'a [FieldError],
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
    response.json(Problem {
        kind: format!("{public_url}/problems#{}", code.slug()),
        title: code.title(),
        status: code.status(),
        detail: error.detail_text(),
        instance: &cut(Cow::Borrowed(instance), 1_000),
        code: code.slug(),
        errors: error.fields(),
        trace_id: trace_id.to_string(),
    })
}

/// Only the status: the middleware, which knows the path and the trace, writes the body.
impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}
