//! `/v1/sessions` and `/v1/introspect`

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, Accept, Header, Quality};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, get, post};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::introspect::{Introspection, IntrospectionRequest};
use super::report::{ReportEvents, Reported};
use super::{EndSession, OpenSession, OpenedSession, RevocationRequest, RevokeSession, SessionResponse};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page};
use crate::error::Error;
use crate::http::{
    BATCH_LIMIT, Body, Caller, Created, IdempotencyHeader, IntrospectSessions, Json, Path, Query, ReadLinks,
    RedeemSessions, RevokeLinks, TokenRequest, WriteAudit, json_answer,
};
use crate::id::SessionId;
use crate::records::session_lists::SessionFilter;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(introspect_token)
        .service(open_session)
        .service(list_sessions)
        .service(get_session)
        .service(end_session)
        .service(revoke_session)
        .service(report_events)
        .service(revoke_token);
}

/// Open a session
///
/// Redeems the code from the callback (or the link token, for a portal with its
/// own landing page). This is the only call that spends a link. With an
/// `Idempotency-Key` a lost response can be requested again while the session is active.
///
/// To try it, take the token of a mail, or the code that the landing page hands to the portal: an example would have expired.
#[utoipa::path(tag = "Sessions", operation_id = "openSession", request_body = OpenSession,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe while the session is active")),
    responses((status = 201, body = OpenedSession, description = "The opened session, with its access token")))]
#[post("/sessions")]
async fn open_session(
    cx: Data<Context>,
    caller: Caller<RedeemSessions>,
    idempotency: IdempotencyHeader,
    body: Body<OpenSession>,
) -> Result<Created<OpenedSession>, Error> {
    let value = super::open(&cx, &caller, body.value, idempotency, cx.clock.now()).await?;
    Ok(Created { location: Some(format!("/v1/sessions/{}", value.id)), value })
}

/// List sessions
///
/// Newest first, within the client's tenants and portal. Filters are combined.
#[utoipa::path(tag = "Sessions", operation_id = "listSessions", params(SessionFilter),
    responses((status = 200, body = Page<SessionResponse>, description = "A page of sessions")))]
#[get("/sessions")]
async fn list_sessions(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    filter: Query<SessionFilter>,
) -> Result<Json<Page<SessionResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner(), cx.clock.now()).await?))
}

/// Read a session
///
/// Who visits as whom, until when, how it ended, and which reports are missing.
#[utoipa::path(tag = "Sessions", operation_id = "getSession",
    params(("id" = SessionId, Path, description = "Identifier of the session")),
    responses((status = 200, body = SessionResponse, description = "The session")))]
#[get("/sessions/{id}")]
async fn get_session(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    id: Path<SessionId>,
) -> Result<Json<SessionResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// End a session
///
/// With `consultant_done` the consultant is on record as who ended it, otherwise the
/// client or the person it names. A session that a person other than the consultant
/// has ended takes the device along that is remembered for its link. The closing counts
/// show whether reports are missing; they are accepted also for a session that has
/// already ended.
#[utoipa::path(tag = "Sessions", operation_id = "endSession", request_body = EndSession,
    params(("id" = SessionId, Path, description = "Identifier of the session")),
    responses((status = 200, body = SessionResponse, description = "The session")))]
