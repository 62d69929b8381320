//! Rows of bulk revocations, their statements, and the condition that applies them while they are pending.

use std::collections::HashMap;

use diesel::dsl::{count as count_of, count_star, exists, max};
use diesel::prelude::*;
use diesel::query_builder::QueryId;

use crate::clock::Timestamp;
use crate::db::schema::{magic_links as links, revocation_tenants as tenants, revocations as orders, sessions};
use crate::db::{AdvisoryLock, Backend, Conn, text_enum};
use crate::domain::{Actor, ActorType, PageRequest, Reach, Scan, Tenants};
use crate::id::{ClientId, ConsultantId, LinkId, RevocationId};

/// SQL condition that a bulk revocation is pending and matches a link: the same text in every statement.
macro_rules! bulk_revocation_hits_link {
    () => {
        "revocations.done_at IS NULL AND magic_links.expires_at > revocations.created_at \
         AND (magic_links.issued_after IS NULL OR magic_links.issued_after < revocations.seq) \
         AND (revocations.every_tenant OR EXISTS (SELECT 1 FROM revocation_tenants t \
             WHERE t.revocation_id = revocations.id AND t.tenant_id = magic_links.tenant_id)) \
         AND (revocations.portal IS NULL OR revocations.portal = magic_links.portal) \
         AND (revocations.consultant_id IS NULL OR revocations.consultant_id = magic_links.consultant_id) \
         AND (revocations.profile_id IS NULL OR revocations.profile_id = magic_links.profile_id) \
         AND (revocations.issued_by_id IS NULL OR revocations.issued_by_id = magic_links.issued_by_id) \
         AND (revocations.issued_by_client_id IS NULL OR revocations.issued_by_client_id = magic_links.client_id) \
         AND (revocations.ticket IS NULL OR revocations.ticket = magic_links.ticket)"
    };
}

/// Condition for statements about `magic_links`: no pending bulk revocation matches the link.
#[derive(Debug, Clone, Copy, QueryId)]
pub(crate) struct NotBulkRevoked;

/// Condition for statements about `magic_links` and `revocations`: the bulk revocation is pending and matches the link.
#[derive(Debug, Clone, Copy, QueryId)]
pub(crate) struct BulkRevoked;

macro_rules! condition {
    ($name:ident, $sql:expr) => {
        impl diesel::expression::Expression for $name {
            type SqlType = diesel::sql_types::Bool;
        }

        impl<Tables> diesel::expression::AppearsOnTable<Tables> for $name {}

        impl<Tables> diesel::expression::SelectableExpression<Tables> for $name {}

        impl<Groups> diesel::expression::ValidGrouping<Groups> for $name {
            type IsAggregate = diesel::expression::is_aggregate::Never;
        }

        impl<DB: diesel::backend::Backend> diesel::query_builder::QueryFragment<DB> for $name {
            fn walk_ast<'b>(&'b self, mut out: diesel::query_builder::AstPass<'_, 'b, DB>) -> diesel::QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }
    };
}

pub(super) use condition;

condition!(NotBulkRevoked, concat!("NOT EXISTS (SELECT 1 FROM revocations WHERE ", bulk_revocation_hits_link!(), ")"));
condition!(BulkRevoked, concat!("(", bulk_revocation_hits_link!(), ")"));

/// Whether any bulk revocation is pending.
pub(crate) fn any_pending(conn: &mut Conn) -> QueryResult<bool> {
    diesel::select(exists(orders::table.filter(orders::done_at.is_null()))).get_result(conn)
}

/// The oldest pending bulk revocation that matches each of these links.
pub(crate) fn in_force(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<HashMap<LinkId, BulkRevocation>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let newest_first: Vec<(LinkId, BulkRevocation)> = links::table
        .inner_join(orders::table.on(BulkRevoked))
        .filter(links::id.eq_any(ids))
        .order(orders::seq.desc())
        .select((links::id, orders::all_columns))
        .load(conn)?;
    Ok(newest_first.into_iter().collect())
}

/// Limits a query about links, or about requests for links, to those that a bulk revocation selects.
///
/// A macro, because the queries have different types.
macro_rules! selected_by {
    ($order:expr, $tenant_ids:expr, $query:expr, $of:ident) => {{
        let order: &BulkRevocation = $order;
        let mut query = $query
            .into_boxed::<Backend>()
            .filter($of::issued_after.is_null().or($of::issued_after.lt(order.seq).assume_not_null()));
        if !order.every_tenant {
            query = query.filter($of::tenant_id.eq_any($tenant_ids));
        }
        if let Some(portal) = &order.portal {
            query = query.filter($of::portal.eq(portal));
        }
        if let Some(id) = &order.consultant_id {
            query = query.filter($of::consultant_id.eq(id));
        }
        if let Some(id) = &order.profile_id {
            query = query.filter($of::profile_id.eq(id));
        }
        if let Some(id) = &order.issued_by_id {
            query = query.filter($of::issued_by_id.eq(id));
        }
        if let Some(id) = &order.issued_by_client_id {
            query = query.filter($of::client_id.eq(id).assume_not_null());
        }
        if let Some(ticket) = &order.ticket {
            query = query.filter($of::ticket.eq(ticket).assume_not_null());
        }
        query
    }};
}

