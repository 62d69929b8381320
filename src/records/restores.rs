//! Restores of the database from a backup, and their statements.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{audit_logs as logs, audit_restores as restores, service_state as service};
use crate::domain::SYSTEM_LOG;

/// Condition of statements that claim a message: no restore is being carried out.
#[diesel::dsl::auto_type]
pub(crate) fn no_restore_runs() -> _ {
    diesel::dsl::not(diesel::dsl::exists(service::table.filter(service::restoring_at.is_not_null())))
}

/// Gives the database another incarnation, and begins a restore; whatever was cached before is void.
pub(crate) fn begin(conn: &mut Conn, incarnation: i64, now: Timestamp) -> QueryResult<usize> {
    diesel::update(service::table)
        .set((
            service::incarnation.eq(incarnation),
            service::restoring_at.eq(Some(now)),
            service::erasing_held.eq(true),
        ))
        .execute(conn)
}

/// Completes a restore; `false` if another one was begun meanwhile.
pub(crate) fn finish(conn: &mut Conn, incarnation: i64) -> QueryResult<bool> {
    diesel::update(service::table)
        .filter(service::incarnation.eq(incarnation))
        .set(service::restoring_at.eq(None::<Timestamp>))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Whether a restore was begun and is not complete.
pub(crate) fn is_running(conn: &mut Conn) -> QueryResult<bool> {
    service::table.select(service::restoring_at.is_not_null()).first(conn)
}

/// The random number of the database, which a restore replaces.
pub(crate) fn incarnation(conn: &mut Conn) -> QueryResult<i64> {
    service::table.select(service::incarnation).first(conn)
}

/// Whether nothing may be erased: a restore has begun, and nobody has unfrozen issuing since. Until then nobody has said
/// which legal holds and retention periods are missing in the backup.
pub(crate) fn holds_erasing(conn: &mut Conn) -> QueryResult<bool> {
    service::table.select(service::erasing_held.or(service::restoring_at.is_not_null())).first(conn)
}

/// Lets erasures go on, unless a restore is not complete.
pub(crate) fn release_erasing(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(service::table.filter(service::erasing_held).filter(service::restoring_at.is_null()))
        .set(service::erasing_held.eq(false))
        .execute(conn)
}

/// A restore of one log, and the checkpoint that was kept outside.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = restores)]
pub(crate) struct LogRestore {
    pub tenant_id: String,
    pub suffix: String,
    pub restored_at: Timestamp,
    pub checkpoint_size: Option<i64>,
    pub checkpoint_root: Option<Vec<u8>>,
}

pub(crate) fn insert(conn: &mut Conn, restore: &LogRestore) -> QueryResult<usize> {
    diesel::insert_into(restores::table).values(restore).execute(conn)
}

/// Restores of some logs.
pub(crate) fn of_logs(conn: &mut Conn, tenants: &[&str]) -> QueryResult<Vec<LogRestore>> {
    restores::table.filter(restores::tenant_id.eq_any(tenants)).load(conn)
}

/// Logs of tenants after one of them, in order, that do not have the suffix.
pub(crate) fn logs_without(conn: &mut Conn, suffix: &str, after: Option<&str>, limit: i64) -> QueryResult<Vec<String>> {
    logs::table
        .filter(logs::tenant_id.gt(after.unwrap_or_default()))
        .filter(logs::tenant_id.ne(SYSTEM_LOG))
        .filter(logs::suffix.is_null().or(logs::suffix.ne(suffix).assume_not_null()))
        .order(logs::tenant_id.asc())
        .limit(limit)
        .select(logs::tenant_id)
        .load(conn)
}
