//! The store: all access to the database.
//!
//! A verb passes a closure to [`Store::read`] or [`Store::write`]; it calls
//! statement functions, which are one statement each and take [`Conn`].

mod connections;
pub(crate) mod idempotency;
mod owner;
mod probe;
mod refusals;
mod shares;
mod standing;
mod threads;
mod tx;
mod wake;
mod writer;

use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use connections::{Connections, Current, Plan};
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};
use idempotency::MetKeys;
use probe::LastProbe;
use refusals::{Admission, RefusalCounts};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wake::Wakeups;
use writer::Size;

use crate::clock::Timestamp;
use crate::db::{self, Conn, ConnectionManager, DatabaseUrl, Pooled, Standing, file_moved, log_lost, no_connection};
use crate::error::Error;
use crate::journal::{Appended, Event, Heads};
use crate::metrics::Metrics;
use crate::telemetry::{TraceContext, Tracer};

pub(crate) use connections::{Answers, MOST_GIVEN_UP, Replaceable};
pub(crate) use idempotency::{IdempotencyKey, Replayed};
pub(crate) use owner::{Owner, Recorded};
pub(crate) use standing::{ClientStanding, Judged};
pub(crate) use threads::Threads;
pub(crate) use tx::Tx;
pub(crate) use wake::{Wakes, Worker};

/// Time-out for a connection or a writer, after which the caller gets `unavailable`.
pub(crate) const POOL_TIMEOUT: Duration = Duration::from_millis(500);

/// Time-out of the database's answer. Its server may hang while its connections live: then no time-out of its own helps.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Time-out for the turn of a large read: its callers are few and patient.
const LARGE_READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Share of the connections for reads that large ones may hold.
const LARGE_READERS: usize = 4;

/// Longest round trip to a database that stands near: two transactions at a time keep it busy.
const NEAR: Duration = Duration::from_millis(1);

/// Concurrent reads for each core with SQLite: its connections share locks, so more would only wait for each other.
const SQLITE_READERS: usize = 3;

/// Time-out of the pool's first connection.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Adds what follows from audit events, in the transaction that appends them. The heads of the audit logs are locked by
/// then, so an observer only reads and inserts.
pub(crate) type Observer = fn(&mut Conn, &Appended<'_>, &mut Wakes) -> Result<(), Error>;

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file of the embedded database cannot be created.
    #[error("cannot create the file of the database: {0}")]
    Folder(#[from] std::io::Error),
    /// The first connection failed.
    #[error("cannot connect to the database: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The pool did not start.
    #[error("cannot start the connection pool: {0}")]
    Pool(#[from] diesel::r2d2::PoolError),
    /// A thread of the store did not start.
    #[error("cannot start a thread for the database: {0}")]
    Thread(std::io::Error),
    /// A migration failed.
    #[error("cannot migrate the database: {0}")]
    Migrate(Box<dyn std::error::Error + Send + Sync>),
    /// The database lacks migrations, and is not to be migrated now.
    #[error(
        "the database lacks migrations ({}): run `magic-link migrate`, which `migrate_at_start = false` leaves to you",
        .0.join(", ")
    )]
    NotMigrated(Vec<String>),
    /// A later version of the program has changed the database.
    #[error(
        "the database is newer than this version of the program: it has migrations that this one cannot work beside \
         ({}); start the version that applied them, or a later one",
        .0.join(", ")
    )]
    Newer(Vec<String>),
    /// The database is not whole.
    #[error(
        "the database lacks triggers without which nothing that takes access away is seen, or they are switched off ({}): \
         restore the backup as a whole, in one transaction",
        .0.join(", ")
    )]
    Incomplete(Vec<String>),
}

/// How a store is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    /// Largest number of connections, that of the access reader included.
    pub connections: u32,
    /// Largest number of write jobs that share a commit.
    pub max_batch: u32,
    /// Whether pending migrations are applied.
    pub migrate: bool,
}

/// The store. Cheap to clone; all clones share its connections.
#[derive(Clone)]
pub struct Store {
    current: Arc<Current>,
    wakeups: Arc<Wakeups>,
    refusals: Arc<RefusalCounts>,
    metrics: Metrics,
    written: Arc<LastProbe>,
    met_keys: Arc<MetKeys>,
}

