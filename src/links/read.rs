//! Reading links.

use std::collections::HashMap;

use super::decisions::{Approval, EmergencyResponse, PendingExtension};
use super::{LinkResponse, RememberedDevice};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{
    AuditState, ConsultantRef, IssuerRef, Page, Paging, ProfileRef, Reach, Reentry, Restrictions, unless_erased,
};
use crate::error::Error;
use crate::http::{Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId};
use crate::mail::{self, Delivery};
use crate::records;
use crate::records::devices::Device;
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_lists::LinkFilter;
use crate::records::link_requests::{LinkRequest, RequestState};
use crate::records::links::Link;
use crate::sessions::{self, Usage};

/// A page of the links within the caller's reach.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    mut filter: LinkFilter,
    now: Timestamp,
) -> Result<Page<LinkResponse>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let filter = filter.normalised();
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), page.clone());
    let views = cx
        .store
        .read(move |conn| {
            let requests = records::link_requests::list(conn, &filter, &reach, &asked, now)?;
            let requests = requests.try_map(|requests| requested(conn, &requests, now))?;
            let links = records::link_lists::list(conn, &filter, &reach, &asked, now)?;
            let links = links.try_map(|links| views(conn, links, now))?;
            Ok(links.merged(requests, asked.limit, |view| view.id.as_str()))
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
    cx.store.read(move |conn| one_within(conn, &id, &reach, now)?.ok_or_else(Error::not_found)).await
}

/// One link within the reach, or the request for one.
pub(crate) fn one_within(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    now: Timestamp,
) -> Result<Option<LinkResponse>, Error> {
    if let Some(link) = view_within(conn, id, reach, now)? {
        return Ok(Some(link));
    }
    let request = records::link_requests::find_within(conn, id, reach)?;
    if request.as_ref().is_some_and(|request| request.state == RequestState::Approved) {
        // It became a link since that was looked for.
        return view_within(conn, id, reach, now);
    }
    Ok(requested(conn, request.as_slice(), now)?.pop())
}

/// Requests for links, as returned by the API.
fn requested(conn: &mut Conn, requests: &[LinkRequest], now: Timestamp) -> Result<Vec<LinkResponse>, Error> {
    let consultants: Vec<ConsultantId> = requests.iter().map(|request| request.consultant_id.clone()).collect();
    let consultants = records::links::consultants(conn, &consultants)?;
    let shown = requests.iter().filter_map(|request| {
        let state = request.state(now).of_link()?;
        Some(request.seen(state, consultants.get(&request.consultant_id).cloned()?, now))
    });
    Ok(shown.collect())
}

/// One link, as returned by the API, if it is within the reach.
pub(super) fn view_within(
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
    let consultants = records::links::consultants(conn, &consultants)?;
    let mut deliveries = mail::newest_deliveries(conn, &ids)?;
    let usages = sessions::usage_of_links(conn, &ids, now)?;
    let mut devices = devices_of(conn, &links)?;
    let approvals = records::link_requests::of_links(conn, &ids)?;
    let reviews = records::link_reviews::of_links(conn, &ids)?.into_iter();
    let mut emergencies: HashMap<LinkId, EmergencyResponse> =
        reviews.map(|review| (review.magic_link_id.clone(), EmergencyResponse::of(review, now))).collect();
    let extensions = records::extension_requests::pending_of_links(conn, &ids)?;
    links
        .into_iter()
        .map(|link| {
            let consultant = consultants.get(&link.consultant_id).cloned();
            let consultant = consultant.ok_or_else(|| Error::internal("a link without its consultant"))?;
            let delivery = deliveries.remove(&link.id);
            let usage = usages.get(&link.id).copied();
            let device = devices.remove(&link.id);
            let approval = approvals.get(&link.id).map(|request| Approval::of(request, now));
            let waits =
                |request: &&ExtensionRequest| request.state(now) == RequestState::Pending && link.ended(now).is_none();
            let extension = extensions.get(&link.id).filter(waits).map(|asked| PendingExtension::of(asked, &link));
            let emergency = emergencies.remove(&link.id);
            Ok(LinkResponse { device, emergency, approval, extension, ..link.seen(consultant, delivery, usage, now) })
        })
        .collect()
}

/// The remembered devices of links: those that count for their present generation.
fn devices_of(conn: &mut Conn, links: &[Link]) -> Result<HashMap<LinkId, RememberedDevice>, Error> {
    let generations: HashMap<&LinkId, i32> =
        links.iter().filter(|link| link.reentry == Reentry::Device).map(|link| (&link.id, link.generation)).collect();
    if generations.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<LinkId> = generations.keys().map(|id| (*id).clone()).collect();
    let devices = records::devices::of_links(conn, &ids)?;
    let current =
        devices.into_iter().filter(|device| generations.get(&device.magic_link_id) == Some(&device.generation));
    let shown = current.map(|device| {
        let Device { magic_link_id, thumbprint, remembered_at, .. } = device;
        (magic_link_id, RememberedDevice { thumbprint, remembered_at })
    });
    Ok(shown.collect())
}

impl Link {
    /// The link as returned by the API, with data that is already loaded.
    pub(super) fn seen(
        self,
        consultant: ConsultantRef,
        delivery: Option<Delivery>,
        usage: Option<Usage>,
        now: Timestamp,
    ) -> LinkResponse {
        let (modules, forbidden) = Restrictions::shown(self.restrictions.as_ref());
        LinkResponse {
            state: self.state(now),
            consultant,
            delivery,
            audit_state: usage.map_or(AuditState::Complete, |usage| usage.audit_state),
            first_used_at: usage.map(|usage| usage.first_used_at),
            last_used_at: usage.map(|usage| usage.last_used_at),
            in_use: usage.is_some_and(|usage| usage.in_use),
            event_count: usage.map_or(0, |usage| usage.event_count),
            revoked_by: self.revoked_by(),
            profile: ProfileRef {
                id: self.profile_id,
                name: unless_erased(self.profile_name),
                email: self.profile_email.and_then(unless_erased),
            },
            issued_by: IssuerRef {
                id: self.issued_by_id,
                name: unless_erased(self.issued_by_name),
                email: self.issued_by_email.and_then(unless_erased),
            },
            id: self.id,
            client_id: self.client_id,
            tenant_id: self.tenant_id,
            portal: self.portal,
            reason: unless_erased(self.reason),
            ticket: self.ticket,
            access: self.access,
            modules,
            forbidden,
            reentry: self.reentry,
            device: None,
            approval: None,
            emergency: None,
            extension: None,
            starts_at: self.starts_at,
            expires_at: self.expires_at,
            created_at: self.created_at,
            spent_at: self.spent_at,
            revoked_at: self.revoked_at,
            revoke_reason: self.revoke_reason,
            replaced_by: self.replaced_by,
            erased_at: self.erased_at,
        }
    }
}
