//! Circuit breaker: the first provider whose circuit is closed sends the next e-mail.
//!
//! Twenty failures in a row open a provider's circuit for a while; then one e-mail
//! at a time probes it (half-open). Meanwhile e-mail goes to the second provider,
//! if there is one, or waits in order without losing an attempt. The state is
//! local to each instance.

use std::sync::{Mutex, PoisonError};

use time::Duration;

use super::provider::{Provider, SendError};
use crate::clock::Timestamp;

/// Consecutive failures that open the circuit.
const FAILURES: u32 = 20;

const FIRST_PAUSE: Duration = Duration::seconds(30);
const LONGEST_PAUSE: Duration = Duration::minutes(5);

/// Longest pause that a provider may ask for.
const LONGEST_ASKED: Duration = Duration::hours(1);

/// Time-out of a probe.
const PROBE: Duration = Duration::seconds(60);

/// The providers in order of preference.
pub(crate) struct Providers(Vec<Guarded>);

/// A provider and its circuit.
pub(crate) struct Guarded {
    pub provider: Box<dyn Provider>,
    circuit: Mutex<Circuit>,
}

#[derive(Debug, Default)]
struct Circuit {
    /// Consecutive failures.
    failures: u32,
    open_until: Option<Timestamp>,
    probe_until: Option<Timestamp>,
    /// Number of openings since the last success.
    openings: u32,
}

impl Circuit {
    /// Whether an e-mail may be sent now. In the half-open state this takes the one probe.
    fn admit(&mut self, now: Timestamp) -> bool {
        let admits = self.might_admit(now);
        if admits && self.open_until.is_some() {
            self.probe_until = Some(now.plus(PROBE));
        }
        admits
    }

    fn might_admit(&self, now: Timestamp) -> bool {
        !self.is_paused(now) && !self.probe_until.is_some_and(|end| now.next(PROBE).contains(end))
    }

    fn is_paused(&self, now: Timestamp) -> bool {
        self.open_until.is_some_and(|end| now.next(LONGEST_ASKED).contains(end))
    }

    /// Counts a failure; returns how long the circuit is open, if this opened it.
    fn failed(&mut self, asked: Duration, now: Timestamp) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        let probed = self.probe_until.take().is_some();
        // Attempts that were running when it opened do not count again.
        if self.is_paused(now) || (self.failures < FAILURES && !probed) {
            return None;
        }
        let pause = (FIRST_PAUSE * 2_i32.saturating_pow(self.openings.min(8))).min(LONGEST_PAUSE).max(asked);
        self.openings = self.openings.saturating_add(1);
        self.open_until = Some(now.plus(pause));
        Some(pause)
    }
}

impl Guarded {
    fn circuit(&self) -> std::sync::MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an admission that was not used.
    pub(crate) fn release(&self) {
        self.circuit().probe_until = None;
    }

    /// Notes the outcome of an attempt. Returns whether the circuit is closed: then a failure is the e-mail's own.
    pub(crate) fn note(&self, failure: Option<&SendError>, now: Timestamp) -> bool {
        let mut circuit = self.circuit();
        let asked = match failure {
            // A permanent refusal shows that the provider works.
            None | Some(SendError::Permanent(_)) => {
                *circuit = Circuit::default();
                return true;
            }
            Some(SendError::Throttled { wait, .. }) => {
                Duration::try_from(*wait).unwrap_or(LONGEST_PAUSE).min(LONGEST_ASKED)
            }
            Some(_) => Duration::ZERO,
        };
        if let Some(pause) = circuit.failed(asked, now) {
            tracing::warn!(
                mail.provider = self.provider.name(),
                mail.pause_seconds = pause.whole_seconds(),
                "mail provider keeps failing; its circuit is open for a while"
            );
        }
        circuit.open_until.is_none()
    }
}

impl Providers {
    pub(crate) fn new(providers: Vec<Box<dyn Provider>>) -> Self {
        Self(providers.into_iter().map(|provider| Guarded { provider, circuit: Mutex::default() }).collect())
    }

    /// Whether any provider could send now.
    pub(crate) fn any(&self, now: Timestamp) -> bool {
        self.0.iter().any(|guarded| guarded.circuit().might_admit(now))
    }

    /// Names of the providers, and whether the circuit of each is open.
    pub(crate) fn circuits(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.0.iter().map(|one| (one.provider.name(), one.circuit().open_until.is_some()))
    }

    /// Consecutive openings of the first provider's circuit; 0 while it is closed.
    pub(crate) fn openings(&self) -> usize {
        self.0.first().map_or(0, |first| first.circuit().openings as usize)
    }

    /// The provider of the next attempt. An `uncertain` one that removes duplicates keeps the e-mail.
    pub(crate) fn choose(&self, uncertain: Option<&str>, now: Timestamp) -> Option<&Guarded> {
        let bound = uncertain.and_then(|name| {
            self.0.iter().find(|one| one.provider.name() == name && one.provider.removes_duplicates())
        });
        match bound {
            Some(bound) => bound.circuit().admit(now).then_some(bound),
            None => self.0.iter().find(|guarded| guarded.circuit().admit(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn twenty_failures_in_a_row_open_it_and_one_success_closes_it() {
        let now = Clock::System.now();
        let mut circuit = Circuit::default();
        for _ in 1..FAILURES {
            assert_eq!(circuit.failed(Duration::ZERO, now), None);
        }
        assert!(circuit.admit(now));
        assert_eq!(circuit.failed(Duration::ZERO, now), Some(FIRST_PAUSE));
        assert_eq!(circuit.failed(Duration::ZERO, now), None, "one that was under way");
        assert!(!circuit.admit(now) && !circuit.might_admit(now));

        let later = now.plus(FIRST_PAUSE);
        assert!(circuit.might_admit(later) && circuit.admit(later));
        assert!(!circuit.admit(later), "one probe at a time");
        assert_eq!(circuit.failed(Duration::ZERO, later), Some(FIRST_PAUSE * 2));
        let mut pause = Duration::ZERO;
        let mut at = later;
        for _ in 0..20 {
            at = at.plus(LONGEST_PAUSE);
            assert!(circuit.admit(at));
            pause = circuit.failed(Duration::ZERO, at).unwrap();
        }
        assert_eq!(pause, LONGEST_PAUSE);
        // A probe that never came back does not keep it open for ever.
        at = at.plus(LONGEST_PAUSE);
        assert!(circuit.admit(at) && !circuit.admit(at) && circuit.admit(at.plus(PROBE)));
    }

    #[test]
    fn a_provider_that_asks_for_time_gets_it() {
        let now = Clock::System.now();
        let mut circuit = Circuit { failures: FAILURES, ..Circuit::default() };
        assert_eq!(circuit.failed(Duration::minutes(20), now), Some(Duration::minutes(20)));
        assert!(!circuit.might_admit(now.plus(Duration::minutes(19))));
        assert!(circuit.might_admit(now.minus(Duration::hours(2))), "the clock was ahead, and was set right");
    }
}
