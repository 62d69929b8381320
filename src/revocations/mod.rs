//! A revocation is an order that ends many links at once: all that match it and were issued before it.
//!
//! The order is one row, and in force from the moment it is answered: issue,
//! spend, introspection and the mail worker ask for orders that are still being
//! carried out ([`NotBulkRevoked`]). The links themselves follow in ranges, each a
//! transaction of its own, so that nobody else waits for long; a copy of the
//! service that dies leaves the rest to the next one. What is issued after an
//! order is not concerned by it, whatever the clocks say: every link knows the
//! newest order that it came after.

mod carry_out;
pub(crate) mod routes;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Person, Reach, Scope, Tenants, Validator, check_person, is_portal_id};
use crate::error::{Code, Error};
use crate::http::{Caller, RevokeLinks};
use crate::id::{ConsultantId, RevocationId};
use crate::journal::Event;
use crate::records;
use crate::records::revocations::{BulkRevocation, RevocationState};
use crate::store::{IdempotencyKey, Worker, idempotency};

pub(crate) use carry_out::step;

/// Which links to revoke: those that match every selector given, within the client's own tenants and portal.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "acme", "reason": "The support contract has ended", "dry_run": true}))]
pub struct CreateRevocation {
    /// Links of this tenant.
    #[schema(min_length = 1, max_length = 64)]
    pub tenant_id: Option<String>,
    /// Links to this portal.
    #[schema(min_length = 1, max_length = 32)]
    pub portal: Option<String>,
    /// Links of this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Links to this profile.
    #[schema(min_length = 1, max_length = 128)]
    pub profile_id: Option<String>,
    /// Links that this person granted.
    #[schema(min_length = 1, max_length = 128)]
    pub issued_by_id: Option<String>,
    /// Every link that the client reaches, without a selector; needs the scope `admin`.
    #[serde(default)]
    pub everything: bool,
    /// Why; it is the reason for each revocation.
    #[schema(min_length = 3, max_length = 500)]
    pub reason: String,
    /// Count only, and revoke nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Who at the portal asked; recorded as the client asserts it.
    pub requested_by: Option<Person>,
    /// The support session that the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// An order as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RevocationResponse {
    /// Its id.
    pub id: RevocationId,
    /// How far it has come. It is in force in any case, unless it is a dry run.
    pub state: RevocationState,
    /// Links that it hit when it was given; once it runs, links that are on record as revoked.
    #[schema(minimum = 0)]
    pub links: i64,
    /// Sessions, likewise.
    #[schema(minimum = 0)]
    pub sessions: i64,
    /// Why.
    #[schema(max_length = 500)]
    pub reason: String,
    /// From when on it is in force.
    pub created_at: Timestamp,
    /// When the last link was on record.
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

/// Gives an order. It is in force when this returns; a small one is also carried out by then.
pub(crate) async fn create(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    request: CreateRevocation,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<RevocationResponse, Error> {
    check(&request)?;
    if request.everything && !caller.has(Scope::Admin) {
        return Err(Error::new(Code::InsufficientScope).detail("everything needs the scope admin"));
    }
    let (portal, tenant_ids) = resolve_selectors(&caller.reach, &request)?;
    let actor = caller.actor(request.requested_by.as_ref());
    let mut order = BulkRevocation {
        id: RevocationId::new(now),
        // Links know the orders there were, so a count before it has a number is one of all there are.
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
    // Counted beside the writers: among a million links that takes a while.
    let (asked, bound) = (order.clone(), tenant_ids.clone());
    let counted = cx.store.read(move |conn| Ok(records::revocations::count(conn, &asked, &bound)?)).await;
    // Links are revoked whether they can be counted or not.
    let small = counted.as_ref().is_ok_and(|(links, _)| *links <= carry_out::AT_ONCE);
    (order.links, order.sessions) = if request.dry_run { counted? } else { counted.unwrap_or_default() };
    // It is in force from the moment it is written, and not from when it was asked for.
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
    Ok(given.into())
}

/// One order, if the caller could have given it.
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

/// Carries an order out to its end, for a caller who waits: at the command line there may be no worker.
pub(crate) async fn finish(cx: &Context, order: RevocationResponse) -> Result<RevocationResponse, Error> {
    let caller = Caller::operator();
    let mut order = order;
    while order.state == RevocationState::Running {
        carry_out::step(cx).await?;
        order = read(cx, &caller, order.id).await?;
        if order.state == RevocationState::Running {
            // The service itself may be at it.
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    Ok(order)
}

/// The portal and the tenants that an order is for, within the reach; no tenants are all of them.
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
        let detail = "must be true where nothing is selected, and only there";
        fields.error("/everything", if selects { "contradiction" } else { "required" }, detail);
    }
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()
}
