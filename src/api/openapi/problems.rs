//! The problems of each operation. What every call of a kind can be refused for follows from its description; what else
//! an operation refuses stands in [`super::operations`]. Operations that refuse the same share the response.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::operations::{self, of_operation, parameters};
use super::responses::header;
use crate::error::Code;

/// Operations that read nothing: they cannot fail with the database.
const WITHOUT_STORE: &[&str] = &["getHealth", "getOpenidConfiguration", "getAuthorizationServer"];

/// Most codes whose names together make the name of a response.
const NAMED: usize = 3;

/// Describes the problems of all operations.
pub(super) fn describe(description: &mut Value) {
    let mut shared = Map::new();
    let mut met = BTreeSet::new();
    operations::for_each(description, |path, operation| {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let mut by_status: BTreeMap<u16, BTreeSet<Code>> = BTreeMap::new();
        for code in of_its_kind(path, &id, operation).into_iter().chain(of_operation(&id).codes.iter().copied()) {
            by_status.entry(code.status()).or_default().insert(code);
            met.insert(code);
        }
        let Some(responses) = operation["responses"].as_object_mut() else { return };
        for (status, codes) in by_status {
            let codes: Vec<Code> = codes.into_iter().collect();
            let name = name(&id, status, &codes);
            responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
            shared.entry(name).or_insert_with(|| response(&codes));
        }
    });
    let examples: Map<String, Value> = met.into_iter().map(|code| (code.slug().to_owned(), example(code))).collect();
    if let Some(components) = description.get_mut("components").and_then(Value::as_object_mut) {
        components.insert("responses".into(), shared.into());
        components.insert("examples".into(), examples.into());
    }
}

/// What every operation with these parameters, this body and this security can be refused for.
fn of_its_kind(path: &str, id: &str, operation: &Value) -> Vec<Code> {
    // The head of any request.
    let mut codes = vec![Code::InvalidRequest, Code::RequestTimeout, Code::TargetTooLong, Code::HeadersTooLarge];
    let mut add = |applies: bool, more: &[Code]| {
        if applies {
            codes.extend_from_slice(more);
        }
    };
    let has = |place: &str, name: Option<&str>| {
        parameters(operation).any(|one| one["in"] == place && name.is_none_or(|name| one["name"] == name))
    };
    add(id != "getHealth", &[Code::Internal]);
    add(!WITHOUT_STORE.contains(&id), &[Code::DatabaseFault, Code::MasterKeyMismatch, Code::Unavailable]);
    let is_versioned = path.starts_with("/v1/");
    let is_secured = operation["security"] != json!([{}]);
    add(is_versioned, &[Code::InvalidQuery]);
    add(is_secured, &[Code::Unauthenticated, Code::InsufficientScope]);
    add(is_secured || path.starts_with("/l/"), &[Code::RateLimited]);
    add(has("path", None), &[Code::InvalidId]);
    add(has("query", Some("cursor")), &[Code::InvalidCursor]);
    let takes_key = has("header", Some("Idempotency-Key"));
    add(takes_key, &[Code::InvalidHeader, Code::IdempotencyKeyInFlight, Code::IdempotencyKeyReused]);
    // What a repeat would read may be gone, or out of reach; consultants and keys are never.
    add(takes_key && !["registerConsultant", "rotateKey"].contains(&id), &[Code::NotFound]);
    add(
        operation["requestBody"].is_object(),
        &[Code::InvalidBody, Code::RequestTimeout, Code::BodyTooLarge, Code::UnsupportedMediaType],
    );
    codes
}

