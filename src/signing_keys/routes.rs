//! `/.well-known/…`, `/v1/keys`

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, get, post};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::{RevokeKey, RevokedKey, RotateKey, SigningKey, SigningKeys};
use crate::context::Context;
use crate::error::Error;
use crate::http::{
    Admin, Body, Caller, Created, IdempotencyHeader, Json, PublicProblems, ReadProblems, WriteProblems, cached,
};

const JSON: &str = "application/json";

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

/// Where everything is, for libraries that find out by themselves (RFC 8414, OpenID Connect Discovery).
#[derive(Serialize, ToSchema)]
pub(crate) struct Discovery {
    /// `iss` of every token.
    #[schema(max_length = 500)]
    issuer: String,
    /// The public keys.
    #[schema(max_length = 500)]
    jwks_uri: String,
    /// Whether a session holds (RFC 7662).
    #[schema(max_length = 500)]
    introspection_endpoint: String,
    /// How a caller proves who it is there.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    introspection_endpoint_auth_methods_supported: Vec<&'static str>,
    /// Where a session is ended by its token (RFC 7009).
    #[schema(max_length = 500)]
    revocation_endpoint: String,
    /// How a caller proves who it is there.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    revocation_endpoint_auth_methods_supported: Vec<&'static str>,
    /// Every status list that a token can name (draft-ietf-oauth-status-list-21).
    #[schema(max_length = 500)]
    status_list_aggregation_endpoint: String,
    /// None: nobody is sent here to log in.
    #[schema(max_items = 10, value_type = Vec<Word>)]
    response_types_supported: Vec<&'static str>,
    /// `public`
    #[schema(max_items = 10, value_type = Vec<Word>)]
    subject_types_supported: Vec<&'static str>,
    /// `ES256`
    #[schema(max_items = 10, value_type = Vec<Word>)]
    id_token_signing_alg_values_supported: Vec<&'static str>,
}

/// A word of a standard; it stands in the API description only.
#[derive(ToSchema)]
#[schema(max_length = 64, example = "ES256")]
#[expect(dead_code, reason = "only its schema is used")]
struct Word(String);

impl Discovery {
    fn of(issuer: &str) -> Self {
        let methods = vec!["client_secret_basic"];
        Self {
            issuer: issuer.to_owned(),
            jwks_uri: format!("{issuer}/.well-known/jwks.json"),
            introspection_endpoint: format!("{issuer}/v1/introspect"),
            introspection_endpoint_auth_methods_supported: methods.clone(),
            revocation_endpoint: format!("{issuer}/v1/revoke"),
            revocation_endpoint_auth_methods_supported: methods,
            status_list_aggregation_endpoint: format!("{issuer}/v1/status-lists"),
            response_types_supported: Vec::new(),
            subject_types_supported: vec!["public"],
            id_token_signing_alg_values_supported: vec!["ES256"],
        }
    }
}

pub(crate) fn configure_discovery(service: &mut ServiceConfig) {
    service.service(get_jwks).service(get_openid_configuration).service(get_authorization_server);
}

/// The routes below `/v1`.
pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(list_keys).service(rotate_key).service(retire_key).service(revoke_key);
}

/// Public signing keys
///
/// Published at least a day before they sign, and until nothing they signed counts any more.
#[utoipa::path(tag = "Discovery", operation_id = "getJwks", security(()),
    responses((status = 200, body = JwkSet, description = "A JWK set"), PublicProblems))]
#[get("/.well-known/jwks.json")]
async fn get_jwks(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    let now = cx.clock.now();
    // Another copy may have added a key, or revoked one.
    cx.snapshot(None, None, now).await?;
    Ok(cached(&request, "public, max-age=300", JSON, &cx.tokens.jwks(now).to_string()))
}

