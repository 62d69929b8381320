//! The audit log at rest, read side: events are immutable; only payloads can be erased.

mod checkpoints;
mod persons;
mod retention;

use std::ops::Range;

use diesel::dsl::exists;
use diesel::prelude::*;

use super::{AuditEvent, Erased, EventFilter};
use crate::db::{Backend, Conn};
use crate::domain::{Actor, PageRequest, Reach, Scan, Tenants};
use crate::error::Error;
use crate::journal::leaf::Payload;
use crate::journal::rows::{Row, StoredEvent, with_payloads};
use crate::records::scan::SCANNED;
use crate::records::scan_end;

pub(super) use checkpoints::*;
pub(crate) use checkpoints::{delivered_last, settle_deliveries};
pub(crate) use persons::index_principals;
pub(super) use persons::{Touches, sessions_touching, touches};
pub(super) use retention::*;

pub(crate) use crate::db::schema::{
    audit_event_principals as principals, audit_events as events, audit_logs as logs, audit_payloads as payloads,
};

/// Every log, in order of tenant id.
pub(super) fn logs(conn: &mut Conn) -> QueryResult<Vec<String>> {
    logs::table.select(logs::tenant_id).order(logs::tenant_id).load(conn)
}

/// Events that concern one person at most, and those that concern several. A person is looked for in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    Single,
    Several,
}

impl Among {
    /// Where events that match the filter are found.
    const fn of(filter: &EventFilter) -> &'static [Self] {
        // Without a person, no condition tells the two apart.
        if filter.principal_id.is_some() { &[Self::Single, Self::Several] } else { &[Self::Single] }
    }
}

/// Events that concern a person together with others.
macro_rules! principals_of {
    ($id:expr) => {
        principals::table.filter(principals::principal_id.eq($id)).select(principals::event_id)
    };
}
pub(super) use principals_of;

/// The condition on events that match the filter within the reach. Whoever looks for a person among several adds that.
fn matching<'a>(
    filter: &'a EventFilter,
    reach: &'a Reach,
    among: Among,
) -> diesel::dsl::IntoBoxed<'a, with_payloads, Backend> {
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
    if let Some(id) = filter.principal_id.as_ref().filter(|_| among == Among::Single) {
        query = query.filter(events::principal_id.eq(id));
    }
    if let Some(kind) = filter.kind {
        query = query.filter(events::event_type.eq(kind));
    }
    // The bare column, so that the partial indexes apply.
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
    query = match filter.out_of_session {
        Some(true) => query.filter(events::out_of_session),
        Some(false) => query.filter(diesel::dsl::not(events::out_of_session)),
        None => query,
    };
    if let Some(from) = filter.recorded_from {
        query = query.filter(events::recorded_at.ge(from));
    }
    if let Some(to) = filter.recorded_to {
        query = query.filter(events::recorded_at.lt(to));
    }
    if let Some(from) = filter.occurred_from {
        query = query.filter(events::occurred_at.ge(from));
    }
    if let Some(to) = filter.occurred_to {
        query = query.filter(events::occurred_at.lt(to));
    }
    query
}

/// Largest number of events that one query reads with their payloads.
const PIECE: i64 = 64;

/// No id comes after it.
const AFTER_ALL: &str = "~";

/// Payloads after which a page ends, however many events it was to have.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Size of an event's payload.
pub(super) fn bytes((_, payload): &StoredEvent) -> usize {
    payload.as_ref().map_or(0, |(_, payload)| payload.len())
}

/// Events that match the filter within the reach, newest first. The read ends early where the payloads are large or
/// few events match.
pub(super) fn list(
    conn: &mut Conn,
    filter: &EventFilter,
    reach: &Reach,
    page: &PageRequest,
) -> Result<Scan<AuditEvent>, Error> {
    let mut after = page.after.clone();
    let end = scan_end(conn, filter, reach, page)?;
    let (mut rows, mut read): (Vec<StoredEvent>, usize) = (Vec::new(), 0);
    loop {
        let wanted = PIECE.min(page.limit - i64::try_from(rows.len()).unwrap_or(i64::MAX));
        let mut piece: Vec<StoredEvent> = Vec::new();
        for among in Among::of(filter) {
            let mut query = matching(filter, reach, *among);
            if let Some(person) = filter.principal_id.as_ref().filter(|_| *among == Among::Several) {
                let between = (after.as_deref().unwrap_or(AFTER_ALL), end.as_deref().unwrap_or_default());
                query = query.filter(events::id.eq_any(naming(person, between)));
            }
            if let Some(after) = &after {
                query = query.filter(events::id.lt(after.clone()));
            }
            if let Some(end) = &end {
                query = query.filter(events::id.ge(end.clone()));
            }
            let found: Vec<StoredEvent> = query
                .select((events::all_columns, (payloads::salt, payloads::payload).nullable()))
                .order(events::id.desc())
                .limit(wanted)
                .load(conn)?;
            piece.extend(found);
        }
        piece.sort_by(|(one, _), (other, _)| other.id.as_str().cmp(one.id.as_str()));
        piece.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        read += piece.iter().map(bytes).sum::<usize>();
        after = piece.last().map(|(row, _)| row.id.as_str().to_owned()).or(after);
        let exhausted = i64::try_from(piece.len()).is_ok_and(|found| found < wanted);
        rows.extend(piece);
        let full = i64::try_from(rows.len()).is_ok_and(|found| found >= page.limit);
        if full {
            return Ok(Scan::whole(shown(conn, rows)?));
        }
        if exhausted {
            return Ok(Scan { rows: shown(conn, rows)?, stopped_at: end });
        }
        if read >= PAGE_BYTES {
            return Ok(Scan { rows: shown(conn, rows)?, stopped_at: after });
        }
    }
}

