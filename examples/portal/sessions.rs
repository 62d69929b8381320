//! The support sessions this portal has open, and each one's numbered report of what was done.
//!
//! Everything is in memory: after a restart the visitor opens a fresh link. A portal of several copies keeps
//! this in its shared session store, and then the number must be drawn there, under that store's lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{Mutex, RwLock};
use tokio::time::Instant;

use crate::magic_link::{Act, Change, Error, Event, Kind, MagicLink, OpenedSession, Person};
use crate::web::{Place, Stop, log, now, random_id};

/// The name under which this portal numbers its events.
pub const SOURCE: &str = "portal";

const NOT_APPLIED: &str = "change.not_applied";

/// A report that took longer is asked about again before its act is done.
const SLOW: Duration = Duration::from_secs(1);

/// One visitor's session. No `Debug`: the access token must not reach a log by accident.
pub struct Session {
    pub id: String,
    pub place: Place,
    pub profile: Person,
    pub consultant_name: String,
    pub access_token: String,
    pub expires_at: OffsetDateTime,
    journal: Mutex<Journal>,
}

#[derive(Default)]
struct Journal {
    /// The highest number the service is known to have taken.
    last_seq: u64,
    /// Numbered, perhaps sent, not known to be taken.
    unsettled: Option<Event>,
    closed: bool,
}

/// Why an act was not recorded. Whoever gets this must not do the act.
#[derive(Debug, thiserror::Error)]
pub enum NotRecorded {
    #[error("the session was closed meanwhile")]
    Closed,
    #[error(transparent)]
    Stopped(#[from] Stop),
    #[error(transparent)]
    Service(#[from] Error),
}

impl Session {
    pub fn new(place: Place, opened: OpenedSession) -> Self {
        Self {
            id: opened.id,
            place,
            profile: opened.profile,
            consultant_name: opened.consultant.shown().to_owned(),
            access_token: opened.access_token,
            expires_at: opened.expires_at,
            journal: Mutex::default(),
        }
    }

    /// Records one act at the service. Only an `Ok` allows the act.
    ///
    /// The order is report, then do: a change that the service did not take must not happen, or it would be
    /// a change without a record. The number is drawn under a lock, since two requests with one number would
    /// contradict each other, and a number skipped reads as a lost event.
    ///
    /// An attempt without a verdict leaves its event unsettled, with number, time and content frozen, for the
    /// service may have it. It is noted *before* sending: a browser that goes away drops this future midway.
    ///
    /// `may` asks whether the visitor may do it, and until when. It is asked under the lock, since whoever waited for
    /// one, here or before, was let in that long ago; and once more where the report was slow or the time ran out
    /// meanwhile.
    pub async fn report(
        &self,
        service: &MagicLink,
        act: Act,
        may: impl AsyncFn(&Act) -> Result<OffsetDateTime, Stop>,
    ) -> Result<(), NotRecorded> {
        let mut journal = self.journal.lock().await;
        if journal.closed {
            return Err(NotRecorded::Closed);
        }
        // The same act again (the visitor pressed Save once more) is the retry of the unsettled event itself.
        let is_retry = journal.unsettled.as_ref().is_some_and(|event| event.act == act);
        if !is_retry {
            self.settle(service, &mut journal).await?;
        }
        let asked = Instant::now();
        let until = may(&act).await?;
        if !is_retry {
            journal.number(act.clone());
        }
        self.deliver(service, &mut journal).await?;
        if asked.elapsed() <= SLOW && now() < until {
            return Ok(());
        }
        // Noted before asking, too, and forgotten if the change is made after all.
        if let Some(back) = withdrawal(act.clone()) {
            journal.number(back);
        }
        if let Err(stop) = may(&act).await {
            // The visitor hears why it was not made. The record says so now, or with the next act or the count.
            if let Err(error) = self.settle(service, &mut journal).await {
                log(format_args!("session {}: a change is not taken back yet: {error}", self.id));
            }
            return Err(stop.into());
        }
        journal.unsettled = None;
        Ok(())
    }

    /// Closes the journal and ends the session at the service with the closing count.
    pub async fn end(&self, service: &MagicLink, consultant_done: bool) -> Result<(), Error> {
        let mut journal = self.journal.lock().await;
        journal.closed = true;
        // Try to leave nothing open. If that fails, the count is still true: it says what is known to be taken.
        if let Err(error) = self.settle(service, &mut journal).await {
            log(format_args!("session {}: an act of unknown outcome stays open: {error}", self.id));
        }
        service.end(&self.id, journal.last_seq, consultant_done).await
    }

    /// Clears up what an earlier attempt left open. Its act was never done, and if it was a change the
    /// record now says otherwise: so the way back is recorded too.
    async fn settle(&self, service: &MagicLink, journal: &mut Journal) -> Result<(), Error> {
        while let Some(event) = journal.unsettled.clone() {
            match self.deliver(service, journal).await {
                // It left no trace, and holds nothing else up.
                Err(Error::Refused(_)) => return Ok(()),
                verdict => verdict?,
            }
            if let Some(act) = withdrawal(event.act) {
                journal.number(act);
            }
        }
        Ok(())
    }

    async fn deliver(&self, service: &MagicLink, journal: &mut Journal) -> Result<(), Error> {
        let Some(event) = &journal.unsettled else {
            return Ok(());
        };
        let verdict = service.report(&self.id, event).await;
        match &verdict {
            Ok(()) => {
                journal.last_seq = event.seq;
                journal.unsettled = None;
            }
            // Surely not taken: the number is free for the next act.
            Err(Error::Refused(_)) => journal.unsettled = None,
            Err(_) => {}
        }
        verdict
    }
}

impl Journal {
    fn number(&mut self, act: Act) {
        self.unsettled = Some(Event { seq: self.last_seq + 1, source: SOURCE, occurred_at: now(), act });
    }
}

fn withdrawal(act: Act) -> Option<Act> {
    let is_change = act.kind == Kind::Change && act.action != NOT_APPLIED;
    is_change.then(|| Act {
        action: NOT_APPLIED,
        changes: act
            .changes
            .into_iter()
            .map(|change| Change { before: change.after, after: change.before, ..change })
            .collect(),
        ..act
    })
}

/// Live sessions by the value of the visitor's cookie.
#[derive(Default)]
pub struct Sessions(RwLock<HashMap<String, Arc<Session>>>);

impl Sessions {
    /// Stores a session under a fresh random key and returns the key.
    ///
    /// The key is never taken from the browser: one who planted a cookie before the visit would share the
    /// session after it.
    pub async fn add(&self, session: Arc<Session>) -> String {
        let key = random_id();
        self.0.write().await.insert(key.clone(), session);
        key
    }

    /// A cookie of another tenant or portal finds nothing, even if somebody moves it there by hand.
    pub async fn find(&self, key: &str, place: &Place) -> Option<Arc<Session>> {
        self.0.read().await.get(key).filter(|session| session.place == *place).cloned()
    }

    pub async fn remove(&self, key: &str) -> Option<Arc<Session>> {
        self.0.write().await.remove(key)
    }

    pub async fn take_expired(&self) -> Vec<Arc<Session>> {
        let now = now();
        let mut sessions = self.0.write().await;
        sessions.extract_if(|_, session| session.expires_at <= now).map(|(_, session)| session).collect()
    }
}
