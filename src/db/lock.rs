//! Locks that PostgreSQL needs and that SQLite's single writer makes superfluous.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Conn;
use super::schema::{audit_logs, clients, consultants, sessions};
use crate::audit::Frontier;
use crate::clients::Client;
use crate::consultants::Consultant;
use crate::error::Error;
use crate::id::{ClientId, ConsultantId, SessionId};
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

/// Reads a client and lets one transaction at a time count what it has.
pub(crate) fn lock_client(conn: &mut Conn, id: &ClientId) -> QueryResult<Option<Client>> {
    match conn {
        Conn::Postgres(conn) => clients::table.find(id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => clients::table.find(id).get_result(conn).optional(),
    }
}

/// Lets one process at a time add signing keys.
pub(crate) fn lock_signing_keys(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("LOCK TABLE signing_keys IN EXCLUSIVE MODE"),
        Conn::Sqlite(_) => Ok(()),
    }
}

/// The number of this transaction, in the order in which transactions began to change or lock something.
///
/// It must have done neither before: transactions that share a batch have one number, and it may be old.
pub(crate) fn transaction_number(conn: &mut Conn) -> QueryResult<i64> {
    match conn {
        Conn::Postgres(conn) => diesel::select(number("pg_current_xact_id()")).get_result(conn),
        // A transaction that may write begins when the one before it is over.
        Conn::Sqlite(_) => Ok(0),
    }
}

/// The lowest number of a transaction that is under way. Asked after a transaction has committed: once it is above
/// that one's number, every transaction with a lower number is over.
pub(crate) fn oldest_transaction(conn: &mut Conn) -> QueryResult<i64> {
    match conn {
        Conn::Postgres(conn) => diesel::select(number("pg_snapshot_xmin(pg_current_snapshot())")).get_result(conn),
        Conn::Sqlite(_) => Ok(0),
    }
}

fn number(expression: &str) -> SqlLiteral<BigInt> {
    sql(&format!("CAST(CAST({expression} AS TEXT) AS BIGINT)"))
}

/// Reads the head of a tenant's log, which there is from then on, and lets nobody else append until the transaction ends.
pub(crate) fn lock_log(conn: &mut Conn, tenant_id: &str) -> Result<Frontier, Error> {
    let locked = |conn: &mut Conn| match conn {
        Conn::Postgres(conn) => audit_logs::table.find(tenant_id).for_no_key_update().get_result(conn).optional(),
        Conn::Sqlite(conn) => audit_logs::table.find(tenant_id).get_result(conn).optional(),
    };
    let head: Option<(String, i64, Vec<u8>)> = locked(conn)?;
    let head = if let Some(head) = head {
        head
    } else {
        let empty = (
            audit_logs::tenant_id.eq(tenant_id),
            audit_logs::size.eq(0_i64),
            audit_logs::frontier.eq(Vec::<u8>::new()),
        );
        match conn {
            Conn::Postgres(conn) => {
                diesel::insert_into(audit_logs::table).values(empty).on_conflict_do_nothing().execute(conn)?
            }
            Conn::Sqlite(conn) => diesel::insert_into(audit_logs::table).values(empty).execute(conn)?,
        };
        locked(conn)?.ok_or_else(|| Error::internal("a log without its head"))?
    };
    let (_, size, frontier) = head;
    Frontier::decode(size, &frontier)
        .ok_or_else(|| Error::internal(format_args!("the head of log {tenant_id} is damaged")))
}
