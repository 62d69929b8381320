//! Rows of signing keys and of their revocations, and their statements. Private keys are sealed.

use std::collections::HashSet;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use time::Duration;

use crate::clock::Timestamp;
use crate::db::schema::{key_revocations as revocations, service_state, signing_keys};
use crate::db::{Conn, prepared};
use crate::domain::{Actor, ActorType};
use crate::id::ClientId;

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

/// The revocation of a signing key, and how far what the key had signed is ended.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = revocations)]
pub(crate) struct KeyRevocation {
    pub kid: String,
    pub reason: String,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub actor_name: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub links: i64,
    pub sessions: i64,
    /// When the last link and session had ended.
    pub done_at: Option<Timestamp>,
    /// The key that was created because no other could sign.
    pub replaced_by: Option<String>,
    /// Whether the links are kept, and a fresh one is mailed for each.
    pub renews: bool,
    /// For how many that is done.
    pub renewed: i64,
}

impl KeyRevocation {
    /// One of which nothing is carried out yet.
    pub(crate) fn new(kid: &str, reason: &str, actor: &Actor, now: Timestamp) -> Self {
        Self {
            kid: kid.to_owned(),
            reason: reason.to_owned(),
            actor_type: actor.kind,
            actor_id: actor.id.clone(),
            actor_name: actor.name.clone(),
            client_id: None,
            created_at: now,
            links: 0,
            sessions: 0,
            done_at: None,
            replaced_by: None,
            renews: false,
            renewed: 0,
        }
    }
}

