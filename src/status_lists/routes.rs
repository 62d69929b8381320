//! `/v1/status-lists`

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::StatusLists;
use crate::context::Context;
use crate::domain::ListNumber;
use crate::error::Error;
use crate::http::{Path, cached};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(get_status_lists).service(get_status_list);
}

/// List of status lists.
#[derive(Serialize, ToSchema)]
struct StatusListAddresses {
    /// URLs of the status lists, newest first.
    #[schema(max_items = 10000, value_type = Vec<StatusListAddress>)]
    status_lists: Vec<String>,
}

/// URL of a status list.
#[derive(ToSchema)]
#[schema(max_length = 500, example = "https://links.example/v1/status-lists/1")]
#[expect(dead_code, reason = "only its schema is used")]
struct StatusListAddress(String);

/// Status list token (JWT).
#[derive(ToSchema)]
#[schema(max_length = 16384, example = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl")]
#[expect(dead_code, reason = "only its schema is used")]
struct StatusListToken(String);

/// `Cache-Control` that requires caches to revalidate the response each time (RFC 9111).
const ASK_AGAIN: &str = "no-cache";

/// List the status lists
///
/// URLs of every list that a valid access token can name, for verifiers that fetch
/// the lists beforehand.
#[utoipa::path(tag = "Discovery", operation_id = "getStatusLists", security(()),
    responses((status = 200, body = StatusListAddresses, description = "URLs of the status lists")))]
#[get("/status-lists")]
async fn get_status_lists(cx: Data<Context>, request: HttpRequest) -> Result<HttpResponse, Error> {
    let status_lists = super::addresses(&cx, cx.clock.now()).await?;
    let text = serde_json::to_string(&StatusListAddresses { status_lists }).map_err(Error::internal)?;
    Ok(cached(&request, ASK_AGAIN, "application/json", &text))
}

/// Read a status list
///
/// Status list token (draft-ietf-oauth-status-list-21): one bit for each session, 1
/// once it has ended. Verify `typ`, signature, `sub` (the URL of the list) and `exp`;
/// cache it for `ttl` seconds at most. If a check fails, or the index is outside of
/// the list, refuse the access token.
#[utoipa::path(tag = "Discovery", operation_id = "getStatusList", security(()),
    params(("id" = ListNumber, Path, example = "1", description = "Number of the status list")),
    responses((status = 200, body = StatusListToken, content_type = "application/statuslist+jwt", description = "Status list token")))]
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
