//! Appending to the audit logs, the last step of every transaction.

use std::collections::BTreeMap;

use quick_cache::sync::Cache;
use rand::Rng;

use super::leaf::{Payload, SALT_BYTES, canonical, commit};
use super::rows::{self, PayloadRow, Row};
use super::tree::{self, Frontier};
use super::{Event, growth};
use crate::db::Conn;
use crate::domain::RecordedType;
use crate::error::Error;
use crate::id::EventId;

/// Number of logs whose heads are kept in mind.
const HEADS: usize = 4_096;

/// Heads of logs as this process last committed them.
///
/// A guess, which the statement that appends compares with what is stored: it costs no question where it is right.
pub(crate) struct Heads(Cache<String, Frontier>);

impl Default for Heads {
    fn default() -> Self {
        Self(Cache::new(HEADS))
    }
}

impl Heads {
    /// Keeps the heads in mind that a transaction has committed.
    pub(crate) fn committed(&self, heads: Vec<(String, Frontier)>) {
        for (tenant_id, head) in heads {
            self.0.insert(tenant_id, head);
        }
    }
}

/// An event that was appended to its log.
pub(crate) struct AppendedEvent<'e> {
    pub event: &'e Event,
    pub id: EventId,
    /// Index in the tenant's log, which is the order of commits.
    pub log_index: i64,
}

/// Appended events, and the heads of their logs from the commit on.
pub(crate) struct Appended<'e> {
    pub events: Vec<AppendedEvent<'e>>,
    pub heads: Vec<(String, Frontier)>,
    /// Whether any webhook endpoint is active: the statement that appends tells, so that no other one asks.
    pub any_endpoint: bool,
    /// Whether the clients that act count as they did when they were judged: the same statement tells.
    pub clients_stand: bool,
}

/// A log that grows: its events, and its head before and after them.
pub(super) struct Growth<'e> {
    pub tenant_id: &'e str,
    pub before: Frontier,
    pub after: Frontier,
    pub events: Vec<&'e Event>,
}

/// What a transaction adds to its logs.
pub(super) struct Addition<'e> {
    pub logs: Vec<Growth<'e>>,
    pub rows: Vec<Row>,
    pub payloads: Vec<PayloadRow>,
}

/// Appends the events of a transaction, which may hold several write jobs, each to its tenant's log.
///
/// The heads of several logs are locked first, in order of tenant id, and nothing is
/// locked after them, so two transactions cannot deadlock here. A log that is alone
/// is locked by its growth. Follow-ups of an event, such as webhook messages, are
/// only inserted.
///
/// `judged` are the clients that act: the id and the standing (`records::clients::standing`) of each.
pub(crate) fn append<'e>(
    conn: &mut Conn,
    heads: &Heads,
    events: &'e [Event],
    judged: &[(&str, &str)],
) -> Result<Appended<'e>, Error> {
    let mut by_log: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in events {
        by_log.entry(&event.tenant_id).or_default().push(event);
    }
    if let (1, Some((tenant_id, events))) = (by_log.len(), by_log.first_key_value())
        && let Some(head) = heads.0.get(*tenant_id)
    {
        let addition = Addition::of(vec![(*tenant_id, head, events.clone())])?;
        if let Some(seen) = growth::grow(conn, &addition, judged)? {
            return Ok(addition.appended(&seen));
        }
    }
    // A log is never removed: one whose head is known exists.
    let unknown: Vec<&str> = by_log.keys().copied().filter(|tenant_id| heads.0.get(*tenant_id).is_none()).collect();
    let tenants: Vec<&str> = by_log.keys().copied().collect();
    let mut locked = rows::lock_logs(conn, &tenants, &unknown)?;
    let logs = by_log.into_iter().map(|(tenant_id, events)| {
        let head = locked.remove(tenant_id).ok_or_else(|| Error::internal("a log without its head"))?;
        Ok((tenant_id, head, events))
    });
    let addition = Addition::of(logs.collect::<Result<_, Error>>()?)?;
    match growth::grow(conn, &addition, judged)? {
        Some(seen) => Ok(addition.appended(&seen)),
        None => Err(Error::internal("a log has forked")),
    }
}

impl<'e> Addition<'e> {
    fn of(logs: Vec<(&'e str, Frontier, Vec<&'e Event>)>) -> Result<Self, Error> {
        let mut addition = Self { logs: Vec::with_capacity(logs.len()), rows: Vec::new(), payloads: Vec::new() };
        for (tenant_id, before, events) in logs {
            let mut after = before.clone();
            for event in &events {
                let index = i64::try_from(after.size()).map_err(Error::internal)?;
                let payload = PayloadRow::of(event, index)?;
                let mut row = Row::of(event, index, commit(&payload.salt, &payload.payload));
                row.hashes = tree::encode(&after.push(row.leaf().hash()?).map_err(Error::internal)?);
                addition.rows.push(row);
                addition.payloads.push(payload);
            }
            addition.logs.push(Growth { tenant_id, before, after, events });
        }
        Ok(addition)
    }

    fn appended(self, &growth::Seen { any_endpoint, clients_stand }: &growth::Seen) -> Appended<'e> {
        let mut heads = Vec::with_capacity(self.logs.len());
        let mut events = Vec::with_capacity(self.rows.len());
        for log in self.logs {
            events.extend(log.events);
            heads.push((log.tenant_id.to_owned(), log.after));
        }
        let placed = events.into_iter().zip(self.rows);
        let events = placed.map(|(event, row)| AppendedEvent { event, id: row.id, log_index: row.log_index });
        Appended { events: events.collect(), heads, any_endpoint, clients_stand }
    }
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
            event_type: RecordedType::Known(event.kind),
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
            principal_ids: event.principal_ids,
            source: event.source,
            seq: event.seq,
            late: event.late,
            policy_violation: event.policy_violation,
            trace_id: event.trace.map(|trace| trace.trace_id().to_string()),
            payload_commitment,
            hashes: Vec::new(),
            out_of_session: event.out_of_session,
            approval: event.approval,
        }
    }
}
