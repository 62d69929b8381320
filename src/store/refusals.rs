//! Limits refusals in the audit log: many equal ones in a minute become one event with a count.
//!
//! Each instance counts for itself. A crash loses the counts that are not
//! recorded yet, at most about a minute of repeats.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::Duration;

use crate::clock::Timestamp;
use crate::journal::{Event, RefusalKey};

/// Equal refusals a minute that get an event each.
const MAX_PER_MINUTE: u32 = 60;

const MINUTE: Duration = Duration::minutes(1);

/// The refusals of the last minute.
#[derive(Debug, Default)]
pub(super) struct RefusalCounts(Mutex<HashMap<RefusalKey, Counted>>);

#[derive(Debug)]
struct Counted {
    since: Timestamp,
    recorded: u32,
    /// The newest refusal without an event of its own, and the number of such refusals.
    rest: Option<(Event, u32)>,
}

/// Refusals on their way into the audit log. Dropped before they were recorded, they count again as they did before.
pub(super) struct Admission<'c> {
    counts: &'c RefusalCounts,
    pub events: Vec<Event>,
    taken: Vec<(RefusalKey, Taken)>,
}

/// What an admission has changed in the counts.
#[expect(clippy::large_enum_variant, reason = "a few, for the time of one transaction")]
enum Taken {
    /// One of the events of the minute.
    Slot,
    /// One more refusal without an event of its own.
    Counted,
    /// The count of a minute that has ended.
    Rest(Event, u32),
}

impl RefusalCounts {
    /// The events to record for refusals: each unless the limit is reached, and the count of the previous minute if
    /// that has ended. A refusal without a code is an alarm, and is never counted instead.
    pub(super) fn admit(&self, refusals: Vec<Event>) -> Admission<'_> {
        let mut admission = Admission { counts: self, events: Vec::new(), taken: Vec::new() };
        let mut counts = self.counts();
        for refusal in refusals {
            let now = refusal.recorded_at;
            let Some(key) = refusal.refusal_key() else {
                admission.events.push(refusal);
                continue;
            };
            let counted = counts.entry(key.clone()).or_insert_with(|| Counted::from(now));
            if !now.last(MINUTE).contains(counted.since) {
                let before = std::mem::replace(counted, Counted::from(now));
                admission.take_rest(&key, before, now);
            }
            if counted.recorded < MAX_PER_MINUTE {
                counted.recorded += 1;
                admission.taken.push((key, Taken::Slot));
                admission.events.push(refusal);
            } else {
                let number = counted.rest.take().map_or(0, |(_, number)| number);
                counted.rest = Some((refusal, number + 1));
                admission.taken.push((key, Taken::Counted));
            }
        }
        admission
    }

    /// Takes the counts that were begun at least `age` ago.
    pub(super) fn take(&self, age: Duration, now: Timestamp) -> Admission<'_> {
        let mut admission = Admission { counts: self, events: Vec::new(), taken: Vec::new() };
        let mut counts = self.counts();
        for (key, counted) in counts.extract_if(|_, counted| !now.last(age).contains(counted.since)) {
            admission.take_rest(&key, counted, now);
        }
        admission
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<RefusalKey, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission<'_> {
    fn take_rest(&mut self, key: &RefusalKey, counted: Counted, now: Timestamp) {
        if let Some((newest, number)) = counted.rest {
            self.events.push(newest.clone().counted(number, counted.since, now));
            self.taken.push((key.clone(), Taken::Rest(newest, number)));
        }
    }

    /// The events have been committed.
    pub(super) fn recorded(mut self) {
        self.taken.clear();
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let mut counts = self.counts.counts();
        for (key, taken) in self.taken.drain(..) {
            match taken {
                Taken::Rest(newest, number) => {
                    let counted = counts.entry(key).or_insert_with(|| Counted::from(newest.recorded_at));
                    let more = counted.rest.take().map_or(0, |(_, more)| more);
                    counted.rest = Some((newest, number + more));
                }
                Taken::Slot => {
                    if let Some(counted) = counts.get_mut(&key) {
                        counted.recorded = counted.recorded.saturating_sub(1);
                    }
                }
                Taken::Counted => {
                    if let Some(counted) = counts.get_mut(&key) {
                        let rest = counted.rest.take();
                        counted.rest =
                            rest.filter(|(_, number)| *number > 1).map(|(newest, number)| (newest, number - 1));
                    }
                }
            }
        }
    }
}

impl Counted {
    const fn from(since: Timestamp) -> Self {
        Self { since, recorded: 0, rest: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::error::Code;
    use crate::id::ClientId;

    #[test]
    fn sixty_equal_refusals_a_minute_are_recorded_and_the_rest_is_counted() {
        let now = Clock::System.now();
        let (one, other) = (ClientId::new(now), ClientId::new(now));
        let counts = RefusalCounts::default();
        let refused = |client: &ClientId, route: &str, code: Code, at: Timestamp| {
            let admission =
                counts.admit(vec![Event::access_refused(client, "Test client", "GET", route, None, code, at)]);
            let events = admission.events.clone();
            admission.recorded();
            events
        };
        let recorded = (0..200).map(|_| refused(&one, "/v1/keys", Code::InsufficientScope, now).len()).sum::<usize>();
        assert_eq!(recorded, 60);
        assert_eq!(refused(&other, "/v1/keys", Code::InsufficientScope, now).len(), 1);
        assert_eq!(refused(&one, "/v1/clients", Code::InsufficientScope, now).len(), 1);
        assert_eq!(refused(&one, "/v1/keys", Code::NotFound, now).len(), 1);
        assert!(counts.take(MINUTE, now.plus(Duration::seconds(59))).events.is_empty());
        let later = now.plus(MINUTE);
        let both = refused(&one, "/v1/keys", Code::InsufficientScope, later);
        assert_eq!(both.len(), 2, "the count of the minute before, and itself");
        assert_eq!(both[0].data["count"], 140);
        assert!(counts.take(MINUTE, later).events.is_empty(), "nothing was left out of the others");
    }

    #[test]
    fn what_was_not_recorded_counts_again() {
        let now = Clock::System.now();
        let (client, counts) = (ClientId::new(now), RefusalCounts::default());
        let refusal = |at| Event::access_refused(&client, "Test client", "GET", "/v1/keys", None, Code::NotFound, at);
        counts.admit((0..90).map(|_| refusal(now)).collect()).recorded();
        let later = now.plus(MINUTE);
        for _ in 0..3 {
            // Its transaction is lost.
            assert_eq!(counts.admit(vec![refusal(later)]).events.len(), 2);
            assert_eq!(counts.take(Duration::ZERO, later).events[0].data["count"], 30);
        }
    }
}