pub(super) use selected_by;

/// Number of links that a bulk revocation matches, and of their active sessions, at most one for each link.
pub(crate) fn count(conn: &mut Conn, order: &BulkRevocation, tenant_ids: &[String]) -> QueryResult<(i64, i64)> {
    let live = sessions::magic_link_id
        .eq(links::id)
        .and(sessions::ended_at.is_null())
        .and(sessions::expires_at.gt(order.created_at));
    selected_by!(order, tenant_ids, links::table.left_join(sessions::table.on(live)), links)
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(order.created_at))
        .select((count_star(), count_of(sessions::id.nullable())))
        .get_result(conn)
}

/// The next links that a bulk revocation matches, in order of id.
pub(crate) fn next_links(
    conn: &mut Conn,
    order: &BulkRevocation,
    tenant_ids: &[String],
    limit: i64,
) -> QueryResult<Vec<LinkId>> {
    let mut query = selected_by!(order, tenant_ids, links::table, links)
        .filter(links::revoked_at.is_null())
        .filter(links::expires_at.gt(order.created_at));
    if let Some(done_to) = &order.done_to {
        query = query.filter(links::id.gt(done_to));
    }
    query.order(links::id.asc()).limit(limit).select(links::id).load(conn)
}

/// Number of the next bulk revocation. Whoever else takes one waits until the transaction ends: a link that sees this
/// number as the newest one was issued after every lower one was in force.
pub(crate) fn next_seq(conn: &mut Conn) -> QueryResult<i64> {
    AdvisoryLock::NumberRevocations.take(conn)?;
    let newest: Option<i64> = orders::table.select(max(orders::seq)).get_result(conn)?;
    Ok(newest.unwrap_or(0) + 1)
}

pub(crate) fn insert(conn: &mut Conn, order: &BulkRevocation, tenant_ids: &[String]) -> QueryResult<()> {
    diesel::insert_into(orders::table).values(order).execute(conn)?;
    for tenant_id in tenant_ids {
        diesel::insert_into(tenants::table)
            .values((tenants::revocation_id.eq(&order.id), tenants::tenant_id.eq(tenant_id)))
            .execute(conn)?;
    }
    Ok(())
}

pub(crate) fn find(conn: &mut Conn, id: &RevocationId) -> QueryResult<Option<BulkRevocation>> {
    orders::table.find(id).get_result(conn).optional()
}

/// Number of bulk revocations that one query of a list reads, and the largest number that a page looks at.
const PIECE: i64 = 200;
const SCANNED: usize = 2_000;

/// Bulk revocations with their tenants for which `visible` is true, newest first, up to the page's limit.
pub(crate) fn list(
    conn: &mut Conn,
    page: &PageRequest,
    visible: impl Fn(&BulkRevocation, &[String]) -> bool,
) -> QueryResult<Scan<(BulkRevocation, Vec<String>)>> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let (mut rows, mut scanned, mut after) = (Vec::new(), 0, page.after.clone());
    loop {
        let mut query = orders::table.into_boxed::<Backend>();
        if let Some(after) = &after {
            query = query.filter(orders::id.lt(after.clone()));
        }
        let piece: Vec<BulkRevocation> = query.order(orders::id.desc()).limit(PIECE).load(conn)?;
        after = piece.last().map(|order| order.id.as_str().to_owned());
        scanned += piece.len();
        let exhausted = i64::try_from(piece.len()).is_ok_and(|found| found < PIECE);
        let named: Vec<(RevocationId, String)> = tenants::table
            .filter(tenants::revocation_id.eq_any(piece.iter().map(|order| &order.id)))
            .order(tenants::tenant_id.asc())
            .select((tenants::revocation_id, tenants::tenant_id))
            .load(conn)?;
        let mut of_order: HashMap<RevocationId, Vec<String>> = HashMap::new();
        for (id, tenant_id) in named {
            of_order.entry(id).or_default().push(tenant_id);
        }
        for order in piece {
            let tenant_ids = of_order.remove(&order.id).unwrap_or_default();
            if visible(&order, &tenant_ids) {
                rows.push((order, tenant_ids));
            }
        }
        if exhausted || rows.len() >= limit {
            return Ok(Scan::whole(rows));
        }
        if scanned >= SCANNED {
            return Ok(Scan { rows, stopped_at: after });
        }
    }
}

