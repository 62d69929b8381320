//! Rows of links that wait for an approval, and their statements.
//!
//! A bulk revocation withdraws every request that it matches and that was made before it, from its commit on: the rows
//! follow later, as those of links do, and every read of a request applies it.

use std::collections::HashMap;

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use time::Duration;

use super::link_lists::{LinkFilter, filtered};
use super::links::Link;
use super::revocations::{BulkRevocation, condition, selected_by};
use super::{scan_end, within};
use crate::clock::Timestamp;
use crate::db::schema::{link_requests as requests, magic_links as links, revocations as orders};
use crate::db::{Backend, Conn, text_enum};
use crate::domain::{Access, Actor, LinkState, PageRequest, Reach, Reentry, Restrictions, Scan, unless_erased};
use crate::error::Code;
use crate::id::{ClientId, ConsultantId, LinkId, RevocationId};

/// Condition for statements about `link_requests` and `revocations`: the bulk revocation, pending or done, matches the
/// request. It selects as one of links does (a test compares them).
#[derive(Debug, Clone, Copy, diesel::query_builder::QueryId)]
pub(crate) struct RequestRevoked;

condition!(
    RequestRevoked,
    "(NOT revocations.dry_run \
     AND (link_requests.issued_after IS NULL OR link_requests.issued_after < revocations.seq) \
     AND (revocations.every_tenant OR EXISTS (SELECT 1 FROM revocation_tenants t \
         WHERE t.revocation_id = revocations.id AND t.tenant_id = link_requests.tenant_id)) \
     AND (revocations.portal IS NULL OR revocations.portal = link_requests.portal) \
     AND (revocations.consultant_id IS NULL OR revocations.consultant_id = link_requests.consultant_id) \
     AND (revocations.profile_id IS NULL OR revocations.profile_id = link_requests.profile_id) \
     AND (revocations.issued_by_id IS NULL OR revocations.issued_by_id = link_requests.issued_by_id) \
     AND (revocations.issued_by_client_id IS NULL OR revocations.issued_by_client_id = link_requests.client_id) \
     AND (revocations.ticket IS NULL OR revocations.ticket = link_requests.ticket))"
);

text_enum! {
    /// State of a request for a link.
    pub enum RequestState {
        /// It waits for a decision.
        Pending = "pending",
        /// It was approved: the link exists.
        Approved = "approved",
        /// It was denied.
        Denied = "denied",
        /// It was withdrawn by whoever made it, or by a revocation.
        Withdrawn = "withdrawn",
        /// Nobody decided in time.
        Lapsed = "lapsed",
    }
}

impl RequestState {
    /// The state at a time of a request that is stored in this one: one that nobody decided on in time has lapsed.
    pub(super) fn at(self, lapses_at: Timestamp, now: Timestamp) -> Self {
        match self {
            Self::Pending if lapses_at <= now => Self::Lapsed,
            state => state,
        }
    }

    /// Why nobody can decide on the request any more; `None` while it waits.
    pub(crate) fn refusal(self) -> Option<Code> {
        match self {
            Self::Pending => None,
            Self::Lapsed => Some(Code::RequestLapsed),
            Self::Approved | Self::Denied | Self::Withdrawn => Some(Code::AlreadyDecided),
        }
    }

    /// How it came to that, for who decides too late.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Lapsed => "nobody decided in time".to_owned(),
            state => format!("it was {state}"),
        }
    }

    /// The state of the link that is asked for; `None` where the link exists.
    pub(crate) fn of_link(self) -> Option<LinkState> {
        Some(match self {
            Self::Pending => LinkState::Pending,
            Self::Denied => LinkState::Denied,
            Self::Withdrawn => LinkState::Withdrawn,
            Self::Lapsed => LinkState::Lapsed,
            Self::Approved => return None,
        })
    }
}

/// Who decided on a request, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub by: Actor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_id: Option<RevocationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedApproval>,
}

/// An approval as the customer has signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedApproval {
    /// The signed text (JWS in compact form).
    pub jws: String,
    /// JWK thumbprint of the key (RFC 7638).
    pub key_thumbprint: String,
}

