//! The landing page's three calls. Only a press of its button leads further, and even that spends nothing.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::step_up::{self, CodeMailed};
use crate::domain::Access;
use super::{Link, resend};
use crate::app::App;
use crate::audit::Event;
use crate::domain::{Actor, EventType};
use crate::domain::Reach;
use crate::clock::Timestamp;
use crate::config::StepUpKind;
use crate::consultants;
use crate::db::{Tx, text_enum};
use crate::error::{Code, Error};
use crate::tenants;
use crate::tokens::{CodeClaims, LinkClaims};

/// How long a code lives.
const CODE_LIFE: Duration = Duration::seconds(60);

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
pub(crate) async fn preview(app: &App, token: &str, now: Timestamp) -> Result<Preview, Error> {
    let claims = verify(app, token, now).await?;
    let config = app.config.clone();
    app.db
        .read(move |conn| {
            let link = super::current(conn, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let tenant = tenants::view(conn, &config, &link.tenant_id)?;
            let consultant = consultants::find(conn, &link.consultant_id)?;
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
pub(crate) async fn proceed(app: &App, token: &str, now: Timestamp) -> Result<Continue, Error> {
    let claims = verify(app, token, now).await?;
    let config = app.config.clone();
    let (link, step_up) = app
        .db
        .write(move |tx| {
            let link = super::current(tx, &claims.jti)?.ok_or(Code::TokenInvalid)?;
            let portal = config.portal(&link.portal)?;
            let actor = Actor::consultant(&link.consultant_id);
            if let Some(code) = why_not(&link, &claims, now) {
                tx.record(Event::link_refused(&link, actor, code, now));
                return Ok(Err(Error::new(code).recorded()));
            }
            if portal.step_up == StepUpKind::EmailCode {
                return Ok(step_up::ask(tx, &link, now)?.map(|mailed| (link, Some(mailed))));
            }
            record_continued(tx, &link, now);
            Ok(Ok((link, None)))
        })
        .await??;
    if step_up.is_some() {
        app.mail_wake.notify_one();
        return Ok(Continue { redirect_url: None, step_up });
    }
    redirect(app, link, now)
}

pub(super) fn record_continued(tx: &mut Tx<'_>, link: &Link, now: Timestamp) {
    tx.record(
        Event::new(EventType::LinkContinued, Actor::consultant(&link.consultant_id), now)
            .link(link)
            .with(&serde_json::json!({ "generation": link.generation })),
    );
}

/// The portal's callback with a code that it can redeem.
pub(super) fn redirect(app: &App, link: Link, now: Timestamp) -> Result<Continue, Error> {
    let portal = app.config.portal(&link.portal)?;
    let claims = CodeClaims {
        iss: app.tokens.issuer().to_owned(),
        aud: app.tokens.issuer().to_owned(),
        sub: link.profile_id,
        magic_link_id: link.id,
        generation: link.generation,
        portal: link.portal,
        tenant_id: link.tenant_id.clone(),
        iat: now.unix_seconds(),
        nbf: now.unix_seconds(),
        exp: now.plus(CODE_LIFE).min(link.expires_at).unix_seconds(),
    };
    let code = app.tokens.sign(&claims, now)?;
    Ok(Continue { redirect_url: Some(portal.callback(&link.tenant_id, &code)), step_up: None })
}

/// Mails a fresh link to the registered address, if there is anything to mail. The caller is told nothing of it:
/// who asks too often hears so, and that is the same for a token that we never signed.
pub(crate) async fn request_fresh(app: &App, token: &str, now: Timestamp) -> Result<(), Error> {
    app.mail_limits.ask(token, now)?;
    let claims = match verify(app, token, now).await {
        Ok(claims) => claims,
        Err(error) if error.code().status() >= 500 => return Err(error),
        Err(_no_token_of_ours) => return Ok(()),
    };
    let limits = app.mail_limits.fresh();
    let outcome = app
        .db
        .write(move |tx| {
            let actor = Actor::consultant(&claims.act.sub);
            resend::next_generation(tx, &claims.jti, &Reach::everything(), limits, &actor, None, now)
        })
        .await;
    app.mail_wake.notify_one();
    match outcome {
        Err(error) if error.code().status() >= 500 => Err(error),
        _ => Ok(()),
    }
}

/// Signature, type and issuer; not the times and not the generation: an old token may ask for a fresh one.
///
/// Strangers come here, so only a token that passes is worth a look at whether its key has gone meanwhile.
pub(super) async fn verify(app: &App, token: &str, now: Timestamp) -> Result<LinkClaims, Error> {
    let audience = [app.tokens.issuer()];
    let epoch = app.tokens.epoch();
    let claims = app.tokens.verify(token, &audience, now)?;
    app.ask(None, None, now).await?;
    if app.tokens.epoch() == epoch { Ok(claims) } else { app.tokens.verify(token, &audience, now) }
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
