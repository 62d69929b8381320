//! Group commit: write jobs that wait for a writer at the same time share one transaction.
//!
//! One that is refused, fails or panics does not affect the others: the batch is
//! undone and run again with a savepoint for each job, as are the batches that
//! follow. While all succeed, there are no savepoints to pay for. The audit events
//! of all are appended last, and every caller is answered after the commit. A lone
//! job is a plain transaction and waits for no others: its refusal is appended in a
//! second transaction. A job that cannot continue in the batch (it lost a race, or
//! waits for a lock) is deferred and run alone afterwards.

mod afterwards;
mod job;
mod queue;
mod running;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use diesel::r2d2::{Pool, PooledConnection};
use tokio::sync::oneshot;

pub(super) use self::afterwards::Afterwards;
pub(super) use self::job::Size;
use self::job::{Job, Kept, Queued, Rejected, WriteJob};
use self::queue::{Batch, Queue};
use super::standing::ClientStandings;
use super::wake::Wakes;
use super::{ANSWER_TIMEOUT, ClientStanding, Owner, POOL_TIMEOUT, Recorded, Threads, Tx, check_out, within};
use crate::db::{Conn, ConnectionManager, Pooled};
use crate::error::{Code, Error};
use crate::telemetry::{SpanKind, TraceContext};

/// Number of subtransactions that PostgreSQL caches for each transaction.
pub(super) const MAX_BATCH: usize = 64;

/// Number of batches with savepoints after a job that did not succeed: where one is refused, others are.
const BATCHES_WITH_SAVEPOINTS: u32 = 16;

/// Threads take turns, even if only one transaction may run at a time: a scheduler runs a thread that has slept for a
/// while sooner than one that has just run the previous job.
const THREADS: u32 = 8;

/// Largest number of attempts for a transaction that loses races.
const ATTEMPTS: usize = 5;

/// A transaction that lost a race pauses up to this long, after each further one up to twice as long as before.
const PAUSE: Duration = Duration::from_millis(3);

/// A database error within this time may be a deadlock, whose detection takes a second.
const DEADLOCK_WINDOW: Duration = Duration::from_secs(5);

struct Shared {
    queue: Mutex<Queue>,
    /// Wakes a writer: a job was queued, or the queue was closed.
    wakeup: Condvar,
    /// Largest number of jobs in a transaction.
    max_batch: usize,
    /// Number of batches that are still to have savepoints.
    savepoints: AtomicU32,
    after: Afterwards,
}

/// The writer threads.
pub(super) struct Writers {
    shared: Arc<Shared>,
    threads: Threads,
    /// Whether nobody waits for the threads.
    abandoned: AtomicBool,
}

impl Writers {
    /// Starts the threads, for `slots` transactions at a time.
    pub(super) fn start(
        pool: &Pool<ConnectionManager>,
        slots: u32,
        max_batch: usize,
        after: Afterwards,
    ) -> std::io::Result<Self> {
        let queue = Mutex::new(Queue::new(slots, after.metrics.clone()));
        let max_batch = max_batch.clamp(1, MAX_BATCH);
        let shared =
            Arc::new(Shared { queue, wakeup: Condvar::new(), max_batch, savepoints: AtomicU32::new(0), after });
        let mut started = Self { shared, threads: Threads::new(), abandoned: AtomicBool::new(false) };
        for number in 1..=slots.max(THREADS) {
            let (shared, pool) = (Arc::clone(&started.shared), pool.clone());
            started.threads.spawn(format!("writer-{number}"), move || shared.run(&pool))?;
        }
        Ok(started)
    }

