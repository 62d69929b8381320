//! Reading links.

use std::collections::HashMap;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::domain::{ConsultantRef, Issuer, LinkState, Profile};
use super::{Link, LinkResponse, store};
use crate::app::App;
use crate::domain::Reach;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::domain::{Page, Paging, check_filters};
use crate::http::{Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId};
use crate::mail::{self, Delivery};
use crate::revocations;
use crate::domain::AuditState;
use crate::sessions;

/// Which links are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LinkFilter {
    /// Only this tenant.
    #[param(max_length = 64, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(max_length = 32)]
    pub portal: Option<String>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only this profile.
    #[param(max_length = 128)]
    pub profile_id: Option<String>,
    /// Only links in this state.
    #[param(inline)]
    pub state: Option<LinkState>,
    /// Only links issued at or after this moment.
    pub created_from: Option<Timestamp>,
    /// Only links issued before this moment.
    pub created_to: Option<Timestamp>,
    /// Items a page, 50 unless told; more than 200 is cut to 200.
    #[param(minimum = 1, maximum = 200)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// A page of the links that the caller may see.
pub(crate) async fn list(
    app: &App,
    caller: &Caller<ReadLinks>,
    mut filter: LinkFilter,
    now: Timestamp,
) -> Result<Page<LinkResponse>, Error> {
    check_filters([&filter.tenant_id, &filter.portal, &filter.profile_id])?;
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let window = paging.open(app.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), window.clone());
    let views = app
        .db
        .read(move |conn| {
            let links = store::list(conn, &filter, &reach, &asked, now)?;
            views(conn, links, now)
        })
        .await?;
    Ok(window.page(app.tokens.master_key(), views, |view| view.id.as_str(), |view| view))
}

/// One link.
pub(crate) async fn read(
    app: &App,
    caller: &Caller<ReadLinks>,
    id: LinkId,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let reach = caller.reach.clone();
    app.db
        .read(move |conn| {
            let link = store::find_within(conn, &id, &reach)?.ok_or_else(Error::not_found)?;
            view(conn, link, now)
        })
        .await
}

/// One link as callers see it, if the reach covers it.
pub(crate) fn view_within(
    conn: &mut Conn,
    id: &LinkId,
    reach: &Reach,
    now: Timestamp,
) -> Result<Option<LinkResponse>, Error> {
    let link = store::find_within(conn, id, reach)?;
    link.map(|link| view(conn, link, now)).transpose()
}

/// One link as callers see it.
pub(super) fn view(conn: &mut Conn, link: Link, now: Timestamp) -> Result<LinkResponse, Error> {
    views(conn, vec![link], now)?.pop().ok_or_else(Error::not_found)
}

/// The link as it stands, whoever asks: for code that holds a token we signed.
pub(crate) fn current(conn: &mut Conn, id: &LinkId) -> Result<Option<Link>, Error> {
    let mut link: Vec<Link> = store::find(conn, id)?.into_iter().collect();
    obey(conn, &mut link)?;
    Ok(link.pop())
}

/// Shows links as an order left them that is still being carried out.
pub(super) fn obey(conn: &mut Conn, links: &mut [Link]) -> Result<(), Error> {
    let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
    let mut orders = revocations::in_force(conn, &ids)?;
    for link in links.iter_mut().filter(|link| link.revoked_at.is_none()) {
        let Some(order) = orders.remove(&link.id) else { continue };
        link.revoked_at = Some(order.created_at);
        link.revoke_reason = Some(order.reason);
        link.revoked_by_type = Some(order.actor_type);
        link.revoked_by_id = Some(order.actor_id);
        link.revoked_by_name = order.actor_name;
    }
    Ok(())
}

/// Links as callers see them: four queries, however many there are.
fn views(conn: &mut Conn, mut links: Vec<Link>, now: Timestamp) -> Result<Vec<LinkResponse>, Error> {
    obey(conn, &mut links)?;
    let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
    let consultants: Vec<ConsultantId> = links.iter().map(|link| link.consultant_id.clone()).collect();
    let consultants: HashMap<ConsultantId, ConsultantRef> = store::consultants(conn, &consultants)?
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
    /// A link as callers see it who know the rest already.
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
