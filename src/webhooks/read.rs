//! Reading endpoints and their deliveries.

use super::{Endpoint, EndpointAccess, WebhookDelivery, WebhookEndpointResponse, store};
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Page, Paging};
use crate::error::Error;
use crate::http::{Caller, ManageWebhooks};
use crate::id::EndpointId;

/// The endpoint, if the caller manages it.
pub(super) fn managed(conn: &mut Conn, id: &EndpointId, access: &EndpointAccess) -> Result<Endpoint, Error> {
    let found = store::find(conn, id)?;
    let theirs = found.filter(|(endpoint, owner)| access.manages(&endpoint.client_id, &owner.reach()));
    theirs.map(|(endpoint, _)| endpoint).ok_or_else(Error::not_found)
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
    let show = |row| WebhookEndpointResponse::of(row, None);
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), show))
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
    let rows = cx
        .store
        .read(move |conn| {
            managed(conn, &id, &access)?;
            Ok(store::list_deliveries(conn, &id, &asked)?)
        })
        .await?;
    Ok(page.answer(cx.tokens.master_key(), rows, |row| row.id.as_str(), WebhookDelivery::of))
}
