//! Open grants: which link gives a consultant an access, and until when. One access, one link.
//!
//! Time ends links without a write, so a row counts until its time is over. Triggers keep it true: a link that is revoked,
//! by whatever statement, gives the access back, and one whose end is moved keeps it until then. A pending bulk revocation
//! that matches the link counts as in every other statement.

use diesel::backend::Backend as AnyBackend;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Text, Timestamp as SqlTimestamp};

use super::links::{self, Link};
use super::revocations::BulkRevoked;
use crate::clock::Timestamp;
use crate::db::schema::open_grants as grants;
use crate::db::{Conn, fixed, prepared_as};
use crate::id::LinkId;

/// The statement that gives a link its access, unless another link has it; it returns the link's id.
#[derive(Debug)]
pub(crate) struct Take<'a> {
    link: &'a Link,
    now: Timestamp,
}

/// Gives the link its access.
pub(crate) const fn taking(link: &Link, now: Timestamp) -> Take<'_> {
    Take { link, now }
}

impl<DB> QueryFragment<DB> for Take<'_>
where
    DB: AnyBackend + HasSqlType<Text> + HasSqlType<SqlTimestamp>,
    str: ToSql<Text, DB>,
    Timestamp: ToSql<SqlTimestamp, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let link = self.link;
        out.push_sql(
            "INSERT INTO open_grants (tenant_id, portal, consultant_id, profile_id, magic_link_id, until) VALUES (",
        );
        for text in [&link.tenant_id, &link.portal, link.consultant_id.as_str(), &link.profile_id, link.id.as_str()] {
            out.push_bind_param::<Text, str>(text)?;
            out.push_sql(", ");
        }
        out.push_bind_param::<SqlTimestamp, Timestamp>(&link.expires_at)?;
        out.push_sql(
            ") ON CONFLICT (tenant_id, portal, consultant_id, profile_id) \
             DO UPDATE SET magic_link_id = excluded.magic_link_id, until = excluded.until \
             WHERE open_grants.magic_link_id = excluded.magic_link_id OR open_grants.until <= ",
        );
        out.push_bind_param::<SqlTimestamp, Timestamp>(&self.now)?;
        out.push_sql(
            " OR EXISTS (SELECT 1 FROM magic_links, revocations WHERE magic_links.id = open_grants.magic_link_id AND ",
        );
        BulkRevoked.walk_ast(out.reborrow())?;
        out.push_sql(") RETURNING magic_link_id");
        Ok(())
    }
}

/// Gives the link its access; `false` if another link has it.
pub(crate) fn take(conn: &mut Conn, link: &Link, now: Timestamp) -> QueryResult<bool> {
    let taken = match conn {
        Conn::Postgres(conn) => fixed!(prepared_as::<Text, _>(taking(link, now))).get_result::<String>(conn),
        Conn::Sqlite(conn) => fixed!(prepared_as::<Text, _>(taking(link, now))).get_result::<String>(conn),
    };
    Ok(taken.optional()?.is_some())
}

/// The link that has this link's access, whether or not its time is over.
pub(crate) fn holder(conn: &mut Conn, link: &Link) -> QueryResult<Option<Link>> {
    let holder: Option<LinkId> = grants::table
        .find((&link.tenant_id, &link.portal, &link.consultant_id, &link.profile_id))
        .select(grants::magic_link_id)
        .get_result(conn)
        .optional()?;
    holder.map_or(Ok(None), |id| links::find(conn, &id))
}

/// Removes the rows of links whose end is recorded.
pub(crate) fn remove_ended(conn: &mut Conn, mark: Timestamp) -> QueryResult<usize> {
    diesel::delete(grants::table.filter(grants::until.le(mark))).execute(conn)
}
