//! Rows of status lists, and their statements. The indexes are stored with the sessions.

use diesel::dsl::{AsExprOf, max, min, not, sql};
use diesel::expression::{SqlLiteral, UncheckedBind};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text};

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{
    consultants, key_revocations, magic_links as links, service_state, sessions, status_lists as lists,
};
use crate::records::revocations::NotBulkRevoked;

/// The newest list; 0 where there is none yet.
pub(crate) fn newest(conn: &mut Conn) -> QueryResult<i64> {
    let newest: Option<i64> = lists::table.select(max(lists::id)).get_result(conn)?;
    Ok(newest.unwrap_or(0))
}

pub(crate) fn insert(conn: &mut Conn, list: i64, now: Timestamp) -> QueryResult<usize> {
    diesel::insert_into(lists::table).values((lists::id.eq(list), lists::created_at.eq(now))).execute(conn)
}

/// The first list that counts: every bit of the ones before it is set.
pub(crate) fn first(conn: &mut Conn) -> QueryResult<i64> {
    service_state::table.select(service_state::first_status_list).first(conn)
}

pub(crate) fn set_first(conn: &mut Conn, list: i64) -> QueryResult<usize> {
    diesel::update(service_state::table).set(service_state::first_status_list.eq(list)).execute(conn)
}

pub(crate) fn exists(conn: &mut Conn, list: i64) -> QueryResult<bool> {
    diesel::select(diesel::dsl::exists(lists::table.find(list))).get_result(conn)
}

/// An expression that tells which of these indexes are taken in the newest list, with blanks between them.
///
/// They are looked up one by one: PostgreSQL would read the whole list for a condition on all of them that was planned
/// while the list was short.
pub(super) fn taken(conn: &Conn, indexes: &[i32]) -> Taken {
    let drawn = indexes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (all, each, is_taken) = match conn {
        Conn::Postgres(_) => (
            "(SELECT string_agg(i::text, ' ') FROM unnest(string_to_array(",
            ", ',')::integer[]) AS drawn (i) WHERE (SELECT",
            "i",
        ),
        Conn::Sqlite(_) => {
            ("(SELECT group_concat(value, ' ') FROM json_each('[' || ", " || ']') WHERE (SELECT", "value")
        }
    };
    let newest = "status_index FROM sessions WHERE status_list = (SELECT max(id) FROM status_lists) AND status_index =";
    sql(all).bind::<Text, _>(drawn).sql(&format!("{each} {newest} {is_taken}) IS NOT NULL)"))
}

/// See [`taken`].
pub(super) type Taken = SqlLiteral<Nullable<Text>, UncheckedBind<SqlLiteral<Nullable<Text>>, AsExprOf<String, Text>>>;

/// The indexes of sessions whose end is recorded or has come, whose link is revoked or matched by a pending bulk
/// revocation, whose consultant is not active, or that hang on a revoked signing key: what introspection calls inactive,
/// even if it was made so by hand.
pub(crate) fn over(conn: &mut Conn, list: i64, now: Timestamp) -> QueryResult<Vec<i32>> {
    let signed = key_revocations::kid
        .eq(sessions::kid)
        .or(key_revocations::kid.nullable().eq(sessions::link_kid).assume_not_null())
        .or(key_revocations::kid.nullable().eq(sessions::code_kid).assume_not_null());
    let revoked = diesel::dsl::exists(key_revocations::table.filter(key_revocations::done_at.is_null()).filter(signed));
    // Pending revocations first: a session that one of them ends meanwhile is found twice, and never missed.
    let mut over: Vec<i32> = sessions::table
        .inner_join(links::table)
        .filter(sessions::status_list.eq(list))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .filter(
            not(NotBulkRevoked).or(revoked).or(links::revoked_at.is_not_null()).or(sessions::consultant_id
                .ne_all(consultants::table.filter(consultants::suspended_at.is_null()).select(consultants::id))),
        )
        .select(sessions::status_index)
        .load(conn)?;
    // The end of a link may have been moved forward since its token was signed: nothing else tells an offline verifier.
    let ended: Vec<i32> = sessions::table
        .filter(sessions::status_list.eq(list))
        .filter(sessions::ended_at.is_not_null().or(sessions::expires_at.le(now)))
        .select(sessions::status_index)
        .load(conn)?;
    over.extend(ended);
    Ok(over)
}

/// When the next session of the list ends by time, of those that have not ended.
pub(crate) fn next_end(conn: &mut Conn, list: i64, now: Timestamp) -> QueryResult<Option<Timestamp>> {
    sessions::table
        .filter(sessions::status_list.eq(list))
        .filter(sessions::ended_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .select(min(sessions::expires_at))
        .get_result(conn)
}

/// Lists that were the newest one at some time after `since`, newest first.
pub(crate) fn filled_since(conn: &mut Conn, since: Timestamp) -> QueryResult<Vec<i64>> {
    let known: Vec<(i64, Timestamp)> = lists::table.order(lists::id.desc()).load(conn)?;
    let mut filled = Vec::new();
    for (list, created_at) in known {
        filled.push(list);
        if created_at <= since {
            break;
        }
    }
    Ok(filled)
}
