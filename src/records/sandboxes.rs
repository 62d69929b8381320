//! Whether the database is a sandbox's, and how far its clock was moved.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use time::Duration;

use crate::db::Conn;
use crate::db::schema::{service_state as service, tolerated_migrations as tolerated};

/// The migration that an older program lacks, and must not run without on a sandbox.
const MIGRATION: &str = "20261128030000";

/// Nothing was ever done with the database. Keys that a starting copy adds meanwhile raise their epoch, in the same row.
const EMPTY: &str = "NOT EXISTS (SELECT 1 FROM clients) AND NOT EXISTS (SELECT 1 FROM consultants) \
     AND NOT EXISTS (SELECT 1 FROM tenants) AND NOT EXISTS (SELECT 1 FROM audit_events)";

/// Makes an empty database that of a sandbox; `false` if it is one, or not empty.
pub(crate) fn found(conn: &mut Conn) -> QueryResult<bool> {
    let founded = diesel::update(service::table)
        .filter(service::sandbox_moved_micros.is_null())
        .filter(service::key_epoch.eq(0))
        .filter(sql::<Bool>(EMPTY))
        .set(service::sandbox_moved_micros.eq(Some(0)))
        .execute(conn)?;
    if founded > 0 {
        diesel::delete(tolerated::table.filter(tolerated::version.eq(MIGRATION))).execute(conn)?;
    }
    Ok(founded > 0)
}

/// How far the sandbox's clock was moved; `None` if the database is no sandbox's.
pub(crate) fn moved(conn: &mut Conn) -> QueryResult<Option<Duration>> {
    let micros: Option<i64> = service::table.select(service::sandbox_moved_micros).first(conn)?;
    Ok(micros.map(Duration::microseconds))
}

/// Moves the clock so much further; `false` if it would be more than `most` in all.
pub(crate) fn advance(conn: &mut Conn, by: Duration, most: Duration) -> QueryResult<bool> {
    diesel::update(service::table)
        .filter(service::sandbox_moved_micros.le(micros(most - by)))
        .set(service::sandbox_moved_micros.eq(service::sandbox_moved_micros + micros(by)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Moves the clock to so much ahead of the true time; `false` if it is there, or further.
pub(crate) fn move_to(conn: &mut Conn, moved: Duration) -> QueryResult<bool> {
    diesel::update(service::table)
        .filter(service::sandbox_moved_micros.lt(micros(moved)))
        .set(service::sandbox_moved_micros.eq(Some(micros(moved))))
        .execute(conn)
        .map(|rows| rows > 0)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.whole_microseconds()).unwrap_or(i64::MAX)
}
