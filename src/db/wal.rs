//! SQLite's write-ahead log: a long read, or many writes at once, make it large, and by itself it stays so.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::Conn;
use super::connection::LARGEST_LOG;

#[derive(QueryableByName)]
struct File {
    #[diesel(sql_type = Text)]
    file: String,
}

/// Empties the write-ahead log if it has become large. Nothing to do on PostgreSQL.
///
/// Where others read or write just now, it is left as it is: the next attempt may have more luck.
pub(crate) fn shrink_log(conn: &mut Conn) -> QueryResult<()> {
    let Conn::Sqlite(conn) = conn else { return Ok(()) };
    let File { file } = sql_query("SELECT file FROM pragma_database_list WHERE name = 'main'").get_result(conn)?;
    let size = std::fs::metadata(format!("{file}-wal")).map_or(0, |metadata| metadata.len());
    if size <= LARGEST_LOG {
        return Ok(());
    }
    // Most is written back while others go on; they wait for the rest only.
    conn.batch_execute("PRAGMA wal_checkpoint(PASSIVE)")?;
    let emptied = conn.batch_execute("PRAGMA busy_timeout = 200; PRAGMA wal_checkpoint(TRUNCATE)");
    conn.batch_execute("PRAGMA busy_timeout = 5000")?;
    emptied
}
