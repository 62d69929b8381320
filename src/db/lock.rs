//! Locks that PostgreSQL needs and that SQLite's single writer makes superfluous.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::Conn;
use super::schema::consultants;
use crate::consultants::Consultant;
use crate::id::ConsultantId;

/// Reads a consultant and keeps a suspension from passing until the transaction ends.
pub(crate) fn lock_consultant(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    match conn {
        Conn::Postgres(conn) => consultants::table.find(id).for_share().get_result(conn).optional(),
        Conn::Sqlite(conn) => consultants::table.find(id).get_result(conn).optional(),
    }
}

/// Reads a consultant and keeps everybody else from changing them until the transaction ends.
pub(crate) fn lock_consultant_for_change(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    match conn {
        Conn::Postgres(conn) => consultants::table.find(id).for_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => consultants::table.find(id).get_result(conn).optional(),
    }
}

/// Lets one process at a time add signing keys.
pub(crate) fn lock_signing_keys(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("LOCK TABLE signing_keys IN EXCLUSIVE MODE"),
        Conn::Sqlite(_) => Ok(()),
    }
}
