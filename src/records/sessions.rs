//! Rows of sessions, and their statements. Every race is decided by one guarded statement.

use std::collections::HashMap;

use diesel::dsl::{case_when, exists, not};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{Bool, Text};
use time::Duration;

use super::links::Link;
use super::reached;
use super::revocations::{self, BulkRevocation, BulkRevoked, NotBulkRevoked};
use super::session_sources::Reports;
use crate::clock::Timestamp;
use crate::db::schema::{
    link_devices as devices, magic_links as links, revocations as orders, session_sources as sources, sessions, tenants,
};
use crate::db::{Backend, Conn, fixed, prepared};
use crate::domain::{Access, AuditState, ChangeValues, EndCause, PageRequest, Reach, Restrictions};
use crate::id::{ClientId, ConsultantId, LinkId, SessionId};

pub(crate) fn insert(conn: &mut Conn, session: &Session) -> QueryResult<usize> {
    diesel::insert_into(sessions::table).values(session).execute(conn)
}

/// The session, whatever the caller's reach.
pub(crate) fn find(conn: &mut Conn, id: &SessionId) -> QueryResult<Option<Session>> {
    let found: Option<(Session, Option<BulkRevocation>)> = sessions::table
        .inner_join(links::table)
        .left_join(orders::table.on(BulkRevoked))
        .filter(sessions::id.eq(id))
        .order(orders::seq.asc())
        .select((sessions::all_columns, orders::all_columns.nullable()))
        // Not `first`: SQLite prepares a statement with a bound LIMIT anew at every run.
        .get_result(conn)
        .optional()?;
    Ok(found.map(|(session, order)| session.under(order.as_ref())))
}

/// The session, if it is within the caller's reach.
pub(crate) fn find_within(conn: &mut Conn, id: &SessionId, reach: &Reach) -> QueryResult<Option<Session>> {
    Ok(find(conn, id)?.filter(|session| reach.covers(&session.tenant_id, &session.portal)))
}

/// Reads and locks a session within the caller's reach, so that one report at a time is added: overlapping reports
/// would undo each other. No caller waits for a row beyond its reach.
///
/// Reads how the tenant wants values of changes to be stored, too.
pub(crate) fn lock_within(
    conn: &mut Conn,
    id: &SessionId,
    reach: &Reach,
) -> QueryResult<Option<(Session, ChangeValues)>> {
    type Row = (Session, Option<BulkRevocation>, Option<ChangeValues>);
    let found = sessions::table
        .inner_join(links::table)
        .left_join(orders::table.on(BulkRevoked))
        .filter(sessions::id.eq(id))
        .filter(reached!(sessions, reach))
        .order(orders::seq.asc())
        .select((
            sessions::all_columns,
            orders::all_columns.nullable(),
            tenants::table.filter(tenants::id.eq(sessions::tenant_id)).select(tenants::change_values).single_value(),
        ));
    let found: Option<Row> = match conn {
        Conn::Postgres(conn) => fixed!(prepared(Locked(found))).get_result(conn).optional()?,
        Conn::Sqlite(conn) => found.get_result(conn).optional()?,
    };
    Ok(found.map(|(session, order, values)| (session.under(order.as_ref()), values.unwrap_or(ChangeValues::Masked))))
}

/// A query that locks the sessions it finds, and no other row.
struct Locked<Q>(Q);

impl<Q: Query> Query for Locked<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Locked<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(out.reborrow())?;
        out.push_sql(" FOR NO KEY UPDATE OF sessions");
        Ok(())
    }
}

/// Reads sessions, and applies the bulk revocations that were pending before: every read of this module does so, here
/// or by a join.
pub(super) fn under_pending_revocations(
    conn: &mut Conn,
    read: impl FnOnce(&mut Conn) -> QueryResult<Vec<Session>>,
) -> QueryResult<Vec<Session>> {
    if !revocations::any_pending(conn)? {
        return read(conn);
    }
    let found = read(conn)?;
    let open = found.iter().filter(|session| session.ended_at.is_none());
    let (open, links): (Vec<&SessionId>, Vec<LinkId>) =
        open.map(|session| (&session.id, session.magic_link_id.clone())).unzip();
    let orders = revocations::in_force(conn, &links)?;
    // One that was pending may have been finished since the sessions were read.
    let again: Vec<Session> = sessions::table.filter(sessions::id.eq_any(open)).load(conn)?;
    let mut again: HashMap<SessionId, Session> =
        again.into_iter().map(|session| (session.id.clone(), session)).collect();
    let current = |session: Session| {
        let order = orders.get(&session.magic_link_id);
        again.remove(&session.id).unwrap_or(session).under(order)
    };
    Ok(found.into_iter().map(current).collect())
}

