//! Introspection (RFC 7662): whether the session of an access token is active now.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{CachedIntrospection, LiveSession};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Access, Forbidden, ModuleName, TokenType};
use crate::error::Error;
use crate::http::{IntrospectSessions, TokenRequest};
use crate::id::{ClientId, LinkId, SessionId};
use crate::records::sessions::ends_soon;
use crate::tokens::{Claims, Tokens, Verified};

/// Token introspection request (RFC 7662).
#[derive(ToSchema)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
#[expect(dead_code, reason = "only its schema is used")]
pub struct IntrospectionRequest {
    /// Access token to introspect. Any other text is an inactive token.
    #[schema(max_length = 65536, examples("eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
    /// Ignored: every token is an access token.
    #[schema(max_length = 65536, examples("access_token"))]
    token_type_hint: Option<String>,
    /// Identifier of the client, with `client_secret`; instead of the `Authorization` header.
    #[schema(max_length = 64, examples("cli_01kaq3v9e8fwmvd2x7n0c5hb4z"))]
    client_id: Option<String>,
    /// API key of the client (`client_secret_post`); not beside an `Authorization` header.
    #[schema(
        max_length = 128,
        examples("mlsk_01kaq3v9e8fwmvd2x7n0c5hb4z_0123456789012345678901234567890123456789012")
    )]
    client_secret: Option<String>,
}

/// Token introspection response (RFC 7662). For an inactive token it is `{"active": false}`, without a reason.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Introspection<'a> {
    /// Whether the token's session is active. The other members are present only if it is.
    active: bool,
    /// Issuer of the token: the public URL of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    iss: Option<&'a str>,
    /// Audience of the token, as configured for the portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    aud: Option<&'a str>,
    /// Subject of the token: the portal's identifier of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    sub: Option<&'a str>,
    /// Consultant who acts as the profile (actor claim, RFC 8693).
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<ActorClaim<'a>>,
    /// Identifier of the API client that opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    client_id: Option<&'a str>,
    /// When the token was issued, in seconds since 1970-01-01T00:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Time from which the token is valid, in seconds since 1970-01-01T00:00:00Z.
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// When the session expires, in seconds since 1970-01-01T00:00:00Z: no later than the token, and sooner where its link
    /// was shortened. There is no leeway.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// Whether the session ends within 15 minutes: time to save, and to say how the next visit begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_soon: Option<bool>,
    /// Identifier of the token (RFC 7519 `jti`): that of its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    jti: Option<&'a str>,
    /// Identifier of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a SessionId>,
    /// Type of the token: always `Bearer` (RFC 6750).
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<TokenType>,
    /// Portal's identifier of the tenant (customer company).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    tenant_id: Option<&'a str>,
    /// Identifier of the portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<&'a str>,
    /// Access level of the consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
    /// Portal's words for the only modules that the consultant may enter; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    modules: Option<&'a [String]>,
    /// What the consultant must not do, though the profile may; absent where nothing is forbidden.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(max_items = 10, required = false)]
    forbidden: &'a [Forbidden],
    /// Name of the profile the consultant acts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    profile_name: Option<&'a str>,
    /// Name of the consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    consultant_name: Option<&'a str>,
    /// E-mail address of the consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    consultant_email: Option<&'a str>,
    /// Why access was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<&'a str>,
    /// Identifier of the link that opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<&'a LinkId>,
}

/// Actor claim (RFC 8693): the consultant who acts as the profile.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ActorClaim<'a> {
    /// Identifier of the consultant.
    #[schema(max_length = 64)]
    sub: &'a str,
}

/// The result of an introspection.
pub(super) struct Answer {
    /// The authenticated caller.
    pub client_id: ClientId,
    /// The response as JSON of an active token; `None` for an inactive one, whatever the reason.
    pub active: Option<Bytes>,
}

/// Claims of a signed introspection response (RFC 9701), which the caller can pass on as proof.
#[derive(Serialize, Deserialize)]
struct SignedIntrospection {
    iss: String,
    /// The caller's client identifier: the response is for that client only.
    aud: String,
    iat: i64,
    token_introspection: serde_json::Value,
}

impl Claims for SignedIntrospection {
    const TYP: &'static str = "token-introspection+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }
}

