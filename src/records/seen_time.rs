//! The last time that was taken for right, and a jump of the clock since: what tells a clock that is wrong from a year that
//! has passed.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::service_state as service;

/// The time as the database remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable, AsChangeset)]
#[diesel(table_name = service, treat_none_as_null = true)]
pub(crate) struct SeenTime {
    /// When what goes by the time was done last; `None` in a new database.
    #[diesel(column_name = time_seen_at)]
    pub seen_at: Option<Timestamp>,
    /// The time that was much later when it was looked at next, and was not taken for right yet.
    #[diesel(column_name = time_jumped_at)]
    pub jumped_at: Option<Timestamp>,
}

pub(crate) fn get(conn: &mut Conn) -> QueryResult<SeenTime> {
    service::table.select((service::time_seen_at, service::time_jumped_at)).first(conn)
}

pub(crate) fn set(conn: &mut Conn, time: SeenTime) -> QueryResult<usize> {
    diesel::update(service::table).set(time).execute(conn)
}
