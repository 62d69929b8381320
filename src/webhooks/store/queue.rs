//! Events at rest that wait for their messages.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::schema::webhook_events as events;
use crate::db::{Conn, insert_all};
use crate::domain::WebhookEvent;
use crate::id::{EndpointId, EventId, LinkId};
use crate::journal::AppendedEvent;

/// An event to be queued. The database gives it its position.
#[derive(Debug, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(in crate::webhooks) struct NewQueuedEvent {
    tenant_id: String,
    log_index: i64,
    event_id: EventId,
    event_type: &'static str,
    portal: String,
    magic_link_id: Option<LinkId>,
    data: String,
    recorded_at: Timestamp,
    traceparent: Option<String>,
}

impl NewQueuedEvent {
    pub(in crate::webhooks) fn of(
        recorded: &AppendedEvent<'_>,
        kind: WebhookEvent,
        portal: &str,
        data: String,
    ) -> Self {
        Self {
            tenant_id: recorded.event.tenant_id.clone(),
            log_index: recorded.log_index,
            event_id: recorded.id.clone(),
            event_type: kind.as_str(),
            portal: portal.to_owned(),
            magic_link_id: recorded.event.magic_link_id.clone(),
            data,
            recorded_at: recorded.event.recorded_at,
            traceparent: recorded.event.trace.and_then(|trace| trace.traceparent()),
        }
    }
}

/// An event whose messages are not all written.
#[derive(Debug, Clone, Queryable)]
pub(in crate::webhooks) struct QueuedEvent {
    pub position: i64,
    pub log_index: i64,
    pub event_id: EventId,
    pub event_type: String,
    pub portal: String,
    pub magic_link_id: Option<LinkId>,
    pub data: String,
    pub recorded_at: Timestamp,
    /// The last endpoint, in order of id, whose message is written.
    pub done_up_to: Option<EndpointId>,
    /// The place in the trace of the act that it records.
    pub traceparent: Option<String>,
}

pub(in crate::webhooks) fn queue(conn: &mut Conn, rows: &[NewQueuedEvent]) -> QueryResult<()> {
    insert_all!(conn, events::table, rows)
}

/// The newest position that this transaction can see: later events get higher ones.
pub(in crate::webhooks) fn newest_position(conn: &mut Conn) -> QueryResult<i64> {
    let newest: Option<i64> = events::table.select(diesel::dsl::max(events::place)).first(conn)?;
    // Where the queue is empty, every older event has its messages.
    Ok(newest.unwrap_or(0))
}

/// The next tenant with queued events, in order of id and from the beginning again, and its first event.
pub(in crate::webhooks) fn next_queued(conn: &mut Conn, after: &str) -> QueryResult<Option<(String, i64)>> {
    for after in [after, ""] {
        let next = events::table
            .filter(events::tenant_id.gt(after))
            .order((events::tenant_id.asc(), events::place.asc()))
            .select((events::tenant_id, events::place))
            .first(conn)
            .optional()?;
        if next.is_some() || after.is_empty() {
            return Ok(next);
        }
    }
    Ok(None)
}

/// Locks an event until the transaction ends; `false` if another copy has it, or its messages are written.
pub(in crate::webhooks) fn hold(conn: &mut Conn, position: i64) -> QueryResult<bool> {
    let row = events::table.find(position).select(events::place);
    let held: Option<i64> = match conn {
        Conn::Postgres(conn) => row.for_update().skip_locked().get_result(conn).optional()?,
        Conn::Sqlite(conn) => row.get_result(conn).optional()?,
    };
    Ok(held.is_some())
}

/// A tenant's first events, in the order of its audit log.
pub(in crate::webhooks) fn queued(conn: &mut Conn, tenant: &str, limit: i64) -> QueryResult<Vec<QueuedEvent>> {
    events::table
        .filter(events::tenant_id.eq(tenant))
        .order(events::place.asc())
        .limit(limit)
        .select((
            events::place,
            events::log_index,
            events::event_id,
            events::event_type,
            events::portal,
            events::magic_link_id,
            events::data,
            events::recorded_at,
            events::done_up_to,
            events::traceparent,
        ))
        .load(conn)
}

/// Notes up to which endpoint an event's messages are written.
pub(in crate::webhooks) fn note_progress(conn: &mut Conn, position: i64, endpoint: &EndpointId) -> QueryResult<usize> {
    diesel::update(events::table.find(position)).set(events::done_up_to.eq(Some(endpoint))).execute(conn)
}

/// Removes a tenant's events up to one of them.
pub(in crate::webhooks) fn dequeue(conn: &mut Conn, tenant: &str, last: i64) -> QueryResult<usize> {
    let done = events::table.filter(events::tenant_id.eq(tenant)).filter(events::place.le(last));
    diesel::delete(done).execute(conn)
}

/// Number of queued events.
pub(super) fn waiting(conn: &mut Conn) -> QueryResult<i64> {
    events::table.count().get_result(conn)
}

/// Removes queued events, whoever they are for; returns how many.
pub(in crate::webhooks) fn forget_queued(conn: &mut Conn, limit: i64) -> QueryResult<usize> {
    let some: Vec<i64> = events::table.order(events::place.asc()).limit(limit).select(events::place).load(conn)?;
    diesel::delete(events::table.filter(events::place.eq_any(some))).execute(conn)
}
