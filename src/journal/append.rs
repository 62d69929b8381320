//! Appending to the audit logs, the last step of every transaction.

use std::collections::BTreeMap;

use rand::Rng;

use super::leaf::{Payload, SALT_BYTES, canonical, commit};
use super::rows::{self, PayloadRow, Row, lock_log};
use super::{Event, tree};
use crate::db::schema::{audit_events, audit_payloads};
use crate::db::{Conn, insert_all};
use crate::error::Error;
use crate::id::EventId;

/// PostgreSQL accepts 65,535 parameters per statement; a row has 22.
const ROWS_PER_STATEMENT: usize = 1_000;

/// An event that was appended to its log.
pub(crate) struct AppendedEvent<'e> {
    pub event: &'e Event,
    pub id: EventId,
    /// Index in the tenant's log, which is the order of commits.
    pub log_index: i64,
}

/// Appends the events of a transaction, which may hold several write jobs, each to its tenant's log.
///
/// The heads of all logs are locked first, in order of tenant id, and nothing is
/// locked after them, so two transactions cannot deadlock here. Follow-ups of an
/// event, such as webhook messages, are only inserted.
pub(crate) fn append<'e>(conn: &mut Conn, events: &'e [Event]) -> Result<Vec<AppendedEvent<'e>>, Error> {
    let mut by_log: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_log.entry(&event.tenant_id).or_default().push(event);
    }
    let mut logs = Vec::with_capacity(by_log.len());
    for (tenant_id, events) in by_log {
        logs.push((tenant_id, lock_log(conn, tenant_id)?, events));
    }
    let (mut rows, mut payloads) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
    for (_, log, events) in &mut logs {
        for event in events {
            let index = i64::try_from(log.size()).map_err(Error::internal)?;
            let payload = PayloadRow::of(event, index)?;
            let mut row = Row::of(event, index, commit(&payload.salt, &payload.payload));
            row.hashes = tree::encode(&log.push(row.leaf().hash()?).map_err(Error::internal)?);
            rows.push(row);
            payloads.push(payload);
        }
    }
    for rows in rows.chunks(ROWS_PER_STATEMENT) {
        insert_all!(conn, audit_events::table, rows)?;
    }
    for payloads in payloads.chunks(ROWS_PER_STATEMENT) {
        insert_all!(conn, audit_payloads::table, payloads)?;
    }
    for (tenant_id, log, events) in &logs {
        rows::grow(conn, tenant_id, log, events)?;
    }
    let placed = logs.into_iter().flat_map(|(_, _, events)| events).zip(rows);
    Ok(placed.map(|(event, row)| AppendedEvent { event, id: row.id, log_index: row.log_index }).collect())
}

impl PayloadRow {
    fn of(event: &Event, log_index: i64) -> Result<Self, Error> {
        let mut salt = vec![0; SALT_BYTES];
        rand::rng().fill_bytes(&mut salt);
        let payload = Payload {
            actor_name: event.actor.name.clone(),
            address: event.address.clone(),
            data: event.data.clone(),
            reason: event.reason.clone(),
            ticket: event.ticket.clone(),
            user_agent: event.user_agent.clone(),
        };
        Ok(Self {
            tenant_id: event.tenant_id.clone(),
            log_index,
            salt,
            payload: canonical(&payload)?,
            fingerprint: event.fingerprint.clone(),
        })
    }
}

impl Row {
    fn of(event: &Event, log_index: i64, payload_commitment: Vec<u8>) -> Self {
        let event = event.clone();
        Self {
            id: EventId::new(event.recorded_at),
            tenant_id: event.tenant_id,
            log_index,
            event_type: event.kind,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            actor_type: event.actor.kind,
            actor_id: event.actor.id,
            client_id: event.client_id,
            portal: event.portal,
            magic_link_id: event.magic_link_id,
            session_id: event.session_id,
            consultant_id: event.consultant_id,
            profile_id: event.profile_id,
            principal_id: event.principal_id,
            source: event.source,
            seq: event.seq,
            late: event.late,
            policy_violation: event.policy_violation,
            trace_id: event.trace_id,
            payload_commitment,
            hashes: Vec::new(),
            out_of_session: event.out_of_session,
        }
    }
}