/// The name of a response: that of its codes, or that of its only operation where these are many.
fn name(operation: &str, status: u16, codes: &[Code]) -> String {
    let words = |slug: &str| slug.split('_').map(capitalised).collect::<String>();
    let is_invalid = |code: &Code| code.slug().starts_with("invalid_");
    if codes.len() > 1 && codes.iter().all(is_invalid) {
        let what = codes.iter().map(|code| words(code.slug().trim_start_matches("invalid_")));
        return format!("Invalid{}", what.collect::<Vec<_>>().join("Or"));
    }
    if codes.len() <= NAMED {
        return codes.iter().map(|code| words(code.slug())).collect::<Vec<_>>().join("Or");
    }
    let reason = actix_web::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    format!("{}{}", capitalised(operation), reason.unwrap_or_default().replace(' ', ""))
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

/// The response with these codes of one status.
fn response(codes: &[Code]) -> Value {
    let told: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.slug(), code.title())).collect();
    let examples = codes
        .iter()
        .map(|code| (code.slug().to_owned(), json!({ "$ref": format!("#/components/examples/{}", code.slug()) })));
    let mut response = json!({
        "description": told.join("; "),
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "examples": examples.collect::<Map<_, _>>(),
        } },
    });
    let headers: Map<String, Value> = codes.iter().flat_map(|code| headers(*code)).collect();
    if let (Some(members), false) = (response.as_object_mut(), headers.is_empty()) {
        members.insert("headers".into(), headers.into());
    }
    response
}

/// The headers of a response with this code.
fn headers(code: Code) -> Vec<(String, Value)> {
    let wait = || header("Retry-After", "Seconds to wait, where waiting helps", &json!(2));
    match code {
        Code::Unauthenticated => vec![header(
            "WWW-Authenticate",
            "Schemes that are taken, one header each: Bearer and Basic (RFC 9110)",
            &json!("Bearer realm=\"magic-link\""),
        )],
        Code::SignatureInvalid => vec![header(
            "WWW-Authenticate",
            "Scheme by which some providers prove their reports (RFC 9110)",
            &json!("Basic realm=\"mail-events\""),
        )],
        Code::RateLimited => vec![
            wait(),
            header(
                "RateLimit",
                "State of the limit of calls that was exceeded (draft-ietf-httpapi-ratelimit-headers)",
                &json!("\"client\";r=0;t=2"),
            ),
            header(
                "RateLimit-Policy",
                "The limit of calls that was exceeded (draft-ietf-httpapi-ratelimit-headers)",
                &json!("\"client\";q=600;w=60"),
            ),
        ],
        Code::IdempotencyKeyInFlight | Code::ResendCoolDown => vec![wait()],
        _ if code.status() == 503 => vec![wait()],
        _ => Vec::new(),
    }
}

/// A problem document with this code.
fn example(code: Code) -> Value {
    let mut value = json!({
        "type": format!("http://127.0.0.1:8080/problems#{}", code.slug()),
        "title": code.title(),
        "status": code.status(),
        "instance": "/v1/magic-links",
        "code": code.slug(),
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    let at_fault = match code {
        Code::InvalidBody => Some(("/reason", "required", "is missing")),
        Code::InvalidQuery => Some(("/page_size", "malformed", "must be a whole number of at least 1")),
        Code::InvalidId => Some(("/id", "malformed", "must be mlk_ and 26 characters of lowercase base 32")),
        Code::ValidationFailed => Some(("/reason", "too_short", "must have at least 10 characters")),
        Code::PolicyForbids => Some(("/duration", "max_duration", "must be at most 8 hours")),
        _ => None,
    };
    let errors = at_fault.map(|(pointer, code, detail)| {
        ("errors".to_owned(), json!([{ "pointer": pointer, "code": code, "detail": detail }]))
    });
    let names_a_link = matches!(code, Code::AccessExists | Code::RequestExists | Code::ReviewDue);
    let link = names_a_link.then(|| ("magic_link_id".to_owned(), json!("mlk_01kaq3v9e8fwmvd2x7n0c5hb1z")));
    if let Some(members) = value.as_object_mut() {
        members.extend(errors.into_iter().chain(link));
    }
    json!({ "summary": code.title(), "value": value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_named_after_what_it_says() {
        let invalid = [Code::InvalidRequest, Code::InvalidBody, Code::InvalidQuery, Code::InvalidId];
        let gone = [Code::LinkSpent, Code::LinkRevoked, Code::LinkExpired, Code::TokenExpired];
        for (codes, named) in [
            (&[Code::NotFound][..], "NotFound"),
            (&[Code::InsufficientScope, Code::ClientNotPermitted], "InsufficientScopeOrClientNotPermitted"),
            (&invalid, "InvalidRequestOrBodyOrQueryOrId"),
            (&gone, "OpenSessionGone"),
        ] {
            assert_eq!(name("openSession", codes[0].status(), codes), named);
        }
    }
}
