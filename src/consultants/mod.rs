//! A consultant is a support person of the vendor. Only registered, active consultants get links.
//!
//! Suspending a consultant puts a bulk revocation of their links in force in the same
//! transaction, and so does changing their e-mail address: a link must never reach a
//! new mailbox.

pub(crate) mod routes;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{
    Authority, EventType, Page, Paging, Person, Reach, Scope, Validator, check_person, trimmed, trimmed_if_present,
    unless_erased,
};
use crate::error::{Code, Error};
use crate::http::{Caller, ReadConsultants, WriteConsultants};
use crate::id::{ConsultantId, RevocationId};
use crate::journal::Event;
use crate::records::consultants::{Consultant, ConsultantFilter, ConsultantState};
use crate::records::revocations::BulkRevocation;
use crate::revocations::Prepared;
use crate::store::{IdempotencyKey, Tx, idempotency};
use crate::{mail, records};

pub(crate) use crate::domain::refuse_support_session;

/// Consultant of the directory.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsultantResponse {
    /// Identifier of the consultant.
    pub(super) id: ConsultantId,
    /// Name of the consultant; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    name: Option<String>,
    /// E-mail address to which the consultant's links are mailed; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    email: Option<String>,
    /// State of the consultant.
    state: ConsultantState,
    /// When the consultant was registered (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the consultant was last changed (RFC 3339, UTC).
    updated_at: Timestamp,
    /// When the consultant was suspended (RFC 3339, UTC); absent for an active consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    suspended_at: Option<Timestamp>,
    /// Why the consultant was suspended; only for clients of every tenant and portal with the scope `consultants:write`
    /// or `admin`. Auditors of every tenant read it in the `_system` log.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    suspend_reason: Option<String>,
    /// When name and address were erased (RFC 3339, UTC): nobody has needed them for the whole retention. Such a consultant
    /// stays suspended, and is in no list.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased_at: Option<Timestamp>,
    /// Bulk revocation of the consultant's links that this change has brought about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revocation_id: Option<RevocationId>,
}

impl ConsultantResponse {
    /// A consultant as a caller sees them: why they were suspended may concern other tenants, and is for operators.
    fn seen_by(authority: &Authority, consultant: Consultant) -> Self {
        let reason = consultant.suspend_reason.filter(|_| authority.is_operator());
        let suspended = consultant.suspended_at.is_some();
        Self {
            id: consultant.id,
            name: unless_erased(consultant.name),
            email: unless_erased(consultant.email),
            state: if suspended { ConsultantState::Suspended } else { ConsultantState::Active },
            created_at: consultant.created_at,
            updated_at: consultant.updated_at,
            suspended_at: consultant.suspended_at,
            suspend_reason: reason,
            erased_at: consultant.erased_at,
            revocation_id: None,
        }
    }
}

/// Consultant to register.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Anita Desai", "email": "anita.desai@support.example"}))]
pub struct RegisterConsultant {
    /// Name of the consultant.
    #[schema(min_length = 1, max_length = 100)]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// E-mail address to which links are mailed: one address, without a display name.
    #[schema(max_length = 254)]
    pub email: String,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Changes of a consultant; absent members stay as they are.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Ravi S. Kumar"}))]
pub struct ChangeConsultant {
    /// New name of the consultant.
    #[schema(min_length = 1, max_length = 100)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub name: Option<String>,
    /// New e-mail address: needs the scope `admin`, revokes the consultant's links and notifies the old address, unless it
    /// differs by upper and lower case only.
    #[schema(max_length = 254)]
    pub email: Option<String>,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Request to suspend or reinstate a consultant.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Left the support team", "requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct ConsultantDecision {
    /// Why the consultant is suspended or reinstated.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Number of unconfirmed consultants that one query reads.
const PAGE: i64 = 200;

/// Consultants serve every tenant, and every tenant reads the directory: only operators write it.
fn require_operator(caller: &Caller<WriteConsultants>) -> Result<(), Error> {
    caller.require_operator("registering or changing a consultant")
}

/// Registers a consultant. An e-mail address belongs to one consultant.
pub(crate) async fn register(
    cx: &Context,
    caller: &Caller<WriteConsultants>,
    request: RegisterConsultant,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<ConsultantResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    require_operator(caller)?;
    let mut fields = Validator::default();
    fields.text("/name", &request.name, 1, 100);
    let email = fields.email("/email", &request.email);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let consultant = Consultant {
        id: ConsultantId::new(now),
        name: request.name.trim().to_owned(),
        email_key: email.to_lowercase(),
        email,
        created_at: now,
        updated_at: now,
        suspended_at: None,
        suspend_reason: None,
        unconfirmed_since: None,
        erased_at: None,
    };
    let event = Event::new(EventType::ConsultantRegistered, caller.actor(request.requested_by.as_ref()), now)
        .client(caller.client_id.as_ref())
        .consultant(&consultant.id)
        .with(&serde_json::json!({ "name": consultant.name, "email": consultant.email }));
    let made = cx
        .store
        .write(move |tx| {
            // The directory has no reach: it is written by operators, and all of it is theirs.
            let known = |tx: &mut Tx<'_>, id: &ConsultantId, _: &Reach| Ok(records::consultants::find(tx, id)?);
            if let Some(made) = idempotency::once(tx, idempotency.as_ref(), &consultant.id, now, known)? {
                return Ok(made);
            }
            if records::consultants::email_taken(tx, &consultant.email_key, None)? {
                return Err(Code::ConsultantExists.into());
            }
            records::consultants::insert(tx, &consultant)?;
            tx.record(event.clone());
            Ok(consultant.clone())
        })
        .await?;
    Ok(ConsultantResponse::seen_by(&caller.authority(), made))
}

/// A page of the directory, newest first.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadConsultants>,
    mut filter: ConsultantFilter,
) -> Result<Page<ConsultantResponse>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    filter.search = filter.search.map(|text| text.trim().to_lowercase());
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let asked = page.clone();
    let rows = cx.store.read(move |conn| Ok(records::consultants::list(conn, &filter, &asked)?)).await?;
    let authority = caller.authority();
    let show = |row| ConsultantResponse::seen_by(&authority, row);
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), show))
}

