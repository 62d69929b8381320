//! `/v1/clients`

use actix_web::web::Data;
use actix_web::{get, patch, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{ChangeClient, ClientResponse, CreateClient, DisableClient, RotateClient};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page, Paging};
use crate::error::Error;
use crate::http::{Admin, Body, Caller, Created, IdempotencyHeader, Json, Path, Query};
use crate::id::ClientId;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(create_client)
        .service(list_clients)
        .service(get_client)
        .service(change_client)
        .service(rotate_client)
        .service(disable_client);
}

/// Create a client
///
/// The response contains the key, which is never shown again. A client cannot
/// create one for tenants or portals beyond its own; if it is bound to a portal or
/// to tenants, it can hand out only scopes that it has.
#[utoipa::path(tag = "Clients", operation_id = "createClient", request_body = CreateClient,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; a repeated response omits the key")),
    responses((status = 201, body = ClientResponse, description = "The created client, with its key")))]
#[post("/clients")]
async fn create_client(
    cx: Data<Context>,
    caller: Caller<Admin>,
    idempotency: IdempotencyHeader,
    body: Body<CreateClient>,
) -> Result<Created<ClientResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let client = super::create(&cx, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Created { location: Some(format!("/v1/clients/{}", client.id)), value: client })
}

/// List clients
///
/// Newest first, those within the caller's own reach. Keys are not shown.
#[utoipa::path(tag = "Clients", operation_id = "listClients", params(Paging),
    responses((status = 200, body = Page<ClientResponse>, description = "A page of clients")))]
#[get("/clients")]
async fn list_clients(
    cx: Data<Context>,
    caller: Caller<Admin>,
    paging: Query<Paging>,
) -> Result<Json<Page<ClientResponse>>, Error> {
    let page = paging.into_inner().open(cx.tokens.master_key(), "clients")?;
    Ok(Json(super::list(&cx, &caller, page).await?))
}

/// Read a client
///
/// Its reach, scopes and last use. Its key is not shown.
#[utoipa::path(tag = "Clients", operation_id = "getClient",
    params(("id" = ClientId, Path, description = "Identifier of the client")),
    responses((status = 200, body = ClientResponse, description = "The client")))]
#[get("/clients/{id}")]
async fn get_client(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<ClientId>,
) -> Result<Json<ClientResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}

/// Change a client
///
/// Its name, portal, tenants or scopes, in force from the next call on; its key
/// stays. Refused with `client_not_permitted` for a client that the caller could not
/// create, as it is or as it would become.
#[utoipa::path(tag = "Clients", operation_id = "changeClient", request_body = ChangeClient,
    params(("id" = ClientId, Path, description = "Identifier of the client")),
    responses((status = 200, body = ClientResponse, description = "The client")))]
#[patch("/clients/{id}")]
async fn change_client(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<ClientId>,
    body: Body<ChangeClient>,
) -> Result<Json<ClientResponse>, Error> {
    Ok(Json(super::change(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Rotate a client's key
///
/// The old key stays valid for `overlap_seconds`, so that the client can switch
/// without interruption. Refused with `client_not_permitted` for a client that the
/// caller could not create.
#[utoipa::path(tag = "Clients", operation_id = "rotateClient", request_body = RotateClient,
    params(("id" = ClientId, Path, description = "Identifier of the client")),
    responses((status = 200, body = ClientResponse, description = "The client with its new key")))]
#[post("/clients/{id}/rotate")]
async fn rotate_client(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<ClientId>,
    body: Body<RotateClient>,
) -> Result<Json<ClientResponse>, Error> {
    Ok(Json(super::rotate(&cx, &caller, id.into_inner(), &body.value, cx.clock.now()).await?))
}

/// Disable a client
///
/// Its keys stop working at once and for good. With `revoke_links`, which needs the
/// scope `links:revoke`, every link that it issued is revoked in the same transaction.
#[utoipa::path(tag = "Clients", operation_id = "disableClient", request_body = DisableClient,
    params(("id" = ClientId, Path, description = "Identifier of the client")),
    responses((status = 200, body = ClientResponse, description = "The disabled client")))]
#[post("/clients/{id}/disable")]
async fn disable_client(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<ClientId>,
    body: Body<DisableClient>,
) -> Result<Json<ClientResponse>, Error> {
    Ok(Json(super::disable(&cx, &caller, id.into_inner(), body.value).await?))
}
