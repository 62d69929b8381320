//! The trail at rest: rows are added and read; only a payload can be erased.

mod checkpoints;
mod retention;

use std::collections::{BTreeSet, HashMap};
use std::ops::{Range, RangeInclusive};

use diesel::prelude::*;
use tlog_tiles::Hash;

pub(super) use checkpoints::*;
pub(super) use retention::*;

use super::leaf::{Leaf, Payload};
use crate::domain::{Actor, ActorType, EventType};
use super::{AuditEvent, Erased, EventFilter, Frontier, tree};
use crate::domain::{Reach, Tenants};
use crate::clock::Timestamp;
use crate::db::schema::{audit_events as events, audit_logs as logs, audit_payloads as payloads};
use crate::db::{Backend, Conn};
use crate::error::Error;
use crate::domain::Window;
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};

/// An event as it is stored: what its leaf holds.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = events)]
pub(super) struct Row {
    pub id: EventId,
    pub tenant_id: String,
    pub log_index: i64,
    pub event_type: EventType,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub client_id: Option<ClientId>,
    pub portal: Option<String>,
    pub magic_link_id: Option<LinkId>,
    pub session_id: Option<SessionId>,
    pub consultant_id: Option<ConsultantId>,
    pub profile_id: Option<String>,
    pub principal_id: Option<String>,
    pub source: Option<String>,
    pub seq: Option<i64>,
    pub late: bool,
    pub policy_violation: bool,
    pub trace_id: Option<String>,
    pub payload_commitment: Vec<u8>,
    pub hashes: Vec<u8>,
}

/// What can be erased of an event, as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = payloads)]
pub(super) struct PayloadRow {
    pub tenant_id: String,
    pub log_index: i64,
    pub salt: Vec<u8>,
    pub payload: String,
    pub fingerprint: Option<Vec<u8>>,
}

/// An event, and its salt and payload unless they are erased.
pub(super) type Recorded = (Row, Option<(Vec<u8>, String)>);

/// Events, each beside its payload.
#[diesel::dsl::auto_type]
fn with_payloads() -> _ {
    let its_own = payloads::tenant_id.eq(events::tenant_id).and(payloads::log_index.eq(events::log_index));
    events::table.left_join(payloads::table.on(its_own))
}

/// Fingerprint of the acts of one source that are known; empty where it is erased.
pub(crate) fn acts_by_seq(
    conn: &mut Conn,
    session: &SessionId,
    source: &str,
    numbers: &[i64],
) -> QueryResult<Vec<(i64, Vec<u8>)>> {
    let rows: Vec<(Option<i64>, Option<Vec<u8>>)> = with_payloads()
        .filter(events::session_id.eq(session).and(events::source.eq(source)).and(events::seq.eq_any(numbers)))
        .select((events::seq, payloads::fingerprint.nullable()))
        .load(conn)?;
    Ok(rows.into_iter().filter_map(|(seq, fingerprint)| Some((seq?, fingerprint.unwrap_or_default()))).collect())
}

diesel::alias!(crate::db::schema::audit_events as neighbours: Neighbours);

/// As many missing ranges as are told.
const MOST_RANGES: i64 = 100;

