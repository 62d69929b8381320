//! Sampling of the log lines of requests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines a minute about requests of strangers that were refused. Anybody can send those, as many as they like.
const REFUSALS_PER_MINUTE: u64 = 60;

const MINUTE: Duration = Duration::from_mins(1);

/// Decides which requests get a line.
pub(crate) struct Sampler {
    one_in: u32,
    count: AtomicU32,
    refusals: Mutex<Refusals>,
}

/// Refusals since the last full minute.
#[derive(Default)]
struct Refusals {
    since: Option<Instant>,
    count: u64,
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

impl Refusals {
    fn take(&mut self, now: Instant) -> Option<u64> {
        let mut left_out = 0;
        if self.since.is_none_or(|since| now.duration_since(since) >= MINUTE) {
            left_out = self.count.saturating_sub(REFUSALS_PER_MINUTE);
            (self.since, self.count) = (Some(now), 0);
        }
        self.count += 1;
        (self.count <= REFUSALS_PER_MINUTE).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_sixty_lines_a_minute_and_the_next_one_tells_of_the_others() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let lines = |refusals: &mut Refusals, at| (0..1_000).filter_map(|_| refusals.take(at)).collect::<Vec<_>>();
        assert_eq!(lines(&mut refusals, start), [0; 60]);
        assert!(lines(&mut refusals, start + MINUTE / 2).is_empty());
        assert_eq!(lines(&mut refusals, start + MINUTE).first(), Some(&1_940));
        assert_eq!(lines(&mut refusals, start + 2 * MINUTE).first(), Some(&940));
    }
}
