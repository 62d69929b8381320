//! `/v1/tenants`

use actix_web::web::Data;
use actix_web::{get, put};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{SaveTenant, TenantResponse};
use crate::context::Context;
use crate::domain::{Page, Paging, TenantId};
use crate::error::Error;
use crate::http::{Body, Caller, Json, Path, Query, ReadTenants, WriteTenants};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(save_tenant).service(list_tenants).service(get_tenant);
}

/// Register or change a tenant
///
/// Mails and pages show the name, and times in the time zone. Links can also be
/// issued for a tenant that is not registered. Who is no longer among the contacts
/// is mailed that, and hears of emergencies, violations, loosened policies and
/// approval keys for 72 hours more.
#[utoipa::path(tag = "Tenants", operation_id = "saveTenant", request_body = SaveTenant,
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = TenantResponse, description = "The tenant")))]
#[put("/tenants/{id}")]
async fn save_tenant(
    cx: Data<Context>,
    caller: Caller<WriteTenants>,
    id: Path<String>,
    body: Body<SaveTenant>,
) -> Result<Json<TenantResponse>, Error> {
    Ok(Json(super::save(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// List tenants
///
/// In order of `id`, those that the client is bound to.
#[utoipa::path(tag = "Tenants", operation_id = "listTenants", params(Paging),
    responses((status = 200, body = Page<TenantResponse>, description = "A page of tenants, in order of id")))]
#[get("/tenants")]
async fn list_tenants(
    cx: Data<Context>,
    caller: Caller<ReadTenants>,
    paging: Query<Paging>,
) -> Result<Json<Page<TenantResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, paging.into_inner()).await?))
}

/// Read a tenant
///
/// Name, time zone, contacts and retention. A tenant is there once it was registered (`saveTenant`).
#[utoipa::path(tag = "Tenants", operation_id = "getTenant",
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = TenantResponse, description = "The tenant")))]
#[get("/tenants/{id}")]
async fn get_tenant(
    cx: Data<Context>,
    caller: Caller<ReadTenants>,
    id: Path<String>,
) -> Result<Json<TenantResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}
