//! Moves everything from an embedded database to an empty one on PostgreSQL, row by row, and compares the two.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Bool, Text};

use super::Conn;

/// Rows that are read and written at a time.
const ROWS: i64 = 500;

/// Tables whose rows come from the migrations, and are replaced.
const FROM_MIGRATIONS: [&str; 6] =
    ["access_epoch", "announced_ends", "link_expiry", "service_state", "tolerated_migrations", "write_probe"];

/// Why nothing was copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// Another direction.
    #[error("from an embedded database to one on PostgreSQL: --from sqlite://… --to postgres://…")]
    Direction,
    /// What is there would be lost.
    #[error("the database to copy to must be empty, and has a table {0} with rows, or of another program")]
    NotEmpty(String),
    /// A row has changed on its way.
    #[error("the table {0} is not the same in both databases; nothing was copied")]
    Differs(String),
    /// One of the two databases failed.
    #[error("nothing was copied: {0}")]
    Database(#[from] diesel::result::Error),
}

/// A column of a table on PostgreSQL, which tells the types of SQLite's, too.
#[derive(QueryableByName)]
struct Column {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    data_type: String,
    #[diesel(sql_type = Bool)]
    is_numbered: bool,
}

/// A trigger that fires whatever `session_replication_role` is.
#[derive(QueryableByName)]
struct Trigger {
    #[diesel(sql_type = Text)]
    table_name: String,
    #[diesel(sql_type = Text)]
    name: String,
}

/// A row, written as PostgreSQL reads it.
#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    tuple: String,
}

#[derive(QueryableByName)]
struct NumberedRow {
    #[diesel(sql_type = BigInt)]
    number: i64,
    #[diesel(sql_type = Text)]
    tuple: String,
}

#[derive(QueryableByName)]
struct Reference {
    #[diesel(sql_type = Text)]
    from_table: String,
    #[diesel(sql_type = Text)]
    to_table: String,
}

/// Copies every row in one transaction, and returns how many each table has. Nobody writes into the source meanwhile.
///
/// Both have the same migrations. The caller owns the tables of the target: their triggers rest.
pub(crate) fn copy_all(from: &mut Conn, to: &mut Conn) -> Result<BTreeMap<String, i64>, CopyError> {
    let (Conn::Sqlite(from), Conn::Postgres(to)) = (from, to) else { return Err(CopyError::Direction) };
    to.batch_execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")?;
    from.immediate_transaction(|from| to.transaction(|to| copy_tables(from, to)))
}

fn copy_tables(from: &mut SqliteConnection, to: &mut PgConnection) -> Result<BTreeMap<String, i64>, CopyError> {
    let tables = tables(to)?;
    // To be enabled is not enough for these.
    let always: Vec<Trigger> = sql_query(
        "SELECT c.relname::text AS table_name, t.tgname::text AS name FROM pg_trigger t \
         JOIN pg_class c ON c.oid = t.tgrelid \
         WHERE t.tgenabled = 'A' AND c.relnamespace = current_schema()::regnamespace",
    )
    .load(to)?;
    for (table, _) in &tables {
        let seeded = FROM_MIGRATIONS.contains(&table.as_str());
        if !seeded
            && diesel::select(diesel::dsl::sql::<Bool>(&format!("EXISTS (SELECT 1 FROM {table})"))).get_result(to)?
        {
            return Err(CopyError::NotEmpty(table.clone()));
        }
        to.batch_execute(&format!("ALTER TABLE {table} DISABLE TRIGGER USER; DELETE FROM {table}"))?;
    }
    let mut counts = BTreeMap::new();
    for (table, columns) in &tables {
        let (count, sent) = send(from, to, table, columns)?;
        if sent != sum_of(to, table, columns)? {
            return Err(CopyError::Differs(table.clone()));
        }
        counts.insert(table.clone(), count);
    }
    for (table, columns) in &tables {
        to.batch_execute(&format!("ALTER TABLE {table} ENABLE TRIGGER USER"))?;
        for Trigger { name, .. } in always.iter().filter(|trigger| trigger.table_name == *table) {
            to.batch_execute(&format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"))?;
        }
        for Column { name, .. } in columns.iter().filter(|column| column.is_numbered) {
            // Numbers go on behind the largest one.
            to.batch_execute(&format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{name}'), max({name})) FROM {table}"
            ))?;
        }
    }
    Ok(counts)
}

/// The tables with their columns, those that others refer to first.
fn tables(to: &mut PgConnection) -> QueryResult<Vec<(String, Vec<Column>)>> {
    let columns: Vec<Column> = sql_query(
        "SELECT c.table_name::text, c.column_name::text AS name, c.data_type::text, c.is_identity = 'YES' AS is_numbered \
         FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) \
         WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' \
         AND c.table_name NOT LIKE '\\_\\_diesel%' ORDER BY c.table_name, c.ordinal_position",
    )
    .load(to)?;
    let references: Vec<Reference> = sql_query(
        "SELECT o.relname::text AS from_table, r.relname::text AS to_table FROM pg_constraint k \
         JOIN pg_class o ON o.oid = k.conrelid JOIN pg_class r ON r.oid = k.confrelid \
         WHERE k.contype = 'f' AND k.conrelid <> k.confrelid",
    )
    .load(to)?;
    let mut waiting: BTreeMap<String, Vec<Column>> = BTreeMap::new();
    for column in columns {
        waiting.entry(column.table_name.clone()).or_default().push(column);
    }
    let mut ordered = Vec::new();
    while !waiting.is_empty() {
        let is_free =
            |table: &str| references.iter().all(|one| one.from_table != table || !waiting.contains_key(&one.to_table));
        let free: Vec<String> = waiting.keys().filter(|table| is_free(table)).cloned().collect();
        if free.is_empty() {
            // Each refers to another one: the database says which.
            ordered.extend(std::mem::take(&mut waiting));
        }
        ordered.extend(free.into_iter().filter_map(|table| waiting.remove_entry(&table)));
    }
    Ok(ordered)
}

