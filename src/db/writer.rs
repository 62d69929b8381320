//! Group commit: acts that wait for a writer at the same time share one transaction.
//!
//! Each act is a savepoint of its own, so one that is refused, fails or panics
//! leaves its neighbours alone; the audit rows of all are written last, and
//! whoever is answered is answered after the commit. A lone act is a plain
//! transaction and waits for nobody. An act that cannot go on beside the others
//! (it lost a race, or waits for a lock) is set aside and run alone afterwards.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::r2d2::{Pool, PooledConnection};
use prometheus::{Histogram, IntCounterVec, IntGauge};
use tokio::sync::oneshot;

use super::connection::{Manager, Pooled};
use super::{Conn, PATIENCE, Tx};
use crate::audit;
use crate::error::{Code, Error};
use crate::telemetry::TraceId;

/// PostgreSQL keeps so many subtransactions of a transaction at hand.
pub(super) const MOST: usize = 64;

/// Threads take turns, however few transactions there are at once: a scheduler gives the processor sooner to one that
/// has slept for a while than to one that has just done the act before.
const THREADS: u32 = 8;

/// How often a transaction that lost against another is run again.
const ATTEMPTS: usize = 5;

/// A refusal of the database that came within this time may have been a deadlock, which takes a second to be found.
const SOON: Duration = Duration::from_secs(5);

/// What is measured about the writers.
#[derive(Clone)]
pub(super) struct Gauges {
    /// Acts that wait.
    pub waiting: IntGauge,
    /// How many acts shared a commit.
    pub shared: Histogram,
    /// What was put on record.
    pub events: IntCounterVec,
    /// Reported acts that somebody should look at.
    pub marked_acts: IntCounterVec,
}

/// How much room an act takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    /// A few rows: it shares a transaction.
    Small,
    /// Perhaps many rows and locks: nobody should wait behind it in one transaction.
    Large,
}

/// An act on its way through a writer.
trait Job: Send {
    /// Takes the act for this writer; `false` if its caller has given up waiting.
    fn begin(&self) -> bool;
    fn size(&self) -> Size;
    /// Runs the act, keeps its outcome, and tells what it recorded. An error undoes it.
    fn run(&mut self, conn: &mut Conn, earlier: &[audit::Event]) -> Result<Vec<audit::Event>, Error>;
    /// Answers the caller: with the outcome, or with what went wrong for everybody.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Act<T, F> {
    work: F,
    size: Size,
    begun: Arc<AtomicBool>,
    trace_id: Option<TraceId>,
    outcome: Option<Result<T, Error>>,
    caller: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for Act<T, F>
where
    T: Send,
    F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send,
{
    fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    fn size(&self) -> Size {
        self.size
    }

    fn run(&mut self, conn: &mut Conn, earlier: &[audit::Event]) -> Result<Vec<audit::Event>, Error> {
        let mut tx = Tx { conn, events: Vec::new(), earlier };
        let attempt = AssertUnwindSafe(|| TraceId::scope_of(self.trace_id, || (self.work)(&mut tx)));
        // The hook has logged a panic; the savepoint undoes what it left behind.
        let outcome = catch_unwind(attempt).unwrap_or_else(|_panic| Err(Code::Internal.into()));
        let kept = outcome.as_ref().err().cloned();
        self.outcome = Some(outcome);
        match kept {
            None => Ok(tx.events),
            Some(error) => Err(error),
        }
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let outcome = match failure {
            Some(error) => Err(error),
            None => self.outcome.unwrap_or_else(|| Err(Error::internal("an act without an outcome"))),
        };
        // A caller who has hung up needs no answer.
        drop(self.caller.send(outcome));
    }
}

struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    closed: bool,
    /// How many transactions may still begin.
    places: u32,
}

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes a writer: there is an act, or there will be none any more.
    bell: Condvar,
    /// How many acts share a transaction at most.
    most: usize,
    gauges: Gauges,
}

