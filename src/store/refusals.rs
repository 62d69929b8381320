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

impl RefusalCounts {
    /// The events to record for a refusal: itself unless the limit is reached, and the count of the previous minute if
    /// that has ended.
    pub(super) fn admit(&self, refusal: Event) -> impl Iterator<Item = Event> {
        let now = refusal.recorded_at;
        let mut counts = self.counts();
        let fresh = || Counted { since: now, recorded: 0, rest: None };
        let counted = counts.entry(refusal.refusal_key()).or_insert_with(fresh);
        let is_over = now.since(counted.since) >= MINUTE;
        let before = if is_over { std::mem::replace(counted, fresh()).summary(now) } else { None };
        let itself = if counted.recorded < MAX_PER_MINUTE {
            counted.recorded += 1;
            Some(refusal)
        } else {
            let number = counted.rest.take().map_or(0, |(_, number)| number);
            counted.rest = Some((refusal, number + 1));
            None
        };
        before.into_iter().chain(itself)
    }

    /// Removes and returns the counts that were begun at least `age` ago.
    pub(super) fn take(&self, age: Duration, now: Timestamp) -> Vec<Event> {
        let mut counts = self.counts();
        let old = counts.extract_if(|_, counted| now.since(counted.since) >= age);
        old.filter_map(|(_, counted)| counted.summary(now)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<RefusalKey, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn summary(self, now: Timestamp) -> Option<Event> {
        let (newest, number) = self.rest?;
        Some(newest.counted(number, self.since, now))
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
            counts.admit(Event::access_refused(client, "GET", route, None, code, at)).collect::<Vec<_>>()
        };
        let recorded = (0..200).map(|_| refused(&one, "/v1/keys", Code::InsufficientScope, now).len()).sum::<usize>();
        assert_eq!(recorded, 60);
        assert_eq!(refused(&other, "/v1/keys", Code::InsufficientScope, now).len(), 1);
        assert_eq!(refused(&one, "/v1/clients", Code::InsufficientScope, now).len(), 1);
        assert_eq!(refused(&one, "/v1/keys", Code::NotFound, now).len(), 1);
        assert!(counts.take(MINUTE, now.plus(Duration::seconds(59))).is_empty());
        let later = now.plus(MINUTE);
        let both = refused(&one, "/v1/keys", Code::InsufficientScope, later);
        assert_eq!(both.len(), 2, "the count of the minute before, and itself");
        assert_eq!(both[0].data["count"], 140);
        assert!(counts.take(MINUTE, later).is_empty(), "nothing was left out of the others");
    }
}
