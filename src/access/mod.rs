//! What every request needs to know of the store: the client, the session, the epochs.
//!
//! One row is asked for each time: the *access epoch*, which the database itself
//! raises in every transaction that may take access away or change what a
//! client may do (triggers on both databases, so that no statement can forget
//! it). What was read at an epoch holds as long as the epoch lasts, and is not
//! read again. Nothing stale is ever introspection: the question about the epoch begins
//! after each of its callers asked.

mod coalescer;
mod statements;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use diesel::prelude::*;

use self::coalescer::{Coalescer, Gauges};
use self::statements::{Found, LoadEpochs};
use crate::clock::Timestamp;
use crate::db::{Conn, ConnectionManager, DatabaseUrl};
use crate::domain::{Reach, Scope};
use crate::error::Error;
use crate::id::{ClientId, LinkId, SessionId};
use crate::metrics::Metrics;
use crate::secrets::{ApiKey, same_sha256};
use crate::store::{OpenError, pool_of};
use crate::tokens::Verified;

/// So many clients and so many sessions are remembered; then it begins anew. A session takes some 2 KiB with what was
/// introspection of it, 60 MiB for all.
const CACHE_CAPACITY: usize = 32_768;

/// What the store said, after it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// The client, unless it is unknown or disabled.
    pub client: Option<Arc<LiveClient>>,
    /// The session, if it holds.
    pub session: Option<Arc<LiveSession>>,
    /// The state of the service itself.
    pub epochs: Epochs,
}

/// The state of the service itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Grows with every change of the signing keys.
    pub keys: i64,
    /// Grows with every change that may take access away.
    pub access: i64,
    /// Whether no link is to be issued.
    pub frozen: bool,
}

/// A client that is not disabled.
#[derive(Debug, Clone)]
pub(crate) struct LiveClient {
    pub id: ClientId,
    pub name: String,
    pub reach: Reach,
    pub scopes: Vec<Scope>,
    pub key_sha256: String,
    /// The key before the last rotation.
    pub previous_key_sha256: Option<String>,
    /// Until when it counts.
    pub previous_key_expires_at: Option<Timestamp>,
}

/// A session that holds: not ended, within its time, its link not revoked and its consultant not suspended.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub profile_name: String,
    pub magic_link_id: LinkId,
    pub reason: String,
    pub consultant_name: String,
    pub consultant_email: String,
    expires_at: Timestamp,
    /// What introspection said of it the first time; it says the same as long as this is what is known.
    pub introspection: OnceLock<CachedIntrospection>,
}

/// Which reading of the store something belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CacheVersion {
    /// Grows when a query has failed, and the connection with it. Whoever answers next may be another server, which
    /// lost commits that this one had: its epochs may repeat.
    connection_epoch: u64,
    access: i64,
}

/// What was read at one version.
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

    /// Keeps what was read; what belongs to another version goes, and everything does when it is too much.
    ///
    /// Returns what went: dropping it takes time that those who wait for the cache need not spend.
    fn remember(&mut self, read: Self, most: usize) -> Option<Self> {
        if self.version != read.version || self.clients.len() > most || self.sessions.len() > most {
            return Some(std::mem::replace(self, read));
        }
        self.clients.extend(read.clients);
        self.sessions.extend(read.sessions);
        None
    }
}

/// What the reader is asked.
#[derive(Debug)]
enum SnapshotQuery {
    /// The epochs alone: the caller knows the rest, if they are still the same.
    Epochs,
    /// Everything.
    Rows { client: Option<ClientId>, session: Option<SessionId> },
}

/// What it answers.
struct Answer {
    state: Snapshot,
    version: CacheVersion,
}

/// Reads the state for many callers at once.
#[derive(Debug)]
pub(crate) struct AccessReader {
    cache: Arc<RwLock<SnapshotCache>>,
    reader: Coalescer<SnapshotQuery, Answer>,
}

impl AccessReader {
    /// Starts the reader, on a connection of its own.
    ///
    /// # Errors
    /// When its thread does not start.
    pub(crate) fn open(url: &DatabaseUrl, metrics: &Metrics) -> Result<Self, OpenError> {
        // Nothing but a failure ends the connection: what was read through it holds only for the server that answered.
        let pool = pool_of(1).max_lifetime(None).idle_timeout(None);
        let pool = pool.build_unchecked(ConnectionManager::by_primary_keys(url.clone()));
        let gauges = Gauges { waiting: metrics.reader_queue.clone(), shared: metrics.read_batch.clone() };
        let none = CacheVersion { connection_epoch: 0, access: -1 };
        let cache = Arc::new(RwLock::new(SnapshotCache::of(none)));
        let mut loader = SnapshotLoader { cache: Arc::clone(&cache), failed: false };
        let query = move |conn: &mut Conn, questions: &[SnapshotQuery]| loader.load(conn, questions);
        let reader = Coalescer::start(pool, query, gauges).map_err(OpenError::Thread)?;
        Ok(Self { cache, reader })
    }

