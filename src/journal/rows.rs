//! The audit log at rest: events are appended and read; only payloads can be erased.

use std::collections::{BTreeSet, HashMap};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Text};
use tlog_tiles::Hash;

use super::leaf::{ApprovalProof, Leaf};
use super::tree::{self, Frontier};
use crate::clock::Timestamp;
use crate::db::schema::{audit_events as events, audit_logs as logs, audit_payloads as payloads};
use crate::db::{Conn, prepared_as};
use crate::domain::{ActorType, RecordedType, SYSTEM_LOG};
use crate::error::Error;
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};

/// A stored event: the members of its leaf.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = events, treat_none_as_default_value = false)]
pub(crate) struct Row {
    pub id: EventId,
    pub tenant_id: String,
    pub log_index: i64,
    pub event_type: RecordedType,
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
    pub out_of_session: bool,
    pub principal_ids: Option<String>,
    pub approval: Option<String>,
}

/// A stored payload: the erasable part of an event.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = payloads, treat_none_as_default_value = false)]
pub(crate) struct PayloadRow {
    pub tenant_id: String,
    pub log_index: i64,
    pub salt: Vec<u8>,
    pub payload: String,
    pub fingerprint: Option<Vec<u8>>,
}

/// An event, with salt and payload unless erased.
pub(crate) type StoredEvent = (Row, Option<(Vec<u8>, String)>);

/// Events joined with their payloads.
#[diesel::dsl::auto_type]
pub(crate) fn with_payloads() -> _ {
    let its_own = payloads::tenant_id.eq(events::tenant_id).and(payloads::log_index.eq(events::log_index));
    events::table.left_join(payloads::table.on(its_own))
}

/// Events per query.
pub(crate) const EVENTS_A_QUERY: usize = 500;

/// Nodes of a log's tree by their index in storage order; missing nodes are omitted.
pub(crate) fn nodes(conn: &mut Conn, tenant_id: &str, wanted: BTreeSet<u64>) -> QueryResult<HashMap<u64, Hash>> {
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

/// The head of a log. PostgreSQL keeps older versions of the row while somebody looks at the past: the highest number
/// leads to the one that counts.
#[diesel::dsl::auto_type(no_type_alias)]
fn newest<'t>(tenant_id: &'t str) -> _ {
    logs::table.filter(logs::tenant_id.eq(tenant_id)).order(logs::size.desc()).limit(1_i64)
}

/// Whether a log has begun: reading about a tenant that has none must not begin one.
pub(crate) fn has_begun(conn: &mut Conn, tenant_id: &str) -> QueryResult<bool> {
    Ok(newest(tenant_id).select(logs::tenant_id).get_result::<String>(conn).optional()?.is_some())
}

/// The log that a reading is recorded in: of the tenant, or `_system` while that has none.
pub(crate) fn log_of_reading<'t>(conn: &mut Conn, tenant_id: &'t str) -> QueryResult<&'t str> {
    Ok(if has_begun(conn, tenant_id)? { tenant_id } else { SYSTEM_LOG })
}

/// The head of a log; empty if the log has no events.
pub(crate) fn head(conn: &mut Conn, tenant_id: &str) -> Result<Frontier, Error> {
    let LogHead { head, .. } = named_head(conn, tenant_id)?;
    head.ok_or_else(|| Error::internal(format_args!("the head of log {tenant_id} is damaged")))
}

/// The head of a log, its name, and who signs it. They are read together: an event may change them all.
pub(crate) struct LogHead {
    /// The name of the log under its service: its tenant, and what the last restore has added.
    pub name: String,
    /// The key that signs its checkpoints; `None` for a log without events.
    pub key_id: Option<String>,
    /// `None` if it is damaged.
    pub head: Option<Frontier>,
}

/// Reads the head of a log.
pub(crate) fn named_head(conn: &mut Conn, tenant_id: &str) -> QueryResult<LogHead> {
    let found: Option<(i64, Vec<u8>, Option<String>, String)> = newest(tenant_id)
        .select((logs::size, logs::frontier, logs::suffix, logs::key_id))
        .get_result(conn)
        .optional()?;
    let Some((size, frontier, suffix, key_id)) = found else {
        return Ok(LogHead { name: tenant_id.to_owned(), key_id: None, head: Some(Frontier::default()) });
    };
    let name = suffix.map_or_else(|| tenant_id.to_owned(), |suffix| format!("{tenant_id}/{suffix}"));
    Ok(LogHead { name, key_id: Some(key_id), head: Frontier::decode(size, &frontier) })
}

