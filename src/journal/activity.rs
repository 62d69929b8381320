//! Activity events in the audit log: which are recorded, and which sequence numbers are missing.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use diesel::prelude::*;

use super::rows::with_payloads;
use super::{ActivityRef, Event};
use crate::db::Conn;
use crate::db::schema::{audit_events as events, audit_payloads as payloads};
use crate::domain::EventType;
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

/// Limit of missing ranges in a response.
pub(crate) const MOST_RANGES: i64 = 100;

/// Missing sequence numbers of a source from 1 to `last`: the first [`MOST_RANGES`] ranges.
pub(crate) fn missing_numbers(
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
    // A gap starts after a number without a successor and ends before a number without a predecessor.
    let before: Vec<i64> = its_own.filter(diesel::dsl::not(neighbour(1))).load(conn)?;
    let behind: Vec<i64> = its_own.filter(diesel::dsl::not(neighbour(-1))).load(conn)?;
    let starts = std::iter::once(1).chain(before.into_iter().map(|seq| seq + 1));
    // Beyond the limit, the end of the last gap is unknown.
    let tail = usize::try_from(MOST_RANGES).is_ok_and(|most| behind.len() < most).then_some(last);
    let ends = behind.into_iter().map(|seq| seq - 1).chain(tail);
    Ok(starts.zip(ends).map(|(start, end)| start..=end).filter(|range| !range.is_empty()).collect())
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

/// Number of activity events by type.
pub(crate) fn events_by_type(conn: &mut Conn, id: &SessionId) -> QueryResult<Vec<(EventType, i64)>> {
    events::table
        .filter(events::session_id.eq(id))
        .filter(events::seq.is_not_null())
        .group_by(events::event_type)
        .select((events::event_type, diesel::dsl::count_star()))
        .load(conn)
}
