//! The jobs that wait for a writer: those who queued them take turns.
//!
//! Each owner has a lane, and a transaction takes one job of each lane after the
//! other, until it is full: a client that queues a thousand jobs delays its own. A
//! job that has a transaction to itself comes between two shared ones, so that what
//! is short waits for one that is long and not for all of them; and where several
//! transactions run at a time, long ones leave one of them to the others.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::job::{Job, Size};
use super::running::Running;
use crate::metrics::Metrics;
use crate::store::Owner;

/// Largest number of jobs that one owner may have in the queue: with what each of them holds, memory would be its own.
const MAX_WAITING: usize = 1_024;

/// Jobs that are run in one transaction.
pub(super) struct Batch {
    pub jobs: Vec<Box<dyn Job>>,
    /// The number of their transaction.
    pub number: u64,
    /// Whether it is one job that may take long.
    pub is_large: bool,
}

/// The jobs that wait.
pub(super) struct Queue {
    lanes: HashMap<Owner, VecDeque<Box<dyn Job>>>,
    /// The owners of all lanes, which are never empty; whose turn it is comes first.
    turns: VecDeque<Owner>,
    /// Whether the last transaction was shared, so that a job that wants one for itself is next.
    was_shared: bool,
    /// Number of large jobs that may still begin.
    large_slots: u32,
    /// Number of transactions that may still begin.
    free_slots: u32,
    pub closed: bool,
    running: Running,
    metrics: Metrics,
}

impl Queue {
    pub(super) fn new(slots: u32, metrics: Metrics) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            was_shared: false,
            large_slots: slots.saturating_sub(1).max(1),
            free_slots: slots,
            closed: false,
            running: Running::default(),
            metrics,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Queues a job; gives it back where its owner has too many.
    pub(super) fn push(&mut self, owner: Owner, job: Box<dyn Job>) -> Result<(), Box<dyn Job>> {
        let Some(lane) = self.lanes.get_mut(&owner) else {
            self.turns.push_back(owner.clone());
            self.lanes.insert(owner, VecDeque::from([job]));
            self.metrics.writer_queue.inc();
            return Ok(());
        };
        // While no writer is free, jobs whose callers have stopped waiting would pile up.
        while lane.front().is_some_and(|job| !job.is_wanted()) {
            lane.pop_front();
            self.metrics.writer_queue.dec();
        }
        if lane.len() >= MAX_WAITING {
            return Err(job);
        }
        lane.push_back(job);
        self.metrics.writer_queue.inc();
        Ok(())
    }

    /// The jobs of the next transaction, `max_batch` at most; `None` where none may begin.
    pub(super) fn take(&mut self, max_batch: usize) -> Option<Batch> {
        if self.free_slots == 0 || self.turns.is_empty() {
            return None;
        }
        let alone_first = self.was_shared;
        let jobs = if alone_first { self.take_alone() } else { self.take_shared(max_batch) };
        let jobs = jobs.or_else(|| if alone_first { self.take_shared(max_batch) } else { self.take_alone() })?;
        let is_large = jobs.iter().any(|job| job.size() == Size::Large);
        self.free_slots -= 1;
        self.large_slots -= u32::from(is_large);
        Some(Batch { jobs, number: self.running.begin(), is_large })
    }

    /// A transaction has ended.
    pub(super) fn done(&mut self, number: u64, was_large: bool) {
        self.running.end(number);
        self.free_slots += 1;
        self.large_slots += u32::from(was_large);
    }

    /// How long the oldest transaction that is in progress takes so far.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.running.oldest()
    }

    /// Small jobs, one of each owner after the other.
    fn take_shared(&mut self, max_batch: usize) -> Option<Vec<Box<dyn Job>>> {
        let mut jobs: Vec<Box<dyn Job>> = Vec::new();
        let mut passed = 0;
        while jobs.len() < max_batch && passed < self.turns.len() {
            match self.take_of_next(|size| size == Size::Small) {
                Some(job) => {
                    jobs.push(job);
                    passed = 0;
                }
                None => passed += 1,
            }
        }
        self.was_shared = true;
        (!jobs.is_empty()).then_some(jobs)
    }

    /// One job that has a transaction to itself.
    fn take_alone(&mut self) -> Option<Vec<Box<dyn Job>>> {
        let may_be_large = self.large_slots > 0;
        self.was_shared = false;
        for _ in 0..self.turns.len() {
            let fits = |size| size == Size::Statement || (size == Size::Large && may_be_large);
            if let Some(job) = self.take_of_next(fits) {
                return Some(vec![job]);
            }
        }
        None
    }

    /// The first job of the owner whose turn it is, if it fits; the turn passes on.
    fn take_of_next(&mut self, fits: impl Fn(Size) -> bool) -> Option<Box<dyn Job>> {
        let owner = self.turns.pop_front()?;
        let lane = self.lanes.get_mut(&owner)?;
        let mut taken = None;
        while taken.is_none()
            && let Some(job) = lane.pop_front_if(|job| !job.is_wanted() || fits(job.size()))
        {
            self.metrics.writer_queue.dec();
            // A job whose caller has stopped waiting is dropped.
            taken = job.begin().then_some(job);
        }
        if lane.is_empty() {
            self.lanes.remove(&owner);
        } else {
            self.turns.push_back(owner);
        }
        taken
    }
}