/// The writers.
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them, for so many transactions at once.
    pub(super) fn start(pool: &Pool<Manager>, places: u32, most: usize, gauges: Gauges) -> std::io::Result<Self> {
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), closed: false, places });
        let shared = Arc::new(Shared { queue, bell: Condvar::new(), most: most.clamp(1, MOST), gauges });
        let mut started = Self { shared, threads: Vec::new() };
        for number in 1..=places.max(THREADS) {
            let (shared, pool) = (Arc::clone(&started.shared), pool.clone());
            let thread = thread::Builder::new().name(format!("writer-{number}"));
            started.threads.push(thread.spawn(move || shared.run(&pool))?);
        }
        Ok(started)
    }

    /// Runs an act in some transaction, and waits until it is durable.
    pub(super) async fn write<T, F>(&self, size: Size, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (caller, mut answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let act = Act { work, size, begun: Arc::clone(&begun), trace_id: TraceId::current(), outcome: None, caller };
        {
            let mut queue = self.shared.queue();
            queue.jobs.push_back(Box::new(act));
            self.shared.gauges.waiting.inc();
        }
        self.shared.bell.notify_one();
        let answered = match tokio::time::timeout(PATIENCE, &mut answer).await {
            Ok(answered) => answered,
            // Whoever is first decides: an act that no writer took will not be run.
            Err(_elapsed) if !begun.swap(true, Ordering::SeqCst) => {
                tracing::warn!("no writer came free in time");
                return Err(Error::unavailable());
            }
            Err(_elapsed) => answer.await,
        };
        answered.unwrap_or_else(|_dropped| Err(Error::internal("a writer dropped an act")))
    }
}

