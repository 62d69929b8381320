//! Issuing a link.

use time::Duration;

use super::decisions::Emergency;
use super::grant::{admit, insert, issued, require_open};
use super::{IssueLink, LinkResponse, approval, emergency, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{
    Actor, LinkState, Reach, Restrictions, Scope, Validator, WindowLength, check_person, plain_address,
    refuse_support_session,
};
use crate::error::{Code, Error};
use crate::http::{AskForLinks, Caller};
use crate::id::LinkId;
use crate::mail::{self, Delivery};
use crate::records;
use crate::records::links::Link;
use crate::rules::granting::require_portal;
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};

/// How far in the past a start may lie, because the portal's clock may differ from this service's clock.
const SKEW: Duration = Duration::seconds(60);

/// Issues a link: the link, its audit event and its mail job are written in one transaction.
///
/// The transaction locks the rows of consultant and client, so that no link is issued past a suspension or a disabling.
pub(crate) async fn issue(
    cx: &Context,
    limits: &mail::Limits,
    caller: &Caller<AskForLinks>,
    request: IssueLink,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    // A repeat needs what the request needs, whichever copy of the service has met its key.
    require_scopes(caller, &request)?;
    if let Some(key) = idempotency.as_ref().filter(|key| cx.store.has_met(key))
        && let Some(link) = repeated(cx, key.clone(), now).await?
    {
        return Ok(link);
    }
    let (starts_at, length) = match check(cx, &request, now) {
        Ok(window) => window,
        Err(refusal) => return replay(cx, idempotency, refusal, now).await,
    };
    let replaces = request.replace;
    // Of what was moved out of its reach a client hears the same by every call that takes a key.
    if let Err(refusal) = require_reach(caller, &request) {
        return replay(cx, idempotency, refusal, now).await;
    }
    if let Err(refusal) = may_issue_now(cx, limits, caller, &request, now).await {
        return replay(cx, idempotency, refusal, now).await;
    }
    let emergency = request.emergency.clone();
    let Asked { link, actor, refused_addresses } = Asked::of(caller, request, starts_at, now);
    let (config, may_issue) = (cx.config.clone(), caller.has(Scope::IssueLinks));
    cx.store
        .write(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &LinkId, reach: &Reach| read::one_within(tx, id, reach, now);
            if let Some(issued) = idempotency::once(tx, idempotency.as_ref(), &link.id, now, known)? {
                return Ok(issued);
            }
            let (link, consultant, wants_approval) = admit(tx, &config, link.clone(), length, emergency.is_some())?;
            if wants_approval || !may_issue {
                let per_hour = config.limits.mails_per_recipient_hour;
                return approval::ask(tx, &link, &actor, consultant, (replaces, per_hour), now);
            }
            insert(tx, &link, replaces, (&actor, link.client_id.as_ref()), now)?;
            let emergency = match &emergency {
                Some(Emergency { justification }) => Some(emergency::declare(tx, &link, justification, &actor, now)?),
                None => None,
            };
            if emergency.is_none() {
                mail::notices::issued(tx, &link, now)?;
            }
            if !link.has_begun(now) {
                mail::notices::announced(tx, &link, now)?;
            }
            tx.wake(Worker::Mail);
            tx.record(issued(&link, &consultant, actor.clone(), refused_addresses, now));
            // A new link has no deliveries or sessions: skipping the queries shortens the batch for every job in it.
            Ok(LinkResponse { emergency, ..link.seen(consultant, Some(Delivery::default()), None, now) })
        })
        .await
}

