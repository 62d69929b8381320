//! `/.well-known/jwks.json`

use actix_web::http::header::{CACHE_CONTROL, ETAG, EntityTag, Header, IfNoneMatch};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::app::App;
use crate::http::{PublicProblems, sha256_hex};

/// A JWK set (RFC 7517).
#[derive(Serialize, ToSchema)]
pub(crate) struct JwkSet {
    /// The public keys.
    #[schema(max_items = 100)]
    keys: Vec<Jwk>,
}

/// A public signing key (RFC 7517, RFC 7518).
#[derive(Serialize, ToSchema)]
pub(crate) struct Jwk {
    /// `EC`
    #[schema(max_length = 8)]
    kty: String,
    /// `sig`
    #[serde(rename = "use")]
    #[schema(max_length = 8)]
    key_use: String,
    /// `ES256`
    #[schema(max_length = 8)]
    alg: String,
    /// The key's name in token headers: its RFC 7638 thumbprint.
    #[schema(max_length = 64)]
    kid: String,
    /// `P-256`
    #[schema(max_length = 8)]
    crv: String,
    /// First coordinate.
    #[schema(max_length = 64)]
    x: String,
    /// Second coordinate.
    #[schema(max_length = 64)]
    y: String,
}

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(get_jwks);
}

/// Public signing keys
///
/// Published at least a day before they sign, and until nothing they signed counts any more.
#[utoipa::path(tag = "Discovery", operation_id = "getJwks", security(()),
    responses((status = 200, body = JwkSet, description = "A JWK set"), PublicProblems))]
#[get("/.well-known/jwks.json")]
async fn get_jwks(app: Data<App>, request: HttpRequest) -> HttpResponse {
    let body = app.tokens.jwks(app.clock.now()).to_string();
    let tag = EntityTag::new_strong(sha256_hex(body.as_bytes()).chars().take(32).collect());
    let unchanged = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|one| one.weak_eq(&tag)),
        _ => false,
    };
    let mut answer = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((CACHE_CONTROL, "public, max-age=300")).insert_header((ETAG, tag));
    if unchanged { answer.finish() } else { answer.content_type("application/json").body(body) }
}
