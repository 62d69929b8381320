//! A bulk revocation ends many links at once: all that match its selectors and were issued before it.
//!
//! It is one row, in force once committed: spend, introspection and the mail
//! worker check for bulk revocations that are not carried out yet
//! ([`NotBulkRevoked`]). The links themselves are updated in ranges, each in its
//! own transaction, so that other transactions do not wait for long; if an
//! instance dies, another one continues. Links issued later are not affected,
//! whatever the clocks say: every link stores the newest bulk revocation before it.

mod carry_out;
pub(crate) mod routes;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{
    Actor, Cursor, EventType, Page, Paging, Person, PortalId, Reach, Scope, TenantId, Tenants, Validator, check_person,
    is_portal_id, trimmed, trimmed_if_present, unless_erased,
};
use crate::error::{Code, Error};
use crate::http::{Caller, RevokeLinks};
use crate::id::{ClientId, ConsultantId, RevocationId};
use crate::journal::Event;
use crate::records;
use crate::records::revocations::{BulkRevocation, RevocationState};
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};

pub(crate) use carry_out::step;

/// Bulk revocation to create: it applies to links that match every given selector, within the client's tenants and
/// portal.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "acme", "reason": "The support contract has ended", "dry_run": true}))]
pub struct CreateRevocation {
    /// Selects links of this tenant, by the portal's identifier.
    #[schema(min_length = 1, max_length = 64)]
    pub tenant_id: Option<String>,
    /// Selects links to this portal, by its identifier.
    #[schema(min_length = 1, max_length = 32)]
    pub portal: Option<String>,
    /// Selects links of this consultant, by identifier.
    pub consultant_id: Option<ConsultantId>,
    /// Selects links to this profile, by the portal's identifier.
    #[schema(min_length = 1, max_length = 128)]
    pub profile_id: Option<String>,
    /// Selects links granted by this person, by the portal's identifier.
    #[schema(min_length = 1, max_length = 128)]
    pub issued_by_id: Option<String>,
    /// Selects links with this ticket, compared exactly and without blanks around it. With `tenant_id`, unless the client
    /// is bound to one tenant.
    #[schema(min_length = 1, max_length = 64)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub ticket: Option<String>,
    /// Selects every link within the client's tenants and portal; allowed only without another selector, and with the
    /// scope `admin`, which every bulk revocation needs that reaches more than one tenant.
    #[serde(default)]
    #[schema(default = false)]
    pub everything: bool,
    /// Why the links are revoked; recorded for each of them, and shown to each tenant that has one.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Whether only to count the links, without revoking them.
    #[serde(default)]
    #[schema(default = false)]
    pub dry_run: bool,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified. Links of more than one
    /// tenant name the client instead.
    pub requested_by: Option<Person>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Bulk revocation, with its progress.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RevocationResponse {
    /// Identifier of the bulk revocation.
    pub id: RevocationId,
    /// Progress of the bulk revocation. It is in force in every state but `dry_run`.
    pub state: RevocationState,
    /// Number of links: those that matched at its creation, then those recorded as revoked.
    #[schema(minimum = 0)]
    pub links: i64,
    /// Number of requests for links, and for extensions of links, that it has withdrawn; for a dry run, that it would
    /// withdraw.
    #[schema(minimum = 0)]
    pub requests: i64,
    /// Number of sessions: those active at its creation, then those recorded as ended.
    #[schema(minimum = 0)]
    pub sessions: i64,
    /// Why the links are revoked; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// When the bulk revocation came into force (RFC 3339, UTC); for a dry run, when the links were counted.
    pub created_at: Timestamp,
    /// When the bulk revocation was complete (RFC 3339, UTC); absent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
    /// Tenants whose links it selects; absent for every tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 100, value_type = Option<Vec<TenantId>>)]
    pub tenant_ids: Option<Vec<String>>,
    /// Portal whose links it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub portal: Option<String>,
    /// Consultant whose links it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consultant_id: Option<ConsultantId>,
    /// Profile to which it selects links.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub profile_id: Option<String>,
    /// Person who granted the links that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub issued_by_id: Option<String>,
    /// Ticket of the links that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// Client that issued the links that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_by_client_id: Option<ClientId>,
    /// Client that requested it; absent for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}

/// Filters of a list of bulk revocations.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RevocationFilter {
    /// Only bulk revocations that select links of this tenant, or of every tenant.
    #[param(value_type = Option<TenantId>, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only bulk revocations that select links to this portal, or to every portal.
    #[param(value_type = Option<PortalId>)]
    pub portal: Option<String>,
    /// Only bulk revocations of this consultant's links.
    pub consultant_id: Option<ConsultantId>,
    /// Only bulk revocations in this state.
    pub state: Option<RevocationState>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

impl RevocationResponse {
    fn of(order: BulkRevocation, tenant_ids: Vec<String>) -> Self {
        Self {
            state: order.state(),
            tenant_ids: (!order.every_tenant).then_some(tenant_ids),
            portal: order.portal,
            consultant_id: order.consultant_id,
            profile_id: order.profile_id,
            issued_by_id: order.issued_by_id,
            ticket: order.ticket.and_then(unless_erased),
            issued_by_client_id: order.issued_by_client_id,
            client_id: order.client_id,
            id: order.id,
            links: order.links,
            sessions: order.sessions,
            requests: order.requests,
            reason: unless_erased(order.reason),
            created_at: order.created_at,
            done_at: order.done_at,
        }
    }
}

/// Largest number of bulk revocations of one customer's client that may be pending: all others wait behind them.
const MOST_PENDING: i64 = 20;

/// Refuses one more order of a customer's client while too many are still being carried out. No operator's is refused.
fn require_room(conn: &mut Conn, reach: &Reach, client_id: Option<&ClientId>) -> Result<(), Error> {
    let of_customer = client_id.filter(|_| matches!(reach.tenants, Tenants::Only(_)));
    if let Some(id) = of_customer
        && records::revocations::count_open_of(conn, id)? > MOST_PENDING
    {
        let detail = format!("{MOST_PENDING} revocations of the client are in force, and still being carried out");
        return Err(Error::new(Code::RateLimited).detail(detail).retry_after(5));
    }
    Ok(())
}

/// Creates a bulk revocation. It is in force when this returns; a small one is normally also carried out.
pub(crate) async fn create(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    request: CreateRevocation,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<RevocationResponse, Error> {
    check(&request)?;
    let (portal, tenant_ids) = resolve_selectors(&caller.reach, &request)?;
    let is_wide = is_wide(tenant_ids.as_deref());
    if request.ticket.is_some() && is_wide {
        // A ticket of the same name may be another customer's.
        let detail = "must name the tenant of the ticket, since the client is bound to more than one";
        return Err(Error::new(Code::ValidationFailed).field("/tenant_id", "required", detail));
    }
    if (request.everything || is_wide) && !caller.has(Scope::Admin) {
        let detail = "the field everything, and revoking links of more than one tenant, need the scope admin";
        return Err(Error::new(Code::InsufficientScope).detail(detail));
    }
    let actor = caller.actor(request.requested_by.as_ref());
    // A person of one customer is not named to another one.
    let revoker = if is_wide { caller.actor(None) } else { actor.clone() };
    let order = BulkRevocation {
        every_tenant: tenant_ids.is_none(),
        portal,
        consultant_id: request.consultant_id.clone(),
        profile_id: request.profile_id.clone(),
        issued_by_id: request.issued_by_id.clone(),
        ticket: request.ticket.as_deref().map(|ticket| ticket.trim().to_owned()),
        dry_run: request.dry_run,
        ..BulkRevocation::new(request.reason.trim().to_owned(), &revoker, caller.client_id.as_ref(), now)
    };
    let tenant_ids = tenant_ids.unwrap_or_default();
    let prepared = Prepared::new(cx, order, tenant_ids.clone()).await;
    if request.dry_run && prepared.matched.is_none() {
        return Err(Error::unavailable());
    }
    let order = prepared.order.clone();
    let now = order.created_at;
    let event = match tenant_ids.as_slice() {
        [one] => Event::new(EventType::RevocationOrdered, actor, now).tenant(one),
        _ => Event::new(EventType::RevocationOrdered, actor, now),
    };
    let event = event.client(caller.client_id.as_ref()).portal(order.portal.as_deref()).because(&order.reason);
    let event = event.with(&serde_json::json!({
        "revocation_id": order.id, "tenant_ids": tenant_ids, "portal": order.portal,
        "consultant_id": order.consultant_id, "profile_id": order.profile_id, "issued_by_id": order.issued_by_id,
        "ticket": order.ticket, "everything": request.everything, "dry_run": order.dry_run, "links": order.links, "sessions": order.sessions,
        "requests": order.requests,
        "acting_session_id": request.acting_session_id,
    }));
    let (writing, may_be_wide) = (prepared.clone(), caller.has(Scope::Admin));
    let (client_id, reach) = (caller.client_id.clone(), caller.reach.clone());
    let (given, tenant_ids) = cx
        .store
        .write(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &RevocationId, reach: &Reach| find_visible(tx, id, reach, may_be_wide);
            if let Some(given) = idempotency::once(tx, idempotency.as_ref(), &order.id, now, known)? {
                return Ok(given);
            }
            let order = writing.enforce(tx)?;
            // Whoever orders at once is counted one after the other, from the number on.
            require_room(tx, &reach, client_id.as_ref())?;
            tx.record(event.clone());
            Ok((order, tenant_ids.clone()))
        })
        .await?;
    Ok(RevocationResponse::of(prepared.carry_out(cx, given).await, tenant_ids))
}

/// A bulk revocation that is about to be written, alone or with the act that brings it about.
#[derive(Clone)]
pub(crate) struct Prepared {
    order: BulkRevocation,
    tenant_ids: Vec<String>,
    /// Number of links and requests that it matched; `None` if they could not be counted.
    matched: Option<i64>,
}

impl Prepared {
    /// Counts what it matches, outside of the write transaction: among a million links that takes a while. A failure to
    /// count does not prevent it.
    pub(crate) async fn new(cx: &Context, order: BulkRevocation, tenant_ids: Vec<String>) -> Self {
        let (asked, bound) = (order.clone(), tenant_ids.clone());
        let count = move |conn: &mut Conn| {
            let requests = records::link_requests::count_selected(conn, &asked, &bound)?
                + records::extension_requests::count_selected(conn, &asked, &bound)?;
            Ok((records::revocations::count(conn, &asked, &bound)?, requests))
        };
        // A revocation does not wait for its turn.
        let counted = if order.dry_run { cx.store.read_large(count).await } else { cx.store.read(count).await };
        let matched = counted.as_ref().ok().map(|((links, _), requests)| links + requests);
        // It is in force from when it is written, not from when it was requested.
        let now = cx.clock.now();
        let ((links, sessions), requests) = counted.as_ref().copied().unwrap_or_default();
        let done_at = order.dry_run.then_some(now);
        // Requests are counted as they are withdrawn.
        let requests = if order.dry_run { requests } else { 0 };
        let order = BulkRevocation { links, sessions, requests, created_at: now, done_at, ..order };
        Self { order, tenant_ids, matched }
    }

    /// When it is in force.
    pub(crate) const fn at(&self) -> Timestamp {
        self.order.created_at
    }

    /// Whether it matched anything when that was counted, or could not be counted.
    pub(crate) fn may_match(&self) -> bool {
        self.matched != Some(0)
    }

    /// Whether it can be carried out before the response.
    fn is_small(&self) -> bool {
        self.matched.is_some_and(|matched| matched <= carry_out::AT_ONCE)
    }

    /// Puts it in force, in the transaction of the act that brings it about.
    pub(crate) fn enforce(&self, tx: &mut Tx<'_>) -> Result<BulkRevocation, Error> {
        let order = BulkRevocation { seq: records::revocations::next_seq(tx)?, ..self.order.clone() };
        records::revocations::insert(tx, &order, &self.tenant_ids)?;
        if !self.is_small() {
            tx.wake(Worker::Revocations);
        }
        Ok(order)
    }

    /// Carries out what the act has put in force, and gives its id.
    pub(crate) async fn finish(&self, cx: &Context, order: Option<BulkRevocation>) -> Option<RevocationId> {
        let order = order?;
        let id = order.id.clone();
        self.carry_out(cx, order).await;
        Some(id)
    }

    /// Carries it out after the commit if it is small; else the worker does, range by range.
    pub(crate) async fn carry_out(&self, cx: &Context, order: BulkRevocation) -> BulkRevocation {
        if !self.is_small() || order.state() != RevocationState::Running {
            return order;
        }
        let order = carry_out::at_once(cx, order).await;
        if order.state() == RevocationState::Running {
            // It was left to the worker, and no transaction of its own can say so.
            cx.store.wake(Worker::Revocations);
        }
        order
    }
}

/// Revokes every link, in the caller's transaction, which puts it in force; [`finish_pending`] carries it out.
///
/// For a restored database: what is pending there is carried out anew, because leases and transaction numbers are of
/// another server.
pub(crate) fn revoke_everything(
    tx: &mut Tx<'_>,
    reason: &str,
    actor: &Actor,
    now: Timestamp,
) -> Result<RevocationId, Error> {
    records::revocations::release_pending(tx)?;
    let order = BulkRevocation {
        seq: records::revocations::next_seq(tx)?,
        ..BulkRevocation::new(reason.to_owned(), actor, None, now)
    };
    records::revocations::insert(tx, &order, &[])?;
    let event = Event::new(EventType::RevocationOrdered, actor.clone(), now).because(reason);
    tx.record(event.with(&serde_json::json!({ "revocation_id": order.id, "everything": true, "dry_run": false })));
    tx.wake(Worker::Revocations);
    Ok(order.id)
}

/// One bulk revocation, if the caller could have created it.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    id: RevocationId,
) -> Result<RevocationResponse, Error> {
    let (reach, may_be_wide) = (caller.reach.clone(), caller.has(Scope::Admin));
    cx.store
        .read(move |conn| {
            let found = find_visible(conn, &id, &reach, may_be_wide)?;
            let (order, tenant_ids) = found.ok_or_else(Error::not_found)?;
            Ok(RevocationResponse::of(order, tenant_ids))
        })
        .await
}

/// A bulk revocation that the caller could have created, and its tenants.
fn find_visible(
    conn: &mut Conn,
    id: &RevocationId,
    reach: &Reach,
    may_be_wide: bool,
) -> Result<Option<(BulkRevocation, Vec<String>)>, Error> {
    let Some(order) = records::revocations::find(conn, id)? else { return Ok(None) };
    let tenant_ids = records::revocations::tenants(conn, id)?;
    let is_visible = is_visible(&order, &tenant_ids, reach, may_be_wide);
    Ok(is_visible.then_some((order, tenant_ids)))
}

/// Whether a caller could have created a bulk revocation.
fn is_visible(order: &BulkRevocation, tenant_ids: &[String], reach: &Reach, may_be_wide: bool) -> bool {
    let is_wide = is_wide((!order.every_tenant).then_some(tenant_ids));
    order.is_within(tenant_ids, reach) && (may_be_wide || !is_wide)
}

/// A page of the bulk revocations that the caller could have created, newest first.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    mut filter: RevocationFilter,
) -> Result<Page<RevocationResponse>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), ("revocations", &filter))?;
    let (reach, may_be_wide, asked) = (caller.reach.clone(), caller.has(Scope::Admin), page.clone());
    let rows = cx
        .store
        .read(move |conn| {
            let visible = |order: &BulkRevocation, tenant_ids: &[String]| {
                let of_tenant = |id: &String| order.every_tenant || tenant_ids.contains(id);
                let to_portal = |portal: &String| order.portal.as_ref().is_none_or(|own| own == portal);
                filter.consultant_id.as_ref().is_none_or(|id| order.consultant_id.as_ref() == Some(id))
                    && filter.tenant_id.as_ref().is_none_or(of_tenant)
                    && filter.portal.as_ref().is_none_or(to_portal)
                    && filter.state.is_none_or(|state| order.state() == state)
                    && is_visible(order, tenant_ids, &reach, may_be_wide)
            };
            Ok(records::revocations::list(conn, &asked, visible)?)
        })
        .await?;
    let show = |(order, tenant_ids)| RevocationResponse::of(order, tenant_ids);
    Ok(page.answer(cx.tokens.master_key(), rows, |(order, _)| order.id.as_str(), show))
}

