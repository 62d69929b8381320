//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-08).

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};

use super::Caller;
use crate::error::{Code, Error};
use crate::store::IdempotencyKey;

const HEADER: &str = "idempotency-key";

/// The key of the request, if any; accepted with and without quotes.
pub(crate) struct IdempotencyHeader(Option<String>);

impl IdempotencyHeader {
    /// The key within its scope: the client, the route, and a fingerprint of the request.
    pub(crate) fn scoped<S>(
        self,
        caller: &Caller<S>,
        route: &'static str,
        fingerprint: impl FnOnce() -> String,
    ) -> Option<IdempotencyKey> {
        let client_id = caller.client_id.clone()?;
        self.0.map(|key| IdempotencyKey { client_id, route, key, fingerprint: fingerprint() })
    }
}

impl FromRequest for IdempotencyHeader {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all(HEADER);
        let outcome = match (values.next(), values.next()) {
            (None, _) => Ok(Self(None)),
            (Some(value), None) => value.to_str().ok().and_then(parse).map(|key| Self(Some(key))).ok_or(()),
            (Some(_), Some(_)) => Err(()),
        };
        ready(outcome.map_err(|()| {
            Error::new(Code::InvalidHeader).detail("Idempotency-Key must be one key of 1 to 128 printable characters")
        }))
    }
}

fn parse(text: &str) -> Option<String> {
    let text = text.trim();
    let key = text.strip_prefix('"').map_or(Some(text), |rest| rest.strip_suffix('"'))?;
    let fits = (1..=128).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    fits.then(|| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_quoted_and_bare() {
        assert_eq!(parse("\"8e03978e\"").as_deref(), Some("8e03978e"));
        assert_eq!(parse(" 8e03978e ").as_deref(), Some("8e03978e"));
        for wrong in ["", "\"\"", "\"open", "two words", "a\"b", &"x".repeat(129)] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
