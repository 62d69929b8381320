//! A write job's view of its transaction.

use std::ops::{Deref, DerefMut};

use super::wake::{Wakes, Worker};
use crate::db::Conn;
use crate::error::Error;
use crate::journal::Event;
use crate::telemetry::TraceId;

/// A connection within a transaction, and what will be done with its commit.
pub struct Tx<'c> {
    conn: &'c mut Conn,
    earlier: &'c [Event],
    pub(super) events: Vec<Event>,
    pub(super) refusals: Vec<Event>,
    pub(super) wakes: Wakes,
}

impl<'c> Tx<'c> {
    pub(super) const fn new(conn: &'c mut Conn, earlier: &'c [Event]) -> Self {
        Self { conn, earlier, events: Vec::new(), refusals: Vec::new(), wakes: Wakes::NONE }
    }

    /// Takes an event down; it is appended last, just before the commit.
    pub(crate) fn record(&mut self, event: Event) {
        self.events.push(event.in_trace(TraceId::current()));
    }

    /// Refuses: what the job did is undone, and the refusal is recorded before it is answered.
    ///
    /// The job returns the error; a job that goes on instead has refused nothing.
    pub(crate) fn refuse(&mut self, error: impl Into<Error>, event: Event) -> Error {
        self.refusals.push(event.in_trace(TraceId::current()));
        error.into().recorded()
    }

    /// Wakes a worker once this has been committed: there is something for it to do.
    pub(crate) const fn wake(&mut self, worker: Worker) {
        self.wakes.add(worker);
    }

    /// Events of jobs that share the transaction and came before: they are in no table yet.
    pub(crate) const fn recorded_before(&self) -> &'c [Event] {
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
