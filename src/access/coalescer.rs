//! A coalescing reader: callers who ask at the same time share one query.
//!
//! The query begins after each of its callers asked, so nobody is ever introspection
//! anything stale; whoever asks while it runs waits for the next one. A caller
//! who is alone is served at once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, thread};

use diesel::QueryResult;
use diesel::r2d2::Pool;
use prometheus::{Histogram, IntGauge};
use tokio::sync::oneshot;

use crate::db::{Conn, ConnectionManager};
use crate::error::Error;
use crate::store::discard_if_broken;

/// How long a caller waits for a shared answer, its query included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest list of ids that one query is given.
const MAX_BATCH: usize = 512;

/// The longest time that a query waits for company, where there was some before.
const BATCH_WINDOW: Duration = Duration::from_millis(1);

/// No query waits for more callers than these: another one would hardly make it cheaper for each.
const TARGET_BATCH: usize = 32;

/// Answers every question together; as many answers as questions, in their order. It may remember things.
pub(crate) trait Query<Q, A>: FnMut(&mut Conn, &[Q]) -> QueryResult<Vec<A>> + Send + 'static {}

impl<Q, A, F: FnMut(&mut Conn, &[Q]) -> QueryResult<Vec<A>> + Send + 'static> Query<Q, A> for F {}

/// What is measured about a reader.
#[derive(Clone)]
pub(crate) struct Gauges {
    /// Callers that wait for a query to begin.
    pub waiting: IntGauge,
    /// How many callers shared a query.
    pub shared: Histogram,
}

/// One question, and who asked it.
type PendingQuery<Q, A> = (Q, oneshot::Sender<Result<A, Error>>);

struct Queue<Q, A> {
    asked: Vec<PendingQuery<Q, A>>,
    /// The reader sleeps until so many have asked.
    wanted: usize,
    closed: bool,
}

struct Shared<Q, A> {
    queue: Mutex<Queue<Q, A>>,
    /// Wakes the reader: somebody asks, or nobody will any more.
    wakeup: Condvar,
    gauges: Gauges,
}

/// A reader with a thread of its own.
pub(crate) struct Coalescer<Q, A> {
    shared: Arc<Shared<Q, A>>,
    thread: Option<thread::JoinHandle<()>>,
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
        let thread =
            thread::Builder::new().name("coalescing-reader".to_owned()).spawn(move || reader.run(&pool, query))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Asks at once, and waits for the answer of a query that has not begun yet.
    pub(crate) fn load(&self, question: Q) -> impl Future<Output = Result<A, Error>> + use<Q, A> {
        let (sender, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue();
            queue.asked.push((question, sender));
            // Whoever makes up the number rings; nobody else need.
            if queue.asked.len() == queue.wanted {
                self.shared.wakeup.notify_one();
            }
        }
        async {
            match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_nobody_answers)) => Err(Error::unavailable()),
                Err(_elapsed) => {
                    tracing::warn!("the database did not answer in time");
                    Err(Error::unavailable())
                }
            }
        }
    }
}

impl<Q, A> Drop for Coalescer<Q, A> {
    /// Waits for the thread, which holds the pool: SQLite tidies up when its last connection closes.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.wakeup.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl<Q, A> Shared<Q, A> {
    fn run(&self, pool: &Pool<ConnectionManager>, mut query: impl Query<Q, A>) {
        let mut wanted = 1;
        while let Some(asked) = self.next(wanted) {
            self.gauges.shared.observe(u32::try_from(asked.len()).unwrap_or(u32::MAX).into());
            let (questions, callers): (Vec<Q>, Vec<_>) = asked.into_iter().unzip();
            let outcome = read(pool, &mut query, &questions);
            // Before the answers: whoever gets one may ask again at once.
            wanted = worth_waiting_for(wanted, callers.len(), self.queue().asked.len());
            match outcome {
                Ok(answers) => {
                    for (caller, answer) in callers.into_iter().zip(answers) {
                        // A caller who has hung up needs no answer.
                        drop(caller.send(Ok(answer)));
                    }
                }
                Err(error) => callers.into_iter().for_each(|caller| drop(caller.send(Err(error.clone())))),
            }
        }
    }

