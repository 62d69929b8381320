//! Opening a session: the only place where a link token is spent.

use super::{Ending, OpenSession, OpenedSession, Visitor, end};
use crate::clock::Timestamp;
use crate::config::StepUpKind;
use crate::context::Context;
use crate::domain::{
    Actor, EndCause, EventType, NamedConsultant, Person, Reach, Restrictions, TokenType, Validator, one_line,
};
use crate::error::{Code, Error};
use crate::http::{Caller, IdempotencyHeader, RedeemSessions};
use crate::id::{ClientId, LinkId, SessionId};
use crate::journal::Event;
use crate::mail::notices;
use crate::records::links::{Link, Openable, Spend};
use crate::records::sessions::Session;
use crate::store::{Tx, Worker, idempotency};
use crate::tokens::{AccessClaims, Act, AuthorizationCodeClaims, LinkClaims, Status};
use crate::{records, status_lists};

/// A verified token that can be redeemed: the link it names, and when it expires.
#[derive(Debug, Clone)]
struct Presented {
    link_id: LinkId,
    generation: i32,
    /// Number of visits before the one that it opens.
    visit: i32,
    /// The device that is remembered, or is to be.
    device: Option<String>,
    expires_at_seconds: i64,
    /// The key that signed the link token.
    link_kid: Option<String>,
    /// The key that signed the authorization code from the landing page; `None` for the link token from the mail.
    code_kid: Option<String>,
}

impl Presented {
    const fn is_code(&self) -> bool {
        self.code_kid.is_some()
    }

    /// The keys that the session hangs on, besides the one that signs its access token.
    fn kids(&self) -> impl Iterator<Item = &str> {
        self.link_kid.as_deref().into_iter().chain(self.code_kid.as_deref())
    }
}

/// Characters that are kept of what a browser says of itself.
const MAX_USER_AGENT: usize = 500;

impl Visitor {
    /// Without what is no text. What a browser says of itself keeps nobody out.
    fn readable(self) -> Self {
        let said =
            |text: Option<String>| text.map(|text| one_line(&text).trim().to_owned()).filter(|text| !text.is_empty());
        let cut = |text: String| text.chars().take(MAX_USER_AGENT).collect::<String>().trim_end().to_owned();
        Self { address: said(self.address), user_agent: said(self.user_agent).map(cut) }
    }
}

