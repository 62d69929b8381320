//! Lists of sessions: what they are searched by. Every list is read in order of id, and looks at a bounded number of rows.

use diesel::dsl::not;
use diesel::prelude::*;
use serde::Deserialize;
use utoipa::IntoParams;

use super::sessions::{Session, holds, in_state, under_pending_revocations};
use super::within;
use crate::clock::Timestamp;
use crate::db::schema::sessions;
use crate::db::{Backend, Conn};
use crate::domain::{AuditState, Cursor, ExternalId, PageRequest, PortalId, Reach, Scan, SessionState, TenantId};
use crate::id::{ConsultantId, LinkId, SessionId};

/// Filter and page of a list of sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionFilter {
    /// Only this tenant.
    #[param(value_type = Option<TenantId>, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(value_type = Option<PortalId>)]
    pub portal: Option<String>,
    /// Only sessions of this link.
    pub magic_link_id: Option<LinkId>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only sessions as this profile.
    #[param(value_type = Option<ExternalId>)]
    pub profile_id: Option<String>,
    /// Only sessions opened at or after this moment.
    pub started_from: Option<Timestamp>,
    /// Only sessions opened before this moment.
    pub started_to: Option<Timestamp>,
    /// Only sessions in this state.
    pub state: Option<SessionState>,
    /// Only sessions whose activity reports are complete, have gaps, or were never closed.
    pub audit_state: Option<AuditState>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// Sessions that match the filter within the reach, newest first.
pub(crate) fn list(
    conn: &mut Conn,
    filter: &SessionFilter,
    reach: &Reach,
    page: &PageRequest,
    now: Timestamp,
) -> QueryResult<Scan<Session>> {
    let mut query = in_state(filter.audit_state, now).filter(within!(sessions, reach));
    if let Some(tenant_id) = &filter.tenant_id {
        query = query.filter(sessions::tenant_id.eq(tenant_id));
    }
    if let Some(portal) = &filter.portal {
        query = query.filter(sessions::portal.eq(portal));
    }
    if let Some(id) = &filter.magic_link_id {
        query = query.filter(sessions::magic_link_id.eq(id));
    }
    if let Some(id) = &filter.consultant_id {
        query = query.filter(sessions::consultant_id.eq(id));
    }
    if let Some(id) = &filter.profile_id {
        query = query.filter(sessions::profile_id.eq(id));
    }
    if let Some(from) = filter.started_from {
        // Ids sort by the same moment: older sessions are not read.
        let first = SessionId::first_at(from);
        query = query.filter(sessions::started_at.ge(from)).filter(sessions::id.ge(first));
    }
    if let Some(to) = filter.started_to {
        query = query.filter(sessions::started_at.lt(to));
    }
    match filter.state {
        Some(SessionState::Active) => query = query.filter(holds(now)),
        Some(SessionState::Ended) => query = query.filter(not(holds(now))),
        None => {}
    }
    if let Some(after) = &page.after {
        query = query.filter(sessions::id.lt(after));
    }
    let end = scan_end(conn, filter, reach, page)?;
    if let Some(end) = &end {
        query = query.filter(sessions::id.ge(end.clone()));
    }
    let found = under_pending_revocations(conn, |conn| query.order(sessions::id.desc()).limit(page.limit).load(conn))?;
    Ok(Scan::to(found, page, end))
}

/// The session at which a list stops reading, because its filters may match little.
fn scan_end(conn: &mut Conn, filter: &SessionFilter, reach: &Reach, page: &PageRequest) -> QueryResult<Option<String>> {
    let indexed = SessionFilter { tenant_id: filter.tenant_id.clone(), ..SessionFilter::default() };
    if filter.magic_link_id.is_some() || (*filter == indexed && reach.portal.is_none()) {
        return Ok(None);
    }
    let found = sessions::table.into_boxed::<Backend>();
    let mut found = match &filter.consultant_id {
        Some(id) => found.filter(sessions::consultant_id.eq(id)),
        None => found.filter(within!(sessions, &reach.tenants_of(filter.tenant_id.as_deref()))),
    };
    if let (Some(id), None) = (&filter.profile_id, &filter.consultant_id) {
        found = found.filter(sessions::profile_id.eq(id));
    }
    super::scan_end!(conn, sessions, found, page)
}
