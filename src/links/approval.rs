//! Links that wait for an approval: asking for one, approving, denying and withdrawing it, and its lapse.
//!
//! A request is a row of its own. Its approval makes it a link, with the same id, in one transaction that judges what
//! issuing judges, by the rules of that moment.

use time::Duration;

use super::decisions::{Approval, ApproveLink, DenyLink, PATIENCE, WithdrawLink, check_approver, is_same};
use super::grant::{access_exists, admit, issued, replace};
use super::{LinkResponse, read, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{
    Access, Actor, ConsultantRef, EventType, LinkState, Reach, Restrictions, Validator, WindowLength, check_person,
    refuse_support_session,
};
use crate::error::{Code, Error};
use crate::http::{ApproveLinks, AskForLinks, Caller};
use crate::id::{ClientId, LinkId};
use crate::journal::Event;
use crate::mail::{self, Delivery, notices};
use crate::records;
use crate::records::link_requests::{self as requests, Decision, LinkRequest, RequestState};
use crate::records::links::Link;
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};

/// Number of requests that one transaction marks.
const A_TIME: i64 = 100;

impl LinkRequest {
    /// The request as the API shows it: a link in a state before it exists.
    pub(super) fn seen(&self, state: LinkState, consultant: ConsultantRef, now: Timestamp) -> LinkResponse {
        let link = self.link(self.decided_at.unwrap_or(now).max(self.created_at));
        LinkResponse {
            state,
            approval: Some(Approval::of(self, now)),
            ..link.seen(consultant, Delivery::default(), None, now)
        }
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
    if is_same(&email, &consultant.email) || is_same(&link.issued_by_id, link.consultant_id.as_str()) {
        return Err(Error::new(Code::OwnRequest).detail("the consultant cannot ask for the own access"));
    }
    let sender = Some(actor.id.clone()).filter(|id| *id != link.issued_by_id);
    Ok(LinkRequest::new(link, email, sender, replaces, now.plus(PATIENCE)))
}

/// Takes a request for a link that is admitted but for its approval, in the caller's transaction.
pub(super) fn ask(
    tx: &mut Tx<'_>,
    link: &Link,
    actor: &Actor,
    consultant: ConsultantRef,
    replaces: bool,
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
    requests::insert(tx, &request)?;
    notices::approval_requested(tx, &request, now)?;
    let (modules, forbidden) = Restrictions::shown(link.restrictions.as_ref());
    tx.record(Event::new(EventType::LinkRequested, actor.clone(), now).client(link.client_id.as_ref()).link(link).with(
        &serde_json::json!({
            "modules": modules, "forbidden": (!forbidden.is_empty()).then_some(forbidden),
            "access": link.access, "starts_at": link.starts_at, "hours": request.hours, "lapses_at": request.lapses_at,
            "profile_name": link.profile_name, "issued_by": { "id": link.issued_by_id, "name": link.issued_by_name },
            "replace": replaces,
        }),
    ));
    Ok(request.seen(LinkState::Pending, consultant, now))
}

/// Who decides on a request, and about which one.
struct Deciding {
    id: LinkId,
    reach: Reach,
    actor: Actor,
    client_id: Option<ClientId>,
    now: Timestamp,
}

impl Deciding {
    fn of<S>(caller: &Caller<S>, id: LinkId, actor: Actor, now: Timestamp) -> Self {
        Self { id, reach: caller.reach.clone(), actor, client_id: caller.client_id.clone(), now }
    }

    /// The request, if it waits.
    fn find(&self, tx: &mut Tx<'_>) -> Result<LinkRequest, Error> {
        let Some(request) = requests::find_within(tx, &self.id, &self.reach)? else {
            // A link that never waited for anybody.
            let link = records::links::find_within(tx, &self.id, &self.reach)?.ok_or_else(Error::not_found)?;
            return Err(self.refuse_link(tx, &link, Code::AlreadyDecided, "the link needed no approval"));
        };
        match request.state(self.now) {
            RequestState::Pending => Ok(request),
            RequestState::Lapsed => Err(self.refuse(tx, &request, Code::RequestLapsed, "nobody decided in time")),
            state => Err(self.refuse(tx, &request, Code::AlreadyDecided, format!("it was {state}"))),
        }
    }

    fn refuse(&self, tx: &mut Tx<'_>, request: &LinkRequest, code: Code, detail: impl Into<String>) -> Error {
        self.refuse_link(tx, &request.link(self.now), code, detail)
    }

    fn refuse_link(&self, tx: &mut Tx<'_>, link: &Link, code: Code, detail: impl Into<String>) -> Error {
        let event = Event::link_refused(link, self.actor.clone(), code, self.now).client(self.client_id.as_ref());
        tx.refuse(Error::new(code).detail(detail.into()), event)
    }