/// Which numbers of a source are not there, up to the last one there should be: the first hundred ranges.
pub(crate) fn missing_acts(
    conn: &mut Conn,
    session: &SessionId,
    source: &str,
    last: i64,
) -> QueryResult<Vec<RangeInclusive<i64>>> {
    let neighbour = |distance: i64| {
        diesel::dsl::exists(
            neighbours
                .filter(neighbours.field(events::session_id).eq(events::session_id))
                .filter(neighbours.field(events::source).eq(events::source))
                .filter(neighbours.field(events::seq).eq(events::seq + distance)),
        )
    };
    let its_own = events::table
        .filter(events::session_id.eq(session).and(events::source.eq(source)))
        .filter(events::seq.is_not_null())
        .select(events::seq.assume_not_null())
        .order(events::seq.asc())
        .limit(MOST_RANGES);
    // A gap follows a number without a next one, and ends before a number without a previous one.
    let before: Vec<i64> = its_own.filter(diesel::dsl::not(neighbour(1))).load(conn)?;
    let behind: Vec<i64> = its_own.filter(diesel::dsl::not(neighbour(-1))).load(conn)?;
    let starts = std::iter::once(1).chain(before.into_iter().map(|seq| seq + 1));
    // Where there are more than are told, nobody knows yet where the last one ends.
    let tail = usize::try_from(MOST_RANGES).is_ok_and(|most| behind.len() < most).then_some(last);
    let ends = behind.into_iter().map(|seq| seq - 1).chain(tail);
    Ok(starts.zip(ends).map(|(start, end)| start..=end).filter(|range| !range.is_empty()).collect())
}

/// As many events as are asked for at a time.
const EVENTS_A_QUERY: usize = 500;

/// Nodes of a log's tree, by their index in storage order; those that are not there are left out.
pub(super) fn nodes(conn: &mut Conn, tenant_id: &str, wanted: BTreeSet<u64>) -> QueryResult<HashMap<u64, Hash>> {
    let mut events: Vec<i64> = wanted.iter().map(|node| tree::place(*node).0).collect();
    events.sort_unstable();
    events.dedup();
    let mut rows: HashMap<i64, Vec<Hash>> = HashMap::new();
    for events in events.chunks(EVENTS_A_QUERY) {
        let found: Vec<(i64, Vec<u8>)> = events::table
            .filter(events::tenant_id.eq(tenant_id).and(events::log_index.eq_any(events)))
            .select((events::log_index, events::hashes))
            .load(conn)?;
        rows.extend(found.into_iter().filter_map(|(index, hashes)| Some((index, tree::decode(&hashes)?))));
    }
    let hash = |node: u64| {
        let (event, level) = tree::place(node);
        rows.get(&event).and_then(|hashes| hashes.get(level).copied())
    };
    Ok(wanted.into_iter().filter_map(|node| Some((node, hash(node)?))).collect())
}

/// Notes that a log has grown. Its head is locked.
pub(super) fn grow(conn: &mut Conn, tenant_id: &str, log: &Frontier, by: usize) -> Result<(), Error> {
    let size = i64::try_from(log.size()).map_err(Error::internal)?;
    let before = size - i64::try_from(by).map_err(Error::internal)?;
    let grown = diesel::update(logs::table.find(tenant_id))
        .filter(logs::size.eq(before))
        .set((logs::size.eq(size), logs::frontier.eq(log.encode())))
        .execute(conn)?;
    if grown == 1 { Ok(()) } else { Err(Error::internal(format_args!("log {tenant_id} has forked"))) }
}

/// The head of a log; the empty one where nothing was written yet.
pub(super) fn head(conn: &mut Conn, tenant_id: &str) -> Result<Frontier, Error> {
    head_as_stored(conn, tenant_id)?
        .ok_or_else(|| Error::internal(format_args!("the head of log {tenant_id} is damaged")))
}

/// The same; `None` if it is damaged.
pub(super) fn head_as_stored(conn: &mut Conn, tenant_id: &str) -> QueryResult<Option<Frontier>> {
    let head: Option<(i64, Vec<u8>)> =
        logs::table.find(tenant_id).select((logs::size, logs::frontier)).get_result(conn).optional()?;
    Ok(head.map_or_else(|| Some(Frontier::default()), |(size, frontier)| Frontier::decode(size, &frontier)))
}

/// Every log, in order of id.
pub(super) fn logs(conn: &mut Conn) -> QueryResult<Vec<String>> {
    logs::table.select(logs::tenant_id).order(logs::tenant_id).load(conn)
}

