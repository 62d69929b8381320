//! What belongs to no tenant, and nobody has needed for the whole retention: consultants, suppressed addresses, and who
//! decided on bulk revocations and revoked keys.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use super::consultants;
use crate::clock::Timestamp;
use crate::db::schema::{
    client_uses, consultants as people, key_revocations, link_requests as requests, magic_links as links,
    mail_jobs as jobs, mail_suppressions as suppressions, revocation_tenants, revocations,
};
use crate::db::{Backend, Conn};
use crate::id::{ClientId, ConsultantId, RevocationId, SuppressionId};

diesel::define_sql_function! {
    /// The text in lower case, as the index of recipients has it.
    fn lower(text: Nullable<Text>) -> Nullable<Text>;
}

/// Suppressed addresses that one transaction removes.
const ADDRESSES: i64 = 500;

/// Consultants whom nobody has changed since a time, and whose newest link is erased, if there is one: a page in order of
/// id, and where the next one begins.
pub(crate) fn idle_consultants(
    conn: &mut Conn,
    before: Timestamp,
    after: Option<&ConsultantId>,
    limit: i64,
) -> QueryResult<(Vec<ConsultantId>, Option<ConsultantId>)> {
    let mut query =
        people::table.filter(people::erased_at.is_null()).filter(people::updated_at.lt(before)).into_boxed::<Backend>();
    if let Some(after) = after {
        query = query.filter(people::id.gt(after));
    }
    let page: Vec<ConsultantId> = query.order(people::id).limit(limit).select(people::id).load(conn)?;
    let last = page.last().cloned();
    let mut idle = Vec::new();
    for id in page {
        // One row, of however many links: most consultants are in use.
        let newest = links::table.filter(links::consultant_id.eq(&id)).order(links::id.desc());
        let is_kept: Option<bool> = newest.select(links::erased_at.is_null()).first(conn).optional()?;
        if is_kept != Some(true) {
            idle.push(id);
        }
    }
    Ok((idle, last))
}

/// Erases name and address of a consultant whom nothing refers to that is kept; `false` if something does, or somebody has
/// changed them since.
///
/// The row is locked first: a link that is being issued for them holds it, and is seen after that.
pub(crate) fn erase_consultant(
    conn: &mut Conn,
    id: &ConsultantId,
    before: Timestamp,
    now: Timestamp,
) -> QueryResult<bool> {
    let Some(known) = consultants::lock_for_change(conn, id)? else { return Ok(false) };
    let kept = links::table.filter(links::consultant_id.eq(people::id)).filter(links::erased_at.is_null());
    let asked = requests::table.filter(requests::consultant_id.eq(people::id)).filter(requests::erased_at.is_null());
    let erased = diesel::update(people::table.find(id))
        .filter(people::updated_at.lt(before))
        .filter(not(exists(kept)))
        .filter(not(exists(asked)))
        .filter(not(exists(jobs::table.filter(jobs::consultant_id.eq(people::id.nullable())))))
        .set((
            people::name.eq(""),
            people::email.eq(""),
            // Unique, and no address.
            people::email_key.eq(id.as_str()),
            people::suspended_at.eq(Some(known.suspended_at.unwrap_or(now))),
            people::suspend_reason.eq(None::<String>),
            people::unconfirmed_since.eq(None::<Timestamp>),
            people::erased_at.eq(Some(now)),
        ))
        .execute(conn)?;
    Ok(erased > 0)
}

