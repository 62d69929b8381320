//! Locks that PostgreSQL needs and that SQLite's single writer makes superfluous.

use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_types::BigInt;

use super::Conn;

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
