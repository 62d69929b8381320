//! The landing page's three calls. Only a press of its button leads further, and even that spends nothing.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::resend;
use super::step_up::{self, CodeMailed};
use crate::clock::Timestamp;
use crate::config::StepUpKind;
use crate::context::Context;
use crate::db::text_enum;
use crate::domain::{Access, Actor, EventType, Reach};
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::records::links::Link;
use crate::store::Tx;
use crate::tokens::{AuthorizationCodeClaims, LinkClaims};
use crate::{mail, records};

/// How long a code lives.
const AUTHORIZATION_CODE_LIFE: Duration = Duration::seconds(60);

/// The token from the link.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
pub struct LandingRequest {
    /// What stands after the `#` of the link.
    #[schema(max_length = 4096)]
    pub token: String,
}

text_enum! {
    /// What can be done with a link.
    pub enum LandingState {
        /// It can be used.
        Ready = "ready",
        /// Its window has not begun.
        NotYet = "not_yet",
        /// It was used.
        Spent = "spent",
        /// A newer mail replaced it.
        Superseded = "superseded",
        /// The mail is too old; the window is still open.
        TokenExpired = "token_expired",
        /// The window is over.
        Expired = "expired",
        /// It was revoked.
        Revoked = "revoked",
    }
}

/// A thing with an id and a name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Named {
    /// Its id.
    #[schema(max_length = 64)]
    pub id: String,
    /// What people call it.
    #[schema(max_length = 100)]
    pub name: String,
}

/// Somebody's name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NameOnly {
    /// The name.
    #[schema(max_length = 100)]
    pub name: String,
}

/// What the landing page shows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Preview {
    /// What can be done with the link.
    pub state: LandingState,
    /// Where it leads.
    pub portal: Named,
    /// The customer company.
    pub tenant: Named,
    /// As whom.
    pub profile: NameOnly,
    /// For whom.
    pub consultant: NameOnly,
    /// Why.
    #[schema(max_length = 500)]
    pub reason: String,
    /// The ticket it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// How much.
    pub access: Access,
    /// When the window begins.
    pub starts_at: Timestamp,
    /// When the window ends.
    pub expires_at: Timestamp,
    /// The tenant's IANA time zone.
    #[schema(max_length = 64)]
    pub time_zone: String,
    /// Whether a fresh link can be mailed.
    pub can_resend: bool,
}

/// Where the page goes next: to the portal, or to the question for the code that was mailed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Continue {
    /// The portal's callback with a one-minute code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub redirect_url: Option<String>,
    /// The portal wants a code first, and it is on its way to the registered address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<CodeMailed>,
}

