//! Introspection (RFC 7662): whether a session holds, at this very moment.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::access::{CachedIntrospection, LiveSession, Snapshot};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Access, TokenType};
use crate::error::Error;
use crate::http::{Form, IntrospectSessions, PresentedKey};
use crate::id::{ClientId, LinkId, SessionId};
use crate::tokens::{Claims, Verified};

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
pub struct Introspection<'a> {
    /// Whether the session holds. The other members are there only if it does.
    active: bool,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    iss: Option<&'a str>,
    /// The portal's audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    aud: Option<&'a str>,
    /// The profile's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    sub: Option<&'a str>,
    /// Who acts as the profile (RFC 8693): the consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Actor<'a>>,
    /// The client that opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    client_id: Option<&'a str>,
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
    jti: Option<&'a str>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a SessionId>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<TokenType>,
    /// The customer company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    tenant_id: Option<&'a str>,
    /// The portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<&'a str>,
    /// How much the consultant may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<Access>,
    /// The profile's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    profile_name: Option<&'a str>,
    /// The consultant's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    consultant_name: Option<&'a str>,
    /// The consultant's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    consultant_email: Option<&'a str>,
    /// Why access was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<&'a str>,
    /// The link behind the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<&'a LinkId>,
}

/// Who acts.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Actor<'a> {
    /// The consultant's id.
    #[schema(max_length = 64)]
    sub: &'a str,
}

/// A session that holds, and the token that was shown for it.
pub(super) struct ActiveSession {
    token: Arc<Verified>,
    live: Arc<LiveSession>,
}

/// What a caller has asked for.
pub(super) struct Answer {
    /// Who asked.
    pub client_id: ClientId,
    /// Absent, never saying why.
    pub active: Option<ActiveSession>,
}

/// An introspection that can be shown to others as ours (RFC 9701).
#[derive(Serialize, Deserialize)]
struct SignedIntrospection<T> {
    iss: String,
    /// The caller: the answer is for nobody else.
    aud: String,
    iat: i64,
    token_introspection: T,
}

impl<T: Serialize + serde::de::DeserializeOwned> Claims for SignedIntrospection<T> {
    const TYP: &'static str = "token-introspection+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }
}

/// Signs an introspection for the caller who asked. It has no `sub` and no `exp`, so that nobody takes it for a token.
pub(super) fn sign(
    cx: &Context,
    client_id: &ClientId,
    answer: &Introspection<'_>,
    now: Timestamp,
) -> Result<String, Error> {
    let claims = SignedIntrospection {
        iss: cx.tokens.issuer().to_owned(),
        aud: client_id.to_string(),
        iat: now.unix_seconds(),
        token_introspection: serde_json::to_value(answer).map_err(Error::internal)?,
    };
    cx.tokens.sign(&claims, now)
}

/// Says whether the session behind a token of the caller's own portal and tenants holds.
///
/// The caller, the session, its link, its consultant and the epoch of the keys
/// come in one answer of the store, which began after the question arrived. A
/// token that is not one of ours is still asked for: with nothing but the caller.
///
/// # Errors
/// `unavailable` when the store cannot be asked: never `active`, and never `inactive` either.
pub(super) async fn introspect(
    cx: &Context,
    presented: &PresentedKey<IntrospectSessions>,
    request: &Result<Form<IntrospectionRequest>, Error>,
    now: Timestamp,
) -> Result<Answer, Error> {
    let token = request.as_ref().map_or("", |Form(request)| &request.token);
    let epoch = cx.tokens.epoch();
    let mut verified = cx.tokens.verify_access(token, now);
    let mut state = ask(cx, presented, verified.as_ref(), now).await?;
    if verified.is_none() && cx.tokens.epoch() != epoch {
        // Perhaps a key signed it that this process has just got to know.
        verified = cx.tokens.verify_access(token, now);
        state = ask(cx, presented, verified.as_ref(), now).await?;
    }
    let client = presented.authenticate(state.client, now)?;
    // Whoever is not known has heard so, and nothing about the form.
    request.as_ref().map_err(Clone::clone)?;
    let client_id = client.id.clone();
    let (Some(token), Some(live)) = (verified, state.session) else { return Ok(Answer { client_id, active: None }) };
    let claims = &token.claims;
    let own_portal = cx.config.portals.get(&claims.portal).is_some_and(|portal| portal.audience == claims.aud);
    // Once more: the key may have gone while the store was asked.
    let holds =
        own_portal && client.reach.covers(&claims.tenant_id, &claims.portal) && cx.tokens.still_counts(&token, now);
    Ok(Answer { client_id, active: holds.then_some(ActiveSession { token, live }) })
}

fn ask<'a>(
    cx: &'a Context,
    presented: &'a PresentedKey<IntrospectSessions>,
    token: Option<&'a Arc<Verified>>,
    now: Timestamp,
) -> impl Future<Output = Result<Snapshot, Error>> + 'a {
    cx.snapshot(Some(presented.client_id()), token.map(|token| &token.claims.sid), now)
}

impl ActiveSession {
    /// What the caller is told, as JSON. It is written once: neither the token nor what is known of the session changes.
    pub(super) fn json(&self) -> Result<Bytes, Error> {
        let of_this = |told: &&CachedIntrospection| {
            Arc::ptr_eq(&told.token, &self.token) || told.token.claims == self.token.claims
        };
        if let Some(told) = self.live.introspection.get().filter(of_this) {
            return Ok(told.json.clone());
        }
        let json = Bytes::from(serde_json::to_vec(&self.introspection()).map_err(Error::internal)?);
        // Where another token of the session, or another request, was first that is as good.
        drop(self.live.introspection.set(CachedIntrospection { token: Arc::clone(&self.token), json: json.clone() }));
        Ok(json)
    }

    /// What the caller is told.
    pub(super) fn introspection(&self) -> Introspection<'_> {
        let (claims, live) = (&self.token.claims, &self.live);
        Introspection {
            active: true,
            iss: Some(&claims.iss),
            aud: Some(&claims.aud),
            sub: Some(&claims.sub),
            act: Some(Actor { sub: claims.act.sub.as_str() }),
            client_id: Some(&claims.client_id),
            iat: Some(claims.iat),
            nbf: Some(claims.nbf),
            exp: Some(claims.exp),
            jti: Some(&claims.jti),
            sid: Some(&claims.sid),
            token_type: Some(TokenType::Bearer),
            tenant_id: Some(&claims.tenant_id),
            portal: Some(&claims.portal),
            access: Some(claims.access),
            profile_name: Some(&live.profile_name),
            consultant_name: Some(&live.consultant_name),
            consultant_email: Some(&live.consultant_email),
            reason: Some(&live.reason),
            magic_link_id: Some(&live.magic_link_id),
        }
    }
}
