//! Clients at rest.

use diesel::prelude::*;

use super::Client;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::clients;
use crate::domain::Window;
use crate::id::ClientId;

pub(crate) fn find(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    clients::table.find(id).get_result(conn).optional()
}

pub(super) fn insert(conn: &mut Conn, client: &Client) -> QueryResult<usize> {
    diesel::insert_into(clients::table).values(client).execute(conn)
}

/// Clients that `visible` admits, newest first, up to the window's limit.
pub(super) fn list(conn: &mut Conn, window: &Window, visible: impl Fn(&Client) -> bool) -> QueryResult<Vec<Client>> {
    let after = window.after.clone();
    let rows: Vec<Client> = match after {
        Some(after) => clients::table.filter(clients::id.lt(after)).order(clients::id.desc()).load(conn)?,
        None => clients::table.order(clients::id.desc()).load(conn)?,
    };
    let limit = usize::try_from(window.limit).unwrap_or(usize::MAX);
    Ok(rows.into_iter().filter(visible).take(limit).collect())
}

/// Puts a new key in the place of the old one; `None` if the client is disabled.
pub(super) fn rotate(
    conn: &mut Conn,
    id: &ClientId,
    key_sha256: &str,
    old_until: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<Client>> {
    diesel::update(clients::table.find(id))
        .filter(clients::disabled_at.is_null())
        .set((
            clients::previous_key_sha256.eq(clients::key_sha256.nullable()),
            clients::previous_key_expires_at.eq(Some(old_until)),
            clients::key_sha256.eq(key_sha256),
            clients::rotated_at.eq(Some(now)),
        ))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// Disables a client; `None` if it was disabled before.
pub(super) fn disable(conn: &mut Conn, id: &ClientId, now: Timestamp) -> QueryResult<Option<Client>> {
    diesel::update(clients::table.find(id))
        .filter(clients::disabled_at.is_null())
        .set(clients::disabled_at.eq(Some(now)))
        .returning(clients::all_columns)
        .get_result(conn)
        .optional()
}

/// The part of a table that lies within a reach, as a condition for its guarded statements.
///
/// A macro, because the condition belongs to the table's own columns.
macro_rules! within {
    ($table:ident, $reach:expr) => {{
        use diesel::prelude::*;
        type Condition =
            Box<dyn diesel::BoxableExpression<$table::table, $crate::db::Backend, SqlType = diesel::sql_types::Bool>>;
        let reach: &$crate::domain::Reach = $reach;
        let portal: Condition = match &reach.portal {
            Some(portal) => Box::new($table::portal.eq(portal.clone())),
            None => Box::new(true.into_sql::<diesel::sql_types::Bool>()),
        };
        let tenants: Condition = match &reach.tenants {
            $crate::domain::Tenants::Only(ids) => Box::new($table::tenant_id.eq_any(ids.clone())),
            $crate::domain::Tenants::All => Box::new(true.into_sql::<diesel::sql_types::Bool>()),
        };
        portal.and(tenants)
    }};
}

pub(crate) use within;
