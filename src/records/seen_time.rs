//! The last time that was taken for right, and a jump of the clock since: what tells a clock that is wrong from a year that
//! has passed.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::service_state as service;

/// The time as the database remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub(crate) struct SeenTime {
    /// When it was taken for right last; `None` in a new database.
    pub seen_at: Option<Timestamp>,
    /// The time that was much later when it was looked at next, and was not taken for right yet.
    pub jumped_at: Option<Timestamp>,
}

pub(crate) fn get(conn: &mut Conn) -> QueryResult<SeenTime> {
    service::table.select((service::time_seen_at, service::time_jumped_at)).first(conn)
}

/// Takes a time for right.
pub(crate) fn take(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    let right = (service::time_seen_at.eq(Some(now)), service::time_jumped_at.eq(None::<Timestamp>));
    diesel::update(service::table).set(right).execute(conn)
}

/// Notes that the time has jumped; `false` where a jump to about that time, from `since` until `until`, was noted before.
pub(crate) fn jump(conn: &mut Conn, now: Timestamp, (since, until): (Timestamp, Timestamp)) -> QueryResult<bool> {
    let is_another = service::time_jumped_at.lt(since).or(service::time_jumped_at.gt(until)).assume_not_null();
    diesel::update(service::table)
        .filter(service::time_jumped_at.is_null().or(is_another))
        .set(service::time_jumped_at.eq(Some(now)))
        .execute(conn)
        .map(|rows| rows > 0)
}
