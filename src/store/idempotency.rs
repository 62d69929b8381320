//! Idempotency keys, stored in the same transaction as the resource that was created with them.
//!
//! Only the id of the resource is stored; the response is rebuilt from it, as the caller may read it now: what a client made
//! may have been moved out of its reach since. So a key carries the reach, and hands it to what looks for the resource.
//! Refusals are not stored. A key is valid for 24 hours.

use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{self, Bool, Integer, Text};
use quick_cache::sync::Cache;
use time::Duration;

use super::{Conn, Store, Tx};
use crate::clock::Timestamp;
use crate::db::prepared_as;
use crate::db::schema::idempotency_keys as keys;
use crate::domain::Reach;
use crate::error::{Code, Error};
use crate::id::ClientId;

/// Lifetime of a key.
pub(super) const REMEMBERED: Duration = Duration::hours(24);

/// Number of expired keys that one transaction deletes.
const PER_STEP: i64 = 1_000;

/// A key that a client sent to a route.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    pub client_id: ClientId,
    /// What the client may read.
    pub reach: Reach,
    /// The method and the route pattern.
    pub route: String,
    pub key: String,
    /// SHA-256 of the request in canonical form, in hex.
    pub fingerprint: String,
    /// Whether the request repeats one that was answered: `Idempotency-Replayed` tells it.
    pub replayed: Replayed,
}

/// What is known of a request that has a key, wherever its key goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Replayed(Arc<AtomicBool>);

impl Replayed {
    /// Whether an earlier request with the key was found.
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Outcome of claiming a key.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    /// The key is stored for the resource that is about to be created.
    Fresh,
    /// The key was used: the id of the resource that was created.
    Done(String),
}

/// Claims the key for a resource that this transaction is about to create with the id `fresh`.
///
/// # Errors
/// `idempotency_key_in_flight` while another transaction has claimed it, `idempotency_key_reused` when it was used for
/// another request.
fn claim(tx: &mut Tx<'_>, key: &IdempotencyKey, fresh: &str, now: Timestamp) -> Result<Claim, Error> {
    let in_flight = || Error::new(Code::IdempotencyKeyInFlight).retry_after(1);
    match insert(tx, key, fresh, now)? {
        None => Err(in_flight()),
        Some(true) => Ok(Claim::Fresh),
        // A statement of its own: the one before may have begun before the row was committed.
        Some(false) => find(tx, key, now)?.map(Claim::Done).ok_or_else(in_flight),
    }
}

