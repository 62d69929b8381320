//! The two statements of the hot path.
//!
//! They have static ids, so both databases prepare them once per connection; on
//! SQLite diesel would prepare `eq_any` again each time.

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::AtomicI64;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamp as SqlTimestamp};
use diesel::sqlite::Sqlite;

use super::{Epochs, LiveClient, LiveSession};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{Reach, Scope};
use crate::id::{ClientId, SessionId};
use crate::records::clients::standing;
use crate::records::revocations::NotBulkRevoked;

/// Rows that a statement found.
pub(crate) struct Found {
    pub epochs: Epochs,
    pub clients: Vec<LiveClient>,
    pub sessions: Vec<(SessionId, LiveSession)>,
}

impl Found {
    pub(crate) const fn nothing_but(epochs: Epochs) -> Self {
        Self { epochs, clients: Vec::new(), sessions: Vec::new() }
    }
}

/// Loads the epochs and the state of the service: one row.
#[derive(Debug, QueryId)]
pub(crate) struct LoadEpochs;

impl Query for LoadEpochs {
    type SqlType = (BigInt, BigInt, BigInt, Bool);
}

impl<C> RunQueryDsl<C> for LoadEpochs {}

const EPOCHS: &str = "SELECT e.incarnation, e.key_epoch, a.epoch, e.frozen_at IS NOT NULL ";

/// The row of the epoch is the newest version of it, which PostgreSQL finds by its number.
const FROM_SERVICE: &str = "FROM service_state e, (SELECT epoch FROM access_epoch ORDER BY epoch DESC LIMIT 1) a";

/// No row comes from a server that takes no writes: it may have missed what took access away. A connection that was made
/// to the primary may be one to a standby by now, or to a server that has been fenced off.
const FROM_THE_PRIMARY: &str = " WHERE current_setting('transaction_read_only') = 'off'";

impl QueryFragment<Pg> for LoadEpochs {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(EPOCHS);
        out.push_sql(FROM_SERVICE);
        out.push_sql(FROM_THE_PRIMARY);
        Ok(())
    }
}

impl QueryFragment<Sqlite> for LoadEpochs {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(EPOCHS);
        out.push_sql(FROM_SERVICE);
        Ok(())
    }
}

impl LoadEpochs {
    pub(crate) fn load(conn: &mut Conn) -> QueryResult<Epochs> {
        let row = match conn {
            Conn::Postgres(conn) => Self.get_result(conn).optional()?,
            Conn::Sqlite(conn) => Self.get_result(conn).optional()?,
        };
        let (incarnation, keys, access, frozen) = row.ok_or_else(|| conn.why_no_row())?;
        Ok(Epochs { incarnation, keys, access, connection: 0, frozen })
    }
}

const CLIENT: i32 = 0;
const SESSION: i32 = 1;

/// Kind of a row, and its columns.
type Row = (
    i32,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<Timestamp>,
);

/// Loads clients and active sessions by primary keys, and the state of the service.
#[derive(Debug, QueryId)]
struct LoadSnapshot {
    clients: Vec<String>,
    sessions: Vec<String>,
}

impl Query for LoadSnapshot {
    type SqlType = (
        Integer,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<SqlTimestamp>,
    );
}

impl<C> RunQueryDsl<C> for LoadSnapshot {}

const CLIENT_COLUMNS: &str = "SELECT 0, c.id, c.name, c.portal, c.tenants, c.scopes, c.key_sha256, \
     c.previous_key_sha256, c.previous_key_expires_at ";
const SESSION_COLUMNS: &str =
    "SELECT 1, s.id, s.profile_name, s.magic_link_id, magic_links.reason, p.name, p.email, NULL, s.expires_at ";
const SESSION_HOLDS: &str = "s.ended_at IS NULL AND magic_links.revoked_at IS NULL AND p.suspended_at IS NULL \
     AND NOT EXISTS (SELECT 1 FROM key_revocations k WHERE k.done_at IS NULL \
         AND k.kid IN (s.kid, s.link_kid, s.code_kid)) AND ";
const SERVICE: &str = " UNION ALL SELECT 2, CAST(e.key_epoch AS TEXT), CAST(a.epoch AS TEXT), \
     CAST(e.incarnation AS TEXT), CASE WHEN e.frozen_at IS NOT NULL THEN 'frozen' END, NULL, NULL, NULL, NULL ";

