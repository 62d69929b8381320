//! Lists of links: what they are searched by. Every list is read in order of id, and looks at a bounded number of rows.

use std::collections::BTreeSet;

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use serde::Deserialize;
use utoipa::IntoParams;

use super::links::{Link, has_begun, under_pending_revocations};
use super::revocations::NotBulkRevoked;
use super::{sessions, within};
use crate::clock::Timestamp;
use crate::db::schema::{link_reviews as reviews, magic_links as links, mail_jobs as jobs, sessions as visits};
use crate::db::{Backend, Conn};
use crate::domain::{
    AuditState, Cursor, DeliveryState, ExternalId, LinkState, LinkStates, PageRequest, PortalId, Reach, ReviewState,
    Scan, Template, TenantId, TicketText,
};
use crate::id::{ClientId, ConsultantId};

/// Condition about links that is known at run time only.
type Condition = Box<dyn BoxableExpression<links::table, Backend, SqlType = Bool>>;

/// Condition that a link is in a state.
fn in_state(state: LinkState, now: Timestamp) -> Condition {
    let open = links::revoked_at.is_null().and(NotBulkRevoked);
    match state {
        LinkState::Replaced => Box::new(links::replaced_by.is_not_null()),
        LinkState::Revoked => {
            Box::new(links::replaced_by.is_null().and(links::revoked_at.is_not_null().or(not(NotBulkRevoked))))
        }
        LinkState::Scheduled => Box::new(open.and(not(has_begun(now))).and(links::expires_at.gt(now))),
        LinkState::Active => Box::new(open.and(has_begun(now)).and(links::expires_at.gt(now))),
        LinkState::Expired => Box::new(open.and(links::expires_at.le(now))),
        // A link in such a state is none yet (`link_requests`).
        LinkState::Pending | LinkState::Denied | LinkState::Withdrawn | LinkState::Lapsed => {
            Box::new(false.into_sql::<Bool>())
        }
    }
}

/// Condition that the newest mail with the link is in a state.
#[diesel::dsl::auto_type]
fn is_mailed(template: Template, state: DeliveryState) -> _ {
    let newest = jobs::magic_link_id.eq(links::id.nullable()).and(jobs::generation.eq(links::generation.nullable()));
    exists(jobs::table.filter(newest.and(jobs::template.eq(template)).and(jobs::state.eq(state))))
}

/// Condition that the link has a live session.
#[diesel::dsl::auto_type]
fn is_in_use(now: Timestamp) -> _ {
    let live = visits::magic_link_id.eq(links::id).and(visits::ended_at.is_null()).and(visits::expires_at.gt(now));
    NotBulkRevoked.and(exists(visits::table.filter(live)))
}

/// Condition that the link was issued in an emergency, and its review is in a state.
fn is_reviewed(state: ReviewState, now: Timestamp) -> Condition {
    let open = reviews::table.filter(reviews::magic_link_id.eq(links::id)).filter(reviews::reviewed_at.is_null());
    let done = reviews::table.filter(reviews::magic_link_id.eq(links::id)).filter(reviews::reviewed_at.is_not_null());
    match state {
        ReviewState::Pending => Box::new(exists(open.filter(reviews::review_due_at.gt(now)))),
        ReviewState::Overdue => Box::new(exists(open.filter(reviews::review_due_at.le(now)))),
        ReviewState::Done => Box::new(exists(done)),
    }
}

/// Condition that the worst audit state of the link's sessions is this one.
fn in_audit_state(state: AuditState, now: Timestamp) -> Condition {
    let of_link = || visits::table.filter(visits::magic_link_id.eq(links::id));
    let unclosed = exists(of_link().filter(sessions::is_unclosed(sessions::overdue(now))));
    let gaps = exists(of_link().filter(sessions::has_gaps()));
    match state {
        AuditState::Complete => Box::new(not(unclosed).and(not(gaps))),
        AuditState::Gaps => Box::new(not(unclosed).and(gaps)),
        AuditState::Unclosed => Box::new(unclosed),
    }
}

/// Applies what the filter says of a row, whether it is a link or a request for one.
macro_rules! filtered {
    ($query:ident, $rows:ident, $filter:ident) => {
        if let Some(tenant_id) = &$filter.tenant_id {
            $query = $query.filter($rows::tenant_id.eq(tenant_id));
        }
        if let Some(portal) = &$filter.portal {
            $query = $query.filter($rows::portal.eq(portal));
        }
        if let Some(id) = &$filter.consultant_id {
            $query = $query.filter($rows::consultant_id.eq(id));
        }
        if let Some(id) = &$filter.profile_id {
            $query = $query.filter($rows::profile_id.eq(id));
        }
        if let Some(ticket) = $filter.ticket() {
            $query = $query.filter($rows::ticket.eq(ticket).assume_not_null());
        }
        if let Some(id) = &$filter.issued_by_id {
            $query = $query.filter($rows::issued_by_id.eq(id));
        }
        if let Some(id) = &$filter.client_id {
            $query = $query.filter($rows::client_id.eq(id).assume_not_null());
        }
        if let Some(from) = $filter.created_from {
            $query = $query.filter($rows::created_at.ge(from));
        }
        if let Some(to) = $filter.created_to {
            $query = $query.filter($rows::created_at.lt(to));
        }
    };
}
pub(super) use filtered;

