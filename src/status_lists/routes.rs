//! `/v1/status-lists`

use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::StatusLists;
use crate::context::Context;
use crate::error::Error;
use crate::http::{PublicProblems, cached};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(get_status_lists).service(get_status_list);
}

/// Addresses of the status lists.
#[derive(Serialize, ToSchema)]
struct StatusListAddresses {
    /// The newest first.
    #[schema(max_items = 10000, value_type = Vec<StatusListAddress>)]
    status_lists: Vec<String>,
}

/// The address of a status list; it stands in the API description only.
#[derive(ToSchema)]
#[schema(max_length = 500, example = "https://links.example/v1/status-lists/1")]
#[expect(dead_code, reason = "only its schema is used")]
struct StatusListAddress(String);

/// A signed list; it stands in the API description only.
#[derive(ToSchema)]
#[schema(max_length = 16384, example = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl")]
#[expect(dead_code, reason = "only its schema is used")]
struct StatusListToken(String);

/// Whoever keeps an answer asks each time whether it is still the same.
const ASK_AGAIN: &str = "no-cache";

/// List the status lists
///
/// Every list that an access token which still counts can name, for verifiers
/// that fetch them beforehand.
#[utoipa::path(tag = "Discovery", operation_id = "getStatusLists", security(()),
    responses((status = 200, body = StatusListAddresses, description = "Their addresses"), PublicProblems))]
#[get("/status-lists")]
async fn get_status_lists(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    let status_lists = super::addresses(&cx, cx.clock.now()).await?;
    let text = serde_json::to_string(&StatusListAddresses { status_lists }).map_err(Error::internal)?;
    Ok(cached(&request, ASK_AGAIN, "application/json", &text))
}

/// Read a status list
///
/// A Status List Token (draft-ietf-oauth-status-list-21): one bit a session, 1
/// once it is over. Verify `typ`, signature, `sub` (the list's own address) and
/// `exp`; keep it for `ttl` seconds at most. Any failure, or an index outside of
/// the list, means: refuse.
#[utoipa::path(tag = "Discovery", operation_id = "getStatusList", security(()),
    params(("id" = String, Path, max_length = 20, example = "1", description = "The list")),
    responses((status = 200, body = StatusListToken, content_type = "application/statuslist+jwt", description = "The signed list"),
        PublicProblems))]
#[get("/status-lists/{id}")]
async fn get_status_list(
    cx: Data<Context>,
    cache: Data<StatusLists>,
    id: Path<i64>,
    request: HttpRequest,
) -> Result<HttpResponse, Error> {
    let token = super::signed(&cx, &cache, id.into_inner(), cx.clock.now()).await?;
    Ok(cached(&request, ASK_AGAIN, "application/statuslist+jwt", &token))
}
