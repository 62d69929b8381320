//! A legal hold suspends the erasure of payloads in a tenant's audit log, whatever its retention period.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::folder::{CheckpointFolder, require_whole};
use super::log;
use super::store::{self, HoldRow};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Page, Paging, Person, Reach, Validator, check_person, trimmed, unless_erased};
use crate::error::{Code, Error};
use crate::http::{Caller, ManageAudit, ReadAudit};
use crate::id::HoldId;
use crate::journal::Event;
use crate::journal::rows::lock_log;
use crate::store::{IdempotencyKey, Tx, idempotency};

/// Legal holds on one log that are in force at once, of clients with the same tenants: a client of the tenant leaves room
/// to an operator's.
const MOST: i64 = 100;

/// Request to place a legal hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Labour court, case 2026-118", "until": "2036-12-31T00:00:00Z"}))]
pub struct PlaceHold {
    /// Why the hold is placed.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// When the hold ends (RFC 3339); without it the hold is in force until it is released.
    pub until: Option<Timestamp>,
    /// Portal user who requested the hold, recorded as the client asserts it.
    pub requested_by: Option<Person>,
}

/// Request to release a legal hold.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The case was settled"}))]
pub struct ReleaseHold {
    /// Why the hold is released.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Portal user who requested the release, recorded as the client asserts it.
    pub requested_by: Option<Person>,
}

/// A legal hold on a tenant's audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LegalHold {
    /// Legal hold id.
    pub id: HoldId,
    /// Tenant whose audit log is held.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Why the hold was placed; absent once it is erased, a retention after the hold's end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// When the hold ends (RFC 3339, UTC); absent if it is in force until released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// When the hold was placed (RFC 3339, UTC).
    pub placed_at: Timestamp,
    /// Actor that placed the hold.
    pub placed_by: Actor,
    /// When the hold was released (RFC 3339, UTC); absent while it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_at: Option<Timestamp>,
    /// Why the hold was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub release_reason: Option<String>,
    /// Actor that released the hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub released_by: Option<Actor>,
}

impl From<HoldRow> for LegalHold {
    fn from(row: HoldRow) -> Self {
        let released_by = row.released_by_type.zip(row.released_by_id);
        Self {
            id: row.id,
            tenant_id: row.tenant_id,
            reason: unless_erased(row.reason),
            until: row.until,
            placed_at: row.placed_at,
            placed_by: Actor { kind: row.placed_by_type, id: row.placed_by_id, name: row.placed_by_name },
            released_at: row.released_at,
            release_reason: row.release_reason,
            released_by: released_by.map(|(kind, id)| Actor { kind, id, name: row.released_by_name }),
        }
    }
}

/// A hold of a tenant within the reach; as for every call about holds, that is the whole tenant.
fn hold_within(conn: &mut Conn, tenant_id: &str, id: &HoldId, reach: &Reach) -> Result<Option<HoldRow>, Error> {
    let found = store::find_hold(conn, tenant_id, id)?;
    Ok(found.filter(|_| reach.portal.is_none() && reach.covers_tenant(tenant_id)))
}