/// Sends the rows of a table; how many they were, and the sum of their digests.
fn send(
    from: &mut SqliteConnection,
    to: &mut PgConnection,
    table: &str,
    columns: &[Column],
) -> QueryResult<(i64, u128)> {
    let names = columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let overriding = if columns.iter().any(|column| column.is_numbered) { " OVERRIDING SYSTEM VALUE" } else { "" };
    let tuple = joined(columns, in_sqlite);
    let query =
        format!("SELECT rowid AS number, {tuple} AS tuple FROM {table} WHERE rowid > ? ORDER BY rowid LIMIT {ROWS}");
    let (mut after, mut count, mut sum) = (i64::MIN, 0, 0);
    loop {
        let rows: Vec<NumberedRow> = sql_query(&query).bind::<BigInt, _>(after).load(from)?;
        let Some(last) = rows.last() else { return Ok((count, sum)) };
        after = last.number;
        count += i64::try_from(rows.len()).unwrap_or(0);
        sum = rows.iter().fold(sum, |sum, row| sum.wrapping_add(digest_of(&row.tuple)));
        let values = rows.iter().map(|row| format!("({})", row.tuple)).collect::<Vec<_>>().join(", ");
        to.batch_execute(&format!("INSERT INTO {table} ({names}){overriding} VALUES {values}"))?;
    }
}

/// The sum of the digests of a table's rows: the same for the same rows, in whatever order.
fn sum_of(to: &mut PgConnection, table: &str, columns: &[Column]) -> QueryResult<u128> {
    let tuple = joined(columns, in_postgres);
    to.batch_execute(&format!("DECLARE copied NO SCROLL CURSOR FOR SELECT {tuple} AS tuple FROM {table}"))?;
    let mut sum = 0_u128;
    loop {
        let rows: Vec<Row> = sql_query(format!("FETCH {ROWS} FROM copied")).load(to)?;
        if rows.is_empty() {
            to.batch_execute("CLOSE copied")?;
            return Ok(sum);
        }
        sum = rows.iter().fold(sum, |sum, row| sum.wrapping_add(digest_of(&row.tuple)));
    }
}

fn digest_of(tuple: &str) -> u128 {
    let digest = digest(&SHA256, tuple.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

/// An expression for the values of a row between commas.
fn joined(columns: &[Column], one: fn(&Column) -> String) -> String {
    let or_null = |column: &Column| format!("coalesce({}, 'NULL')", one(column));
    columns.iter().map(or_null).collect::<Vec<_>>().join(" || ',' || ")
}

/// An expression for a value as PostgreSQL reads it; NULL stays NULL.
fn in_sqlite(column: &Column) -> String {
    let name = &column.name;
    match column.data_type.as_str() {
        "boolean" => format!("CASE {name} WHEN 0 THEN 'false' WHEN 1 THEN 'true' END"),
        "bytea" => format!("'''\\x' || lower(hex({name})) || '''' || substr({name}, 1, 0)"),
        // Fractions of a second are as long as they need to be.
        "timestamp without time zone" => {
            let year = format!("substr({name}, 1, 4)");
            // The year 0, which versions before wrote, is 1 BC to PostgreSQL.
            format!(
                "'''' || CASE {year} WHEN '0000' THEN '0001' ELSE {year} END || substr({name}, 5, 15) || '.' \
                 || substr(substr({name}, 21) || '000000', 1, 6) || CASE {year} WHEN '0000' THEN ' BC' ELSE '' END \
                 || ''''"
            )
        }
        "integer" | "bigint" => format!("CAST({name} AS TEXT)"),
        _ => format!("'''' || replace({name}, '''', '''''') || ''''"),
    }
}

/// The same from PostgreSQL.
fn in_postgres(column: &Column) -> String {
    let name = &column.name;
    match column.data_type.as_str() {
        "boolean" => format!("CASE {name} WHEN false THEN 'false' WHEN true THEN 'true' END"),
        "bytea" => format!("'''\\x' || encode({name}, 'hex') || ''''"),
        "timestamp without time zone" => format!(
            "'''' || to_char({name}, 'YYYY-MM-DD HH24:MI:SS.US') \
             || CASE WHEN {name} < '0001-01-01' THEN ' BC' ELSE '' END || ''''"
        ),
        "integer" | "bigint" => format!("CAST({name} AS TEXT)"),
        _ => format!("'''' || replace({name}, '''', '''''') || ''''"),
    }
}