#[post("/sessions/{id}/end")]
async fn end_session(
    cx: Data<Context>,
    caller: Caller<RedeemSessions>,
    id: Path<SessionId>,
    body: Body<EndSession>,
) -> Result<Json<SessionResponse>, Error> {
    Ok(Json(super::end(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Revoke a session
///
/// Its link stays as it is: the consultant can have a fresh one mailed. From this response
/// on, introspection reports the access token as inactive. A device that is remembered for
/// the link is forgotten, and a visit that has followed on it ends. A session that has
/// already ended keeps its end.
#[utoipa::path(tag = "Sessions", operation_id = "revokeSession", request_body = RevokeSession,
    params(("id" = SessionId, Path, description = "Identifier of the session")),
    responses((status = 200, body = SessionResponse, description = "The session")))]
#[post("/sessions/{id}/revoke")]
async fn revoke_session(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    id: Path<SessionId>,
    body: Body<RevokeSession>,
) -> Result<Json<SessionResponse>, Error> {
    Ok(Json(super::revoke(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Report activity events
///
/// What the consultant viewed, exported and changed, numbered from 1 per source.
/// A batch is recorded as a whole or not at all; repeating it is safe. Reports are
/// accepted until 72 hours after the session's end, and marked `late` once it has ended.
#[utoipa::path(tag = "Sessions", operation_id = "reportEvents", request_body = ReportEvents,
    params(("id" = SessionId, Path, description = "Identifier of the session")),
    responses((status = 200, body = Reported, description = "Every event is recorded")))]
#[post("/sessions/{id}/events")]
async fn report_events(
    cx: Data<Context>,
    caller: Caller<WriteAudit>,
    id: Path<SessionId>,
    body: Body<ReportEvents, BATCH_LIMIT>,
) -> Result<Json<Reported>, Error> {
    Ok(Json(super::report(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Revoke an access token
///
/// RFC 7009. Authenticates like `introspectToken`. Ends the session of a token of the client's own portal and tenants,
/// with the device that is remembered for its link. The answer is the same for every other token, and for one whose session has ended.
#[utoipa::path(tag = "Sessions", operation_id = "revokeToken",
    request_body(content = RevocationRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "The token is invalid from now on, or was before")))]
#[post("/revoke")]
async fn revoke_token(cx: Data<Context>, request: TokenRequest<RedeemSessions>) -> Result<HttpResponse, Error> {
    let now = cx.clock.now();
    let (caller, token) = request.authenticate(&cx, now).await?;
    super::revoke_token(&cx, &caller, &token, now).await?;
    Ok(HttpResponse::Ok().finish())
}

/// Introspect an access token
///
/// RFC 7662. A client may send its credentials in the form (`client_secret_post`) instead of
/// the header; in two places, or twice, they are `invalid_request`. With `Accept: application/token-introspection+jwt` the answer is
/// signed (RFC 9701). Only tokens of the client's own portal and tenants are active;
/// for every other token it is `{"active": false}`, without a reason.
#[utoipa::path(tag = "Sessions", operation_id = "introspectToken",
    request_body(content = IntrospectionRequest, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, content((Introspection = "application/json"), (inline(SignedAnswer) = "application/token-introspection+jwt")), description = "Whether the token is active, and its claims if it is")))]
#[post("/introspect")]
async fn introspect_token(
    cx: Data<Context>,
    request: TokenRequest<IntrospectSessions>,
    accept: HttpRequest,
) -> Result<HttpResponse, Error> {
    let now = cx.clock.now();
    let asked = super::introspect::introspect(&cx, &request, now).await?;
    if wants_signed(&accept) {
        let signed = super::introspect::sign(&cx, &asked, now)?;
        return Ok(HttpResponse::Ok().content_type(SIGNED_INTROSPECTION).body(signed));
    }
    match asked.active {
        Some(json) => Ok(HttpResponse::Ok().content_type("application/json").body(json)),
        None => Ok(json_answer(StatusCode::OK, &Introspection::default())),
    }
}

/// The answer as a signed JWT.
#[derive(ToSchema)]
#[schema(max_length = 16384)]
#[expect(dead_code, reason = "only its schema is used")]
struct SignedAnswer(String);

const SIGNED_INTROSPECTION: &str = "application/token-introspection+jwt";

/// Whether the caller accepts the signed form by name, and likes it better than JSON: generated clients name all that is
/// described, and read JSON. What has no name of its own has the weight of the nearest wildcard (RFC 9110, 12.5.1), and
/// comes second to what has one.
fn wants_signed(request: &HttpRequest) -> bool {
    let mut texts = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    if !texts.any(|text| text.to_ascii_lowercase().contains(SIGNED_INTROSPECTION)) {
        return false;
    }
    let Ok(Accept(accepted)) = Accept::parse(request) else { return false };
    let weight = |name: &str| {
        let named = accepted.iter().filter(|kind| kind.item.essence_str().eq_ignore_ascii_case(name));
        named.map(|kind| kind.quality).max()
    };
    let signed = weight(SIGNED_INTROSPECTION).unwrap_or(Quality::ZERO);
    match weight("application/json") {
        Some(json) => signed > json,
        None => signed > Quality::ZERO && Some(signed) >= weight("application/*").or_else(|| weight("*/*")),
    }
}
