//! Responses, and the problems that each kind of operation can return.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, Header, HeaderName, HeaderValue, IfNoneMatch};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;
use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

use crate::error::{Code, Error};
use crate::secrets::sha256_hex;

/// 200 with a JSON body.
pub(crate) struct Json<T>(pub T);

/// 201 with a JSON body, and a header if it is replayed.
pub(crate) struct Created<T> {
    pub value: T,
    pub replayed: bool,
}

/// 202 with a JSON body.
pub(crate) struct Accepted<T>(pub T);

/// A response with a JSON body.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> HttpResponse {
    // Most responses fit: growing by doubling would copy them several times.
    let mut body = Vec::with_capacity(1_024);
    match serde_json::to_writer(&mut body, value) {
        Ok(()) => HttpResponse::build(status).content_type("application/json").body(body),
        Err(error) => HttpResponse::from_error(Error::internal(error)),
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        json(StatusCode::OK, &self.0)
    }
}

impl<T: Serialize> Responder for Created<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        let mut response = json(StatusCode::CREATED, &self.value);
        if self.replayed {
            let replayed = (HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
            response.headers_mut().insert(replayed.0, replayed.1);
        }
        response
    }
}

impl<T: Serialize> Responder for Accepted<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        json(StatusCode::ACCEPTED, &self.0)
    }
}

/// A document with a cache policy and an entity tag.
pub(crate) fn cached(
    request: &HttpRequest,
    policy: &'static str,
    content_type: &'static str,
    body: &str,
) -> HttpResponse {
    let tag = EntityTag::new_strong(sha256_hex(body.as_bytes()).chars().take(32).collect());
    let unchanged = match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|one| one.weak_eq(&tag)),
        Err(_unreadable) => false,
    };
    let mut answer = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((CACHE_CONTROL, policy)).insert_header((ETAG, tag));
    if unchanged { answer.finish() } else { answer.content_type(content_type).body(body.to_owned()) }
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident [$($status:literal)*];)*) => {$(
        $(#[$doc])*
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$($status),*].into_iter().map(|status| (status.to_string(), describe(status).into())).collect()
            }
        }
    )*};
}

problems! {
    /// Problems of a request that reads.
    ReadProblems [400 401 403 404 429 500 503];
    /// Problems of a request for evidence.
    EvidenceProblems [400 401 403 404 422 429 500 503];
    /// Problems of a request that changes something.
    WriteProblems [400 401 403 404 408 409 410 413 415 422 429 500 503];
    /// Problems of a request about a token or a session.
    RedeemProblems [400 401 403 404 408 409 410 413 415 422 429 500 503];
    /// Problems of a mail provider's report.
    ReportProblems [400 401 404 408 413 415 500 503];
    /// Problems of a request that needs no API key.
    PublicProblems [400 403 404 408 409 410 413 415 429 500 503];
}

/// The problem response of a status, with the codes of the error table.
fn describe(status: u16) -> Response {
    let codes: Vec<String> = Code::ALL
        .iter()
        .filter(|code| code.status() == status)
        .map(|code| format!("`{}`: {}", code.slug(), code.title()))
        .collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(codes.join("; ")).content("application/problem+json", content).build()
}
