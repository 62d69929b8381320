//! `/.well-known/…` and `/v1/keys`

use actix_web::web::{Data, ServiceConfig as PageConfig, resource};
use actix_web::{HttpRequest, HttpResponse, get, post};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{RevokeKey, RevokedKey, RotateKey, SigningKey, SigningKeys};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, KeyId};
use crate::error::Error;
use crate::http::{Admin, Body, Caller, Created, IdempotencyHeader, Json, NoMembers, Path, cached};

const JSON: &str = "application/json";

/// JWK set (RFC 7517).
#[derive(Serialize, ToSchema)]
pub(crate) struct JwkSet {
    /// Public signing keys.
    #[schema(max_items = 100)]
    keys: Vec<Jwk>,
}

/// Public signing key (JWK: RFC 7517, RFC 7518).
#[derive(Serialize, ToSchema)]
pub(crate) struct Jwk {
    /// Key type: always `EC`.
    #[schema(max_length = 8)]
    kty: String,
    /// Use of the key: always `sig`, for signatures.
    #[serde(rename = "use")]
    #[schema(max_length = 8)]
    key_use: String,
    /// Signature algorithm: always `ES256`.
    #[schema(max_length = 8)]
    alg: String,
    /// Identifier of the key, as in the header of tokens: its JWK thumbprint (RFC 7638).
    #[schema(max_length = 64)]
    kid: String,
    /// Elliptic curve of the key: always `P-256`.
    #[schema(max_length = 8)]
    crv: String,
    /// X coordinate of the curve point (base64url, RFC 7518).
    #[schema(max_length = 64)]
    x: String,
    /// Y coordinate of the curve point (base64url, RFC 7518).
    #[schema(max_length = 64)]
    y: String,
}

/// Authorization server metadata (RFC 8414, OpenID Connect Discovery 1.0).
#[derive(Serialize, ToSchema)]
pub(crate) struct Discovery {
    /// Issuer: `iss` claim of every token.
    #[schema(max_length = 500)]
    issuer: String,
    /// URL of the JWK set (RFC 7517).
    #[schema(max_length = 500)]
    jwks_uri: String,
    /// URL of the token introspection endpoint (RFC 7662).
    #[schema(max_length = 500)]
    introspection_endpoint: String,
    /// Client authentication methods of the introspection endpoint.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    /// URL of the token revocation endpoint (RFC 7009).
    #[schema(max_length = 500)]
    revocation_endpoint: String,
    /// Client authentication methods of the revocation endpoint.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    /// URL of the list of status lists (draft-ietf-oauth-status-list-21).
    #[schema(max_length = 500)]
    status_list_aggregation_endpoint: String,
    /// Signature algorithms of signed introspection responses (RFC 9701): `ES256`.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    introspection_signing_alg_values_supported: Vec<&'static str>,
    /// Supported grant types: none, because there is no token endpoint.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    grant_types_supported: Vec<&'static str>,
    /// Supported response types: none, because there is no authorization endpoint.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    response_types_supported: Vec<&'static str>,
    /// Supported subject identifier types: `public`.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    subject_types_supported: Vec<&'static str>,
    /// Supported signature algorithms of ID tokens: `ES256`. Required by the standard; no ID tokens are issued.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    id_token_signing_alg_values_supported: Vec<&'static str>,
}

/// Value registered by a standard.
#[derive(ToSchema)]
#[schema(max_length = 64, example = "ES256")]
#[expect(dead_code, reason = "only its schema is used")]
struct Word(String);

impl Discovery {
    fn of(issuer: &str, public_url: &str) -> Self {
        let methods = vec!["client_secret_basic", "client_secret_post"];
        Self {
            issuer: issuer.to_owned(),
            jwks_uri: format!("{public_url}/.well-known/jwks.json"),
            introspection_endpoint: format!("{public_url}/v1/introspect"),
            introspection_endpoint_auth_methods_supported: methods.clone(),
            revocation_endpoint: format!("{public_url}/v1/revoke"),
            revocation_endpoint_auth_methods_supported: methods,
            status_list_aggregation_endpoint: format!("{public_url}/v1/status-lists"),
            introspection_signing_alg_values_supported: vec!["ES256"],
            grant_types_supported: Vec::new(),
            response_types_supported: Vec::new(),
            subject_types_supported: vec!["public"],
            id_token_signing_alg_values_supported: vec!["ES256"],
        }
    }
}

pub(crate) fn configure_discovery(service: &mut ServiceConfig) {
    service.service(get_jwks).service(get_openid_configuration).service(get_authorization_server);
}

/// The metadata of a sandbox, where libraries look for that of its issuer, whose path is `/sandbox`.
pub(crate) fn configure_sandbox(service: &mut PageConfig) {
    for path in ["/sandbox/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/sandbox"] {
        service.service(resource(path).get(get_sandbox_metadata));
    }
}