/// The tenants that a bulk revocation is limited to; none if it applies to every tenant.
pub(crate) fn tenants(conn: &mut Conn, id: &RevocationId) -> QueryResult<Vec<String>> {
    tenants::table
        .filter(tenants::revocation_id.eq(id))
        .order(tenants::tenant_id.asc())
        .select(tenants::tenant_id)
        .load(conn)
}

/// Number of pending bulk revocations that a client has ordered.
pub(crate) fn count_open_of(conn: &mut Conn, client_id: &ClientId) -> QueryResult<i64> {
    orders::table.filter(orders::done_at.is_null()).filter(orders::client_id.eq(client_id)).count().get_result(conn)
}

/// Pending bulk revocations that no instance has leased, oldest first, with their times of creation.
pub(crate) fn open(conn: &mut Conn, now: Timestamp) -> QueryResult<Vec<(RevocationId, Timestamp)>> {
    orders::table
        .filter(orders::done_at.is_null())
        .filter(orders::lease_until.is_null().or(orders::lease_until.le(now).assume_not_null()))
        .order(orders::seq.asc())
        .select((orders::id, orders::created_at))
        .load(conn)
}

/// The transaction watermark of a bulk revocation, if it is set.
pub(crate) fn xid_watermark(conn: &mut Conn, id: &RevocationId) -> QueryResult<Option<i64>> {
    orders::table.find(id).select(orders::xid_watermark).get_result(conn)
}

/// Sets the transaction watermark of a pending bulk revocation, unless it is set: the first value stays.
pub(crate) fn set_xid_watermark(conn: &mut Conn, id: &RevocationId, xid_watermark: i64) -> QueryResult<usize> {
    diesel::update(orders::table.find(id))
        .filter(orders::done_at.is_null())
        .filter(orders::xid_watermark.is_null())
        .set(orders::xid_watermark.eq(Some(xid_watermark)))
        .execute(conn)
}

/// Takes the transaction watermark of a pending bulk revocation back, if it is still this one.
pub(crate) fn forget_xid_watermark(conn: &mut Conn, id: &RevocationId, xid_watermark: i64) -> QueryResult<usize> {
    diesel::update(orders::table.find(id))
        .filter(orders::done_at.is_null())
        .filter(orders::xid_watermark.eq(xid_watermark).assume_not_null())
        .set(orders::xid_watermark.eq(None::<i64>))
        .execute(conn)
}

/// Lets the pending bulk revocations be carried out from here on: leases and watermarks of another server do not count.
pub(crate) fn release_pending(conn: &mut Conn) -> QueryResult<usize> {
    diesel::update(orders::table)
        .filter(orders::done_at.is_null())
        .set((orders::xid_watermark.eq(None::<i64>), orders::lease_until.eq(None::<Timestamp>)))
        .execute(conn)
}