/// A request for a link as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = requests)]
pub(crate) struct LinkRequest {
    pub id: LinkId,
    pub tenant_id: String,
    pub portal: String,
    pub consultant_id: ConsultantId,
    pub profile_id: String,
    pub profile_name: String,
    pub profile_email: Option<String>,
    pub reason: String,
    pub ticket: Option<String>,
    pub access: Access,
    pub reentry: Reentry,
    /// When the window is to begin, if it is approved by then.
    pub starts_at: Timestamp,
    pub hours: i32,
    pub issued_by_id: String,
    pub issued_by_name: String,
    pub issued_by_email: String,
    pub requested_by_id: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub lapses_at: Timestamp,
    pub replaces: bool,
    #[diesel(skip_insertion)]
    pub issued_after: Option<i64>,
    pub state: RequestState,
    pub decided_at: Option<Timestamp>,
    pub decision: Option<String>,
    /// What it is not to include.
    pub restrictions: Option<Restrictions>,
    /// When names, addresses and reasons were erased; their texts are empty.
    #[diesel(skip_insertion)]
    pub erased_at: Option<Timestamp>,
}

impl LinkRequest {
    /// A request for this link, by the rules of which it waits.
    pub(crate) fn new(
        link: &Link,
        email: String,
        requested_by_id: Option<String>,
        replaces: bool,
        lapses_at: Timestamp,
    ) -> Self {
        let link = link.clone();
        let hours = link.expires_at.since(link.starts_at).whole_hours();
        Self {
            id: link.id,
            tenant_id: link.tenant_id,
            portal: link.portal,
            consultant_id: link.consultant_id,
            profile_id: link.profile_id,
            profile_name: link.profile_name,
            profile_email: link.profile_email,
            reason: link.reason,
            ticket: link.ticket,
            access: link.access,
            reentry: link.reentry,
            starts_at: link.starts_at,
            hours: i32::try_from(hours).unwrap_or(i32::MAX),
            issued_by_id: link.issued_by_id,
            issued_by_name: link.issued_by_name,
            issued_by_email: email,
            requested_by_id,
            client_id: link.client_id,
            created_at: link.created_at,
            lapses_at,
            replaces,
            issued_after: None,
            state: RequestState::Pending,
            decided_at: None,
            decision: None,
            restrictions: link.restrictions,
            erased_at: None,
        }
    }

    /// Length of the window.
    pub(crate) fn length(&self) -> Duration {
        Duration::hours(i64::from(self.hours))
    }

    /// The link that it asks for, with the window as it would be if it were approved at `at`.
    pub(crate) fn link(&self, at: Timestamp) -> Link {
        let request = self.clone();
        let starts_at = self.starts_at.max(at);
        Link {
            id: request.id,
            tenant_id: request.tenant_id,
            portal: request.portal,
            consultant_id: request.consultant_id,
            profile_id: request.profile_id,
            profile_name: request.profile_name,
            profile_email: request.profile_email,
            reason: request.reason,
            ticket: request.ticket,
            access: request.access,
            starts_at,
            expires_at: starts_at.plus(self.length()),
            issued_by_id: request.issued_by_id,
            issued_by_name: request.issued_by_name,
            issued_by_email: unless_erased(request.issued_by_email),
            client_id: request.client_id,
            created_at: request.created_at,
            generation: 1,
            resent_at: None,
            spent_at: None,
            revoked_at: None,
            revoke_reason: None,
            revoked_by_type: None,
            revoked_by_id: None,
            revoked_by_name: None,
            issued_after: request.issued_after,
            visit: 0,
            reentry: request.reentry,
            replaced_by: None,
            session_hours: None,
            restrictions: request.restrictions,
            erased_at: request.erased_at,
        }
    }

    /// When the window of the link that it asks for would begin, or would have begun, at the earliest.
    pub(crate) fn shown_at(&self, now: Timestamp) -> Timestamp {
        self.decided_at.unwrap_or(now).max(self.created_at)
    }

    pub(crate) fn state(&self, now: Timestamp) -> RequestState {
        self.state.at(self.lapses_at, now)
    }

    pub(crate) fn decision(&self) -> Option<Decision> {
        Decision::parsed(self.decision.as_deref())
    }

    /// Applies a bulk revocation that matches the request.
    fn under(self, order: Option<BulkRevocation>) -> Self {
        let Some(order) = order.filter(|order| self.is_hit(order)) else { return self };
        let decision = Decision::of(&order).stored().ok();
        Self { state: RequestState::Withdrawn, decided_at: Some(order.created_at), decision, ..self }
    }

    /// Whether a bulk revocation that matches it came while it waited.
    fn is_hit(&self, order: &BulkRevocation) -> bool {
        self.state == RequestState::Pending && order.created_at < self.lapses_at
    }
}

impl Decision {
    /// The form in which it is stored.
    pub(super) fn stored(&self) -> QueryResult<String> {
        serde_json::to_string(self).map_err(|error| diesel::result::Error::SerializationError(error.into()))
    }

    /// The decision that is stored, if there is one.
    pub(super) fn parsed(stored: Option<&str>) -> Option<Self> {
        stored.and_then(|text| serde_json::from_str(text).ok())
    }

