//! Changes of a link that was issued: of its end, and of its reason and ticket. Each is one guarded statement, and a row
//! of its own.

use std::collections::{HashMap, HashSet};

use diesel::connection::SimpleConnection;
use diesel::dsl::{exists, not};
use diesel::prelude::*;
use serde::Serialize;
use time::Duration;

use super::links::Link;
use super::revocations::NotBulkRevoked;
use super::within;
use crate::clock::Timestamp;
use crate::db::schema::{
    link_corrections as corrections, link_expiry, link_extensions as extensions, magic_links as links,
    revocations as orders, sessions,
};
use crate::db::{Backend, Conn};
use crate::domain::{Actor, ActorType, Reach, unless_erased};
use crate::id::{ClientId, CorrectionId, ExtensionId, LinkId, SessionId};

/// Condition that a link's end, which is `end`, has not come for any copy of the service: neither is it over, nor is its
/// expiry recorded, nor was a bulk revocation written at which it counted as over.
#[diesel::dsl::auto_type]
fn has_not_ended(end: Timestamp, mark: Timestamp, now: Timestamp) -> _ {
    let recorded = link_expiry::table.filter(link_expiry::expires_at.ge(mark));
    let passed_over = orders::table.filter(orders::created_at.ge(end));
    let same_end = links::expires_at.eq(end).and(links::expires_at.gt(now));
    same_end.and(links::revoked_at.is_null()).and(not(exists(recorded))).and(not(exists(passed_over)))
}

/// Keeps every copy of the service from recording the end of a link until the transaction ends.
pub(crate) fn hold_expiry_mark(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => {
            link_expiry::table.select(link_expiry::id).for_share().get_result::<i32>(conn).map(drop)
        }
        Conn::Sqlite(_) => Ok(()),
    }
}

/// Keeps every bulk revocation from being written until the transaction ends: one that selects the ticket that a link had
/// must not find another one there.
pub(crate) fn hold_bulk_revocations(conn: &mut Conn) -> QueryResult<()> {
    match conn {
        Conn::Postgres(conn) => conn.batch_execute("LOCK TABLE revocations IN SHARE MODE"),
        Conn::Sqlite(_) => Ok(()),
    }
}

/// Moves the end of a link; `None` if it has ended, or ends at another time than `from`.
pub(crate) fn move_end(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    (from, to): (Timestamp, Timestamp),
    now: Timestamp,
) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(has_not_ended(from, from.min(to), now))
        .filter(NotBulkRevoked)
        .set(links::expires_at.eq(to))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Moves the end of the link's live session forward to `to`, if it was to live longer; returns which one it was.
pub(crate) fn cut_session(conn: &mut Conn, id: &LinkId, to: Timestamp) -> QueryResult<Option<SessionId>> {
    diesel::update(sessions::table)
        .filter(sessions::magic_link_id.eq(id))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(to))
        .set(sessions::expires_at.eq(to))
        .returning(sessions::id)
        .get_result(conn)
        .optional()
}