/// Condition that a session is active: not ended, not expired, and no pending bulk revocation matches its link.
///
/// The same rule as [`Session::holds`], which is asked of a row that was read.
#[diesel::dsl::auto_type]
pub(super) fn holds(now: Timestamp) -> _ {
    sessions::ended_at.is_null().and(sessions::expires_at.gt(now)).and(spared())
}

/// Number of active sessions.
pub(crate) fn live(conn: &mut Conn, now: Timestamp) -> QueryResult<i64> {
    sessions::table.filter(holds(now)).count().get_result(conn)
}

/// Sessions in which a consultant acted as a person, newest first.
pub(crate) fn opened_as(
    conn: &mut Conn,
    tenant_id: &str,
    portal: Option<&str>,
    profile_id: &str,
    page: &PageRequest,
) -> QueryResult<Vec<SessionId>> {
    let mut query = sessions::table
        .filter(sessions::tenant_id.eq(tenant_id).and(sessions::profile_id.eq(profile_id)))
        .into_boxed::<Backend>();
    if let Some(portal) = portal {
        query = query.filter(sessions::portal.eq(portal));
    }
    if let Some(after) = &page.after {
        query = query.filter(sessions::id.lt(after));
    }
    query.select(sessions::id).order(sessions::id.desc()).limit(page.limit).load(conn)
}

/// The moment before which a session must have ended to be unclosed, if its closing counts have not come.
pub(super) fn overdue(now: Timestamp) -> Timestamp {
    now.minus(CLOSING_GRACE)
}

/// Condition that a session ended before `overdue`, and its closing counts have not come, or not those of all sources.
///
/// The same rule as `Session::audit_state`, except where a bulk revocation stays pending for the whole grace: every count
/// of sessions would pay for that.
#[diesel::dsl::auto_type]
pub(super) fn is_unclosed(overdue: Timestamp) -> _ {
    let open_source =
        exists(sources::table.filter(sources::session_id.eq(sessions::id)).filter(sources::closing_seq.is_null()));
    sessions::closed_at.is_null().or(open_source).and(
        sessions::ended_at
            .is_not_null()
            .and(sessions::ended_at.le(overdue).assume_not_null())
            .or(sessions::ended_at.is_null().and(sessions::expires_at.le(overdue))),
    )
}

/// Condition that numbers are missing in the reports of a session.
#[diesel::dsl::auto_type]
pub(super) fn has_gaps() -> _ {
    let closed_elsewhere =
        sources::closing_seq.is_not_null().and(sources::closing_seq.ne(sources::last_seq.nullable()).assume_not_null());
    exists(
        sources::table
            .filter(sources::session_id.eq(sessions::id))
            .filter(sources::event_count.ne(sources::last_seq).or(closed_elsewhere)),
    )
}

/// Sessions in an audit state, or all of them.
pub(super) fn in_state<'a>(state: Option<AuditState>, now: Timestamp) -> sessions::BoxedQuery<'a, Backend> {
    let unclosed = is_unclosed(overdue(now));
    let query = sessions::table.into_boxed::<Backend>();
    match state {
        Some(AuditState::Complete) => query.filter(not(unclosed)).filter(not(has_gaps())),
        Some(AuditState::Gaps) => query.filter(not(unclosed)).filter(has_gaps()),
        Some(AuditState::Unclosed) => query.filter(unclosed),
        None => query,
    }
}

/// Number of sessions opened since a moment that are in an audit state.
pub(crate) fn count_in_state(conn: &mut Conn, state: AuditState, since: Timestamp, now: Timestamp) -> QueryResult<i64> {
    // A range of ids, so that older sessions are not read.
    let ids = in_state(Some(state), now).filter(sessions::id.ge(SessionId::first_at(since)));
    ids.select(diesel::dsl::count_star()).get_result(conn)
}

/// All sessions of some links.
pub(crate) fn of_links(conn: &mut Conn, links: &[LinkId]) -> QueryResult<Vec<Session>> {
    under_pending_revocations(conn, |conn| sessions::table.filter(sessions::magic_link_id.eq_any(links)).load(conn))
}

