//! For whom the store works: what one of them asks for must not use up what the others wait for.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::futures::TaskLocalFuture;

use super::ClientStanding;
use crate::id::ClientId;

tokio::task_local! {
    static OWNER: RefCell<Caller>;
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

/// Who caused what a request does, and by what they were judged.
pub(crate) struct Caller {
    owner: Owner,
    standing: Option<ClientStanding>,
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
        OWNER.try_with(|caller| caller.borrow().owner.clone()).unwrap_or(Self::Service)
    }

    /// What the client that caused what the current task does was judged by; `None` for everybody else.
    pub(crate) fn standing() -> Option<ClientStanding> {
        OWNER.try_with(|caller| caller.borrow().standing.clone()).ok().flatten()
    }

    /// Runs the future of a request, of whose caller nothing is known yet; notes whether it records an event.
    pub(crate) fn scope<F: Future>(
        recorded: Recorded,
        request: F,
    ) -> TaskLocalFuture<Recorded, TaskLocalFuture<RefCell<Caller>, F>> {
        let caller = Caller { owner: Self::Stranger, standing: None };
        RECORDED.scope(recorded, OWNER.scope(RefCell::new(caller), request))
    }

    /// From now on the current request is of this owner, who is judged again in each transaction that writes for it.
    pub(crate) fn becomes_current(self, standing: Option<ClientStanding>) {
        drop(OWNER.try_with(|caller| caller.replace(Caller { owner: self, standing })));
    }
}
