//! A budget for the bodies of strangers: what is in memory of bodies whose senders have proven nothing yet.
//!
//! Whoever has no key can send a body all the same, and keep its last byte back. All these bodies together have so much
//! room, and a network may have a fraction of what is free. So it takes many networks to take everything: each leaves
//! room for the next one, which gets less, and small bodies find room longest.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Bytes that there are for all of them.
const ROOM: usize = 32 * 1024 * 1024;

/// A network may have one part in so many of what is free.
const PARTS: usize = 8;

/// Shortest time between two warnings about refused bodies.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The budget of a process.
#[derive(Default)]
pub(super) struct BodyBudget(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    in_all: usize,
    by_network: HashMap<IpAddr, usize>,
    warned_at: Option<Instant>,
}

impl BodyBudget {
    /// A body of which nothing has arrived. What is known to find no room is refused before it is sent.
    ///
    /// # Errors
    /// `unavailable`
    pub(super) fn body(self: &Arc<Self>, network: IpAddr, length: usize) -> Result<UnprovenBody, Error> {
        self.taken().with(network, length)?;
        Ok(UnprovenBody { budget: Arc::clone(self), network, bytes: 0 })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// What a network would have with so many bytes more.
    ///
    /// # Errors
    /// `unavailable`, if that is too much.
    fn with(&mut self, network: IpAddr, bytes: usize) -> Result<usize, Error> {
        let own = self.by_network.get(&network).copied().unwrap_or(0) + bytes;
        if own <= ROOM.saturating_sub(self.in_all + bytes) / PARTS {
            return Ok(own);
        }
        if self.warned_at.is_none_or(|at| at.elapsed() > WARN_EVERY) {
            self.warned_at = Some(Instant::now());
            tracing::warn!(
                peer.address = %network,
                "bodies of unknown senders are refused, because too much of them is in memory; a proxy belongs into \
                 `limits.trusted_proxies`"
            );
        }
        Err(Error::unavailable().detail("too many bodies of unknown senders arrive at this moment"))
    }
}

/// What has arrived of a body whose sender has proven nothing; given back when it is dropped.
pub(super) struct UnprovenBody {
    budget: Arc<BodyBudget>,
    network: IpAddr,
    bytes: usize,
}

impl UnprovenBody {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// `unavailable`
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Error> {
        let mut taken = self.budget.taken();
        let own = taken.with(self.network, bytes)?;
        taken.by_network.insert(self.network, own);
        taken.in_all += bytes;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for UnprovenBody {
    fn drop(&mut self) {
        let mut taken = self.budget.taken();
        taken.in_all -= self.bytes;
        if let Some(own) = taken.by_network.get_mut(&self.network) {
            *own -= self.bytes;
            if *own == 0 {
                taken.by_network.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn network(number: usize) -> IpAddr {
        std::net::Ipv4Addr::from_bits(u32::try_from(number).unwrap()).into()
    }

    /// Bodies of a network, as many of a size as find room.
    fn as_many_as_fit(budget: &Arc<BodyBudget>, number: usize, size: usize) -> Vec<UnprovenBody> {
        let body = || {
            let mut body = budget.body(network(number), 0).ok()?;
            body.grow(size).ok().map(|()| body)
        };
        std::iter::from_fn(body).collect()
    }

    #[test]
    fn what_one_network_takes_leaves_room_for_the_next_one() {
        let budget = Arc::<BodyBudget>::default();
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
        assert!(budget.taken().in_all <= ROOM);
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let budget = Arc::<BodyBudget>::default();
        for _ in 0..3 {
            let held = as_many_as_fit(&budget, 1, 64 * KIB);
            assert!(held.len() > 50);
            assert!(as_many_as_fit(&budget, 1, 64 * KIB).is_empty());
        }
        // A body of which nothing ever came, and one that was refused in its midst.
        drop(budget.body(network(2), 0));
        let mut body = budget.body(network(3), 0).unwrap();
        body.grow(KIB).unwrap();
        body.grow(ROOM).unwrap_err();
        drop(body);
        let taken = budget.taken();
        assert_eq!((taken.in_all, taken.by_network.len()), (0, 0));
    }
}
