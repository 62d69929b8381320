//! Locks that PostgreSQL needs and that SQLite's single writer makes superfluous.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use super::Conn;
use super::schema::{consultants, sessions};
use crate::consultants::Consultant;
use crate::id::{ConsultantId, SessionId};
use crate::sessions::Session;

/// Reads a consultant and keeps a suspension from passing until the transaction ends.
pub(crate) fn lock_consultant(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    match conn {
        Conn::Postgres(conn) => consultants::table.find(id).for_share().get_result(conn).optional(),
        Conn::Sqlite(conn) => consultants::table.find(id).get_result(conn).optional(),
    }
}

/// Reads a consultant whose row is about to change, and keeps everybody else from changing it or issuing for them.
///
/// A session that is being opened may still refer to them: it holds a link that the change wants next.
pub(crate) fn lock_consultant_for_change(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    match conn {
        Conn::Postgres(conn) => consultants::table.find(id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => consultants::table.find(id).get_result(conn).optional(),
    }
}

/// Reads a session and lets one report at a time add to it: overlapping ones would undo each other.
pub(crate) fn lock_session(conn: &mut Conn, id: &SessionId) -> QueryResult<Option<Session>> {
    match conn {
        Conn::Postgres(conn) => sessions::table.find(id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => sessions::table.find(id).get_result(conn).optional(),
    }
}

/// Lets one process at a time add signing keys.
pub(crate) fn lock_signing_keys(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("LOCK TABLE signing_keys IN EXCLUSIVE MODE"),
        Conn::Sqlite(_) => Ok(()),
    }
}