impl Store {
    /// Opens the store and runs pending migrations.
    ///
    /// # Errors
    /// [`OpenError`] when the database cannot be reached or migrated, or is of another version.
    pub(crate) fn open(
        url: &DatabaseUrl,
        Opening { connections, max_batch, migrate }: Opening,
        observers: &'static [Observer],
        metrics: &Metrics,
        tracer: &Tracer,
    ) -> Result<Self, OpenError> {
        let manager = ConnectionManager::new(url.clone());
        let alone = manager.prepare()?;
        // On one connection before the pool opens, so that no other one sees a partial schema.
        let mut first = manager.connect()?;
        drop(bring_up_to_date(&mut first.conn, migrate)?);
        let round_trip = first.conn.round_trip().map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        drop((first, alone));
        let writers = match url {
            // Without batches, each write job has its own transaction; at a distance a batch waits for each statement.
            DatabaseUrl::Postgres(_) if max_batch == 1 || round_trip > NEAR => (connections / 2).max(1),
            DatabaseUrl::Postgres(_) if connections >= 6 => 2,
            // SQLite has one writer.
            DatabaseUrl::Postgres(_) | DatabaseUrl::Sqlite(_) => 1,
        };
        tracing::debug!(?round_trip, writers, "database opened");
        // Each writer needs a connection, too.
        let rest = usize::try_from(connections.saturating_sub(1 + writers)).unwrap_or(1).max(1);
        let readers = match url {
            DatabaseUrl::Sqlite(_) => rest.min(SQLITE_READERS * available_parallelism().map_or(1, usize::from)),
            DatabaseUrl::Postgres(_) => rest,
        };
        let (wakeups, refusals) = (Arc::new(Wakeups::default()), Arc::new(RefusalCounts::default()));
        let after = writer::Afterwards {
            observers,
            wakeups: Arc::clone(&wakeups),
            refusals: Arc::clone(&refusals),
            metrics: metrics.clone(),
            tracer: tracer.clone(),
            system: if url.is_sqlite() { "sqlite" } else { "postgresql" },
            heads: Heads::default(),
        };
        let max_batch = usize::try_from(max_batch).unwrap_or(writer::MAX_BATCH);
        // One connection is the access reader's.
        let plan = Plan { manager, connections: connections - 1, writers, readers, max_batch, after };
        let opened = Connections::open(&plan).map_err(OpenError::Thread)?;
        // A caller would wait for `POOL_TIMEOUT` only.
        for pool in opened.pools() {
            drop(pool.get_timeout(START_TIMEOUT)?);
        }
        Ok(Self {
            current: Arc::new(Current::new(plan, opened)),
            wakeups,
            refusals,
            metrics: metrics.clone(),
            written: Arc::new(LastProbe::default()),
            met_keys: Arc::default(),
        })
    }

    /// What opens connections to the same database, for another pool.
    pub(crate) fn connection_manager(&self) -> &ConnectionManager {
        self.current.manager()
    }

    /// Number of connections, and of idle ones.
    pub(crate) fn connections(&self) -> (u32, u32) {
        self.current
            .get()
            .pools()
            .map(Pool::state)
            .fold((0, 0), |(all, idle), state| (all + state.connections, idle + state.idle_connections))
    }

    /// How long the oldest transaction of the writers takes so far.
    pub(crate) fn oldest_write(&self) -> Option<Duration> {
        self.current.get().writers.oldest()
    }

    /// Wakes a worker for what was committed before.
    pub(crate) fn wake(&self, worker: Worker) {
        self.wakeups.of(worker).notify_one();
    }

    /// Waits until a worker is woken.
    pub(crate) async fn wanted(&self, worker: Worker) {
        self.wakeups.of(worker).notified().await;
    }