/// Leases a bulk revocation; `None` if it is done, has no watermark, or is leased to another instance.
pub(crate) fn claim(
    conn: &mut Conn,
    id: &RevocationId,
    lease_until: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<BulkRevocation>> {
    diesel::update(orders::table.find(id))
        .filter(orders::done_at.is_null())
        .filter(orders::xid_watermark.is_not_null())
        .filter(orders::lease_until.is_null().or(orders::lease_until.le(now).assume_not_null()))
        .set(orders::lease_until.eq(Some(lease_until)))
        .returning(orders::all_columns)
        .get_result(conn)
        .optional()
}

/// Extends the lease, and locks the row until the transaction ends; `None` if the lease was lost.
pub(crate) fn extend_lease(
    conn: &mut Conn,
    order: &BulkRevocation,
    lease_until: Timestamp,
) -> QueryResult<Option<BulkRevocation>> {
    diesel::update(orders::table.find(&order.id))
        .filter(orders::done_at.is_null())
        .filter(orders::lease_until.eq(order.lease_until))
        .set(orders::lease_until.eq(Some(lease_until)))
        .returning(orders::all_columns)
        .get_result(conn)
        .optional()
}

/// Stores the progress; only for the holder of the lease.
pub(crate) fn advance(
    conn: &mut Conn,
    order: &BulkRevocation,
    done_to: &LinkId,
    counts: (i64, i64),
) -> QueryResult<Option<BulkRevocation>> {
    let first = order.done_to.is_none();
    let (links_before, sessions_before) = if first { (0, 0) } else { (order.links, order.sessions) };
    diesel::update(orders::table.find(&order.id))
        .set((
            orders::done_to.eq(Some(done_to)),
            orders::links.eq(links_before + counts.0),
            orders::sessions.eq(sessions_before + counts.1),
        ))
        .returning(orders::all_columns)
        .get_result(conn)
        .optional()
}

/// Counts requests that it withdrew.
pub(crate) fn count_requests(conn: &mut Conn, order: &BulkRevocation, requests: i64) -> QueryResult<usize> {
    diesel::update(orders::table.find(&order.id)).set(orders::requests.eq(orders::requests + requests)).execute(conn)
}

/// Marks a bulk revocation as done; `false` if the lease was lost.
pub(crate) fn finish(conn: &mut Conn, order: &BulkRevocation, now: Timestamp) -> QueryResult<bool> {
    let nothing = order.done_to.is_none();
    let (links, sessions) = if nothing { (0, 0) } else { (order.links, order.sessions) };
    diesel::update(orders::table.find(&order.id))
        .filter(orders::done_at.is_null())
        .filter(orders::lease_until.eq(order.lease_until))
        .set((
            orders::done_at.eq(Some(now)),
            orders::lease_until.eq(None::<Timestamp>),
            orders::links.eq(links),
            orders::sessions.eq(sessions),
        ))
        .execute(conn)
        .map(|rows| rows > 0)
}

text_enum! {
    /// Progress of a bulk revocation.
    pub enum RevocationState {
        /// In force; the links are still being marked as revoked and recorded.
        Running = "running",
        /// Every link is marked as revoked and recorded.
        Done = "done",
        /// Nothing was revoked: the links and sessions were only counted.
        DryRun = "dry_run",
    }
}

/// A bulk revocation as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::revocations)]
pub(crate) struct BulkRevocation {
    pub id: RevocationId,
    /// Links whose `issued_after` is this number or a later one were issued after it.
    pub seq: i64,
    /// If false, it applies only to the tenants in `revocation_tenants`.
    pub every_tenant: bool,
    pub portal: Option<String>,
    pub consultant_id: Option<ConsultantId>,
    pub profile_id: Option<String>,
    pub issued_by_id: Option<String>,
    pub reason: String,
    pub dry_run: bool,
    /// What it matched when it was created; once it is being carried out, what was revoked so far.
    pub links: i64,
    pub sessions: i64,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub actor_name: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    /// Once every transaction with a lower number has ended, so has every one that did not see this row.
    pub xid_watermark: Option<i64>,
    /// The last link that was processed.
    pub done_to: Option<LinkId>,
    pub lease_until: Option<Timestamp>,
    pub done_at: Option<Timestamp>,
    /// The client that issued the links.
    pub issued_by_client_id: Option<ClientId>,
    pub ticket: Option<String>,
    /// Number of requests that it withdrew.
    pub requests: i64,
}

impl BulkRevocation {
    /// One without selectors, which no transaction has numbered yet.
    pub(crate) fn new(reason: String, actor: &Actor, client_id: Option<&ClientId>, now: Timestamp) -> Self {
        Self {
            id: RevocationId::new(now),
            // It is counted before it has a number: the highest one matches every link issued so far.
            seq: i64::MAX,
            every_tenant: true,
            portal: None,
            consultant_id: None,
            profile_id: None,
            issued_by_id: None,
            reason,
            dry_run: false,
            links: 0,
            sessions: 0,
            actor_type: actor.kind,
            actor_id: actor.id.clone(),
            actor_name: actor.name.clone(),
            client_id: client_id.cloned(),
            created_at: now,
            xid_watermark: None,
            done_to: None,
            lease_until: None,
            done_at: None,
            issued_by_client_id: None,
            ticket: None,
            requests: 0,
        }
    }

    pub(crate) const fn state(&self) -> RevocationState {
        match self.done_at {
            _ if self.dry_run => RevocationState::DryRun,
            Some(_) => RevocationState::Done,
            None => RevocationState::Running,
        }
    }

    /// Whether it lies within a reach.
    pub(crate) fn is_within(&self, tenant_ids: &[String], reach: &Reach) -> bool {
        let tenants = match &reach.tenants {
            Tenants::All => true,
            Tenants::Only(_) => !self.every_tenant && tenant_ids.iter().all(|id| reach.covers_tenant(id)),
        };
        tenants && (reach.portal.is_none() || reach.portal == self.portal)
    }
}

#[cfg(test)]
mod tests {
    use diesel::debug_query;
    use diesel::prelude::*;
    use diesel::sqlite::Sqlite;

    use super::*;
    use crate::records::link_requests::RequestRevoked;

    #[test]
    fn what_selects_links_selects_requests_in_the_same_way() {
        let of_links = debug_query::<Sqlite, _>(&orders::table.filter(BulkRevoked)).to_string();
        let of_requests = debug_query::<Sqlite, _>(&orders::table.filter(RequestRevoked)).to_string();
        let selectors = |text: &str, table: &str| {
            let (_, rest) = text.split_once(&format!("({table}.issued_after")).expect("the place among the others");
            rest.replace(table, "").replace("))", ")")
        };
        assert_eq!(selectors(&of_links, "magic_links"), selectors(&of_requests, "link_requests"));
    }
}
