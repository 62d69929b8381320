//! The transactions that are in progress: one that takes long holds all who wait for a writer.

use std::time::{Duration, Instant};

/// When each of them began.
#[derive(Default)]
pub(super) struct Running {
    begun: Vec<(u64, Instant)>,
    next: u64,
}

impl Running {
    /// Begins one, and returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        self.next += 1;
        self.begun.push((self.next, Instant::now()));
        self.next
    }

    pub(super) fn end(&mut self, number: u64) {
        self.begun.retain(|(one, _)| *one != number);
    }

    /// How long the oldest takes so far.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.begun.first().map(|(_, began)| began.elapsed())
    }
}
