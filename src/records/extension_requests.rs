//! Rows of extensions that wait for an approval, and their statements. At most one waits for each link.

use std::collections::HashMap;

use diesel::dsl::exists;
use diesel::prelude::*;
use time::Duration;

use super::link_changes::{MOST, MOST_OF_ALL, takes_another};
use super::link_requests::{Decision, RequestState};
use super::revocations::{BulkRevocation, NotBulkRevoked, selected_by};
use crate::clock::Timestamp;
use crate::db::schema::{extension_requests as requests, magic_links as links};
use crate::db::{Backend, Conn};
use crate::domain::Issuer;
use crate::id::{ClientId, ExtensionId, LinkId};

/// A request to let a link end later.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = requests)]
pub(crate) struct ExtensionRequest {
    pub id: ExtensionId,
    pub magic_link_id: LinkId,
    /// The end of the link when it was requested.
    pub previous_expires_at: Timestamp,
    pub hours: i32,
    pub reason: String,
    pub asked_by_id: String,
    pub asked_by_name: String,
    pub asked_by_email: String,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub lapses_at: Timestamp,
    pub state: RequestState,
    pub decided_at: Option<Timestamp>,
    pub(crate) decision: Option<String>,
}

impl ExtensionRequest {
    pub(crate) fn state(&self, now: Timestamp) -> RequestState {
        self.state.at(self.lapses_at, now)
    }

    /// Who asked for it.
    pub(crate) fn asked_by(&self) -> Issuer {
        let (id, name) = (self.asked_by_id.clone(), self.asked_by_name.clone());
        Issuer { id, name, email: Some(self.asked_by_email.clone()) }
    }

    /// How much later the link is to end.
    pub(crate) fn length(&self) -> Duration {
        Duration::hours(i64::from(self.hours))
    }

    pub(crate) fn decision(&self) -> Option<Decision> {
        Decision::parsed(self.decision.as_deref())
    }

    /// The same as what ended its link before anybody decided has left it, also where no worker has marked it yet.
    pub(crate) fn withdrawn(self, at: Timestamp, decision: Option<&Decision>) -> Self {
        if self.state != RequestState::Pending || self.lapses_at <= at {
            return self;
        }
        let decision = decision.and_then(|decision| decision.stored().ok());
        Self { state: RequestState::Withdrawn, decided_at: Some(at), decision, ..self }
    }

    /// One that somebody of this name denied, in these words.
    #[cfg(test)]
    pub(crate) fn denied(self, words: &str) -> Self {
        let by = crate::domain::Actor::portal_user("emp-3", words);
        let reason = Some(words.to_owned());
        let decision = Decision::new(by, reason);
        Self { decision: decision.stored().ok(), ..self }
    }
}

/// Whether a client may ask for another extension of a link. What was withdrawn counts, too, for who asked.
pub(crate) fn takes_another_request(conn: &mut Conn, link: &LinkId, client: Option<&ClientId>) -> QueryResult<bool> {
    let asked = || requests::table.filter(requests::magic_link_id.eq(link));
    Ok(takes_another!(conn, requests, asked(), client))
}

pub(crate) fn insert(conn: &mut Conn, request: &ExtensionRequest) -> QueryResult<usize> {
    diesel::insert_into(requests::table).values(request).execute(conn)
}

pub(crate) fn find(conn: &mut Conn, id: &ExtensionId) -> QueryResult<Option<ExtensionRequest>> {
    requests::table.find(id).get_result(conn).optional()
}

/// The requests of these links that wait, whether or not their time is over.
pub(crate) fn pending_of_links(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<HashMap<LinkId, ExtensionRequest>> {
    let found: Vec<ExtensionRequest> = requests::table
        .filter(requests::magic_link_id.eq_any(ids))
        .filter(requests::state.eq(RequestState::Pending))
        .load(conn)?;
    Ok(found.into_iter().map(|request| (request.magic_link_id.clone(), request)).collect())
}

/// Number of extensions that wait for links that a bulk revocation will end, which is not written yet.
pub(crate) fn count_selected(conn: &mut Conn, order: &BulkRevocation, tenant_ids: &[String]) -> QueryResult<i64> {
    let waiting = requests::table
        .inner_join(links::table.on(links::id.eq(requests::magic_link_id)))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(order.created_at))
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(order.created_at));
    selected_by!(order, tenant_ids, waiting, links).count().get_result(conn)
}

/// Decides on a request that waits; `None` if it does not any more.
pub(crate) fn decide(
    conn: &mut Conn,
    id: &ExtensionId,
    state: RequestState,
    decision: &Decision,
    now: Timestamp,
) -> QueryResult<Option<ExtensionRequest>> {
    diesel::update(requests::table.find(id))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(now))
        .set((
            requests::state.eq(state),
            requests::decided_at.eq(Some(now)),
            requests::decision.eq(Some(decision.stored()?)),
        ))
        .returning(requests::all_columns)
        .get_result(conn)
        .optional()
}

/// Withdraws the requests of these links, which ended at a time at which they waited.
pub(crate) fn withdraw(
    conn: &mut Conn,
    ids: &[&LinkId],
    decision: &Decision,
    at: Timestamp,
) -> QueryResult<Vec<ExtensionRequest>> {
    diesel::update(requests::table.filter(requests::magic_link_id.eq_any(ids)))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(at))
        .set((
            requests::state.eq(RequestState::Withdrawn),
            requests::decided_at.eq(Some(at)),
            requests::decision.eq(Some(decision.stored()?)),
        ))
        .returning(requests::all_columns)
        .get_results(conn)
}

/// Lets the request of a link lapse with the link, whose end is sooner now.
pub(crate) fn lapse_with(conn: &mut Conn, link: &LinkId, end: Timestamp) -> QueryResult<usize> {
    diesel::update(requests::table.filter(requests::magic_link_id.eq(link)))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(end))
        .set(requests::lapses_at.eq(end))
        .execute(conn)
}

/// Requests on which nobody decided in time, the oldest first; without those whose link a pending bulk revocation ends,
/// which may have withdrawn them before.
pub(crate) fn due(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<ExtensionId>> {
    requests::table
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.le(now))
        .filter(exists(links::table.filter(links::id.eq(requests::magic_link_id)).filter(NotBulkRevoked)))
        .order(requests::lapses_at.asc())
        .limit(limit)
        .select(requests::id)
        .load(conn)
}

/// Marks requests that are due as lapsed.
pub(crate) fn lapse(conn: &mut Conn, due: Vec<ExtensionId>) -> QueryResult<Vec<ExtensionRequest>> {
    diesel::update(requests::table.filter(requests::id.eq_any(due)))
        .filter(requests::state.eq(RequestState::Pending))
        .set((requests::state.eq(RequestState::Lapsed), requests::decided_at.eq(requests::lapses_at.nullable())))
        .returning(requests::all_columns)
        .get_results(conn)
}

/// Everything that was asked for about a link's end, oldest first.
pub(crate) fn of_link(conn: &mut Conn, link: &LinkId, limit: i64) -> QueryResult<Vec<ExtensionRequest>> {
    requests::table.filter(requests::magic_link_id.eq(link)).order(requests::id.asc()).limit(limit).load(conn)
}
