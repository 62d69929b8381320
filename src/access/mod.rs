//! Current access: the client, the session and the epochs, as every request needs them.
//!
//! Each request loads one row, the *access epoch*. The database itself raises it
//! in every transaction that may take access away or change what a client may do
//! (triggers on both databases, so that no statement can forget it). What was
//! read at an epoch is valid as long as the epoch lasts, and is not read again.
//! No snapshot is stale: the query for the epoch begins after each of its callers
//! has queued.

mod coalescer;
mod statements;
mod uses;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use diesel::prelude::*;
use diesel::r2d2::Pool;

use self::coalescer::{ANSWER_TIMEOUT, Coalescer, Gauges};
use self::statements::{Found, LoadEpochs};
pub(crate) use self::uses::{ClientUses, LastUse, Reads};
use crate::clock::Timestamp;
use crate::db::{Conn, ConnectionManager};
use crate::domain::{Reach, Scope};
use crate::error::Error;
use crate::id::{ClientId, LinkId, SessionId};
use crate::metrics::Metrics;
use crate::records;
use crate::records::signing_keys::KeyEpoch;
use crate::store::{Answers, OpenError, Replaceable, Store, pool_of};

/// Capacity for clients, and as much for sessions; a full cache is emptied. A session takes some 2 KiB with its
/// introspection response, 60 MiB for all.
const CACHE_CAPACITY: usize = 32_768;

/// Client, session and epochs as they are in the store.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The client; `None` if it is unknown or disabled.
    pub client: Option<Arc<LiveClient>>,
    /// The session; `None` if it is not active.
    pub session: Option<Arc<LiveSession>>,
    /// Epochs, and the state of the service as a whole.
    pub epochs: Epochs,
}

/// Epochs, and the state of the service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Random number of the database; a restore replaces it, and the epochs of two incarnations are not comparable.
    pub incarnation: i64,
    /// Grows with every change of the signing keys.
    pub keys: i64,
    /// Grows with every change that may take access away.
    pub access: i64,
    /// Grows when a query has failed, and the connection with it. The next server may have lost commits that this one
    /// had, so its epochs may repeat: those of two connections are not comparable, either.
    pub connection: u64,
    /// Whether the issuing of links is frozen.
    pub frozen: bool,
}

impl Epochs {
    /// The epoch of the signing keys.
    pub(crate) const fn of_keys(&self) -> KeyEpoch {
        KeyEpoch { incarnation: self.incarnation, number: self.keys }
    }

    /// Whether the signing keys are the same at others.
    pub(crate) fn have_keys_of(&self, others: &Self) -> bool {
        (self.of_keys(), self.connection) == (others.of_keys(), others.connection)
    }
}

/// A client that is not disabled.
#[derive(Debug)]
pub(crate) struct LiveClient {
    pub id: ClientId,
    pub name: String,
    pub reach: Reach,
    pub scopes: Vec<Scope>,
    pub key_sha256: String,
    /// Hash of the key before the last rotation.
    pub previous_key_sha256: Option<String>,
    /// Time until which the previous key is valid.
    pub previous_key_expires_at: Option<Timestamp>,
    /// What all this is compared by, as `records::clients::standing` tells it.
    pub standing: String,
    /// Minute in which its use was last noted, so that hot callers share no lock.
    noted: AtomicI64,
}

/// An active session: not ended, not expired, its link not revoked and its consultant not suspended.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub profile_name: String,
    pub magic_link_id: LinkId,
    pub reason: String,
    pub consultant_name: String,
    pub consultant_email: String,
    pub expires_at: Timestamp,
    /// Response of the first introspection, which stays the same as long as this entry is valid: until it ends soon, and
    /// from then on.
    pub introspection: [OnceLock<Arc<CachedIntrospection>>; 2],
}

/// Version of the store at which an entry was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CacheVersion {
    /// As in [`Epochs`].
    connection_epoch: u64,
    incarnation: i64,
    access: i64,
}

/// Clients and sessions that were read at one version.
#[derive(Debug)]
struct SnapshotCache {
    version: CacheVersion,
    clients: HashMap<ClientId, Arc<LiveClient>>,
    sessions: HashMap<SessionId, Arc<LiveSession>>,
}

