//! Sessions at rest. Every race is decided by one guarded statement.

use diesel::dsl::{exists, not};
use diesel::prelude::*;

use super::gap::ReportCheck;
use crate::domain::{AuditState, EndCause, SessionState};
use super::{CLOSING_GRACE, Session, SessionFilter, Source};
use crate::domain::EventType;
use crate::clients::within;
use crate::domain::Reach;
use crate::clock::Timestamp;
use crate::db::schema::{
    audit_events, magic_links as links, report_checks as checks, report_gaps as gaps, session_sources as sources,
    sessions,
};
use crate::db::{Backend, Conn, insert_all};
use crate::domain::Window;
use crate::id::{LinkId, ReportCheckId, SessionId};
use crate::links::Link;
use crate::revocations::Spared;

pub(super) fn insert(conn: &mut Conn, session: &Session) -> QueryResult<usize> {
    diesel::insert_into(sessions::table).values(session).execute(conn)
}

/// The session, whoever asks.
pub(crate) fn find(conn: &mut Conn, id: &SessionId) -> QueryResult<Option<Session>> {
    sessions::table.find(id).get_result(conn).optional()
}

/// The session, if the caller can see it.
pub(super) fn find_within(conn: &mut Conn, id: &SessionId, reach: &Reach) -> QueryResult<Option<Session>> {
    sessions::table.find(id).filter(within!(sessions, reach)).get_result(conn).optional()
}

/// How many sessions hold.
pub(crate) fn live(conn: &mut Conn, now: Timestamp) -> QueryResult<i64> {
    sessions::table.filter(sessions::ended_at.is_null()).filter(sessions::expires_at.gt(now)).count().get_result(conn)
}

/// Sessions that match the filter within the reach, newest first.
pub(super) fn list(
    conn: &mut Conn,
    filter: &SessionFilter,
    reach: &Reach,
    window: &Window,
    now: Timestamp,
) -> QueryResult<Vec<Session>> {
    let mut query = in_state(filter.audit_state, now).filter(within!(sessions, reach));
    if let Some(tenant_id) = &filter.tenant_id {
        query = query.filter(sessions::tenant_id.eq(tenant_id));
    }
    if let Some(portal) = &filter.portal {
        query = query.filter(sessions::portal.eq(portal));
    }
    if let Some(id) = &filter.magic_link_id {
        query = query.filter(sessions::magic_link_id.eq(id));
    }
    if let Some(id) = &filter.consultant_id {
        query = query.filter(sessions::consultant_id.eq(id));
    }
    match filter.state {
        Some(SessionState::Active) => {
            let spared = exists(links::table.filter(links::id.eq(sessions::magic_link_id)).filter(Spared));
            query = query.filter(sessions::ended_at.is_null()).filter(sessions::expires_at.gt(now)).filter(spared);
        }
        Some(SessionState::Ended) => {
            query = query.filter(sessions::ended_at.is_not_null().or(sessions::expires_at.le(now)));
        }
        None => {}
    }
    if let Some(after) = &window.after {
        query = query.filter(sessions::id.lt(after));
    }
    query.order(sessions::id.desc()).limit(window.limit).load(conn)
}

/// Sessions in an audit state, or all of them.
fn in_state<'a>(state: Option<AuditState>, now: Timestamp) -> sessions::BoxedQuery<'a, Backend> {
    // The same as `Session::audit_state` says of one.
    let overdue = now.minus(CLOSING_GRACE);
    let unclosed = sessions::closed_at.is_null().and(
        sessions::ended_at
            .is_not_null()
            .and(sessions::ended_at.le(overdue).assume_not_null())
            .or(sessions::ended_at.is_null().and(sessions::expires_at.le(overdue))),
    );
    let closed_elsewhere =
        sources::closing_seq.is_not_null().and(sources::closing_seq.ne(sources::last_seq.nullable()).assume_not_null());
    let gaps = exists(
        sources::table
            .filter(sources::session_id.eq(sessions::id))
            .filter(sources::event_count.ne(sources::last_seq).or(closed_elsewhere)),
    );
    let query = sessions::table.into_boxed::<Backend>();
    match state {
        Some(AuditState::Complete) => query.filter(not(unclosed)).filter(not(gaps)),
        Some(AuditState::Gaps) => query.filter(not(unclosed)).filter(gaps),
        Some(AuditState::Unclosed) => query.filter(unclosed),
        None => query,
    }
}

