//! Calls of the landing page: preview, continue and resend. None of them spends the link: only the portal does.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::changing::Change;
use super::device::{self, DeviceChallenge};
use super::grant::LONGEST_CHAIN;
use super::resend;
use super::step_up::{self, CodeMailed, OpenCode};
use crate::clock::Timestamp;
use crate::config::StepUpKind;
use crate::context::Context;
use crate::db::{Conn, text_enum};
use crate::domain::{Access, Actor, DeliveryState, EventType, Forbidden, ModuleName, Reach, Restrictions};
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::mail::{self, MailFate};
use crate::records;
use crate::records::links::Link;
use crate::store::Tx;
use crate::tokens::{AuthorizationCodeClaims, Confirmation, LinkClaims};

/// How long an authorization code is valid.
const AUTHORIZATION_CODE_LIFE: Duration = Duration::seconds(60);

/// Link token, as sent by the landing page.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
pub struct LandingRequest {
    /// Link token: the fragment of the link's URL, after the `#`.
    #[schema(max_length = 4096)]
    pub token: String,
}

text_enum! {
    /// Usability of a link token.
    pub enum LandingState {
        /// The link can be used.
        Ready = "ready",
        /// The link's window has not begun.
        NotYet = "not_yet",
        /// The link was already used.
        Spent = "spent",
        /// A newer link replaced this one.
        Superseded = "superseded",
        /// The token has expired; the link's window has not.
        TokenExpired = "token_expired",
        /// The link's window has ended.
        Expired = "expired",
        /// The link was revoked.
        Revoked = "revoked",
    }
}

/// Portal or tenant, with identifier and name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Named {
    /// Identifier of the portal or tenant.
    #[schema(max_length = 64)]
    pub id: String,
    /// Display name of the portal or tenant.
    #[schema(max_length = 100)]
    pub name: String,
}

/// Profile, consultant or contact, by name only.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NameOnly {
    /// Name of the profile, consultant or contact.
    #[schema(max_length = 100)]
    pub name: String,
}

/// Preview of a link for the landing page.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Preview {
    /// Usability of the link token.
    pub state: LandingState,
    /// Portal the link gives access to.
    pub portal: Named,
    /// Tenant (customer company) the link gives access to.
    pub tenant: Named,
    /// Profile the consultant acts as.
    pub profile: NameOnly,
    /// Consultant who gets access.
    pub consultant: NameOnly,
    /// Why access was granted.
    #[schema(max_length = 500)]
    pub reason: String,
    /// Identifier of the support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// Access level of the consultant.
    pub access: Access,
    /// Portal's words for the only modules that the consultant may enter; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    pub modules: Option<Vec<String>>,
    /// What the consultant must not do, though the profile may; absent where nothing is forbidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, required = false)]
    pub forbidden: Vec<Forbidden>,
    /// When the link's window begins (RFC 3339, UTC).
    pub starts_at: Timestamp,
    /// When the link's window ends (RFC 3339, UTC).
    pub expires_at: Timestamp,
    /// When a visit that begins now ends at the latest (RFC 3339, UTC).
    pub visit_expires_at: Timestamp,
    /// IANA time zone of the tenant, in which the page shows times.
    #[schema(max_length = 64)]
    pub time_zone: String,
    /// Names of people of the tenant who can be asked; their addresses are in the mail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 3, required = false)]
    pub contacts: Vec<NameOnly>,
    /// Whether a fresh link can be requested: the link is neither expired nor revoked, and mail goes to the registered
    /// address. With a replaced token only if the newest mail failed, or is older than a token lives.
    pub can_resend: bool,
    /// What became of the newest mail with the link, or with the one that took its place; only with a replaced token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_mail: Option<MailFate>,
    /// When that mail went out (RFC 3339, UTC); absent where it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest_mailed_at: Option<Timestamp>,
    /// Usability of the link that took this one's place; absent unless another link did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub successor_state: Option<LandingState>,
    /// One-time code that was requested within the last ten minutes and can still be entered, whichever page requested it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<OpenCode>,
    /// Whether the mail with the newest code was lost: it failed or came back. Another one can be requested at once.
    pub code_not_delivered: bool,
    /// Whether this browser can be remembered, or another visit can begin in the one that is; absent where neither is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceChallenge>,
}

/// Next step of the landing page: either a redirect to the portal or a one-time code challenge.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Continued {
    /// URL to open next: the portal's callback with an authorization code that is valid for 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4096)]
    pub redirect_url: Option<String>,
    /// One-time code challenge, if the portal requires one: the code was mailed to the registered address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step_up: Option<CodeMailed>,
}

/// Fresh link that was requested: its mail is on its way to the registered address.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FreshLink {
    /// Delivery state of its mail.
    pub state: DeliveryState,
}

