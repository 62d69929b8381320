//! The client that acts, judged again where its act is written.
//!
//! A key is judged at the head of a request. Its body may come seconds later, and its write waits for a writer: what the
//! client lost meanwhile must not count any more. So each transaction compares the clients whose jobs it holds with what
//! they were judged by, in the statement that appends its events, and reads only those again that are not the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Conn;
use crate::error::Error;
use crate::id::ClientId;
use crate::records;
use crate::records::clients::Client;

/// What a client was judged by, and how it is judged again.
pub(crate) trait Judged: Send + Sync {
    fn client_id(&self) -> &ClientId;
    /// The standing of the client when it was judged, as `records::clients::standing` tells it.
    fn standing(&self) -> &str;
    /// Whether time alone may have ended what it was judged by.
    fn may_be_over(&self) -> bool;
    /// Judges the client as it is stored now.
    ///
    /// # Errors
    /// What another call with the same key would be refused with.
    fn judge(&self, found: Option<Client>) -> Result<(), Error>;
}

/// What the client of a request was judged by.
#[derive(Clone)]
pub(crate) struct ClientStanding(Arc<Inner>);

struct Inner {
    judged: Box<dyn Judged>,
    /// Whether it was judged by a job that changes the client itself: nothing is left to compare with.
    is_settled: AtomicBool,
}

impl ClientStanding {
    pub(crate) fn new(judged: impl Judged + 'static) -> Self {
        Self(Arc::new(Inner { judged: Box::new(judged), is_settled: AtomicBool::new(false) }))
    }

    pub(super) fn is_of(&self, client_id: &ClientId) -> bool {
        self.0.judged.client_id() == client_id
    }

    /// Judges the client as it is now.
    pub(super) fn judge(&self, conn: &mut Conn) -> Result<(), Error> {
        let found = records::clients::find(conn, self.0.judged.client_id())?;
        self.0.judged.judge(found)
    }

    /// Judges the client before a job changes it; it stays as it is found until the transaction ends.
    pub(super) fn judge_and_lock(&self, conn: &mut Conn) -> Result<(), Error> {
        let found = records::clients::lock(conn, self.0.judged.client_id())?;
        self.0.is_settled.store(true, Ordering::SeqCst);
        self.0.judged.judge(found)
    }
}

/// The clients that are to be judged at the end of a transaction.
#[derive(Default)]
pub(super) struct ClientStandings(Vec<ClientStanding>);

impl ClientStandings {
    pub(super) fn of(all: impl IntoIterator<Item = ClientStanding>) -> Self {
        Self(all.into_iter().filter(|standing| !standing.0.is_settled.load(Ordering::SeqCst)).collect())
    }

    /// The id and the standing of each, to be compared with what is stored.
    pub(super) fn to_compare(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|ClientStanding(one)| (one.judged.client_id().as_str(), one.judged.standing())).collect()
    }

    /// Judges those that are no longer what they were, or `all` of them where that is not known.
    pub(super) fn judge(&self, conn: &mut Conn, all: bool) -> Result<(), Error> {
        let mut doubtful = self.0.iter().filter(|standing| all || standing.0.judged.may_be_over());
        doubtful.try_for_each(|standing| standing.judge(conn))
    }
}
