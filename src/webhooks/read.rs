//! Reading endpoints and their deliveries.

use super::store::Delivery;
use super::{Endpoint, EndpointAccess, WebhookDelivery, WebhookEndpointResponse, message, store};
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Page, PageRequest, Paging, Reach, Scan};
use crate::error::Error;
use crate::http::{Caller, ManageWebhooks};
use crate::id::EndpointId;

/// Messages that a list looks at where some are left out.
const SCANNED: i64 = 1_000;

/// The endpoint, if the caller manages it.
pub(super) fn managed(conn: &mut Conn, id: &EndpointId, access: &EndpointAccess) -> Result<Endpoint, Error> {
    find_managed(conn, id, access)?.ok_or_else(Error::not_found)
}

/// The endpoint, if there is one that the caller manages. That is a question of its client's reach.
pub(super) fn find_managed(
    conn: &mut Conn,
    id: &EndpointId,
    access: &EndpointAccess,
) -> Result<Option<Endpoint>, Error> {
    let found = store::find(conn, id)?;
    let theirs = found.filter(|(endpoint, owner)| access.manages(&endpoint.client_id, &owner.reach()));
    Ok(theirs.map(|(endpoint, _)| endpoint))
}

/// A page of the endpoints that the caller manages.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    paging: Paging,
) -> Result<Page<WebhookEndpointResponse>, Error> {
    let page = paging.open(cx.tokens.master_key(), "webhook-endpoints")?;
    let (access, asked) = (EndpointAccess::of(caller), page.clone());
    let rows = cx.store.read(move |conn| Ok(store::list(conn, &access, &asked)?)).await?;
    let show = |(endpoint, _)| WebhookEndpointResponse::of(endpoint, None);
    Ok(page.answer(cx.tokens.master_key(), rows, |(endpoint, _)| endpoint.id.as_str(), show))
}

/// One endpoint.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
) -> Result<WebhookEndpointResponse, Error> {
    let access = EndpointAccess::of(caller);
    let endpoint = cx.store.read(move |conn| managed(conn, &id, &access)).await?;
    Ok(WebhookEndpointResponse::of(endpoint, None))
}

/// A page of the messages to an endpoint.
pub(crate) async fn deliveries(
    cx: &Context,
    caller: &Caller<ManageWebhooks>,
    id: EndpointId,
    paging: Paging,
) -> Result<Page<WebhookDelivery>, Error> {
    let page = paging.open(cx.tokens.master_key(), ("webhook-deliveries", id.as_str()))?;
    let (access, asked) = (EndpointAccess::of(caller), page.clone());
    let reach = caller.reach.clone();
    let (held_until, scan) = cx
        .store
        .read(move |conn| {
            let endpoint = managed(conn, &id, &access)?;
            Ok((endpoint.held_until, readable(conn, &id, &reach, &asked)?))
        })
        .await?;
    let show = |row| WebhookDelivery::of(row, held_until);
    Ok(page.answer(cx.tokens.master_key(), scan, |row| row.id.as_str(), show))
}

/// A page of messages to an endpoint, but for those about a tenant or a portal that the caller may not read any more.
fn readable(
    conn: &mut Conn,
    endpoint: &EndpointId,
    reach: &Reach,
    page: &PageRequest,
) -> Result<Scan<Delivery>, Error> {
    let within = |rows: Vec<Delivery>| {
        let judged = rows.into_iter().map(|row| message::is_within(&row, reach).map(|is_within| (is_within, row)));
        let kept = judged.filter_map(|row| row.map(|(is_within, row)| is_within.then_some(row)).transpose());
        kept.collect::<Result<Vec<Delivery>, Error>>()
    };
    let rows = store::list_deliveries(conn, endpoint, page)?;
    let found = rows.len();
    let rows = within(rows)?;
    if rows.len() == found {
        return Ok(Scan::whole(rows));
    }
    // Those that are left out may be many: the page ends where the reading did.
    let mut further = page.clone();
    further.limit = SCANNED;
    let rows = store::list_deliveries(conn, endpoint, &further)?;
    let is_full = i64::try_from(rows.len()).is_ok_and(|found| found == SCANNED);
    let end = rows.last().filter(|_| is_full).map(|row| row.id.to_string());
    let mut rows = within(rows)?;
    rows.truncate(usize::try_from(page.limit).unwrap_or(usize::MAX));
    Ok(Scan::to(rows, page, end))
}
