//! For whom the store works: what one of them asks for must not use up what the others wait for.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::futures::TaskLocalFuture;

use crate::id::ClientId;

tokio::task_local! {
    static OWNER: RefCell<Owner>;
    static RECORDED: Recorded;
}

/// Whether what a request does has been put on record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded(Arc<AtomicBool>);

impl Recorded {
    /// That of the request which the current task answers.
    pub(super) fn current() -> Option<Self> {
        RECORDED.try_with(Clone::clone).ok()
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Who caused a piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// The service itself: its workers, and the command line.
    Service,
    /// Callers of whom nothing is known.
    Stranger,
    /// An anonymous caller: a visitor of the landing page.
    Address(IpAddr),
    /// An authenticated client.
    Client(ClientId),
}

impl Owner {
    /// Whoever caused what the current task does.
    pub(crate) fn current() -> Self {
        OWNER.try_with(|owner| owner.borrow().clone()).unwrap_or(Self::Service)
    }

    /// Runs the future of a request, of whose caller nothing is known yet; notes whether it records an event.
    pub(crate) fn scope<F: Future>(
        recorded: Recorded,
        request: F,
    ) -> TaskLocalFuture<Recorded, TaskLocalFuture<RefCell<Self>, F>> {
        RECORDED.scope(recorded, OWNER.scope(RefCell::new(Self::Stranger), request))
    }

    /// From now on the current request is of this owner.
    pub(crate) fn becomes_current(self) {
        drop(OWNER.try_with(|owner| owner.replace(self)));
    }
}