impl QueryFragment<Pg> for LoadSnapshot {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(CLIENT_COLUMNS);
        out.push_sql("FROM clients c WHERE c.disabled_at IS NULL AND c.id = ANY (");
        out.push_bind_param::<Array<Text>, _>(&self.clients)?;
        out.push_sql(") UNION ALL ");
        out.push_sql(SESSION_COLUMNS);
        out.push_sql(
            "FROM sessions s JOIN magic_links ON magic_links.id = s.magic_link_id JOIN consultants p ON p.id = s.consultant_id \
             WHERE s.id = ANY (",
        );
        out.push_bind_param::<Array<Text>, _>(&self.sessions)?;
        out.push_sql(") AND ");
        out.push_sql(SESSION_HOLDS);
        NotBulkRevoked.walk_ast(out.reborrow())?;
        out.push_sql(SERVICE);
        out.push_sql(FROM_SERVICE);
        out.push_sql(FROM_THE_PRIMARY);
        Ok(())
    }
}

/// SQLite has no arrays: the ids come as one JSON list. `CROSS JOIN` keeps the order in which they are looked up.
#[derive(Debug, QueryId)]
struct LoadSnapshotSqlite {
    clients: String,
    sessions: String,
}

impl Query for LoadSnapshotSqlite {
    type SqlType = <LoadSnapshot as Query>::SqlType;
}

impl<C> RunQueryDsl<C> for LoadSnapshotSqlite {}

impl QueryFragment<Sqlite> for LoadSnapshotSqlite {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(CLIENT_COLUMNS);
        out.push_sql("FROM json_each(");
        out.push_bind_param::<Text, _>(&self.clients)?;
        out.push_sql(") j CROSS JOIN clients c ON c.id = j.value WHERE c.disabled_at IS NULL UNION ALL ");
        out.push_sql(SESSION_COLUMNS);
        out.push_sql("FROM json_each(");
        out.push_bind_param::<Text, _>(&self.sessions)?;
        out.push_sql(
            ") j CROSS JOIN sessions s ON s.id = j.value CROSS JOIN magic_links \
             ON magic_links.id = s.magic_link_id \
             CROSS JOIN consultants p ON p.id = s.consultant_id WHERE ",
        );
        out.push_sql(SESSION_HOLDS);
        NotBulkRevoked.walk_ast(out.reborrow())?;
        out.push_sql(SERVICE);
        out.push_sql(FROM_SERVICE);
        Ok(())
    }
}

/// Reads clients, sessions and epochs as they were at one moment.
pub(crate) fn load(
    conn: &mut Conn,
    clients: &HashSet<&ClientId>,
    sessions: &HashSet<&SessionId>,
) -> QueryResult<Found> {
    let clients = clients.iter().map(ToString::to_string).collect();
    let sessions = sessions.iter().map(ToString::to_string).collect();
    let rows: Vec<Row> = match conn {
        Conn::Postgres(conn) => LoadSnapshot { clients, sessions }.load(conn)?,
        Conn::Sqlite(conn) => {
            LoadSnapshotSqlite { clients: json_list(&clients), sessions: json_list(&sessions) }.load(conn)?
        }
    };
    let (mut clients, mut sessions, mut epochs) = (Vec::new(), Vec::new(), None);
    for row in rows {
        match row {
            (CLIENT, Some(id), Some(name), portal, Some(tenants), Some(scopes), Some(key_sha256), previous, until) => {
                clients.push(LiveClient {
                    id: parsed(&id)?,
                    standing: standing(&key_sha256, portal.as_deref(), &tenants, &scopes),
                    name,
                    reach: Reach::of(portal, &tenants),
                    scopes: Scope::of_words(&scopes).collect(),
                    key_sha256,
                    previous_key_sha256: previous,
                    previous_key_expires_at: until,
                    noted: AtomicI64::new(0),
                });
            }
            (SESSION, Some(id), Some(profile), Some(link), Some(reason), Some(name), Some(email), _, Some(until)) => {
                let session = LiveSession {
                    profile_name: profile,
                    magic_link_id: parsed(&link)?,
                    reason,
                    consultant_name: name,
                    consultant_email: email,
                    expires_at: until,
                    introspection: [OnceLock::new(), OnceLock::new()],
                };
                sessions.push((parsed(&id)?, session));
            }
            (_, Some(keys), Some(access), Some(incarnation), freeze, ..) => {
                epochs = Some(Epochs {
                    incarnation: parsed(&incarnation)?,
                    keys: parsed(&keys)?,
                    access: parsed(&access)?,
                    connection: 0,
                    frozen: freeze.is_some(),
                });
            }
            _ => {}
        }
    }
    Ok(Found { epochs: epochs.ok_or_else(|| conn.why_no_row())?, clients, sessions })
}

/// A JSON list of ids, which need no escapes.
fn json_list(ids: &[String]) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", quoted.join(","))
}

fn parsed<T: std::str::FromStr>(text: &str) -> QueryResult<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| diesel::result::Error::DeserializationError(Box::new(error)))
}