/// The first session of a link.
pub(crate) fn first_of_link(conn: &mut Conn, link: &LinkId) -> QueryResult<Option<SessionId>> {
    sessions::table
        .filter(sessions::magic_link_id.eq(link))
        .order(sessions::id.asc())
        .select(sessions::id)
        .first(conn)
        .optional()
}

/// The newest session of a link.
pub(crate) fn last_of_link(conn: &mut Conn, link: &LinkId) -> QueryResult<Option<Session>> {
    under_pending_revocations(conn, |conn| {
        let of_link = sessions::table.filter(sessions::magic_link_id.eq(link));
        of_link.order(sessions::id.desc()).limit(1).load(conn)
    })
    .map(|mut found| found.pop())
}

/// Condition that no pending bulk revocation matches the session's link.
#[diesel::dsl::auto_type]
fn spared() -> _ {
    exists(links::table.filter(links::id.eq(sessions::magic_link_id)).filter(NotBulkRevoked))
}

/// A session that has just ended, and who is notified of it.
#[derive(Debug, Queryable)]
pub(crate) struct Ended {
    pub session: Session,
    pub issuer_email: Option<String>,
    pub owner_email: Option<String>,
}

/// Sets the end of a session: its expiry, if that has passed. A macro, because its type has no name.
macro_rules! end_by {
    ($cause:expr, $now:expr) => {{
        let is_over = sessions::expires_at.le($now);
        let at = case_when(is_over, sessions::expires_at).otherwise($now);
        let why = case_when(is_over, EndCause::Expired.into_sql::<Text>()).otherwise($cause.into_sql::<Text>());
        (sessions::ended_at.eq(at.nullable()), sessions::end_cause.eq(why.nullable()))
    }};
}

/// Ends a session; `None` if it has already ended, or is not within the reach. The end of an expired session is its
/// expiry. A session whose link a pending bulk revocation matches is left to that, which already set time and reason.
pub(crate) fn end(
    conn: &mut Conn,
    id: &SessionId,
    reach: &Reach,
    cause: EndCause,
    now: Timestamp,
) -> QueryResult<Option<Ended>> {
    end_some(conn, id, reach, cause, true, now)
}

/// The same, but a session that a remembered device may follow with another one is left.
pub(crate) fn end_without_device(
    conn: &mut Conn,
    id: &SessionId,
    reach: &Reach,
    cause: EndCause,
    now: Timestamp,
) -> QueryResult<Option<Ended>> {
    end_some(conn, id, reach, cause, false, now)
}

fn end_some(
    conn: &mut Conn,
    id: &SessionId,
    reach: &Reach,
    cause: EndCause,
    also_with_device: bool,
    now: Timestamp,
) -> QueryResult<Option<Ended>> {
    let device = devices::table
        .filter(devices::magic_link_id.eq(sessions::magic_link_id))
        .filter(devices::generation.eq(sessions::generation))
        .filter(devices::forgotten_at.is_null());
    let its_link = links::table.filter(links::id.eq(sessions::magic_link_id));
    let ended = diesel::update(sessions::table.find(id))
        .filter(sessions::ended_at.is_null())
        .filter(reached!(sessions, reach))
        .filter(spared())
        .filter(not(exists(device)).or(also_with_device.into_sql::<Bool>()))
        .set(end_by!(cause, now))
        .returning((
            sessions::all_columns,
            its_link.select(links::issued_by_email).single_value(),
            its_link.select(links::profile_email).single_value(),
        ));
    fixed!(prepared(ended)).get_result(conn).optional()
}

/// Ends the sessions of links that have just been revoked or spent. The end of an expired session is its expiry.
pub(crate) fn end_all_of_links(
    conn: &mut Conn,
    links: &[Link],
    cause: EndCause,
    now: Timestamp,
) -> QueryResult<Vec<Session>> {
    diesel::update(sessions::table)
        .filter(sessions::magic_link_id.eq_any(links.iter().map(|link| &link.id)))
        .filter(sessions::ended_at.is_null())
        .set(end_by!(cause, now))
        .returning(sessions::all_columns)
        .get_results(conn)
}