    /// A decision of which nothing else is known.
    pub(crate) const fn new(by: Actor, reason: Option<String>) -> Self {
        Self { by, email: None, client_id: None, reason, revocation_id: None, signed: None }
    }

    /// The decision of a bulk revocation.
    pub(crate) fn of(order: &BulkRevocation) -> Self {
        let by = Actor { kind: order.actor_type, id: order.actor_id.clone(), name: order.actor_name.clone() };
        Self {
            client_id: order.client_id.clone(),
            revocation_id: Some(order.id.clone()),
            ..Self::new(by, Some(order.reason.clone()))
        }
    }
}

/// Inserts a request with the number of the newest bulk revocation.
pub(crate) fn insert(conn: &mut Conn, request: &LinkRequest) -> QueryResult<usize> {
    let newest = orders::table.select(diesel::dsl::max(orders::seq)).single_value();
    diesel::insert_into(requests::table).values((request, requests::issued_after.eq(newest))).execute(conn)
}

/// The request, if it is within the reach.
pub(crate) fn find_within(conn: &mut Conn, id: &LinkId, reach: &Reach) -> QueryResult<Option<LinkRequest>> {
    let found: Option<LinkRequest> = requests::table.find(id).get_result(conn).optional()?;
    let found = found.filter(|request| reach.covers(&request.tenant_id, &request.portal));
    Ok(under_revocations(conn, found.into_iter().collect())?.pop())
}

/// The request that waits for the same access, if there is one.
pub(crate) fn waiting_like(conn: &mut Conn, request: &LinkRequest, now: Timestamp) -> QueryResult<Option<LinkId>> {
    let of_tenant = requests::table.filter(requests::tenant_id.eq(&request.tenant_id));
    of_tenant
        .filter(requests::portal.eq(&request.portal))
        .filter(requests::consultant_id.eq(&request.consultant_id))
        .filter(requests::profile_id.eq(&request.profile_id))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(now))
        .filter(not(exists(orders::table.filter(RequestRevoked))))
        .select(requests::id)
        .first(conn)
        .optional()
}

/// The requests for links, whatever became of them.
pub(crate) fn of_links(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<HashMap<LinkId, LinkRequest>> {
    let found = requests::table.filter(requests::id.eq_any(ids)).load(conn)?;
    Ok(under_revocations(conn, found)?.into_iter().map(|request| (request.id.clone(), request)).collect())
}

/// Applies the bulk revocations that match pending requests.
fn under_revocations(conn: &mut Conn, found: Vec<LinkRequest>) -> QueryResult<Vec<LinkRequest>> {
    let pending = found.iter().filter(|request| request.state == RequestState::Pending);
    let pending: Vec<LinkId> = pending.map(|request| request.id.clone()).collect();
    if pending.is_empty() {
        return Ok(found);
    }
    let newest_first: Vec<(LinkId, BulkRevocation)> = requests::table
        .inner_join(orders::table.on(RequestRevoked))
        .filter(requests::id.eq_any(pending))
        .order(orders::seq.desc())
        .select((requests::id, orders::all_columns))
        .load(conn)?;
    let mut orders: HashMap<LinkId, BulkRevocation> = newest_first.into_iter().collect();
    Ok(found
        .into_iter()
        .map(|request| {
            let order = orders.remove(&request.id);
            request.under(order)
        })
        .collect())
}

/// Decides on a request that waits; `None` if it does not any more, or is not within the reach.
pub(crate) fn decide(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    state: RequestState,
    decision: &Decision,
    now: Timestamp,
) -> QueryResult<Option<LinkRequest>> {
    diesel::update(requests::table.find(id))
        .filter(within!(requests, reach))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(now))
        .filter(not(exists(orders::table.filter(RequestRevoked))))
        .set((
            requests::state.eq(state),
            requests::decided_at.eq(Some(now)),
            requests::decision.eq(Some(decision.stored()?)),
        ))
        .returning(requests::all_columns)
        .get_result(conn)
        .optional()
}

/// Gives a link the place among the bulk revocations that its request had.
pub(crate) fn keep_place(conn: &mut Conn, request: &LinkRequest) -> QueryResult<usize> {
    diesel::update(links::table.find(&request.id)).set(links::issued_after.eq(request.issued_after)).execute(conn)
}