/// Returns a preview of the link. It changes nothing, so mail scanners may call it.
pub(crate) async fn preview(cx: &Context, token: &str, now: Timestamp) -> Result<Preview, Error> {
    let (claims, _kid) = verify(cx, token, now).await?;
    let config = cx.config.clone();
    let digests = cx.tokens.master_key().digests();
    cx.store
        .read(move |conn| {
            let link = records::links::find(conn, &claims.jti)?;
            // Of one that is erased there is nothing left to show.
            let link = link.filter(|link| link.erased_at.is_none()).ok_or(Code::TokenInvalid)?;
            let tenant = records::tenants::view(conn, &config.default_time_zone, &link.tenant_id)?;
            let consultant = records::consultants::find(conn, &link.consultant_id)?;
            let refusal = why_not(&link, &claims, now);
            let (step_up, code_not_delivered) = match refusal {
                None | Some(Code::TokenExpired) => step_up::open_code(conn, &link, now)?,
                Some(_) => (None, false),
            };
            // A code that was mailed counts for its own time.
            let refusal = refusal.filter(|code| *code != Code::TokenExpired || step_up.is_none());
            let over = link.ended(now).is_some();
            let newest = match refusal {
                Some(Code::LinkSuperseded) => mail::newest_mail(conn, &link.id, config.links.token_life, now)?,
                _ => None,
            };
            let newest = newest.filter(|newest| newest.generation > claims.generation);
            let successor = successor(conn, &link)?;
            let newest_of_all = match &successor {
                Some(other) => mail::newest_mail(conn, &other.id, config.links.token_life, now)?,
                None => newest,
            };
            // Without a newer mail the generation was raised because a visit was ended: this token was used.
            let refusal = match refusal {
                Some(Code::LinkSuperseded) if newest.is_none() => Some(Code::LinkSpent),
                refusal => refusal,
            };
            let device = match refusal {
                None | Some(Code::LinkSpent) if claims.generation == link.generation => {
                    device::challenge(conn, &config, &digests, &link, now)?
                }
                _ => None,
            };
            let address = consultant.as_ref().map(|found| found.email.as_str()).unwrap_or_default();
            let is_reached = mail::leaves_to(conn, &config, address)?;
            let life = link.session_life(config.links.session_life);
            let (modules, forbidden) = Restrictions::shown(link.restrictions.as_ref());
            Ok(Preview {
                state: landing_state(refusal),
                portal: Named {
                    name: config.portals.get(&link.portal).map_or(&link.portal, |portal| &portal.name).clone(),
                    id: link.portal,
                },
                tenant: Named { id: link.tenant_id, name: tenant.name.clone() },
                profile: NameOnly { name: link.profile_name },
                consultant: NameOnly { name: consultant.map(|found| found.name).unwrap_or_default() },
                reason: link.reason,
                ticket: link.ticket,
                access: link.access,
                modules,
                forbidden,
                starts_at: link.starts_at,
                expires_at: link.expires_at,
                visit_expires_at: link.expires_at.min(link.starts_at.max(now).plus(life)),
                contacts: tenant.whom_to_ask().map(|contact| NameOnly { name: contact.name.clone() }).collect(),
                time_zone: tenant.time_zone,
                can_resend: !over && is_reached && newest.is_none_or(|newest| newest.is_lost),
                newest_mail: newest_of_all.map(|newest| newest.fate),
                newest_mailed_at: newest_of_all.and_then(|newest| newest.mailed_at),
                successor_state: successor.map(|other| landing_state(other.why_not(other.generation, now))),
                step_up,
                code_not_delivered,
                device,
            })
        })
        .await
}

/// The link that has the place of one that was replaced: the last of those that replaced each other.
fn successor(conn: &mut Conn, link: &Link) -> Result<Option<Link>, Error> {
    let mut last: Option<Link> = None;
    for _ in 0..LONGEST_CHAIN {
        let Some(next) = last.as_ref().unwrap_or(link).replaced_by.clone() else { break };
        let Some(found) = records::links::find(conn, &next)? else { break };
        last = Some(found);
    }
    Ok(last)
}