    /// Stores the decision: one statement decides between two of them, a lapse and a bulk revocation.
    fn decide(&self, tx: &mut Tx<'_>, state: RequestState, decision: &Decision) -> Result<LinkRequest, Error> {
        let decided = requests::decide(tx, &self.id, &self.reach, state, decision, self.now)?;
        match decided {
            Some(request) => Ok(request),
            None => match self.find(tx) {
                Ok(_) => Err(Error::unavailable()),
                Err(refusal) => Err(refusal),
            },
        }
    }

    fn event(&self, kind: EventType, link: &Link) -> Event {
        Event::new(kind, self.actor.clone(), self.now).client(self.client_id.as_ref()).link(link)
    }
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
    refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Validator::default();
    let email = check_approver(&mut fields, &request.approver);
    fields.optional_text("/comment", request.comment.as_deref(), 3, 500);
    let length = request.duration.map(WindowLength::duration);
    if length.is_some_and(|length| length.is_none()) {
        fields.error("/duration", "out_of_range", "must be at least one hour, and no longer than was asked for");
    }
    fields.finish()?;
    cx.tokens.signing_kid(now)?;
    let approver = request.approver;
    let deciding = Deciding::of(caller, id, Actor::portal_user(&approver.id, &approver.name), now);
    let decision = Decision {
        by: deciding.actor.clone(),
        email: Some(email.clone()),
        client_id: deciding.client_id.clone(),
        reason: request.comment,
        revocation_id: None,
    };
    let (length, access, config) = (length.flatten(), request.access, cx.config.clone());
    cx.store
        .write_large(move |tx| {
            if idempotency::once(tx, idempotency.as_ref(), &deciding.id, now)?.is_some() {
                return read::one_within(tx, &deciding.id, &deciding.reach, now)?.ok_or_else(Error::not_found);
            }
            if store::freeze_state(tx)?.0.is_some() {
                return Err(Code::IssuingFrozen.into());
            }
            let asked = deciding.find(tx)?;
            let consultant = records::consultants::find(tx, &asked.consultant_id)?.ok_or_else(Error::not_found)?;
            require_another(tx, &deciding, &asked, &email, &consultant.email)?;
            let length = narrowed(&asked, length, access)?;
            let mut wanted = asked.link(now);
            wanted.access = access.unwrap_or(wanted.access);
            // What issuing judges, by the rules of now: the policy, a suspension, the client that asked.
            let admitted = admit(tx, &config, wanted, Some(length));
            let disabled = |error: Error| match error.code() {
                Code::Unauthenticated => Code::ClientDisabled.into(),
                _ => error,
            };
            let (link, consultant, _) = admitted.map_err(disabled)?;
            let decided = deciding.decide(tx, RequestState::Approved, &decision)?;
            if asked.replaces {
                replace(tx, &link, &deciding.actor, now)?;
            }
            if !mail::insert_with_link(tx, &link, now)? {
                return Err(access_exists(tx, &link, &deciding.actor, deciding.client_id.as_ref(), now)?);
            }
            requests::keep_place(tx, &decided)?;
            notices::issued(tx, &link, now)?;
            if !link.has_begun(now) {
                notices::announced(tx, &link, now)?;
            }
            tx.wake(Worker::Mail);
            tx.record(deciding.event(EventType::LinkApproved, &link).with(&serde_json::json!({
                "approver_email": email, "comment": decision.reason, "requested_at": asked.created_at,
                "asked": { "access": asked.access, "hours": asked.hours }, "access": link.access,
                "starts_at": link.starts_at, "expires_at": link.expires_at,
            })));
            tx.record(issued(&link, deciding.actor.clone(), (None, None), now));
            let approval = Some(Approval::of(&decided, now));
            Ok(LinkResponse { approval, ..link.seen(consultant, Delivery::default(), None, now) })
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
    deciding: &Deciding,
    asked: &LinkRequest,
    email: &str,
    consultant_email: &str,
) -> Result<(), Error> {
    let id = &deciding.actor.id;
    let asked_for = is_same(id, &asked.issued_by_id)
        || is_same(email, &asked.issued_by_email)
        || asked.requested_by_id.as_deref().is_some_and(|sender| is_same(id, sender));
    let is_consultant = is_same(id, asked.consultant_id.as_str()) || is_same(email, consultant_email);
    let detail = match (asked_for, is_consultant) {
        (true, _) => "who asked for the access cannot approve it",
        (_, true) => "the consultant cannot approve the own access",
        _ => return Ok(()),
    };
    Err(deciding.refuse(tx, asked, Code::OwnRequest, detail))
}

/// Denies a request; the person who asked is told by whom and why.
pub(crate) async fn deny(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    id: LinkId,
    request: DenyLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Validator::default();
    let email = check_approver(&mut fields, &request.approver);
    fields.text("/reason", &request.reason, 3, 500);
    fields.finish()?;
    let actor = Actor::portal_user(&request.approver.id, &request.approver.name);
    let deciding = Deciding::of(caller, id, actor, now);
    let decision = Decision {
        by: deciding.actor.clone(),
        email: Some(email),
        client_id: deciding.client_id.clone(),
        reason: Some(request.reason),
        revocation_id: None,
    };
    cx.store
        .write(move |tx| {
            deciding.find(tx)?;
            let denied = deciding.decide(tx, RequestState::Denied, &decision)?;
            notices::request_denied(tx, &denied, now)?;
            let event = deciding.event(EventType::LinkDenied, &denied.link(now));
            tx.record(event.with(&serde_json::json!({ "reason": decision.reason, "approver_email": decision.email })));
            read::one_within(tx, &deciding.id, &deciding.reach, now)?.ok_or_else(Error::not_found)
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
    let mut fields = Validator::default();
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/reason", request.reason.as_deref(), 3, 500);
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()?;
    let deciding = Deciding::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    let (reason, acting) = (request.reason, request.acting_session_id);
    cx.store
        .write(move |tx| {
            deciding.find(tx)?;
            withdrawn(tx, &deciding, reason.as_deref(), acting.as_deref())?;
            read::one_within(tx, &deciding.id, &deciding.reach, now)?.ok_or_else(Error::not_found)
        })
        .await
}

fn withdrawn(tx: &mut Tx<'_>, deciding: &Deciding, reason: Option<&str>, acting: Option<&str>) -> Result<(), Error> {
    let decision = Decision {
        by: deciding.actor.clone(),
        email: None,
        client_id: deciding.client_id.clone(),
        reason: reason.map(ToOwned::to_owned),
        revocation_id: None,
    };
    let request = deciding.decide(tx, RequestState::Withdrawn, &decision)?;
    let event = deciding.event(EventType::LinkWithdrawn, &request.link(deciding.now));
    tx.record(event.with(&serde_json::json!({ "reason": decision.reason, "acting_session_id": acting })));
    Ok(())
}

/// Why there is no link: it waits for an approval, or did in vain.
pub(super) fn why_none(
    tx: &mut Tx<'_>,
    id: &LinkId,
    reach: &Reach,
    (actor, client_id): (&Actor, Option<&ClientId>),
    now: Timestamp,
) -> Result<Error, Error> {
    let Some(request) = requests::find_within(tx, id, reach)? else { return Ok(Error::not_found()) };
    let deciding =
        Deciding { id: id.clone(), reach: reach.clone(), actor: actor.clone(), client_id: client_id.cloned(), now };
    Ok(match request.state(now) {
        RequestState::Pending => deciding.refuse(tx, &request, Code::ApprovalRequired, "nobody has decided yet"),
        RequestState::Lapsed => deciding.refuse(tx, &request, Code::RequestLapsed, "nobody decided in time"),
        state => deciding.refuse(tx, &request, Code::AlreadyDecided, format!("it was {state}")),
    })
}

/// Withdraws the request that somebody revokes, in the caller's transaction; `false` if it does not wait.
pub(super) fn revoked(
    tx: &mut Tx<'_>,
    id: &LinkId,
    reach: &Reach,
    (actor, client_id): (&Actor, Option<&ClientId>),
    (reason, acting): (&str, Option<&str>),
    now: Timestamp,
) -> Result<bool, Error> {
    let waits = requests::find_within(tx, id, reach)?.is_some_and(|one| one.state(now) == RequestState::Pending);
    if waits {
        let (actor, client_id) = (actor.clone(), client_id.cloned());
        let deciding = Deciding { id: id.clone(), reach: reach.clone(), actor, client_id, now };
        withdrawn(tx, &deciding, Some(reason), acting)?;
    }
    Ok(waits)
}

/// Withdraws the next requests that a bulk revocation matches, in the caller's transaction; returns how many.
pub(crate) fn withdraw_matched(
    tx: &mut Tx<'_>,
    order: &records::revocations::BulkRevocation,
    now: Timestamp,
) -> Result<usize, Error> {
    let ids = requests::matched(tx, order, A_TIME)?;
    let withdrawn = requests::withdraw(tx, &ids, order)?;
    let decision = Decision::of(order);
    for request in &withdrawn {
        let event = Event::new(EventType::LinkWithdrawn, decision.by.clone(), now).at(order.created_at);
        tx.record(event.client(order.client_id.as_ref()).link(&request.link(now)).with(&serde_json::json!({
            "reason": order.reason, "revocation_id": order.id,
        })));
    }
    Ok(ids.len())
}