/// The event at which a list stops reading, so that filters which match little do not read the whole log; `None` if it
/// may read to the end.
fn scan_end(conn: &mut Conn, filter: &EventFilter, reach: &Reach, page: &PageRequest) -> QueryResult<Option<String>> {
    // What an index finds in order of id; everything else is looked for among that.
    let mut found = EventFilter {
        magic_link_id: filter.magic_link_id.clone(),
        session_id: filter.session_id.clone(),
        consultant_id: filter.consultant_id.clone(),
        principal_id: filter.principal_id.clone(),
        ..EventFilter::default()
    };
    let mut reached = Reach::everything();
    if found == EventFilter::default() {
        found.tenant_id.clone_from(&filter.tenant_id);
        reached.tenants.clone_from(&reach.tenants);
    }
    let alone = if found == *filter && reached == *reach {
        None
    } else {
        scan_end!(conn, events, matching(&found, &reached, Among::Single), page)?
    };
    let Some(person) = &filter.principal_id else { return Ok(alone) };
    let between = (page.after.as_deref().unwrap_or(AFTER_ALL), "");
    let together = naming(person, between).order(principals::event_id.desc());
    let together = together.offset(SCANNED - 1).limit(1).get_result::<String>(conn).optional()?;
    // The later of the two: neither is read beyond its own end.
    Ok(alone.max(together))
}

/// Ids of events that concern a person together with others, older than one and as new as another.
#[diesel::dsl::auto_type]
fn naming<'a>(person: &'a str, (after, end): (&'a str, &'a str)) -> _ {
    principals::table
        .filter(principals::principal_id.eq(person))
        .filter(principals::event_id.lt(after))
        .filter(principals::event_id.ge(end))
        .select(principals::event_id)
}

/// The next events of one log that match the filter within the reach, in a range of indexes, and the index at which to go
/// on: the end of the range after the last of them.
pub(super) fn piece(
    conn: &mut Conn,
    filter: &EventFilter,
    reach: &Reach,
    indexes: Range<i64>,
) -> QueryResult<(Vec<StoredEvent>, i64)> {
    let mut rows: Vec<StoredEvent> = Vec::new();
    for among in Among::of(filter) {
        let mut query = matching(filter, reach, *among);
        if let Some(id) = filter.principal_id.as_ref().filter(|_| *among == Among::Several) {
            // One by one in the range: the person may be named in many more events, also of other tenants.
            query = query.filter(exists(principals::table.find((id, events::id))));
        }
        let found: Vec<StoredEvent> = query
            .filter(events::log_index.ge(indexes.start))
            .filter(events::log_index.lt(indexes.end))
            .select((events::all_columns, (payloads::salt, payloads::payload).nullable()))
            .order(events::log_index.asc())
            .limit(PIECE)
            .load(conn)?;
        rows.extend(found);
    }
    rows.sort_by_key(|(row, _)| row.log_index);
    rows.truncate(usize::try_from(PIECE).unwrap_or(usize::MAX));
    let full = i64::try_from(rows.len()).is_ok_and(|found| found == PIECE);
    let next = rows.last().filter(|_| full).map_or(indexes.end, |(last, _)| last.log_index + 1);
    Ok((rows, next))
}

/// Converts rows to responses; events without a payload get their erasure.
fn shown(conn: &mut Conn, rows: Vec<StoredEvent>) -> Result<Vec<AuditEvent>, Error> {
    let mut bare: Vec<String> =
        rows.iter().filter(|(_, payload)| payload.is_none()).map(|(row, _)| row.tenant_id.clone()).collect();
    bare.sort_unstable();
    bare.dedup();
    let indexes = rows.iter().filter(|(_, payload)| payload.is_none()).map(|(row, _)| row.log_index);
    let (first, last) = indexes.fold((i64::MAX, i64::MIN), |(first, last), index| (first.min(index), last.max(index)));
    let erasures = if bare.is_empty() { Vec::new() } else { erasures(conn, &bare, first..last.saturating_add(1))? };
    rows.into_iter().map(|(row, payload)| show(row, payload, &erasures)).collect()
}

/// Converts a row to a response.
pub(super) fn show(row: Row, payload: Option<(Vec<u8>, String)>, erasures: &[Erasure]) -> Result<AuditEvent, Error> {
    let erased = if payload.is_none() { erased(&row, erasures) } else { None };
    let payload: Option<Payload> = match payload {
        Some((_, text)) => Some(serde_json::from_str(&text).map_err(Error::internal)?),
        None => None,
    };
    let (leaf_hash, principal_ids) = (row.leaf_hash(), row.principals());
    let data = payload.as_ref().map(|payload| payload.data.clone());
    let names = payload.unwrap_or_default();
    Ok(AuditEvent {
        id: row.id,
        kind: row.event_type.clone(),
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
        principal_ids,
        reason: names.reason,
        ticket: names.ticket,
        address: names.address,
        user_agent: names.user_agent,
        source: row.source,
        seq: row.seq,
        late: row.late,
        policy_violation: row.policy_violation,
        out_of_session: row.out_of_session,
        trace_id: row.trace_id,
        data,
        erased,
    })
}

/// The erasure that covers an event without a payload; `None` if the payload was deleted by other means.
pub(super) fn erased(row: &Row, erasures: &[Erasure]) -> Option<Erased> {
    let covering = erasures.iter().find(|erasure| {
        erasure.tenant_id == row.tenant_id && (erasure.from_index..erasure.to_index).contains(&row.log_index)
    });
    if covering.is_none() {
        tracing::error!(event.id = %row.id, "event payload missing without a recorded erasure");
    }
    covering.map(Erasure::shown)
}
