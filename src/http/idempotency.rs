//! The `Idempotency-Key` header (draft-ietf-httpapi-idempotency-key-header-08).

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use serde_json::{Value, json};

use super::contract::Contract;
use super::parameters::{Texts, path_texts};
use super::turn::{InTurn, in_turn};
use super::{Body, Caller};
use crate::error::{Code, Error};
use crate::secrets::sha256_hex;
use crate::store::{IdempotencyKey, Replayed};

const HEADER: &str = "idempotency-key";

/// The key of the request, if any; accepted with and without quotes.
pub(crate) struct IdempotencyHeader(Option<Sent>);

/// A key, and where it was sent.
struct Sent {
    key: String,
    method: String,
    route: String,
    path: Texts,
    replayed: Replayed,
}

impl IdempotencyHeader {
    /// The key within its scope: the client, the route, and a fingerprint of the request.
    pub(crate) fn scoped<S, T, const LIMIT: usize>(
        self,
        caller: &Caller<S>,
        body: &Body<T, LIMIT>,
    ) -> Result<Option<IdempotencyKey>, Error> {
        self.scoped_as(caller, body.minimal.as_ref().unwrap_or(&Value::Null))
    }

    /// The same for a request that stands for something else than its body.
    pub(crate) fn scoped_as<S>(self, caller: &Caller<S>, request: &Value) -> Result<Option<IdempotencyKey>, Error> {
        let (Some(client_id), Some(sent)) = (caller.client_id.clone(), self.0) else { return Ok(None) };
        let fingerprint = fingerprint(&sent.method, &sent.route, &sent.path, request)?;
        let route = format!("{} {}", sent.method, sent.route);
        let reach = caller.reach.clone();
        Ok(Some(IdempotencyKey { client_id, reach, route, key: sent.key, fingerprint, replayed: sent.replayed }))
    }
}

/// SHA-256, in hex, of the canonical JSON (RFC 8785) of method, route, parameters of the path, and a request without the
/// members that equal their default: two spellings of one request are the same, and a new optional member changes
/// nothing.
fn fingerprint(method: &str, route: &str, path: &Texts, request: &Value) -> Result<String, Error> {
    let whole = json!({ "method": method, "route": route, "path": path, "request": request });
    Ok(sha256_hex(&serde_json_canonicalizer::to_vec(&whole).map_err(Error::internal)?))
}

/// Whether a request has an `Idempotency-Key`.
pub(super) fn is_wanted(request: &HttpRequest) -> bool {
    request.headers().contains_key(HEADER)
}

impl FromRequest for IdempotencyHeader {
    type Error = Error;
    type Future = InTurn<Self>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        let mut values = request.headers().get_all(HEADER);
        let key = match (values.next(), values.next()) {
            (None, _) => return in_turn(request, Ok(Self(None))),
            (Some(value), None) => value.to_str().ok().and_then(parse),
            (Some(_), Some(_)) => None,
        };
        in_turn(request, key.map_or_else(|| Err(refused()), |key| sent(request, key)))
    }
}

fn refused() -> Error {
    Error::new(Code::InvalidHeader).detail("Idempotency-Key must be one key of 1 to 128 printable characters")
}

fn sent(request: &HttpRequest, key: String) -> Result<IdempotencyHeader, Error> {
    let (method, route) = (request.method().to_string(), Contract::operation(request)?.route().to_owned());
    let replayed = Replayed::default();
    request.extensions_mut().insert(replayed.clone());
    Ok(IdempotencyHeader(Some(Sent { key, method, route, path: path_texts(request)?, replayed })))
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

    /// The fingerprint of a request by the committed description.
    fn fingerprint_of(method: &str, route: &str, path: &[(&str, &str)], body: &str) -> String {
        let description = serde_json::from_str(include_str!("../../openapi/openapi.json")).unwrap();
        let contract = Contract::of(&description).unwrap();
        let operation = contract.of_route(method, route).unwrap();
        let mut body = crate::domain::json::parse(body.as_bytes()).ok().unwrap();
        operation.check_body(&mut body).unwrap();
        let path = path.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        fingerprint(method, route, &path, &operation.minimal(&body)).unwrap()
    }

    /// Keys that clients hold are kept with these: a change of the code must not change them.
    #[test]
    fn a_recorded_request_has_its_recorded_fingerprint() {
        let link = r#"{"tenant_id":"acme","portal":"cloud","consultant_id":"con_01kaq3v9e8fwmvd2x7n0c5hb3z",
            "reason":"Payroll run for November \u2013 वेतन","duration":{"value":4,"unit":"hours"},
            "profile":{"id":"emp-1042","name":"Asha Rao"},"issued_by":{"id":"emp-7","name":"Meera Iyer"},
            "starts_at":"2026-11-23T03:30:00Z"}"#;
        let spelled = r#"{"access":"full","starts_at":"2026-11-23T09:00:00.000+05:30","ticket":null,"portal":"cloud",
            "issued_by":{"name":"Meera Iyer","email":null,"id":"emp-7"},"duration":{"unit":"hours","value":4.0},
            "profile":{"name":"Asha Rao","id":"emp-1042"},"reason":"Payroll run for November – वेतन","tenant_id":"acme",
            "consultant_id":"con_01kaq3v9e8fwmvd2x7n0c5hb3z"}"#;
        let hold = r#"{"reason":"Labour court, case 2026-118"}"#;
        let holds = "/v1/audit-log/{tenant_id}/legal-holds";
        let recorded = [
            (
                "POST",
                "/v1/magic-links",
                &[][..],
                link,
                "16b8053ecbb0c9804b98749f5b856a3ca5aeeddeaecc70666bd412055b876ae8",
            ),
            (
                "POST",
                "/v1/magic-links",
                &[],
                spelled,
                "16b8053ecbb0c9804b98749f5b856a3ca5aeeddeaecc70666bd412055b876ae8",
            ),
            ("POST", "/v1/keys/rotate", &[], "{}", "cdf08747c4ea5e48606844f05f1bc63926764f65cd7a723e62c9e8017b266bb4"),
            (
                "POST",
                "/v1/keys/rotate",
                &[],
                r#"{"at_once":false}"#,
                "cdf08747c4ea5e48606844f05f1bc63926764f65cd7a723e62c9e8017b266bb4",
            ),
            (
                "POST",
                "/v1/keys/rotate",
                &[],
                r#"{"at_once":true}"#,
                "12082d7e68ff43812401eba9748191018dcf7d1e0719619990e680c36cadba1e",
            ),
            (
                "POST",
                holds,
                &[("tenant_id", "acme")],
                hold,
                "8f9b04e5e3d891e116ab4b2e25ca46208f5cd22918b4d6c5ab90aa641ad7b171",
            ),
            (
                "POST",
                holds,
                &[("tenant_id", "globex")],
                hold,
                "c568fa4cab0ab0e576151196d412962c3fc76786cead414dc0bdb495ea49c53a",
            ),
        ];
        for (method, route, path, body, hash) in recorded {
            assert_eq!(fingerprint_of(method, route, path, body), hash, "{route} {body}");
        }
    }

    #[test]
    fn a_key_is_taken_quoted_and_bare() {
        assert_eq!(parse("\"8e03978e\"").as_deref(), Some("8e03978e"));
        assert_eq!(parse(" 8e03978e ").as_deref(), Some("8e03978e"));
        for wrong in ["", "\"\"", "\"open", "two words", "a\"b", &"x".repeat(129)] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
