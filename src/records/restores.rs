//! Restores of the database from a backup, and their statements.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use diesel::prelude::*;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{
    audit_checkpoints as checkpoints, audit_logs as logs, audit_restores as restores, service_state as service,
};
use crate::domain::SYSTEM_LOG;

/// Condition of statements that claim a message: no restore is being carried out.
#[diesel::dsl::auto_type]
pub(crate) fn no_restore_runs() -> _ {
    diesel::dsl::not(diesel::dsl::exists(service::table.filter(service::restoring_at.is_not_null())))
}

/// Gives the database another incarnation, and begins a restore; whatever was cached before is void. What the backup had
/// queued is to be cancelled, unless this repeats a restore that has done so and that nobody has ended with an unfreeze.
pub(crate) fn begin(conn: &mut Conn, incarnation: i64, now: Timestamp) -> QueryResult<usize> {
    diesel::update(service::table)
        .set((
            service::incarnation.eq(incarnation),
            service::restoring_at.eq(Some(now)),
            service::queues_cancelled.eq(service::queues_cancelled.and(service::erasing_held)),
            service::erasing_held.eq(true),
        ))
        .execute(conn)
}

/// Whether a restore is yet to cancel what the backup had queued: until then nothing may be queued that tells people of it.
pub(crate) fn has_queues_to_cancel(conn: &mut Conn) -> QueryResult<bool> {
    let waits = service::restoring_at.is_not_null().and(diesel::dsl::not(service::queues_cancelled));
    service::table.select(waits).first(conn)
}

/// Notes that what the backup had queued is cancelled; `false` if another restore was begun meanwhile.
pub(crate) fn note_queues_cancelled(conn: &mut Conn, incarnation: i64) -> QueryResult<bool> {
    diesel::update(service::table)
        .filter(service::incarnation.eq(incarnation))
        .set(service::queues_cancelled.eq(true))
        .execute(conn)
        .map(|rows| rows > 0)
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

/// When the newest checkpoint of any log was signed: the database is not older.
pub(crate) fn newest_checkpoint_at(conn: &mut Conn) -> QueryResult<Option<Timestamp>> {
    checkpoints::table.select(diesel::dsl::max(checkpoints::signed_at)).first(conn)
}

/// A restore of one log, and the checkpoints that were kept outside.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = restores)]
pub(crate) struct LogRestore {
    pub tenant_id: String,
    pub suffix: String,
    pub restored_at: Timestamp,
    pub checkpoint_size: Option<i64>,
    pub checkpoint_root: Option<Vec<u8>>,
    /// All of them, as JSON; none in restores of an older version, which knew the one above, of whatever name.
    pub checkpoints: Option<String>,
}

/// A checkpoint that a restore has named.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NamedCheckpoint {
    pub log_name: String,
    pub size: i64,
    /// In base64.
    pub root: String,
}

impl LogRestore {
    /// Whether a checkpoint of this name, size and root, in base64, is named, or a later one of the same name.
    pub(crate) fn names(&self, log_name: &str, size: i64, root: &str) -> bool {
        let covers = |named: i64, is_named: bool| size < named || (size == named && is_named);
        let Some(named) = &self.checkpoints else {
            let is_named = self.checkpoint_root.as_deref().is_some_and(|named| STANDARD.encode(named) == root);
            return self.checkpoint_size.is_some_and(|named| covers(named, is_named));
        };
        let named: Vec<NamedCheckpoint> = serde_json::from_str(named).unwrap_or_default();
        named.iter().any(|named| named.log_name == log_name && covers(named.size, named.root == root))
    }
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
