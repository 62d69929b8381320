//! Transaction numbers and named locks of PostgreSQL; with its single writer, SQLite needs none.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

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

/// What has become of the transactions that began before one that committed: those below its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Older {
    /// Each has ended.
    Ended,
    /// One of them is open, and has touched this database.
    Open,
    /// The server has not come that far: the number is that of another one, from which the database was moved.
    Unknown,
}

/// Transactions of other databases have numbers, too, and do not count. Whoever has touched no table of this one reads
/// them later, and sees what was committed.
const OLDER: &str = "
    WITH now AS (
        SELECT pg_snapshot_xmin(snapshot)::text::bigint AS oldest, pg_snapshot_xmax(snapshot)::text::bigint AS next
        FROM pg_current_snapshot() AS snapshot
    )
    SELECT CASE
        WHEN $1 >= next THEN 'unknown'
        WHEN $1 <= oldest THEN 'ended'
        WHEN EXISTS (
            SELECT 1 FROM pg_locks AS own JOIN pg_locks AS touched USING (virtualtransaction)
            WHERE own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock' AND touched.locktype = 'relation'
            AND touched.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            -- Locks know the lower half of a number: that of the one that is nearest to the next.
            AND next + (own.transactionid::text::bigint - next % 4294967296 + 6442450944) % 4294967296 - 2147483648 < $1
        ) THEN 'open'
        ELSE 'ended'
    END AS older FROM now";

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Text)]
    older: String,
}

/// To be read after the transaction of this number has committed.
pub(crate) fn older_than(conn: &mut Conn, number: i64) -> QueryResult<Older> {
    let Conn::Postgres(conn) = conn else { return Ok(Older::Ended) };
    let Found { older } = sql_query(OLDER).bind::<BigInt, _>(number).get_result(conn)?;
    Ok(match older.as_str() {
        "open" => Older::Open,
        "unknown" => Older::Unknown,
        _ => Older::Ended,
    })
}

fn number(expression: &str) -> SqlLiteral<BigInt> {
    sql(&format!("CAST(CAST({expression} AS TEXT) AS BIGINT)"))
}

/// What one transaction at a time does, until it ends: the statement that follows sees what those before it have done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AdvisoryLock {
    /// Count webhook endpoints, and add some.
    CountEndpoints,
    /// See whether an access was asked for already, and count what was asked for, and ask.
    AskForLinks,
    /// Give a bulk revocation the next number.
    NumberRevocations,
}

impl AdvisoryLock {
    pub(crate) fn take(self, conn: &mut Conn) -> QueryResult<()> {
        let statement = match self {
            Self::CountEndpoints => "SELECT pg_advisory_xact_lock(7304826151)",
            Self::AskForLinks => "SELECT pg_advisory_xact_lock(7304826152)",
            Self::NumberRevocations => "SELECT pg_advisory_xact_lock(7304826153)",
        };
        match conn {
            Conn::Postgres(conn) => conn.batch_execute(statement),
            // It has one writer.
            Conn::Sqlite(_) => Ok(()),
        }
    }
}