impl SnapshotCache {
    fn of(version: CacheVersion) -> Self {
        Self { version, clients: HashMap::new(), sessions: HashMap::new() }
    }

    /// Adds entries; replaces all entries if these are of another version, or if the cache is over its capacity.
    ///
    /// Returns the replaced entries: dropping them takes time, which the caller spends after it has released the lock.
    fn remember(&mut self, read: Self, capacity: usize) -> Option<Self> {
        if self.version != read.version || self.clients.len() > capacity || self.sessions.len() > capacity {
            return Some(std::mem::replace(self, read));
        }
        self.clients.extend(read.clients);
        self.sessions.extend(read.sessions);
        None
    }
}

/// Query to the reader.
#[derive(Debug)]
enum SnapshotQuery {
    /// The epochs alone: the caller has the rest from the cache, and it is valid if the version is the same.
    Epochs,
    /// Client, session and epochs.
    Rows { client: Option<ClientId>, session: Option<SessionId> },
}

/// Result of a [`SnapshotQuery`].
struct Answer {
    state: Snapshot,
    version: CacheVersion,
}

/// Loads snapshots, for many callers at once.
#[derive(Debug)]
pub(crate) struct AccessReader {
    manager: ConnectionManager,
    metrics: Metrics,
    /// The last one that was given to a connection, of whichever reader.
    connection_epochs: Arc<AtomicU64>,
    reader: Replaceable<Reader>,
}

impl AccessReader {
    /// Starts the reader, on a connection of its own.
    ///
    /// # Errors
    /// When its thread does not start.
    pub(crate) fn open(store: &Store, metrics: &Metrics) -> Result<Self, OpenError> {
        let manager = store.connection_manager().by_primary_keys();
        let connection_epochs = Arc::default();
        let first = Reader::open(&manager, metrics, &connection_epochs).map_err(OpenError::Thread)?;
        Ok(Self { manager, metrics: metrics.clone(), connection_epochs, reader: Replaceable::new(first) })
    }

    /// Loads a snapshot; mostly only the epochs are queried.
    pub(crate) async fn load(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let reader = self.reader.get();
        let asked = Instant::now();
        let outcome = reader.load(client, session, now).await;
        match &outcome {
            Ok(_) => reader.answers.note(),
            // No answer, and no refusal either: the database hangs.
            Err(_) if asked.elapsed() >= ANSWER_TIMEOUT && reader.answers.are_missing() => self.give_up(&reader),
            Err(_) => {}
        }
        outcome
    }

    /// Asks through another connection from now on, where nothing is known yet: the one that hangs may lead to a server
    /// that has been replaced, and what it may still say is remembered by nobody.
    fn give_up(&self, hung: &Arc<Reader>) {
        if !self.manager.is_sqlite() {
            let open = || {
                self.connection_epochs.fetch_add(1, Ordering::SeqCst);
                Reader::open(&self.manager, &self.metrics, &self.connection_epochs)
            };
            self.reader.give_up(hung, &hung.pool, open, |hung| hung.queries.abandon());
        }
    }
}

/// One connection, its thread, and what was read through it.
#[derive(Debug)]
struct Reader {
    pool: Pool<ConnectionManager>,
    cache: Arc<RwLock<SnapshotCache>>,
    queries: Coalescer<SnapshotQuery, Answer>,
    answers: Answers,
}