/// How many of the sessions that were opened since a moment are in an audit state.
pub(super) fn count_in_state(conn: &mut Conn, state: AuditState, since: Timestamp, now: Timestamp) -> QueryResult<i64> {
    // By a range of ids, so that sessions of long ago cost nothing.
    let ids = in_state(Some(state), now).filter(sessions::id.ge(SessionId::first_at(since)));
    ids.select(diesel::dsl::count_star()).get_result(conn)
}

/// Every session of some links.
pub(super) fn of_links(conn: &mut Conn, links: &[LinkId]) -> QueryResult<Vec<Session>> {
    sessions::table.filter(sessions::magic_link_id.eq_any(links)).load(conn)
}

/// Ends a session; `None` if it has ended before. One that has run out ended when it ran out.
pub(super) fn end(conn: &mut Conn, id: &SessionId, cause: EndCause, now: Timestamp) -> QueryResult<Option<Session>> {
    let ran_out = diesel::update(sessions::table.find(id))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(now))
        .set((sessions::ended_at.eq(sessions::expires_at.nullable()), sessions::end_cause.eq(Some(EndCause::Expired))))
        .returning(sessions::all_columns)
        .get_result(conn)
        .optional()?;
    if ran_out.is_some() {
        return Ok(ran_out);
    }
    diesel::update(sessions::table.find(id))
        .filter(sessions::ended_at.is_null())
        .set((sessions::ended_at.eq(Some(now)), sessions::end_cause.eq(Some(cause))))
        .returning(sessions::all_columns)
        .get_result(conn)
        .optional()
}

/// Ends the live sessions of some links. One that has run out ended when it ran out.
pub(super) fn end_all_of_links(
    conn: &mut Conn,
    links: &[Link],
    cause: EndCause,
    now: Timestamp,
) -> QueryResult<Vec<Session>> {
    let ids: Vec<&LinkId> = links.iter().map(|link| &link.id).collect();
    let mut ended: Vec<Session> = diesel::update(sessions::table)
        .filter(sessions::magic_link_id.eq_any(ids.clone()))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(now))
        .set((sessions::ended_at.eq(sessions::expires_at.nullable()), sessions::end_cause.eq(Some(EndCause::Expired))))
        .returning(sessions::all_columns)
        .get_results(conn)?;
    let live: Vec<Session> = diesel::update(sessions::table)
        .filter(sessions::magic_link_id.eq_any(ids))
        .filter(sessions::ended_at.is_null())
        .set((sessions::ended_at.eq(Some(now)), sessions::end_cause.eq(Some(cause))))
        .returning(sessions::all_columns)
        .get_results(conn)?;
    ended.extend(live);
    Ok(ended)
}

/// Live sessions whose access token a key signed.
pub(super) fn signed_by(conn: &mut Conn, kid: &str, now: Timestamp) -> QueryResult<Vec<SessionId>> {
    sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(sessions::kid.eq(kid))
        .select(sessions::id)
        .load(conn)
}

/// Notes which key signs the access token that is about to be handed out again.
pub(super) fn sign_again(conn: &mut Conn, id: &SessionId, kid: &str) -> QueryResult<usize> {
    diesel::update(sessions::table.find(id)).set(sessions::kid.eq(kid)).execute(conn)
}

/// Sessions that have run out and are not on record as ended.
pub(super) fn expired(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<SessionId>> {
    sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(now))
        .order(sessions::expires_at.asc())
        .limit(limit)
        .select(sessions::id)
        .load(conn)
}

