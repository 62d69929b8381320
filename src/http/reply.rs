//! Responses.

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, Header, HeaderValue, IfNoneMatch, LOCATION};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::Serialize;

use crate::error::Error;
use crate::secrets::sha256_hex;

/// 200 with a JSON body.
pub(crate) struct Json<T>(pub T);

/// 201 with a JSON body.
pub(crate) struct Created<T> {
    /// The path at which it can be read, if it can alone.
    pub location: Option<String>,
    pub value: T,
}

/// 202 with a JSON body.
pub(crate) struct Accepted<T> {
    /// The path at which it can be read, if it was created and can alone.
    location: Option<String>,
    value: T,
}

impl<T> Accepted<T> {
    /// The answer about something that is known already, or cannot be read alone.
    pub(crate) const fn new(value: T) -> Self {
        Self { location: None, value }
    }

    /// The answer about something new that can be read at this path.
    pub(crate) const fn at(location: String, value: T) -> Self {
        Self { location: Some(location), value }
    }
}

/// A response that names where what it is about can be read.
fn located(mut response: HttpResponse, location: Option<String>) -> HttpResponse {
    if let Some(path) = location.and_then(|path| HeaderValue::try_from(path).ok()) {
        response.headers_mut().insert(LOCATION, path);
    }
    response
}

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
        located(json(StatusCode::CREATED, &self.value), self.location)
    }
}

impl<T: Serialize> Responder for Accepted<T> {
    type Body = BoxBody;

    fn respond_to(self, _request: &HttpRequest) -> HttpResponse {
        located(json(StatusCode::ACCEPTED, &self.value), self.location)
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