/// Checks a request as `issue` does, and shows the link as it would be; writes and mails nothing.
pub(crate) async fn draft(
    cx: &Context,
    caller: &Caller<AskForLinks>,
    request: IssueLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    require_scopes(caller, &request)?;
    let (starts_at, length) = check(cx, &request, now)?;
    require_reach(caller, &request)?;
    require_portal(&cx.config, &request.portal, request.reentry)?;
    require_issuing(cx, caller, now)?;
    let (replaces, emergency) = (request.replace, request.emergency.clone());
    let Asked { link, actor, .. } = Asked::of(caller, request, starts_at, now);
    let (config, may_issue) = (cx.config.clone(), caller.has(Scope::IssueLinks));
    cx.store
        .read_judged(move |conn| {
            let (link, consultant, wants_approval) = admit(conn, &config, link.clone(), length, emergency.is_some())?;
            let emergency = match &emergency {
                Some(Emergency { justification }) => Some(emergency::draft(conn, &link, justification, now)?),
                None => None,
            };
            let holder = records::open_grants::holder(conn, &link)?.filter(|other| other.ended(now).is_none());
            if let Some(other) = holder.as_ref().filter(|_| !replaces) {
                return Err(Error::new(Code::AccessExists).magic_link(other.id.to_string()));
            }
            if wants_approval || !may_issue {
                let request = approval::request(&link, &actor, &consultant, replaces, now)?;
                if holder.is_some() {
                    require_open(&link, now)?;
                }
                approval::require_first(conn, &request, now)?;
                return Ok(request.seen(LinkState::Pending, consultant, now));
            }
            if let Some(other) = &holder {
                require_open(&link, now)?;
                if records::link_reviews::find(conn, &other.id)?.is_some() {
                    return Err(Error::new(Code::EmergencyAccess).magic_link(other.id.to_string()));
                }
            }
            Ok(LinkResponse { emergency, ..link.seen(consultant, Some(Delivery::default()), None, now) })
        })
        .await
}

/// A link that was asked for. How long it lasts is known when the tenant's policy is.
struct Asked {
    link: Link,
    actor: Actor,
    /// Why the addresses for notices to owner and issuer cannot be used.
    refused_addresses: (Option<&'static str>, Option<&'static str>),
}

impl Asked {
    fn of(caller: &Caller<AskForLinks>, request: IssueLink, starts_at: Timestamp, now: Timestamp) -> Self {
        let (profile_email, profile_refusal) = notice_address(request.profile.email.as_deref());
        let (issuer_email, issuer_refusal) = notice_address(request.issued_by.email.as_deref());
        let actor = match &request.requested_by {
            Some(person) => caller.actor(Some(person)),
            None => Actor::portal_user(&request.issued_by.id, &request.issued_by.name),
        };
        let link = Link {
            id: LinkId::new(now),
            tenant_id: request.tenant_id,
            portal: request.portal,
            consultant_id: request.consultant_id,
            profile_id: request.profile.id,
            profile_name: request.profile.name,
            profile_email,
            reason: request.reason,
            ticket: request.ticket,
            access: request.access,
            starts_at,
            expires_at: starts_at,
            issued_by_id: request.issued_by.id,
            issued_by_name: request.issued_by.name,
            issued_by_email: issuer_email,
            client_id: caller.client_id.clone(),
            created_at: now,
            generation: 1,
            resent_at: None,
            spent_at: None,
            revoked_at: None,
            revoke_reason: None,
            revoked_by_type: None,
            revoked_by_id: None,
            revoked_by_name: None,
            issued_after: None,
            visit: 0,
            reentry: request.reentry,
            replaced_by: None,
            session_hours: None,
            restrictions: Restrictions::of(request.modules, request.forbidden),
            erased_at: None,
        };
        Self { link, actor, refused_addresses: (profile_refusal, issuer_refusal) }
    }
}

/// Returns the link issued with this key, or else the refusal: a valid request may be refused when repeated later.
async fn replay(
    cx: &Context,
    idempotency: Option<IdempotencyKey>,
    refusal: Error,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let Some(key) = idempotency else { return Err(refusal) };
    repeated(cx, key, now).await?.ok_or(refusal)
}

/// The link that an earlier request with this key issued.
async fn repeated(cx: &Context, key: IdempotencyKey, now: Timestamp) -> Result<Option<LinkResponse>, Error> {
    let known = move |conn: &mut Conn, id: &LinkId, reach: &Reach| read::one_within(conn, id, reach, now);
    cx.store.read_judged(move |conn| idempotency::repeated(conn, &key, now, known)).await
}