/// Returns the callback with an authorization code, or starts a one-time code challenge if the portal requires one.
/// The link stays unspent until the portal redeems the authorization code.
pub(crate) async fn proceed(cx: &Context, token: &str, now: Timestamp) -> Result<Continued, Error> {
    let (claims, kid) = verify(cx, token, now).await?;
    cx.tokens.signing_kid(now)?;
    let config = cx.config.clone();
    let (link, step_up) = cx
        .store
        .write(move |tx| {
            let link = records::links::find(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let asks_code = config.portal(&link.portal)?.step_up == StepUpKind::EmailCode;
            let link = if asks_code { records::links::lock(tx, &link.id)?.ok_or(Code::TokenInvalid)? } else { link };
            if let Some(code) = why_not(&link, &claims, now) {
                let actor = Actor::consultant(&link.consultant_id);
                return Err(tx.refuse(code, Event::link_refused(&link, actor, code, now)));
            }
            if asks_code {
                let mailed = step_up::send_code(tx, &config, &link, now)?;
                return Ok((link, Some(mailed)));
            }
            record_continued(tx, &link, now);
            Ok((link, None))
        })
        .await?;
    match step_up {
        Some(_) => Ok(Continued { redirect_url: None, step_up }),
        None => redirect(cx, link, kid, None, now),
    }
}

pub(super) fn record_continued(tx: &mut Tx<'_>, link: &Link, now: Timestamp) {
    tx.record(
        Event::new(EventType::LinkContinued, Actor::consultant(&link.consultant_id), now)
            .link(link)
            .with(&serde_json::json!({ "generation": link.generation })),
    );
}

/// The portal's callback with a new authorization code; `kid` is the key that signed the link token, `device` the
/// thumbprint of the device that is remembered, or is to be.
pub(super) fn redirect(
    cx: &Context,
    link: Link,
    kid: String,
    device: Option<String>,
    now: Timestamp,
) -> Result<Continued, Error> {
    let portal = cx.config.portal(&link.portal)?;
    let claims = AuthorizationCodeClaims {
        iss: cx.tokens.issuer().to_owned(),
        aud: cx.tokens.issuer().to_owned(),
        sub: link.profile_id,
        magic_link_id: link.id,
        generation: link.generation,
        portal: link.portal,
        tenant_id: link.tenant_id.clone(),
        link_kid: Some(kid),
        visit: link.visit,
        cnf: device.map(|jkt| Confirmation { jkt }),
        iat: now.unix_seconds(),
        nbf: now.unix_seconds(),
        exp: now.plus(AUTHORIZATION_CODE_LIFE).min(link.expires_at).unix_seconds(),
    };
    let code = cx.tokens.sign(&claims, now)?;
    Ok(Continued { redirect_url: Some(portal.callback(&link.tenant_id, &code)), step_up: None })
}

/// Mails a fresh link to the registered address, and says why it does not: whoever shows a token of ours may know.
///
/// With a token that was replaced only if the newest mail is lost: an old mail shall not void the newest one.
pub(crate) async fn request_fresh(
    cx: &Context,
    limits: &mail::Limits,
    token: &str,
    now: Timestamp,
) -> Result<FreshLink, Error> {
    cx.tokens.signing_kid(now)?;
    let (claims, _kid) = verify(cx, token, now).await?;
    let (config, fresh, token_life) = (cx.config.clone(), limits.fresh(), cx.config.links.token_life);
    cx.store
        .write(move |tx| {
            let actor = Actor::consultant(&claims.act.sub);
            let link = records::links::find(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            if link.why_not(claims.generation, now) == Some(Code::LinkSuperseded)
                && let Some(newest) = mail::newest_mail(tx, &link.id, token_life, now)?
                && newest.generation > claims.generation
                && !newest.is_lost
            {
                let event = Event::link_refused(&link, actor, Code::LinkSuperseded, now);
                let refusal = tx.refuse(Code::LinkSuperseded, event);
                return Err(refusal.detail(match newest.mailed_at {
                    Some(at) => format!("a newer link was mailed at {at}; use that one"),
                    None => "a newer link waits to be mailed; use that one".to_owned(),
                }));
            }
            let (id, reach) = (claims.jti.clone(), Reach::everything());
            resend::next_generation(tx, &config, &Change { id, reach, actor, client_id: None, now }, fresh)?;
            Ok(FreshLink { state: DeliveryState::Queued })
        })
        .await
}

/// Verifies signature, type and issuer, but neither times nor generation: an old token may request a fresh link.
///
/// Callers are not authenticated, so only a valid token costs a query for revoked signing keys. Returns the claims, and
/// the key that signed them.
pub(super) async fn verify(cx: &Context, token: &str, now: Timestamp) -> Result<(LinkClaims, String), Error> {
    let audience = [cx.tokens.issuer()];
    let reading = cx.tokens.reading();
    let verified = cx.tokens.verify(token, &audience, now)?;
    cx.snapshot(None, None, now).await?;
    if cx.tokens.reading() == reading { Ok(verified) } else { cx.tokens.verify(token, &audience, now) }
}

/// Why this token cannot be used; `None` if it can.
pub(super) fn why_not(link: &Link, claims: &LinkClaims, now: Timestamp) -> Option<Code> {
    let too_old = claims.exp <= now.unix_seconds();
    link.why_not(claims.generation, now).or_else(|| too_old.then_some(Code::TokenExpired))
}

const fn landing_state(refusal: Option<Code>) -> LandingState {
    match refusal {
        None => LandingState::Ready,
        Some(Code::LinkNotYetValid) => LandingState::NotYet,
        Some(Code::LinkSpent) => LandingState::Spent,
        Some(Code::LinkSuperseded | Code::LinkReplaced) => LandingState::Superseded,
        Some(Code::TokenExpired) => LandingState::TokenExpired,
        Some(Code::LinkRevoked) => LandingState::Revoked,
        Some(_) => LandingState::Expired,
    }
}
