//! The connections of a store, and the threads that write through them: a set of them is given up as a whole where the
//! database hangs.
//!
//! The server of a connection may hang, or have been replaced by another one, while its kernel keeps the connection
//! alive: no time-out of the database's own helps, and no thread that waits for it can be woken. So what waits is left
//! behind, and another set of connections is opened.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use diesel::r2d2::{Builder, Pool};
use tokio::sync::Semaphore;

use super::shares::Shares;
use super::writer::{Afterwards, Writers};
use super::{LARGE_READERS, pool_of};
use crate::db::ConnectionManager;
use crate::error::{Code, Error};

/// Time without any answer after which connections are given up. Workers ask several times a second.
pub(crate) const SILENCE: Duration = Duration::from_secs(8);

/// Sets that are given up at a time: a database that hangs for long must not be held by ever more threads.
pub(crate) const MOST_GIVEN_UP: usize = 3;

/// When the database answered last.
#[derive(Debug)]
pub(crate) struct Answers {
    since: Instant,
    /// Milliseconds from then on.
    last: AtomicU64,
}

impl Answers {
    /// It begins with an answer.
    pub(crate) fn begin() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0) }
    }

    /// There was one just now.
    pub(crate) fn note(&self) {
        self.last.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Whether there has been none for a while.
    pub(crate) fn are_missing(&self) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        u128::from(self.elapsed().saturating_sub(last)) >= SILENCE.as_millis()
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Pools whose connections hang.
#[derive(Debug, Default)]
struct GivenUp(Mutex<Vec<Pool<ConnectionManager>>>);

impl GivenUp {
    /// Whether one more may be given up; it is then remembered until none of its connections is in use.
    fn take(&self, pool: &Pool<ConnectionManager>) -> bool {
        let mut pools = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| {
            let state = pool.state();
            state.connections > state.idle_connections
        });
        let may = pools.len() < MOST_GIVEN_UP;
        if may {
            tracing::warn!("the database does not answer: its connections are given up, and others are opened");
            pools.push(pool.clone());
        }
        may
    }
}

/// What uses connections, and is given up with them where the database hangs.
#[derive(Debug)]
pub(crate) struct Replaceable<T> {
    current: RwLock<Arc<T>>,
    given_up: GivenUp,
}

impl<T> Replaceable<T> {
    pub(crate) fn new(first: T) -> Self {
        Self { current: RwLock::new(Arc::new(first)), given_up: GivenUp::default() }
    }

    /// The one that is in use.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another one in the place of one whose connections hang, unless somebody has by now.
    pub(crate) fn give_up(
        &self,
        hung: &Arc<T>,
        pool: &Pool<ConnectionManager>,
        open: impl FnOnce() -> io::Result<T>,
        abandon: impl FnOnce(&T),
    ) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, hung) || !self.given_up.take(pool) {
            return;
        }
        match open() {
            Ok(fresh) => {
                abandon(hung);
                *current = Arc::new(fresh);
            }
            Err(error) => tracing::warn!(error.cause = %error, "no threads for other connections"),
        }
    }
}

/// How a set is opened.
pub(super) struct Plan {
    pub manager: ConnectionManager,
    pub connections: u32,
    pub writers: u32,
    pub readers: usize,
    pub max_batch: usize,
    pub after: Afterwards,
}

/// A set of connections, and who uses them.
pub(super) struct Connections {
    pub pool: Pool<ConnectionManager>,
    /// The one connection of SQLite's writers.
    writing: Option<Pool<ConnectionManager>>,
    /// One permit per connection for reads: its holder gets a connection without blocking a thread.
    pub reads: Arc<Semaphore>,
    /// One permit per connection that large reads may hold at once: the others stay free for short ones.
    pub large_reads: Arc<Semaphore>,
    /// What one owner may have of the reads.
    pub shares: Shares,
    /// What one owner may have of the large ones.
    pub large_shares: Shares,
    pub writers: Writers,
    answers: Answers,
}

impl Connections {
    pub(super) fn open(plan: &Plan) -> io::Result<Self> {
        let large_readers = (plan.readers / LARGE_READERS).max(1);
        // SQLite drops all pages that a connection has cached when another one has written.
        let writing = plan.manager.is_sqlite().then(|| pool_of(1).max_lifetime(None).idle_timeout(None));
        let others = plan.connections - u32::from(writing.is_some());
        let built = |pool: Builder<ConnectionManager>| pool.build_unchecked(plan.manager.for_another_pool());
        let (pool, writing) = (built(pool_of(others.max(1))), writing.map(built));
        Ok(Self {
            writers: Writers::start(
                writing.as_ref().unwrap_or(&pool),
                plan.writers,
                plan.max_batch,
                plan.after.anew(),
            )?,
            pool,
            writing,
            reads: Arc::new(Semaphore::new(plan.readers)),
            large_reads: Arc::new(Semaphore::new(large_readers)),
            shares: Shares::half_of(plan.readers),
            large_shares: Shares::half_of(large_readers),
            answers: Answers::begin(),
        })
    }

    /// All pools, each once.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool<ConnectionManager>> {
        std::iter::once(&self.pool).chain(&self.writing)
    }
}

/// The set that is in use.
pub(super) struct Current {
    plan: Plan,
    set: Replaceable<Connections>,
}

impl Current {
    pub(super) fn new(plan: Plan, first: Connections) -> Self {
        Self { plan, set: Replaceable::new(first) }
    }

    pub(super) fn get(&self) -> Arc<Connections> {
        self.set.get()
    }

    pub(super) const fn manager(&self) -> &ConnectionManager {
        &self.plan.manager
    }

    /// Waits for an answer through a set, and gives the set up where none comes to anybody.
    pub(super) async fn watch<T>(
        &self,
        set: &Arc<Connections>,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut answer = pin!(answer);
        if let Ok(outcome) = tokio::time::timeout(SILENCE, &mut answer).await {
            // Whoever got no connection has not been answered.
            if !outcome.as_ref().is_err_and(|error| error.code() == Code::Unavailable) {
                set.answers.note();
            }
            return outcome;
        }
        if set.answers.are_missing() && !self.plan.manager.is_sqlite() {
            self.set.give_up(set, &set.pool, || Connections::open(&self.plan), |hung| hung.writers.abandon());
        }
        answer.await
    }
}
