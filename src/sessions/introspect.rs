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
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Introspection {
    /// Whether the session holds.
    active: bool,
    /// The rest, for an active token.
    #[serde(flatten)]
    #[schema(inline)]
    details: Option<Details>,
}

/// What is known of an active token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Details {
    /// The service.
    #[schema(max_length = 500)]
    iss: String,
    /// The portal's audience.
    #[schema(max_length = 500)]
    aud: String,
    /// The profile's id.
    #[schema(max_length = 128)]
    sub: String,
    /// Who acts as the profile (RFC 8693): the consultant.
    act: Actor,
    /// The client that opened the session.
    #[schema(max_length = 64)]
    client_id: String,
    /// Seconds since 1970.
    iat: i64,
    /// Seconds since 1970.
    nbf: i64,
    /// Seconds since 1970; there is no grace.
    exp: i64,
    /// The token's id.
    #[schema(max_length = 64)]
    jti: String,
    /// The session.
    sid: SessionId,
    /// `Bearer`.
    token_type: TokenType,
    /// The customer company.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// The portal.
    #[schema(max_length = 32)]
    portal: String,
    /// How much the consultant may do.
    access: Access,
    /// The profile's name.
    #[schema(max_length = 100)]
    profile_name: String,
    /// The consultant's name.
    #[schema(max_length = 100)]
    consultant_name: String,
    /// The consultant's address.
    #[schema(max_length = 254)]
    consultant_email: String,
    /// Why access was given.
    #[schema(max_length = 500)]
    reason: String,
    /// The link behind the session.
    magic_link_id: LinkId,
}

/// Who acts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Actor {
    /// The consultant's id.
    #[schema(max_length = 64)]
    sub: String,
}

impl Introspection {
    const INACTIVE: Self = Self { active: false, details: None };
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
        return Ok(Introspection::INACTIVE);
    };
    if claims.nbf > now.unix_seconds() || !caller.reach.covers(&claims.tenant_id, &claims.portal) {
        return Ok(Introspection::INACTIVE);
    }
    let sid = claims.sid.clone();
    let Some(live) = app.db.read(move |conn| Ok(store::find_live(conn, &sid, now)?)).await? else {
        return Ok(Introspection::INACTIVE);
    };
    Ok(Introspection { active: true, details: Some(details(claims, live)) })
}

fn details(claims: AccessClaims, live: store::Live) -> Details {
    let Act { sub: consultant } = claims.act;
    Details {
        iss: claims.iss,
        aud: claims.aud,
        sub: claims.sub,
        act: Actor { sub: consultant.to_string() },
        client_id: claims.client_id,
        iat: claims.iat,
        nbf: claims.nbf,
        exp: claims.exp,
        jti: claims.jti,
        sid: claims.sid,
        token_type: TokenType::Bearer,
        tenant_id: claims.tenant_id,
        portal: claims.portal,
        access: claims.access,
        profile_name: live.profile_name,
        consultant_name: live.consultant_name,
        consultant_email: live.consultant_email,
        reason: live.reason,
        magic_link_id: live.magic_link_id,
    }
}