/// The condition on events that match the filter within the reach.
fn matching<'a>(filter: &'a EventFilter, reach: &'a Reach) -> diesel::dsl::IntoBoxed<'a, with_payloads, Backend> {
    let mut query = with_payloads().into_boxed::<Backend>();
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
    // The bare column: the partial indexes are on just that.
    query = match filter.late {
        Some(true) => query.filter(events::late),
        Some(false) => query.filter(diesel::dsl::not(events::late)),
        None => query,
    };
    query = match filter.policy_violation {
        Some(true) => query.filter(events::policy_violation),
        Some(false) => query.filter(diesel::dsl::not(events::policy_violation)),
        None => query,
    };
    if let Some(from) = filter.occurred_from {
        query = query.filter(events::occurred_at.ge(from));
    }
    if let Some(to) = filter.occurred_to {
        query = query.filter(events::occurred_at.lt(to));
    }
    query
}

/// Events that match the filter within the reach, newest first.
pub(super) fn list(
    conn: &mut Conn,
    filter: &EventFilter,
    reach: &Reach,
    window: &Window,
) -> Result<Vec<AuditEvent>, Error> {
    let mut query = matching(filter, reach);
    if let Some(after) = &window.after {
        query = query.filter(events::id.lt(after));
    }
    let rows: Vec<Recorded> = query
        .select((events::all_columns, (payloads::salt, payloads::payload).nullable()))
        .order(events::id.desc())
        .limit(window.limit)
        .load(conn)?;
    shown(conn, rows)
}

/// Events of one log that match the filter within the reach, in order, from an index on and below another one.
pub(super) fn slice(
    conn: &mut Conn,
    filter: &EventFilter,
    reach: &Reach,
    indexes: Range<i64>,
    limit: i64,
) -> QueryResult<Vec<Recorded>> {
    matching(filter, reach)
        .filter(events::log_index.ge(indexes.start))
        .filter(events::log_index.lt(indexes.end))
        .select((events::all_columns, (payloads::salt, payloads::payload).nullable()))
        .order(events::log_index.asc())
        .limit(limit)
        .load(conn)
}

/// As callers see them, with the erasure where there is no payload.
fn shown(conn: &mut Conn, rows: Vec<Recorded>) -> Result<Vec<AuditEvent>, Error> {
    let mut bare: Vec<String> =
        rows.iter().filter(|(_, payload)| payload.is_none()).map(|(row, _)| row.tenant_id.clone()).collect();
    bare.sort_unstable();
    bare.dedup();
    let indexes = rows.iter().filter(|(_, payload)| payload.is_none()).map(|(row, _)| row.log_index);
    let (first, last) = indexes.fold((i64::MAX, i64::MIN), |(first, last), index| (first.min(index), last.max(index)));
    let erasures = if bare.is_empty() { Vec::new() } else { erasures(conn, &bare, first..last.saturating_add(1))? };
    rows.into_iter().map(|(row, payload)| show(row, payload, &erasures)).collect()
}

/// As callers see it.
pub(super) fn show(row: Row, payload: Option<(Vec<u8>, String)>, erasures: &[Erasure]) -> Result<AuditEvent, Error> {
    let erased = if payload.is_none() { erased(&row, erasures) } else { None };
    let payload: Option<Payload> = match payload {
        Some((_, text)) => Some(serde_json::from_str(&text).map_err(Error::internal)?),
        None => None,
    };
    let leaf_hash = row.leaf_hash();
    let data = payload.as_ref().map(|payload| payload.data.clone());
    let names = payload.unwrap_or_default();
    Ok(AuditEvent {
        id: row.id,
        kind: row.event_type,
        tenant_id: row.tenant_id,
        portal: row.portal,
        log_index: row.log_index,
        leaf_hash,
        occurred_at: row.occurred_at,
        recorded_at: row.recorded_at,
        result: row.event_type.result(),
        actor: Actor { kind: row.actor_type, id: row.actor_id, name: names.actor_name },
        client_id: row.client_id,
        magic_link_id: row.magic_link_id,
        session_id: row.session_id,
        consultant_id: row.consultant_id,
        profile_id: row.profile_id,
        principal_id: row.principal_id,
        reason: names.reason,
        ticket: names.ticket,
        address: names.address,
        user_agent: names.user_agent,
        source: row.source,
        seq: row.seq,
        late: row.late,
        policy_violation: row.policy_violation,
        trace_id: row.trace_id,
        data,
        erased,
    })
}