/// The id of the resource that an earlier request with this key created.
fn find(conn: &mut Conn, key: &IdempotencyKey, now: Timestamp) -> Result<Option<String>, Error> {
    let known: Option<(String, String)> = keys::table
        .find((&key.client_id, &key.route, &key.key))
        .filter(keys::created_at.gt(now.minus(REMEMBERED)))
        .select((keys::fingerprint, keys::resource_id))
        .get_result(conn)
        .optional()?;
    match known {
        None => Ok(None),
        Some((fingerprint, resource_id)) if fingerprint == key.fingerprint => {
            key.replayed.0.store(true, Ordering::Relaxed);
            Ok(Some(resource_id))
        }
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
/// Returns the resource that was created before, as `look` finds it within the reach; `None` if it has to be created now.
///
/// # Errors
/// As [`claim`], and `not_found` where the resource is gone or out of reach.
pub(crate) fn once<I, T>(
    tx: &mut Tx<'_>,
    key: Option<&IdempotencyKey>,
    fresh: &I,
    now: Timestamp,
    look: impl FnOnce(&mut Tx<'_>, &I, &Reach) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error>
where
    I: Display + FromStr<Err: Display>,
{
    let Some(key) = key else { return Ok(None) };
    match claim(tx, key, &fresh.to_string(), now)? {
        Claim::Fresh => Ok(None),
        Claim::Done(id) => look(tx, &id.parse().map_err(Error::internal)?, &key.reach)?.ok_or_else(gone).map(Some),
    }
}

/// The resource that an earlier request with this key created, as `look` finds it within the reach; `None` if there was no
/// such request.
///
/// A repeat is answered before whatever may have changed since: limits, the freeze, and the time.
///
/// # Errors
/// `idempotency_key_reused` when the key was used for another request, `not_found` where the resource is gone or out of
/// reach.
pub(crate) fn repeated<I, T>(
    conn: &mut Conn,
    key: &IdempotencyKey,
    now: Timestamp,
    look: impl FnOnce(&mut Conn, &I, &Reach) -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error>
where
    I: FromStr<Err: Display>,
{
    let Some(id) = find(conn, key, now)? else { return Ok(None) };
    look(conn, &id.parse().map_err(Error::internal)?, &key.reach)?.ok_or_else(gone).map(Some)
}

fn gone() -> Error {
    Error::not_found()
        .detail("what the first request with this Idempotency-Key made is gone, or out of the client's reach")
}

/// Deletes expired keys, in ranges.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn forget_expired(store: &Store, now: Timestamp) -> Result<(), Error> {
    let expired = now.minus(REMEMBERED);
    while store.write_large(move |tx| Ok(forget_before(tx, expired)?)).await? {}
    Ok(())
}

/// Deletes the oldest expired keys, as many as one transaction may; whether there are more.
fn forget_before(conn: &mut Conn, before: Timestamp) -> QueryResult<bool> {
    let expired = keys::table.filter(keys::created_at.le(before)).order(keys::created_at.asc());
    let last = expired.offset(PER_STEP - 1).limit(1).select(keys::created_at).first(conn).optional()?;
    diesel::delete(keys::table.filter(keys::created_at.le(last.unwrap_or(before)))).execute(conn)?;
    Ok(last.is_some())
}

/// Stores the key, in place of an expired one; `false` if it is stored already, `None` while another transaction has it.
///
/// On PostgreSQL it is locked first until the transaction ends: the INSERT alone would make the second caller wait for
/// the first. SQLite has one writer, so it needs no lock.
fn insert(conn: &mut Conn, key: &IdempotencyKey, resource_id: &str, now: Timestamp) -> QueryResult<Option<bool>> {
    const INSERT: &str = "INSERT INTO idempotency_keys AS known \
         (client_id, route, idempotency_key, fingerprint, resource_id, created_at) ";
    const UNLESS_KNOWN: &str = " ON CONFLICT (client_id, route, idempotency_key) DO UPDATE SET \
         fingerprint = excluded.fingerprint, resource_id = excluded.resource_id, created_at = excluded.created_at \
         WHERE known.created_at <= ";
    let expired = now.minus(REMEMBERED);
    macro_rules! row {
        ($query:expr) => {
            $query
                .bind::<Text, _>(&key.client_id)
                .bind::<Text, _>(&key.route)
                .bind::<Text, _>(&key.key)
                .bind::<Text, _>(&key.fingerprint)
                .bind::<Text, _>(resource_id)
                .bind::<sql_types::Timestamp, _>(now)
                .bind::<sql_types::Timestamp, _>(expired)
        };
    }
    match conn {
        Conn::Postgres(conn) => {
            let text = format!(
                "WITH locked AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS mine), \
                 stored AS ({INSERT} SELECT $2, $3, $4, $5, $6, $7 FROM locked WHERE mine {UNLESS_KNOWN} $8 RETURNING 1) \
                 SELECT mine, EXISTS (SELECT 1 FROM stored) FROM locked"
            );
            let lock = format!("{} {} {}", key.client_id, key.route, key.key);
            let stored = row!(sql_query(text).bind::<Text, _>(lock));
            let (mine, stored): (bool, bool) = prepared_as::<(Bool, Bool), _>(stored).get_result(conn)?;
            Ok(mine.then_some(stored))
        }
        Conn::Sqlite(conn) => {
            let stored = row!(sql_query(format!("{INSERT} VALUES (?, ?, ?, ?, ?, ?) {UNLESS_KNOWN} ? RETURNING 1")));
            let stored: Option<i32> = prepared_as::<Integer, _>(stored).get_result(conn).optional()?;
            Ok(Some(stored.is_some()))
        }
    }
}
