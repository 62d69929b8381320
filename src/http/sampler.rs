//! Sampling of the log lines of requests.

use std::sync::atomic::{AtomicU32, Ordering};

/// Takes one of every `one_in`.
pub(crate) struct Sampler {
    one_in: u32,
    count: AtomicU32,
}

impl Sampler {
    pub(crate) const fn one_in(one_in: u32) -> Self {
        Self { one_in, count: AtomicU32::new(0) }
    }

    pub(crate) fn take(&self) -> bool {
        self.one_in <= 1 || self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }
}
