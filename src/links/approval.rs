//! Links that wait for an approval: asking for one, approving, denying and withdrawing it, and its lapse.
//!
//! A request is a row of its own. Its approval makes it a link, with the same id, in one transaction that judges what
//! issuing judges, by the rules of that moment.

use time::Duration;

use super::changing::Change;
use super::decisions::{
    Approval, ApproveLink, DenyLink, PATIENCE, WithdrawLink, check_approval, is_among, require_room,
};
use super::grant::{access_exists, admit, insert, issued, require_open};
use super::signed::{self, Presented};
use super::{LinkResponse, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::{AdvisoryLock, Conn};
use crate::domain::{Access, Actor, ConsultantRef, EventType, LinkState, Reach, Restrictions, Validator};
use crate::error::{Code, Error};
use crate::http::{ApproveLinks, AskForLinks, Caller};
use crate::id::LinkId;
use crate::journal::Event;
use crate::mail::{Delivery, notices};
use crate::records;
use crate::records::link_requests::{self as requests, Decision, LinkRequest, RequestState, SignedApproval};
use crate::records::links::Link;
use crate::rules::granting::require_portal;
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};
use crate::tokens::{ApprovalTerms, Signed};

/// Number of requests that one transaction marks.
const A_TIME: i64 = 100;

impl LinkRequest {
    /// The request as the API shows it: a link in a state before it exists.
    pub(super) fn seen(&self, state: LinkState, consultant: ConsultantRef, now: Timestamp) -> LinkResponse {
        let link = self.link(self.shown_at(now));
        LinkResponse { state, approval: Some(Approval::of(self, now)), ..link.seen(consultant, None, None, now) }
    }
}

/// The request for a link that is admitted but for its approval.
///
/// # Errors
/// `validation_failed` where nobody says who asks; `own_request` where the consultant does.
pub(super) fn request(
    link: &Link,
    actor: &Actor,
    consultant: &ConsultantRef,
    replaces: bool,
    now: Timestamp,
) -> Result<LinkRequest, Error> {
    let Some(email) = link.issued_by_email.clone() else {
        let detail = "is needed where a link waits for an approval";
        return Err(Error::new(Code::ValidationFailed).field("/issued_by/email", "required", detail));
    };
    let sender = Some(actor.id.clone()).filter(|id| *id != link.issued_by_id);
    let consultant = [(link.consultant_id.as_str(), consultant.email.as_deref())];
    let asks = is_among((&link.issued_by_id, Some(&email)), &consultant);
    if asks || sender.as_deref().is_some_and(|sender| is_among((sender, None), &consultant)) {
        return Err(Error::new(Code::OwnRequest).detail("the consultant cannot ask for the own access"));
    }
    Ok(LinkRequest::new(link, email, sender, replaces, now.plus(PATIENCE)))
}

/// Refuses a second request for one access while the first one waits: the contacts are asked once.
pub(super) fn require_first(conn: &mut Conn, request: &LinkRequest, now: Timestamp) -> Result<(), Error> {
    match requests::waiting_like(conn, request, now)? {
        Some(other) => Err(Error::new(Code::RequestExists).magic_link(other.to_string())),
        None => Ok(()),
    }
}

/// Takes a request for a link that is admitted but for its approval, in the caller's transaction.
pub(super) fn ask(
    tx: &mut Tx<'_>,
    link: &Link,
    actor: &Actor,
    consultant: ConsultantRef,
    (replaces, per_hour): (bool, u32),
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let request = match request(link, actor, &consultant, replaces, now) {
        Err(refusal) if refusal.code() == Code::OwnRequest => {
            let event = Event::link_refused(link, actor.clone(), Code::OwnRequest, now);
            return Err(tx.refuse(refusal, event.client(link.client_id.as_ref())));
        }
        request => request?,
    };
    let open = records::open_grants::holder(tx, link)?.filter(|other| other.ended(now).is_none());
    if open.is_some() && !replaces {
        return Err(access_exists(tx, link, actor, link.client_id.as_ref(), now)?);
    }
    if open.is_some() {
        require_open(link, now)?;
    }
    AdvisoryLock::AskForLinks.take(tx)?;
    require_first(tx, &request, now)?;
    require_room(tx, (&link.tenant_id, link.client_id.as_ref()), per_hour, now)?;
    requests::insert(tx, &request)?;
    notices::approval_requested(tx, &request, now)?;
    let (modules, forbidden) = Restrictions::recorded(link.restrictions.as_ref());
    tx.record(Event::new(EventType::LinkRequested, actor.clone(), now).client(link.client_id.as_ref()).link(link).with(
        &serde_json::json!({
            "modules": modules, "forbidden": forbidden,
            "access": link.access, "starts_at": link.starts_at, "hours": request.hours, "lapses_at": request.lapses_at,
            "profile_name": link.profile_name, "issued_by": { "id": link.issued_by_id, "name": link.issued_by_name },
            "replace": replaces,
        }),
    ));
    Ok(request.seen(LinkState::Pending, consultant, now))
}

