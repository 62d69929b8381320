//! Idempotency keys, stored in the same transaction as the resource that was created with them.
//!
//! Only the id of the resource is stored; the response is rebuilt from it.
//! Refusals are not stored. A key is valid for 24 hours.

use std::hash::{DefaultHasher, Hash, Hasher};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use quick_cache::sync::Cache;
use time::Duration;

use super::{Conn, Tx};
use crate::clock::Timestamp;
use crate::db::schema::idempotency_keys as keys;
use crate::error::{Code, Error};
use crate::id::{ClientId, Id, Kind};

/// Lifetime of a key.
pub(crate) const REMEMBERED: Duration = Duration::hours(24);

/// A key that a client sent to a route.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    pub client_id: ClientId,
    /// The method and the route pattern.
    pub route: String,
    pub key: String,
    /// SHA-256 of the request in canonical form, in hex.
    pub fingerprint: String,
}

/// Outcome of claiming a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The key is unused: create the resource and [`remember`] it.
    Fresh,
    /// The key was used: the id of the resource that was created.
    Done(String),
}

/// Claims the key for this transaction.
///
/// # Errors
/// `idempotency_key_in_flight` while another transaction has claimed it, `idempotency_key_reused` when it was used for
/// another request.
pub(crate) fn claim(tx: &mut Tx<'_>, key: &IdempotencyKey, now: Timestamp) -> Result<Claim, Error> {
    if !try_lock(tx, key)? {
        return Err(Error::new(Code::IdempotencyKeyInFlight).retry_after(1));
    }
    let conn: &mut Conn = tx;
    if let Some(resource_id) = find(conn, key, now)? {
        return Ok(Claim::Done(resource_id));
    }
    diesel::delete(keys::table.find((&key.client_id, &key.route, &key.key))).execute(conn)?;
    Ok(Claim::Fresh)
}

/// The id of the resource that an earlier request with this key created.
///
/// A repeat is answered before whatever may have changed since: limits, the freeze, and the time.
///
/// # Errors
/// `idempotency_key_reused` when the key was used for another request.
pub(crate) fn find(conn: &mut Conn, key: &IdempotencyKey, now: Timestamp) -> Result<Option<String>, Error> {
    let known: Option<(String, String)> = keys::table
        .find((&key.client_id, &key.route, &key.key))
        .filter(keys::created_at.gt(now.minus(REMEMBERED)))
        .select((keys::fingerprint, keys::resource_id))
        .get_result(conn)
        .optional()?;
    match known {
        None => Ok(None),
        Some((fingerprint, resource_id)) if fingerprint == key.fingerprint => Ok(Some(resource_id)),
        Some(_) => Err(Code::IdempotencyKeyReused.into()),
    }
}

/// Keys that this process has met: whether one may be a repeat is asked of the database only then.
pub(crate) struct MetKeys(Cache<u64, ()>);

/// Number of keys that are kept in mind.
const KEPT_IN_MIND: usize = 32_768;

impl Default for MetKeys {
    fn default() -> Self {
        Self(Cache::new(KEPT_IN_MIND))
    }
}

impl MetKeys {
    /// Whether the key was met before; from now on it was.
    pub(crate) fn meet(&self, key: &IdempotencyKey) -> bool {
        let mut hasher = DefaultHasher::new();
        (key.client_id.as_str(), &key.route, &key.key).hash(&mut hasher);
        let met = self.0.get(&hasher.finish()).is_some();
        self.0.insert(hasher.finish(), ());
        met
    }
}

/// Claims the key, if there is one, for a resource that is about to be created with the id `fresh`.
///
/// Returns the id of the resource that was created before; `None` if it has to be created now.
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

/// Stores the id of the resource that is created with the key.
pub(crate) fn remember(conn: &mut Conn, key: &IdempotencyKey, resource_id: &str, now: Timestamp) -> QueryResult<()> {
    diesel::insert_into(keys::table)
        .values((
            keys::client_id.eq(&key.client_id),
            keys::route.eq(&key.route),
            keys::idempotency_key.eq(&key.key),
            keys::fingerprint.eq(&key.fingerprint),
            keys::resource_id.eq(resource_id),
            keys::created_at.eq(now),
        ))
        .execute(conn)
        .map(drop)
}

/// Deletes expired keys.
pub(crate) fn forget_before(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    diesel::delete(keys::table.filter(keys::created_at.le(before))).execute(conn)
}

/// Locks the key until the transaction ends; `false` while another transaction has it.
///
/// An INSERT would make the second caller wait for the first. SQLite has one writer, so it needs no lock.
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
