//! Statements for report checks and report gaps.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{self, Array, Text};

use super::gap::ReportCheck;
use crate::clock::Timestamp;
use crate::db::schema::{report_checks as checks, report_gaps as gaps};
use crate::db::{Conn, prepared_as};
use crate::domain::AuditState;
use crate::id::{ReportCheckId, SessionId};

pub(crate) fn insert_checks(conn: &mut Conn, rows: &[ReportCheck]) -> QueryResult<()> {
    match conn {
        _ if rows.is_empty() => Ok(()),
        Conn::Postgres(conn) => {
            let text = "INSERT INTO report_checks (id, session_id, due_at) SELECT * FROM unnest($1, $2, $3)";
            let all = sql_query(text)
                .bind::<Array<Text>, _>(rows.iter().map(|row| &row.id).collect::<Vec<_>>())
                .bind::<Array<Text>, _>(rows.iter().map(|row| &row.session_id).collect::<Vec<_>>())
                .bind::<Array<sql_types::Timestamp>, _>(rows.iter().map(|row| row.due_at).collect::<Vec<_>>());
            prepared_as::<(), _>(all).execute(conn).map(drop)
        }
        Conn::Sqlite(conn) => {
            rows.iter().try_for_each(|row| diesel::insert_into(checks::table).values(row).execute(conn).map(drop))
        }
    }
}

/// Checks that are due, the oldest first.
pub(crate) fn due_checks(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<ReportCheck>> {
    checks::table.filter(checks::due_at.le(now)).order((checks::due_at, checks::id)).limit(limit).load(conn)
}

/// Deletes a check in order to carry it out; `false` if another instance took it.
pub(crate) fn take_check(conn: &mut Conn, id: &ReportCheckId) -> QueryResult<bool> {
    diesel::delete(checks::table.find(id)).execute(conn).map(|rows| rows > 0)
}

/// Stores that a gap of this session and state is recorded; `false` if it was stored before.
pub(crate) fn note_gap(conn: &mut Conn, id: &SessionId, state: AuditState, now: Timestamp) -> QueryResult<bool> {
    let known: i64 = gaps::table.find((id, state)).count().get_result(conn)?;
    if known > 0 {
        return Ok(false);
    }
    let row = (gaps::session_id.eq(id), gaps::audit_state.eq(state), gaps::told_at.eq(now));
    diesel::insert_into(gaps::table).values(row).execute(conn).map(|rows| rows > 0)
}
