//! Rows of signing keys, and their statements. Private keys are sealed.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{service_state, signing_keys};

/// A signing key as it is stored.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = signing_keys)]
pub(crate) struct SigningKeyRow {
    pub kid: String,
    pub algorithm: String,
    pub public_jwk: String,
    pub sealed_private_key: String,
    pub created_at: Timestamp,
    pub active_from: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub retired_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// Keys that have not expired, newest first: the newest one that may sign does so.
pub(crate) fn list_usable(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<SigningKeyRow>> {
    signing_keys::table
        .filter(signing_keys::expires_at.is_null().or(signing_keys::expires_at.gt(now)))
        .order(signing_keys::created_at.desc())
        .load(conn)
}

/// The newest keys, expired or not.
pub(crate) fn list(conn: &mut Conn, limit: i64) -> QueryResult<Vec<SigningKeyRow>> {
    signing_keys::table.order((signing_keys::created_at.desc(), signing_keys::kid.desc())).limit(limit).load(conn)
}

/// A key, expired or not.
pub(crate) fn find(conn: &mut Conn, kid: &str) -> QueryResult<Option<SigningKeyRow>> {
    signing_keys::table.find(kid).get_result(conn).optional()
}

/// Whether a key other than `but` can sign now.
pub(crate) fn can_sign(conn: &mut Conn, but: Option<&str>, now: Timestamp) -> QueryResult<bool> {
    let number: i64 = signing_keys::table
        .filter(signing_keys::kid.ne(but.unwrap_or_default()))
        .filter(signing_keys::active_from.le(now))
        .filter(signing_keys::retired_at.is_null())
        .filter(signing_keys::expires_at.is_null().or(signing_keys::expires_at.gt(now)))
        .count()
        .get_result(conn)?;
    Ok(number > 0)
}

/// Retires a key; `None` if it is already retired or expired. What it signed is valid until `expires_at`, unless an
/// earlier call set its expiry.
pub(crate) fn retire(
    conn: &mut Conn,
    kid: &str,
    expires_at: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<SigningKeyRow>> {
    diesel::update(signing_keys::table.find(kid).filter(signing_keys::expires_at.is_null()))
        .set(signing_keys::expires_at.eq(Some(expires_at)))
        .execute(conn)?;
    diesel::update(signing_keys::table.find(kid))
        .filter(signing_keys::retired_at.is_null())
        .filter(signing_keys::expires_at.gt(now))
        .set(signing_keys::retired_at.eq(Some(now)))
        .returning(signing_keys::all_columns)
        .get_result(conn)
        .optional()
}

/// Revokes a key at once and erases its private half; `None` if it has expired.
pub(crate) fn revoke_key(conn: &mut Conn, kid: &str, now: Timestamp) -> QueryResult<Option<SigningKeyRow>> {
    diesel::update(signing_keys::table.find(kid))
        .filter(signing_keys::expires_at.is_null().or(signing_keys::expires_at.gt(now)))
        .set((
            signing_keys::expires_at.eq(Some(now)),
            signing_keys::retired_at.eq(Some(now)),
            signing_keys::revoked_at.eq(Some(now)),
            signing_keys::sealed_private_key.eq(""),
        ))
        .returning(signing_keys::all_columns)
        .get_result(conn)
        .optional()
}

/// Sets the expiry of every key that has none.
pub(crate) fn retire_all(conn: &mut Conn, expires_at: Timestamp) -> QueryResult<usize> {
    diesel::update(signing_keys::table.filter(signing_keys::expires_at.is_null()))
        .set(signing_keys::expires_at.eq(Some(expires_at)))
        .execute(conn)
}

/// Adds a key.
pub(crate) fn insert(conn: &mut Conn, row: &SigningKeyRow) -> QueryResult<usize> {
    diesel::insert_into(signing_keys::table).values(row).execute(conn)
}

/// Number of changes to the keys, in one incarnation of the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Queryable)]
pub(crate) struct KeyEpoch {
    pub incarnation: i64,
    pub number: i64,
}

impl KeyEpoch {
    /// Whether keys that were read at this epoch are those of another one, or newer.
    pub(crate) const fn covers(self, other: Self) -> bool {
        self.incarnation == other.incarnation && self.number >= other.number
    }
}

/// Number of changes to the keys so far.
pub(crate) fn epoch(conn: &mut Conn) -> QueryResult<KeyEpoch> {
    service_state::table.select((service_state::incarnation, service_state::key_epoch)).first(conn)
}

/// Makes every instance of the service read the keys again.
pub(crate) fn raise_epoch(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(service_state::table).set(service_state::key_epoch.eq(service_state::key_epoch + 1)).execute(conn)
}

/// Lets one instance at a time add signing keys.
pub(crate) fn lock(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("LOCK TABLE signing_keys IN EXCLUSIVE MODE"),
        Conn::Sqlite(_) => Ok(()),
    }
}
