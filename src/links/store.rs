//! Statements for one-time code challenges, the issuing freeze and the expiry mark.

use diesel::prelude::*;

use crate::clock::{Stretch, Timestamp, lies_in};
use crate::db::Conn;
use crate::db::schema::{announced_ends, link_expiry, step_ups};
use crate::id::{LinkId, StepUpId};
use crate::records::links::Link;

/// A one-time code challenge, as stored: everything but the code.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::step_ups)]
pub(crate) struct OtpChallenge {
    pub id: StepUpId,
    pub magic_link_id: LinkId,
    pub generation: i32,
    /// SHA-256 of the secret that only the requesting page has, in hex.
    pub page_sha256: String,
    pub tries: i32,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub passed_at: Option<Timestamp>,
}

/// The link's challenges since `since`, newest first: at most so many.
pub(crate) fn step_ups(conn: &mut Conn, link: &LinkId, lately: Stretch, limit: i64) -> QueryResult<Vec<OtpChallenge>> {
    step_ups::table
        .filter(step_ups::magic_link_id.eq(link))
        .filter(lies_in!(step_ups::created_at, lately))
        .order(step_ups::id.desc())
        .limit(limit)
        .load(conn)
}

pub(crate) fn insert_step_up(conn: &mut Conn, challenge: &OtpChallenge) -> QueryResult<usize> {
    diesel::insert_into(step_ups::table).values(challenge).execute(conn)
}

/// Ends the link's challenges that are still valid: of its codes only the newest is.
pub(crate) fn void_step_ups(conn: &mut Conn, link: &LinkId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(step_ups::table.filter(step_ups::magic_link_id.eq(link)))
        .filter(step_ups::expires_at.gt(now))
        .set(step_ups::expires_at.eq(now))
        .execute(conn)
}

/// The newest challenge of a link whose code can still be entered.
pub(crate) fn open_challenge(
    conn: &mut Conn,
    link: &Link,
    tries: i32,
    now: Timestamp,
) -> QueryResult<Option<OtpChallenge>> {
    step_ups::table
        .filter(step_ups::magic_link_id.eq(&link.id))
        .filter(step_ups::generation.eq(link.generation))
        .filter(step_ups::tries.lt(tries))
        .filter(step_ups::passed_at.is_null())
        .filter(step_ups::expires_at.gt(now))
        .order(step_ups::id.desc())
        .first(conn)
        .optional()
}

/// Counts an attempt; `None` if none is left, or the challenge is not for this page and link, expired or passed.
pub(crate) fn try_code(
    conn: &mut Conn,
    id: &StepUpId,
    link: &Link,
    page_sha256: Option<&str>,
    tries: i32,
    now: Timestamp,
) -> QueryResult<Option<OtpChallenge>> {
    let any_page = page_sha256.is_none();
    diesel::update(step_ups::table.find(id))
        .filter(step_ups::magic_link_id.eq(&link.id))
        .filter(step_ups::generation.eq(link.generation))
        .filter(
            step_ups::page_sha256
                .eq(page_sha256.unwrap_or_default())
                .or(any_page.into_sql::<diesel::sql_types::Bool>()),
        )
        .filter(step_ups::tries.lt(tries))
        .filter(step_ups::passed_at.is_null())
        .filter(step_ups::expires_at.gt(now))
        .set(step_ups::tries.eq(step_ups::tries + 1))
        .returning(step_ups::all_columns)
        .get_result(conn)
        .optional()
}

/// Marks a challenge as passed: its code is valid once.
pub(crate) fn pass_code(conn: &mut Conn, id: &StepUpId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(step_ups::table.find(id)).set(step_ups::passed_at.eq(Some(now))).execute(conn)
}

/// Voids every open challenge: its code was derived from a master key that was changed.
pub(crate) fn void_challenges(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    diesel::update(step_ups::table)
        .filter(step_ups::passed_at.is_null())
        .filter(step_ups::expires_at.gt(now))
        .set(step_ups::expires_at.eq(now))
        .execute(conn)
}

/// The last link up to which this kind of announcement was made: end of its window, and identifier.
pub(crate) fn announced_end(conn: &mut Conn, kind: i32) -> QueryResult<(Timestamp, String)> {
    announced_ends::table.find(kind).select((announced_ends::expires_at, announced_ends::link_id)).get_result(conn)
}

/// Advances the mark of a kind of announcement; `false` if another instance has.
pub(crate) fn move_announced_end(
    conn: &mut Conn,
    kind: i32,
    from: &(Timestamp, String),
    to: (Timestamp, &LinkId),
) -> QueryResult<bool> {
    diesel::update(announced_ends::table.find(kind))
        .filter(announced_ends::expires_at.eq(from.0))
        .filter(announced_ends::link_id.eq(&from.1))
        .set((announced_ends::expires_at.eq(to.0), announced_ends::link_id.eq(to.1.as_str())))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// The last link up to which expired windows are recorded: end of its window, and identifier.
pub(crate) fn expiry_mark(conn: &mut Conn) -> QueryResult<(Timestamp, String)> {
    link_expiry::table.find(1).select((link_expiry::expires_at, link_expiry::link_id)).get_result(conn)
}

/// Advances the mark; `false` if another instance has.
pub(crate) fn move_expiry_mark(
    conn: &mut Conn,
    from: &(Timestamp, String),
    to: (Timestamp, &LinkId),
) -> QueryResult<bool> {
    diesel::update(link_expiry::table.find(1))
        .filter(link_expiry::expires_at.eq(from.0))
        .filter(link_expiry::link_id.eq(&from.1))
        .set((link_expiry::expires_at.eq(to.0), link_expiry::link_id.eq(to.1.as_str())))
        .execute(conn)
        .map(|rows| rows > 0)
}
