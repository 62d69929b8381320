//! Request bodies: JSON objects of bounded size that arrive in bounded time.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Waker;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::task::AtomicWaker;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::contract::Contract;
use super::turn::turn;
use super::{Limits, idempotency};
use crate::context::Context;
use crate::domain::json;
use crate::error::{Code, Error};

/// Largest body that most routes accept, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// Largest body of routes that accept batches of activity events, and of raw bodies, in bytes.
pub(crate) const BATCH_LIMIT: usize = 1024 * 1024;

/// What a connection and the handler of its request tell each other about the body: whether the peer waits with it until
/// somebody wants it (`100 Continue` is for whom nothing was refused before), and whether somebody does.
#[derive(Debug, Clone, Default)]
pub(crate) struct AwaitedBody(Arc<Awaited>);

#[derive(Debug, Default)]
struct Awaited {
    expectation: AtomicU8,
    is_wanted: AtomicBool,
    connection: AtomicWaker,
}

impl AwaitedBody {
    const NONE: u8 = 0;
    const AWAITED: u8 = 1;
    const WANTED: u8 = 2;

    /// The peer waits, or does so no longer.
    pub(crate) fn set(&self, awaits: bool) {
        self.0.expectation.store(if awaits { Self::AWAITED } else { Self::NONE }, Ordering::Relaxed);
    }

    /// A handler wants the body.
    fn want(&self) {
        let expectation = &self.0.expectation;
        let _is_awaited =
            expectation.compare_exchange(Self::AWAITED, Self::WANTED, Ordering::Relaxed, Ordering::Relaxed);
        self.0.is_wanted.store(true, Ordering::SeqCst);
        self.0.connection.wake();
    }

    /// Whether a handler wants the body; the connection is woken when one does.
    pub(crate) fn is_wanted(&self, connection: &Waker) -> bool {
        self.0.connection.register(connection);
        self.0.is_wanted.load(Ordering::SeqCst)
    }

    /// The request is over.
    pub(crate) fn end(&self) {
        self.0.is_wanted.store(false, Ordering::SeqCst);
    }

    /// Whether the peer must be told to send it; true once.
    pub(crate) fn take_wanted(&self) -> bool {
        let expectation = &self.0.expectation;
        expectation.compare_exchange(Self::WANTED, Self::NONE, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Who sends a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Somebody whom the head of the request proves.
    Proven,
    /// Anybody: what proves it is in the body, or nothing does.
    Unproven,
}

/// A JSON object as the request's body, as the API description states it.
pub(crate) struct Body<T, const LIMIT: usize = BODY_LIMIT> {
    pub value: T,
    /// The object without the members that equal their default, if the request has an `Idempotency-Key`.
    pub(super) minimal: Option<Value>,
}

impl<T: DeserializeOwned + 'static, const LIMIT: usize> FromRequest for Body<T, LIMIT> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            turn(&request).await?;
            let is_json = is_type(&request, "application", "json");
            if has_length(&request) && !is_json {
                return Err(Code::UnsupportedMediaType.into());
            }
            let operation = Contract::operation(&request)?;
            let sender = if operation.has_caller() { Sender::Proven } else { Sender::Unproven };
            let bytes = read(&request, payload, LIMIT, sender).await?;
            // One in chunks may turn out to have no bytes.
            if !bytes.is_empty() && !is_json {
                return Err(Code::UnsupportedMediaType.into());
            }
            // A request without any required member may omit the body.
            let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
            let mut body = json::parse(text).map_err(|invalid| malformed(&invalid))?;
            operation.check_body(&mut body)?;
            let minimal = idempotency::is_wanted(&request).then(|| operation.minimal(&body));
            // Types and description agree: a test sends every member of every body.
            let value = T::deserialize(body).map_err(|error| {
                tracing::warn!(error.cause = %error, "a body is as described, and not taken");
                Error::new(Code::InvalidBody).detail("the body is not taken")
            })?;
            Ok(Self { value, minimal })
        })
    }
}

