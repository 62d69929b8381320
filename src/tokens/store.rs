//! Signing keys at rest: sealed.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{signing_key_epoch, signing_keys};

/// A signing key as it is stored.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = signing_keys)]
pub(super) struct Row {
    pub kid: String,
    pub algorithm: String,
    pub public_jwk: String,
    pub sealed_private_key: String,
    pub created_at: Timestamp,
    pub active_from: Timestamp,
    pub gone_at: Option<Timestamp>,
}

/// Keys that are not gone, the newest first: of those that may sign, the newest does.
pub(super) fn list_usable(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<Row>> {
    signing_keys::table
        .filter(signing_keys::gone_at.is_null().or(signing_keys::gone_at.gt(now)))
        .order(signing_keys::created_at.desc())
        .load(conn)
}

/// Whether there is any key at all.
pub(super) fn any(conn: &mut Conn) -> QueryResult<bool> {
    let count: i64 = signing_keys::table.count().get_result(conn)?;
    Ok(count > 0)
}

/// Gives every key that has no end one.
pub(super) fn retire_all(conn: &mut Conn, gone_at: Timestamp) -> QueryResult<usize> {
    diesel::update(signing_keys::table.filter(signing_keys::gone_at.is_null()))
        .set(signing_keys::gone_at.eq(Some(gone_at)))
        .execute(conn)
}

/// Adds a key.
pub(super) fn insert(conn: &mut Conn, row: &Row) -> QueryResult<usize> {
    diesel::insert_into(signing_keys::table).values(row).execute(conn)
}

/// How often the keys have changed.
pub(super) fn epoch(conn: &mut Conn) -> QueryResult<i64> {
    signing_key_epoch::table.select(signing_key_epoch::epoch).first(conn)
}

/// Tells every copy of the service that the keys have changed.
pub(super) fn raise_epoch(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(signing_key_epoch::table)
        .set(signing_key_epoch::epoch.eq(signing_key_epoch::epoch + 1))
        .execute(conn)
}
