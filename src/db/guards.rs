//! The triggers that keep the rules of the database: that the log only grows, and that every way which takes access away is
//! seen by all copies. A backup that was restored in part lacks them, and everything else seems to work. And whose database
//! it is.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::Conn;

/// Their names; behind one that must fire for replicas, too, stands `always`.
const POSTGRES: &str = include_str!("guards/postgres.txt");
const SQLITE: &str = include_str!("guards/sqlite.txt");

/// A trigger, or a table.
#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Those of this program that the database lacks, or that are switched off.
pub(super) fn missing(conn: &mut Conn) -> QueryResult<Vec<String>> {
    let expected = if let Conn::Postgres(_) = conn { POSTGRES } else { SQLITE };
    let found = in_force(conn)?;
    let is_missing = |name: &&str| !found.iter().any(|trigger| trigger.name == **name);
    Ok(expected.lines().filter(is_missing).map(ToOwned::to_owned).collect())
}

fn in_force(conn: &mut Conn) -> QueryResult<Vec<Named>> {
    match conn {
        Conn::Postgres(conn) => sql_query(
            "SELECT t.tgname || CASE t.tgenabled WHEN 'A' THEN ' always' ELSE '' END AS name \
             FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid \
             WHERE c.relnamespace = current_schema()::regnamespace AND t.tgenabled IN ('A', 'O')",
        )
        .load(conn),
        Conn::Sqlite(conn) => sql_query("SELECT name FROM sqlite_schema WHERE type = 'trigger'").load(conn),
    }
}

/// A table of another program, where no service has ever made its own.
pub(crate) fn foreign_table(conn: &mut Conn) -> QueryResult<Option<String>> {
    let table: Option<Named> = match conn {
        Conn::Postgres(conn) => sql_query(
            "SELECT tablename AS name FROM pg_tables WHERE schemaname = current_schema() \
             AND to_regclass('__diesel_schema_migrations') IS NULL LIMIT 1",
        )
        .get_result(conn),
        Conn::Sqlite(conn) => sql_query(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
             AND NOT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = '__diesel_schema_migrations') LIMIT 1",
        )
        .get_result(conn),
    }
    .optional()?;
    Ok(table.map(|table| table.name))
}
