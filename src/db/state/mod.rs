//! What every request needs to know of the store: the client, the session, the epochs.
//!
//! One row is asked for each time: the *access epoch*, which the database itself
//! raises in every transaction that may take access away or change what a
//! client may do (triggers on both databases, so that no statement can forget
//! it). What was read at an epoch holds as long as the epoch lasts, and is not
//! read again. Nothing stale is ever told: the question about the epoch begins
//! after each of its callers asked.

mod statements;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::prelude::*;

use self::statements::{AskEpochs, Found};
use super::Conn;
use crate::clock::Timestamp;
use crate::id::{ClientId, LinkId, SessionId};

/// So many clients and so many sessions are remembered; then it begins anew.
const MOST: usize = 32_768;

/// What one caller wants to know.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub client: Option<ClientId>,
    pub session: Option<SessionId>,
    pub now: Timestamp,
}

/// What the store said, after it was asked.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The client, unless it is unknown or disabled.
    pub client: Option<Arc<LiveClient>>,
    /// The session, if it holds.
    pub session: Option<Arc<LiveSession>>,
    /// The state of the service itself.
    pub epochs: Epochs,
}

/// The state of the service itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epochs {
    /// Grows with every change of the signing keys.
    pub keys: i64,
    /// Grows with every change that may take access away.
    pub access: i64,
    /// Whether no link is to be issued.
    pub frozen: bool,
}

/// A client that is not disabled.
#[derive(Debug, Clone)]
pub(crate) struct LiveClient {
    pub id: ClientId,
    pub name: String,
    pub portal: Option<String>,
    pub tenants: String,
    pub scopes: String,
    pub key_sha256: String,
    /// The key before the last rotation, while it counts.
    pub previous_key_sha256: Option<String>,
    /// Until when it does.
    previous_key_expires_at: Option<Timestamp>,
}

/// A session that holds: not ended, within its time, its link not revoked and its consultant not suspended.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub profile_name: String,
    pub magic_link_id: LinkId,
    pub reason: String,
    pub consultant_name: String,
    pub consultant_email: String,
    expires_at: Timestamp,
}

/// What was read at an epoch.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The epoch; absent before the first reading.
    epoch: Option<i64>,
    clients: HashMap<ClientId, Arc<LiveClient>>,
    sessions: HashMap<SessionId, Arc<LiveSession>>,
}

impl Memory {
    /// Answers everybody, mostly with a single row: whoever is known needs nothing but the epoch.
    pub(super) fn ask(&mut self, conn: &mut Conn, questions: &[Question]) -> QueryResult<Vec<State>> {
        self.make_room(MOST);
        let answers = self.answer(conn, questions);
        if answers.is_err() {
            // Whoever answers next may be another server, which lost commits that this one had: its epochs may repeat.
            *self = Self::default();
        }
        answers
    }

    fn answer(&mut self, conn: &mut Conn, questions: &[Question]) -> QueryResult<Vec<State>> {
        let unknown = |known: &Self, all: bool| -> (HashSet<ClientId>, HashSet<SessionId>) {
            let clients = questions.iter().filter_map(|one| one.client.as_ref());
            let sessions = questions.iter().filter_map(|one| one.session.as_ref());
            (
                clients.filter(|id| all || !known.clients.contains_key(*id)).cloned().collect(),
                sessions.filter(|id| all || !known.sessions.contains_key(*id)).cloned().collect(),
            )
        };
        let (clients, sessions) = unknown(self, false);
        let mut found = if clients.is_empty() && sessions.is_empty() {
            Found::nothing_but(AskEpochs::load(conn)?)
        } else {
            statements::ask(conn, &clients, &sessions)?
        };
        if self.epoch != Some(found.epochs.access) {
            let (clients, sessions) = unknown(self, true);
            found = statements::ask(conn, &clients, &sessions)?;
            *self = Self { epoch: Some(found.epochs.access), ..Self::default() };
        }
        let epochs = found.epochs;
        self.remember(found);
        // The query began later than any of them asked, and what has run out by then does not hold.
        let now = questions.iter().map(|question| question.now).max();
        let answer = |question: &Question| State {
            client: question.client.as_ref().and_then(|id| self.client(id, now)),
            session: question.session.as_ref().and_then(|id| self.session(id, now)),
            epochs,
        };
        Ok(questions.iter().map(answer).collect())
    }

    /// Begins anew where too much is remembered: before anybody is taken for known.
    fn make_room(&mut self, most: usize) {
        if self.clients.len() > most || self.sessions.len() > most {
            let epoch = self.epoch;
            *self = Self { epoch, ..Self::default() };
        }
    }

    fn remember(&mut self, found: Found) {
        self.clients.extend(found.clients.into_iter().map(|client| (client.id.clone(), Arc::new(client))));
        self.sessions.extend(found.sessions.into_iter().map(|(id, session)| (id, Arc::new(session))));
    }

    fn client(&self, id: &ClientId, now: Option<Timestamp>) -> Option<Arc<LiveClient>> {
        let client = self.clients.get(id)?;
        if client.previous_key_expires_at <= now && client.previous_key_sha256.is_some() {
            return Some(Arc::new(LiveClient { previous_key_sha256: None, ..LiveClient::clone(client) }));
        }
        Some(Arc::clone(client))
    }

    fn session(&self, id: &SessionId, now: Option<Timestamp>) -> Option<Arc<LiveSession>> {
        self.sessions.get(id).filter(|session| Some(session.expires_at) > now).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn room_is_made_before_anybody_is_taken_for_known() {
        let now = Clock::System.now();
        let session = || LiveSession {
            profile_name: String::new(),
            magic_link_id: LinkId::new(now),
            reason: String::new(),
            consultant_name: String::new(),
            consultant_email: String::new(),
            expires_at: now,
        };
        let mut memory = Memory { epoch: Some(7), ..Memory::default() };
        let found = |number| Found {
            sessions: (0..number).map(|_| (SessionId::new(now), session())).collect(),
            ..Found::nothing_but(Epochs { keys: 0, access: 7, frozen: false })
        };
        memory.remember(found(3));
        memory.make_room(3);
        assert_eq!(memory.sessions.len(), 3);
        // An answer is remembered whole, however many there are by then.
        memory.remember(found(2));
        assert_eq!(memory.sessions.len(), 5);
        memory.make_room(3);
        assert_eq!((memory.sessions.len(), memory.epoch), (0, Some(7)));
    }
}
