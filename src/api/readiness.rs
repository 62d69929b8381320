//! Readiness: what must work so that callers can be served, one function for each check.

use std::time::Duration;

use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::{self, FolderFault};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db;
use crate::error::{Code, Error};
use crate::http::Stopping;
use crate::store::within;

/// Time-out of `/readyz`: load balancers wait no longer.
const READY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Check that the service is ready
///
/// Reads the database, compares it with the checkpoints that were kept outside, and writes a row of its own unless that
/// succeeded within the last five seconds. `detail` names the check that failed: `schema`, `reads`, `clock`, `access`,
/// `checkpoints` or `writes`. 503 may pass by itself, but for `restore_required`: a database that was restored from a backup is not ready
/// until `magic-link restore`, and for a copy that is about to stop (`stopping`). 500 does not pass. Answers within two seconds, also when the database does not.
#[utoipa::path(tag = "Operations", operation_id = "getReadiness", security(()),
    responses((status = 200, body = Readiness, description = "The service is ready")))]
#[get("/readyz")]
pub(super) async fn readyz(
    cx: web::Data<Context>,
    folder: web::Data<audit::CheckpointFolder>,
    stopping: web::Data<Stopping>,
) -> Result<HttpResponse, Error> {
    if stopping.is_set() {
        return Err(Error::unavailable().detail("stopping: this copy of the service ends; ask another one"));
    }
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
    let difference = cx.store.read(|conn| Ok(db::difference(conn)?)).await;
    let fits = difference.as_ref().is_ok_and(db::Difference::is_none);
    // Before the reads, which may fail because of it.
    if difference.is_ok() {
        let is_whole = difference.as_ref().is_ok_and(|difference| difference.missing.is_empty());
        let apart = if is_whole {
            "the database has migrations that this version of the program cannot work beside, or lacks some: run the \
             version that applied them, or `magic-link migrate`"
        } else {
            "the database lacks triggers, or they are switched off: restore the backup as a whole"
        };
        passed(cx, "schema", apart, if fits { Ok(()) } else { Err(Error::unavailable()) })?;
    }
    let read = match difference {
        Ok(_) => reads(cx, now).await,
        Err(error) => Err(error),
    };
    passed(cx, "reads", "the database cannot be read", read)?;
    let apart =
        "this machine's clock and the database's are more than 30 seconds apart: let both follow the same NTP servers";
    passed(cx, "clock", apart, clock(cx))?;
    passed(cx, "access", "nobody's access can be looked up", access(cx, now).await)?;
    let behind = "the database is behind a checkpoint that was kept outside, or its restore is not complete: run \
                  `magic-link restore`";
    let compared = audit::compare_checkpoints(cx, folder).await.map(drop);
    let is_behind = compared.as_ref().is_err_and(|error| error.code() == Code::RestoreRequired);
    let fault = folder.fault().filter(|_| !is_behind).map_or(behind, FolderFault::words);
    passed(cx, "checkpoints", fault, compared)?;
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

/// The machine and the database agree on the time: otherwise one of them is wrong, and nobody knows which.
fn clock(cx: &Context) -> Result<(), Error> {
    if cx.clock.is_in_doubt() { Err(Error::unavailable()) } else { Ok(()) }
}

/// Access can be looked up, as every request does, on the connection that is kept for it.
async fn access(cx: &Context, now: Timestamp) -> Result<(), Error> {
    cx.snapshot(None, None, now).await.map(drop)
}

/// A transaction can be committed.
async fn writes(cx: &Context, now: Timestamp) -> Result<(), Error> {
    cx.store.can_be_written(now).await
}
