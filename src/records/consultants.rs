//! Rows of consultants, and their statements.

use diesel::dsl::exists;
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Timestamp as SqlTimestamp};
use serde::Deserialize;

use crate::clock::Timestamp;
use crate::db::schema::{
    clients, consultants, mail_suppressions as suppressions, service_state, tenant_policies as policies,
};
use crate::db::{Backend, Conn, text_enum};
use crate::domain::{Cursor, PageRequest, Scan, SearchText};
use crate::id::{ClientId, ConsultantId};

/// The consultant, whether or not name and address are erased.
pub(crate) fn find(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    consultants::table.find(id).get_result(conn).optional()
}

/// The consultant; `None` if name and address are erased.
pub(crate) fn find_kept(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    Ok(find(conn, id)?.filter(|consultant| consultant.erased_at.is_none()))
}

/// Whether another consultant has the e-mail address.
pub(crate) fn email_taken(conn: &mut Conn, email_key: &str, but: Option<&ConsultantId>) -> QueryResult<bool> {
    let owner: Option<ConsultantId> = consultants::table
        .filter(consultants::email_key.eq(email_key))
        .select(consultants::id)
        .get_result(conn)
        .optional()?;
    Ok(owner.is_some_and(|owner| Some(&owner) != but))
}

pub(crate) fn insert(conn: &mut Conn, consultant: &Consultant) -> QueryResult<usize> {
    diesel::insert_into(consultants::table).values(consultant).execute(conn)
}

/// Number of consultants that one query of a search reads, and the largest number that a page looks at.
const PIECE: i64 = 1_000;
const SCANNED: usize = 20_000;

/// Consultants that match the filter, newest first.
pub(crate) fn list(conn: &mut Conn, filter: &ConsultantFilter, page: &PageRequest) -> QueryResult<Scan<Consultant>> {
    let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
    let search = filter.search.as_deref();
    let piece = if search.is_some() { PIECE } else { page.limit };
    let (mut rows, mut scanned, mut after) = (Vec::new(), 0, page.after.clone());
    loop {
        let mut query = consultants::table.filter(consultants::erased_at.is_null()).into_boxed::<Backend>();
        match filter.state {
            Some(ConsultantState::Active) => query = query.filter(consultants::suspended_at.is_null()),
            Some(ConsultantState::Suspended) => query = query.filter(consultants::suspended_at.is_not_null()),
            None => {}
        }
        if let Some(after) = &after {
            query = query.filter(consultants::id.lt(after.clone()));
        }
        let found: Vec<Consultant> = query.order(consultants::id.desc()).limit(piece).load(conn)?;
        let Some(search) = search else { return Ok(Scan::whole(found)) };
        after = found.last().map(|consultant| consultant.id.as_str().to_owned());
        scanned += found.len();
        let exhausted = i64::try_from(found.len()).is_ok_and(|number| number < piece);
        // Not in SQL: of upper and lower case, SQLite knows those of ASCII only.
        let hit = |one: &Consultant| one.name.to_lowercase().contains(search) || one.email_key.contains(search);
        rows.extend(found.into_iter().filter(hit));
        if exhausted || rows.len() >= limit {
            rows.truncate(limit);
            return Ok(Scan::whole(rows));
        }
        if scanned >= SCANNED {
            return Ok(Scan { rows, stopped_at: after });
        }
    }
}

