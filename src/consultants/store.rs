//! Consultants at rest.

use diesel::prelude::*;

use super::{Consultant, ConsultantFilter, ConsultantState};
use crate::clock::Timestamp;
use crate::db::schema::consultants;
use crate::db::{Backend, Conn};
use crate::domain::Window;
use crate::id::ConsultantId;

pub(crate) fn find(conn: &mut Conn, id: &ConsultantId) -> QueryResult<Option<Consultant>> {
    consultants::table.find(id).get_result(conn).optional()
}

/// Whether somebody else has the address.
pub(super) fn email_taken(conn: &mut Conn, email_key: &str, but: Option<&ConsultantId>) -> QueryResult<bool> {
    let owner: Option<ConsultantId> = consultants::table
        .filter(consultants::email_key.eq(email_key))
        .select(consultants::id)
        .get_result(conn)
        .optional()?;
    Ok(owner.is_some_and(|owner| Some(&owner) != but))
}

pub(super) fn insert(conn: &mut Conn, consultant: &Consultant) -> QueryResult<usize> {
    diesel::insert_into(consultants::table).values(consultant).execute(conn)
}

pub(super) fn list(conn: &mut Conn, filter: &ConsultantFilter, window: &Window) -> QueryResult<Vec<Consultant>> {
    let mut query = consultants::table.into_boxed::<Backend>();
    match filter.state {
        Some(ConsultantState::Active) => query = query.filter(consultants::suspended_at.is_null()),
        Some(ConsultantState::Suspended) => query = query.filter(consultants::suspended_at.is_not_null()),
        None => {}
    }
    if let Some(after) = &window.after {
        query = query.filter(consultants::id.lt(after));
    }
    query.order(consultants::id.desc()).limit(window.limit).load(conn)
}

/// Sets name and address; `None` if there is no such consultant.
pub(super) fn change(
    conn: &mut Conn,
    id: &ConsultantId,
    name: &str,
    email: &str,
    email_key: &str,
    now: Timestamp,
) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .set((
            consultants::name.eq(name),
            consultants::email.eq(email),
            consultants::email_key.eq(email_key),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Suspends; `None` if there is no such active consultant.
pub(super) fn suspend(
    conn: &mut Conn,
    id: &ConsultantId,
    reason: &str,
    now: Timestamp,
) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .filter(consultants::suspended_at.is_null())
        .set((
            consultants::suspended_at.eq(Some(now)),
            consultants::suspend_reason.eq(Some(reason)),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}

/// Reinstates; `None` if there is no such suspended consultant.
pub(super) fn reinstate(conn: &mut Conn, id: &ConsultantId, now: Timestamp) -> QueryResult<Option<Consultant>> {
    diesel::update(consultants::table.find(id))
        .filter(consultants::suspended_at.is_not_null())
        .set((
            consultants::suspended_at.eq(None::<Timestamp>),
            consultants::suspend_reason.eq(None::<String>),
            consultants::updated_at.eq(now),
        ))
        .returning(consultants::all_columns)
        .get_result(conn)
        .optional()
}