impl Drop for Writers {
    /// Waits for the threads, which hold the pool: SQLite tidies up when its last connection closes.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.bell.notify_all();
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn run(&self, pool: &Pool<Manager>) {
        while let Some(jobs) = self.next() {
            // A panic outside of an act is ours; the callers hear that their outcome is unknown.
            if catch_unwind(AssertUnwindSafe(|| self.commit(pool, jobs))).is_err() {
                tracing::error!("a writer panicked; it goes on");
            }
            let mut queue = self.queue();
            queue.places += 1;
            if queue.closed {
                // Whoever waits for a place waits in vain.
                self.bell.notify_all();
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has queued until now, as much as one transaction takes; `None` when nothing will come any more.
    fn next(&self) -> Option<Vec<Box<dyn Job>>> {
        let mut queue = self.queue();
        loop {
            let idle = |queue: &mut Queue| queue.places == 0 || (queue.jobs.is_empty() && !queue.closed);
            queue = self.bell.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
            if queue.jobs.is_empty() {
                return None;
            }
            let mut jobs: Vec<Box<dyn Job>> = Vec::new();
            while jobs.len() < self.most
                && let Some(job) = queue.jobs.pop_front()
            {
                if job.size() == Size::Large && !jobs.is_empty() {
                    queue.jobs.push_front(job);
                    break;
                }
                self.gauges.waiting.dec();
                let alone = job.size() == Size::Large;
                // A job whose caller has gone is let fall.
                if job.begin() {
                    jobs.push(job);
                    if alone {
                        break;
                    }
                }
            }
            if !jobs.is_empty() {
                queue.places -= 1;
                return Some(jobs);
            }
        }
    }

    /// Commits the acts together, and those that have to be alone in between.
    fn commit(&self, pool: &Pool<Manager>, jobs: Vec<Box<dyn Job>>) {
        let mut connection = Connection { pool, pooled: None };
        let mut rest = jobs;
        while !rest.is_empty() {
            let mut alone = Vec::new();
            if rest.len() > 1 {
                match connection.get() {
                    Ok(pooled) => rest = self.together(pooled, rest, &mut alone),
                    Err(error) => return answer_all(rest.into_iter(), &error),
                }
            } else {
                std::mem::swap(&mut rest, &mut alone);
            }
            // Before the rest goes on: it may want the very lock that one of these waits for.
            let mut alone = alone.into_iter();
            while let Some(mut job) = alone.next() {
                // Where there is no connection the next one would wait for it as long again.
                if let Err(error) = connection.get() {
                    return answer_all(std::iter::once(job).chain(alone).chain(rest), &error);
                }
                let failure = self.alone(&mut connection, job.as_mut()).err();
                job.answer(failure);
            }
        }
    }

    /// One transaction for all. Answers the acts whose outcome is known, and returns those that it did not come to.
    fn together(
        &self,
        pooled: &mut Pooled,
        jobs: Vec<Box<dyn Job>>,
        alone: &mut Vec<Box<dyn Job>>,
    ) -> Vec<Box<dyn Job>> {
        let Pooled { conn, broken } = pooled;
        if let Err(error) = conn.begin_batch() {
            *broken = true;
            answer_all(jobs.into_iter(), &error.into());
            return Vec::new();
        }
        let (mut done, mut aside, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut jobs = jobs.into_iter();
        while let Some(mut job) = jobs.next() {
            let (kept, go_on) = match job.run(conn, &events) {
                Ok(recorded) => {
                    events.extend(recorded);
                    done.push(job);
                    (conn.next_savepoint(), true)
                }
                Err(error) => {
                    // A refusal stands; what the database could not do now is tried once more without neighbours.
                    let waited = error.code() == Code::Unavailable;
                    if waited || error.lost_a_race() {
                        aside.push(job);
                    } else {
                        done.push(job);
                    }
                    (conn.back_to_savepoint(), !waited)
                }
            };
            if let Err(error) = kept {
                // The disk is full, the connection broke: there is no transaction any more, and nothing happened.
                tracing::warn!(error.cause = %error, "a shared transaction was lost; its acts are run one by one");
                end_lost(pooled);
                alone.extend(done.into_iter().chain(aside).chain(jobs));
                return Vec::new();
            }
            if !go_on {
                // Whoever holds what it waited for may wait for one of us: let go of everything first.
                break;
            }
        }
        let written = conn.end_batch().map_err(Error::from).and_then(|()| audit::append(conn, &events));
        let committed = match written {
            Ok(()) => conn.commit().map_err(|error| (Error::from(error), true)),
            Err(error) => Err((error, false)),
        };
        match committed {
            Ok(()) => {
                self.gauges.shared.observe(u32::try_from(done.len()).unwrap_or(u32::MAX).into());
                self.count(&events);
                for job in done {
                    job.answer(None);
                }
                alone.extend(aside);
            }
            Err((error, true)) if !error.lost_a_race() => {
                // Nobody knows whether it holds; not even a refusal stands, for it may rest on what a neighbour did.
                *broken = true;
                answer_all(done.into_iter(), &Error::unavailable());
                alone.extend(aside);
            }
            Err(_nothing_happened) => {
                end_lost(pooled);
                alone.extend(done.into_iter().chain(aside));
            }
        }
        jobs.collect()
    }

    /// A plain transaction. It is run again when it lost against another, or fell victim to a deadlock.
    ///
    /// diesel does not tell a deadlock from other failures. But whatever a database refuses
    /// soon and takes back entirely may be tried once more.
    fn alone(&self, connection: &mut Connection<'_>, job: &mut dyn Job) -> Result<(), Error> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let (outcome, undone) = self.attempt(connection.get()?, job);
            let Err(error) = outcome else { return Ok(()) };
            let refused = undone && error.code() == Code::Unavailable && started.elapsed() < SOON;
            if attempt == ATTEMPTS || !(error.lost_a_race() || refused) {
                return Err(error);
            }
            tracing::debug!(attempt, "the transaction lost a race; running it again");
            attempt += 1;
        }
    }

    /// One try, and if it failed whether all of it was undone for certain.
    fn attempt(&self, pooled: &mut Pooled, job: &mut dyn Job) -> (Result<(), Error>, bool) {
        let Pooled { conn, broken } = pooled;
        let mut committing = false;
        let outcome = conn.begin().map_err(Error::from).and_then(|()| {
            let events = job.run(conn, &[])?;
            audit::append(conn, &events)?;
            committing = true;
            conn.commit()?;
            Ok(events)
        });
        match outcome {
            Ok(events) => {
                self.gauges.shared.observe(1.0);
                self.count(&events);
                (Ok(()), false)
            }
            Err(error) => {
                // An error may have broken the connection, which is not tested before it is used again.
                *broken |= error.code().status() >= 500;
                let rolled_back = conn.rollback();
                if let Err(rollback) = &rolled_back
                    && error.code().status() < 500
                {
                    *broken = true;
                    return (Err(Error::internal(format_args!("cannot roll back: {rollback}"))), false);
                }
                (Err(error), rolled_back.is_ok() && !committing)
            }
        }
    }

    fn count(&self, events: &[audit::Event]) {
        for event in events {
            self.gauges.events.with_label_values(&[event.kind().as_str()]).inc();
            for mark in event.marks() {
                self.gauges.marked_acts.with_label_values(&[mark]).inc();
            }
        }
    }
}

/// A connection that is fit for use, for as long as a batch takes.
struct Connection<'p> {
    pool: &'p Pool<Manager>,
    pooled: Option<PooledConnection<Manager>>,
}

impl Connection<'_> {
    fn get(&mut self) -> Result<&mut Pooled, Error> {
        // Given back, a broken one is thrown away.
        let fit = self.pooled.take().filter(|pooled| !pooled.broken);
        let pooled = match fit {
            Some(pooled) => pooled,
            None => self.pool.get().map_err(|error| {
                tracing::warn!(error.cause = %error, "no database connection");
                Error::unavailable()
            })?,
        };
        Ok(self.pooled.insert(pooled))
    }
}

/// Ends what is left of a transaction of which nothing holds.
fn end_lost(pooled: &mut Pooled) {
    if pooled.conn.rollback().is_err() {
        pooled.broken = true;
    }
}

fn answer_all(jobs: impl Iterator<Item = Box<dyn Job>>, error: &Error) {
    jobs.for_each(|job| job.answer(Some(error.clone())));
}

impl fmt::Debug for Writers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writers")
    }
}

#[cfg(test)]
mod tests;
