//! The doorway to the store: everything that knows there are two databases.
//!
//! [`Db::read`] and [`Db::write`] are the only ways in. A verb hands them a
//! closure; store functions inside it are one statement each and take [`Conn`].

mod batch;
mod coalescer;
mod connection;
mod idempotency;
mod lock;
mod migrations;
pub(crate) mod schema;
mod state;
mod text_enum;
mod writer;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use diesel::r2d2::{Pool, PooledConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::{ClientId, SessionId};
use crate::metrics::Metrics;
use crate::telemetry::TraceId;

pub(crate) use batch::insert_all;
pub use connection::{Backend, Conn, DatabaseUrl};
pub(crate) use idempotency::{Claim, IdempotencyKey, REMEMBERED, claim, forget_before, once, remember};
pub(crate) use lock::{
    lock_client, lock_consultant, lock_consultant_for_change, lock_log, lock_session, lock_signing_keys,
    oldest_transaction, transaction_number,
};
pub(crate) use state::{LiveClient, LiveSession, State};
pub(crate) use text_enum::text_enum;

use coalescer::Gauges;
use connection::{Manager, Pooled};
use state::StateReader;
use writer::{Size, Writers};

/// How long a caller waits for a connection before it is told to come back.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a caller waits for a shared answer, its query included.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// So many read SQLite at once for each core. Its connections share locks, and more of them only wait for each other.
const SQLITE_READERS: usize = 3;

/// How long the first connection of the pool may take.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder of the embedded database cannot be made.
    #[error("cannot make the folder of the database: {0}")]
    Folder(#[from] std::io::Error),
    /// No connection.
    #[error("cannot connect to the database: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The pool did not start.
    #[error("cannot start the connection pool: {0}")]
    Pool(#[from] diesel::r2d2::PoolError),
    /// A thread of the store's own did not start.
    #[error("cannot start a thread for the database: {0}")]
    Thread(std::io::Error),
    /// A migration failed.
    #[error("cannot migrate the database: {0}")]
    Migrate(Box<dyn std::error::Error + Send + Sync>),
}

/// The store. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Db {
    pool: Pool<Manager>,
    /// One permit a connection: who holds one finds a connection without waiting on a thread.
    connections: Arc<Semaphore>,
    writers: Arc<Writers>,
    /// Answers what every request asks; it has a connection to itself.
    state: Arc<StateReader>,
}

/// An act within its transaction: a connection, and the audit events that will be committed with it.
pub struct Tx<'c> {
    conn: &'c mut Conn,
    events: Vec<audit::Event>,
    earlier: &'c [audit::Event],
}

impl Tx<'_> {
    /// Takes an event down; it is written last, just before the commit.
    pub(crate) fn record(&mut self, event: audit::Event) {
        self.events.push(event.in_trace(TraceId::current()));
    }

    /// Events of acts that share the transaction and came before: they are in no table yet.
    pub(crate) const fn recorded_before(&self) -> &[audit::Event] {
        self.earlier
    }
}

impl Deref for Tx<'_> {
    type Target = Conn;

    fn deref(&self) -> &Conn {
        self.conn
    }
}

impl DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Conn {
        self.conn
    }
}

impl Db {
    /// Opens the store and brings its tables up to date.
    ///
    /// # Errors
    /// [`OpenError`] when the database cannot be reached or migrated.
    pub(crate) fn open(
        url: &DatabaseUrl,
        connections: u32,
        most_together: u32,
        metrics: &Metrics,
    ) -> Result<Self, OpenError> {
        let manager = Manager::new(url.clone());
        manager.prepare()?;
        // On one connection before the pool opens, so that nobody meets half a schema.
        let mut first = manager.open()?;
        migrations::run(&mut first).map_err(OpenError::Migrate)?;
        drop(first);
        let pool_of =
            |connections| Pool::builder().max_size(connections).test_on_check_out(false).connection_timeout(PATIENCE);
        let pool = pool_of(connections - 1).build_unchecked(manager);
        // The reader of the state has a connection of its own, which nothing but a failure ends: what was read through
        // it holds only for the server that answered.
        let hot = pool_of(1).max_lifetime(None).idle_timeout(None);
        let hot = hot.build_unchecked(Manager::by_primary_keys(url.clone()));
        // `build` would want every connection within the patience of a caller. One is enough to begin with.
        drop(pool.get_timeout(START_PATIENCE)?);
        let gauges = Gauges { waiting: metrics.reader_queue.clone(), shared: metrics.read_batch.clone() };
        let state = StateReader::start(hot, gauges).map_err(OpenError::Thread)?;
        let gauges = writer::Gauges {
            waiting: metrics.writer_queue.clone(),
            shared: metrics.write_batch.clone(),
            events: metrics.events.clone(),
            marked_acts: metrics.marked_acts.clone(),
        };
        let writers = match (url, most_together) {
            // Without company an act needs a transaction for itself.
            (DatabaseUrl::Postgres(_), 1) => (connections / 2).max(1),
            (DatabaseUrl::Postgres(_), _) if connections >= 6 => 2,
            // SQLite has one writer.
            _ => 1,
        };
        let most_together = usize::try_from(most_together).unwrap_or(writer::MOST);
        let started = Writers::start(&pool, writers, most_together, gauges).map_err(OpenError::Thread)?;
        // Each transaction has a connection of its own, too.
        let rest = usize::try_from(connections.saturating_sub(1 + writers)).unwrap_or(1).max(1);
        let readers = match url {
            DatabaseUrl::Sqlite(_) => rest.min(SQLITE_READERS * available_parallelism().map_or(1, usize::from)),
            DatabaseUrl::Postgres(_) => rest,
        };
        Ok(Self {
            pool,
            connections: Arc::new(Semaphore::new(readers)),
            writers: Arc::new(started),
            state: Arc::new(state),
        })
    }

