//! Transaction numbers and named locks of PostgreSQL; with its single writer, SQLite needs none.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Conn;

/// Number of this transaction, in the order in which transactions first changed or locked something.
///
/// The transaction must have done neither before: jobs of a batch share one number, which may be old.
pub(crate) fn transaction_number(conn: &mut Conn) -> QueryResult<i64> {
    match conn {
        Conn::Postgres(conn) => diesel::select(number("pg_current_xact_id()")).get_result(conn),
        // A transaction that may write begins when the one before it has ended.
        Conn::Sqlite(_) => Ok(0),
    }
}

/// Lowest number of an open transaction. To be read after a transaction has committed: once it is above that one's
/// number, every transaction with a lower number has ended.
pub(crate) fn oldest_transaction(conn: &mut Conn) -> QueryResult<i64> {
    match conn {
        Conn::Postgres(conn) => diesel::select(number("pg_snapshot_xmin(pg_current_snapshot())")).get_result(conn),
        Conn::Sqlite(_) => Ok(0),
    }
}

fn number(expression: &str) -> SqlLiteral<BigInt> {
    sql(&format!("CAST(CAST({expression} AS TEXT) AS BIGINT)"))
}

/// Lets one transaction at a time count webhook endpoints and add some, until it ends.
pub(crate) fn count_endpoints_alone(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("SELECT pg_advisory_xact_lock(7304826151)"),
        Conn::Sqlite(_) => Ok(()),
    }
}