/// The request, if it waits.
fn waiting(tx: &mut Tx<'_>, change: &Change) -> Result<LinkRequest, Error> {
    let Some(request) = requests::find_within(tx, &change.id, &change.reach)? else {
        // A link that never waited for anybody.
        let link = records::links::find_within(tx, &change.id, &change.reach)?.ok_or_else(Error::not_found)?;
        let refusal = Error::new(Code::AlreadyDecided).detail("the link needed no approval");
        return Err(change.refuse(tx, &link, refusal));
    };
    change.require_waiting(tx, &request).map(|()| request)
}

/// Stores the decision: one statement decides between two of them, a lapse and a bulk revocation.
fn decide(
    tx: &mut Tx<'_>,
    change: &Change,
    (state, decision): (RequestState, &Decision),
) -> Result<LinkRequest, Error> {
    match requests::decide(tx, &change.id, &change.reach, state, decision, change.now)? {
        Some(request) => Ok(request),
        None => match waiting(tx, change) {
            Ok(_) => Err(Error::unavailable()),
            Err(refusal) => Err(refusal),
        },
    }
}

fn record_withdrawal(
    tx: &mut Tx<'_>,
    change: &Change,
    request: &LinkRequest,
    reason: Option<&str>,
    acting: Option<&str>,
) {
    let event = change.event(EventType::LinkWithdrawn, &request.link(change.now));
    tx.record(event.with(&serde_json::json!({ "reason": reason, "acting_session_id": acting })));
}

/// Approves a request: the link exists from here on, and is mailed.
///
/// It may be shorter than what was asked for, and lower in access; the rest is as it was asked for. The window begins now
/// at the earliest, in full length.
pub(crate) async fn approve(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    id: LinkId,
    request: ApproveLink,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let ApproveLink { approver, comment, duration, access, signed_approval, acting_session_id } = request;
    let texts = (signed_approval.as_deref(), acting_session_id.as_deref());
    let (email, length) = check_approval(&approver, comment.as_deref(), duration, texts)?;
    // Asked after the key: a repeat is answered though the clock is behind.
    let kid = cx.tokens.signing_kid(now);
    let change = Change::of(caller, id, approver.actor(), now);
    let judged = change.decision(Some(&email), comment.as_deref());
    let config = cx.config.clone();
    cx.store
        .write_large(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &LinkId, reach: &Reach| read::one_within(tx, id, reach, now);
            if let Some(approved) = idempotency::once(tx, idempotency.as_ref(), &change.id, now, known)? {
                return Ok(approved);
            }
            kid.clone()?;
            if records::freeze::is_on(tx)? {
                return Err(Code::IssuingFrozen.into());
            }
            let asked = waiting(tx, &change)?;
            let consultant = records::consultants::find(tx, &asked.consultant_id)?.ok_or_else(Error::not_found)?;
            require_another(tx, &change, &asked, &email, &consultant.email)?;
            let length = narrowed(&asked, length, access)?;
            require_portal(&config, &asked.portal, asked.reentry)?;
            let mut wanted = asked.link(now);
            wanted.access = access.unwrap_or(wanted.access);
            let terms =
                ApprovalTerms { access: wanted.access, duration_seconds: length.whole_seconds(), ..asked.terms() };
            let presented = Presented {
                kind: Signed::Approval,
                terms: &terms,
                email: &email,
                asked_at: asked.created_at,
                text: signed_approval.as_deref(),
            };
            let signed = signed::require(tx, &change, &wanted, &presented)?;
            let proof = signed.as_ref().map(SignedApproval::proof);
            let decision = Decision { signed, ..judged.clone() };
            change.require_asker(tx, &wanted, wanted.client_id.as_ref(), asked.replaces)?;
            // What issuing judges, by the rules of now: the policy, a suspension, the client that asked.
            let admitted = admit(tx, &config, wanted, Some(length), false);
            if let Err(refusal) = &admitted
                && refusal.code() == Code::ConsultantSuspended
            {
                // The suspension has withdrawn the request, too.
                waiting(tx, &change)?;
            }
            let (link, consultant, _) = admitted?;
            let decided = decide(tx, &change, (RequestState::Approved, &decision))?;
            insert(tx, &link, asked.replaces, (&change.actor, change.client_id.as_ref()), now)?;
            requests::keep_place(tx, &decided)?;
            notices::issued(tx, &link, now)?;
            if !link.has_begun(now) {
                notices::announced(tx, &link, now)?;
            }
            tx.wake(Worker::Mail);
            let (modules, forbidden) = Restrictions::recorded(link.restrictions.as_ref());
            let event = change.event(EventType::LinkApproved, &link).approval(proof.as_ref());
            tx.record(event.with(&serde_json::json!({
                "modules": modules, "forbidden": forbidden,
                "signed_approval": decision.signed.as_ref().map(|signed| &signed.jws),
                "approver_email": email, "comment": decision.reason, "requested_at": asked.created_at,
                "asked": { "access": asked.access, "hours": asked.hours }, "access": link.access,
                "starts_at": link.starts_at, "expires_at": link.expires_at,
            })));
            tx.record(issued(&link, &consultant, change.actor.clone(), (None, None), now));
            let approval = Some(Approval::of(&decided, now));
            Ok(LinkResponse { approval, ..link.seen(consultant, Some(Delivery::default()), None, now) })
        })
        .await
}

