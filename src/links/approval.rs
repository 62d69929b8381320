//! Links that wait for an approval: asking for one, approving, denying and withdrawing it, and its lapse.
//!
//! A request is a row of its own. Its approval makes it a link, with the same id, in one transaction that judges what
//! issuing judges, by the rules of that moment.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::issue::{access_exists, admit, issued};
use super::{LinkResponse, read, revoke, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{
    Access, Actor, ConsultantRef, EventType, LinkState, Person, Reach, Validator, WindowLength, check_person,
    refuse_support_session, trimmed, trimmed_if_present,
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

/// How long a request waits for a decision.
const PATIENCE: Duration = Duration::hours(24);

/// Number of requests that one transaction marks.
const A_TIME: i64 = 100;

/// Person at the portal who approves or denies an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Portal's identifier of the person.
    #[schema(min_length = 1, max_length = 128, example = "emp-3")]
    pub id: String,
    /// Name of the person.
    #[schema(min_length = 1, max_length = 100, example = "Vikram Shah")]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// E-mail address of the person: neither the one of who asks, nor the consultant's.
    #[schema(max_length = 254, example = "vikram.shah@acme.example")]
    pub email: String,
}

/// Approval of a link that waits for one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"},
    "duration": {"value": 2, "unit": "hours"}, "comment": "Two hours are enough"
}))]
pub struct ApproveLink {
    /// Person who approves; recorded as asserted by the client, not verified. Neither who asked, nor the consultant.
    pub approver: Approver,
    /// Why, in the words of the person who approves.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub comment: Option<String>,
    /// A shorter window than the one that was asked for.
    pub duration: Option<WindowLength>,
    /// A lower access level than the one that was asked for.
    pub access: Option<Access>,
    /// Identifier of the support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Denial of a link that waits for an approval.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"},
    "reason": "The payroll run is over"
}))]
pub struct DenyLink {
    /// Person who denies; recorded as asserted by the client, not verified.
    pub approver: Approver,
    /// Why the access is denied; told to the person who asked.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Identifier of the support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Withdrawal of a request for a link.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}, "reason": "It was solved by telephone"}))]
pub struct WithdrawLink {
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Why the request is withdrawn.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub reason: Option<String>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Approval that a link waits for, or waited for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Approval {
    /// Whether the link needs an approval: always true.
    pub required: bool,
    /// State of the request for it.
    pub state: RequestState,
    /// When the request lapses unless somebody decides (RFC 3339, UTC).
    pub lapses_at: Timestamp,
    /// Length of the window that was asked for.
    pub duration: WindowLength,
    /// Access level that was asked for.
    pub access: Access,
    /// Why access was asked for, in the words that were approved.
    #[schema(max_length = 500)]
    pub reason: String,
    /// When it was decided (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Who decided, as asserted by the client; nobody where it lapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Actor>,
    /// E-mail address of the person who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub decided_by_email: Option<String>,
    /// Client through which it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by_client_id: Option<ClientId>,
    /// Why it was decided so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 600)]
    pub decision_reason: Option<String>,
}

impl Approval {
    pub(super) fn of(request: &LinkRequest, now: Timestamp) -> Self {
        let state = request.state(now);
        let decision = request.decision();
        let lapsed_at = (state == RequestState::Lapsed).then_some(request.lapses_at);
        Self {
            required: true,
            state,
            lapses_at: request.lapses_at,
            duration: WindowLength::of(request.length()),
            access: request.access,
            reason: request.reason.clone(),
            decided_at: request.decided_at.or(lapsed_at),
            decided_by_email: decision.as_ref().and_then(|decision| decision.email.clone()),
            decided_by_client_id: decision.as_ref().and_then(|decision| decision.client_id.clone()),
            decision_reason: decision.as_ref().and_then(|decision| decision.reason.clone()),
            decided_by: decision.map(|decision| decision.by),
        }
    }
}

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

/// Whether two persons are one: the same identifier or address, whatever the case of their letters.
fn is_same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
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
    let Some(email) = link.issued_by_email.clone() else {
        let detail = "is needed where a link waits for an approval";
        return Err(Error::new(Code::ValidationFailed).field("/issued_by/email", "required", detail));
    };
    if is_same(&email, &consultant.email) || is_same(&link.issued_by_id, link.consultant_id.as_str()) {
        let refused = Event::link_refused(link, actor.clone(), Code::OwnRequest, now).client(link.client_id.as_ref());
        return Err(
            tx.refuse(Error::new(Code::OwnRequest).detail("the consultant cannot ask for the own access"), refused)
        );
    }
    let open = records::open_grants::holder(tx, link)?.filter(|other| other.ended(now).is_none());
    if open.is_some() && !replaces {
        return Err(access_exists(tx, link, actor, link.client_id.as_ref(), now)?);
    }
    let sender = Some(actor.id.clone()).filter(|id| *id != link.issued_by_id);
    let request = LinkRequest::new(link, email, sender, replaces, now.plus(PATIENCE));
    requests::insert(tx, &request)?;
    notices::approval_requested(tx, &request, now)?;
    tx.record(Event::new(EventType::LinkRequested, actor.clone(), now).client(link.client_id.as_ref()).link(link).with(
        &serde_json::json!({
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

fn check_approver(fields: &mut Validator, approver: &Approver) -> String {
    fields.external_id("/approver/id", &approver.id);
    fields.text("/approver/name", &approver.name, 1, 100);
    fields.email("/approver/email", &approver.email)
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
        reason: request.comment.as_deref().map(|comment| comment.trim().to_owned()),
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
                revoke::replace(tx, &link, &deciding.actor, now)?;
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
        reason: Some(request.reason.trim().to_owned()),
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
        reason: reason.map(|reason| reason.trim().to_owned()),
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

/// Records the requests on which nobody decided in time; returns how many.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn lapse(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    cx.store
        .write_large(move |tx| {
            let lapsed = requests::lapse(tx, A_TIME, now)?;
            for request in &lapsed {
                let event = Event::new(EventType::LinkLapsed, Actor::system("clock"), now).link(&request.link(now));
                tx.record(event.with(&serde_json::json!({ "lapses_at": request.lapses_at })));
                notices::request_denied(tx, request, now)?;
            }
            Ok(lapsed.len())
        })
        .await
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
