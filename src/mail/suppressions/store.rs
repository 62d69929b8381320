//! Suppressed addresses at rest.

use diesel::dsl::exists;
use diesel::prelude::*;

use super::{Suppression, SuppressionState};
use crate::clock::Timestamp;
use crate::db::schema::mail_suppressions as suppressions;
use crate::db::{Backend, Conn};
use crate::domain::PageRequest;
use crate::id::SuppressionId;

/// Whether an address is suppressed.
pub(super) fn is_suppressed(conn: &mut Conn, address_key: &str) -> QueryResult<bool> {
    let active = suppressions::table
        .filter(suppressions::address_key.eq(address_key))
        .filter(suppressions::cleared_at.is_null());
    diesel::select(exists(active)).get_result(conn)
}

pub(super) fn insert(conn: &mut Conn, row: &Suppression) -> QueryResult<usize> {
    diesel::insert_into(suppressions::table).values(row).execute(conn)
}

pub(super) fn find(conn: &mut Conn, id: &SuppressionId) -> QueryResult<Option<Suppression>> {
    suppressions::table.find(id).get_result(conn).optional()
}

/// Clears a suppression; `None` if it was cleared before.
pub(super) fn clear(
    conn: &mut Conn,
    id: &SuppressionId,
    reason: &str,
    now: Timestamp,
) -> QueryResult<Option<Suppression>> {
    diesel::update(suppressions::table.find(id))
        .filter(suppressions::cleared_at.is_null())
        .set((suppressions::cleared_at.eq(Some(now)), suppressions::clear_reason.eq(Some(reason))))
        .returning(suppressions::all_columns)
        .get_result(conn)
        .optional()
}

/// Suppressed addresses, newest first.
pub(super) fn list(
    conn: &mut Conn,
    state: Option<SuppressionState>,
    page: &PageRequest,
) -> QueryResult<Vec<Suppression>> {
    let mut query = suppressions::table.into_boxed::<Backend>();
    query = match state {
        Some(SuppressionState::Active) => query.filter(suppressions::cleared_at.is_null()),
        Some(SuppressionState::Cleared) => query.filter(suppressions::cleared_at.is_not_null()),
        None => query,
    };
    if let Some(after) = &page.after {
        query = query.filter(suppressions::id.lt(after));
    }
    query.order(suppressions::id.desc()).limit(page.limit).load(conn)
}
