//! `/v1/tenants/{id}/policy`

use actix_web::web::Data;
use actix_web::{get, put};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{PolicyResponse, SavePolicy};
use crate::context::Context;
use crate::domain::TenantId;
use crate::error::Error;
use crate::http::{Body, Caller, Json, Path, ReadTenants, WritePolicies};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(save_policy).service(get_policy);
}

/// Change a tenant's policy
///
/// What may be granted there, from the next request on; links that exist are not changed.
/// Replaces the policy before: what is absent is as the service is configured. The change is
/// on record with both, and the tenant's contacts are mailed where more is allowed than
/// before. The tenant has to be registered.
#[utoipa::path(tag = "Tenants", operation_id = "savePolicy", request_body = SavePolicy,
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = PolicyResponse, description = "The policy that is in force")))]
#[put("/tenants/{id}/policy")]
async fn save_policy(
    cx: Data<Context>,
    caller: Caller<WritePolicies>,
    id: Path<String>,
    body: Body<SavePolicy>,
) -> Result<Json<PolicyResponse>, Error> {
    Ok(Json(super::save(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Read a tenant's policy
///
/// As it is in force: a portal draws its form from it.
#[utoipa::path(tag = "Tenants", operation_id = "getPolicy",
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = PolicyResponse, description = "The policy that is in force")))]
#[get("/tenants/{id}/policy")]
async fn get_policy(
    cx: Data<Context>,
    caller: Caller<ReadTenants>,
    id: Path<String>,
) -> Result<Json<PolicyResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner()).await?))
}
