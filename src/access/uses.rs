//! When each client was last seen by this instance, to the minute: a request writes nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::id::ClientId;

/// What an instance remembers until it is written down.
#[derive(Default)]
pub(crate) struct ClientUses(Mutex<HashMap<ClientId, Timestamp>>);

impl ClientUses {
    /// Notes that a client was authenticated. Who has a [`LiveClient`](super::LiveClient) asks it before.
    pub(crate) fn note(&self, id: &ClientId, now: Timestamp) {
        self.seen().insert(id.clone(), now);
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
