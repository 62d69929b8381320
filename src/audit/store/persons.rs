//! A person in the audit log: who accessed their data, and the index that finds events about several persons.

use diesel::prelude::*;

use super::{Among, events, principals, principals_of};
use crate::clock::Timestamp;
use crate::db::{Backend, Conn, insert_all};
use crate::domain::{PageRequest, RecordedType};
use crate::error::Error;
use crate::id::{EventId, SessionId};
use crate::journal::Appended;
use crate::store::Wakes;

/// A person whose data an event concerns together with that of others.
#[derive(Debug, Insertable)]
#[diesel(table_name = principals)]
struct Principal {
    principal_id: String,
    event_id: EventId,
}

/// Stores under which persons events about several are found.
///
/// # Errors
/// When the store is unavailable.
pub(crate) fn index_principals(conn: &mut Conn, recorded: &Appended<'_>, _wakes: &mut Wakes) -> Result<(), Error> {
    let mut rows = Vec::new();
    for one in &recorded.events {
        let Some(list) = &one.event.principal_ids else { continue };
        let ids: Vec<String> = serde_json::from_str(list).map_err(Error::internal)?;
        rows.extend(ids.into_iter().map(|principal_id| Principal { principal_id, event_id: one.id.clone() }));
    }
    Ok(insert_all!(conn, principals::table, rows.as_slice())?)
}

/// Accesses of a session to a person's data: how often, and the first and last time.
#[derive(Debug, Clone, Queryable)]
pub(in crate::audit) struct Touches {
    pub session_id: Option<SessionId>,
    pub kind: RecordedType,
    /// The reported times lie outside the session.
    pub out_of_session: bool,
    pub number: i64,
    occurred: (Option<Timestamp>, Option<Timestamp>),
    recorded: (Option<Timestamp>, Option<Timestamp>),
}

impl Touches {
    /// First and last time: as reported, or else as recorded.
    pub(in crate::audit) const fn times(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        if self.out_of_session { self.recorded } else { self.occurred }
    }
}

/// Sessions that accessed a person's data: the newest of those that accessed it alone, and of those that accessed it
/// together with that of others.
pub(in crate::audit) fn sessions_touching(
    conn: &mut Conn,
    tenant_id: &str,
    portal: Option<&str>,
    principal_id: &str,
    page: &PageRequest,
) -> QueryResult<Vec<SessionId>> {
    let mut sessions = Vec::new();
    for among in [Among::Single, Among::Several] {
        let mut query = events::table
            .filter(events::tenant_id.eq(tenant_id))
            .filter(events::session_id.is_not_null())
            .into_boxed::<Backend>();
        query = match among {
            Among::Single => query.filter(events::principal_id.eq(principal_id)),
            Among::Several => query.filter(events::id.eq_any(principals_of!(principal_id))),
        };
        if let Some(portal) = portal {
            query = query.filter(events::portal.eq(portal));
        }
        if let Some(after) = &page.after {
            query = query.filter(events::session_id.lt(after));
        }
        let found: Vec<SessionId> = query
            .select(events::session_id.assume_not_null())
            .distinct()
            .order(events::session_id.assume_not_null().desc())
            .limit(page.limit)
            .load(conn)?;
        sessions.extend(found);
    }
    Ok(sessions)
}

/// Accesses of the given sessions to a person's data.
pub(in crate::audit) fn touches(
    conn: &mut Conn,
    tenant_id: &str,
    principal_id: &str,
    sessions: &[SessionId],
) -> QueryResult<Vec<Touches>> {
    let of_sessions = events::table
        .filter(events::tenant_id.eq(tenant_id))
        .filter(events::session_id.eq_any(sessions))
        .group_by((events::session_id, events::event_type, events::out_of_session))
        .select((
            events::session_id,
            events::event_type,
            events::out_of_session,
            diesel::dsl::count_star(),
            (diesel::dsl::min(events::occurred_at), diesel::dsl::max(events::occurred_at)),
            (diesel::dsl::min(events::recorded_at), diesel::dsl::max(events::recorded_at)),
        ));
    let mut touches: Vec<Touches> = of_sessions.clone().filter(events::principal_id.eq(principal_id)).load(conn)?;
    touches.extend(of_sessions.filter(events::id.eq_any(principals_of!(principal_id))).load::<Touches>(conn)?);
    Ok(touches)
}