    /// Runs queries that change nothing: for one owner on half of the connections for reads at most, so that whoever asks
    /// much, or for much, waits for themselves.
    ///
    /// # Errors
    /// What `work` returns, or `unavailable` when no connection was free within `POOL_TIMEOUT`, or no answer came within
    /// `ANSWER_TIMEOUT`. The thread and its connection are free again when the database continues.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        let set = self.current.get();
        let own = set.shares.take(&Owner::current(), POOL_TIMEOUT).await?;
        self.read_through(&set, own, work).await
    }

    /// `held` is free again when the query has ended, which may outlive its caller.
    async fn read_through<T, F, H>(&self, set: &Arc<Connections>, held: H, work: F) -> Result<T, Error>
    where
        H: Send + 'static,
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        let permit = acquire(&set.reads, POOL_TIMEOUT).await?;
        let read = on_a_thread(set.pool.clone(), (permit, held), move |pooled| discard_if_broken(pooled, work));
        let outcome = self.current.watch(set, read).await;
        outcome.inspect_err(|error| self.metrics.failed(error))
    }

    /// The same for what a request with a body only reads: its client is judged again after that, as where it writes.
    ///
    /// # Errors
    /// As [`Store::read`], and what the client is refused by now.
    pub(crate) async fn read_judged<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        self.read(judged(Owner::standing(), work)).await
    }

    /// The same for queries that may read many rows: at most a quarter of the connections for reads do so at once, so
    /// that short reads need not wait for them, and no owner has more than half of those.
    ///
    /// # Errors
    /// As [`Store::read`]; `unavailable` also when its turn did not come within `LARGE_READ_TIMEOUT`.
    pub async fn read_large<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        self.read_large_of((&Owner::current(), None), work).await
    }

    /// The same for somebody in particular, where an answer is written when its request is over: a client is judged again
    /// after each piece of it, because the reader decides how long it takes.
    ///
    /// # Errors
    /// As [`Store::read_large`], and what the client is refused by now.
    pub(crate) async fn read_large_of<T, F>(
        &self,
        (owner, standing): (&Owner, Option<&ClientStanding>),
        work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        let set = self.current.get();
        let own = set.large_shares.take(owner, LARGE_READ_TIMEOUT).await?;
        let turn = acquire(&set.large_reads, LARGE_READ_TIMEOUT).await?;
        self.read_through(&set, (turn, own), judged(standing.cloned(), work)).await
    }

    /// Runs a write job in a transaction, possibly with other jobs, and appends the audit events that it recorded.
    ///
    /// An error from `work` undoes its changes. `work` may run again, when it or its transaction lost a race, so it
    /// must change nothing but its argument.
    ///
    /// # Errors
    /// What `work` returns, or `unavailable` when the store cannot be reached or the outcome of the commit is unknown.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.write_as(Size::Small, Owner::standing(), work).await
    }

    /// The same for a job that may touch many rows: it has a transaction of its own.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub async fn write_large<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.write_as(Size::Large, Owner::standing(), work).await
    }

    /// Runs one statement, which is a transaction by itself, for the service.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) async fn write_statement<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        self.write_as(Size::Statement, None, move |tx| work(tx)).await
    }

    async fn write_as<T, F>(&self, size: Size, standing: Option<ClientStanding>, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let set = self.current.get();
        // At once: a job may be large, and would be part of each future that waits for it.
        let queued = set.writers.queue(size, standing, work)?;
        self.current.watch(&set, set.writers.answer(queued)).await
    }

    /// Records audit events without any other change.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) async fn record(&self, events: Vec<Event>) -> Result<(), Error> {
        self.write(move |tx| {
            events.iter().cloned().for_each(|event| tx.record(event));
            Ok(())
        })
        .await
    }

    /// Whether this process has met the idempotency key before: the request may be a repeat.
    pub(crate) fn has_met(&self, key: &IdempotencyKey) -> bool {
        self.met_keys.meet(key)
    }

    /// Records the refusal of an authenticated client. Many equal refusals a minute become one event with a count.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) async fn record_refusal(&self, refusal: Event) -> Result<(), Error> {
        self.record_admitted(self.refusals.admit(vec![refusal.in_trace(TraceContext::current())])).await
    }

    /// Records the counts of equal refusals that were begun at least `age` ago.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub(crate) async fn record_refusal_counts(&self, age: time::Duration, now: Timestamp) -> Result<(), Error> {
        self.record_admitted(self.refusals.take(age, now)).await
    }

    async fn record_admitted(&self, admission: Admission<'_>) -> Result<(), Error> {
        if admission.events.is_empty() {
            admission.recorded();
            return Ok(());
        }
        let events = admission.events.clone();
        // As they are: a count belongs to no request's trace. Whoever was refused asks for nothing, and is not judged again.
        self.write_as(Size::Small, None, move |tx| {
            tx.events.extend(events.iter().cloned());
            Ok(())
        })
        .await?;
        admission.recorded();
        Ok(())
    }
}

