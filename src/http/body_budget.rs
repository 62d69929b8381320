//! Budgets for bodies: what is in memory of them at a time.
//!
//! Whoever sends a body can keep its last byte back, and strangers need no key for that. The bodies of all strangers
//! together have so much room, and those of all clients; a network, or a client, may have a fraction of what is free. So it
//! takes many to take everything: each leaves room for the next one, which gets less, and small bodies find room longest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::store::Owner;

/// Shortest time between two warnings about refused bodies.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// A budget of a process.
pub(super) struct BodyBudget {
    /// Bytes that there are for all.
    room: usize,
    /// One sender may have one part in so many of what is free.
    parts: usize,
    /// What to do about refused bodies.
    advice: &'static str,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    in_all: usize,
    by_sender: HashMap<Owner, usize>,
    warned_at: Option<Instant>,
}

impl BodyBudget {
    /// The budget of those who have proven nothing yet, by network.
    pub(super) fn of_strangers() -> Arc<Self> {
        let advice = "bodies of unknown senders are refused, because too much of them is in memory; a proxy belongs into \
                      `limits.trusted_proxies`";
        Arc::new(Self { room: 32 * 1024 * 1024, parts: 8, advice, taken: Mutex::default() })
    }

    /// The budget of those whom the heads of their requests prove.
    pub(super) fn of_clients() -> Arc<Self> {
        let advice = "bodies of a client are refused, because too much of them is in memory";
        Arc::new(Self { room: 128 * 1024 * 1024, parts: 4, advice, taken: Mutex::default() })
    }

    /// A body of which nothing has arrived. What is known to find no room is refused before it is sent.
    ///
    /// # Errors
    /// `unavailable`
    pub(super) fn body(self: &Arc<Self>, sender: Owner, length: usize) -> Result<CountedBody, Error> {
        self.with(&mut self.taken(), &sender, length)?;
        Ok(CountedBody { budget: Arc::clone(self), sender, bytes: 0 })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a sender would have with so many bytes more.
    ///
    /// # Errors
    /// `unavailable`, if that is too much.
    fn with(&self, taken: &mut Taken, sender: &Owner, bytes: usize) -> Result<usize, Error> {
        let own = taken.by_sender.get(sender).copied().unwrap_or(0) + bytes;
        if own <= self.room.saturating_sub(taken.in_all + bytes) / self.parts {
            return Ok(own);
        }
        if taken.warned_at.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            taken.warned_at = Some(Instant::now());
            tracing::warn!(body.sender = ?sender, "{}", self.advice);
        }
        Err(Error::unavailable().detail("too many bodies of this sender, or of all, arrive at this moment"))
    }
}

/// What has arrived of a body; given back when it is dropped.
pub(super) struct CountedBody {
    budget: Arc<BodyBudget>,
    sender: Owner,
    bytes: usize,
}

impl CountedBody {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `unavailable`
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let mut taken = self.budget.taken();
        let own = self.budget.with(&mut taken, &self.sender, bytes)?;
        taken.by_sender.insert(self.sender.clone(), own);
        taken.in_all += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.in_all -= self.bytes;
        if let Some(own) = taken.by_sender.get_mut(&self.sender) {
            *own -= self.bytes;
            if *own == 0 {
                taken.by_sender.remove(&self.sender);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn network(number: usize) -> Owner {
        Owner::Address(std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into())
    }

    /// Bodies of a network, as many of a size as find room.
    fn as_many_as_fit(budget: &Arc<BodyBudget>, number: usize, size: usize) -> Vec<CountedBody> {
        let body = || {
            let mut body = budget.body(network(number), 0).ok()?;
            body.grow(size).ok().map(|()| body)
        };
        std::iter::from_fn(body).collect()
    }

    #[test]
    fn what_one_network_takes_leaves_room_for_the_next_one() {
        let budget = BodyBudget::of_strangers();
        let mut held = as_many_as_fit(&budget, 1, 1024 * KIB);
        assert_eq!(held.len(), 3);
        assert!(budget.body(network(2), 1024 * KIB).is_ok());
        for number in 2..25 {
            held.extend(as_many_as_fit(&budget, number, KIB));
        }
        assert!(budget.body(network(25), 1024 * KIB).is_err());
        assert!(budget.body(network(25), 64 * KIB).is_ok());
        assert!(budget.body(network(1), 1).is_err(), "who has most gets no more");
        for number in 25..1_000 {
            held.extend(as_many_as_fit(&budget, number, KIB));
        }
        assert!(budget.taken().in_all <= budget.room);
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let budget = BodyBudget::of_strangers();
        for _ in 0..3 {
            let held = as_many_as_fit(&budget, 1, 64 * KIB);
            assert!(held.len() > 50);
            assert!(as_many_as_fit(&budget, 1, 64 * KIB).is_empty());
        }
        // A body of which nothing ever came, and one that was refused in its midst.
        drop(budget.body(network(2), 0));
        let mut body = budget.body(network(3), 0).unwrap();
        body.grow(KIB).unwrap();
        body.grow(budget.room).unwrap_err();
        drop(body);
        let taken = budget.taken();
        assert_eq!((taken.in_all, taken.by_sender.len()), (0, 0));
    }
}