/// Spends the link token and opens a session: of concurrent callers exactly one succeeds.
///
/// A refusal is recorded too: `tx.refuse` rolls the write job back and keeps its event.
pub(crate) async fn open(
    cx: &Context,
    caller: &Caller<RedeemSessions>,
    request: OpenSession,
    idempotency: IdempotencyHeader,
    now: Timestamp,
) -> Result<OpenedSession, Error> {
    let visitor = request.visitor.unwrap_or_default().readable();
    let mut fields = Validator::default();
    fields.optional_text("/visitor/address", visitor.address.as_deref(), 1, 64);
    fields.finish()?;
    let presented = verify(cx, &request.token, now)?;
    // Each click yields another code, so the fingerprint is that of the link, its generation and the visit.
    let asked = serde_json::json!({
        "magic_link_id": presented.link_id, "generation": presented.generation, "visit": presented.visit,
    });
    let idempotency = idempotency.scoped_as(caller, &asked)?;
    let spend = Spend {
        link_id: presented.link_id.clone(),
        generation: presented.generation,
        visit: presented.visit,
        device: presented.device.clone(),
        reach: caller.reach.clone(),
    };
    let client_id = caller.client_id.clone();
    let client = caller.actor(None);
    let config = cx.config.clone();
    let kid = cx.tokens.signing_kid(now);
    let fresh = SessionId::new(now);
    let (session, consultant) = cx
        .store
        .write(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &SessionId, reach: &Reach| {
                replay(tx, id, reach, (&client, client_id.as_ref()), now)
            };
            if let Some(opened) = idempotency::once(tx, idempotency.as_ref(), &fresh, now, known)? {
                return Ok(opened);
            }
            let drawn = status_lists::draw();
            let Some(found) = records::links::find_to_open(tx, &spend.link_id, &drawn)? else {
                return Err(Code::TokenInvalid.into());
            };
            let Openable { link, consultant, has_session, status_list, taken } = found;
            let too_old = presented.expires_at_seconds <= now.unix_seconds();
            // Checked before the link is spent: no access token can be signed for an unconfigured portal.
            let portal = config.portal(&link.portal)?;
            let own_page = portal.landing_url.is_some();
            let refusal = if !spend.reach.covers(&link.tenant_id, &link.portal) {
                Some(Code::NotFound)
            } else if !presented.is_code() && portal.step_up == StepUpKind::EmailCode {
                Some(Code::StepUpRequired)
            } else if !presented.is_code() && !own_page {
                Some(Code::CodeRequired)
            } else if too_old {
                why_not(&link, &spend, now).or(Some(Code::TokenExpired))
            } else {
                None
            };
            if let Some(code) = refusal {
                let refused = Event::link_refused(&link, client.clone(), code, now).client(client_id.as_ref());
                return Err(tx.refuse(code, refused));
            }
            // A key may have been revoked since it verified the token, or was to sign the access token.
            let kids: Vec<&str> = presented.kids().chain(kid.as_deref().ok()).collect();
            let held = records::signing_keys::hold(tx, &kids)?;
            if !presented.kids().all(|kid| held.contains(kid)) {
                return Err(Code::SigningKeyRevoked.into());
            }
            let kid = kid.clone()?;
            if !held.contains(&kid) {
                return Err(Error::unavailable());
            }
            let Some(link) = records::links::spend(tx, &spend, now)? else {
                let link = records::links::find(tx, &spend.link_id)?.unwrap_or(link);
                let or_else = if spend.device.is_some() { Code::DeviceUnknown } else { Code::LinkSpent };
                let code = why_not(&link, &spend, now).unwrap_or(or_else);
                let refused = Event::link_refused(&link, client.clone(), code, now).client(client_id.as_ref());
                return Err(tx.refuse(code, refused));
            };
            let actor = Actor::consultant(&link.consultant_id);
            // Exact, because the token was minted after whatever spent the link before it was committed.
            if has_session {
                let ending = Ending::new(&actor, client_id.as_ref(), now);
                end::end_all_of_links(tx, std::slice::from_ref(&link), EndCause::Replaced, &ending)?;
            } else {
                notices::used(tx, &link, now)?;
            }
            let index = status_lists::allocate_index(tx, &drawn, status_list, taken.as_deref(), now)?;
            let life = link.session_life(config.links.session_life);
            let session = Session {
                id: fresh.clone(),
                client_id: client_id.clone(),
                visitor_address: visitor.address.clone(),
                visitor_user_agent: visitor.user_agent.clone(),
                link_kid: presented.link_kid.clone(),
                code_kid: presented.code_kid.clone(),
                ..begin(link, life, &kid, index, now)
            };
            records::sessions::insert(tx, &session)?;
            record_opened(tx, &session, &spend, now)?;
            tx.wake(Worker::Mail);
            Ok((session, consultant))
        })
        .await?;
    let access_token = sign(cx, &session)?;
    Ok(answer(session, consultant, access_token))
}

/// Records the opening, and the device that it remembers.
fn record_opened(tx: &mut Tx<'_>, session: &Session, spend: &Spend, now: Timestamp) -> Result<(), Error> {
    let event = |kind| {
        let actor = Actor::consultant(&session.consultant_id);
        Event::new(kind, actor, now).client(session.client_id.as_ref()).session(session)
    };
    let (modules, forbidden) = Restrictions::recorded(session.restrictions.as_ref());
    tx.record(event(EventType::SessionOpened).with(&serde_json::json!({
        "modules": modules, "forbidden": forbidden,
        "generation": session.generation, "access": session.access, "expires_at": session.expires_at,
        "visit": spend.device.is_some().then_some(session.visit), "device": spend.device,
    })));
    if let (Some(thumbprint), 0) = (&spend.device, spend.visit) {
        records::devices::remember(tx, session, thumbprint, now)?;
        let data = serde_json::json!({ "device": thumbprint, "generation": session.generation });
        tx.record(event(EventType::DeviceRemembered).with(&data));
    }
    Ok(())
}

/// Why a token or code cannot be used, unless it is a code for the visit that comes next.
fn why_not(link: &Link, spend: &Spend, now: Timestamp) -> Option<Code> {
    let is_next = spend.device.is_some() && spend.visit == link.visit;
    link.why_not(spend.generation, now).filter(|code| !(is_next && *code == Code::LinkSpent))
}

