//! Extensions that wait for an approval: the link stays as it is meanwhile.

use time::Duration;

use super::changing::{Change, Extending, rules_of};
use super::decisions::{ApproveExtension, DenyLink, PATIENCE, WithdrawLink, check_approval, is_among, require_room};
use super::signed::{self, Presented};
use super::{LinkResponse, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, IssuerRef, plain_address, unless_erased};
use crate::error::{Code, Error};
use crate::http::{ApproveLinks, AskForLinks, Caller};
use crate::id::{ExtensionId, LinkId};
use crate::journal::Event;
use crate::mail::notices;
use crate::records;
use crate::records::extension_requests::{self as requests, ExtensionRequest};
use crate::records::link_requests::{Decision, RequestState};
use crate::records::links::Link;
use crate::store::Tx;
use crate::tokens::{ApprovalTerms, Signed};

/// A request to extend a link as its evidence shows it: who asked, who decided, when and why.
pub(crate) fn extension_shown(request: ExtensionRequest, link: &LinkResponse, now: Timestamp) -> serde_json::Value {
    let request = match link.revoked_at {
        Some(at) => request.withdrawn(at, ending_of(link).as_ref()),
        None => request,
    };
    let decision = request.decision();
    serde_json::json!({
        "id": request.id, "state": request.state(now), "hours": request.hours,
        "reason": unless_erased(request.reason.clone()),
        "asked_by": IssuerRef {
            id: request.asked_by_id.clone(),
            name: unless_erased(request.asked_by_name.clone()),
            email: unless_erased(request.asked_by_email.clone()),
        },
        "client_id": request.client_id, "created_at": request.created_at, "lapses_at": request.lapses_at,
        "decided_at": request.decided_at, "decision": decision,
    })
}

/// What ended a link early, as the decision on what waited for it.
fn ending_of(link: &LinkResponse) -> Option<Decision> {
    link.revoked_by.clone().map(|by| Decision::new(by, link.revoke_reason.clone()))
}

/// Refuses another extension while one waits. One that nobody decided on in time is recorded as lapsed.
pub(super) fn require_none(tx: &mut Tx<'_>, change: &Change, link: &Link) -> Result<(), Error> {
    let known = requests::pending_of_links(tx, std::slice::from_ref(&link.id))?.remove(&link.id);
    match known {
        None => Ok(()),
        Some(request) if request.state(change.now) == RequestState::Lapsed => {
            record_lapsed(tx, vec![request.id], change.now).map(drop)
        }
        Some(_) => Err(change.refuse(tx, link, Code::ExtensionExists)),
    }
}

/// Takes a request to extend a link that is locked, in the caller's transaction.
pub(super) fn ask(
    tx: &mut Tx<'_>,
    change: &Change,
    link: &Link,
    extending: &Extending,
    (by, per_hour): (Duration, u32),
) -> Result<LinkResponse, Error> {
    let now = change.now;
    let Some(email) = extending.by.email.as_deref().and_then(|address| plain_address(address).ok()) else {
        let detail = "is needed where an extension waits for an approval";
        return Err(Error::new(Code::ValidationFailed).field("/extended_by/email", "required", detail));
    };
    change.require_room(tx, link, requests::takes_another_request)?;
    let consultant = records::consultants::find(tx, &link.consultant_id)?.ok_or_else(Error::not_found)?;
    let asking = (&*extending.by.id, Some(&*email));
    if is_among(asking, &[(link.consultant_id.as_str(), Some(&*consultant.email))]) {
        return Err(change.refuse(tx, link, Code::OwnRequest));
    }
    let request = ExtensionRequest {
        id: extending.id.clone(),
        magic_link_id: link.id.clone(),
        previous_expires_at: link.expires_at,
        hours: i32::try_from(by.whole_hours()).map_err(Error::internal)?,
        reason: extending.reason.clone(),
        asked_by_id: extending.by.id.clone(),
        asked_by_name: extending.by.name.clone(),
        asked_by_email: email,
        client_id: change.client_id.clone(),
        created_at: now,
        lapses_at: now.plus(PATIENCE).min(link.expires_at),
        state: RequestState::Pending,
        decided_at: None,
        decision: None,
    };
    require_room(tx, (&link.tenant_id, change.client_id.as_ref()), per_hour, now)?;
    requests::insert(tx, &request)?;
    notices::extension_requested(tx, link, &request, now)?;
    tx.record(change.event(EventType::ExtensionRequested, link).with(&serde_json::json!({
        "extension_id": request.id, "hours": request.hours, "reason": request.reason, "lapses_at": request.lapses_at,
    })));
    read::view(tx, link.clone(), now)
}

/// The request to extend the link, if it waits; the link is locked.
fn waiting(tx: &mut Tx<'_>, change: &Change, link: &Link, id: &ExtensionId) -> Result<ExtensionRequest, Error> {
    let request = requests::find(tx, id)?.filter(|request| request.magic_link_id == link.id);
    let request = request.ok_or_else(Error::not_found)?;
    let state = request.state(change.now);
    match state.refusal() {
        None => Ok(request),
        Some(code) => Err(change.refuse(tx, link, Error::new(code).detail(state.in_words()))),
    }
}

fn decide(
    tx: &mut Tx<'_>,
    change: &Change,
    link: &Link,
    id: &ExtensionId,
    (state, decision): (RequestState, &Decision),
) -> Result<ExtensionRequest, Error> {
    match requests::decide(tx, id, state, decision, change.now)? {
        Some(request) => Ok(request),
        None => match waiting(tx, change, link, id) {
            Ok(_) => Err(Error::unavailable()),
            Err(refusal) => Err(refusal),
        },
    }
}