/// Sets reason and ticket of a link that has not ended and ends at `end`.
pub(crate) fn correct(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    (reason, ticket): (&str, Option<&str>),
    end: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<Link>> {
    diesel::update(links::table.find(id))
        .filter(within!(links, reach))
        .filter(has_not_ended(end, end, now))
        .filter(NotBulkRevoked)
        .set((links::reason.eq(reason), links::ticket.eq(ticket)))
        .returning(links::all_columns)
        .get_result(conn)
        .optional()
}

/// Gives the link's live session the reason and ticket of the link: its events state them.
pub(crate) fn correct_session(conn: &mut Conn, link: &Link) -> QueryResult<usize> {
    diesel::update(sessions::table)
        .filter(sessions::magic_link_id.eq(&link.id))
        .filter(sessions::ended_at.is_null())
        .set((sessions::reason.eq(&link.reason), sessions::ticket.eq(&link.ticket)))
        .execute(conn)
}

/// A change of a link's end, later or earlier.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = extensions)]
pub(crate) struct Extension {
    pub id: ExtensionId,
    pub magic_link_id: LinkId,
    pub previous_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub reason: String,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub actor_name: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
}

/// A correction of a link's reason and ticket.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = corrections)]
pub(crate) struct Correction {
    pub id: CorrectionId,
    pub magic_link_id: LinkId,
    pub previous_reason: String,
    pub previous_ticket: Option<String>,
    pub reason: String,
    pub ticket: Option<String>,
    pub actor_type: ActorType,
    pub actor_id: String,
    pub actor_name: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
}

/// Later ends, corrections and requests to extend that a client may make of a link, of each kind: it can do so for weeks.
/// What others have done does not count, so that nobody uses up what somebody else has.
pub(crate) const MOST: i64 = 100;

/// The same of all clients together. The command line is none of them.
pub(crate) const MOST_OF_ALL: i64 = 1_000;

/// Steps by which an end is moved forward once a client has done so [`MOST`] times: as many as a window has minutes. What
/// takes access away is not refused for its number.
pub(crate) const SMALLEST_STEP: Duration = Duration::MINUTE;

/// Whether a table takes another row about a link from a client.
macro_rules! takes_another {
    ($conn:expr, $table:ident, $all:expr, $client:expr) => {{
        let ids = $all.order($table::id).select($table::id).into_boxed::<Backend>();
        let own = match $client {
            Some(client) => ids.filter($table::client_id.eq(client)),
            None => ids.filter($table::client_id.is_null()),
        };
        let is_full = own.offset(MOST - 1).first::<String>($conn).optional()?.is_some();
        let all = $all.order($table::id).select($table::id);
        !is_full && ($client.is_none() || all.offset(MOST_OF_ALL - 1).first::<String>($conn).optional()?.is_none())
    }};
}
pub(crate) use takes_another;

/// Whether a link takes another later end from a client.
pub(crate) fn takes_later_end(conn: &mut Conn, link: &LinkId, client: Option<&ClientId>) -> QueryResult<bool> {
    let later = || {
        let ends = extensions::table.filter(extensions::magic_link_id.eq(link));
        ends.filter(extensions::expires_at.gt(extensions::previous_expires_at))
    };
    Ok(takes_another!(conn, extensions, later(), client))
}

/// Whether a client may move the end of a link forward by as little as it wants.
pub(crate) fn takes_small_step(conn: &mut Conn, link: &LinkId, client: Option<&ClientId>) -> QueryResult<bool> {
    let sooner = || {
        let ends = extensions::table.filter(extensions::magic_link_id.eq(link));
        ends.filter(extensions::expires_at.lt(extensions::previous_expires_at))
    };
    Ok(takes_another!(conn, extensions, sooner(), client))
}

/// Whether a link takes another correction from a client.
pub(crate) fn takes_another_correction(conn: &mut Conn, link: &LinkId, client: Option<&ClientId>) -> QueryResult<bool> {
    let words = || corrections::table.filter(corrections::magic_link_id.eq(link));
    Ok(takes_another!(conn, corrections, words(), client))
}

pub(crate) fn insert_extension(conn: &mut Conn, extension: &Extension) -> QueryResult<usize> {
    diesel::insert_into(extensions::table).values(extension).execute(conn)
}

pub(crate) fn find_extension(conn: &mut Conn, id: &ExtensionId) -> QueryResult<Option<Extension>> {
    extensions::table.find(id).get_result(conn).optional()
}

/// Of these links those that were given their present end after a moment of their own: `latest` before that end.
pub(crate) fn moved_late(conn: &mut Conn, links: &[Link], latest: Duration) -> QueryResult<HashSet<LinkId>> {
    let ids = links.iter().map(|link| &link.id);
    let moves: Vec<(LinkId, Timestamp, Timestamp)> = extensions::table
        .filter(extensions::magic_link_id.eq_any(ids))
        .select((extensions::magic_link_id, extensions::expires_at, extensions::created_at))
        .load(conn)?;
    let ends: HashMap<&LinkId, Timestamp> = links.iter().map(|link| (&link.id, link.expires_at)).collect();
    let late = moves.into_iter().filter(|(id, to, at)| ends.get(id) == Some(to) && at.plus(latest) >= *to);
    Ok(late.map(|(id, ..)| id).collect())
}

pub(crate) fn insert_correction(conn: &mut Conn, correction: &Correction) -> QueryResult<usize> {
    diesel::insert_into(corrections::table).values(correction).execute(conn)
}

/// A change of a link as its evidence shows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Changed<T> {
    #[serde(flatten)]
    what: T,
    by: Actor,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    at: Timestamp,
}

/// The end that a link was given, and the one before.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewEnd {
    id: ExtensionId,
    previous_expires_at: Timestamp,
    expires_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Reason and ticket that a link was given, and those before.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewWords {
    id: CorrectionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<String>,
}

/// Changes of a link's end, oldest first.
pub(crate) fn ends_of(conn: &mut Conn, link: &LinkId, limit: i64) -> QueryResult<Vec<Changed<NewEnd>>> {
    let rows = extensions::table.filter(extensions::magic_link_id.eq(link)).order(extensions::id.asc()).limit(limit);
    let shown = |row: Extension| Changed {
        by: Actor { kind: row.actor_type, id: row.actor_id, name: row.actor_name },
        client_id: row.client_id,
        at: row.created_at,
        what: NewEnd {
            id: row.id,
            previous_expires_at: row.previous_expires_at,
            expires_at: row.expires_at,
            reason: unless_erased(row.reason),
        },
    };
    Ok(rows.load(conn)?.into_iter().map(shown).collect())
}

/// Corrections of a link, oldest first.
pub(crate) fn corrections_of(conn: &mut Conn, link: &LinkId, limit: i64) -> QueryResult<Vec<Changed<NewWords>>> {
    let rows = corrections::table.filter(corrections::magic_link_id.eq(link)).order(corrections::id.asc()).limit(limit);
    let shown = |row: Correction| Changed {
        by: Actor { kind: row.actor_type, id: row.actor_id, name: row.actor_name },
        client_id: row.client_id,
        at: row.created_at,
        what: NewWords {
            id: row.id,
            previous_reason: unless_erased(row.previous_reason),
            previous_ticket: row.previous_ticket,
            reason: unless_erased(row.reason),
            ticket: row.ticket,
        },
    };
    Ok(rows.load(conn)?.into_iter().map(shown).collect())
}