/// Notes that the closing counts are there; `false` if they were before.
pub(super) fn close(conn: &mut Conn, id: &SessionId, now: Timestamp) -> QueryResult<bool> {
    diesel::update(sessions::table.find(id))
        .filter(sessions::closed_at.is_null())
        .set(sessions::closed_at.eq(Some(now)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// What the sources of some sessions have reported.
pub(super) fn sources(conn: &mut Conn, ids: &[SessionId]) -> QueryResult<Vec<Source>> {
    sources::table.filter(sources::session_id.eq_any(ids)).order((sources::session_id, sources::source)).load(conn)
}

/// Makes sure that there is a count for the source.
pub(super) fn ensure_source(conn: &mut Conn, id: &SessionId, source: &str) -> QueryResult<()> {
    let known: i64 = sources::table.find((id, source)).count().get_result(conn)?;
    if known == 0 {
        let fresh =
            Source { session_id: id.clone(), name: source.to_owned(), event_count: 0, last_seq: 0, closing_seq: None };
        diesel::insert_into(sources::table).values(&fresh).execute(conn)?;
    }
    Ok(())
}

/// Adds acts to the count of a source.
pub(super) fn count_acts(conn: &mut Conn, id: &SessionId, source: &str, number: i64, last_seq: i64) -> QueryResult<()> {
    diesel::update(sources::table.find((id, source)))
        .set(sources::event_count.eq(sources::event_count + number))
        .execute(conn)?;
    diesel::update(sources::table.find((id, source)))
        .filter(sources::last_seq.lt(last_seq))
        .set(sources::last_seq.eq(last_seq))
        .execute(conn)
        .map(drop)
}

/// Notes the highest number that the portal says there is.
pub(super) fn close_source(conn: &mut Conn, id: &SessionId, source: &str, last_seq: i64) -> QueryResult<usize> {
    diesel::update(sources::table.find((id, source))).set(sources::closing_seq.eq(Some(last_seq))).execute(conn)
}

/// How many acts of each kind were reported.
pub(super) fn acts_by_type(conn: &mut Conn, id: &SessionId) -> QueryResult<Vec<(EventType, i64)>> {
    audit_events::table
        .filter(audit_events::session_id.eq(id))
        .filter(audit_events::seq.is_not_null())
        .group_by(audit_events::event_type)
        .select((audit_events::event_type, diesel::dsl::count_star()))
        .load(conn)
}

/// Whether the link was ever used.
pub(super) fn has_any(conn: &mut Conn, link: &LinkId) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(sessions::table.filter(sessions::magic_link_id.eq(link)))).get_result(conn)
}

pub(super) fn insert_checks(conn: &mut Conn, rows: &[ReportCheck]) -> QueryResult<()> {
    for rows in rows.chunks(1_000) {
        insert_all!(conn, checks::table, rows)?;
    }
    Ok(())
}

/// Checks that are due, the oldest first.
pub(super) fn due_checks(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<ReportCheck>> {
    checks::table.filter(checks::due_at.le(now)).order((checks::due_at, checks::id)).limit(limit).load(conn)
}

/// Takes a check; `false` if somebody else has.
pub(super) fn take_check(conn: &mut Conn, id: &ReportCheckId) -> QueryResult<bool> {
    diesel::delete(checks::table.find(id)).execute(conn).map(|rows| rows > 0)
}

/// Notes that a session is on record with a state; `false` if it was before.
pub(super) fn note_gap(conn: &mut Conn, id: &SessionId, state: AuditState, now: Timestamp) -> QueryResult<bool> {
    let known: i64 = gaps::table.find((id, state)).count().get_result(conn)?;
    if known > 0 {
        return Ok(false);
    }
    let row = (gaps::session_id.eq(id), gaps::audit_state.eq(state), gaps::told_at.eq(now));
    diesel::insert_into(gaps::table).values(row).execute(conn).map(|rows| rows > 0)
}
