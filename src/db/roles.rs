//! The role that the service runs as on PostgreSQL: it changes no table, and rewrites nothing that is on record.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Text};

use super::Conn;

/// Tables in which rows are only read and inserted, whatever the triggers say.
const APPEND_ONLY: [&str; 4] = ["audit_events", "audit_event_principals", "audit_checkpoints", "audit_erasures"];

/// Tables from which only an erasure removes rows.
const ERASED: [&str; 3] = ["audit_payloads", "mail_jobs", "mail_suppressions"];

/// Tables that belong to the migrations.
const READ_ONLY: [&str; 2] = ["__diesel_schema_migrations", "tolerated_migrations"];

#[derive(QueryableByName)]
struct Table {
    #[diesel(sql_type = Text)]
    plain: String,
    #[diesel(sql_type = Text)]
    quoted: String,
}

/// Why a role got nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    /// The embedded database.
    #[error("SQLite has no roles: the file belongs to a user of the machine")]
    NoRoles,
    /// Nobody of this name, or somebody who may do everything anyway.
    #[error(
        "{0} must be a role of its own, made by CREATE ROLE: neither a superuser nor a member of the tables' owner"
    )]
    Unfit(String),
    /// The database refused.
    #[error("the rights were not given: {0}")]
    Database(#[from] diesel::result::Error),
}

/// Gives a role the rights that the service needs on the tables that exist, and takes all others on them; `erasing` says
/// whether it may remove what is past its retention.
///
/// The caller owns the tables.
pub(crate) fn grant(conn: &mut Conn, role: &str, erasing: bool) -> Result<(), GrantError> {
    let Conn::Postgres(conn) = conn else { return Err(GrantError::NoRoles) };
    let fit = diesel::select(
        sql::<Bool>("EXISTS (SELECT 1 FROM pg_roles WHERE NOT rolsuper AND rolname = ")
            .bind::<Text, _>(role)
            .sql(" AND NOT pg_has_role(rolname, current_user, 'MEMBER'))"),
    );
    if !fit.get_result(conn)? {
        return Err(GrantError::Unfit(role.to_owned()));
    }
    let quoted = diesel::select(sql::<Text>("quote_ident(").bind::<Text, _>(role).sql(")"));
    let role: String = quoted.get_result(conn)?;
    let tables: Vec<Table> = sql_query(
        "SELECT tablename::text AS plain, quote_ident(tablename) AS quoted FROM pg_tables \
         WHERE schemaname = current_schema() AND pg_has_role(tableowner, 'MEMBER') ORDER BY tablename",
    )
    .load(conn)?;
    let schema: String = diesel::select(sql::<Text>("quote_ident(current_schema())")).get_result(conn)?;
    conn.transaction(|conn| {
        conn.batch_execute(&format!("GRANT USAGE ON SCHEMA {schema} TO {role}"))?;
        for Table { plain, quoted } in tables {
            let rights = match plain.as_str() {
                name if READ_ONLY.contains(&name) => "SELECT",
                name if APPEND_ONLY.contains(&name) => "SELECT, INSERT",
                name if !erasing && ERASED.contains(&name) => "SELECT, INSERT, UPDATE",
                _ => "SELECT, INSERT, UPDATE, DELETE",
            };
            conn.batch_execute(&format!("REVOKE ALL ON {quoted} FROM {role}; GRANT {rights} ON {quoted} TO {role}"))?;
        }
        Ok(())
    })
}