/// Marks requests as lapsed on which nobody decided in time, and that no bulk revocation has withdrawn before.
pub(crate) fn lapse(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<LinkRequest>> {
    let due: Vec<LinkId> = requests::table
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.le(now))
        .filter(not(exists(orders::table.filter(RequestRevoked).filter(orders::created_at.lt(requests::lapses_at)))))
        .order(requests::lapses_at.asc())
        .limit(limit)
        .select(requests::id)
        .load(conn)?;
    diesel::update(requests::table.filter(requests::id.eq_any(due)))
        .filter(requests::state.eq(RequestState::Pending))
        .set((requests::state.eq(RequestState::Lapsed), requests::decided_at.eq(requests::lapses_at.nullable())))
        .returning(requests::all_columns)
        .get_results(conn)
}

/// Number of requests that a bulk revocation will withdraw, which is not written yet.
pub(crate) fn count_selected(conn: &mut Conn, order: &BulkRevocation, tenant_ids: &[String]) -> QueryResult<i64> {
    let waiting = requests::table
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(order.created_at))
        .filter(not(exists(orders::table.filter(RequestRevoked))));
    selected_by!(order, tenant_ids, waiting, requests).count().get_result(conn)
}

/// The next requests that a bulk revocation withdraws.
pub(crate) fn matched(conn: &mut Conn, order: &BulkRevocation, limit: i64) -> QueryResult<Vec<LinkId>> {
    requests::table
        .inner_join(orders::table.on(RequestRevoked))
        .filter(orders::id.eq(&order.id))
        .filter(requests::state.eq(RequestState::Pending))
        .filter(requests::lapses_at.gt(orders::created_at))
        .order(requests::id.asc())
        .limit(limit)
        .select(requests::id)
        .load(conn)
}

/// Marks requests as withdrawn by a bulk revocation.
pub(crate) fn withdraw(conn: &mut Conn, ids: &[LinkId], order: &BulkRevocation) -> QueryResult<Vec<LinkRequest>> {
    let decision = Decision::of(order).stored()?;
    diesel::update(requests::table.filter(requests::id.eq_any(ids)))
        .filter(requests::state.eq(RequestState::Pending))
        .set((
            requests::state.eq(RequestState::Withdrawn),
            requests::decided_at.eq(Some(order.created_at)),
            requests::decision.eq(Some(decision)),
        ))
        .returning(requests::all_columns)
        .get_results(conn)
}

/// Requests that match the filter of a list of links within the reach, and have become no link, newest first.
pub(crate) fn list(
    conn: &mut Conn,
    filter: &LinkFilter,
    reach: &Reach,
    page: &PageRequest,
    now: Timestamp,
) -> QueryResult<Scan<LinkRequest>> {
    // What only links have, no request matches.
    if filter.review_state.is_some()
        || filter.delivery_state.is_some()
        || filter.audit_state.is_some()
        || filter.in_use == Some(true)
    {
        return Ok(Scan::whole(Vec::new()));
    }
    let states: Vec<LinkState> = filter.states().collect();
    let wanted = [LinkState::Pending, LinkState::Denied, LinkState::Withdrawn, LinkState::Lapsed];
    if !states.is_empty() && !wanted.iter().any(|state| states.contains(state)) {
        return Ok(Scan::whole(Vec::new()));
    }
    let mut query = requests::table
        .into_boxed::<Backend>()
        .filter(within!(requests, reach))
        .filter(requests::state.ne(RequestState::Approved));
    filtered!(query, requests, filter);
    if let Some(after) = &page.after {
        query = query.filter(requests::id.lt(after));
    }
    let scanned = requests::table
        .into_boxed::<Backend>()
        .filter(within!(requests, &reach.tenants_of(filter.tenant_id.as_deref())));
    let end = scan_end!(conn, requests, scanned, page)?;
    if let Some(end) = &end {
        query = query.filter(requests::id.ge(end.clone()));
    }
    // Their state follows from the time and from bulk revocations: it is judged here, in pieces.
    let (mut rows, mut after): (Vec<LinkRequest>, Option<String>) = (Vec::new(), None);
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let found = query.order(requests::id.desc()).limit(PIECE).load(conn)?;
    let exhausted = i64::try_from(found.len()).is_ok_and(|number| number < PIECE);
    for request in under_revocations(conn, found)? {
        let Some(state) = request.state(now).of_link() else { continue };
        let ends_before =
            filter.expires_before.is_none_or(|before| request.link(request.shown_at(now)).expires_at < before);
        after = Some(request.id.as_str().to_owned());
        if ends_before && (states.is_empty() || states.contains(&state)) {
            rows.push(request);
        }
        if rows.len() >= limit {
            return Ok(Scan::to(rows, page, end));
        }
    }
    let stopped_at = if exhausted { end } else { after };
    Ok(Scan { rows, stopped_at })
}

/// Number of requests that a page of a list looks at.
const PIECE: i64 = 1_000;