/// Links that match the filter within the reach, newest first.
pub(crate) fn list(
    conn: &mut Conn,
    filter: &LinkFilter,
    reach: &Reach,
    page: &PageRequest,
    now: Timestamp,
) -> QueryResult<Scan<Link>> {
    let mut query = links::table.into_boxed::<Backend>().filter(within!(links, reach));
    filtered!(query, links, filter);
    if let Some(before) = filter.expires_before {
        query = query.filter(links::expires_at.lt(before));
    }
    let states = filter.states().map(|state| in_state(state, now));
    if let Some(any) = states.reduce(|one, other| Box::new(one.or(other))) {
        query = query.filter(any);
    }
    if let Some(state) = filter.delivery_state {
        query = query.filter(is_mailed(Template::MagicLink, state));
    }
    if let Some(state) = filter.audit_state {
        query = query.filter(in_audit_state(state, now));
    }
    if let Some(state) = filter.review_state {
        query = query.filter(is_reviewed(state, now));
    }
    match filter.in_use {
        Some(true) => query = query.filter(is_in_use(now)),
        Some(false) => query = query.filter(not(is_in_use(now))),
        None => {}
    }
    if let Some(after) = &page.after {
        query = query.filter(links::id.lt(after));
    }
    let end = scan_end(conn, filter, reach, page)?;
    if let Some(end) = &end {
        query = query.filter(links::id.ge(end.clone()));
    }
    let found = under_pending_revocations(conn, |conn| query.order(links::id.desc()).limit(page.limit).load(conn))?;
    Ok(Scan::to(found, page, end))
}

/// The link at which a list stops reading, because its filters may match little.
fn scan_end(conn: &mut Conn, filter: &LinkFilter, reach: &Reach, page: &PageRequest) -> QueryResult<Option<String>> {
    let indexed = LinkFilter { tenant_id: filter.tenant_id.clone(), ..LinkFilter::default() };
    if *filter == indexed && reach.portal.is_none() {
        return Ok(None);
    }
    let mut found = links::table.into_boxed::<Backend>();
    found = match (filter.ticket(), &filter.consultant_id, &filter.profile_id) {
        (Some(ticket), _, _) => found.filter(links::ticket.eq(ticket).assume_not_null()),
        (None, Some(id), _) => found.filter(links::consultant_id.eq(id)),
        (None, None, Some(id)) => found.filter(links::profile_id.eq(id)),
        (None, None, None) => found.filter(within!(links, &reach.tenants_of(filter.tenant_id.as_deref()))),
    };
    super::scan_end!(conn, links, found, page)
}

/// Filter and page of a list of links.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LinkFilter {
    /// Only this tenant.
    #[param(value_type = Option<TenantId>, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(value_type = Option<PortalId>)]
    pub portal: Option<String>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only this profile.
    #[param(value_type = Option<ExternalId>)]
    pub profile_id: Option<String>,
    /// Only links in one of these states, with commas between them.
    #[param(value_type = Option<LinkStates>, example = "scheduled,active")]
    pub state: Option<String>,
    /// Only links with this ticket, compared exactly and without blanks around it.
    #[param(value_type = Option<TicketText>, example = "SUP-48213")]
    pub ticket: Option<String>,
    /// Only links that this person granted, by the portal's identifier.
    #[param(value_type = Option<ExternalId>)]
    pub issued_by_id: Option<String>,
    /// Only links that this client issued.
    pub client_id: Option<ClientId>,
    /// Only links whose newest mail is in this state; none without a mail, as erased ones are.
    pub delivery_state: Option<DeliveryState>,
    /// Only links of whose sessions this is the worst audit state.
    pub audit_state: Option<AuditState>,
    /// Only links with a live session, or only those without one.
    pub in_use: Option<bool>,
    /// Only links that were issued in an emergency and whose review is in this state.
    pub review_state: Option<ReviewState>,
    /// Only links issued at or after this moment.
    pub created_from: Option<Timestamp>,
    /// Only links issued before this moment.
    pub created_to: Option<Timestamp>,
    /// Only links whose window ends before this moment.
    pub expires_before: Option<Timestamp>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

impl LinkFilter {
    /// The filter in one spelling for one meaning: a cursor is good for whatever asks for the same links.
    pub(crate) fn normalised(mut self) -> Self {
        self.ticket = self.ticket().map(ToOwned::to_owned);
        self.state = self.state.map(|words| {
            let words: BTreeSet<&str> = words.split(',').collect();
            words.into_iter().collect::<Vec<_>>().join(",")
        });
        self
    }

    /// The states that are asked for; every one if there are none.
    pub(super) fn states(&self) -> impl Iterator<Item = LinkState> {
        self.state.iter().flat_map(|words| words.split(',')).filter_map(|word| word.parse().ok())
    }

    pub(super) fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref().map(str::trim)
    }
}