async fn get_sandbox_metadata(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    discovery(&cx, &request)
}

/// The routes below `/v1`.
pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(list_keys).service(rotate_key).service(retire_key).service(revoke_key);
}

/// Public signing keys
///
/// Normally published a day before they sign (see `rotateKey`), and until everything they
/// signed has expired.
#[utoipa::path(tag = "Discovery", operation_id = "getJwks", security(()),
    responses((status = 200, body = JwkSet, description = "JWK set of the public keys")))]
#[get("/.well-known/jwks.json")]
async fn get_jwks(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    let now = cx.clock.now();
    // Another instance may have added or revoked a key.
    cx.snapshot(None, None, now).await?;
    Ok(cached(&request, "public, max-age=300", JSON, &cx.tokens.jwks(now).to_string()))
}

/// OpenID Connect discovery
///
/// For libraries that read the issuer and its keys from here. There is no login.
#[utoipa::path(tag = "Discovery", operation_id = "getOpenidConfiguration", security(()),
    responses((status = 200, body = Discovery, description = "Metadata of the issuer")))]
#[get("/.well-known/openid-configuration")]
async fn get_openid_configuration(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    discovery(&cx, &request)
}

/// Authorization server metadata
///
/// The same document as `openid-configuration`, at the path of RFC 8414.
#[utoipa::path(tag = "Discovery", operation_id = "getAuthorizationServer", security(()),
    responses((status = 200, body = Discovery, description = "Metadata of the issuer")))]
#[get("/.well-known/oauth-authorization-server")]
async fn get_authorization_server(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    discovery(&cx, &request)
}

fn discovery(cx: &Context, request: &HttpRequest) -> Result<HttpResponse, Error> {
    let text =
        serde_json::to_string(&Discovery::of(cx.tokens.issuer(), &cx.config.public_url)).map_err(Error::internal)?;
    Ok(cached(request, "public, max-age=3600", JSON, &text))
}

/// List signing keys
///
/// All that are published, and the newest others.
#[utoipa::path(tag = "Signing keys", operation_id = "listKeys",
    responses((status = 200, body = SigningKeys, description = "The keys")))]
#[get("/keys")]
async fn list_keys(cx: Data<Context>, caller: Caller<Admin>) -> Result<Json<SigningKeys>, Error> {
    Ok(Json(super::list(&cx, &caller, cx.clock.now()).await?))
}

/// Publish a new signing key
///
/// The key begins to sign after 24 hours, or with `at_once` after a minute. Earlier
/// keys stay published until everything they signed has expired: 100 at most.
#[utoipa::path(tag = "Signing keys", operation_id = "rotateKey", request_body = RotateKey,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 201, body = SigningKey, description = "The new key")))]
#[post("/keys/rotate")]
async fn rotate_key(
    cx: Data<Context>,
    caller: Caller<Admin>,
    idempotency: IdempotencyHeader,
    body: Body<RotateKey>,
) -> Result<Created<SigningKey>, Error> {
    let once = idempotency.scoped(&caller, &body)?;
    let key = super::rotate(&cx, &caller, &body.value, once, cx.clock.now()).await?;
    Ok(Created { location: None, value: key })
}

/// Retire a signing key
///
/// The key stops signing; what it signed stays valid. Refused if no other key can sign.
#[utoipa::path(tag = "Signing keys", operation_id = "retireKey",
    params(("id" = KeyId, Path, example = "demo", description = "Identifier of the key (`kid`)")),
    responses((status = 200, body = SigningKey, description = "The key")))]
#[post("/keys/{id}/retire")]
async fn retire_key(
    cx: Data<Context>,
    caller: Caller<Admin>,
    kid: Path<String>,
    _body: Body<NoMembers>,
) -> Result<Json<SigningKey>, Error> {
    Ok(Json(super::retire(&cx, &caller, kid.into_inner(), cx.clock.now()).await?))
}

/// Revoke a signing key
///
/// For a key that may be compromised: it expires at once, links with unspent tokens
/// that it signed are revoked, and sessions with its access tokens, or opened with
/// its link tokens or codes, are ended. All of it is refused from the response on;
/// of many links and sessions, a worker records the end (`done_at`).
#[utoipa::path(tag = "Signing keys", operation_id = "revokeKey", request_body = RevokeKey,
    params(("id" = KeyId, Path, example = "demo", description = "Identifier of the key (`kid`)")),
    responses((status = 200, body = RevokedKey, description = "The key, and what was revoked with it")))]
#[post("/keys/{id}/revoke")]
async fn revoke_key(
    cx: Data<Context>,
    caller: Caller<Admin>,
    kid: Path<String>,
    body: Body<RevokeKey>,
) -> Result<Json<RevokedKey>, Error> {
    Ok(Json(super::revoke_key(&cx, &caller, kid.into_inner(), body.value, cx.clock.now()).await?))
}
