//! Request bodies: JSON objects of bounded size that arrive in bounded time.

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde::de::value::MapDeserializer;
use serde_json::Value;

use super::contract::Contract;
use super::idempotency;
use crate::context::Context;
use crate::domain::json;
use crate::error::{Code, Error};

/// Largest body that most routes accept, in bytes.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// Largest body of routes that accept batches of activity events, and of raw bodies, in bytes.
pub(crate) const BATCH_LIMIT: usize = 1024 * 1024;

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
            let bytes = read(&request, payload, LIMIT).await?;
            // A request without any required member may omit the body.
            let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
            if !bytes.is_empty() && !is_type(&request, "application", "json") {
                return Err(Code::UnsupportedMediaType.into());
            }
            let mut body = json::parse(text).map_err(|invalid| malformed(&invalid))?;
            let operation = Contract::operation(&request)?;
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

/// `invalid_body` for a text that is no JSON, or has a member twice.
fn malformed(invalid: &json::Invalid) -> Error {
    let named = if invalid.pointer.is_empty() { "the body" } else { &invalid.pointer };
    let error = Error::new(Code::InvalidBody).detail(format!("{named} {}", invalid.message));
    if invalid.pointer.is_empty() { error } else { error.field(&invalid.pointer, "malformed", &invalid.message) }
}

/// A form (`application/x-www-form-urlencoded`) as the request's body; unknown members are ignored, as OAuth requires.
pub(crate) struct Form<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move {
            if !is_type(&request, "application", "x-www-form-urlencoded") {
                return Err(Code::UnsupportedMediaType.into());
            }
            let bytes = read(&request, payload, BODY_LIMIT).await?;
            let value = from_form(&bytes).map_err(|_invalid| {
                Error::new(Code::InvalidBody).detail("the form must have each documented member once, in UTF-8")
            })?;
            Ok(Self(value))
        })
    }
}

/// Parses a form. Most forms contain only a token, which needs no escapes: then nothing has to be decoded.
fn from_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let escaped = bytes.iter().fold(false, |found, byte| found | matches!(byte, b'%' | b'+'));
    match std::str::from_utf8(bytes) {
        Ok(plain) if !escaped => {
            let pairs = plain.split('&').filter(|pair| !pair.is_empty());
            let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            T::deserialize(MapDeserializer::new(pairs)).map_err(|error: serde::de::value::Error| error.to_string())
        }
        _ => serde_urlencoded::from_bytes(bytes).map_err(|error| error.to_string()),
    }
}

/// A body as it was sent, for signatures over its bytes.
pub(crate) struct RawBody(pub Bytes);

impl FromRequest for RawBody {
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<Self, Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        Box::pin(async move { Ok(Self(read(&request, payload, BATCH_LIMIT).await?)) })
    }
}

fn is_type(request: &HttpRequest, kind: &str, subtype: &str) -> bool {
    let header = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = header.and_then(|text| text.split(';').next()).map(str::trim).and_then(|text| text.split_once('/'));
    essence.is_some_and(|(left, right)| left.eq_ignore_ascii_case(kind) && right.eq_ignore_ascii_case(subtype))
}

/// Reads the body within a time-out and a limit; actix limits only the time of the head.
async fn read(request: &HttpRequest, mut payload: Payload, limit: usize) -> Result<Bytes, Error> {
    let time_limit = request
        .app_data::<web::Data<Context>>()
        .map_or(std::time::Duration::from_secs(10), |cx| cx.config.body_timeout);
    let declared = request.headers().get("content-length").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(Code::BodyTooLarge.into());
    }
    // Compressed bodies are refused: a small one can expand to a huge one.
    if request.headers().contains_key("content-encoding") {
        return Err(Error::new(Code::UnsupportedMediaType).detail("content-encoding is not supported"));
    }
    let reading = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = payload.next().await {
            let chunk =
                chunk.map_err(|_broken| Error::new(Code::InvalidBody).detail("the body did not arrive as a whole"))?;
            if bytes.len() + chunk.len() > limit {
                return Err(Code::BodyTooLarge.into());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    tokio::time::timeout(time_limit, reading).await.map_err(|_elapsed| Error::new(Code::RequestTimeout))?
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_form_means_the_same_with_and_without_escapes() {
        let read = |text: &str| from_form::<BTreeMap<String, String>>(text.as_bytes()).unwrap();
        let library = |text: &str| serde_urlencoded::from_str::<BTreeMap<String, String>>(text).unwrap();
        for text in ["", "&", "token=a.b-c_d", "token", "=x", "a=1&b=2&&c=", "a=b=c", "t=a%2Eb", "t=a+b", "naïve=ü"] {
            assert_eq!(read(text), library(text), "{text:?}");
        }
    }
}
