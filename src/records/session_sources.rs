//! What the sources of sessions have reported: rows, and their statements.

use std::collections::HashMap;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use crate::clock::Timestamp;
use crate::db::schema::{session_sources as sources, sessions};
use crate::db::{Conn, fixed, prepared};
use crate::id::{LinkId, SessionId};

/// Counts of reported activity events of a session, by source.
pub(crate) fn of_session(conn: &mut Conn, id: &SessionId) -> QueryResult<Vec<Source>> {
    sources::table.filter(sources::session_id.eq(id)).order(sources::source).load(conn)
}

/// Counts of reported activity events of some sessions, by source.
pub(crate) fn of_sessions(conn: &mut Conn, ids: &[SessionId]) -> QueryResult<Vec<Source>> {
    sources::table.filter(sources::session_id.eq_any(ids)).order((sources::session_id, sources::source)).load(conn)
}

pub(crate) fn insert(conn: &mut Conn, source: &Source) -> QueryResult<usize> {
    diesel::insert_into(sources::table).values(source).execute(conn)
}

/// What the sources of a session have reported, together.
#[derive(Debug, Clone, Copy, Default, Queryable)]
pub(crate) struct Reports {
    pub event_count: i64,
    /// Number of sources whose closing counts have not come.
    pub open: i64,
    /// Number of sources of which something is missing.
    pub with_gaps: i64,
}

impl Reports {
    pub(crate) fn of(sources: &[Source]) -> Self {
        let number = |of: fn(&&Source) -> bool| i64::try_from(sources.iter().filter(of).count()).unwrap_or(i64::MAX);
        Self {
            event_count: sources.iter().map(|source| source.event_count).sum(),
            open: number(|source| source.closing_seq.is_none()),
            with_gaps: number(|source| !source.is_gapless()),
        }
    }
}

/// What the sessions of some links have reported: a row for each, however many sources it has.
pub(crate) fn of_links(conn: &mut Conn, links: &[LinkId]) -> QueryResult<HashMap<SessionId, Reports>> {
    let of_links = sessions::table.filter(sessions::magic_link_id.eq_any(links)).select(sessions::id);
    let rows: Vec<(SessionId, Reports)> = sources::table
        .filter(sources::session_id.eq_any(of_links))
        .group_by(sources::session_id)
        .select((
            sources::session_id,
            (
                sql::<BigInt>("CAST(SUM(session_sources.event_count) AS BIGINT)"),
                sql::<BigInt>("SUM(CASE WHEN session_sources.closing_seq IS NULL THEN 1 ELSE 0 END)"),
                // As `Source::is_gapless`.
                sql::<BigInt>(
                    "SUM(CASE WHEN session_sources.event_count <> session_sources.last_seq \
                     OR session_sources.closing_seq <> session_sources.last_seq THEN 1 ELSE 0 END)",
                ),
            ),
        ))
        .load(conn)?;
    Ok(rows.into_iter().collect())
}

/// Stores the counts of a source. The caller has locked the session, and read the counts since.
pub(crate) fn count_events(conn: &mut Conn, source: &Source) -> QueryResult<()> {
    let counted = diesel::update(sources::table.find((&source.session_id, &source.name)))
        .set((
            sources::event_count.eq(source.event_count),
            sources::last_seq.eq(source.last_seq),
            sources::last_event_at.eq(source.last_event_at),
        ))
        .returning(sources::last_seq);
    fixed!(prepared(counted)).get_result::<i64>(conn).map(drop)
}

/// Stores the highest sequence number that the portal has declared for a source.
pub(crate) fn close(conn: &mut Conn, id: &SessionId, source: &str, last_seq: i64) -> QueryResult<usize> {
    diesel::update(sources::table.find((id, source))).set(sources::closing_seq.eq(Some(last_seq))).execute(conn)
}

/// Counts of activity events that one source of a session has reported.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::session_sources, treat_none_as_default_value = false)]
pub(crate) struct Source {
    pub(crate) session_id: SessionId,
    #[diesel(column_name = source)]
    pub(crate) name: String,
    pub(crate) event_count: i64,
    pub(crate) last_seq: i64,
    pub(crate) closing_seq: Option<i64>,
    /// When the newest of the events happened; absent for those of before this was noted.
    pub(crate) last_event_at: Option<Timestamp>,
}

impl Source {
    /// A source that has reported nothing.
    pub(crate) fn new(session: &SessionId, name: &str) -> Self {
        Self {
            session_id: session.clone(),
            name: name.to_owned(),
            event_count: 0,
            last_seq: 0,
            closing_seq: None,
            last_event_at: None,
        }
    }

    pub(crate) fn is_gapless(&self) -> bool {
        self.event_count == self.last_seq && self.closing_seq.is_none_or(|closing| closing == self.last_seq)
    }
}
