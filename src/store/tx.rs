//! A write job's view of its transaction.

use std::ops::{Deref, DerefMut};

use super::ClientStanding;
use super::wake::{Wakes, Worker};
use crate::db::Conn;
use crate::error::Error;
use crate::id::ClientId;
use crate::journal::Event;
use crate::telemetry::TraceContext;

/// A connection within a transaction, with the events to append and the workers to wake.
pub struct Tx<'c> {
    conn: &'c mut Conn,
    earlier: &'c [Event],
    standing: Option<&'c ClientStanding>,
    pub(super) events: Vec<Event>,
    pub(super) refusals: Vec<Event>,
    pub(super) wakes: Wakes,
}

impl<'c> Tx<'c> {
    pub(super) const fn new(conn: &'c mut Conn, earlier: &'c [Event], standing: Option<&'c ClientStanding>) -> Self {
        Self { conn, earlier, standing, events: Vec::new(), refusals: Vec::new(), wakes: Wakes::NONE }
    }

    /// Records an audit event; it is appended last, just before the commit.
    pub(crate) fn record(&mut self, event: Event) {
        self.events.push(event.in_trace(TraceContext::current()));
    }

    /// Refuses the request: the job's changes are undone, and the refusal is recorded before the response.
    ///
    /// The job must return the error: if it succeeds instead, the refusal is discarded.
    pub(crate) fn refuse(&mut self, error: impl Into<Error>, event: Event) -> Error {
        self.refusals.push(event.in_trace(TraceContext::current()));
        error.into().recorded()
    }

    /// Judges the client that acts now, and not at the end, where it is the one that the job is about to change.
    ///
    /// # Errors
    /// What another call with the same key would be refused with.
    pub(crate) fn judge_before_change(&mut self, changed: &ClientId) -> Result<(), Error> {
        let own = self.standing.filter(|standing| standing.is_of(changed));
        own.map_or(Ok(()), |standing| standing.judge_and_lock(self.conn))
    }

    /// Wakes a worker after the commit.
    pub(crate) const fn wake(&mut self, worker: Worker) {
        self.wakes.add(worker);
    }

    /// Events of earlier jobs in the same transaction, which are not in a table yet.
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