/// One consultant.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ReadConsultants>,
    id: ConsultantId,
) -> Result<ConsultantResponse, Error> {
    let consultant = cx.store.read(move |conn| Ok(records::consultants::find(conn, &id)?)).await?;
    let consultant = consultant.ok_or_else(Error::not_found)?;
    Ok(ConsultantResponse::seen_by(&caller.authority(), consultant))
}

/// Changes a name or an e-mail address. A new address revokes the links, and the old one is notified.
pub(crate) async fn change(
    cx: &Context,
    caller: &Caller<WriteConsultants>,
    id: ConsultantId,
    request: ChangeConsultant,
) -> Result<ConsultantResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    require_operator(caller)?;
    let mut fields = Validator::default();
    fields.optional_text("/name", request.name.as_deref(), 1, 100);
    let email = request.email.as_ref().map(|email| fields.email("/email", email));
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    if request.email.is_some() && !caller.has(Scope::Admin) {
        return Err(Error::new(Code::InsufficientScope).detail("changing an e-mail address needs the scope admin"));
    }
    let actor = caller.actor(request.requested_by.as_ref());
    let client_id = caller.client_id.clone();
    let ending = match request.email {
        Some(_) => Some(end_links(cx, &id, "the consultant's e-mail address was changed", caller).await),
        None => None,
    };
    let per_hour = cx.config.limits.mails_per_recipient_hour;
    let (revoking, now) = (ending.clone(), ending.as_ref().map_or_else(|| cx.clock.now(), Prepared::at));
    let (changed, order) = cx
        .store
        .write(move |tx| {
            let before = records::consultants::lock_for_change(tx, &id)?.ok_or_else(Error::not_found)?;
            let name = request.name.as_deref().map_or(before.name.as_str(), str::trim);
            let email = email.as_deref().unwrap_or(&before.email);
            let email_key = email.to_lowercase();
            if (name, email) == (before.name.as_str(), before.email.as_str()) {
                return Ok((before, None));
            }
            if records::consultants::email_taken(tx, &email_key, Some(&id))? {
                return Err(Code::ConsultantExists.into());
            }
            let after =
                records::consultants::change(tx, &id, name, email, &email_key, now)?.ok_or_else(Error::not_found)?;
            let mut order = None;
            // Another spelling of the same address takes nobody's access away.
            if before.email_key != after.email_key {
                order = revoking.as_ref().map(|revoking| revoking.enforce(tx)).transpose()?;
                mail::enqueue_address_changed(tx, &after, &before.email, (client_id.as_ref(), per_hour), now)?;
            }
            tx.record(
                Event::new(EventType::ConsultantChanged, actor.clone(), now)
                    .client(client_id.as_ref())
                    .consultant(&id)
                    .with(&serde_json::json!({
                        "before": { "name": before.name, "email": before.email },
                        "after": { "name": after.name, "email": after.email },
                        "revocation_id": order.as_ref().map(|order| &order.id),
                    })),
            );
            Ok((after, order))
        })
        .await?;
    let revocation_id = match ending {
        Some(ending) => ending.finish(cx, order).await,
        None => None,
    };
    Ok(ConsultantResponse { revocation_id, ..ConsultantResponse::seen_by(&caller.authority(), changed) })
}

/// The bulk revocation of a consultant's links, which the act that brings it about puts in force.
async fn end_links(cx: &Context, id: &ConsultantId, reason: &str, caller: &Caller<WriteConsultants>) -> Prepared {
    // The tenants whose links end are told neither the reason nor a person of another one.
    let actor = caller.actor(None);
    let order = BulkRevocation {
        consultant_id: Some(id.clone()),
        ..BulkRevocation::new(reason.to_owned(), &actor, caller.client_id.as_ref(), cx.clock.now())
    };
    Prepared::new(cx, order, Vec::new()).await
}

