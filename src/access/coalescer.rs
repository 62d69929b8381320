//! A coalescing reader: callers that wait at the same time share one query.
//!
//! The query begins after each of its callers has queued, so no answer is stale;
//! a caller that comes while it runs waits for the next one. A lone caller is
//! served at once.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use diesel::QueryResult;
use diesel::r2d2::Pool;
use prometheus::{Histogram, IntGauge};
use tokio::sync::oneshot;

use crate::db::{Conn, ConnectionManager};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{Threads, check_out, discard_if_broken, within};

/// Time-out of a caller, its query included.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest number of callers that share a query.
const MAX_BATCH: usize = 512;

/// Number of waiting callers from which on those that have stopped waiting are looked for.
const MAX_WAITING: usize = 4 * MAX_BATCH;

/// Longest time that a query waits for more callers, if the one before had several.
const BATCH_WINDOW: Duration = Duration::from_millis(1);

/// Largest number of callers that a query waits for: more would hardly make it cheaper for each.
const TARGET_BATCH: usize = 32;

/// Answers queries together, one answer each, in their order. It may keep state.
pub(crate) trait Query<Q, A>: FnMut(&mut Conn, &[Q]) -> QueryResult<Vec<A>> + Send + 'static {}

impl<Q, A, F: FnMut(&mut Conn, &[Q]) -> QueryResult<Vec<A>> + Send + 'static> Query<Q, A> for F {}

/// Metrics of a reader.
#[derive(Clone)]
pub(crate) struct Gauges {
    /// Counts failures.
    pub metrics: Metrics,
    /// Callers left waiting when the last query began.
    pub waiting: IntGauge,
    /// Number of callers that shared a query.
    pub shared: Histogram,
}

/// A query, and the channel to its caller.
type PendingQuery<Q, A> = (Q, oneshot::Sender<Result<A, Error>>);

struct Queue<Q, A> {
    asked: Vec<PendingQuery<Q, A>>,
    /// The reader sleeps until this number of callers wait.
    wanted: usize,
    closed: bool,
}

struct Shared<Q, A> {
    queue: Mutex<Queue<Q, A>>,
    /// Wakes the reader: enough callers wait, or the queue was closed.
    wakeup: Condvar,
    gauges: Gauges,
}

/// A reader with its own thread.
pub(crate) struct Coalescer<Q, A> {
    shared: Arc<Shared<Q, A>>,
    threads: Threads,
    /// Whether nobody waits for the thread.
    abandoned: AtomicBool,
}

impl<Q: Send + 'static, A: Send + 'static> Coalescer<Q, A> {
    /// Starts the reader.
    pub(crate) fn start(
        pool: Pool<ConnectionManager>,
        query: impl Query<Q, A>,
        gauges: Gauges,
    ) -> std::io::Result<Self> {
        let queue = Mutex::new(Queue { asked: Vec::new(), wanted: 1, closed: false });
        let shared = Arc::new(Shared { queue, wakeup: Condvar::new(), gauges });
        let reader = Arc::clone(&shared);
        let mut threads = Threads::new();
        threads.spawn("coalescing-reader".to_owned(), move || reader.run(&pool, query))?;
        Ok(Self { shared, threads, abandoned: AtomicBool::new(false) })
    }

    /// Leaves the thread alone, which the database holds.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
    }

    /// Queues at once, and waits for the answer of a query that has not begun yet.
    pub(crate) fn load(&self, query: Q) -> impl Future<Output = Result<A, Error>> + use<Q, A> {
        let (sender, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            if queue.asked.len() >= MAX_WAITING {
                // The database does not answer: those who have stopped waiting would pile up.
                queue.asked.retain(|(_, caller)| !caller.is_closed());
            }
            queue.asked.push((query, sender));
            // Only the caller that completes the number wakes the reader.
            if queue.asked.len() == queue.wanted {
                self.shared.wakeup.notify_one();
            }
        }
        within(ANSWER_TIMEOUT, async { answer.await.unwrap_or_else(|_nobody_answers| Err(Error::unavailable())) })
    }
}

impl<Q, A> Drop for Coalescer<Q, A> {
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wakeup.notify_one();
        if !self.abandoned.load(Ordering::SeqCst) {
            self.threads.finish();
        }
    }
}

impl<Q, A> Shared<Q, A> {
    fn run(&self, pool: &Pool<ConnectionManager>, mut query: impl Query<Q, A>) {
        let mut wanted = 1;
        while let Some(asked) = self.next(wanted) {
            self.gauges.shared.observe(u32::try_from(asked.len()).unwrap_or(u32::MAX).into());
            let (queries, callers): (Vec<Q>, Vec<_>) = asked.into_iter().unzip();
            let outcome = read(pool, &mut query, &queries);
            // Before the answers are sent: a caller may queue again at once.
            wanted = worth_waiting_for(wanted, callers.len(), self.queue().asked.len());
            match outcome {
                Ok(answers) => {
                    for (caller, answer) in callers.into_iter().zip(answers) {
                        // The caller may have stopped waiting.
                        drop(caller.send(Ok(answer)));
                    }
                }
                Err(error) => {
                    self.gauges.metrics.failed(&error);
                    for caller in callers {
                        drop(caller.send(Err(error.clone())));
                    }
                }
            }
        }
    }

