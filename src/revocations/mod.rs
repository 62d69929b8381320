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
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, Person, Reach, Scope, Tenants, Validator, check_person, is_portal_id};
use crate::error::{Code, Error};
use crate::http::{Caller, RevokeLinks};
use crate::id::{ConsultantId, RevocationId};
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
    /// Selects every link within the client's tenants and portal; allowed only without another selector, and with the
    /// scope `admin`.
    #[serde(default)]
    pub everything: bool,
    /// Why the links are revoked; recorded for each of them.
    #[schema(min_length = 3, max_length = 500)]
    pub reason: String,
    /// Whether only to count the links, without revoking them.
    #[serde(default)]
    pub dry_run: bool,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
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
    /// Number of sessions: those active at its creation, then those recorded as ended.
    #[schema(minimum = 0)]
    pub sessions: i64,
    /// Why the links are revoked.
    #[schema(max_length = 500)]
    pub reason: String,
    /// When the bulk revocation came into force (RFC 3339, UTC); for a dry run, when the links were counted.
    pub created_at: Timestamp,
    /// When the bulk revocation was complete (RFC 3339, UTC); absent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_at: Option<Timestamp>,
}

impl From<BulkRevocation> for RevocationResponse {
    fn from(order: BulkRevocation) -> Self {
        Self {
            state: order.state(),
            id: order.id,
            links: order.links,
            sessions: order.sessions,
            reason: order.reason,
            created_at: order.created_at,
            done_at: order.done_at,
        }
    }
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
    if request.everything && !caller.has(Scope::Admin) {
        return Err(Error::new(Code::InsufficientScope).detail("the field everything needs the scope admin"));
    }
    let (portal, tenant_ids) = resolve_selectors(&caller.reach, &request)?;
    let actor = caller.actor(request.requested_by.as_ref());
    let mut order = BulkRevocation {
        id: RevocationId::new(now),
        // It is counted before it has a number: the highest one matches every link issued so far.
        seq: i64::MAX,
        every_tenant: tenant_ids.is_none(),
        portal,
        consultant_id: request.consultant_id.clone(),
        profile_id: request.profile_id.clone(),
        issued_by_id: request.issued_by_id.clone(),
        reason: request.reason.trim().to_owned(),
        dry_run: request.dry_run,
        links: 0,
        sessions: 0,
        actor_type: actor.kind,
        actor_id: actor.id.clone(),
        actor_name: actor.name.clone(),
        client_id: caller.client_id.clone(),
        created_at: now,
        xid_watermark: None,
        done_to: None,
        lease_until: None,
        done_at: None,
    };
    let tenant_ids = tenant_ids.unwrap_or_default();
    // Counted outside of the write transaction: among a million links that takes a while.
    let (asked, bound) = (order.clone(), tenant_ids.clone());
    let counted = cx.store.read(move |conn| Ok(records::revocations::count(conn, &asked, &bound)?)).await;
    // A failure to count must not prevent the revocation.
    let small = counted.as_ref().is_ok_and(|(links, _)| *links <= carry_out::AT_ONCE);
    (order.links, order.sessions) = if request.dry_run { counted? } else { counted.unwrap_or_default() };
    // It is in force from when it is written, not from when it was requested.
    let now = cx.clock.now();
    order.created_at = now;
    order.done_at = request.dry_run.then_some(now);
    let event = match tenant_ids.as_slice() {
        [one] => Event::new(EventType::RevocationOrdered, actor, now).tenant(one),
        _ => Event::new(EventType::RevocationOrdered, actor, now),
    };
    let event = event.client(caller.client_id.as_ref()).portal(order.portal.as_deref()).because(&order.reason);
    let event = event.with(&serde_json::json!({
        "revocation_id": order.id, "tenant_ids": tenant_ids, "portal": order.portal,
        "consultant_id": order.consultant_id, "profile_id": order.profile_id, "issued_by_id": order.issued_by_id,
        "everything": request.everything, "dry_run": order.dry_run, "links": order.links, "sessions": order.sessions,
        "acting_session_id": request.acting_session_id,
    }));
    let given = cx
        .store
        .write(move |tx| {
            if let Some(id) = idempotency::once(tx, idempotency.as_ref(), &order.id, now)? {
                return records::revocations::find(tx, &id)?.ok_or_else(Error::not_found);
            }
            let order = BulkRevocation { seq: records::revocations::next_seq(tx)?, ..order.clone() };
            records::revocations::insert(tx, &order, &tenant_ids)?;
            tx.record(event.clone());
            if !small {
                tx.wake(Worker::Revocations);
            }
            Ok(order)
        })
        .await?;
    let given = match given.state() {
        RevocationState::Running if small => carry_out::at_once(cx, given).await,
        _ => given,
    };
    if small && given.state() == RevocationState::Running {
        // It was left to the worker, and no transaction of its own can say so.
        cx.store.wake(Worker::Revocations);
    }
    Ok(given.into())
}

/// Revokes every link, in the caller's transaction, which puts it in force; [`finish`] carries it out.
///
/// For a restored database: what is pending there is carried out anew, because leases and transaction numbers are of
/// another server.
pub(crate) fn revoke_everything(
    tx: &mut Tx<'_>,
    reason: &str,
    actor: &Actor,
    now: Timestamp,
) -> Result<RevocationResponse, Error> {
    records::revocations::release_pending(tx)?;
    let order = BulkRevocation {
        id: RevocationId::new(now),
        seq: records::revocations::next_seq(tx)?,
        every_tenant: true,
        portal: None,
        consultant_id: None,
        profile_id: None,
        issued_by_id: None,
        reason: reason.to_owned(),
        dry_run: false,
        links: 0,
        sessions: 0,
        actor_type: actor.kind,
        actor_id: actor.id.clone(),
        actor_name: actor.name.clone(),
        client_id: None,
        created_at: now,
        xid_watermark: None,
        done_to: None,
        lease_until: None,
        done_at: None,
    };
    records::revocations::insert(tx, &order, &[])?;
    let event = Event::new(EventType::RevocationOrdered, actor.clone(), now).because(reason);
    tx.record(event.with(&serde_json::json!({ "revocation_id": order.id, "everything": true, "dry_run": false })));
    tx.wake(Worker::Revocations);
    Ok(order.into())
}

/// One bulk revocation, if it is within the caller's reach.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    id: RevocationId,
) -> Result<RevocationResponse, Error> {
    let reach = caller.reach.clone();
    cx.store
        .read(move |conn| {
            let order = records::revocations::find(conn, &id)?.ok_or_else(Error::not_found)?;
            let visible = order.is_within(&records::revocations::tenants(conn, &id)?, &reach);
            if visible { Ok(order.into()) } else { Err(Error::not_found()) }
        })
        .await
}

/// Carries a bulk revocation out to its end, for the command line: there may be no worker.
pub(crate) async fn finish(cx: &Context, order: RevocationResponse) -> Result<RevocationResponse, Error> {
    let caller = Caller::operator();
    let mut order = order;
    while order.state == RevocationState::Running {
        carry_out::step(cx).await?;
        order = read(cx, &caller, order.id).await?;
        if order.state == RevocationState::Running {
            // An instance of the service may be carrying it out.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(order)
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
    let tenants = match (&request.tenant_id, &reach.tenants) {
        (Some(asked), _) if !reach.covers_tenant(asked) => return Err(beyond()),
        (Some(asked), _) => Some(vec![asked.clone()]),
        (None, Tenants::All) => None,
        (None, Tenants::Only(own)) => Some(own.clone()),
    };
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
    let selectors = [&request.tenant_id, &request.portal, &request.profile_id, &request.issued_by_id];
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