/// The bulk revocation that an act of the command line has brought about.
pub(crate) async fn of_act(cx: &Context, id: Option<RevocationId>) -> Result<Option<RevocationResponse>, Error> {
    match id {
        Some(id) => read(cx, &Caller::operator(), id).await.map(Some),
        None => Ok(None),
    }
}

/// Carries every pending bulk revocation out to its end, for the command line: there may be no worker. What fails for good
/// ends it. What waits for a restore that broke off is left to the one that repeats it.
pub(crate) async fn finish_pending(cx: &Context) -> Result<(), Error> {
    let is_left = |conn: &mut Conn| {
        Ok(records::revocations::any_pending(conn)? && !records::restores::has_queues_to_cancel(conn)?)
    };
    while cx.store.read(is_left).await? {
        if let (_, Some(lasting)) = carry_out::attempt(cx).await? {
            return Err(lasting);
        }
        // An instance of the service may be carrying it out.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Whether these tenants, `None` for all of them, are more than one: whatever the other selectors are, since ids of
/// profiles and of people mean somebody else at each tenant.
fn is_wide(tenant_ids: Option<&[String]>) -> bool {
    tenant_ids.is_none_or(|ids| ids.len() > 1)
}

/// Portal and tenants of a bulk revocation, within the reach; `None` stands for all of them.
fn resolve_selectors(
    reach: &Reach,
    request: &CreateRevocation,
) -> Result<(Option<String>, Option<Vec<String>>), Error> {
    let beyond = || Error::new(Code::ClientNotPermitted).detail("the client may not revoke for this tenant and portal");
    let portal = match (&reach.portal, &request.portal) {
        (Some(own), Some(asked)) if own != asked => return Err(beyond()),
        (own, asked) => asked.clone().or_else(|| own.clone()),
    };
    let tenants = match &request.tenant_id {
        Some(asked) if !reach.covers_tenant(asked) => return Err(beyond()),
        Some(asked) => Some(vec![asked.clone()]),
        None => reach.tenants.ids(),
    };
    let tenants = tenants.map(|mut ids| {
        ids.sort_unstable();
        ids.dedup();
        ids
    });
    Ok((portal, tenants))
}

fn check(request: &CreateRevocation) -> Result<(), Error> {
    let mut fields = Validator::default();
    if let Some(tenant_id) = &request.tenant_id
        && !crate::domain::is_tenant_id(tenant_id)
    {
        fields.error("/tenant_id", "malformed", "is not a tenant id");
    }
    if let Some(portal) = &request.portal
        && !is_portal_id(portal)
    {
        fields.error("/portal", "malformed", "is not a portal id");
    }
    for (pointer, id) in [("/profile_id", &request.profile_id), ("/issued_by_id", &request.issued_by_id)] {
        if let Some(id) = id {
            fields.external_id(pointer, id);
        }
    }
    fields.optional_text("/ticket", request.ticket.as_deref(), 1, 64);
    let selectors = [&request.tenant_id, &request.portal, &request.profile_id, &request.issued_by_id, &request.ticket];
    let selects = request.consultant_id.is_some() || selectors.into_iter().any(Option::is_some);
    if selects == request.everything {
        let detail = "must be true without a selector, and false with one";
        fields.error("/everything", if selects { "contradiction" } else { "required" }, detail);
    }
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()
}
