//! What every request needs to know of the store, in one statement.
//!
//! Clients, live sessions and the state of the service are read by primary
//! keys for as many callers as ask at the same time. The statement has a static
//! id, so both databases prepare it once a connection; diesel prepares `eq_any`
//! anew each time on SQLite.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, Integer, Nullable, Text};
use diesel::sqlite::Sqlite;

use super::Conn;
use crate::clock::Timestamp;
use crate::id::{ClientId, LinkId, SessionId};

/// What one caller wants to know.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub client: Option<ClientId>,
    pub session: Option<SessionId>,
    pub now: Timestamp,
}

/// What the store said, after it was asked.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// The client, unless it is unknown or disabled.
    pub client: Option<Arc<LiveClient>>,
    /// The session, if it holds.
    pub session: Option<Arc<LiveSession>>,
    /// Grows with every change of the signing keys.
    pub key_epoch: i64,
    /// Whether no link is to be issued.
    pub frozen: bool,
}

/// A client that is not disabled.
#[derive(Debug)]
pub(crate) struct LiveClient {
    pub id: ClientId,
    pub name: String,
    pub portal: Option<String>,
    pub tenants: String,
    pub scopes: String,
    pub key_sha256: String,
    /// The key before the last rotation, while it counts.
    pub previous_key_sha256: Option<String>,
}

/// A session that holds: not ended, within its time, its link not revoked and its consultant not suspended.
#[derive(Debug)]
pub(crate) struct LiveSession {
    pub profile_name: String,
    pub magic_link_id: LinkId,
    pub reason: String,
    pub consultant_name: String,
    pub consultant_email: String,
}

const CLIENT: i32 = 0;
const SESSION: i32 = 1;

/// What kind of row it is, and its columns.
type Row = (
    i32,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// The statement with its arguments.
#[derive(Debug, QueryId)]
struct AskState {
    now: Timestamp,
    clients: Vec<String>,
    sessions: Vec<String>,
}

impl Query for AskState {
    type SqlType = (
        Integer,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
        Nullable<Text>,
    );
}

impl<C> RunQueryDsl<C> for AskState {}

const CLIENT_COLUMNS: &str = "SELECT 0, c.id, c.name, c.portal, c.tenants, c.scopes, c.key_sha256, \
     CASE WHEN c.previous_key_expires_at > ";
const SESSION_COLUMNS: &str = "SELECT 1, s.id, s.profile_name, s.magic_link_id, l.reason, p.name, p.email, NULL ";
const SESSION_HOLDS: &str =
    "s.ended_at IS NULL AND l.revoked_at IS NULL AND p.suspended_at IS NULL AND s.expires_at > ";
const SERVICE: &str = " UNION ALL SELECT 2, CAST(e.key_epoch AS TEXT), \
     CASE WHEN e.frozen_at IS NOT NULL THEN 'frozen' END, NULL, NULL, NULL, NULL, NULL FROM service_state e";

impl QueryFragment<Pg> for AskState {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(CLIENT_COLUMNS);
        out.push_bind_param::<diesel::sql_types::Timestamp, _>(&self.now)?;
        out.push_sql(" THEN c.previous_key_sha256 END FROM clients c WHERE c.disabled_at IS NULL AND c.id = ANY (");
        out.push_bind_param::<Array<Text>, _>(&self.clients)?;
        out.push_sql(") UNION ALL ");
        out.push_sql(SESSION_COLUMNS);
        out.push_sql(
            "FROM sessions s JOIN magic_links l ON l.id = s.magic_link_id JOIN consultants p ON p.id = s.consultant_id \
             WHERE s.id = ANY (",
        );
        out.push_bind_param::<Array<Text>, _>(&self.sessions)?;
        out.push_sql(") AND ");
        out.push_sql(SESSION_HOLDS);
        out.push_bind_param::<diesel::sql_types::Timestamp, _>(&self.now)?;
        out.push_sql(SERVICE);
        Ok(())
    }
}

/// SQLite has no arrays: the ids come as one JSON list. `CROSS JOIN` keeps the order in which they are looked up.
#[derive(Debug, QueryId)]
struct AskStateSqlite {
    now: Timestamp,
    clients: String,
    sessions: String,
}

impl Query for AskStateSqlite {
    type SqlType = <AskState as Query>::SqlType;
}