/// Removes suppressed addresses: those that were cleared before a time, and those older than that which neither a consultant
/// nor a mail that is kept has. Returns how many.
pub(crate) fn remove_suppressions(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let cleared = suppressions::table
        .filter(suppressions::cleared_at.lt(before).assume_not_null())
        .limit(ADDRESSES)
        .select(suppressions::id);
    let mut over: Vec<SuppressionId> = cleared.load(conn)?;
    let consultant = people::table.filter(people::email_key.eq(suppressions::address_key));
    let mail = jobs::table.filter(lower(jobs::recipient).eq(suppressions::address_key.nullable()));
    let unused = suppressions::table
        .filter(suppressions::cleared_at.is_null())
        .filter(suppressions::created_at.lt(before))
        .filter(not(exists(consultant)))
        .filter(not(exists(mail)))
        .limit(ADDRESSES)
        .select(suppressions::id);
    over.extend(unused.load::<SuppressionId>(conn)?);
    diesel::delete(suppressions::table.filter(suppressions::id.eq_any(over))).execute(conn)
}

/// A bulk revocation that says why.
pub(crate) struct SaidRevocation {
    pub id: RevocationId,
    pub created_at: Timestamp,
    /// None for every tenant.
    pub tenants: Vec<String>,
}

/// Bulk revocations that were done before a time and say why: a page in order of id.
pub(crate) fn said_revocations(
    conn: &mut Conn,
    before: Timestamp,
    after: Option<&RevocationId>,
    limit: i64,
) -> QueryResult<Vec<SaidRevocation>> {
    let mut query = revocations::table
        .filter(revocations::reason.ne(""))
        .filter(revocations::created_at.lt(before))
        .filter(revocations::done_at.lt(before).assume_not_null().or(revocations::dry_run))
        .into_boxed::<Backend>();
    if let Some(after) = after {
        query = query.filter(revocations::id.gt(after));
    }
    let said: Vec<(RevocationId, Timestamp)> =
        query.order(revocations::id).limit(limit).select((revocations::id, revocations::created_at)).load(conn)?;
    let with_tenants = |(id, created_at): (RevocationId, Timestamp)| {
        let its_own = revocation_tenants::table.filter(revocation_tenants::revocation_id.eq(&id));
        let tenants = its_own.select(revocation_tenants::tenant_id).load(conn)?;
        Ok(SaidRevocation { id, created_at, tenants })
    };
    said.into_iter().map(with_tenants).collect()
}

/// Erases why bulk revocations were created, and by whom. A ticket becomes one that no link has: without one they would
/// select more.
pub(crate) fn erase_revocations(conn: &mut Conn, ids: &[RevocationId]) -> QueryResult<usize> {
    diesel::update(revocations::table.filter(revocations::id.eq_any(ids)))
        .filter(revocations::ticket.is_not_null())
        .set(revocations::ticket.eq(Some("")))
        .execute(conn)?;
    diesel::update(revocations::table.filter(revocations::id.eq_any(ids)))
        .set((revocations::reason.eq(""), revocations::actor_name.eq(None::<String>)))
        .execute(conn)
}

/// Rows that one transaction erases.
const ROWS: i64 = 500;

/// Erases from where clients called that have not called since a time.
pub(crate) fn erase_addresses(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let seen =
        client_uses::table.filter(client_uses::last_used_at.lt(before)).filter(client_uses::address.is_not_null());
    let seen: Vec<ClientId> = seen.select(client_uses::client_id).limit(ROWS).load(conn)?;
    diesel::update(client_uses::table.filter(client_uses::client_id.eq_any(seen)))
        .filter(client_uses::last_used_at.lt(before))
        .set(client_uses::address.eq(None::<String>))
        .execute(conn)
}

/// Erases why keys were revoked, and by whom.
pub(crate) fn erase_key_revocations(conn: &mut Conn, before: Timestamp) -> QueryResult<usize> {
    let said = key_revocations::table
        .filter(key_revocations::reason.ne(""))
        .filter(key_revocations::done_at.lt(before).assume_not_null());
    let said: Vec<String> = said.select(key_revocations::kid).limit(ROWS).load(conn)?;
    diesel::update(key_revocations::table.filter(key_revocations::kid.eq_any(said)))
        .set((key_revocations::reason.eq(""), key_revocations::actor_name.eq(None::<String>)))
        .execute(conn)
}