    /// As many as are wanted, or whoever asks within the pause; `None` when nobody can ask any more.
    fn next(&self, wanted: usize) -> Option<Vec<PendingQuery<Q, A>>> {
        let few = |queue: &mut Queue<Q, A>| queue.asked.len() < queue.wanted && !queue.closed;
        let mut queue = self.queue();
        if wanted > 1 {
            queue.wanted = wanted;
            (queue, _) =
                self.wakeup.wait_timeout_while(queue, BATCH_WINDOW, few).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.asked.is_empty() {
            // The company has gone: whoever comes is served at once.
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

/// How many callers the next query waits for, after `came` shared one that waited for `wanted`.
///
/// A query costs two changes of thread and a round trip, however many share it. One more is wanted as long as there are
/// `others`, who asked while the query ran, or came without being waited for; fewer when they did not come in time.
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

/// A panic of the query is a failure of this batch, and not the end of the reader.
fn read<Q, A>(pool: &Pool<ConnectionManager>, query: &mut impl Query<Q, A>, questions: &[Q]) -> Result<Vec<A>, Error> {
    let mut pooled = pool.get().map_err(|error| {
        tracing::warn!(error.cause = %error, "no database connection");
        Error::unavailable()
    })?;
    let attempt = std::panic::AssertUnwindSafe(|| discard_if_broken(&mut pooled, |conn| Ok(query(conn, questions)?)));
    let outcome = std::panic::catch_unwind(attempt);
    outcome.unwrap_or_else(|_panic| {
        pooled.broken = true;
        Err(Error::internal("the coalescing reader panicked"))
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
    use crate::db::DatabaseUrl;

    fn pool(folder: &tempfile::TempDir) -> Pool<ConnectionManager> {
        let url = DatabaseUrl::Sqlite(folder.path().join("test.db"));
        Pool::builder().max_size(2).build(ConnectionManager::new(url)).unwrap()
    }

    fn gauges() -> Gauges {
        let metrics = crate::metrics::Metrics::new().unwrap();
        Gauges { waiting: metrics.reader_queue, shared: metrics.read_batch }
    }

    fn twice(conn: &mut Conn, questions: &[i32]) -> QueryResult<Vec<i32>> {
        assert!(!questions.contains(&13), "thirteen");
        let one: i32 = diesel::select(1.into_sql::<diesel::sql_types::Integer>()).get_result(conn)?;
        Ok(questions.iter().map(|question| question * (one + 1)).collect())
    }

    #[tokio::test]
    async fn everybody_gets_the_answer_to_their_own_question() {
        let folder = tempfile::tempdir().unwrap();
        let reader = Coalescer::start(pool(&folder), twice, gauges()).unwrap();
        // More than one query takes.
        let answers = join_all((100..2_000).map(|question| reader.load(question))).await;
        assert!(answers.into_iter().zip(100..).all(|(answer, question)| answer.unwrap() == 2 * question));
    }

    #[test]
    fn who_is_alone_waits_for_nobody_and_who_is_not_waits_for_those_who_come() {
        assert_eq!(worth_waiting_for(1, 1, 9), 1);
        assert_eq!(worth_waiting_for(1, 5, 0), 5);
        // All came, and there is nobody else.
        assert_eq!(worth_waiting_for(5, 5, 0), 5);
        assert_eq!(worth_waiting_for(5, 5, 1), 6);
        assert_eq!(worth_waiting_for(5, 7, 0), 6);
        // They have gone.
        assert_eq!(worth_waiting_for(32, 24, 3), 21);
        assert_eq!(worth_waiting_for(32, 1, 0), 1);
        // A crowd.
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