/// Places a hold.
pub(crate) async fn place(
    cx: &Context,
    caller: &Caller<ManageAudit>,
    tenant_id: String,
    request: PlaceHold,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<LegalHold, Error> {
    log::check_whole(caller, &tenant_id)?;
    if let Some(key) = idempotency.clone() {
        // Its end may be over by now.
        let tenant_id = tenant_id.clone();
        let repeated = move |conn: &mut Conn| {
            idempotency::repeated(conn, &key, now, |conn, id, reach| hold_within(conn, &tenant_id, id, reach))
        };
        if let Some(known) = cx.store.read_judged(repeated).await? {
            return Ok(known.into());
        }
    }
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 10, 500);
    if request.until.is_some_and(|until| until <= now) {
        fields.error("/until", "in_the_past", "must lie in the future");
    }
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let actor = caller.actor(request.requested_by.as_ref());
    let client_id = caller.client_id.clone();
    let hold = HoldRow {
        id: HoldId::new(now),
        tenant_id,
        reason: request.reason,
        until: request.until,
        placed_at: now,
        placed_by_type: actor.kind,
        placed_by_id: actor.id.clone(),
        placed_by_name: actor.name.clone(),
        released_at: None,
        release_reason: None,
        released_by_type: None,
        released_by_id: None,
        released_by_name: None,
        placed_tenants: caller.reach.tenant_words(),
    };
    let placed = cx
        .store
        .write_large(move |tx| {
            let known = |tx: &mut Tx<'_>, id: &HoldId, reach: &Reach| hold_within(tx, &hold.tenant_id, id, reach);
            if let Some(placed) = idempotency::once(tx, idempotency.as_ref(), &hold.id, now, known)? {
                return Ok(placed);
            }
            // An erasure takes the same lock, so the two are serialized.
            lock_log(tx, &hold.tenant_id)?;
            if store::count_standing(tx, &hold.tenant_id, &hold.placed_tenants, now)? >= MOST {
                return Err(Code::TooManyHolds.into());
            }
            store::insert_hold(tx, &hold)?;
            let event = Event::new(EventType::HoldPlaced, actor.clone(), now).client(client_id.as_ref());
            let event = event.tenant(&hold.tenant_id).because(&hold.reason);
            tx.record(event.with(&serde_json::json!({ "legal_hold_id": hold.id, "until": hold.until })));
            Ok(hold.clone())
        })
        .await?;
    Ok(placed.into())
}

/// Releases a hold, for a caller who reaches all that the client reached that placed it. Releasing a released hold
/// changes nothing.
///
/// # Errors
/// Those of [`require_whole`], too: nobody knows which holds were placed or released since.
pub(crate) async fn release(
    cx: &Context,
    folder: &CheckpointFolder,
    caller: &Caller<ManageAudit>,
    tenant_id: String,
    id: HoldId,
    request: ReleaseHold,
    now: Timestamp,
) -> Result<LegalHold, Error> {
    log::check_whole(caller, &tenant_id)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 10, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    require_whole(cx, folder).await?;
    let actor = caller.actor(request.requested_by.as_ref());
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    let released = cx
        .store
        .write(move |tx| {
            let known = store::find_hold(tx, &tenant_id, &id)?.ok_or_else(Error::not_found)?;
            if !reach.covers_reach(&Reach::of(None, &known.placed_tenants)) {
                let detail = "the hold was placed by a client of more tenants";
                return Err(Error::new(Code::ClientNotPermitted).detail(detail));
            }
            let Some(released) = store::release_hold(tx, &id, &request.reason, &actor, now)? else { return Ok(known) };
            let event = Event::new(EventType::HoldReleased, actor.clone(), now).client(client_id.as_ref());
            let event = event.tenant(&tenant_id).because(&request.reason);
            tx.record(event.with(&serde_json::json!({ "legal_hold_id": id })));
            Ok(released)
        })
        .await?;
    Ok(released.into())
}

/// Every hold that is in force: what a restored backup knows of them.
pub(crate) async fn standing(cx: &Context, now: Timestamp) -> Result<Vec<LegalHold>, Error> {
    let rows = cx.store.read(move |conn| Ok(store::standing_holds(conn, now)?)).await?;
    Ok(rows.into_iter().map(LegalHold::from).collect())
}

/// A page of a log's holds, newest first. Their reasons concern the whole tenant, like the events about them.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadAudit>,
    tenant_id: String,
    paging: Paging,
) -> Result<Page<LegalHold>, Error> {
    log::check_whole(caller, &tenant_id)?;
    let page = paging.open(cx.tokens.master_key(), ("legal-holds", &tenant_id))?;
    let asked = page.clone();
    let rows = cx.store.read(move |conn| Ok(store::list_holds(conn, &tenant_id, &asked)?)).await?;
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), LegalHold::from))
}
