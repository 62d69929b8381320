//! A secret of the configuration: what holds it sees the next one, too.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// A secret that may be replaced while the service runs; its clones are the same secret. It does not print.
pub struct Kept<T>(Arc<RwLock<T>>);

impl<T: Clone> Kept<T> {
    /// Keeps a first one.
    #[must_use]
    pub fn new(first: T) -> Self {
        Self(Arc::new(RwLock::new(first)))
    }

    /// The secret as it is now.
    pub(crate) fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces it for everybody who holds it.
    pub(crate) fn set(&self, next: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