/// The session that a link opens: it ends with the link's window at the latest.
fn begin(
    link: Link,
    life: time::Duration,
    kid: &str,
    (status_list, status_index): (i64, i32),
    now: Timestamp,
) -> Session {
    Session {
        id: SessionId::new(now),
        magic_link_id: link.id,
        generation: link.generation,
        tenant_id: link.tenant_id,
        portal: link.portal,
        consultant_id: link.consultant_id,
        profile_id: link.profile_id,
        profile_name: link.profile_name,
        access: link.access,
        reason: link.reason,
        ticket: link.ticket,
        client_id: None,
        started_at: now,
        expires_at: link.expires_at.min(now.plus(life)),
        ended_at: None,
        end_cause: None,
        closed_at: None,
        visitor_address: None,
        visitor_user_agent: None,
        kid: kid.to_owned(),
        status_list,
        status_index,
        link_kid: None,
        code_kid: None,
        visit: link.visit,
        restrictions: link.restrictions,
        erased_at: None,
    }
}

/// Verifies the token's signature, issuer and type. Its expiry is checked later, when the link is loaded.
fn verify(cx: &Context, token: &str, now: Timestamp) -> Result<Presented, Error> {
    let audience = [cx.tokens.issuer()];
    match cx.tokens.verify::<AuthorizationCodeClaims>(token, &audience, now) {
        Ok((code, kid)) => {
            return Ok(Presented {
                link_id: code.magic_link_id,
                generation: code.generation,
                visit: code.visit,
                device: code.cnf.map(|key| key.jkt),
                expires_at_seconds: code.exp,
                link_kid: code.link_kid,
                code_kid: Some(kid),
            });
        }
        Err(error) if error.code() == Code::SigningKeyRevoked => return Err(error),
        Err(_of_another_kind) => {}
    }
    let (claims, kid) = cx.tokens.verify::<LinkClaims>(token, &audience, now)?;
    Ok(Presented {
        link_id: claims.jti,
        generation: claims.generation,
        visit: 0,
        device: None,
        expires_at_seconds: claims.exp,
        link_kid: Some(kid),
        code_kid: None,
    })
}

/// The response of an earlier request with the same idempotency key, while the session is active.
fn replay(
    tx: &mut Tx<'_>,
    id: &SessionId,
    reach: &Reach,
    (client, client_id): (&Actor, Option<&ClientId>),
    now: Timestamp,
) -> Result<Option<(Session, NamedConsultant)>, Error> {
    let Some(session) = records::sessions::find_within(tx, id, reach)? else { return Ok(None) };
    if session.end(now).is_some() || !records::signing_keys::hold_all(tx, &session.kids())? {
        let refused = Event::new(EventType::SessionRefused, client.clone(), now).client(client_id).session(&session);
        let refused = refused.with(&serde_json::json!({ "code": Code::SessionEnded.slug() }));
        return Err(tx.refuse(Code::SessionEnded, refused));
    }
    let consultant = records::consultants::find(tx, &session.consultant_id)?.ok_or_else(Error::not_found)?;
    let consultant = NamedConsultant { id: consultant.id, name: consultant.name, email: consultant.email };
    Ok(Some((session, consultant)))
}

/// Signs the access token. A replay signs the same claims with the same key again, even if that is retired.
fn sign(cx: &Context, session: &Session) -> Result<String, Error> {
    let portal = cx.config.portal(&session.portal)?;
    let (modules, forbidden) = Restrictions::shown(session.restrictions.as_ref());
    let claims = AccessClaims {
        iss: cx.tokens.issuer().to_owned(),
        aud: portal.audience.clone(),
        sub: session.profile_id.clone(),
        act: Act { sub: session.consultant_id.clone() },
        client_id: session.client_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        jti: session.id.to_string(),
        sid: session.id.clone(),
        portal: session.portal.clone(),
        tenant_id: session.tenant_id.clone(),
        access: session.access,
        modules,
        forbidden,
        status: Status::new(&cx.config.public_url, session.status_list, session.status_index),
        iat: session.started_at.unix_seconds(),
        nbf: session.started_at.unix_seconds(),
        exp: session.expires_at.unix_seconds(),
    };
    cx.tokens.sign_with(&session.kid, &claims)
}

fn answer(session: Session, consultant: NamedConsultant, access_token: String) -> OpenedSession {
    let (modules, forbidden) = Restrictions::shown(session.restrictions.as_ref());
    OpenedSession {
        id: session.id,
        magic_link_id: session.magic_link_id,
        tenant_id: session.tenant_id,
        portal: session.portal,
        profile: Person { id: session.profile_id, name: session.profile_name },
        consultant,
        access: session.access,
        modules,
        forbidden,
        access_token,
        token_type: TokenType::Bearer,
        started_at: session.started_at,
        expires_at: session.expires_at,
    }
}
