//! Many rows in one statement.

/// Inserts all rows: one statement on PostgreSQL, a prepared one per row on SQLite.
///
/// A macro, because a multi-row `VALUES` does not compile for the two at once.
macro_rules! insert_all {
    ($conn:expr, $table:expr, $rows:expr) => {
        match $conn {
            $crate::db::Conn::Postgres(conn) => {
                diesel::RunQueryDsl::execute(diesel::insert_into($table).values($rows), conn).map(drop)
            }
            $crate::db::Conn::Sqlite(conn) => $rows.iter().try_for_each(|row| {
                diesel::RunQueryDsl::execute(diesel::insert_into($table).values(row), conn).map(drop)
            }),
        }
    };
}

pub(crate) use insert_all;