/// Approves an extension: the link ends later from here on.
pub(crate) async fn approve(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    (id, extension): (LinkId, ExtensionId),
    request: ApproveExtension,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let ApproveExtension { approver, comment, duration, signed_approval, acting_session_id } = request;
    let texts = (signed_approval.as_deref(), acting_session_id.as_deref());
    let (email, shorter) = check_approval(&approver, comment.as_deref(), duration, texts)?;
    let change = Change::of(caller, id, approver.actor(), now);
    let config = cx.config.clone();
    cx.store
        .write_large(move |tx| {
            if records::freeze::is_on(tx)? {
                return Err(Code::IssuingFrozen.into());
            }
            // Before the link, as where a link is approved that replaces one.
            signed::hold_key(tx, &change)?;
            let link = change.lock(tx)?;
            let asked = waiting(tx, &change, &link, &extension)?;
            let consultant = records::consultants::find(tx, &link.consultant_id)?.ok_or_else(Error::not_found)?;
            let others = [
                (asked.asked_by_id.as_str(), Some(&*asked.asked_by_email)),
                (link.consultant_id.as_str(), Some(&*consultant.email)),
            ];
            if is_among((&change.actor.id, Some(&email)), &others) {
                return Err(change.refuse(tx, &link, Code::OwnRequest));
            }
            change.require_asker(tx, &link, asked.client_id.as_ref(), false)?;
            let by = shorter.unwrap_or_else(|| asked.length());
            if by > asked.length() {
                let detail = format!("must be at most the {} hours that were asked for", asked.hours);
                return Err(Error::new(Code::ValidationFailed).field("/duration", "too_long", detail));
            }
            // Not beyond the end that was asked for, though the link was shortened meanwhile.
            let to = link.expires_at.plus(by).min(asked.previous_expires_at.plus(by));
            if to <= link.expires_at {
                let detail = format!("the link ends at {} by now, which is no sooner", link.expires_at);
                return Err(Error::new(Code::ValidationFailed).field("/duration", "too_short", detail));
            }
            rules_of(tx, &config, &link.tenant_id)?.require_extension(&link, to.since(link.starts_at))?;
            let terms = ApprovalTerms { duration_seconds: by.whole_seconds(), ..asked.terms(&link) };
            let presented = Presented {
                kind: Signed::ExtensionApproval,
                terms: &terms,
                email: &email,
                asked_at: asked.created_at,
                text: signed_approval.as_deref(),
            };
            let signed = signed::require(tx, &change, &link, &presented)?;
            let (by, reason) = (asked.asked_by(), asked.reason.clone());
            let extending = Extending { id: extension.clone(), by, reason, signed: signed.clone() };
            let approved = Decision { signed, ..change.decision(Some(&email), comment.as_deref()) };
            decide(tx, &change, &link, &extension, (RequestState::Approved, &approved))?;
            let more = serde_json::json!({
                "asked_by": { "id": extending.by.id, "name": extending.by.name }, "approver_email": email,
                "comment": approved.reason, "requested_at": asked.created_at, "signed_approval": approved.signed.map(|signed| signed.jws),
            });
            change.extend(tx, &link, &extending, to, more)
        })
        .await
}

/// Denies an extension; the person who asked is told by whom and why.
pub(crate) async fn deny(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    (id, extension): (LinkId, ExtensionId),
    request: DenyLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let email = request.check()?;
    let change = Change::of(caller, id, request.approver.actor(), now);
    cx.store
        .write_large(move |tx| {
            let link = change.lock(tx)?;
            waiting(tx, &change, &link, &extension)?;
            let denied = change.decision(Some(&email), Some(&request.reason));
            let asked = decide(tx, &change, &link, &extension, (RequestState::Denied, &denied))?;
            notices::extension_denied(tx, &link, &asked, now)?;
            tx.record(change.event(EventType::ExtensionDenied, &link).with(&serde_json::json!({
                "extension_id": asked.id, "reason": denied.reason, "approver_email": denied.email,
            })));
            read::view(tx, link, now)
        })
        .await
}

/// Withdraws a request to extend a link.
pub(crate) async fn withdraw(
    cx: &Context,
    caller: &Caller<AskForLinks>,
    (id, extension): (LinkId, ExtensionId),
    request: WithdrawLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    request.check()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    cx.store
        .write_large(move |tx| {
            let link = change.lock(tx)?;
            waiting(tx, &change, &link, &extension)?;
            let withdrawn = change.decision(None, request.reason.as_deref());
            let asked = decide(tx, &change, &link, &extension, (RequestState::Withdrawn, &withdrawn))?;
            tx.record(change.event(EventType::ExtensionWithdrawn, &link).with(&serde_json::json!({
                "extension_id": asked.id, "reason": withdrawn.reason, "acting_session_id": request.acting_session_id,
            })));
            read::view(tx, link, now)
        })
        .await
}

/// Records these requests, on which nobody decided in time, in the caller's transaction; returns how many.
pub(super) fn record_lapsed(tx: &mut Tx<'_>, due: Vec<ExtensionId>, now: Timestamp) -> Result<usize, Error> {
    let lapsed = requests::lapse(tx, due)?;
    for request in &lapsed {
        let Some(link) = records::links::find(tx, &request.magic_link_id)? else { continue };
        let event = Event::new(EventType::ExtensionLapsed, Actor::system("clock"), now).link(&link);
        tx.record(event.with(&serde_json::json!({ "extension_id": request.id, "lapses_at": request.lapses_at })));
        if link.ended(now).is_none() {
            notices::extension_denied(tx, &link, request, now)?;
        }
    }
    Ok(lapsed.len())
}
