//! The trail at rest: rows are added and read, nothing else.

use diesel::prelude::*;

use super::{Actor, ActorType, AuditEvent, Event, EventFilter, EventType};
use crate::clients::{Reach, Tenants};
use crate::clock::Timestamp;
use crate::db::schema::audit_events as events;
use crate::db::{Backend, Conn, insert_all};
use crate::http::Window;
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};

/// An event as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = events)]
pub(super) struct Row {
    pub id: EventId,
    tenant_id: String,
    event_type: EventType,
    occurred_at: Timestamp,
    recorded_at: Timestamp,
    actor_type: ActorType,
    actor_id: String,
    actor_name: Option<String>,
    client_id: Option<ClientId>,
    portal: Option<String>,
    magic_link_id: Option<LinkId>,
    session_id: Option<SessionId>,
    consultant_id: Option<ConsultantId>,
    profile_id: Option<String>,
    principal_id: Option<String>,
    source: Option<String>,
    seq: Option<i64>,
    content_sha256: Option<String>,
    trace_id: Option<String>,
    payload: String,
}

/// PostgreSQL takes 65,535 parameters a statement; a row has 20.
const ROWS_PER_STATEMENT: usize = 1_000;

/// Writes the events of a transaction, which may be those of many acts.
pub(crate) fn append(conn: &mut Conn, events: &[Event]) -> QueryResult<usize> {
    if events.is_empty() {
        return Ok(0);
    }
    let rows: Vec<Row> = events.iter().map(Row::of).collect();
    rows.chunks(ROWS_PER_STATEMENT).try_fold(0, |written, rows| Ok(written + insert_all!(conn, events::table, rows)?))
}

/// Number and content hash of the acts of one source that are known.
pub(crate) fn acts_by_seq(
    conn: &mut Conn,
    session: &SessionId,
    source: &str,
    numbers: &[i64],
) -> QueryResult<Vec<(i64, String)>> {
    let rows: Vec<(Option<i64>, Option<String>)> = events::table
        .filter(events::session_id.eq(session).and(events::source.eq(source)).and(events::seq.eq_any(numbers)))
        .select((events::seq, events::content_sha256))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(seq, hash)| Some((seq?, hash?))).collect())
}

/// Events that match the filter within the reach, newest first.
pub(super) fn list(conn: &mut Conn, filter: &EventFilter, reach: &Reach, window: &Window) -> QueryResult<Vec<Row>> {
    let mut query = events::table.into_boxed::<Backend>();
    if let Some(portal) = &reach.portal {
        query = query.filter(events::portal.eq(portal));
    }
    if let Tenants::Only(tenants) = &reach.tenants {
        query = query.filter(events::tenant_id.eq_any(tenants));
    }
    if let Some(tenant_id) = &filter.tenant_id {
        query = query.filter(events::tenant_id.eq(tenant_id));
    }
    if let Some(portal) = &filter.portal {
        query = query.filter(events::portal.eq(portal));
    }
    if let Some(id) = &filter.magic_link_id {
        query = query.filter(events::magic_link_id.eq(id));
    }
    if let Some(id) = &filter.session_id {
        query = query.filter(events::session_id.eq(id));
    }
    if let Some(id) = &filter.consultant_id {
        query = query.filter(events::consultant_id.eq(id));
    }
    if let Some(id) = &filter.principal_id {
        query = query.filter(events::principal_id.eq(id));
    }
    if let Some(kind) = filter.kind {
        query = query.filter(events::event_type.eq(kind));
    }
    if let Some(from) = filter.occurred_from {
        query = query.filter(events::occurred_at.ge(from));
    }
    if let Some(to) = filter.occurred_to {
        query = query.filter(events::occurred_at.lt(to));
    }
    if let Some(after) = &window.after {
        query = query.filter(events::id.lt(after));
    }
    query.order(events::id.desc()).limit(window.limit).load(conn)
}

impl Row {
    fn of(event: &Event) -> Self {
        let event = event.clone();
        Self {
            id: EventId::new(event.recorded_at),
            tenant_id: event.tenant_id,
            event_type: event.kind,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            actor_type: event.actor.kind,
            actor_id: event.actor.id,
            actor_name: event.actor.name,
            client_id: event.client_id,
            portal: event.portal,
            magic_link_id: event.magic_link_id,
            session_id: event.session_id,
            consultant_id: event.consultant_id,
            profile_id: event.profile_id,
            principal_id: event.principal_id,
            source: event.source,
            seq: event.seq,
            content_sha256: event.content_sha256,
            trace_id: event.trace_id,
            payload: event.payload.to_string(),
        }
    }
}

impl From<Row> for AuditEvent {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            kind: row.event_type,
            tenant_id: row.tenant_id,
            portal: row.portal,
            occurred_at: row.occurred_at,
            recorded_at: row.recorded_at,
            actor: Actor { kind: row.actor_type, id: row.actor_id, name: row.actor_name },
            client_id: row.client_id,
            magic_link_id: row.magic_link_id,
            session_id: row.session_id,
            consultant_id: row.consultant_id,
            profile_id: row.profile_id,
            principal_id: row.principal_id,
            source: row.source,
            seq: row.seq,
            trace_id: row.trace_id,
            data: serde_json::from_str(&row.payload).unwrap_or_default(),
        }
    }
}