    /// How long the oldest transaction that is in progress takes so far.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.shared.queue().oldest()
    }

    /// Leaves the threads alone: those that the database does not hold end when they have nothing to do.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
        self.close();
    }

    fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.wakeup.notify_all();
    }

    /// Queues a job of whoever the current task works for.
    ///
    /// # Errors
    /// `unavailable` where that one has too many in the queue already.
    pub(super) fn queue<T, F>(&self, size: Size, standing: Option<ClientStanding>, work: F) -> Result<Queued<T>, Error>
    where
        T: Send + 'static,
        F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let begun = Arc::new(AtomicBool::new(false));
        let mut span = self.shared.after.tracer.begin_below(SpanKind::Client, "transaction");
        span.note("db.system.name", self.shared.after.system);
        let (recorded, outcome) = (Recorded::current(), None);
        let job = WriteJob { work, size, begun: Arc::clone(&begun), span, recorded, standing, outcome, caller };
        let queued = self.shared.queue().push(Owner::current(), Box::new(job));
        if queued.is_err() {
            tracing::warn!("a caller has too many writes in the queue");
            return Err(Error::unavailable());
        }
        self.shared.wakeup.notify_one();
        Ok(Queued { begun, answer })
    }

    /// Waits until the transaction of a job is committed.
    pub(super) async fn answer<T>(&self, Queued { begun, mut answer }: Queued<T>) -> Result<T, Error> {
        let answered = |answer: Result<_, oneshot::error::RecvError>| {
            answer.unwrap_or_else(|_dropped| Err(Error::internal("a writer dropped a job")))
        };
        let outcome = match tokio::time::timeout(POOL_TIMEOUT, &mut answer).await {
            Ok(answered) => answered,
            // The first to set the flag decides: a job that no writer has taken is not run.
            Err(_elapsed) if !begun.swap(true, Ordering::SeqCst) => {
                tracing::warn!("no writer was free in time");
                return Err(Error::unavailable());
            }
            // From here on nobody knows whether it happens: the writer may be held by the database.
            Err(_elapsed) => return within(ANSWER_TIMEOUT, async { answered(answer.await) }).await,
        };
        answered(outcome).inspect_err(|error| self.shared.after.metrics.failed(error))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.close();
        if !self.abandoned.load(Ordering::SeqCst) {
            self.threads.finish();
        }
    }
}