/// For an operation that takes no body: none, or an object without members, which some libraries send.
#[derive(serde::Deserialize)]
pub(crate) struct NoMembers {}

/// `invalid_body` for a text that is no JSON, or has a member twice.
fn malformed(invalid: &json::Invalid) -> Error {
    let named = if invalid.pointer.is_empty() { "the body" } else { &invalid.pointer };
    let error = Error::new(Code::InvalidBody).detail(format!("{named} {}", invalid.message));
    if invalid.pointer.is_empty() { error } else { error.field(&invalid.pointer, "malformed", &invalid.message) }
}

/// A form (`application/x-www-form-urlencoded`) as the request's body.
pub(super) async fn read_form(request: &HttpRequest, payload: Payload) -> Result<Bytes, Error> {
    if !is_type(request, "application", "x-www-form-urlencoded") {
        return Err(Code::UnsupportedMediaType.into());
    }
    read(request, payload, BODY_LIMIT, Sender::Unproven).await
}

/// A body as it will be sent, for signatures over its bytes: it is read when the handler has looked at the head.
pub(crate) struct RawBody(HttpRequest, Payload);

impl RawBody {
    /// Reads the body.
    ///
    /// # Errors
    /// `body_too_large`, `request_timeout`, `unavailable`, or what is wrong with how it is sent.
    pub(crate) async fn read(self, limit: usize, sender: Sender) -> Result<Bytes, Error> {
        read(&self.0, self.1, limit, sender).await
    }
}

impl FromRequest for RawBody {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.clone(), payload.take())))
    }
}

/// Whether a body of a length that is not 0 was announced.
fn has_length(request: &HttpRequest) -> bool {
    request.headers().get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

fn is_type(request: &HttpRequest, kind: &str, subtype: &str) -> bool {
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = header.and_then(|text| text.split(';').next()).map(str::trim).and_then(|text| text.split_once('/'));
    essence.is_some_and(|(left, right)| left.eq_ignore_ascii_case(kind) && right.eq_ignore_ascii_case(subtype))
}

/// Reads the body within a time-out and a limit; actix limits only the time of the head. It counts in the budget of its
/// sender until the request ends.
async fn read(request: &HttpRequest, mut payload: Payload, limit: usize, sender: Sender) -> Result<Bytes, Error> {
    let time_limit = request
        .app_data::<web::Data<Context>>()
        .map_or(std::time::Duration::from_secs(10), |cx| cx.config.body_timeout);
    let declared = request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: usize| length > limit) {
        return Err(Code::BodyTooLarge.into());
    }
    // Compressed bodies are refused: a small one can expand to a huge one.
    let codings =
        request.headers().get_all(CONTENT_ENCODING).flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let is_none =
        |coding: &[u8]| matches!(coding.trim_ascii(), b"") || coding.trim_ascii().eq_ignore_ascii_case(b"identity");
    if !codings.into_iter().all(is_none) {
        return Err(Error::new(Code::UnsupportedMediaType).detail("content-encoding must be identity, or absent"));
    }
    let limits = request.app_data::<web::Data<Limits>>();
    let mut counted = limits.map(|limits| limits.body(request, sender, declared.unwrap_or(0))).transpose()?;
    if let Some(body) = request.conn_data::<AwaitedBody>() {
        body.want();
    }
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk =
                chunk.map_err(|_broken| Error::new(Code::InvalidBody).detail("the body did not arrive as a whole"))?;
            if bytes.len() + chunk.len() > limit {
                return Err(Code::BodyTooLarge.into());
            }
            if let Some(body) = &mut counted {
                body.grow(chunk.len())?;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let read: Result<Bytes, Error> =
        tokio::time::timeout(time_limit, reading).await.map_err(|_elapsed| Error::new(Code::RequestTimeout))?;
    let bytes = read?;
    if let Some(body) = counted {
        request.extensions_mut().insert(body);
    }
    Ok(bytes)
}
