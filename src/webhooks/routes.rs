//! `/v1/webhook-endpoints`

use actix_web::web::Data;
use actix_web::{HttpResponse, delete, get, patch, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    ChangeWebhookEndpoint, CreateWebhookEndpoint, RetriedWebhookDeliveries, RetryWebhookDeliveries,
    RotateWebhookSecret, Sender, WebhookDelivery, WebhookEndpointResponse,
};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page, Paging};
use crate::error::Error;
use crate::http::{Accepted, Body, Caller, Created, IdempotencyHeader, Json, ManageWebhooks, NoMembers, Path, Query};
use crate::id::EndpointId;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(create_webhook_endpoint)
        .service(list_webhook_endpoints)
        .service(get_webhook_endpoint)
        .service(change_webhook_endpoint)
        .service(delete_webhook_endpoint)
        .service(rotate_webhook_secret)
        .service(test_webhook_endpoint)
        .service(retry_webhook_deliveries)
        .service(list_webhook_deliveries);
}

/// Create a webhook endpoint
///
/// The endpoint receives messages about events of the client's tenants and portal,
/// signed according to Standard Webhooks 1.0. The secret is returned in this
/// response only. `openapi/webhooks.json` describes the messages.
#[utoipa::path(tag = "Webhooks", operation_id = "createWebhookEndpoint", request_body = CreateWebhookEndpoint,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Key that makes a retry safe for 24 hours; a replayed response omits the secret")),
    responses((status = 201, body = WebhookEndpointResponse, description = "The webhook endpoint was created")))]
#[post("/webhook-endpoints")]
async fn create_webhook_endpoint(
    cx: Data<Context>,
    sender: Data<Sender>,
    caller: Caller<ManageWebhooks>,
    idempotency: IdempotencyHeader,
    body: Body<CreateWebhookEndpoint>,
) -> Result<Created<WebhookEndpointResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let value = super::create(&cx, &sender, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Created { location: Some(format!("/v1/webhook-endpoints/{}", value.id)), value })
}

/// List webhook endpoints
///
/// The client's own endpoints; with the scope `admin` those of every client within its reach.
#[utoipa::path(tag = "Webhooks", operation_id = "listWebhookEndpoints", params(Paging),
    responses((status = 200, body = Page<WebhookEndpointResponse>, description = "A page of webhook endpoints, newest first")))]
#[get("/webhook-endpoints")]
async fn list_webhook_endpoints(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    paging: Query<Paging>,
) -> Result<Json<Page<WebhookEndpointResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, paging.into_inner()).await?))
}

/// Read a webhook endpoint
///
/// Address, events, format and state. Its secret is not shown.
#[utoipa::path(tag = "Webhooks", operation_id = "getWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The webhook endpoint")))]
#[get("/webhook-endpoints/{id}")]
async fn get_webhook_endpoint(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
) -> Result<Json<WebhookEndpointResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}

/// Change a webhook endpoint
///
/// Changes members, or switches the endpoint off or on. Queued messages are sent to
/// the new URL.
#[utoipa::path(tag = "Webhooks", operation_id = "changeWebhookEndpoint", request_body = ChangeWebhookEndpoint,
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The webhook endpoint")))]
#[patch("/webhook-endpoints/{id}")]
async fn change_webhook_endpoint(
    cx: Data<Context>,
    sender: Data<Sender>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    body: Body<ChangeWebhookEndpoint>,
) -> Result<Json<WebhookEndpointResponse>, Error> {
    Ok(Json(super::change(&cx, &sender, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Delete a webhook endpoint
///
/// Queued messages are not sent, and the secrets are deleted.
#[utoipa::path(tag = "Webhooks", operation_id = "deleteWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 204, description = "The webhook endpoint was deleted")))]
#[delete("/webhook-endpoints/{id}")]
async fn delete_webhook_endpoint(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    _body: Body<NoMembers>,
) -> Result<HttpResponse, Error> {
    super::delete(&cx, &caller, id.into_inner(), cx.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Rotate a webhook endpoint's secret
///
/// During the overlap every message carries two signatures, one by each secret, so
/// that the receiver can switch without rejecting messages. Refused with
/// `client_not_permitted` for the endpoint of a client that the caller could not create.
#[utoipa::path(tag = "Webhooks", operation_id = "rotateWebhookSecret", request_body = RotateWebhookSecret,
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The webhook endpoint with its new secret")))]
#[post("/webhook-endpoints/{id}/rotate-secret")]
async fn rotate_webhook_secret(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    body: Body<RotateWebhookSecret>,
) -> Result<Json<WebhookEndpointResponse>, Error> {
    Ok(Json(super::rotate_secret(&cx, &caller, id.into_inner(), &body.value, cx.clock.now()).await?))
}

/// Send a test message to a webhook endpoint
///
/// Queues a message of the type `webhook_endpoint.test`, or a verification event
/// for format `caep`. Its delivery state is listed among the deliveries.
#[utoipa::path(tag = "Webhooks", operation_id = "testWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 202, body = WebhookDelivery, description = "The test message is queued")))]
#[post("/webhook-endpoints/{id}/test")]
async fn test_webhook_endpoint(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    _body: Body<NoMembers>,
) -> Result<Accepted<WebhookDelivery>, Error> {
    Ok(Accepted::new(super::test(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// List the messages to a webhook endpoint
///
/// With their delivery states, newest first. A message is kept for `webhooks.keep_days` (configuration) after it was
/// delivered, failed or was cancelled.
#[utoipa::path(tag = "Webhooks", operation_id = "listWebhookDeliveries",
    params(("id" = EndpointId, Path, description = "Webhook endpoint id"), Paging),
    responses((status = 200, body = Page<WebhookDelivery>, description = "A page of messages, newest first")))]
#[get("/webhook-endpoints/{id}/deliveries")]
async fn list_webhook_deliveries(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    paging: Query<Paging>,
) -> Result<Json<Page<WebhookDelivery>>, Error> {
    Ok(Json(super::deliveries(&cx, &caller, id.into_inner(), paging.into_inner()).await?))
}

/// Send given-up messages again
///
/// Queues messages that were given up or cancelled, the oldest first, as if they
/// were new. A receiver sees by `sequence` what is older than it already knows.
#[utoipa::path(tag = "Webhooks", operation_id = "retryWebhookDeliveries", request_body = RetryWebhookDeliveries,
    params(("id" = EndpointId, Path, description = "Webhook endpoint id")),
    responses((status = 202, body = RetriedWebhookDeliveries, description = "The messages are queued")))]
#[post("/webhook-endpoints/{id}/retry")]
async fn retry_webhook_deliveries(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    body: Body<RetryWebhookDeliveries>,
) -> Result<Accepted<RetriedWebhookDeliveries>, Error> {
    Ok(Accepted::new(super::retry(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}