/// Runs work on a thread at once, and waits for its answer.
#[expect(clippy::disallowed_methods, reason = "this is the function that all other code must use")]
fn on_a_thread<T, F, P>(
    pool: Pool<ConnectionManager>,
    permits: P,
    work: F,
) -> impl Future<Output = Result<T, Error>> + use<T, F, P>
where
    P: Send + 'static,
    T: Send + 'static,
    F: FnOnce(&mut PooledConnection<ConnectionManager>) -> Result<T, Error> + Send + 'static,
{
    let trace = TraceContext::current();
    let reading = tokio::task::spawn_blocking(move || {
        let outcome = TraceContext::scope_of(trace, || check_out(&pool).and_then(|mut pooled| work(&mut pooled)));
        drop(permits);
        outcome
    });
    within(ANSWER_TIMEOUT, async {
        reading.await.map_err(|panic| Error::internal(format_args!("query panicked: {panic}")))?
    })
}

/// Waits for an answer of the database, but not for ever.
///
/// # Errors
/// `unavailable` when it takes longer than `limit`.
pub(crate) async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
        tracing::warn!("the database did not answer in time");
        Err(Error::unavailable())
    })
}

/// Waits for a permit, but not for ever.
/// The same work for a client that is judged again after it.
fn judged<T>(
    standing: Option<ClientStanding>,
    work: impl FnOnce(&mut Conn) -> Result<T, Error>,
) -> impl FnOnce(&mut Conn) -> Result<T, Error> {
    move |conn| {
        let outcome = work(conn);
        standing.map_or(Ok(()), |standing| standing.judge(conn)).and(outcome)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, limit: Duration) -> Result<OwnedSemaphorePermit, Error> {
    match tokio::time::timeout(limit, Arc::clone(semaphore).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(closed)) => Err(Error::internal(closed)),
        Err(_elapsed) => {
            tracing::warn!("no database connection was free in time");
            Err(Error::unavailable())
        }
    }
}

/// Applies pending migrations, unless that is left to somebody else; returns their names.
///
/// Where nothing is pending nothing is locked or written: the role of a service need not own its tables.
pub(crate) fn bring_up_to_date(conn: &mut Conn, migrate: bool) -> Result<Vec<String>, OpenError> {
    let found = db::difference(conn).map_err(|error| OpenError::Migrate(error.into()))?;
    if !found.unknown.is_empty() {
        return Err(OpenError::Newer(found.unknown));
    }
    if !found.missing.is_empty() {
        return Err(OpenError::Incomplete(found.missing));
    }
    if found.pending.is_empty() {
        return Ok(Vec::new());
    }
    if !migrate {
        return Err(OpenError::NotMigrated(found.pending));
    }
    db::migrate(conn).map_err(OpenError::Migrate)
}

/// A pool that opens connections on demand, one ahead of it, and tests none before use until one has broken.
pub(crate) fn pool_of(connections: u32) -> diesel::r2d2::Builder<ConnectionManager> {
    let pool = Pool::builder().max_size(connections).min_idle(Some(1));
    pool.test_on_check_out(false).connection_timeout(POOL_TIMEOUT)
}

/// A connection to the database as it is now: one to a file that was replaced is discarded, and one that died since
/// another was seen to break. Nothing works where the write-ahead log is gone, or the file without it.
pub(crate) fn check_out(pool: &Pool<ConnectionManager>) -> Result<PooledConnection<ConnectionManager>, Error> {
    for _ in 0..=pool.max_size() {
        let mut pooled = pool.get().map_err(|error| no_connection(&error))?;
        match pooled.standing() {
            Standing::Current if pooled.works() => return Ok(pooled),
            Standing::Current => {}
            Standing::Replaced => tracing::warn!("the file of the database was replaced; opening it anew"),
            // They are kept: who opens another one beside them reads what never was, or destroys what was committed.
            Standing::LogLost => return Err(log_lost()),
            Standing::Moved => return Err(file_moved()),
        }
        pooled.broken = true;
    }
    Err(Error::unavailable())
}

/// Discards a connection after a failure that may have broken it, because it is not tested at check-out.
pub(crate) fn discard_if_broken<T>(
    pooled: &mut Pooled,
    work: impl FnOnce(&mut Conn) -> Result<T, Error>,
) -> Result<T, Error> {
    let outcome = work(&mut pooled.conn);
    if let Err(error) = &outcome {
        pooled.broken = error.code().status() >= 500;
    }
    outcome
}