/// Signs an introspection response for the caller. It has no `sub` and no `exp`, so that it cannot be mistaken for an
/// access token (RFC 9701).
pub(super) fn sign(cx: &Context, answer: &Answer, now: Timestamp) -> Result<String, Error> {
    let told = match &answer.active {
        Some(json) => serde_json::from_slice(json),
        None => serde_json::to_value(Introspection::default()),
    };
    let claims = SignedIntrospection {
        iss: cx.tokens.issuer().to_owned(),
        aud: answer.client_id.to_string(),
        iat: now.unix_seconds(),
        token_introspection: told.map_err(Error::internal)?,
    };
    cx.tokens.sign(&claims, now)
}

/// Returns the response for an access token whose session is active and within the caller's portal and tenants.
///
/// One snapshot, read after the request arrived, contains the caller, the session that the token claims,
/// its link, its consultant and the epoch of the signing keys. Who asks is judged before the token's signature is verified.
///
/// # Errors
/// `unavailable` when the store is unavailable: the state is then unknown, and neither answer would be true.
pub(super) async fn introspect(
    cx: &Context,
    request: &TokenRequest<IntrospectSessions>,
    now: Timestamp,
) -> Result<Answer, Error> {
    let token = request.token.as_deref().unwrap_or_default();
    let known = cx.tokens.verified_before(token);
    let claimed = known.as_ref().map(|token| token.sid.clone()).or_else(|| Tokens::claimed_session(token));
    let state = cx.snapshot(Some(request.presented.client_id()), claimed.as_ref(), now).await?;
    let client = request.presented.authenticate(state.client, now)?;
    // Errors of the form are reported only to an authenticated caller.
    request.token.as_ref().map_err(Clone::clone)?;
    let client_id = client.id.clone();
    // After the snapshot, which has brought new signing keys: a key may also have been revoked meanwhile.
    let verified = match known {
        Some(known) if cx.tokens.still_counts(&known, now) => Some(known),
        _ => cx.tokens.verify_access(token, now),
    };
    let verified = verified.filter(|token| Some(&token.sid) == claimed.as_ref());
    let (Some(verified), Some(live)) = (verified, state.session) else {
        return Ok(Answer { client_id, active: None });
    };
    let told = told(token, &verified, &live, now)?;
    let own_portal = cx.config.portals.get(&told.portal).is_some_and(|portal| portal.audience == told.audience);
    let holds = own_portal && client.reach.covers(&told.tenant_id, &told.portal);
    Ok(Answer { client_id, active: holds.then(|| told.json.clone()) })
}

/// What is told of an active session. It is written once and cached with the session, because the claims do not change,
/// and the session's data not without a new access epoch.
fn told(
    token: &str,
    verified: &Verified,
    live: &LiveSession,
    now: Timestamp,
) -> Result<Arc<CachedIntrospection>, Error> {
    let ends_soon = ends_soon(live.expires_at, now);
    let [early, late] = &live.introspection;
    let cache = if ends_soon { late } else { early };
    if let Some(told) = cache.get().filter(|told| told.claims == verified.claims) {
        return Ok(Arc::clone(told));
    }
    let claims = Tokens::claims_of_verified(token)?;
    let introspection = Introspection {
        active: true,
        iss: Some(&claims.iss),
        aud: Some(&claims.aud),
        sub: Some(&claims.sub),
        act: Some(ActorClaim { sub: claims.act.sub.as_str() }),
        client_id: Some(&claims.client_id),
        iat: Some(claims.iat),
        nbf: Some(claims.nbf),
        // Sooner than the token says where its link was shortened.
        exp: Some(claims.exp.min(live.expires_at.unix_seconds())),
        ends_soon: Some(ends_soon),
        jti: Some(&claims.jti),
        sid: Some(&claims.sid),
        token_type: Some(TokenType::Bearer),
        tenant_id: Some(&claims.tenant_id),
        portal: Some(&claims.portal),
        access: Some(claims.access),
        modules: claims.modules.as_deref(),
        forbidden: &claims.forbidden,
        profile_name: Some(&live.profile_name),
        consultant_name: Some(&live.consultant_name),
        consultant_email: Some(&live.consultant_email),
        reason: Some(&live.reason),
        magic_link_id: Some(&live.magic_link_id),
    };
    let json = Bytes::from(serde_json::to_vec(&introspection).map_err(Error::internal)?);
    let told = Arc::new(CachedIntrospection {
        claims: verified.claims,
        audience: claims.aud,
        portal: claims.portal,
        tenant_id: claims.tenant_id,
        json,
    });
    // Another request may have filled the cache first; its response serves as well.
    drop(cache.set(Arc::clone(&told)));
    Ok(told)
}
