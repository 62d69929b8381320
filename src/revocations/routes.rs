//! `/v1/revocations`

use actix_web::web::Data;
use actix_web::{get, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{CreateRevocation, RevocationFilter, RevocationResponse};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page};
use crate::error::Error;
use crate::http::{Accepted, Body, Caller, IdempotencyHeader, Json, Path, Query, RevokeLinks};
use crate::id::RevocationId;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(create_revocation).service(list_revocations).service(get_revocation);
}

/// Revoke many links
///
/// Revokes every link that matches all selectors and has not ended, with its
/// sessions and unsent mails. In force from this response on, however many links
/// there are; links issued later are not affected. Each link is then revoked and
/// recorded in turn: the state is `done` after the last one. With `dry_run` links
/// are only counted. One that reaches more than one tenant needs the scope `admin`,
/// by whatever selectors, and also to be read.
#[utoipa::path(tag = "Magic links", operation_id = "createRevocation", request_body = CreateRevocation,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 202, body = RevocationResponse, description = "The bulk revocation")))]
#[post("/revocations")]
async fn create_revocation(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    idempotency: IdempotencyHeader,
    body: Body<CreateRevocation>,
) -> Result<Accepted<RevocationResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let value = super::create(&cx, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Accepted::at(format!("/v1/revocations/{}", value.id), value))
}

/// List bulk revocations
///
/// With their selectors, those of suspended consultants and disabled clients
/// included. One that reaches more than one tenant is shown to clients with the scope
/// `admin` only.
#[utoipa::path(tag = "Magic links", operation_id = "listRevocations", params(RevocationFilter),
    responses((status = 200, body = Page<RevocationResponse>, description = "A page of bulk revocations, newest first")))]
#[get("/revocations")]
async fn list_revocations(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    filter: Query<RevocationFilter>,
) -> Result<Json<Page<RevocationResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner()).await?))
}

/// Read a bulk revocation
///
/// Its selectors and counts. `state` is `done` once every link it matches is marked; it is in force before.
#[utoipa::path(tag = "Magic links", operation_id = "getRevocation",
    params(("id" = RevocationId, Path, description = "Identifier of the bulk revocation")),
    responses((status = 200, body = RevocationResponse, description = "The bulk revocation")))]
#[get("/revocations/{id}")]
async fn get_revocation(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    id: Path<RevocationId>,
) -> Result<Json<RevocationResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}
