//! The doorway to the store: everything that knows there are two databases.
//!
//! [`Db::read`] and [`Db::write`] are the only ways in. A verb hands them a
//! closure; store functions inside it are one statement each and take [`Conn`].

mod batch;
mod connection;
mod idempotency;
mod lock;
mod migrations;
pub(crate) mod schema;
mod text_enum;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use diesel::r2d2::{Pool, PooledConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::audit;
use crate::error::Error;
use crate::telemetry;

pub(crate) use batch::insert_all;
pub use connection::{Backend, Conn, DatabaseUrl};
pub(crate) use idempotency::{Claim, IdempotencyKey, REMEMBERED, claim, forget_before, once, remember};
pub(crate) use lock::{lock_consultant, lock_consultant_for_change, lock_log, lock_session, lock_signing_keys};
pub(crate) use text_enum::text_enum;

use connection::{Manager, Pooled};

/// How long a caller waits for a connection before it is told to come back.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long the first connection of the pool may take.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// How often a transaction that lost against another is run again.
const ATTEMPTS: usize = 5;

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
    /// SQLite has one writer; queueing for it here is fair and costs no thread.
    writer: Option<Arc<Semaphore>>,
}

/// A transaction: a connection, and the audit events that will be committed with it.
pub struct Tx<'c> {
    conn: &'c mut Conn,
    events: Vec<audit::Event>,
}

impl Tx<'_> {
    /// Takes an event down; it is written last, just before the commit.
    pub(crate) fn record(&mut self, event: audit::Event) {
        self.events.push(event);
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
    pub fn open(url: &DatabaseUrl, connections: u32) -> Result<Self, OpenError> {
        let manager = Manager::new(url.clone());
        manager.prepare()?;
        // On one connection before the pool opens, so that nobody meets half a schema.
        let mut first = manager.open()?;
        migrations::run(&mut first).map_err(OpenError::Migrate)?;
        drop(first);
        let pool = Pool::builder()
            .max_size(connections)
            .test_on_check_out(false)
            .connection_timeout(PATIENCE)
            .build_unchecked(manager);
        // `build` would want every connection within the patience of a caller. One is enough to begin with.
        drop(pool.get_timeout(START_PATIENCE)?);
        let connections = usize::try_from(connections).unwrap_or(1);
        Ok(Self {
            pool,
            connections: Arc::new(Semaphore::new(connections)),
            writer: url.is_sqlite().then(|| Arc::new(Semaphore::new(1))),
        })
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
        self.on_a_thread(permit, None, move |pooled| keeping_watch(pooled, work)).await
    }

    /// Runs one transaction, and with it writes the audit events it recorded.
    ///
    /// An error from `work` undoes everything. `work` may run again when the
    /// transaction lost against another, so it touches nothing but its argument.
    ///
    /// # Errors
    /// What `work` returns, or `unavailable` when the store is out of reach or
    /// did not say whether the commit holds.
    pub async fn write<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let turn = match &self.writer {
            Some(writer) => Some(acquire(writer).await?),
            None => None,
        };
        let permit = acquire(&self.connections).await?;
        let trace_id = telemetry::trace_id();
        self.on_a_thread(permit, turn, move |pooled| {
            keeping_watch(pooled, |conn| {
                let mut attempt = 1;
                loop {
                    match transact(conn, trace_id.as_deref(), &work) {
                        Err(error) if error.lost_a_race() && attempt < ATTEMPTS => {
                            tracing::debug!(attempt, "the transaction lost a race; running it again");
                            attempt += 1;
                        }
                        outcome => return outcome,
                    }
                }
            })
        })
        .await
    }

    #[expect(clippy::disallowed_methods, reason = "this is the doorway that everybody else must use")]
    async fn on_a_thread<T, F>(
        &self,
        permit: OwnedSemaphorePermit,
        turn: Option<OwnedSemaphorePermit>,
        work: F,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&mut PooledConnection<Manager>) -> Result<T, Error> + Send + 'static,
    {
        let pool = self.pool.clone();
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _entered = span.entered();
            let outcome = pool
                .get()
                .map_err(|error| {
                    tracing::warn!(error.cause = %error, "no database connection");
                    Error::unavailable()
                })
                .and_then(|mut pooled| work(&mut pooled));
            drop((permit, turn));
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

fn transact<T>(
    conn: &mut Conn,
    trace_id: Option<&str>,
    work: impl Fn(&mut Tx<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    conn.begin()?;
    let mut tx = Tx { conn, events: Vec::new() };
    let outcome = work(&mut tx).and_then(|done| {
        let Tx { conn, events } = &mut tx;
        audit::append(conn, events, trace_id)?;
        conn.commit()?;
        Ok(done)
    });
    if let Err(refused) = &outcome
        && let Err(error) = conn.rollback()
        && refused.code().status() < 500
    {
        // As a failure of ours it also keeps the connection from being used again.
        return Err(Error::internal(format_args!("cannot roll back: {error}")));
    }
    outcome
}
