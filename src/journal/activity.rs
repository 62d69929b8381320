//! Activity events in the audit log: which are recorded, and which sequence numbers are missing.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use diesel::prelude::*;

use super::rows::with_payloads;
use super::{ActivityRef, Event};
use crate::db::Conn;
use crate::db::schema::{audit_events as events, audit_payloads as payloads};
use crate::domain::{EventType, RecordedType};
use crate::error::Error;
use crate::id::SessionId;

diesel::alias!(crate::db::schema::audit_events as neighbours: Neighbours);

/// Sequence numbers and fingerprints of a source's recorded activity events; an erased fingerprint is empty.
pub(crate) fn events_by_seq(
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

/// Largest number of uninterrupted runs of a session's numbers that are read to find what is missing.
const MOST_RUNS: i64 = 200;

/// Largest number of missing ranges of one source.
const MOST_RANGES: usize = 100;

/// Missing sequence numbers of a session's sources, each from 1 to its given last number, in order of source: the first
/// ranges.
pub(crate) fn missing_numbers(
    conn: &mut Conn,
    session: &SessionId,
    last_numbers: &BTreeMap<&str, i64>,
) -> QueryResult<HashMap<String, Vec<RangeInclusive<i64>>>> {
    let neighbour = |distance: i64| {
        diesel::dsl::exists(
            neighbours
                .filter(neighbours.field(events::session_id).eq(events::session_id))
                .filter(neighbours.field(events::source).eq(events::source))
                .filter(neighbours.field(events::seq).eq(events::seq + distance)),
        )
    };
    let its_own = events::table
        .filter(events::session_id.eq(session))
        .filter(events::seq.is_not_null())
        .select((events::source.assume_not_null(), events::seq.assume_not_null()))
        .order((events::source.asc(), events::seq.asc()))
        .limit(MOST_RUNS);
    // A run begins with a number without a predecessor, and ends with one without a successor.
    let first: Vec<(String, i64)> = its_own.filter(diesel::dsl::not(neighbour(-1))).load(conn)?;
    let last: Vec<(String, i64)> = its_own.filter(diesel::dsl::not(neighbour(1))).load(conn)?;
    let cut = i64::try_from(first.len()).is_ok_and(|found| found == MOST_RUNS);
    let cut_source = first.last().map(|(source, _)| source.clone()).filter(|_| cut);
    let mut runs: HashMap<String, Vec<RangeInclusive<i64>>> = HashMap::new();
    for ((source, start), (_, end)) in first.into_iter().zip(last) {
        runs.entry(source).or_default().push(start..=end);
    }
    let missing = last_numbers.iter().filter_map(|(source, last)| {
        let known = match &cut_source {
            Some(cut) if cut.as_str() < *source => return None,
            _ => runs.remove(*source).unwrap_or_default(),
        };
        let starts = std::iter::once(1).chain(known.iter().map(|run| run.end() + 1));
        // Beyond the limit, the end of the last gap is unknown.
        let tail = (cut_source.as_deref() != Some(*source)).then_some(*last);
        let ends = known.iter().map(|run| run.start() - 1).chain(tail);
        let gaps = starts.zip(ends).map(|(start, end)| start..=end).filter(|range| !range.is_empty());
        Some(((*source).to_owned(), gaps.take(MOST_RANGES).collect()))
    });
    Ok(missing.collect())
}

/// Fingerprints of a session's recorded activity events by source and sequence number; empty once erased.
pub(crate) type KnownEvents = HashMap<(String, i64), Vec<u8>>;

/// Finds which activity events are known: recorded, or about to be recorded by the same transaction.
pub(crate) fn known_events(
    conn: &mut Conn,
    earlier: &[Event],
    session: &SessionId,
    acts: &[ActivityRef<'_>],
) -> Result<KnownEvents, Error> {
    let mut by_source: HashMap<&str, Vec<i64>> = HashMap::new();
    for act in acts {
        by_source.entry(act.source).or_default().push(act.seq);
    }
    let mut known: KnownEvents = earlier.iter().filter_map(|event| event.activity_of(session)).collect();
    for (source, numbers) in by_source {
        for (seq, fingerprint) in events_by_seq(conn, session, source, &numbers)? {
            known.insert((source.to_owned(), seq), fingerprint);
        }
    }
    Ok(known)
}

/// Number of activity events by type and by whether they are marked `policy_violation`.
pub(crate) fn events_by_type(conn: &mut Conn, id: &SessionId) -> QueryResult<Vec<(RecordedType, bool, i64)>> {
    events::table
        .filter(events::session_id.eq(id))
        .filter(events::seq.is_not_null())
        .group_by((events::event_type, events::policy_violation))
        .select((events::event_type, events::policy_violation, diesel::dsl::count_star()))
        .load(conn)
}

/// Largest number of reports whose violations are read.
const MOST_VIOLATIONS: i64 = 100;

/// Payloads of the newest events about violations in a session; those that were erased are missing.
pub(crate) fn violations_of(conn: &mut Conn, id: &SessionId) -> QueryResult<Vec<String>> {
    let found: Vec<Option<String>> = with_payloads()
        .filter(events::session_id.eq(id).and(events::event_type.eq(EventType::PolicyViolation)))
        .order(events::id.desc())
        .limit(MOST_VIOLATIONS)
        .select(payloads::payload.nullable())
        .load(conn)?;
    Ok(found.into_iter().flatten().collect())
}