/// Checks a decision about a consultant, and who may take it.
fn check_decision(caller: &Caller<WriteConsultants>, request: &ConsultantDecision) -> Result<(), Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    require_operator(caller)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()
}

/// Suspends a consultant and revokes their links: from one commit on, none of them counts. Suspending again changes
/// nothing.
pub(crate) async fn suspend(
    cx: &Context,
    caller: &Caller<WriteConsultants>,
    id: ConsultantId,
    request: ConsultantDecision,
) -> Result<ConsultantResponse, Error> {
    check_decision(caller, &request)?;
    let actor = caller.actor(request.requested_by.as_ref());
    let client_id = caller.client_id.clone();
    let ending = end_links(cx, &id, "the consultant was suspended", caller).await;
    let (revoking, now) = (ending.clone(), ending.at());
    let (suspended, order) = cx
        .store
        .write(move |tx| {
            let Some(suspended) = records::consultants::suspend(tx, &id, &request.reason, now)? else {
                return Ok((records::consultants::find_kept(tx, &id)?.ok_or_else(Error::not_found)?, None));
            };
            let order = revoking.enforce(tx)?;
            tx.record(
                Event::new(EventType::ConsultantSuspended, actor.clone(), now)
                    .client(client_id.as_ref())
                    .consultant(&id)
                    .with(&serde_json::json!({
                        "reason": request.reason, "revoked_links": order.links, "revocation_id": order.id,
                    })),
            );
            Ok((suspended, Some(order)))
        })
        .await?;
    let revocation_id = ending.finish(cx, order).await;
    Ok(ConsultantResponse { revocation_id, ..ConsultantResponse::seen_by(&caller.authority(), suspended) })
}

/// Reinstates a consultant, who can get links again; revoked links stay revoked.
pub(crate) async fn reinstate(
    cx: &Context,
    caller: &Caller<WriteConsultants>,
    id: ConsultantId,
    request: ConsultantDecision,
    now: Timestamp,
) -> Result<ConsultantResponse, Error> {
    check_decision(caller, &request)?;
    let actor = caller.actor(request.requested_by.as_ref());
    let client_id = caller.client_id.clone();
    let reinstated = cx
        .store
        .write(move |tx| {
            let Some(reinstated) = records::consultants::reinstate(tx, &id, now)? else {
                return records::consultants::find_kept(tx, &id)?.ok_or_else(Error::not_found);
            };
            tx.record(
                Event::new(EventType::ConsultantReinstated, actor.clone(), now)
                    .client(client_id.as_ref())
                    .consultant(&id)
                    .with(&serde_json::json!({ "reason": request.reason })),
            );
            Ok(reinstated)
        })
        .await?;
    Ok(ConsultantResponse::seen_by(&caller.authority(), reinstated))
}

/// A consultant whom a restore has suspended, as the operator reads it before they confirm it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct UnconfirmedConsultant {
    pub id: ConsultantId,
    name: String,
    email: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<Consultant> for UnconfirmedConsultant {
    fn from(consultant: Consultant) -> Self {
        let Consultant { id, name, email, created_at, updated_at, .. } = consultant;
        Self { id, name, email, created_at, updated_at }
    }
}

/// Every consultant whom a restore has suspended and nobody has confirmed, in order of id.
pub(crate) async fn unconfirmed(cx: &Context) -> Result<Vec<UnconfirmedConsultant>, Error> {
    let mut found: Vec<UnconfirmedConsultant> = Vec::new();
    loop {
        let after = found.last().map(|consultant| consultant.id.clone());
        let page =
            cx.store.read(move |conn| Ok(records::consultants::unconfirmed(conn, after.as_ref(), PAGE)?)).await?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page.into_iter().map(UnconfirmedConsultant::from));
    }
}

/// Reinstates a consultant whom a restore has suspended. One who is active is not changed.
///
/// # Errors
/// `consultant_suspended` where they were suspended otherwise.
pub(crate) async fn confirm(
    cx: &Context,
    caller: &Caller<WriteConsultants>,
    id: ConsultantId,
    now: Timestamp,
) -> Result<ConsultantResponse, Error> {
    let actor = caller.actor(None);
    let consultant = cx
        .store
        .write(move |tx| {
            let Some(consultant) = records::consultants::confirm(tx, &id)? else {
                let known = records::consultants::find_kept(tx, &id)?.ok_or_else(Error::not_found)?;
                return if known.suspended_at.is_none() { Ok(known) } else { Err(Code::ConsultantSuspended.into()) };
            };
            tx.record(Event::new(EventType::ConsultantConfirmed, actor.clone(), now).consultant(&id));
            Ok(consultant)
        })
        .await?;
    Ok(ConsultantResponse::seen_by(&caller.authority(), consultant))
}