/// Shows what a link is. Changes nothing, however often and by whomever it is asked.
pub(crate) async fn preview(cx: &Context, token: &str, now: Timestamp) -> Result<Preview, Error> {
    let claims = verify(cx, token, now).await?;
    let config = cx.config.clone();
    cx.store
        .read(move |conn| {
            let link = records::links::find(conn, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let tenant = records::tenants::view(conn, &config.default_time_zone, &link.tenant_id)?;
            let consultant = records::consultants::find(conn, &link.consultant_id)?;
            let refusal = why_not(&link, &claims, now);
            let over = matches!(refusal, Some(Code::LinkRevoked | Code::LinkExpired));
            Ok(Preview {
                state: landing_state(refusal),
                portal: Named {
                    name: config.portals.get(&link.portal).map_or(&link.portal, |portal| &portal.name).clone(),
                    id: link.portal,
                },
                tenant: Named { id: link.tenant_id, name: tenant.name },
                profile: NameOnly { name: link.profile_name },
                consultant: NameOnly { name: consultant.map(|found| found.name).unwrap_or_default() },
                reason: link.reason,
                ticket: link.ticket,
                access: link.access,
                starts_at: link.starts_at,
                expires_at: link.expires_at,
                time_zone: tenant.time_zone,
                can_resend: !over,
            })
        })
        .await
}

/// Hands out the code that the portal can redeem, or mails one that the page has to ask for first.
/// The link stays unspent until the portal redeems.
pub(crate) async fn proceed(cx: &Context, token: &str, now: Timestamp) -> Result<Continue, Error> {
    let claims = verify(cx, token, now).await?;
    let config = cx.config.clone();
    let (link, step_up) = cx
        .store
        .write(move |tx| {
            let link = records::links::find(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let portal = config.portal(&link.portal)?;
            if let Some(code) = why_not(&link, &claims, now) {
                let actor = Actor::consultant(&link.consultant_id);
                return Err(tx.refuse(code, Event::link_refused(&link, actor, code, now)));
            }
            if portal.step_up == StepUpKind::EmailCode {
                let mailed = step_up::send_code(tx, &link, now)?;
                return Ok((link, Some(mailed)));
            }
            record_continued(tx, &link, now);
            Ok((link, None))
        })
        .await?;
    match step_up {
        Some(_) => Ok(Continue { redirect_url: None, step_up }),
        None => redirect(cx, link, now),
    }
}

pub(super) fn record_continued(tx: &mut Tx<'_>, link: &Link, now: Timestamp) {
    tx.record(
        Event::new(EventType::LinkContinued, Actor::consultant(&link.consultant_id), now)
            .link(link)
            .with(&serde_json::json!({ "generation": link.generation })),
    );
}

/// The portal's callback with a code that it can redeem.
pub(super) fn redirect(cx: &Context, link: Link, now: Timestamp) -> Result<Continue, Error> {
    let portal = cx.config.portal(&link.portal)?;
    let claims = AuthorizationCodeClaims {
        iss: cx.tokens.issuer().to_owned(),
        aud: cx.tokens.issuer().to_owned(),
        sub: link.profile_id,
        magic_link_id: link.id,
        generation: link.generation,
        portal: link.portal,
        tenant_id: link.tenant_id.clone(),
        iat: now.unix_seconds(),
        nbf: now.unix_seconds(),
        exp: now.plus(AUTHORIZATION_CODE_LIFE).min(link.expires_at).unix_seconds(),
    };
    let code = cx.tokens.sign(&claims, now)?;
    Ok(Continue { redirect_url: Some(portal.callback(&link.tenant_id, &code)), step_up: None })
}

/// Mails a fresh link to the registered address, if there is anything to mail. The caller is told nothing of it:
/// who asks too often hears so, and that is the same for a token that we never signed.
pub(crate) async fn request_fresh(
    cx: &Context,
    limits: &mail::Limits,
    token: &str,
    now: Timestamp,
) -> Result<(), Error> {
    limits.count_request(token, now)?;
    let claims = match verify(cx, token, now).await {
        Ok(claims) => claims,
        Err(error) if error.code().status() >= 500 => return Err(error),
        Err(_no_token_of_ours) => return Ok(()),
    };
    let fresh = limits.fresh();
    let outcome = cx
        .store
        .write(move |tx| {
            let actor = Actor::consultant(&claims.act.sub);
            resend::next_generation(tx, &claims.jti, &Reach::everything(), fresh, &actor, None, now)
        })
        .await;
    match outcome {
        Err(error) if error.code().status() >= 500 => Err(error),
        _ => Ok(()),
    }
}

/// Signature, type and issuer; not the times and not the generation: an old token may ask for a fresh one.
///
/// Strangers come here, so only a token that passes is worth a look at whether its key has gone meanwhile.
pub(super) async fn verify(cx: &Context, token: &str, now: Timestamp) -> Result<LinkClaims, Error> {
    let audience = [cx.tokens.issuer()];
    let epoch = cx.tokens.epoch();
    let claims = cx.tokens.verify(token, &audience, now)?;
    cx.snapshot(None, None, now).await?;
    if cx.tokens.epoch() == epoch { Ok(claims) } else { cx.tokens.verify(token, &audience, now) }
}

/// Why this very token cannot be used, if it cannot.
pub(super) fn why_not(link: &Link, claims: &LinkClaims, now: Timestamp) -> Option<Code> {
    let too_old = claims.exp <= now.unix_seconds();
    link.why_not(claims.generation, now).or_else(|| too_old.then_some(Code::TokenExpired))
}

const fn landing_state(refusal: Option<Code>) -> LandingState {
    match refusal {
        None => LandingState::Ready,
        Some(Code::LinkNotYetValid) => LandingState::NotYet,
        Some(Code::LinkSpent) => LandingState::Spent,
        Some(Code::LinkSuperseded) => LandingState::Superseded,
        Some(Code::TokenExpired) => LandingState::TokenExpired,
        Some(Code::LinkRevoked) => LandingState::Revoked,
        Some(_) => LandingState::Expired,
    }
}