/// The length of the approved window; neither it nor the access goes beyond what was asked for.
fn narrowed(asked: &LinkRequest, length: Option<Duration>, access: Option<Access>) -> Result<Duration, Error> {
    let mut fields = Validator::default();
    let length = length.unwrap_or_else(|| asked.length());
    if length > asked.length() {
        let detail = format_args!("must be at most the {} hours that were asked for", asked.hours);
        fields.error("/duration", "too_long", detail);
    }
    if access == Some(Access::Full) && asked.access != Access::Full {
        fields.error("/access", "too_wide", "must not be wider than what was asked for");
    }
    fields.finish()?;
    Ok(length)
}

/// Refuses who asked, and the consultant, as the approver: whatever the case of the letters of an id or an address.
fn require_another(
    tx: &mut Tx<'_>,
    change: &Change,
    asked: &LinkRequest,
    email: &str,
    consultant_email: &str,
) -> Result<(), Error> {
    let approver = (change.actor.id.as_str(), Some(email));
    let mut asking = vec![(asked.issued_by_id.as_str(), Some(&*asked.issued_by_email))];
    asking.extend(asked.requested_by_id.as_deref().map(|sender| (sender, None)));
    let detail = if is_among(approver, &asking) {
        "who asked for the access cannot approve it"
    } else if is_among(approver, &[(asked.consultant_id.as_str(), Some(consultant_email))]) {
        "the consultant cannot approve the own access"
    } else {
        return Ok(());
    };
    Err(change.refuse(tx, &asked.link(change.now), Error::new(Code::OwnRequest).detail(detail)))
}

/// Denies a request; the person who asked is told by whom and why.
pub(crate) async fn deny(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    id: LinkId,
    request: DenyLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let email = request.check()?;
    let change = Change::of(caller, id, request.approver.actor(), now);
    let decision = change.decision(Some(&email), Some(&request.reason));
    cx.store
        .write(move |tx| {
            waiting(tx, &change)?;
            let denied = decide(tx, &change, (RequestState::Denied, &decision))?;
            notices::request_denied(tx, &denied, now)?;
            let event = change.event(EventType::LinkDenied, &denied.link(now));
            tx.record(event.with(&serde_json::json!({ "reason": decision.reason, "approver_email": decision.email })));
            read::one_within(tx, &change.id, &change.reach, now)?.ok_or_else(Error::not_found)
        })
        .await
}

/// Withdraws a request.
pub(crate) async fn withdraw(
    cx: &Context,
    caller: &Caller<AskForLinks>,
    id: LinkId,
    request: WithdrawLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    request.check()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    cx.store
        .write(move |tx| {
            waiting(tx, &change)?;
            let reason = request.reason.as_deref();
            let withdrawn = decide(tx, &change, (RequestState::Withdrawn, &change.decision(None, reason)))?;
            record_withdrawal(tx, &change, &withdrawn, reason, request.acting_session_id.as_deref());
            read::one_within(tx, &change.id, &change.reach, now)?.ok_or_else(Error::not_found)
        })
        .await
}

/// Withdraws the request that somebody revokes, in the caller's transaction; `false` if it does not wait.
pub(super) fn revoked(tx: &mut Tx<'_>, change: &Change, reason: &str, acting: Option<&str>) -> Result<bool, Error> {
    let Change { id, reach, now, .. } = change;
    let waits = requests::find_within(tx, id, reach)?.is_some_and(|one| one.state(*now) == RequestState::Pending);
    if !waits {
        return Ok(false);
    }
    let decision = change.decision(None, Some(reason));
    // Waits for an approval that is under way, and finds nothing if it was first.
    let Some(request) = requests::decide(tx, id, reach, RequestState::Withdrawn, &decision, *now)? else {
        return Ok(false);
    };
    record_withdrawal(tx, change, &request, Some(reason), acting);
    Ok(true)
}

/// Withdraws the next requests that a bulk revocation matches, in the caller's transaction; returns how many it matched,
/// and how many it withdrew.
pub(crate) fn withdraw_matched(
    tx: &mut Tx<'_>,
    order: &records::revocations::BulkRevocation,
    now: Timestamp,
) -> Result<(usize, usize), Error> {
    let ids = requests::matched(tx, order, A_TIME)?;
    let withdrawn = requests::withdraw(tx, &ids, order)?;
    let decision = Decision::of(order);
    for request in &withdrawn {
        let event = Event::new(EventType::LinkWithdrawn, decision.by.clone(), now).at(order.created_at);
        tx.record(event.client(order.client_id.as_ref()).link(&request.link(now)).with(&serde_json::json!({
            "reason": order.reason, "revocation_id": order.id,
        })));
    }
    Ok((ids.len(), withdrawn.len()))
}