    /// What the store says at this moment; mostly the epoch is all that is asked for.
    pub(crate) async fn load(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let nothing_else = client.is_none() && session.is_none();
        if let Some((version, client, session)) = self.lookup(client, session) {
            let Answer { state, version: current } = self.reader.load(SnapshotQuery::Epochs).await?;
            if nothing_else || current == version {
                return Ok(Snapshot { client, session, ..state }.at(now));
            }
        }
        let question = SnapshotQuery::Rows { client: client.cloned(), session: session.cloned() };
        Ok(self.reader.load(question).await?.state.at(now))
    }

    /// What is known of both, and since which version; nothing when one of them is not.
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
    /// Without a session that has run out.
    fn at(mut self, now: Timestamp) -> Self {
        self.session = self.session.filter(|session| session.expires_at > now);
        self
    }
}

/// Answers the questions, on the reader's thread.
struct SnapshotLoader {
    cache: Arc<RwLock<SnapshotCache>>,
    /// Whether the last query failed, or panicked.
    failed: bool,
}

impl SnapshotLoader {
    fn load(&mut self, conn: &mut Conn, questions: &[SnapshotQuery]) -> QueryResult<Vec<Answer>> {
        if std::mem::replace(&mut self.failed, true) {
            let known = self.version();
            self.remember(SnapshotCache::of(CacheVersion { connection_epoch: known.connection_epoch + 1, ..known }));
        }
        let answers = self.answer(conn, questions)?;
        self.failed = false;
        Ok(answers)
    }

    fn answer(&self, conn: &mut Conn, questions: &[SnapshotQuery]) -> QueryResult<Vec<Answer>> {
        let (mut clients, mut sessions) = (HashSet::new(), HashSet::new());
        for question in questions {
            if let SnapshotQuery::Rows { client, session } = question {
                clients.extend(client);
                sessions.extend(session);
            }
        }
        let Found { epochs, clients, sessions } = if clients.is_empty() && sessions.is_empty() {
            Found::nothing_but(LoadEpochs::load(conn)?)
        } else {
            statements::load(conn, &clients, &sessions)?
        };
        let read = SnapshotCache {
            version: CacheVersion { access: epochs.access, ..self.version() },
            clients: clients.into_iter().map(|client| (client.id.clone(), Arc::new(client))).collect(),
            sessions: sessions.into_iter().map(|(id, session)| (id, Arc::new(session))).collect(),
        };
        let of = |question: &SnapshotQuery| match question {
            SnapshotQuery::Epochs => (None, None),
            SnapshotQuery::Rows { client, session } => (
                client.as_ref().and_then(|id| read.clients.get(id).cloned()),
                session.as_ref().and_then(|id| read.sessions.get(id).cloned()),
            ),
        };
        let answers = questions.iter().map(of).map(|(client, session)| {
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
            let gone = self.cache.write().unwrap_or_else(PoisonError::into_inner).remember(read, CACHE_CAPACITY);
            drop(gone);
        }
    }
}

/// The answer that holds for a token and a session, as JSON.
#[derive(Debug)]
pub(crate) struct CachedIntrospection {
    pub(crate) token: Arc<Verified>,
    pub(crate) json: Bytes,
}

impl LiveClient {
    /// Whether the key is this client's, and still counts.
    pub(crate) fn accepts(&self, key: &ApiKey, now: Timestamp) -> bool {
        let sha256 = key.sha256();
        let same = |stored: &str| same_sha256(&sha256, stored);
        let previous_counts = self.previous_key_expires_at.is_some_and(|until| until > now);
        same(&self.key_sha256) || (previous_counts && self.previous_key_sha256.as_deref().is_some_and(same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::db::{self, DatabaseUrl};

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
            introspection: OnceLock::new(),
        };
        let first = CacheVersion { connection_epoch: 0, access: 7 };
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
        // What is read at once is kept whole, however much there is by then.
        assert_eq!(after(first, 2), (first, 5));
        assert_eq!(after(first, 1), (first, 1), "it was too much, and begins anew");
        for next in [CacheVersion { access: 8, ..first }, CacheVersion { connection_epoch: 1, access: 8 }, first] {
            assert_eq!(after(next, 2), (next, 2));
        }
    }

    #[test]
    fn what_was_read_before_a_failure_is_not_told_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut conn = ConnectionManager::new(DatabaseUrl::Sqlite(folder.path().join("test.db"))).open().unwrap();
        let version = CacheVersion { connection_epoch: 0, access: 0 };
        let cache = Arc::new(RwLock::new(SnapshotCache::of(version)));
        let mut loader = SnapshotLoader { cache: Arc::clone(&cache), failed: false };
        // There are no tables yet.
        assert!(loader.load(&mut conn, &[SnapshotQuery::Epochs]).is_err());
        db::migrate(&mut conn).unwrap();
        for _ in 0..2 {
            let answers = loader.load(&mut conn, &[SnapshotQuery::Epochs]).unwrap();
            assert_eq!(answers.first().unwrap().version.connection_epoch, 1);
        }
        assert_eq!(cache.read().unwrap().version.connection_epoch, 1);
    }
}