/// Active sessions that hang on a key: it signed their access token, or the link token or code that opened them.
pub(crate) fn signed_by(conn: &mut Conn, kid: &str, limit: i64, now: Timestamp) -> QueryResult<Vec<SessionId>> {
    let opened = sessions::link_kid.eq(kid).or(sessions::code_kid.eq(kid)).assume_not_null();
    sessions::table
        .filter(holds(now))
        .filter(sessions::kid.eq(kid).or(opened))
        .limit(limit)
        .select(sessions::id)
        .load(conn)
}

/// Expired sessions whose end is not recorded.
pub(crate) fn expired(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<SessionId>> {
    sessions::table
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.le(now))
        .filter(spared())
        .order(sessions::expires_at.asc())
        .limit(limit)
        .select(sessions::id)
        .load(conn)
}

/// Stores that the closing counts were received; `false` if they had been received before.
pub(crate) fn close(conn: &mut Conn, id: &SessionId, now: Timestamp) -> QueryResult<bool> {
    diesel::update(sessions::table.find(id))
        .filter(sessions::closed_at.is_null())
        .set(sessions::closed_at.eq(Some(now)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// How long before its end a session says that it ends soon.
const ENDS_SOON: Duration = Duration::minutes(15);

/// Whether a session that ends at a time ends soon.
pub(crate) fn ends_soon(expires_at: Timestamp, now: Timestamp) -> bool {
    expires_at <= now.plus(ENDS_SOON)
}

/// Time after a session's end in which its closing counts may arrive.
pub(crate) const CLOSING_GRACE: Duration = Duration::minutes(15);

/// A session as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::sessions, treat_none_as_default_value = false)]
pub(crate) struct Session {
    pub id: SessionId,
    pub magic_link_id: LinkId,
    pub generation: i32,
    pub tenant_id: String,
    pub portal: String,
    pub consultant_id: ConsultantId,
    pub profile_id: String,
    pub profile_name: String,
    pub access: Access,
    pub reason: String,
    pub ticket: Option<String>,
    pub client_id: Option<ClientId>,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub end_cause: Option<EndCause>,
    pub closed_at: Option<Timestamp>,
    pub visitor_address: Option<String>,
    pub visitor_user_agent: Option<String>,
    /// The key that signs its access token.
    pub kid: String,
    /// Status list and index of the session, never reused.
    pub status_list: i64,
    pub status_index: i32,
    /// The key that signed the link token which opened it, or which led to the code that did.
    pub link_kid: Option<String>,
    /// The key that signed the code which opened it; `None` if the link token did so itself.
    pub code_kid: Option<String>,
    /// Which visit with its generation of the link it is, from 1 on.
    pub visit: i32,
    /// What its link does not include.
    pub restrictions: Option<Restrictions>,
    /// When names, addresses and reasons were erased; their texts are empty.
    #[diesel(skip_insertion)]
    pub erased_at: Option<Timestamp>,
}

impl Session {
    /// Time of its end, if it has ended.
    pub(crate) fn end(&self, now: Timestamp) -> Option<Timestamp> {
        self.ended_at.or_else(|| (self.expires_at <= now).then_some(self.expires_at))
    }

    /// Whether it is active at a moment.
    pub(crate) fn holds(&self, now: Timestamp) -> bool {
        self.end(now).is_none()
    }

    /// The keys that it hangs on: it ends with any of them.
    pub(crate) fn kids(&self) -> Vec<&str> {
        std::iter::once(self.kid.as_str()).chain(self.link_kid.as_deref()).chain(self.code_kid.as_deref()).collect()
    }

    /// Applies a pending bulk revocation that matches its link.
    fn under(mut self, order: Option<&BulkRevocation>) -> Self {
        let hit = order.filter(|order| self.ended_at.is_none() && self.expires_at > order.created_at);
        if let Some(order) = hit {
            self.ended_at = Some(order.created_at);
            self.end_cause = Some(EndCause::Revoked);
        }
        self
    }

    pub(crate) fn audit_state(&self, reports: Reports, now: Timestamp) -> AuditState {
        let overdue = self.end(now).is_some_and(|end| end.plus(CLOSING_GRACE) <= now);
        let is_open = self.closed_at.is_none() || reports.open > 0;
        if is_open && overdue {
            AuditState::Unclosed
        } else if reports.with_gaps > 0 {
            AuditState::Gaps
        } else {
            AuditState::Complete
        }
    }
}
