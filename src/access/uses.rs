//! When each client was last seen by this instance, to the minute: a request writes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::Duration;

use crate::clock::Timestamp;
use crate::id::ClientId;

/// What an instance remembers until it is written down.
#[derive(Default)]
pub(crate) struct ClientUses(Mutex<HashMap<ClientId, Timestamp>>);

impl ClientUses {
    /// Notes that a client was authenticated.
    pub(crate) fn note(&self, id: &ClientId, now: Timestamp) {
        let mut seen = self.seen();
        match seen.get_mut(id) {
            Some(at) if now.since(*at) < Duration::MINUTE => {}
            Some(at) => *at = now,
            None => drop(seen.insert(id.clone(), now)),
        }
    }

    /// When a client was last seen here.
    pub(crate) fn of(&self, id: &ClientId) -> Option<Timestamp> {
        self.seen().get(id).copied()
    }

    /// What was noted since a time.
    pub(crate) fn since(&self, time: Timestamp) -> Vec<(ClientId, Timestamp)> {
        self.seen().iter().filter(|(_, at)| **at >= time).map(|(id, at)| (id.clone(), *at)).collect()
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<ClientId, Timestamp>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
