//! The clock of a sandbox: true time, and how far it was moved.

use std::sync::atomic::{AtomicI64, Ordering};

use time::Duration;

use super::{Clock, Timestamp};

/// Another clock, moved forward.
#[derive(Debug)]
pub struct Moved {
    source: Clock,
    /// Microseconds.
    by: AtomicI64,
}

impl Moved {
    pub(super) const fn new(source: Clock) -> Self {
        Self { source, by: AtomicI64::new(0) }
    }

    pub(super) const fn source(&self) -> &Clock {
        &self.source
    }

    pub(super) fn now(&self) -> Timestamp {
        self.source.now().plus(self.moved())
    }

    pub(super) fn moved(&self) -> Duration {
        Duration::microseconds(self.by.load(Ordering::SeqCst))
    }

    /// An answer of the database that comes late takes nothing back.
    pub(super) fn move_to(&self, moved: Duration) {
        self.by.fetch_max(i64::try_from(moved.whole_microseconds()).unwrap_or(0), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_clock_of_a_sandbox_is_moved_and_never_back() {
        let began = Timestamp::from_utc(datetime!(2026-01-01 0:00 UTC));
        let clock = Clock::manual(began).of_sandbox(Duration::DAY);
        assert_eq!(clock.now(), began.plus(Duration::DAY), "as the database says");
        clock.move_to(Duration::HOUR);
        assert_eq!(clock.now(), began.plus(Duration::DAY), "a late answer");
        clock.move_to(Duration::WEEK);
        clock.advance(Duration::MINUTE);
        assert_eq!(clock.now(), began.plus(Duration::WEEK + Duration::MINUTE), "true time goes on");
        assert_eq!(clock.true_now(), began.plus(Duration::MINUTE));
        assert_eq!(clock.moved(), Duration::WEEK);
    }
}