impl<C> RunQueryDsl<C> for AskStateSqlite {}

impl QueryFragment<Sqlite> for AskStateSqlite {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        out.push_sql(CLIENT_COLUMNS);
        out.push_bind_param::<diesel::sql_types::Timestamp, _>(&self.now)?;
        out.push_sql(" THEN c.previous_key_sha256 END FROM json_each(");
        out.push_bind_param::<Text, _>(&self.clients)?;
        out.push_sql(") j CROSS JOIN clients c ON c.id = j.value WHERE c.disabled_at IS NULL UNION ALL ");
        out.push_sql(SESSION_COLUMNS);
        out.push_sql("FROM json_each(");
        out.push_bind_param::<Text, _>(&self.sessions)?;
        out.push_sql(
            ") j CROSS JOIN sessions s ON s.id = j.value CROSS JOIN magic_links l ON l.id = s.magic_link_id \
             CROSS JOIN consultants p ON p.id = s.consultant_id WHERE ",
        );
        out.push_sql(SESSION_HOLDS);
        out.push_bind_param::<diesel::sql_types::Timestamp, _>(&self.now)?;
        out.push_sql(SERVICE);
        Ok(())
    }
}

/// Answers everybody with one query.
///
/// It is asked for the latest moment that any of them named: the query begins
/// later than that, and what has run out by then does not hold.
pub(super) fn ask(conn: &mut Conn, questions: &[Question]) -> QueryResult<Vec<State>> {
    let Some(now) = questions.iter().map(|question| question.now).max() else { return Ok(Vec::new()) };
    let clients: HashSet<&str> = questions.iter().filter_map(|one| one.client.as_ref()).map(ClientId::as_str).collect();
    let sessions: HashSet<&str> =
        questions.iter().filter_map(|one| one.session.as_ref()).map(SessionId::as_str).collect();
    let rows: Vec<Row> = match conn {
        Conn::Postgres(conn) => {
            let owned = |ids: HashSet<&str>| ids.into_iter().map(ToOwned::to_owned).collect();
            AskState { now, clients: owned(clients), sessions: owned(sessions) }.load(conn)?
        }
        Conn::Sqlite(conn) => {
            AskStateSqlite { now, clients: json_list(&clients), sessions: json_list(&sessions) }.load(conn)?
        }
    };
    let mut known_clients: HashMap<String, Arc<LiveClient>> = HashMap::new();
    let mut live_sessions: HashMap<String, Arc<LiveSession>> = HashMap::new();
    let (mut key_epoch, mut frozen) = (0, false);
    for row in rows {
        match row {
            (CLIENT, Some(id), Some(name), portal, Some(tenants), Some(scopes), Some(key_sha256), previous) => {
                let client = LiveClient {
                    id: parsed(&id)?,
                    name,
                    portal,
                    tenants,
                    scopes,
                    key_sha256,
                    previous_key_sha256: previous,
                };
                known_clients.insert(id, Arc::new(client));
            }
            (SESSION, Some(id), Some(profile_name), Some(link), Some(reason), Some(name), Some(email), _) => {
                let session = LiveSession {
                    profile_name,
                    magic_link_id: parsed(&link)?,
                    reason,
                    consultant_name: name,
                    consultant_email: email,
                };
                live_sessions.insert(id, Arc::new(session));
            }
            (_, Some(epoch), freeze, ..) => {
                key_epoch = parsed(&epoch)?;
                frozen = freeze.is_some();
            }
            _ => {}
        }
    }
    let answer = |question: &Question| State {
        client: question.client.as_ref().and_then(|id| known_clients.get(id.as_str()).cloned()),
        session: question.session.as_ref().and_then(|id| live_sessions.get(id.as_str()).cloned()),
        key_epoch,
        frozen,
    };
    Ok(questions.iter().map(answer).collect())
}

/// Ids need no escapes.
fn json_list(ids: &HashSet<&str>) -> String {
    let quoted: Vec<String> = ids.iter().map(|id| format!("\"{id}\"")).collect();
    format!("[{}]", quoted.join(","))
}

fn parsed<T: std::str::FromStr>(text: &str) -> QueryResult<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|error: T::Err| diesel::result::Error::DeserializationError(Box::new(error)))
}