/// Which erasure took the payload of an event; `None` where somebody took it past us.
pub(super) fn erased(row: &Row, erasures: &[Erasure]) -> Option<Erased> {
    let covering = erasures.iter().find(|erasure| {
        erasure.tenant_id == row.tenant_id && (erasure.from_index..erasure.to_index).contains(&row.log_index)
    });
    if covering.is_none() {
        tracing::error!(event.id = %row.id, "an event has lost its payload, and no erasure of it is on record");
    }
    covering.map(Erasure::shown)
}

impl Row {
    /// What the log commits to.
    pub(super) fn leaf(&self) -> Leaf<'_> {
        Leaf {
            actor_id: &self.actor_id,
            actor_type: self.actor_type,
            client_id: self.client_id.as_ref(),
            consultant_id: self.consultant_id.as_ref(),
            id: &self.id,
            late: self.late,
            log_index: self.log_index,
            magic_link_id: self.magic_link_id.as_ref(),
            occurred_at: self.occurred_at,
            payload_commitment: Leaf::commitment(&self.payload_commitment),
            policy_violation: self.policy_violation,
            portal: self.portal.as_deref(),
            principal_id: self.principal_id.as_deref(),
            profile_id: self.profile_id.as_deref(),
            recorded_at: self.recorded_at,
            result: self.event_type.result(),
            seq: self.seq,
            session_id: self.session_id.as_ref(),
            source: self.source.as_deref(),
            tenant_id: &self.tenant_id,
            trace_id: self.trace_id.as_deref(),
            kind: self.event_type,
        }
    }

    /// The leaf hash that was stored; a row that was tampered with has another one by now.
    pub(super) fn leaf_hash(&self) -> String {
        tree::base64(self.hashes.get(..tlog_tiles::HASH_SIZE).unwrap_or_default())
    }
}

/// How often a session touched a person's data, by type, and from when to when.
pub(super) type Touches = (Option<SessionId>, EventType, i64, Option<Timestamp>, Option<Timestamp>);

/// Sessions that touched a person's data, newest first.
pub(super) fn sessions_touching(
    conn: &mut Conn,
    tenant_id: &str,
    portal: Option<&str>,
    principal_id: &str,
    window: &Window,
) -> QueryResult<Vec<SessionId>> {
    let mut query = events::table
        .filter(events::tenant_id.eq(tenant_id).and(events::principal_id.eq(principal_id)))
        .filter(events::session_id.is_not_null())
        .into_boxed::<Backend>();
    if let Some(portal) = portal {
        query = query.filter(events::portal.eq(portal));
    }
    if let Some(after) = &window.after {
        query = query.filter(events::session_id.lt(after));
    }
    query
        .select(events::session_id.assume_not_null())
        .distinct()
        .order(events::session_id.assume_not_null().desc())
        .limit(window.limit)
        .load(conn)
}

/// What some sessions did to a person's data.
pub(super) fn touches(
    conn: &mut Conn,
    tenant_id: &str,
    principal_id: &str,
    sessions: &[SessionId],
) -> QueryResult<Vec<Touches>> {
    events::table
        .filter(events::tenant_id.eq(tenant_id).and(events::principal_id.eq(principal_id)))
        .filter(events::session_id.eq_any(sessions))
        .group_by((events::session_id, events::event_type))
        .select((
            events::session_id,
            events::event_type,
            diesel::dsl::count_star(),
            diesel::dsl::min(events::occurred_at),
            diesel::dsl::max(events::occurred_at),
        ))
        .load(conn)
}