impl Row {
    /// The leaf of the event.
    pub(crate) fn leaf(&self) -> Leaf<'_> {
        Leaf {
            actor_id: &self.actor_id,
            actor_type: self.actor_type,
            approval: self.approval(),
            client_id: self.client_id.as_ref(),
            consultant_id: self.consultant_id.as_ref(),
            id: &self.id,
            late: self.late,
            log_index: self.log_index,
            magic_link_id: self.magic_link_id.as_ref(),
            occurred_at: self.occurred_at,
            out_of_session: self.out_of_session,
            payload_commitment: Leaf::commitment(&self.payload_commitment),
            policy_violation: self.policy_violation,
            portal: self.portal.as_deref(),
            principal_id: self.principal_id.as_deref(),
            principal_ids: self.principals(),
            profile_id: self.profile_id.as_deref(),
            recorded_at: self.recorded_at,
            result: self.event_type.result(),
            seq: self.seq,
            session_id: self.session_id.as_ref(),
            source: self.source.as_deref(),
            tenant_id: &self.tenant_id,
            trace_id: self.trace_id.as_deref(),
            kind: self.event_type.as_str(),
        }
    }

    /// The persons whose data it concerns, where they are several. What is no list any more was tampered with, and is
    /// none.
    pub(crate) fn principals(&self) -> Vec<String> {
        let list = self.principal_ids.as_deref().map(serde_json::from_str);
        list.and_then(Result::ok).unwrap_or_default()
    }

    /// The proof that the customer signed it. What is no proof any more was tampered with, and is none.
    pub(crate) fn approval(&self) -> Option<ApprovalProof> {
        self.approval.as_deref().and_then(|proof| serde_json::from_str(proof).ok())
    }

    /// The stored leaf hash; it does not match a row that was tampered with.
    pub(crate) fn leaf_hash(&self) -> String {
        tree::base64(self.hashes.get(..tlog_tiles::HASH_SIZE).unwrap_or_default())
    }
}

/// Locks the head of a tenant's log until the transaction ends, and returns it; creates it if there is none.
pub(crate) fn lock_log(conn: &mut Conn, tenant_id: &str) -> Result<Frontier, Error> {
    let mut locked = lock_logs(conn, &[tenant_id], &[tenant_id])?;
    locked.remove(tenant_id).ok_or_else(|| Error::internal("a log without its head"))
}

/// Locks the heads of logs until the transaction ends, in order of tenant id, and returns them. Those that may not have
/// begun are created before: who creates one waits for others that do, and must hold no lock that they wait for.
pub(crate) fn lock_logs(
    conn: &mut Conn,
    tenants: &[&str],
    unknown: &[&str],
) -> Result<HashMap<String, Frontier>, Error> {
    begin_logs(conn, unknown)?;
    let mut found = locked(conn, tenants)?;
    if found.len() < tenants.len() {
        // The database was replaced by one that lacks them.
        begin_logs(conn, tenants)?;
        found = locked(conn, tenants)?;
    }
    let decoded = found.into_iter().map(|(tenant_id, size, frontier)| {
        let head = Frontier::decode(size, &frontier);
        let head = head.ok_or_else(|| Error::internal(format_args!("the head of log {tenant_id} is damaged")))?;
        Ok((tenant_id, head))
    });
    decoded.collect()
}

fn locked(conn: &mut Conn, tenants: &[&str]) -> QueryResult<Vec<(String, i64, Vec<u8>)>> {
    match conn {
        Conn::Postgres(conn) => {
            // As `newest` finds them, locked in order of their ids.
            const NEWEST: &str = "SELECT head.* FROM (SELECT unnest($1) COLLATE \"C\" AS id ORDER BY 1) log, LATERAL (SELECT tenant_id, \
                 size, frontier FROM audit_logs WHERE tenant_id = log.id ORDER BY size DESC LIMIT 1 FOR NO KEY UPDATE) head";
            prepared_as::<(Text, BigInt, Binary), _>(sql_query(NEWEST).bind::<Array<Text>, _>(tenants)).load(conn)
        }
        Conn::Sqlite(conn) => {
            let head = (logs::tenant_id, logs::size, logs::frontier);
            let one = |tenant_id: &&str| newest(tenant_id).select(head).get_result(conn).optional();
            tenants.iter().map(one).filter_map(Result::transpose).collect()
        }
    }
}

/// Creates the logs that have not begun, in order of tenant id.
fn begin_logs(conn: &mut Conn, tenants: &[&str]) -> QueryResult<()> {
    const NEW: &str = "INSERT INTO audit_logs (tenant_id, size, frontier, key_id) SELECT t.tenant_id, 0, t.frontier, \
         coalesce((SELECT id FROM audit_keys ORDER BY created_at DESC, id DESC LIMIT 1), 'checkpoints') FROM ";
    if tenants.is_empty() {
        return Ok(());
    }
    match conn {
        Conn::Postgres(conn) => {
            let text = [
                NEW,
                "(SELECT unnest($1) COLLATE \"C\" AS tenant_id, $2 AS frontier ORDER BY 1) t ON CONFLICT DO NOTHING RETURNING size",
            ];
            let new = sql_query(text.concat()).bind::<Array<Text>, _>(tenants).bind::<Binary, _>(Vec::<u8>::new());
            prepared_as::<BigInt, _>(new).load::<i64>(conn).map(drop)
        }
        Conn::Sqlite(conn) => tenants.iter().try_for_each(|tenant_id| {
            let text =
                [NEW, "(SELECT ? AS tenant_id, x'' AS frontier) t WHERE true ON CONFLICT DO NOTHING RETURNING size"];
            let new = sql_query(text.concat()).bind::<Text, _>(*tenant_id);
            prepared_as::<BigInt, _>(new).load::<i64>(conn).map(drop)
        }),
    }
}
