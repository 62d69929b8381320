//! `/v1/webhook-endpoints`

use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, delete, get, patch, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{
    ChangeWebhookEndpoint, CreateWebhookEndpoint, RotateWebhookSecret, Sender, WebhookDelivery, WebhookEndpointResponse,
};
use crate::context::Context;
use crate::domain::{Page, Paging};
use crate::error::Error;
use crate::http::{
    Accepted, Body, Caller, Created, IdempotencyHeader, Json, ManageWebhooks, ReadProblems, WriteProblems,
};
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
        .service(list_webhook_deliveries);
}

/// Create a webhook endpoint
///
/// From then on it is told what happens at the client's tenants and portal, each
/// message signed as Standard Webhooks 1.0 says. The answer is the only one that
/// shows the secret. `openapi/webhooks.json` describes the messages.
#[utoipa::path(tag = "Webhooks", operation_id = "createWebhookEndpoint", request_body = CreateWebhookEndpoint,
    params(("Idempotency-Key" = Option<String>, Header, max_length = 128, description = "Makes a repeat safe; the secret is left out of a repeated answer")),
    responses((status = 201, body = WebhookEndpointResponse, description = "Created"), WriteProblems))]
#[post("/webhook-endpoints")]
async fn create_webhook_endpoint(
    cx: Data<Context>,
    sender: Data<Sender>,
    caller: Caller<ManageWebhooks>,
    idempotency: IdempotencyHeader,
    body: Body<CreateWebhookEndpoint>,
) -> Result<Created<WebhookEndpointResponse>, Error> {
    let key = idempotency.scoped(&caller, "POST /v1/webhook-endpoints", || body.fingerprint());
    let (value, replayed) = super::create(&cx, &sender, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Created { value, replayed })
}

/// List webhook endpoints
///
/// The client's own; with the scope `admin` those of every client within its reach.
#[utoipa::path(tag = "Webhooks", operation_id = "listWebhookEndpoints", params(Paging),
    responses((status = 200, body = Page<WebhookEndpointResponse>, description = "A page of endpoints"), ReadProblems))]
#[get("/webhook-endpoints")]
async fn list_webhook_endpoints(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    paging: Query<Paging>,
) -> Result<Json<Page<WebhookEndpointResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, paging.into_inner()).await?))
}

/// Read a webhook endpoint
#[utoipa::path(tag = "Webhooks", operation_id = "getWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The endpoint"), ReadProblems))]
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
/// Or switch it off and on again. Messages that wait go to the new address.
#[utoipa::path(tag = "Webhooks", operation_id = "changeWebhookEndpoint", request_body = ChangeWebhookEndpoint,
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The endpoint"), WriteProblems))]
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
/// What waits for it is not sent any more, and its secrets are forgotten.
#[utoipa::path(tag = "Webhooks", operation_id = "deleteWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses((status = 204, description = "It is gone"), WriteProblems))]
#[delete("/webhook-endpoints/{id}")]
async fn delete_webhook_endpoint(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
) -> Result<HttpResponse, Error> {
    super::delete(&cx, &caller, id.into_inner(), cx.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Rotate a webhook endpoint's secret
///
/// Until the overlap is over every message carries two signatures, one of each
/// secret, so that the receiver can be changed over without a gap.
#[utoipa::path(tag = "Webhooks", operation_id = "rotateWebhookSecret", request_body = RotateWebhookSecret,
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses((status = 200, body = WebhookEndpointResponse, description = "The endpoint with its new secret"), WriteProblems))]
#[post("/webhook-endpoints/{id}/rotate-secret")]
async fn rotate_webhook_secret(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    body: Body<RotateWebhookSecret>,
) -> Result<Json<WebhookEndpointResponse>, Error> {
    Ok(Json(super::rotate_secret(&cx, &caller, id.into_inner(), &body.value, cx.clock.now()).await?))
}

/// Send a webhook endpoint a test
///
/// A message of the type `webhook_endpoint.test`, or for a CAEP receiver a
/// verification event. What becomes of it stands among the deliveries.
#[utoipa::path(tag = "Webhooks", operation_id = "testWebhookEndpoint",
    params(("id" = EndpointId, Path, description = "The endpoint")),
    responses((status = 202, body = WebhookDelivery, description = "It is queued"), WriteProblems))]
#[post("/webhook-endpoints/{id}/test")]
async fn test_webhook_endpoint(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
) -> Result<Accepted<WebhookDelivery>, Error> {
    Ok(Accepted(super::test(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// List the messages to a webhook endpoint
///
/// What became of each, newest first. They are kept for `webhooks.keep_days` after they were settled.
#[utoipa::path(tag = "Webhooks", operation_id = "listWebhookDeliveries",
    params(("id" = EndpointId, Path, description = "The endpoint"), Paging),
    responses((status = 200, body = Page<WebhookDelivery>, description = "A page of messages"), ReadProblems))]
#[get("/webhook-endpoints/{id}/deliveries")]
async fn list_webhook_deliveries(
    cx: Data<Context>,
    caller: Caller<ManageWebhooks>,
    id: Path<EndpointId>,
    paging: Query<Paging>,
) -> Result<Json<Page<WebhookDelivery>>, Error> {
    Ok(Json(super::deliveries(&cx, &caller, id.into_inner(), paging.into_inner()).await?))
}