    /// How many connections there are, and how many are idle.
    pub(crate) fn pool_state(&self) -> diesel::r2d2::State {
        self.pool.state()
    }

    /// What the store says of a client and a session at this moment; callers share the query.
    ///
    /// # Errors
    /// `unavailable` when the store cannot be asked.
    pub(crate) fn state(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> impl Future<Output = Result<State, Error>> {
        self.state.ask(client, session, now)
    }

    /// Runs queries that change nothing.
    ///
    /// # Errors
    /// What `work` returns, or `unavailable` when no connection came free in half a second.
    pub async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut Conn) -> Result<T, Error> + Send + 'static,
    {
        let permit = acquire(&self.connections).await?;
        self.on_a_thread(permit, move |pooled| keeping_watch(pooled, work)).await
    }

    /// Runs an act in a transaction, perhaps beside others, and with it writes the audit events it recorded.
    ///
    /// An error from `work` undoes everything it did. `work` may run again when it
    /// lost a race or its transaction did, so it touches nothing but its argument.
    ///
    /// # Errors
    /// What `work` returns, or `unavailable` when the store is out of reach or
    /// did not say whether the commit holds.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.writers.write(Size::Small, work).await
    }

    /// The same for an act that may touch many rows: it shares its transaction with nobody.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_large<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        self.writers.write(Size::Large, work).await
    }

    /// Puts on record what happened without changing anything else.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub(crate) async fn record(&self, events: Vec<audit::Event>) -> Result<(), Error> {
        self.write(move |tx| {
            events.iter().cloned().for_each(|event| tx.record(event));
            Ok(())
        })
        .await
    }

    #[expect(clippy::disallowed_methods, reason = "this is the doorway that everybody else must use")]
    async fn on_a_thread<T, F>(&self, permit: OwnedSemaphorePermit, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut PooledConnection<Manager>) -> Result<T, Error> + Send + 'static,
    {
        let pool = self.pool.clone();
        let trace_id = TraceId::current();
        tokio::task::spawn_blocking(move || {
            let outcome = TraceId::scope_of(trace_id, || {
                let pooled = pool.get().map_err(|error| {
                    tracing::warn!(error.cause = %error, "no database connection");
                    Error::unavailable()
                });
                pooled.and_then(|mut pooled| work(&mut pooled))
            });
            drop(permit);
            outcome
        })
        .await
        .map_err(|panic| Error::internal(format_args!("a query panicked: {panic}")))?
    }
}

/// Waits for a turn, but not for long.
async fn acquire(semaphore: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Error> {
    match tokio::time::timeout(PATIENCE, Arc::clone(semaphore).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(closed)) => Err(Error::internal(closed)),
        Err(_elapsed) => {
            tracing::warn!("no database connection came free in time");
            Err(Error::unavailable())
        }
    }
}

/// Throws a connection away after a failure that may have broken it: it is not tested at check-out.
fn keeping_watch<T>(pooled: &mut Pooled, work: impl FnOnce(&mut Conn) -> Result<T, Error>) -> Result<T, Error> {
    let outcome = work(&mut pooled.conn);
    if let Err(error) = &outcome {
        pooled.broken = error.code().status() >= 500;
    }
    outcome
}
