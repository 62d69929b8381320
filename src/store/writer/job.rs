//! A write job: its work, its size, and how its caller is answered.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::oneshot;

use crate::db::Conn;
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::store::wake::Wakes;
use crate::store::{ClientStanding, Recorded, Tx};
use crate::telemetry::{Span, TraceContext};

/// Expected size of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Size {
    /// One statement without events: it is a transaction by itself.
    Statement,
    /// A few rows: the job can share a transaction.
    Small,
    /// Possibly many rows and locks: no other job should wait for it in the same transaction.
    Large,
}

/// Events and wake-ups of jobs that succeeded.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) events: Vec<Event>,
    pub(super) wakes: Wakes,
}

/// Error of a job whose changes are undone, and its refusals, which are recorded nevertheless.
pub(super) struct Rejected {
    pub(super) error: Error,
    pub(super) refusals: Vec<Event>,
}

impl<E: Into<Error>> From<E> for Rejected {
    fn from(error: E) -> Self {
        Self { error: error.into(), refusals: Vec::new() }
    }
}

/// A write job on its way through a writer.
pub(super) trait Job: Send {
    /// Whether the job, which no writer has taken, still has a caller.
    fn is_wanted(&self) -> bool;
    /// Takes the job for this writer; `false` if its caller has stopped waiting.
    fn begin(&self) -> bool;
    fn size(&self) -> Size;
    /// What its client was judged by.
    fn standing(&self) -> Option<ClientStanding>;
    /// The place of the transaction in the trace of its caller.
    fn trace(&self) -> Option<TraceContext>;
    /// Notes how many jobs shared the transaction, and one of the others.
    fn shared(&mut self, jobs: usize, with: Option<TraceContext>);
    /// Runs the job and keeps its outcome. A rejection undoes it.
    fn run(&mut self, conn: &mut Conn, earlier: &[Event]) -> Result<Kept, Rejected>;
    /// Answers the caller with the outcome, or with the failure of the whole transaction.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

pub(super) struct WriteJob<T, F> {
    pub(super) work: F,
    pub(super) size: Size,
    pub(super) begun: Arc<AtomicBool>,
    /// From the queue to the answer.
    pub(super) span: Span,
    /// Noted where it records an event.
    pub(super) recorded: Option<Recorded>,
    pub(super) standing: Option<ClientStanding>,
    pub(super) outcome: Option<Result<T, Error>>,
    pub(super) caller: oneshot::Sender<Result<T, Error>>,
}

impl<T, F> Job for WriteJob<T, F>
where
    T: Send,
    F: Fn(&mut Tx<'_>) -> Result<T, Error> + Send,
{
    fn is_wanted(&self) -> bool {
        !self.begun.load(Ordering::SeqCst) && !self.caller.is_closed()
    }

    fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::SeqCst)
    }

    fn size(&self) -> Size {
        self.size
    }

    fn standing(&self) -> Option<ClientStanding> {
        self.standing.clone()
    }

    fn trace(&self) -> Option<TraceContext> {
        self.span.context()
    }

    fn shared(&mut self, jobs: usize, with: Option<TraceContext>) {
        self.span.note("db.operation.batch.size", jobs);
        self.span.link(with);
    }

    fn run(&mut self, conn: &mut Conn, earlier: &[Event]) -> Result<Kept, Rejected> {
        let mut tx = Tx::new(conn, earlier, self.standing.as_ref());
        let attempt = AssertUnwindSafe(|| TraceContext::scope_of(self.span.context(), || (self.work)(&mut tx)));
        // The hook has logged a panic; its changes are undone like those of an error.
        let outcome = catch_unwind(attempt).unwrap_or_else(|_panic| Err(Code::Internal.into()));
        let Tx { events, refusals, wakes, .. } = tx;
        let kept = match &outcome {
            Ok(_) => {
                if let Some(recorded) = self.recorded.as_ref().filter(|_| !events.is_empty()) {
                    recorded.set();
                }
                Ok(Kept { events, wakes })
            }
            Err(error) => Err(Rejected { error: error.clone(), refusals }),
        };
        self.outcome = Some(outcome);
        kept
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let Self { outcome, mut span, caller, .. } = *self;
        let outcome = match failure {
            Some(error) => Err(error),
            None => outcome.unwrap_or_else(|| Err(Error::internal("a job without an outcome"))),
        };
        if let Err(error) = &outcome {
            span.fail(error.code().slug());
        }
        // It ends before its caller's.
        span.end();
        // The caller may have stopped waiting.
        drop(caller.send(outcome));
    }
}

/// What is known of a job on its way through a writer.
pub(in crate::store) struct Queued<T> {
    /// Whether a writer has taken it, or its caller has given it up.
    pub begun: Arc<AtomicBool>,
    pub answer: oneshot::Receiver<Result<T, Error>>,
}