    /// The next batch: as many callers as are wanted, or those that come within `BATCH_WINDOW`; `None` when the queue
    /// is closed and empty.
    fn next(&self, wanted: usize) -> Option<Vec<PendingQuery<Q, A>>> {
        let few = |queue: &mut Queue<Q, A>| queue.asked.len() < queue.wanted && !queue.closed;
        let mut queue = self.queue();
        if wanted > 1 {
            queue.wanted = wanted;
            (queue, _) =
                self.wakeup.wait_timeout_while(queue, BATCH_WINDOW, few).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.asked.is_empty() {
            // No other caller came: the next one is served at once.
            queue.wanted = 1;
            queue = self.wakeup.wait_while(queue, few).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.asked.is_empty() {
            return None;
        }
        let rest = if queue.asked.len() > MAX_BATCH { queue.asked.split_off(MAX_BATCH) } else { Vec::new() };
        self.gauges.waiting.set(i64::try_from(rest.len()).unwrap_or(i64::MAX));
        Some(std::mem::replace(&mut queue.asked, rest))
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Q, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Number of callers that the next query waits for, after `came` callers shared one that waited for `wanted`.
///
/// A query costs two thread switches and a round trip, however many callers share it. The number grows by one as long
/// as `others` came while the query ran, or more came than were waited for; it shrinks when fewer came in time.
fn worth_waiting_for(wanted: usize, came: usize, others: usize) -> usize {
    let next = if wanted == 1 {
        came
    } else if came < wanted {
        came * 7 / 8
    } else {
        wanted + usize::from(others > 0 || came > wanted)
    };
    next.clamp(1, TARGET_BATCH)
}

/// Runs the query for a batch. A panic is a failure of this batch, and does not stop the reader.
fn read<Q, A>(pool: &Pool<ConnectionManager>, query: &mut impl Query<Q, A>, queries: &[Q]) -> Result<Vec<A>, Error> {
    let mut pooled = check_out(pool)?;
    let attempt = std::panic::AssertUnwindSafe(|| discard_if_broken(&mut pooled, |conn| Ok(query(conn, queries)?)));
    let outcome = std::panic::catch_unwind(attempt);
    outcome.unwrap_or_else(|_panic| {
        pooled.broken = true;
        Err(Error::internal("coalescing reader panicked"))
    })
}

impl<Q, A> fmt::Debug for Coalescer<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Coalescer")
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use futures_util::future::join_all;

    use super::*;

    fn pool(folder: &tempfile::TempDir) -> Pool<ConnectionManager> {
        Pool::builder().max_size(2).build(ConnectionManager::of_new_file(folder.path().join("test.db"))).unwrap()
    }

    fn gauges() -> Gauges {
        let metrics = Metrics::new().unwrap();
        Gauges { waiting: metrics.reader_queue.clone(), shared: metrics.read_batch.clone(), metrics }
    }

    fn twice(conn: &mut Conn, queries: &[i32]) -> QueryResult<Vec<i32>> {
        assert!(!queries.contains(&13), "thirteen");
        let one: i32 = diesel::select(1.into_sql::<diesel::sql_types::Integer>()).get_result(conn)?;
        Ok(queries.iter().map(|query| query * (one + 1)).collect())
    }

    #[tokio::test]
    async fn everybody_gets_the_answer_to_their_own_question() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Coalescer::start(pool(&folder), twice, gauges()).unwrap();
        // More than one query takes.
        let answers = join_all((100..2_000).map(|query| reader.load(query))).await;
        assert!(answers.into_iter().zip(100..).all(|(answer, query)| answer.unwrap() == 2 * query));
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_who_is_not_waits_for_those_who_come() {
        assert_eq!(worth_waiting_for(1, 1, 9), 1);
        assert_eq!(worth_waiting_for(1, 5, 0), 5);
        // All came, and no others wait.
        assert_eq!(worth_waiting_for(5, 5, 0), 5);
        assert_eq!(worth_waiting_for(5, 5, 1), 6);
        assert_eq!(worth_waiting_for(5, 7, 0), 6);
        // Fewer came.
        assert_eq!(worth_waiting_for(32, 24, 3), 21);
        assert_eq!(worth_waiting_for(32, 1, 0), 1);
        // Many came.
        assert_eq!(worth_waiting_for(1, MAX_BATCH, MAX_BATCH), TARGET_BATCH);
        assert_eq!(worth_waiting_for(TARGET_BATCH, MAX_BATCH, MAX_BATCH), TARGET_BATCH);
    }

    #[tokio::test]
    async fn a_query_that_panics_fails_its_callers_and_not_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Coalescer::start(pool(&folder), twice, gauges()).unwrap();
        assert!(reader.load(13).await.is_err());
        assert_eq!(reader.load(14).await.unwrap(), 28);
    }
}
