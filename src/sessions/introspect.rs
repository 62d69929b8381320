//! Introspection (RFC 7662): whether a session holds, at this very moment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{TokenType, store};
use crate::app::App;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::{Caller, IntrospectSessions};
use crate::id::{LinkId, SessionId};
use crate::links::Access;
use crate::tokens::{AccessClaims, Act};

/// A token to ask about.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
pub struct IntrospectionRequest {
    /// The access token.
    #[schema(max_length = 4096)]
    pub token: String,
}

/// What a token is worth. Inactive is `{"active": false}` and nothing else, never why.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Introspection {
    /// Whether the session holds. The other members are there only if it does.
    active: bool,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    iss: Option<String>,
    /// The portal's audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    aud: Option<String>,
    /// The profile's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    sub: Option<String>,
    /// Who acts as the profile (RFC 8693): the consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor>,
    /// The client that opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    client_id: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<i64>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    /// Seconds since 1970; there is no grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<i64>,
    /// The token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    jti: Option<String>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<SessionId>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<TokenType>,
    /// The customer company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    tenant_id: Option<String>,
    /// The portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<String>,
    /// How much the consultant may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
    /// The profile's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    profile_name: Option<String>,
    /// The consultant's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    consultant_name: Option<String>,
    /// The consultant's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    consultant_email: Option<String>,
    /// Why access was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// The link behind the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
}

/// Who acts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Actor {
    /// The consultant's id.
    #[schema(max_length = 64)]
    sub: String,
}

/// Says whether the session behind a token of the caller's own portal and tenants holds.
///
/// # Errors
/// `unavailable` when the store cannot be asked: never `active`, and never `inactive` either.
pub(crate) async fn introspect(
    app: &App,
    caller: &Caller<IntrospectSessions>,
    token: &str,
    now: Timestamp,
) -> Result<Introspection, Error> {
    let portals = app.config.portals.iter();
    let audiences: Vec<&str> = portals
        .filter(|(id, _)| caller.reach.portal.as_ref().is_none_or(|own| own == *id))
        .map(|(_, portal)| portal.audience.as_str())
        .collect();
    let Ok(claims) = app.tokens.verify::<AccessClaims>(token, &audiences, now) else {
        return Ok(Introspection::default());
    };
    if claims.nbf > now.unix_seconds() || !caller.reach.covers(&claims.tenant_id, &claims.portal) {
        return Ok(Introspection::default());
    }
    let sid = claims.sid.clone();
    let Some(live) = app.db.read(move |conn| Ok(store::find_live(conn, &sid, now)?)).await? else {
        return Ok(Introspection::default());
    };
    Ok(active(claims, live))
}

fn active(claims: AccessClaims, live: store::Live) -> Introspection {
    let Act { sub: consultant } = claims.act;
    Introspection {
        active: true,
        iss: Some(claims.iss),
        aud: Some(claims.aud),
        sub: Some(claims.sub),
        act: Some(Actor { sub: consultant.to_string() }),
        client_id: Some(claims.client_id),
        iat: Some(claims.iat),
        nbf: Some(claims.nbf),
        exp: Some(claims.exp),
        jti: Some(claims.jti),
        sid: Some(claims.sid),
        token_type: Some(TokenType::Bearer),
        tenant_id: Some(claims.tenant_id),
        portal: Some(claims.portal),
        access: Some(claims.access),
        profile_name: Some(live.profile_name),
        consultant_name: Some(live.consultant_name),
        consultant_email: Some(live.consultant_email),
        reason: Some(live.reason),
        magic_link_id: Some(live.magic_link_id),
    }
}
