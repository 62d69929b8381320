//! Reviews of emergency links. Each is due once, and the next emergency for the same profile waits for it: the index of
//! open ones decides that.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::link_reviews as reviews;
use crate::domain::{Finding, ReviewState};
use crate::id::{ClientId, LinkId};

/// Inserts the review that an emergency link makes due; `false` if another one for the same profile is open.
pub(crate) fn insert(conn: &mut Conn, review: &Review) -> QueryResult<bool> {
    let insertion = diesel::insert_into(reviews::table).values(review).on_conflict_do_nothing();
    let rows = match conn {
        Conn::Postgres(conn) => insertion.execute(conn),
        Conn::Sqlite(conn) => insertion.execute(conn),
    };
    Ok(rows? > 0)
}

/// The emergency link for a profile whose review is open.
pub(crate) fn open_for(
    conn: &mut Conn,
    tenant_id: &str,
    portal: &str,
    profile_id: &str,
) -> QueryResult<Option<LinkId>> {
    reviews::table
        .filter(reviews::tenant_id.eq(tenant_id).and(reviews::portal.eq(portal)))
        .filter(reviews::profile_id.eq(profile_id).and(reviews::reviewed_at.is_null()))
        .select(reviews::magic_link_id)
        .get_result(conn)
        .optional()
}

/// The review of a link; `None` if the link is not an emergency's.
pub(crate) fn find(conn: &mut Conn, link: &LinkId) -> QueryResult<Option<Review>> {
    reviews::table.find(link).get_result(conn).optional()
}

/// The reviews of those links that are an emergency's.
pub(crate) fn of_links(conn: &mut Conn, links: &[LinkId]) -> QueryResult<Vec<Review>> {
    reviews::table.filter(reviews::magic_link_id.eq_any(links)).load(conn)
}

/// Stores what a review found; `None` if the link is reviewed already.
pub(crate) fn complete(conn: &mut Conn, link: &LinkId, found: &Found<'_>) -> QueryResult<Option<Review>> {
    diesel::update(reviews::table.find(link))
        .filter(reviews::reviewed_at.is_null())
        .set(found)
        .returning(reviews::all_columns)
        .get_result(conn)
        .optional()
}

/// Numbers of open reviews: of those that are not due yet, and of those that are.
pub(crate) fn count_open(conn: &mut Conn, now: Timestamp) -> QueryResult<(i64, i64)> {
    let open = || reviews::table.filter(reviews::reviewed_at.is_null());
    let overdue = open().filter(reviews::review_due_at.le(now)).count().get_result(conn)?;
    Ok((open().filter(reviews::review_due_at.gt(now)).count().get_result(conn)?, overdue))
}

/// The review of an emergency link as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = reviews, treat_none_as_default_value = false)]
#[expect(clippy::struct_field_names, reason = "what is due is the review, here and in the API")]
pub(crate) struct Review {
    pub magic_link_id: LinkId,
    pub tenant_id: String,
    pub portal: String,
    pub profile_id: String,
    pub justification: String,
    pub created_at: Timestamp,
    pub review_due_at: Timestamp,
    pub reviewed_at: Option<Timestamp>,
    pub reviewer_id: Option<String>,
    pub reviewer_name: Option<String>,
    pub finding: Option<Finding>,
    pub comment: Option<String>,
    pub client_id: Option<ClientId>,
    /// Who sent the request for the link; whoever grants it may be somebody else.
    pub requested_by_id: Option<String>,
}

impl Review {
    pub(crate) fn state(&self, now: Timestamp) -> ReviewState {
        if self.reviewed_at.is_some() {
            ReviewState::Done
        } else if self.review_due_at <= now {
            ReviewState::Overdue
        } else {
            ReviewState::Pending
        }
    }
}

/// What a review found.
#[derive(Debug, AsChangeset)]
#[diesel(table_name = reviews)]
pub(crate) struct Found<'a> {
    pub reviewed_at: Option<Timestamp>,
    pub reviewer_id: Option<&'a str>,
    pub reviewer_name: Option<&'a str>,
    pub finding: Option<Finding>,
    pub comment: Option<&'a str>,
    pub client_id: Option<&'a ClientId>,
}
