//! Shares in what few may use at a time: whoever wants more of it waits for themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Owner, acquire};
use crate::error::Error;

/// The share of each owner.
#[derive(Debug)]
pub(super) struct Shares {
    /// How many permits one owner may hold.
    each: usize,
    /// Those that somebody holds, or waits for.
    of: Mutex<HashMap<Owner, Weak<Semaphore>>>,
}

impl Shares {
    /// Half of `all` for each, and one at least.
    pub(super) fn half_of(all: usize) -> Self {
        Self { each: (all / 2).max(1), of: Mutex::default() }
    }

    /// Waits for one of the owner's own permits, but not for ever; the service itself needs none.
    pub(super) async fn take(&self, owner: &Owner, limit: Duration) -> Result<Option<OwnedSemaphorePermit>, Error> {
        match self.of(owner) {
            Some(share) => acquire(&share, limit).await.map(Some),
            None => Ok(None),
        }
    }

    /// What the owner's own permits are taken from; `None` for the service itself, which asks for one thing after the
    /// other.
    fn of(&self, owner: &Owner) -> Option<Arc<Semaphore>> {
        if *owner == Owner::Service {
            return None;
        }
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(owner).and_then(Weak::upgrade) {
            return Some(known);
        }
        of.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.each));
        of.insert(owner.clone(), Arc::downgrade(&share));
        Some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_share_keeps_it_from_nobody_else() {
        let shares = Shares::half_of(1);
        let of = |name: &str| shares.of(&Owner::Client(name.parse().unwrap())).unwrap();
        let (one, other) = ("cli_01k5x8w3p9e8t9a1b2c3d4e5f6", "cli_01k5x8w3p9e8t9a1b2c3d4e5f7");
        let held = of(one).try_acquire_owned().unwrap();
        assert!(of(one).try_acquire_owned().is_err());
        assert!(of(other).try_acquire_owned().is_ok());
        assert!(shares.of(&Owner::Service).is_none());
        drop(held);
        assert!(of(one).try_acquire_owned().is_ok());
        assert_eq!(shares.of.lock().unwrap().len(), 1, "nobody is remembered without a use");
    }
}