impl Reader {
    fn open(
        manager: &ConnectionManager,
        metrics: &Metrics,
        connection_epochs: &Arc<AtomicU64>,
    ) -> std::io::Result<Self> {
        // Only a failure ends the connection: what was read through it is valid only for the server that answered.
        let pool = pool_of(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.build_unchecked(manager.for_another_pool());
        let gauges = Gauges {
            waiting: metrics.reader_queue.clone(),
            shared: metrics.read_batch.clone(),
            metrics: metrics.clone(),
        };
        let connection_epoch = connection_epochs.load(Ordering::SeqCst);
        let none = CacheVersion { connection_epoch, incarnation: 0, access: -1 };
        let cache = Arc::new(RwLock::new(SnapshotCache::of(none)));
        let connection_epochs = Arc::clone(connection_epochs);
        let mut loader = SnapshotLoader { cache: Arc::clone(&cache), connection_epochs, failed: false };
        let query = move |conn: &mut Conn, queries: &[SnapshotQuery]| loader.load(conn, queries);
        let queries = Coalescer::start(pool.clone(), query, gauges)?;
        Ok(Self { pool, cache, queries, answers: Answers::begin() })
    }

    async fn load(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let nothing_else = client.is_none() && session.is_none();
        if let Some((version, client, session)) = self.lookup(client, session) {
            let Answer { state, version: current } = self.queries.load(SnapshotQuery::Epochs).await?;
            if nothing_else || current == version {
                return Ok(Snapshot { client, session, ..state }.at(now));
            }
        }
        let query = SnapshotQuery::Rows { client: client.cloned(), session: session.cloned() };
        Ok(self.queries.load(query).await?.state.at(now))
    }

    /// The cached client and session, and their version; `None` if one of them is not cached.
    #[expect(clippy::type_complexity, reason = "both are optional, and go into a state as they are")]
    fn lookup(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
    ) -> Option<(CacheVersion, Option<Arc<LiveClient>>, Option<Arc<LiveSession>>)> {
        let cache = self.cache.read().unwrap_or_else(PoisonError::into_inner);
        let client = client.map(|id| cache.clients.get(id).cloned().ok_or(())).transpose().ok()?;
        let session = session.map(|id| cache.sessions.get(id).cloned().ok_or(())).transpose().ok()?;
        Some((cache.version, client, session))
    }
}

impl Snapshot {
    /// The snapshot without a session that has expired.
    fn at(mut self, now: Timestamp) -> Self {
        self.session = self.session.filter(|session| session.expires_at > now);
        self
    }
}

/// Answers queries, on the reader's thread.
struct SnapshotLoader {
    cache: Arc<RwLock<SnapshotCache>>,
    connection_epochs: Arc<AtomicU64>,
    /// Whether the last query failed, or panicked.
    failed: bool,
}

impl SnapshotLoader {
    fn load(&mut self, conn: &mut Conn, queries: &[SnapshotQuery]) -> QueryResult<Vec<Answer>> {
        if std::mem::replace(&mut self.failed, true) {
            let connection_epoch = self.connection_epochs.fetch_add(1, Ordering::SeqCst) + 1;
            self.remember(SnapshotCache::of(CacheVersion { connection_epoch, ..self.version() }));
        }
        let answers = self.answer(conn, queries)?;
        self.failed = false;
        Ok(answers)
    }

    fn answer(&self, conn: &mut Conn, queries: &[SnapshotQuery]) -> QueryResult<Vec<Answer>> {
        let (mut clients, mut sessions) = (HashSet::new(), HashSet::new());
        for query in queries {
            if let SnapshotQuery::Rows { client, session } = query {
                clients.extend(client);
                sessions.extend(session);
            }
        }
        let Found { mut epochs, clients, sessions } = if clients.is_empty() && sessions.is_empty() {
            Found::nothing_but(LoadEpochs::load(conn)?)
        } else {
            statements::load(conn, &clients, &sessions)?
        };
        epochs.connection = self.version().connection_epoch;
        let read = SnapshotCache {
            version: CacheVersion {
                connection_epoch: epochs.connection,
                incarnation: epochs.incarnation,
                access: epochs.access,
            },
            clients: clients.into_iter().map(|client| (client.id.clone(), Arc::new(client))).collect(),
            sessions: sessions.into_iter().map(|(id, session)| (id, Arc::new(session))).collect(),
        };
        let of = |query: &SnapshotQuery| match query {
            SnapshotQuery::Epochs => (None, None),
            SnapshotQuery::Rows { client, session } => (
                client.as_ref().and_then(|id| read.clients.get(id).cloned()),
                session.as_ref().and_then(|id| read.sessions.get(id).cloned()),
            ),
        };
        let answers = queries.iter().map(of).map(|(client, session)| {
            let state = Snapshot { client, session, epochs };
            Answer { state, version: read.version }
        });
        let answers = answers.collect();
        self.remember(read);
        Ok(answers)
    }