/// The address for notices, or why it cannot be used: a wrong one shall not keep anybody from help. A copied cell of a table
/// ends with a tab or a line break.
fn notice_address(given: Option<&str>) -> (Option<String>, Option<&'static str>) {
    match given.map(str::trim).map(plain_address) {
        Some(Ok(address)) => (Some(address), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    }
}

/// Refuses a client that may not ask for what the members of its request mean, whatever the time and the limits.
fn require_scopes(caller: &Caller<AskForLinks>, request: &IssueLink) -> Result<(), Error> {
    if request.replace && !caller.has(Scope::RevokeLinks) {
        return Err(Error::new(Code::InsufficientScope).detail("the field replace needs the scope links:revoke"));
    }
    if request.emergency.is_some() && !(caller.has(Scope::IssueLinks) && caller.has(Scope::EmergencyLinks)) {
        let detail = "the field emergency needs the scopes links:issue and links:emergency";
        return Err(Error::new(Code::InsufficientScope).detail(detail));
    }
    Ok(())
}

/// Refuses a client that may not issue for this tenant and portal.
fn require_reach(caller: &Caller<AskForLinks>, request: &IssueLink) -> Result<(), Error> {
    if caller.reach.covers(&request.tenant_id, &request.portal) {
        return Ok(());
    }
    Err(Error::new(Code::ClientNotPermitted).detail("the client may not issue for this tenant and portal"))
}

/// Refuses while issuing is frozen, or no key could sign.
fn require_issuing(cx: &Context, caller: &Caller<AskForLinks>, now: Timestamp) -> Result<(), Error> {
    if caller.issuing_frozen {
        return Err(Code::IssuingFrozen.into());
    }
    cx.tokens.signing_kid(now).map(drop)
}

/// What is refused for the moment only: a portal that is not configured, a freeze, a clock that is behind, too many mails.
async fn may_issue_now(
    cx: &Context,
    limits: &mail::Limits,
    caller: &Caller<AskForLinks>,
    request: &IssueLink,
    now: Timestamp,
) -> Result<(), Error> {
    require_portal(&cx.config, &request.portal, request.reentry)?;
    require_issuing(cx, caller, now)?;
    limits.count_client(caller.client_id.as_ref())?;
    limits.count_new_link(cx, caller.client_id.as_ref(), &request.tenant_id, &request.consultant_id, now).await
}

/// Checks every field; returns when the window begins, and how long it lasts if the request says so.
fn check(cx: &Context, request: &IssueLink, now: Timestamp) -> Result<(Timestamp, Option<Duration>), Error> {
    let mut fields = Validator::default();
    if !crate::domain::is_tenant_id(&request.tenant_id) {
        fields.error("/tenant_id", "malformed", "has 1 to 64 characters of A-Z, a-z, 0-9, dot, dash and underscore");
    }
    fields.text("/reason", &request.reason, 10, 500);
    fields.optional_text("/ticket", request.ticket.as_deref(), 1, 64);
    fields.external_id("/profile/id", &request.profile.id);
    fields.text("/profile/name", &request.profile.name, 1, 100);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    Restrictions::check(&mut fields, request.modules.as_deref(), &request.forbidden);
    fields.external_id("/issued_by/id", &request.issued_by.id);
    fields.text("/issued_by/name", &request.issued_by.name, 1, 100);
    let longest = cx.config.links.max_duration;
    let starts_at = request.starts_at.unwrap_or(now);
    if starts_at < now.minus(SKEW) {
        fields.error("/starts_at", "in_the_past", "must not lie in the past");
    } else if starts_at > now.plus(longest) {
        let hours = longest.whole_hours();
        fields.error("/starts_at", "too_far", format_args!("must lie within {hours} hours from now"));
    }
    let starts_at = starts_at.max(now);
    let length = request.duration.map(WindowLength::duration);
    if length.is_some_and(|length| length.is_none_or(|length| length > longest)) {
        let hours = longest.whole_hours();
        let detail = format_args!("must be at least one hour and at most {hours} hours");
        fields.error("/duration", "out_of_range", detail);
    }
    if let Some(emergency) = &request.emergency {
        emergency::check(&mut fields, emergency, length.flatten(), starts_at > now, request.reentry);
    }
    fields.finish()?;
    Ok((starts_at, length.flatten()))
}
