//! `/v1/consultants`

use actix_web::web::Data;
use actix_web::{get, patch, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{ChangeConsultant, ConsultantDecision, ConsultantResponse, RegisterConsultant};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page};
use crate::error::Error;
use crate::http::{Body, Caller, Created, IdempotencyHeader, Json, Path, Query, ReadConsultants, WriteConsultants};
use crate::id::ConsultantId;
use crate::records::consultants::ConsultantFilter;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(register_consultant)
        .service(list_consultants)
        .service(get_consultant)
        .service(change_consultant)
        .service(suspend_consultant)
        .service(reinstate_consultant);
}

/// Register a consultant
///
/// Needs a client of every tenant and portal: every tenant reads the directory.
#[utoipa::path(tag = "Consultants", operation_id = "registerConsultant", request_body = RegisterConsultant,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 201, body = ConsultantResponse, description = "The registered consultant")))]
#[post("/consultants")]
async fn register_consultant(
    cx: Data<Context>,
    caller: Caller<WriteConsultants>,
    idempotency: IdempotencyHeader,
    body: Body<RegisterConsultant>,
) -> Result<Created<ConsultantResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let value = super::register(&cx, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Created { location: Some(format!("/v1/consultants/{}", value.id)), value })
}

/// List consultants
///
/// The directory, newest first. Why somebody was suspended is told to operators only.
#[utoipa::path(tag = "Consultants", operation_id = "listConsultants", params(ConsultantFilter),
    responses((status = 200, body = Page<ConsultantResponse>, description = "A page of consultants")))]
#[get("/consultants")]
async fn list_consultants(
    cx: Data<Context>,
    caller: Caller<ReadConsultants>,
    filter: Query<ConsultantFilter>,
) -> Result<Json<Page<ConsultantResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner()).await?))
}

/// Read a consultant
///
/// Name, address and state. Why somebody was suspended is told to operators only.
#[utoipa::path(tag = "Consultants", operation_id = "getConsultant",
    params(("id" = ConsultantId, Path, description = "Identifier of the consultant")),
    responses((status = 200, body = ConsultantResponse, description = "The consultant")))]
#[get("/consultants/{id}")]
async fn get_consultant(
    cx: Data<Context>,
    caller: Caller<ReadConsultants>,
    id: Path<ConsultantId>,
) -> Result<Json<ConsultantResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}

/// Change a consultant
///
/// A new e-mail address needs the scope `admin`, revokes the consultant's links
/// and notifies the old address.
#[utoipa::path(tag = "Consultants", operation_id = "changeConsultant", request_body = ChangeConsultant,
    params(("id" = ConsultantId, Path, description = "Identifier of the consultant")),
    responses((status = 200, body = ConsultantResponse, description = "The consultant")))]
#[patch("/consultants/{id}")]
async fn change_consultant(
    cx: Data<Context>,
    caller: Caller<WriteConsultants>,
    id: Path<ConsultantId>,
    body: Body<ChangeConsultant>,
) -> Result<Json<ConsultantResponse>, Error> {
    Ok(Json(super::change(&cx, &caller, id.into_inner(), body.value).await?))
}

/// Suspend a consultant
///
/// Revokes the consultant's links and ends their sessions in the same transaction.
/// Suspending again changes nothing. The reason is for operators: the tenants are
/// told only that the consultant was suspended.
#[utoipa::path(tag = "Consultants", operation_id = "suspendConsultant", request_body = ConsultantDecision,
    params(("id" = ConsultantId, Path, description = "Identifier of the consultant")),
    responses((status = 200, body = ConsultantResponse, description = "The consultant")))]
#[post("/consultants/{id}/suspend")]
async fn suspend_consultant(
    cx: Data<Context>,
    caller: Caller<WriteConsultants>,
    id: Path<ConsultantId>,
    body: Body<ConsultantDecision>,
) -> Result<Json<ConsultantResponse>, Error> {
    Ok(Json(super::suspend(&cx, &caller, id.into_inner(), body.value).await?))
}

/// Reinstate a consultant
///
/// The consultant can get links again; revoked links stay revoked.
#[utoipa::path(tag = "Consultants", operation_id = "reinstateConsultant", request_body = ConsultantDecision,
    params(("id" = ConsultantId, Path, description = "Identifier of the consultant")),
    responses((status = 200, body = ConsultantResponse, description = "The consultant")))]
#[post("/consultants/{id}/reinstate")]
async fn reinstate_consultant(
    cx: Data<Context>,
    caller: Caller<WriteConsultants>,
    id: Path<ConsultantId>,
    body: Body<ConsultantDecision>,
) -> Result<Json<ConsultantResponse>, Error> {
    Ok(Json(super::reinstate(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}