/// OpenID Connect discovery
///
/// For libraries that look here for the issuer and its keys; nobody logs in here.
#[utoipa::path(tag = "Discovery", operation_id = "getOpenidConfiguration", security(()),
    responses((status = 200, body = Discovery, description = "Where everything is"), PublicProblems))]
#[get("/.well-known/openid-configuration")]
async fn get_openid_configuration(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    discovery(&cx, &request)
}

/// Authorization server metadata
///
/// The same as `openid-configuration`, where RFC 8414 wants it.
#[utoipa::path(tag = "Discovery", operation_id = "getAuthorizationServer", security(()),
    responses((status = 200, body = Discovery, description = "Where everything is"), PublicProblems))]
#[get("/.well-known/oauth-authorization-server")]
async fn get_authorization_server(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    discovery(&cx, &request)
}

fn discovery(cx: &Context, request: &HttpRequest) -> Result<HttpResponse, Error> {
    let text = serde_json::to_string(&Discovery::of(cx.tokens.issuer())).map_err(Error::internal)?;
    Ok(cached(request, "public, max-age=3600", JSON, &text))
}

/// List signing keys
///
/// The newest first, those that have gone included.
#[utoipa::path(tag = "Signing keys", operation_id = "listKeys",
    responses((status = 200, body = SigningKeys, description = "The keys"), ReadProblems))]
#[get("/keys")]
async fn list_keys(cx: Data<Context>, caller: Caller<Admin>) -> Result<Json<SigningKeys>, Error> {
    Ok(Json(super::list(&cx, &caller, cx.clock.now()).await?))
}

/// Publish a new signing key
///
/// It signs from 24 hours later on, or with `at_once` from a minute later on. Keys
/// before it stay published until nothing they signed can count.
#[utoipa::path(tag = "Signing keys", operation_id = "rotateKey", request_body = RotateKey,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 128, description = "Makes a repeat safe")),
    responses((status = 201, body = SigningKey, description = "The new key"), WriteProblems))]
#[post("/keys/rotate")]
async fn rotate_key(
    cx: Data<Context>,
    caller: Caller<Admin>,
    idempotency: IdempotencyHeader,
    body: Body<RotateKey>,
) -> Result<Created<SigningKey>, Error> {
    let once = idempotency.scoped(&caller, "POST /v1/keys/rotate", || body.fingerprint());
    let (key, replayed) = super::rotate(&cx, &caller, &body.value, once, cx.clock.now()).await?;
    Ok(Created { value: key, replayed })
}

/// Retire a signing key
///
/// It signs no more, and what it signed counts on. Refused while no other key could sign.
#[utoipa::path(tag = "Signing keys", operation_id = "retireKey",
    params(("id" = String, Path, max_length = 64, example = "demo", description = "The key's `kid`")),
    responses((status = 200, body = SigningKey, description = "The key"), WriteProblems))]
#[post("/keys/{id}/retire")]
async fn retire_key(cx: Data<Context>, caller: Caller<Admin>, kid: Path<String>) -> Result<Json<SigningKey>, Error> {
    Ok(Json(super::retire(&cx, &caller, kid.into_inner(), cx.clock.now()).await?))
}

/// Drop a signing key
///
/// For a key that may be in the wrong hands: it is gone at once, its unspent
/// links are revoked and its sessions ended, in one act.
#[utoipa::path(tag = "Signing keys", operation_id = "revokeKey", request_body = RevokeKey,
    params(("id" = String, Path, max_length = 64, example = "demo", description = "The key's `kid`")),
    responses((status = 200, body = RevokedKey, description = "What went with it"), WriteProblems))]
#[post("/keys/{id}/revoke")]
async fn revoke_key(
    cx: Data<Context>,
    caller: Caller<Admin>,
    kid: Path<String>,
    body: Body<RevokeKey>,
) -> Result<Json<RevokedKey>, Error> {
    Ok(Json(super::revoke_key(&cx, &caller, kid.into_inner(), body.value, cx.clock.now()).await?))
}
