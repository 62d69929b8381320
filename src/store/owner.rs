//! For whom the store works: what one of them asks for must not use up what the others wait for.

use std::cell::RefCell;
use std::net::IpAddr;

use tokio::task::futures::TaskLocalFuture;

use crate::id::ClientId;

tokio::task_local! {
    static OWNER: RefCell<Owner>;
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

    /// Runs the future of a request, of whose caller nothing is known yet.
    pub(crate) fn scope<F: Future>(request: F) -> TaskLocalFuture<RefCell<Self>, F> {
        OWNER.scope(RefCell::new(Self::Stranger), request)
    }

    /// From now on the current request is of this owner.
    pub(crate) fn becomes_current(self) {
        drop(OWNER.try_with(|owner| owner.replace(self)));
    }
}