    fn version(&self) -> CacheVersion {
        self.cache.read().unwrap_or_else(PoisonError::into_inner).version
    }

    fn remember(&self, read: SnapshotCache) {
        if self.version() != read.version || !read.clients.is_empty() || !read.sessions.is_empty() {
            let replaced = self.cache.write().unwrap_or_else(PoisonError::into_inner).remember(read, CACHE_CAPACITY);
            drop(replaced);
        }
    }
}

/// The introspection response for the claims of a token and a session, and what decides who hears it.
#[derive(Debug)]
pub(crate) struct CachedIntrospection {
    /// Of the claims, as in [`crate::tokens::Verified`].
    pub(crate) claims: [u8; 32],
    pub(crate) audience: String,
    pub(crate) portal: String,
    pub(crate) tenant_id: String,
    pub(crate) json: Bytes,
}

impl LiveClient {
    /// Whether its use is to be noted: once a minute, as far as this copy of the client knows.
    pub(crate) fn is_news(&self, now: Timestamp) -> bool {
        let minute = now.unix_seconds() / 60;
        self.noted.load(Ordering::Relaxed) != minute && self.noted.swap(minute, Ordering::Relaxed) != minute
    }

    /// Whether the hash is that of a key of this client's that is valid.
    pub(crate) fn accepts(&self, shown: &str, now: Timestamp) -> bool {
        let previous = (self.previous_key_sha256.as_deref(), self.previous_key_expires_at);
        records::clients::accepts(&self.key_sha256, previous, shown, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::db;

    #[test]
    fn memory_is_bounded_and_never_mixes_editions() {
        let now = Clock::System.now();
        let session = || LiveSession {
            profile_name: String::new(),
            magic_link_id: LinkId::new(now),
            reason: String::new(),
            consultant_name: String::new(),
            consultant_email: String::new(),
            expires_at: now,
            introspection: [OnceLock::new(), OnceLock::new()],
        };
        let first = CacheVersion { connection_epoch: 0, incarnation: 1, access: 7 };
        let read = |version, number| SnapshotCache {
            sessions: (0..number).map(|_| (SessionId::new(now), Arc::new(session()))).collect(),
            ..SnapshotCache::of(version)
        };
        let mut cache = SnapshotCache::of(first);
        let mut after = |version, number| {
            cache.remember(read(version, number), 3);
            (cache.version, cache.sessions.len())
        };
        assert_eq!(after(first, 3), (first, 3));
        // What one query has read is kept whole, even beyond the capacity.
        assert_eq!(after(first, 2), (first, 5));
        assert_eq!(after(first, 1), (first, 1), "it was over its capacity, and is replaced");
        for next in [
            CacheVersion { access: 8, ..first },
            CacheVersion { connection_epoch: 1, ..first },
            CacheVersion { incarnation: 2, ..first },
            first,
        ] {
            assert_eq!(after(next, 2), (next, 2));
        }
    }

    #[test]
    fn what_was_read_before_a_failure_is_not_told_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut conn = ConnectionManager::of_new_file(folder.path().join("test.db")).open().unwrap();
        let version = CacheVersion { connection_epoch: 0, incarnation: 0, access: 0 };
        let cache = Arc::new(RwLock::new(SnapshotCache::of(version)));
        let connection_epochs = Arc::default();
        let mut loader = SnapshotLoader { cache: Arc::clone(&cache), connection_epochs, failed: false };
        // There are no tables yet.
        assert!(loader.load(&mut conn, &[SnapshotQuery::Epochs]).is_err());
        db::migrate(&mut conn).unwrap();
        for _ in 0..2 {
            let answers = loader.load(&mut conn, &[SnapshotQuery::Epochs]).unwrap();
            let answer = answers.first().unwrap();
            assert_eq!((answer.version.connection_epoch, answer.state.epochs.connection), (1, 1));
        }
        assert_eq!(cache.read().unwrap().version.connection_epoch, 1);
    }
}
