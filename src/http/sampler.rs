//! Sampling of the log lines of requests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::telemetry::PerMinute;

/// Decides which requests get a line.
pub(crate) struct Sampler {
    one_in: u32,
    count: AtomicU32,
    refusals: Mutex<PerMinute>,
}

impl Sampler {
    /// Takes one of so many requests that went well.
    pub(crate) fn one_in(one_in: u32) -> Self {
        Self { one_in, count: AtomicU32::new(0), refusals: Mutex::default() }
    }

    /// Whether a request that went well gets a line.
    pub(crate) fn take(&self) -> bool {
        self.one_in <= 1 || self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }

    /// Whether the refusal of a stranger gets a line: how many before it got none.
    pub(crate) fn take_refusal(&self) -> Option<u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }
}