/// Keys that have not expired, newest first: the newest one that may sign does so.
pub(crate) fn list_usable(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<SigningKeyRow>> {
    signing_keys::table
        .filter(signing_keys::expires_at.is_null().or(signing_keys::expires_at.gt(now)))
        .order((signing_keys::created_at.desc(), signing_keys::active_from.desc(), signing_keys::kid.desc()))
        .load(conn)
}

/// Keys that were revoked since a time, the newest first: what they signed may still be shown.
pub(crate) fn list_revoked(conn: &mut Conn, since: Timestamp, limit: i64) -> QueryResult<Vec<SigningKeyRow>> {
    signing_keys::table
        .filter(signing_keys::revoked_at.gt(since))
        .order(signing_keys::revoked_at.desc())
        .limit(limit)
        .load(conn)
}

/// Keys that have not expired and, as far as there is room, the newest of the others; newest first.
pub(crate) fn list(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<SigningKeyRow>> {
    let is_usable = signing_keys::expires_at.is_null().or(signing_keys::expires_at.gt(now));
    let (created_at, active_from) = (signing_keys::created_at.desc(), signing_keys::active_from.desc());
    let mut rows: Vec<SigningKeyRow> = signing_keys::table
        .order((is_usable.desc(), created_at, active_from, signing_keys::kid.desc()))
        .limit(limit)
        .load(conn)?;
    rows.sort_by(|one, other| {
        let newest = (other.created_at, other.active_from, &other.kid);
        newest.cmp(&(one.created_at, one.active_from, &one.kid))
    });
    Ok(rows)
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

/// Whether a key signs now, or will: it is neither retired nor expired.
pub(crate) fn will_sign(conn: &mut Conn, now: Timestamp) -> QueryResult<bool> {
    let number: i64 = signing_keys::table
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

/// Sets when each key that is not retired expires: so long after the next one begins to sign, and never where none does.
///
/// To be called whenever a key is added, retired or revoked: a key may sign longer than was planned, or for good. One
/// that was to expire later does.
pub(crate) fn plan_expiry(conn: &mut Conn, longest_use: Duration, now: Timestamp) -> QueryResult<()> {
    let mut next: Option<Timestamp> = None;
    for key in list_usable(conn, now)?.into_iter().filter(|key| key.retired_at.is_none()) {
        let planned = next.map(|begins| begins.plus(longest_use));
        let expires_at = planned.map(|planned| key.expires_at.map_or(planned, |known| known.max(planned)));
        if expires_at != key.expires_at {
            diesel::update(signing_keys::table.find(&key.kid))
                .set(signing_keys::expires_at.eq(expires_at))
                .execute(conn)?;
        }
        next = Some(next.map_or(key.active_from, |begins| begins.min(key.active_from)));
    }
    Ok(())
}

/// Lets the newest key that was to sign later do so from now on; `false` if there is none.
pub(crate) fn begin_next(conn: &mut Conn, now: Timestamp) -> QueryResult<bool> {
    let next = list_usable(conn, now)?.into_iter().find(|key| key.retired_at.is_none());
    let Some(next) = next else { return Ok(false) };
    diesel::update(signing_keys::table.find(&next.kid))
        .filter(signing_keys::active_from.gt(now))
        .set(signing_keys::active_from.eq(now))
        .execute(conn)
        .map(|rows| rows > 0)
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

/// Those of these keys that are not revoked. They stay so until the transaction ends: a revocation waits for it.
pub(crate) fn hold(conn: &mut Conn, kids: &[&str]) -> QueryResult<HashSet<String>> {
    let usable = signing_keys::table
        .filter(signing_keys::kid.eq_any(kids))
        .filter(signing_keys::revoked_at.is_null())
        .select(signing_keys::kid);
    let held: Vec<String> = match conn {
        // It conflicts with the lock of the table that a revocation takes.
        Conn::Postgres(conn) => usable.for_share().load(conn)?,
        Conn::Sqlite(conn) => prepared(usable).load(conn)?,
    };
    Ok(held.into_iter().collect())
}

/// Whether none of these keys is revoked, as [`hold`].
pub(crate) fn hold_all(conn: &mut Conn, kids: &[&str]) -> QueryResult<bool> {
    let held = hold(conn, kids)?;
    Ok(kids.iter().all(|kid| held.contains(*kid)))
}

/// Adds a revocation.
pub(crate) fn insert_revocation(conn: &mut Conn, revocation: &KeyRevocation) -> QueryResult<usize> {
    diesel::insert_into(revocations::table).values(revocation).execute(conn)
}

/// The revocation of a key.
pub(crate) fn find_revocation(conn: &mut Conn, kid: &str) -> QueryResult<Option<KeyRevocation>> {
    revocations::table.find(kid).get_result(conn).optional()
}

/// Revocations that are not carried out to their end, the oldest first.
pub(crate) fn open_revocations(conn: &mut Conn) -> QueryResult<Vec<KeyRevocation>> {
    revocations::table.filter(revocations::done_at.is_null()).order(revocations::created_at.asc()).load(conn)
}

/// What a revocation has ended, and renewed, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub links: i64,
    pub sessions: i64,
    pub renewed: i64,
}

/// Adds to the counts of a revocation.
pub(crate) fn count_revoked(conn: &mut Conn, kid: &str, more: Carried) -> QueryResult<usize> {
    diesel::update(revocations::table.find(kid))
        .set((
            revocations::links.eq(revocations::links + more.links),
            revocations::sessions.eq(revocations::sessions + more.sessions),
            revocations::renewed.eq(revocations::renewed + more.renewed),
        ))
        .execute(conn)
}

/// Stores that a revocation is carried out.
pub(crate) fn finish_revocation(conn: &mut Conn, kid: &str, now: Timestamp) -> QueryResult<usize> {
    diesel::update(revocations::table.find(kid).filter(revocations::done_at.is_null()))
        .set(revocations::done_at.eq(Some(now)))
        .execute(conn)
}

/// Sealed private keys with their key identifiers; a revoked key has none.
pub(crate) fn sealed(conn: &mut Conn) -> QueryResult<Vec<(String, String)>> {
    signing_keys::table
        .filter(signing_keys::sealed_private_key.ne(""))
        .select((signing_keys::kid, signing_keys::sealed_private_key))
        .load(conn)
}

/// Stores a private key that was sealed under another master key.
pub(crate) fn seal_again(conn: &mut Conn, kid: &str, sealed: &str) -> QueryResult<usize> {
    diesel::update(signing_keys::table.find(kid)).set(signing_keys::sealed_private_key.eq(sealed)).execute(conn)
}

/// Number of changes to the keys so far.
pub(crate) fn epoch(conn: &mut Conn) -> QueryResult<KeyEpoch> {
    service_state::table.select((service_state::incarnation, service_state::key_epoch)).first(conn)
}

/// Makes every instance of the service read the keys again, where no key changes: a trigger does so for those that do.
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
