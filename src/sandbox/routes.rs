//! `/v1/sandbox`

use actix_web::web::Data;
use actix_web::{get, post};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{MoveClock, SandboxClock};
use crate::context::Context;
use crate::error::Error;
use crate::http::{Admin, Body, Caller, Json};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(get_sandbox_clock).service(move_sandbox_clock);
}

/// Read the clock of a sandbox
///
/// `not_found` where the service is no sandbox. Needs a client of every tenant and portal.
///
/// To try it, make a sandbox: `magic-link sandbox init`.
#[utoipa::path(tag = "Sandbox", operation_id = "getSandboxClock",
    responses((status = 200, body = SandboxClock, description = "The clock")))]
#[get("/sandbox/clock")]
async fn get_sandbox_clock(cx: Data<Context>, caller: Caller<Admin>) -> Result<Json<SandboxClock>, Error> {
    Ok(Json(super::clock(&cx, &caller)?))
}

/// Move the clock of a sandbox forward
///
/// By `advance_seconds`, or to a moment; give one of them. It is in force for every copy of the service from this
/// response on, and what is due by then is done within seconds: links and sessions expire, requests
/// lapse, payloads are erased. It never moves back, and is at most 400 days ahead of the true time.
/// `not_found` where the service is no sandbox. Needs a client of every tenant and portal.
///
/// To try it, make a sandbox: `magic-link sandbox init`.
#[utoipa::path(tag = "Sandbox", operation_id = "moveSandboxClock", request_body = MoveClock,
    responses((status = 200, body = SandboxClock, description = "The clock after the move")))]
#[post("/sandbox/clock")]
async fn move_sandbox_clock(
    cx: Data<Context>,
    caller: Caller<Admin>,
    body: Body<MoveClock>,
) -> Result<Json<SandboxClock>, Error> {
    Ok(Json(super::move_clock(&cx, &caller, body.value).await?))
}
