//! The freeze of issuing: one row for the whole service.

use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::service_state;

/// Freezes issuing; `false` if it was frozen before.
pub(crate) fn begin(conn: &mut Conn, reason: &str, now: Timestamp) -> QueryResult<bool> {
    diesel::update(service_state::table)
        .filter(service_state::frozen_at.is_null())
        .set((service_state::frozen_at.eq(Some(now)), service_state::freeze_reason.eq(Some(reason))))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// Ends the freeze; `false` if issuing was not frozen, or a restore is not complete.
pub(crate) fn end(conn: &mut Conn) -> QueryResult<bool> {
    diesel::update(service_state::table)
        .filter(service_state::frozen_at.is_not_null())
        .filter(service_state::restoring_at.is_null())
        .set((service_state::frozen_at.eq(None::<Timestamp>), service_state::freeze_reason.eq(None::<String>)))
        .execute(conn)
        .map(|rows| rows > 0)
}

/// When and why issuing was frozen, if it is.
pub(crate) fn state(conn: &mut Conn) -> QueryResult<(Option<Timestamp>, Option<String>)> {
    service_state::table.select((service_state::frozen_at, service_state::freeze_reason)).first(conn)
}

/// Whether issuing is frozen.
pub(crate) fn is_on(conn: &mut Conn) -> QueryResult<bool> {
    Ok(state(conn)?.0.is_some())
}
