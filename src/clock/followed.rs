//! The clock of the database's server, as this process counts it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use time::{Duration, OffsetDateTime};

use super::Timestamp;

/// How long one look at the server's clock serves.
const LOOK_EVERY: Duration = Duration::MINUTE;

/// A difference between the machine's two clocks by which one of them was set, or the machine slept.
const STEP: Duration = Duration::milliseconds(500);

const NEVER: i64 = i64::MIN;

/// The server's clock at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub told: Timestamp,
    /// When it was told: the middle of the round trip.
    pub at: Instant,
}

/// A clock that follows the server's. Between two looks it counts by the monotonic clock, so nothing happens to it when
/// the machine's own clock is set. All numbers are microseconds.
#[derive(Debug)]
pub struct Followed {
    born: Instant,
    /// What the machine's own clock is wrong by: in tests.
    wrong_by: i64,
    /// The time at `born`.
    base: AtomicI64,
    /// The latest time that was told.
    latest: AtomicI64,
    /// The machine's own time at `born`, as of the last look.
    own_base: AtomicI64,
    /// When the last look was, after `born`.
    looked: AtomicI64,
}

impl Followed {
    pub(super) fn new(wrong_by: Duration) -> Self {
        let born = Instant::now();
        let wrong_by = micros(wrong_by);
        let base = own_micros() + wrong_by;
        Self {
            born,
            wrong_by,
            base: AtomicI64::new(base),
            latest: AtomicI64::new(NEVER),
            own_base: AtomicI64::new(base),
            looked: AtomicI64::new(NEVER),
        }
    }

    /// The time, never earlier than it was told before.
    pub(super) fn now(&self) -> i64 {
        let now = self.base.load(Ordering::SeqCst) + self.since_birth(Instant::now());
        self.latest.fetch_max(now, Ordering::SeqCst).max(now)
    }

    pub(super) fn look(&self, look: Look) {
        let now = Instant::now();
        self.base.store(look.told.unix_micros() - self.since_birth(look.at), Ordering::SeqCst);
        self.own_base.store(self.own_base(now), Ordering::SeqCst);
        self.looked.store(self.since_birth(now), Ordering::SeqCst);
    }

    pub(super) fn wants_a_look(&self) -> bool {
        let (now, looked) = (Instant::now(), self.looked.load(Ordering::SeqCst));
        let step = self.own_base(now) - self.own_base.load(Ordering::SeqCst);
        looked == NEVER || self.since_birth(now) - looked >= micros(LOOK_EVERY) || step.abs() > micros(STEP)
    }

    /// The server's time minus the machine's own, as of the last look; or minus the time that was told, while that stands
    /// still because the server's went back by more.
    pub(super) fn offset(&self) -> Option<Duration> {
        let looked = self.looked.load(Ordering::SeqCst) != NEVER;
        let base = self.base.load(Ordering::SeqCst);
        let own = base - self.own_base.load(Ordering::SeqCst);
        let told = (base + self.since_birth(Instant::now())).saturating_sub(self.latest.load(Ordering::SeqCst)).min(0);
        looked.then(|| Duration::microseconds(if told.abs() > own.abs() { told } else { own }))
    }

    fn own_base(&self, now: Instant) -> i64 {
        own_micros() + self.wrong_by - self.since_birth(now)
    }

    /// Negative for a moment before.
    fn since_birth(&self, at: Instant) -> i64 {
        let after =
            |later: Instant, earlier| i64::try_from(later.duration_since(earlier).as_micros()).unwrap_or(i64::MAX);
        if at < self.born { -after(self.born, at) } else { after(at, self.born) }
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock reads the clock")]
fn own_micros() -> i64 {
    Timestamp::from_utc(OffsetDateTime::now_utc()).unix_micros()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.whole_microseconds()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(later: Duration) -> Look {
        let own = own_micros() + micros(later);
        let told = OffsetDateTime::from_unix_timestamp_nanos(i128::from(own) * 1_000).unwrap();
        Look { told: Timestamp::from_utc(told), at: Instant::now() }
    }

    fn ahead(clock: &Followed) -> i64 {
        (clock.now() - own_micros()) / 1_000_000
    }

    #[test]
    fn it_follows_the_server_and_not_the_machine() {
        for wrong_by in [Duration::ZERO, Duration::minutes(-5), Duration::hours(3)] {
            let clock = Followed::new(wrong_by);
            assert!(clock.wants_a_look() && clock.offset().is_none());
            clock.look(told(Duration::seconds(30)));
            assert!(!clock.wants_a_look());
            let off = clock.offset().unwrap() - (Duration::seconds(30) - wrong_by);
            assert!(off.abs() < Duration::SECOND, "{off}");
            assert!((29..=31).contains(&ahead(&clock)), "{}", ahead(&clock));
        }
    }

    #[test]
    fn it_stands_still_rather_than_going_back() {
        let clock = Followed::new(Duration::ZERO);
        clock.look(told(Duration::minutes(10)));
        let before = clock.now();
        clock.look(told(Duration::ZERO));
        assert_eq!(clock.now(), before);
        assert!(clock.offset().unwrap() < Duration::minutes(-9), "it is behind what it has told");
        clock.look(told(Duration::minutes(20)));
        assert!(clock.now() > before);
    }

    #[test]
    fn a_machine_whose_clock_is_set_looks_again() {
        let clock = Followed::new(Duration::ZERO);
        clock.look(told(Duration::ZERO));
        let set = Followed { wrong_by: micros(Duration::seconds(2)), ..clock };
        assert!(set.wants_a_look());
    }
}
