//! Reading links.

use std::collections::HashMap;

use super::LinkResponse;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{AuditState, ConsultantRef, Issuer, Page, Paging, Profile, Reach};
use crate::error::Error;
use crate::http::{Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId};
use crate::mail::{self, Delivery};
use crate::records::links::{Link, LinkFilter};
use crate::{records, sessions};

/// A page of the links within the caller's reach.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    mut filter: LinkFilter,
    now: Timestamp,
) -> Result<Page<LinkResponse>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), page.clone());
    let views = cx
        .store
        .read(move |conn| {
            let links = records::links::list(conn, &filter, &reach, &asked, now)?;
            links.try_map(|links| views(conn, links, now))
        })
        .await?;
    Ok(page.answer(cx.tokens.master_key(), views, |view| view.id.as_str(), |view| view))
}

/// One link.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    id: LinkId,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let reach = caller.reach.clone();
    cx.store
        .read(move |conn| {
            let link = records::links::find_within(conn, &id, &reach)?.ok_or_else(Error::not_found)?;
            view(conn, link, now)
        })
        .await
}

/// One link, as returned by the API, if it is within the reach.
pub(crate) fn view_within(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    now: Timestamp,
) -> Result<Option<LinkResponse>, Error> {
    let link = records::links::find_within(conn, id, reach)?;
    link.map(|link| view(conn, link, now)).transpose()
}

/// One link, as returned by the API.
pub(super) fn view(conn: &mut Conn, link: Link, now: Timestamp) -> Result<LinkResponse, Error> {
    views(conn, vec![link], now)?.pop().ok_or_else(Error::not_found)
}

/// Links, as returned by the API, with a constant number of queries.
fn views(conn: &mut Conn, links: Vec<Link>, now: Timestamp) -> Result<Vec<LinkResponse>, Error> {
    let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
    let consultants: Vec<ConsultantId> = links.iter().map(|link| link.consultant_id.clone()).collect();
    let consultants: HashMap<ConsultantId, ConsultantRef> = records::links::consultants(conn, &consultants)?
        .into_iter()
        .map(|(id, name, email)| (id.clone(), ConsultantRef { id, name, email }))
        .collect();
    let mut deliveries = mail::newest_deliveries(conn, &ids)?;
    let audit_states = sessions::worst_audit_states(conn, &ids, now)?;
    links
        .into_iter()
        .map(|link| {
            let consultant = consultants.get(&link.consultant_id).cloned();
            let consultant = consultant.ok_or_else(|| Error::internal("a link without its consultant"))?;
            let delivery = deliveries.remove(&link.id).unwrap_or_default();
            let audit_state = audit_states.get(&link.id).copied().unwrap_or(AuditState::Complete);
            Ok(link.seen(consultant, delivery, audit_state, now))
        })
        .collect()
}

impl Link {
    /// The link as returned by the API, with data that is already loaded.
    pub(super) fn seen(
        self,
        consultant: ConsultantRef,
        delivery: Delivery,
        audit_state: AuditState,
        now: Timestamp,
    ) -> LinkResponse {
        LinkResponse {
            state: self.state(now),
            consultant,
            delivery,
            audit_state,
            revoked_by: self.revoked_by(),
            profile: Profile { id: self.profile_id, name: self.profile_name, email: self.profile_email },
            issued_by: Issuer { id: self.issued_by_id, name: self.issued_by_name, email: self.issued_by_email },
            id: self.id,
            tenant_id: self.tenant_id,
            portal: self.portal,
            reason: self.reason,
            ticket: self.ticket,
            access: self.access,
            starts_at: self.starts_at,
            expires_at: self.expires_at,
            created_at: self.created_at,
            spent_at: self.spent_at,
            revoked_at: self.revoked_at,
            revoke_reason: self.revoke_reason,
        }
    }
}
