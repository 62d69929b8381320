//! Erasures, and legal holds that suspend them.

use std::ops::Range;

use diesel::prelude::*;

use crate::audit::Erased;
use crate::clock::Timestamp;
use crate::db::schema::{
    audit_erasures as erasures, audit_events as events, audit_payloads as payloads, legal_holds as holds,
};
use crate::db::{Backend, Conn};
use crate::domain::{Actor, ActorType, EventType, PageRequest};
use crate::id::HoldId;

/// An erasure as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = erasures)]
pub(in crate::audit) struct Erasure {
    pub tenant_id: String,
    pub from_index: i64,
    pub to_index: i64,
    pub erased_at: Timestamp,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub actor_name: Option<String>,
    pub reason: String,
}

impl Erasure {
    /// Converts the row to a response.
    pub(in crate::audit) fn shown(&self) -> Erased {
        Erased {
            erased_at: self.erased_at,
            by: Actor { kind: self.actor_type, id: self.actor_id.clone(), name: self.actor_name.clone() },
            reason: self.reason.clone(),
        }
    }
}

/// Erasures in a range of indexes of the given logs, in order.
pub(in crate::audit) fn erasures(
    conn: &mut Conn,
    tenants: &[String],
    between: Range<i64>,
) -> QueryResult<Vec<Erasure>> {
    erasures::table
        .filter(erasures::tenant_id.eq_any(tenants))
        .filter(erasures::from_index.lt(between.end))
        .filter(erasures::to_index.gt(between.start))
        .order((erasures::tenant_id, erasures::from_index))
        .load(conn)
}

/// First index that is not covered by an erasure.
pub(in crate::audit) fn erased_to(conn: &mut Conn, tenant_id: &str) -> QueryResult<i64> {
    let last: Option<i64> = erasures::table
        .filter(erasures::tenant_id.eq(tenant_id))
        .select(diesel::dsl::max(erasures::to_index))
        .get_result(conn)?;
    Ok(last.unwrap_or(0))
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Number of a text's bytes, which no database reads the text for.
    fn octet_length(text: diesel::sql_types::Text) -> diesel::sql_types::Integer;
}

/// Index of the first event in a range that was recorded at or after the given time.
pub(in crate::audit) fn first_since(
    conn: &mut Conn,
    tenant_id: &str,
    between: Range<i64>,
    moment: Timestamp,
) -> QueryResult<Option<i64>> {
    events::table
        .filter(events::tenant_id.eq(tenant_id))
        .filter(events::log_index.ge(between.start))
        .filter(events::log_index.lt(between.end))
        .filter(events::recorded_at.ge(moment))
        .select(events::log_index)
        .order(events::log_index)
        .first(conn)
        .optional()
}

/// Index of the event in a range with which its payloads have this many bytes, if there is one behind it.
pub(in crate::audit) fn first_beyond(
    conn: &mut Conn,
    tenant_id: &str,
    between: Range<i64>,
    bytes: i64,
) -> QueryResult<Option<i64>> {
    let sizes: Vec<(i64, i32)> = payloads::table
        .filter(payloads::tenant_id.eq(tenant_id))
        .filter(payloads::log_index.ge(between.start))
        .filter(payloads::log_index.lt(between.end))
        .order(payloads::log_index)
        .select((payloads::log_index, octet_length(payloads::payload)))
        .load(conn)?;
    let mut sum = 0;
    let full = sizes.into_iter().find(|(_, size)| {
        sum += i64::from(*size);
        sum >= bytes
    });
    Ok(full.map(|(index, _)| index + 1))
}

/// Events whose payloads are never erased: an export is verified with them, and they hold nobody's name.
const KEPT: [EventType; 3] = [EventType::AuditPurged, EventType::LogRestored, EventType::LogKeyChanged];

/// Whether a range holds events whose payloads may be erased.
pub(in crate::audit) fn holds_more_than_erasures(
    conn: &mut Conn,
    tenant_id: &str,
    between: Range<i64>,
) -> QueryResult<bool> {
    let more = events::table
        .filter(events::tenant_id.eq(tenant_id))
        .filter(events::log_index.ge(between.start))
        .filter(events::log_index.lt(between.end))
        .filter(events::event_type.ne_all(KEPT));
    diesel::select(diesel::dsl::exists(more)).get_result(conn)
}

pub(in crate::audit) fn insert_erasure(conn: &mut Conn, erasure: &Erasure) -> QueryResult<usize> {
    diesel::insert_into(erasures::table).values(erasure).execute(conn)
}

