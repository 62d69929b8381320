//! Readiness: what must work so that callers can be served, one function for each check.

use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::error::Error;
use crate::http::PublicProblems;
use crate::store::within;

/// Time-out of `/readyz`: load balancers wait no longer.
const READY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Check that the service is ready
///
/// Reads the database, compares it with the checkpoints that were kept outside, and writes a row of its own unless that
/// succeeded within the last five seconds. `detail` names the check that failed: `reads`, `access`, `checkpoints` or
/// `writes`. 503 may pass by itself, but for `restore_required`: a database that was restored from a backup is not ready
/// until `magic-link restore`. 500 does not pass. Answers within two seconds, also when the database does not.
#[utoipa::path(tag = "Operations", operation_id = "getReadiness", security(()),
    responses((status = 200, body = Readiness, description = "The service is ready"), PublicProblems))]
#[get("/readyz")]
pub(super) async fn readyz(
    cx: web::Data<Context>,
    folder: web::Data<audit::CheckpointFolder>,
) -> Result<HttpResponse, Error> {
    let issuing_frozen = within(READY_TIMEOUT, checks(&cx, &folder)).await?;
    Ok(HttpResponse::Ok().json(Readiness { issuing_frozen }))
}

/// The service is ready.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    /// Whether an operator has stopped the issuing of links; everything else goes on.
    issuing_frozen: bool,
}

async fn checks(cx: &Context, folder: &audit::CheckpointFolder) -> Result<bool, Error> {
    let now = cx.clock.now();
    passed(cx, "reads", "the database cannot be read", reads(cx, now).await)?;
    passed(cx, "access", "nobody's access can be looked up", access(cx, now).await)?;
    let behind = "the database is behind a checkpoint that was kept outside, or its restore is not complete: run \
                  `magic-link restore`";
    passed(cx, "checkpoints", behind, audit::require_whole(cx, folder).await)?;
    passed(cx, "writes", "the database cannot be written", writes(cx, now).await)?;
    Ok(cx.snapshot(None, None, now).await?.epochs.frozen)
}

/// Notes the outcome of a check, and names it to the caller.
fn passed(cx: &Context, check: &'static str, what: &'static str, outcome: Result<(), Error>) -> Result<(), Error> {
    cx.metrics.ready.with_label_values(&[check]).set(i64::from(outcome.is_ok()));
    outcome.map_err(|error| {
        tracing::warn!(ready.check = check, error.cause = %error, "not ready");
        error.detail(format!("{check}: {what}"))
    })
}

/// The signing keys can be read.
async fn reads(cx: &Context, now: Timestamp) -> Result<(), Error> {
    cx.tokens.refresh(&cx.store, now).await
}

/// Access can be looked up, as every request does, on the connection that is kept for it.
async fn access(cx: &Context, now: Timestamp) -> Result<(), Error> {
    cx.snapshot(None, None, now).await.map(drop)
}

/// A transaction can be committed.
async fn writes(cx: &Context, now: Timestamp) -> Result<(), Error> {
    cx.store.can_be_written(now).await
}
