//! What follows from the events of a transaction: in it, and after its commit.

use std::sync::Arc;

use crate::db::Conn;
use crate::error::Error;
use crate::journal::{self, Event, Frontier, Heads};
use crate::metrics::Metrics;
use crate::store::Observer;
use crate::store::refusals::RefusalCounts;
use crate::store::standing::ClientStandings;
use crate::store::wake::{Wakes, Wakeups};
use crate::telemetry::Tracer;

/// What to do with the events of a transaction, and after its commit.
pub(in crate::store) struct Afterwards {
    pub observers: &'static [Observer],
    pub wakeups: Arc<Wakeups>,
    pub refusals: Arc<RefusalCounts>,
    pub metrics: Metrics,
    pub tracer: Tracer,
    /// The database, as spans call it.
    pub system: &'static str,
    pub heads: Heads,
}

/// Heads of the logs that a transaction let grow, to be kept in mind once it is committed.
pub(super) type GrownHeads = Vec<(String, Frontier)>;

impl Afterwards {
    /// The same for other connections, which may lead to another server: no log is known there yet.
    pub(in crate::store) fn anew(&self) -> Self {
        Self {
            observers: self.observers,
            wakeups: Arc::clone(&self.wakeups),
            refusals: Arc::clone(&self.refusals),
            metrics: self.metrics.clone(),
            tracer: self.tracer.clone(),
            system: self.system,
            heads: Heads::default(),
        }
    }

    /// Appends the events to their audit logs, judges the clients that act, and calls the observers.
    pub(super) fn append(
        &self,
        conn: &mut Conn,
        events: &[Event],
        standings: &ClientStandings,
        wakes: &mut Wakes,
    ) -> Result<GrownHeads, Error> {
        if events.is_empty() {
            standings.judge(conn, true)?;
            return Ok(Vec::new());
        }
        let appended = journal::append(conn, &self.heads, events, &standings.to_compare())?;
        standings.judge(conn, !appended.clients_stand)?;
        self.observers.iter().try_for_each(|observer| observer(conn, &appended, wakes))?;
        Ok(appended.heads)
    }

    /// Updates metrics and wakes workers after a commit.
    pub(super) fn committed(&self, jobs: usize, events: &[Event], heads: GrownHeads, wakes: Wakes) {
        self.heads.committed(heads);
        self.metrics.write_batch.observe(u32::try_from(jobs).unwrap_or(u32::MAX).into());
        for event in events {
            self.metrics.events.with_label_values(&[event.kind().as_str()]).inc();
            for mark in event.marks() {
                self.metrics.marked_events.with_label_values(&[mark]).inc();
            }
        }
        self.wakeups.wake(wakes);
    }
}
