//! `/v1/tenants/{id}/policy` and `/v1/tenants/{id}/approval-key`

use actix_web::web::Data;
use actix_web::{get, post, put};
use utoipa_actix_web::service_config::ServiceConfig;

use super::approval_key::{self, ApprovalKeyResponse, CancelApprovalKeyChange, RemoveApprovalKey, SaveApprovalKey};
use super::{PolicyResponse, SavePolicy};
use crate::context::Context;
use crate::domain::TenantId;
use crate::error::Error;
use crate::http::{Body, Caller, Json, Path, ReadTenants, WritePolicies};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(save_policy)
        .service(get_policy)
        .service(save_approval_key)
        .service(get_approval_key)
        .service(remove_approval_key)
        .service(cancel_approval_key_change);
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

/// Register or replace a tenant's approval key
///
/// From then on an approval counts only if the customer has signed it with this key
/// (`signed_approval`), and the policy cannot come to want fewer approvals. The first key is in
/// effect at once. The key in effect signs its successor (`signed_change`), which
/// is then in effect at once; without that an operator can order the change, which takes effect
/// after 72 hours and can be cancelled until then. Every contact of the tenant is mailed.
#[utoipa::path(tag = "Tenants", operation_id = "saveApprovalKey", request_body = SaveApprovalKey,
    params(("id" = TenantId, Path, example = "initech", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = ApprovalKeyResponse, description = "The key, and the change that waits")))]
#[put("/tenants/{id}/approval-key")]
async fn save_approval_key(
    cx: Data<Context>,
    caller: Caller<WritePolicies>,
    id: Path<String>,
    body: Body<SaveApprovalKey>,
) -> Result<Json<ApprovalKeyResponse>, Error> {
    Ok(Json(approval_key::save(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Read a tenant's approval key
#[utoipa::path(tag = "Tenants", operation_id = "getApprovalKey",
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = ApprovalKeyResponse, description = "The key, and the change that waits")))]
#[get("/tenants/{id}/approval-key")]
async fn get_approval_key(
    cx: Data<Context>,
    caller: Caller<ReadTenants>,
    id: Path<String>,
) -> Result<Json<ApprovalKeyResponse>, Error> {
    Ok(Json(approval_key::read(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Remove a tenant's approval key
///
/// Nothing has to be signed any more. The key signs that itself (`signed_change`), or an operator
/// orders it: then it takes effect after 72 hours. Without a key nothing happens.
#[utoipa::path(tag = "Tenants", operation_id = "removeApprovalKey", request_body = RemoveApprovalKey,
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = ApprovalKeyResponse, description = "The key, and the change that waits")))]
#[post("/tenants/{id}/approval-key/remove")]
async fn remove_approval_key(
    cx: Data<Context>,
    caller: Caller<WritePolicies>,
    id: Path<String>,
    body: Body<RemoveApprovalKey>,
) -> Result<Json<ApprovalKeyResponse>, Error> {
    Ok(Json(approval_key::remove(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Cancel an ordered change of a tenant's approval key
///
/// The key stays in effect. Without such a change nothing happens.
#[utoipa::path(tag = "Tenants", operation_id = "cancelApprovalKeyChange", request_body = CancelApprovalKeyChange,
    params(("id" = TenantId, Path, example = "acme", description = "Portal's identifier of the tenant")),
    responses((status = 200, body = ApprovalKeyResponse, description = "The key in effect")))]
#[post("/tenants/{id}/approval-key/cancel")]
async fn cancel_approval_key_change(
    cx: Data<Context>,
    caller: Caller<WritePolicies>,
    id: Path<String>,
    body: Body<CancelApprovalKeyChange>,
) -> Result<Json<ApprovalKeyResponse>, Error> {
    Ok(Json(approval_key::cancel(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}