impl Shared {
    fn run(&self, pool: &Pool<ConnectionManager>) {
        while let Some(Batch { jobs, number, is_large }) = self.next() {
            // A panic outside of a job is a bug in the writer; its callers get an error, because the outcome is
            // unknown.
            if catch_unwind(AssertUnwindSafe(|| self.commit(pool, jobs))).is_err() {
                tracing::error!("writer panicked; it continues");
            }
            let mut queue = self.queue();
            queue.done(number, is_large);
            if queue.closed {
                // Threads that wait for a free slot must stop, too.
                self.wakeup.notify_all();
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs of the next transaction; `None` when the queue is closed and empty.
    fn next(&self) -> Option<Batch> {
        let mut queue = self.queue();
        loop {
            if let Some(batch) = queue.take(self.max_batch) {
                return Some(batch);
            }
            if queue.closed && queue.is_empty() {
                return None;
            }
            queue = self.wakeup.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Commits the jobs together, and deferred ones alone in between.
    fn commit(&self, pool: &Pool<ConnectionManager>, jobs: Vec<Box<dyn Job>>) {
        let mut connection = Connection { pool, pooled: None };
        let mut rest = jobs;
        let fewer = |batches: u32| batches.checked_sub(1);
        let mut with_savepoints =
            rest.len() > 1 && self.savepoints.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer).is_ok();
        while !rest.is_empty() {
            let mut deferred = Vec::new();
            if rest.len() > 1 {
                match connection.get() {
                    Ok(pooled) => rest = self.run_batch(pooled, rest, &mut deferred, with_savepoints),
                    Err(error) => return answer_all(rest.into_iter(), &error),
                }
            } else {
                std::mem::swap(&mut rest, &mut deferred);
            }
            with_savepoints = true;
            // Before the rest, which may need the very lock that one of these waits for.
            let mut deferred = deferred.into_iter();
            while let Some(mut job) = deferred.next() {
                // Without a connection, each of the others would wait for the time-out again.
                if let Err(error) = connection.get() {
                    return answer_all(std::iter::once(job).chain(deferred).chain(rest), &error);
                }
                let failure = self.run_single(&mut connection, job.as_mut()).err();
                job.answer(failure);
            }
        }
    }

    /// Runs jobs in one transaction. Answers those whose outcome is known, and returns those to run
    /// again or for the first time.
    fn run_batch(
        &self,
        pooled: &mut Pooled,
        jobs: Vec<Box<dyn Job>>,
        deferred: &mut Vec<Box<dyn Job>>,
        with_savepoints: bool,
    ) -> Vec<Box<dyn Job>> {
        let Pooled { conn, broken, .. } = pooled;
        if let Err(error) = conn.begin_batch(with_savepoints) {
            *broken = true;
            answer_all(jobs.into_iter(), &error.into());
            return Vec::new();
        }
        let (mut done, mut aside, mut kept, mut refused) = (Vec::new(), Vec::new(), Kept::default(), Vec::new());
        let mut jobs = jobs.into_iter();
        while let Some(mut job) = jobs.next() {
            let (moved_on, go_on) = match job.run(conn, &kept.events) {
                Ok(Kept { events, wakes }) => {
                    kept.events.extend(events);
                    kept.wakes.extend(wakes);
                    done.push(job);
                    if !with_savepoints {
                        continue;
                    }
                    (conn.next_savepoint(), true)
                }
                Err(_rejected) if !with_savepoints => {
                    self.savepoints.store(BATCHES_WITH_SAVEPOINTS, Ordering::SeqCst);
                    end_lost(pooled);
                    return done.into_iter().chain(std::iter::once(job)).chain(jobs).collect();
                }
                Err(Rejected { error, refusals }) => {
                    // A refusal is final; a job that the database could not run now is retried alone.
                    let waited = error.code() == Code::Unavailable;
                    if waited || error.lost_a_race() {
                        aside.push(job);
                    } else {
                        refused.extend(refusals);
                        done.push(job);
                    }
                    (conn.back_to_savepoint(), !waited)
                }
            };
            if let Err(error) = moved_on {
                // The disk is full or the connection broke: the transaction is lost, and nothing was changed.
                tracing::warn!(error.cause = %error, "shared transaction lost; its jobs are run one by one");
                end_lost(pooled);
                deferred.extend(done.into_iter().chain(aside).chain(jobs));
                return Vec::new();
            }
            if !go_on {
                // The holder of the lock may wait for this transaction: end it first, which releases its locks.
                break;
            }
        }
        let Kept { mut events, mut wakes } = kept;
        let admission = self.after.refusals.admit(refused);
        events.extend(admission.events.iter().cloned());
        let written = conn.end_batch(with_savepoints).map_err(Error::from);
        // Where one of the clients is refused by now, each job is run alone.
        let standings = ClientStandings::of(done.iter().filter_map(|job| job.standing()));
        let written = written.and_then(|()| self.after.append(conn, &events, &standings, &mut wakes));
        let committed = match written {
            Ok(heads) => conn.commit().map(|()| heads).map_err(|error| (Error::from(error), true)),
            Err(error) => Err((error, false)),
        };
        match committed {
            Ok(heads) => {
                admission.recorded();
                self.after.committed(done.len(), &events, heads, wakes);
                answer_committed(done);
                deferred.extend(aside);
            }
            Err((error, true)) if !error.lost_a_race() => {
                // The outcome is unknown. Refusals are not final either: they may depend on changes of other jobs.
                *broken = true;
                answer_all(done.into_iter(), &error);
                deferred.extend(aside);
            }
            Err(_nothing_happened) => {
                end_lost(pooled);
                deferred.extend(done.into_iter().chain(aside));
            }
        }
        jobs.collect()
    }

    /// Runs one job in a transaction, and records its refusal in a second one before it is answered.
    fn run_single(&self, connection: &mut Connection<'_>, job: &mut dyn Job) -> Result<(), Error> {
        let (is_statement, standing) = (job.size() == Size::Statement, job.standing());
        let outcome = self.in_transaction(connection, (is_statement, standing.as_ref()), |conn| job.run(conn, &[]));
        let Err(Rejected { error, refusals }) = outcome else { return Ok(()) };
        let admission = self.after.refusals.admit(refusals);
        if !admission.events.is_empty() {
            let record = |_: &mut Conn| Ok(Kept { events: admission.events.clone(), wakes: Wakes::NONE });
            let recorded = self.in_transaction(connection, (false, standing.as_ref()), record);
            // A client that is refused by now is refused with that.
            recorded.map_err(|Rejected { error, .. }| match error.code().status() {
                400..=499 => error,
                _ => Error::unavailable(),
            })?;
        }
        admission.recorded();
        Err(error)
    }

    /// Runs a plain transaction, or a statement that is one by itself, and again if it lost a race or was the victim of
    /// a deadlock.
    ///
    /// diesel does not distinguish a deadlock from other errors. But an error that comes soon and undid everything can
    /// be retried.
    fn in_transaction(
        &self,
        connection: &mut Connection<'_>,
        (is_statement, standing): (bool, Option<&ClientStanding>),
        mut work: impl FnMut(&mut Conn) -> Result<Kept, Rejected>,
    ) -> Result<(), Rejected> {
        let started = Instant::now();
        let mut attempt = 1;
        loop {
            let (outcome, undone) = self.attempt(connection.get()?, (is_statement, standing), &mut work);
            let Err(rejected) = outcome else { return Ok(()) };
            let error = &rejected.error;
            let refused = undone && error.code() == Code::Unavailable && started.elapsed() < DEADLOCK_WINDOW;
            if attempt == ATTEMPTS || !(error.lost_a_race() || refused) {
                if error.lost_a_race() {
                    tracing::warn!(attempt, "a transaction lost each race");
                }
                return Err(rejected);
            }
            tracing::debug!(attempt, "transaction lost a race; running it again");
            if matches!(connection.get()?.conn, Conn::Postgres(_)) {
                let pause = PAUSE.saturating_mul(1 << (attempt - 1)).mul_f64(rand::random());
                #[expect(clippy::disallowed_methods, reason = "whoever meets the same others again would lose again")]
                std::thread::sleep(pause);
            }
            attempt += 1;
        }
    }

    /// One attempt, and if it failed, whether all of it was certainly undone.
    fn attempt(
        &self,
        pooled: &mut Pooled,
        (is_statement, standing): (bool, Option<&ClientStanding>),
        work: &mut impl FnMut(&mut Conn) -> Result<Kept, Rejected>,
    ) -> (Result<(), Rejected>, bool) {
        let Pooled { conn, broken, .. } = pooled;
        let mut committing = is_statement;
        let begun = if is_statement { Ok(()) } else { conn.begin() };
        let outcome = begun.map_err(Rejected::from).and_then(|()| {
            let Kept { events, mut wakes } = work(conn)?;
            if is_statement {
                return Ok((events, Vec::new(), wakes));
            }
            let heads = self.after.append(conn, &events, &ClientStandings::of(standing.cloned()), &mut wakes)?;
            committing = true;
            conn.commit()?;
            Ok((events, heads, wakes))
        });
        match outcome {
            Ok((events, heads, wakes)) => {
                self.after.committed(1, &events, heads, wakes);
                (Ok(()), false)
            }
            Err(rejected) => {
                let failed = rejected.error.code().status() >= 500;
                // An error may have broken the connection, which is not tested before it is used again.
                *broken |= failed;
                let rolled_back = if is_statement { Ok(()) } else { conn.rollback() };
                // A server that lost the connection has rolled back by itself.
                *broken |= rolled_back.is_err();
                (Err(rejected), rolled_back.is_ok() && !committing)
            }
        }
    }
}

/// A usable connection for the duration of a batch.
struct Connection<'p> {
    pool: &'p Pool<ConnectionManager>,
    pooled: Option<PooledConnection<ConnectionManager>>,
}

impl Connection<'_> {
    fn get(&mut self) -> Result<&mut Pooled, Error> {
        // A broken one is discarded when it returns to the pool.
        let fit = self.pooled.take().filter(|pooled| !pooled.broken);
        let pooled = match fit {
            Some(pooled) => pooled,
            None => check_out(self.pool)?,
        };
        Ok(self.pooled.insert(pooled))
    }
}

/// Rolls back what is left of a lost transaction.
fn end_lost(pooled: &mut Pooled) {
    if pooled.conn.rollback().is_err() {
        pooled.broken = true;
    }
}

/// Answers the callers of jobs that shared a transaction. Where several did, their spans say so, and with whom.
fn answer_committed(done: Vec<Box<dyn Job>>) {
    let (jobs, first) = (done.len(), done.iter().find_map(|job| job.trace().filter(TraceContext::is_sampled)));
    for mut job in done {
        if jobs > 1 && first.is_some() {
            job.shared(jobs, first.filter(|first| job.trace() != Some(*first)));
        }
        job.answer(None);
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
