//! Idempotency keys: what was made with a key, remembered in the work's own transaction.
//!
//! Only the id of the resource is kept; the answer is rebuilt from it. Refusals
//! are not kept. A key is good for 24 hours.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use time::Duration;

use super::{Conn, Tx};
use crate::clock::Timestamp;
use crate::db::schema::idempotency_keys as keys;
use crate::error::{Code, Error};
use crate::id::{ClientId, Id, Kind};

/// How long a key is remembered.
pub(crate) const REMEMBERED: Duration = Duration::hours(24);

/// A key as one client sent it to one route.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    pub client_id: ClientId,
    /// The method and the route pattern.
    pub route: &'static str,
    pub key: String,
    /// SHA-256 of what was asked for, in hex.
    pub fingerprint: String,
}

/// What a key stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody used it yet: do the work, then [`remember`] it.
    Fresh,
    /// The work was done: this is the id of what it made.
    Done(String),
}

/// Claims the key for this transaction.
///
/// # Errors
/// `idempotency_key_in_flight` while another transaction holds it,
/// `idempotency_key_reused` when it stands for another request.
pub(crate) fn claim(tx: &mut Tx<'_>, key: &IdempotencyKey, now: Timestamp) -> Result<Claim, Error> {
    if !try_lock(tx, key)? {
        return Err(Error::new(Code::IdempotencyKeyInFlight).retry_after(1));
    }
    let conn: &mut Conn = tx;
    let mine = keys::table.find((&key.client_id, key.route, &key.key));
    let known: Option<(String, String)> = mine
        .filter(keys::created_at.gt(now.minus(REMEMBERED)))
        .select((keys::fingerprint, keys::resource_id))
        .get_result(conn)
        .optional()?;
    match known {
        None => {
            diesel::delete(mine).execute(conn)?;
            Ok(Claim::Fresh)
        }
        Some((fingerprint, resource_id)) if fingerprint == key.fingerprint => Ok(Claim::Done(resource_id)),
        Some(_) => Err(Code::IdempotencyKeyReused.into()),
    }
}

/// Claims the key, if there is one, for the thing that is about to be made under `fresh`.
///
/// Returns the id of what the key stands for already; `None` means: go on and make it.
///
/// # Errors
/// As [`claim`].
pub(crate) fn once<K: Kind>(
    tx: &mut Tx<'_>,
    key: Option<&IdempotencyKey>,
    fresh: &Id<K>,
    now: Timestamp,
) -> Result<Option<Id<K>>, Error> {
    let Some(key) = key else { return Ok(None) };
    if let Claim::Done(id) = claim(tx, key, now)? {
        return Ok(Some(id.parse().map_err(Error::internal)?));
    }
    remember(tx, key, fresh.as_str(), now)?;
    Ok(None)
}

/// Remembers what was made with the key.
pub(crate) fn remember(conn: &mut Conn, key: &IdempotencyKey, resource_id: &str, now: Timestamp) -> QueryResult<()> {
    diesel::insert_into(keys::table)
        .values((
            keys::client_id.eq(&key.client_id),
            keys::route.eq(key.route),
            keys::idempotency_key.eq(&key.key),
            keys::fingerprint.eq(&key.fingerprint),
            keys::resource_id.eq(resource_id),
            keys::created_at.eq(now),
        ))
        .execute(conn)
        .map(drop)
}

/// Forgets the keys that are too old to count.
pub(crate) fn forget_before(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    diesel::delete(keys::table.filter(keys::created_at.le(before))).execute(conn)
}

/// Takes the key until the transaction ends; `false` while another one has it.
///
/// An INSERT would make the second caller wait for the first. SQLite has one
/// writer, so there is nobody to exclude.
fn try_lock(conn: &mut Conn, key: &IdempotencyKey) -> QueryResult<bool> {
    diesel::define_sql_function! { fn hashtextextended(text: Text, seed: BigInt) -> BigInt; }
    diesel::define_sql_function! { fn pg_try_advisory_xact_lock(number: BigInt) -> Bool; }
    match conn {
        Conn::Postgres(conn) => {
            let name = format!("{} {} {}", key.client_id, key.route, key.key);
            diesel::select(pg_try_advisory_xact_lock(hashtextextended(name, 0))).get_result(conn)
        }
        Conn::Sqlite(_) => Ok(true),
    }
}