/// Deletes the payloads in the range of an erasure, except those that are always kept.
pub(in crate::audit) fn erase(conn: &mut Conn, erasure: &Erasure) -> QueryResult<usize> {
    let is_kept = events::table
        .filter(events::tenant_id.eq(payloads::tenant_id))
        .filter(events::log_index.eq(payloads::log_index))
        .filter(events::event_type.eq_any(KEPT));
    diesel::delete(payloads::table)
        .filter(payloads::tenant_id.eq(&erasure.tenant_id))
        .filter(payloads::log_index.ge(erasure.from_index))
        .filter(payloads::log_index.lt(erasure.to_index))
        .filter(diesel::dsl::not(diesel::dsl::exists(is_kept)))
        .execute(conn)
}

/// A legal hold as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = holds)]
pub(in crate::audit) struct HoldRow {
    pub id: HoldId,
    pub tenant_id: String,
    pub reason: String,
    pub until: Option<Timestamp>,
    pub placed_at: Timestamp,
    pub placed_by_type: ActorType,
    pub placed_by_id: String,
    pub placed_by_name: Option<String>,
    pub released_at: Option<Timestamp>,
    pub release_reason: Option<String>,
    pub released_by_type: Option<ActorType>,
    pub released_by_id: Option<String>,
    pub released_by_name: Option<String>,
    /// Tenants of the client that placed it, in stored form.
    pub placed_tenants: String,
}

pub(in crate::audit) fn insert_hold(conn: &mut Conn, hold: &HoldRow) -> QueryResult<usize> {
    diesel::insert_into(holds::table).values(hold).execute(conn)
}

pub(in crate::audit) fn find_hold(conn: &mut Conn, tenant_id: &str, id: &HoldId) -> QueryResult<Option<HoldRow>> {
    holds::table.find(id).filter(holds::tenant_id.eq(tenant_id)).get_result(conn).optional()
}

/// Holds of a log, newest first.
pub(in crate::audit) fn list_holds(conn: &mut Conn, tenant_id: &str, page: &PageRequest) -> QueryResult<Vec<HoldRow>> {
    let mut query = holds::table.filter(holds::tenant_id.eq(tenant_id)).into_boxed::<Backend>();
    if let Some(after) = &page.after {
        query = query.filter(holds::id.lt(after));
    }
    query.order(holds::id.desc()).limit(page.limit).load(conn)
}

/// Legal holds that are in force, by tenant, the newest first.
pub(in crate::audit) fn standing_holds(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<HoldRow>> {
    holds::table
        .filter(holds::released_at.is_null())
        .filter(holds::until.is_null().or(holds::until.gt(now)))
        .order((holds::tenant_id.asc(), holds::id.desc()))
        .load(conn)
}

/// Whether a legal hold is in force.
pub(in crate::audit) fn is_held(conn: &mut Conn, tenant_id: &str, now: Timestamp) -> QueryResult<bool> {
    let standing = holds::table
        .filter(holds::tenant_id.eq(tenant_id))
        .filter(holds::released_at.is_null())
        .filter(holds::until.is_null().or(holds::until.gt(now)));
    diesel::select(diesel::dsl::exists(standing)).get_result(conn)
}

/// Number of legal holds on a log that are in force, and were placed by clients of these tenants, in stored form.
pub(in crate::audit) fn count_standing(
    conn: &mut Conn,
    tenant_id: &str,
    placed_tenants: &str,
    now: Timestamp,
) -> QueryResult<i64> {
    holds::table
        .filter(holds::tenant_id.eq(tenant_id))
        .filter(holds::released_at.is_null())
        .filter(holds::until.is_null().or(holds::until.gt(now)))
        .filter(holds::placed_tenants.eq(placed_tenants))
        .count()
        .get_result(conn)
}

/// Releases a hold; `None` if it was released before.
pub(in crate::audit) fn release_hold(
    conn: &mut Conn,
    id: &HoldId,
    reason: &str,
    by: &Actor,
    now: Timestamp,
) -> QueryResult<Option<HoldRow>> {
    diesel::update(holds::table.find(id))
        .filter(holds::released_at.is_null())
        .set((
            holds::released_at.eq(Some(now)),
            holds::release_reason.eq(Some(reason)),
            holds::released_by_type.eq(Some(by.kind)),
            holds::released_by_id.eq(Some(&by.id)),
            holds::released_by_name.eq(by.name.as_ref()),
        ))
        .returning(holds::all_columns)
        .get_result(conn)
        .optional()
}