/// Sets name and address; `None` if there is no such consultant.
pub(crate) fn change(
    conn: &mut Conn,
    id: &ConsultantId,
    name: &str,
    email: &str,
    email_key: &str,
    now: Timestamp,
) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .set((
            consultants::name.eq(name),
            consultants::email.eq(email),
            consultants::email_key.eq(email_key),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Suspends; `None` if there is no such consultant who is active, or whom a restore keeps suspended.
pub(crate) fn suspend(
    conn: &mut Conn,
    id: &ConsultantId,
    reason: &str,
    now: Timestamp,
) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .filter(consultants::suspended_at.is_null().or(consultants::unconfirmed_since.is_not_null()))
        .set((
            consultants::suspended_at.eq(Some(now)),
            consultants::suspend_reason.eq(Some(reason)),
            consultants::unconfirmed_since.eq(None::<Timestamp>),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Reinstates; `None` if there is no such suspended consultant whose name and address are kept.
pub(crate) fn reinstate(conn: &mut Conn, id: &ConsultantId, now: Timestamp) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .filter(consultants::suspended_at.is_not_null())
        .filter(consultants::erased_at.is_null())
        .set((
            consultants::suspended_at.eq(None::<Timestamp>),
            consultants::suspend_reason.eq(None::<String>),
            consultants::unconfirmed_since.eq(None::<Timestamp>),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Suspends every active consultant until they are confirmed; returns how many.
///
/// Neither this nor a confirmation is a change of what is known of them: the retention of name and address goes on as in the
/// backup.
pub(crate) fn suspend_until_confirmed(conn: &mut Conn, reason: &str, now: Timestamp) -> QueryResult<usize> {
    diesel::update(consultants::table)
        .filter(consultants::suspended_at.is_null())
        .set((
            consultants::suspended_at.eq(Some(now)),
            consultants::suspend_reason.eq(Some(reason)),
            consultants::unconfirmed_since.eq(Some(now)),
        ))
        .execute(conn)
}

/// Reinstates a consultant whom a restore has suspended; `None` for anybody else.
pub(crate) fn confirm(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .filter(consultants::unconfirmed_since.is_not_null())
        .set((
            consultants::suspended_at.eq(None::<Timestamp>),
            consultants::suspend_reason.eq(None::<String>),
            consultants::unconfirmed_since.eq(None::<Timestamp>),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Consultants whom a restore has suspended, in order of id.
pub(crate) fn unconfirmed(conn: &mut Conn, after: Option<&ConsultantId>, limit: i64) -> QueryResult<Vec<Consultant>> {
    let mut query = consultants::table.filter(consultants::unconfirmed_since.is_not_null()).into_boxed::<Backend>();
    if let Some(after) = after {
        query = query.filter(consultants::id.gt(after));
    }
    query.order(consultants::id.asc()).limit(limit).load(conn)
}

/// A consultant as they are stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::consultants)]
pub(crate) struct Consultant {
    pub id: ConsultantId,
    pub name: String,
    pub email: String,
    pub(crate) email_key: String,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub suspended_at: Option<Timestamp>,
    pub(crate) suspend_reason: Option<String>,
    /// Set while a restore keeps them suspended.
    pub(crate) unconfirmed_since: Option<Timestamp>,
    /// When name and address were erased. Nothing changes such a consultant any more, and they get no links.
    #[diesel(skip_insertion)]
    pub(crate) erased_at: Option<Timestamp>,
}

#[cfg(test)]
impl Consultant {
    /// A newly registered consultant.
    pub(crate) fn for_tests(name: &str, email: &str, now: Timestamp) -> Self {
        Self {
            id: ConsultantId::new(now),
            name: name.to_owned(),
            email: email.to_owned(),
            email_key: email.to_lowercase(),
            created_at: now,
            updated_at: now,
            suspended_at: None,
            suspend_reason: None,
            unconfirmed_since: None,
            erased_at: None,
        }
    }
}

text_enum! {
    /// State of a consultant.
    pub enum ConsultantState {
        /// Links can be issued for the consultant.
        Active = "active",
        /// No links can be issued for the consultant, and existing links were revoked.
        Suspended = "suspended",
    }
}

/// Filter and page of a list of consultants.
#[derive(Debug, Clone, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsultantFilter {
    /// Only consultants in this state.
    pub state: Option<ConsultantState>,
    /// Only consultants whose name or e-mail address holds this text, in upper or lower case.
    #[param(value_type = Option<SearchText>, example = "ravi")]
    pub search: Option<String>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// What issuing a link asks of its consultant and its client.
#[derive(Debug, Queryable)]
pub(crate) struct Issuable {
    pub consultant: Consultant,
    /// Whether mail to the consultant's address is suppressed.
    pub is_suppressed: bool,
    pub client_disabled_at: Option<Timestamp>,
    /// The tenant's policy, as it is stored.
    pub policy: Option<String>,
    /// Whether issuing is frozen.
    pub is_frozen: bool,
}

/// Reads a consultant, when the client was disabled that issues a link for them, and the policy of the tenant; blocks a
/// suspension and a disabling until the transaction ends.
pub(crate) fn lock_for_issue(
    conn: &mut Conn,
    id: &ConsultantId,
    client_id: Option<&ClientId>,
    tenant_id: &str,
) -> QueryResult<Option<Issuable>> {
    issuable(conn, id, client_id, tenant_id, true)
}

/// Reads the same, and blocks nobody: what it says may be another one a moment later.
pub(crate) fn for_issue(
    conn: &mut Conn,
    id: &ConsultantId,
    client_id: Option<&ClientId>,
    tenant_id: &str,
) -> QueryResult<Option<Issuable>> {
    issuable(conn, id, client_id, tenant_id, false)
}

fn issuable(
    conn: &mut Conn,
    id: &ConsultantId,
    client_id: Option<&ClientId>,
    tenant_id: &str,
    locks: bool,
) -> QueryResult<Option<Issuable>> {
    let Some(client_id) = client_id else {
        let kept = consultants::id.eq(id).and(consultants::erased_at.is_null());
        let one = consultants::table.filter(kept).select((
            consultants::all_columns,
            exists(suppressed()),
            diesel::dsl::sql::<Nullable<SqlTimestamp>>("NULL"),
            policy_of(tenant_id),
            exists(freeze()),
        ));
        return match conn {
            Conn::Postgres(conn) if locks => one.for_share().get_result(conn).optional(),
            Conn::Postgres(conn) => one.get_result(conn).optional(),
            Conn::Sqlite(conn) => one.get_result(conn).optional(),
        };
    };
    let both = consultants::table
        .inner_join(clients::table.on(clients::id.eq(client_id)))
        .filter(consultants::id.eq(id).and(consultants::erased_at.is_null()))
        .select((
            consultants::all_columns,
            exists(suppressed()),
            clients::disabled_at,
            policy_of(tenant_id),
            exists(freeze()),
        ));
    match conn {
        Conn::Postgres(conn) if locks => both.for_share().get_result(conn).optional(),
        Conn::Postgres(conn) => both.get_result(conn).optional(),
        Conn::Sqlite(conn) => both.get_result(conn).optional(),
    }
}

/// The policy that is in force for a tenant.
#[expect(clippy::elidable_lifetime_names, reason = "`auto_type` demands a name")]
#[diesel::dsl::auto_type]
fn policy_of<'a>(tenant_id: &'a str) -> _ {
    policies::table
        .filter(policies::tenant_id.eq(tenant_id))
        .order(policies::seq.desc())
        .select(policies::policy)
        .single_value()
}

/// The freeze of issuing, if there is one: it may have begun since the head of the request.
#[diesel::dsl::auto_type]
fn freeze() -> _ {
    service_state::table.filter(service_state::frozen_at.is_not_null())
}

/// Suppressions of the consultant's address.
#[diesel::dsl::auto_type]
fn suppressed() -> _ {
    suppressions::table
        .filter(suppressions::address_key.eq(consultants::email_key))
        .filter(suppressions::cleared_at.is_null())
}

/// Reads a consultant for a change, and blocks other changes of the row and the issuing of links for the consultant.
///
/// The lock allows foreign keys to the row: a transaction that opens a session holds a link that the change locks next,
/// so the two could deadlock.
pub(crate) fn lock_for_change(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    let kept = consultants::table.find(id).filter(consultants::erased_at.is_null());
    match conn {
        Conn::Postgres(conn) => kept.for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => kept.get_result(conn).optional(),
    }
}
