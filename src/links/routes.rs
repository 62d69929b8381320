//! `/v1/magic-links` and the landing page at `/l`

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::{self, Data};
use actix_web::{Either, HttpResponse, get, middleware, patch, post, put};
use utoipa_actix_web::service_config::ServiceConfig;

use super::decisions::{ApproveExtension, ApproveLink, DenyLink, ReviewLink, WithdrawLink};
use super::device::{self, DeviceRequest};
use super::landing::{self, Continued, FreshLink, LandingRequest, Preview};
use super::step_up::{self, VerifyCode};
use super::{
    CorrectLink, ExtendLink, IssueLink, Issuing, LinkResponse, ResendLink, RevokeLink, SetIssuing, ShortenLink,
    approval, extensions,
};
use crate::context::Context;
use crate::domain::{IdempotencyKeyText, Page};
use crate::error::{Code, Error};
use crate::http::{
    Accepted, Admin, ApproveLinks, AskForLinks, Body, Caller, Created, IdempotencyHeader, IssueLinks, Json,
    PAGE_OF_A_LINK, Path, Query, ReadLinks, RevokeLinks, limit_public,
};
use crate::id::{ExtensionId, LinkId};
use crate::mail;
use crate::records::link_lists::LinkFilter;

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(issue_magic_link)
        .service(list_magic_links)
        .service(get_magic_link)
        .service(approve_magic_link)
        .service(deny_magic_link)
        .service(withdraw_magic_link)
        .service(revoke_magic_link)
        .service(resend_magic_link)
        .service(extend_magic_link)
        .service(approve_extension)
        .service(deny_extension)
        .service(withdraw_extension)
        .service(shorten_magic_link)
        .service(correct_magic_link)
        .service(review_magic_link)
        .service(get_issuing)
        .service(set_issuing);
}

pub(crate) fn configure_landing(service: &mut ServiceConfig) {
    service.service(
        utoipa_actix_web::scope::scope("/l")
            .wrap(middleware::from_fn(limit_public))
            .service(preview_link)
            .service(continue_link)
            .service(verify_code)
            .service(reenter_link)
            .service(forget_device)
            .service(request_fresh_link),
    );
}

/// Where mail gateways and mail programs send people instead of `/l#<token>`: the `#` became a part of the path, escaped
/// once or several times, or another sign (`*`, `&#35;`, `-23`); it was lost; a slash, a parameter or what stood around the
/// link came with it; or the path is in capitals. Only what goes on as a word does is another path.
const MANGLED: &str = r"/{slashes:/*}{l:[lL]}{mangled:/*(?s:(?:eyJ|[^A-Za-z0-9_/]).*)?}";

/// Any other path that holds a token is one of the page's, too: whoever opens it has a link of ours.
const WITH_TOKEN: &str = r"/{mangled:(?s:.*eyJ[A-Za-z0-9_-]*\.eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{86}.*)}";

/// The landing page with its style sheet and scripts. To read them changes nothing.
pub(crate) fn configure_page(service: &mut web::ServiceConfig) {
    const PAGE: &str = include_str!("landing/page.html");
    for (path, content_type, text) in [
        ("/l", "text/html; charset=utf-8", PAGE),
        ("/l/page.css", "text/css; charset=utf-8", include_str!("landing/page.css")),
        ("/l/page.js", SCRIPT, include_str!("landing/page.js")),
        ("/l/paste.js", SCRIPT, include_str!("landing/paste.js")),
        ("/l/device.js", SCRIPT, include_str!("landing/device.js")),
        ("/l/watch.js", SCRIPT, include_str!("landing/watch.js")),
    ] {
        service.service(web::resource(path).get(move || async move { landing_file(content_type, text) }));
    }
    for path in [MANGLED, WITH_TOKEN] {
        let page = || async { landing_file("text/html; charset=utf-8", PAGE) };
        service.service(web::resource(path).name(PAGE_OF_A_LINK).get(page));
    }
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

fn landing_file(content_type: &'static str, text: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header(("cross-origin-opener-policy", "same-origin"))
        .insert_header((
            "content-security-policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
        ))
        .body(text)
}

/// Issue a magic link
///
/// Writes the link, its audit event and its mail job in one transaction. No
/// response contains the token: it is created when the mail is sent.
///
/// Where the tenant's policy wants an approval, or the client has `links:request` alone, the
/// link is `pending`: the tenant's contacts are asked, and nothing else is mailed until
/// somebody approves it (`approval.lapses_at`).
#[utoipa::path(tag = "Magic links", operation_id = "issueMagicLink", request_body = IssueLink,
    params(("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 201, body = LinkResponse, description = "The issued link"),
        (status = 200, body = LinkResponse, description = "The link as it would be, for `validate_only`")))]
#[post("/magic-links")]
async fn issue_magic_link(
    cx: Data<Context>,
    limits: Data<mail::Limits>,
    caller: Caller<AskForLinks>,
    idempotency: IdempotencyHeader,
    body: Body<IssueLink>,
) -> Result<Either<Created<LinkResponse>, Json<LinkResponse>>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    if body.value.validate_only {
        if key.is_some() {
            return Err(Error::new(Code::InvalidHeader).detail("validate_only takes no Idempotency-Key"));
        }
        return Ok(Either::Right(Json(super::draft(&cx, &caller, body.value, cx.clock.now()).await?)));
    }
    let value = super::issue(&cx, &limits, &caller, body.value, key, cx.clock.now()).await?;
    Ok(Either::Left(Created { location: Some(format!("/v1/magic-links/{}", value.id)), value }))
}

/// List magic links
///
/// Newest first, within the client's tenants and portal. Filters are combined. A request that
/// waits for an approval is listed as a link is.
#[utoipa::path(tag = "Magic links", operation_id = "listMagicLinks", params(LinkFilter),
    responses((status = 200, body = Page<LinkResponse>, description = "A page of links")))]
#[get("/magic-links")]
async fn list_magic_links(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    filter: Query<LinkFilter>,
) -> Result<Json<Page<LinkResponse>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner(), cx.clock.now()).await?))
}

/// Read a magic link
///
/// State, window, mail, use and reports, and who granted, changed and ended it. Never the token.
#[utoipa::path(tag = "Magic links", operation_id = "getMagicLink",
    params(("id" = LinkId, Path, description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[get("/magic-links/{id}")]
async fn get_magic_link(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    id: Path<LinkId>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(super::read(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Approve a magic link
///
/// One that waits for an approval: it exists from here on, and is mailed. The approval may
/// shorten it and lower its access. The window begins now at the earliest, in full length.
/// What issuing judges is judged again: the tenant's policy, the consultant, a freeze, and
/// bulk revocations since the request.
#[utoipa::path(tag = "Magic links", operation_id = "approveMagicLink", request_body = ApproveLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hb8z", description = "Identifier of the link"),
        ("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/approve")]
async fn approve_magic_link(
    cx: Data<Context>,
    caller: Caller<ApproveLinks>,
    id: Path<LinkId>,
    idempotency: IdempotencyHeader,
    body: Body<ApproveLink>,
) -> Result<Json<LinkResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    Ok(Json(approval::approve(&cx, &caller, id.into_inner(), body.value, key, cx.clock.now()).await?))
}

/// Deny a magic link
///
/// One that waits for an approval. The person who asked for it is told by whom and why.
#[utoipa::path(tag = "Magic links", operation_id = "denyMagicLink", request_body = DenyLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hb9z", description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/deny")]
async fn deny_magic_link(
    cx: Data<Context>,
    caller: Caller<ApproveLinks>,
    id: Path<LinkId>,
    body: Body<DenyLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(approval::deny(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Withdraw a request for a magic link
///
/// One that waits for an approval. A revocation of the link does the same.
#[utoipa::path(tag = "Magic links", operation_id = "withdrawMagicLink", request_body = WithdrawLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hbaz", description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/withdraw")]
async fn withdraw_magic_link(
    cx: Data<Context>,
    caller: Caller<AskForLinks>,
    id: Path<LinkId>,
    body: Body<WithdrawLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(approval::withdraw(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Revoke a magic link
///
/// Ends its sessions and cancels its mails. From this response on, introspection
/// reports its tokens as inactive. A link that has already ended is not changed.
#[utoipa::path(tag = "Magic links", operation_id = "revokeMagicLink", request_body = RevokeLink,
    params(("id" = LinkId, Path, description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/revoke")]
async fn revoke_magic_link(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    id: Path<LinkId>,
    body: Body<RevokeLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(super::revoke(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Mail a fresh link
///
/// To the same registered address, at most once in the cool-down. Every earlier
/// token and code of the link is then invalid.
#[utoipa::path(tag = "Magic links", operation_id = "resendMagicLink", request_body = ResendLink,
    params(("id" = LinkId, Path, description = "Identifier of the link")),
    responses((status = 202, body = LinkResponse, description = "The link, with its mail queued")))]
#[post("/magic-links/{id}/resend")]
async fn resend_magic_link(
    cx: Data<Context>,
    limits: Data<mail::Limits>,
    caller: Caller<IssueLinks>,
    id: Path<LinkId>,
    body: Body<ResendLink>,
) -> Result<Accepted<LinkResponse>, Error> {
    Ok(Accepted::new(super::resend(&cx, &limits, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Extend a magic link
///
/// Its window ends later. A live session goes on to its own end, and the next one reaches
/// further. The whole window lasts at most as long as a link may (`links.max_duration_hours`).
/// Refused while issuing is frozen, and for a link that has ended.
///
/// Where the tenant's policy wants an approval for so long a link, or the client has
/// `links:request` alone, the link stays as it is, and `extension` shows what waits.
#[utoipa::path(tag = "Magic links", operation_id = "extendMagicLink", request_body = ExtendLink,
    params(("id" = LinkId, Path, description = "Identifier of the link"),
        ("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 201, body = LinkResponse, description = "The link with its new end")))]
#[post("/magic-links/{id}/extend")]
async fn extend_magic_link(
    cx: Data<Context>,
    caller: Caller<AskForLinks>,
    id: Path<LinkId>,
    idempotency: IdempotencyHeader,
    body: Body<ExtendLink>,
) -> Result<Created<LinkResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let value = super::extend(&cx, &caller, id.into_inner(), body.value, key, cx.clock.now()).await?;
    Ok(Created { location: Some(format!("/v1/magic-links/{}", value.id)), value })
}

/// Approve an extension
///
/// One that waits for an approval (`extension` of the link): the link ends later from here
/// on. The approval may be of fewer hours. What extending judges is judged again.
#[utoipa::path(tag = "Magic links", operation_id = "approveExtension", request_body = ApproveExtension,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hc2z", description = "Identifier of the link"),
        ("extension_id" = ExtensionId, Path, example = "ext_01kaq3v9e8fwmvd2x7n0c5hc2z", description = "Identifier of the extension")),
    responses((status = 200, body = LinkResponse, description = "The link with its new end")))]
#[post("/magic-links/{id}/extensions/{extension_id}/approve")]
async fn approve_extension(
    cx: Data<Context>,
    caller: Caller<ApproveLinks>,
    ids: Path<(LinkId, ExtensionId)>,
    body: Body<ApproveExtension>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(extensions::approve(&cx, &caller, ids.into_inner(), body.value, cx.clock.now()).await?))
}

/// Deny an extension
///
/// One that waits for an approval. The link stays as it is; the person who asked is told by
/// whom and why.
#[utoipa::path(tag = "Magic links", operation_id = "denyExtension", request_body = DenyLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hc3z", description = "Identifier of the link"),
        ("extension_id" = ExtensionId, Path, example = "ext_01kaq3v9e8fwmvd2x7n0c5hc3z", description = "Identifier of the extension")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/extensions/{extension_id}/deny")]
async fn deny_extension(
    cx: Data<Context>,
    caller: Caller<ApproveLinks>,
    ids: Path<(LinkId, ExtensionId)>,
    body: Body<DenyLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(extensions::deny(&cx, &caller, ids.into_inner(), body.value, cx.clock.now()).await?))
}

/// Withdraw a request for an extension
///
/// One that waits for an approval. The link stays as it is.
#[utoipa::path(tag = "Magic links", operation_id = "withdrawExtension", request_body = WithdrawLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hc4z", description = "Identifier of the link"),
        ("extension_id" = ExtensionId, Path, example = "ext_01kaq3v9e8fwmvd2x7n0c5hc4z", description = "Identifier of the extension")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/extensions/{extension_id}/withdraw")]
async fn withdraw_extension(
    cx: Data<Context>,
    caller: Caller<AskForLinks>,
    ids: Path<(LinkId, ExtensionId)>,
    body: Body<WithdrawLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(extensions::withdraw(&cx, &caller, ids.into_inner(), body.value, cx.clock.now()).await?))
}

/// Shorten a magic link
///
/// Its window ends earlier, and so does its live session, whose introspection tells the new
/// `exp`. A link that ends then already is not changed; one that has ended is refused.
#[utoipa::path(tag = "Magic links", operation_id = "shortenMagicLink", request_body = ShortenLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hb6z", description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link with its new end")))]
#[post("/magic-links/{id}/shorten")]
async fn shorten_magic_link(
    cx: Data<Context>,
    caller: Caller<RevokeLinks>,
    id: Path<LinkId>,
    body: Body<ShortenLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(super::shorten(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Review an emergency link
///
/// Says what was found of an access that was issued in an emergency: once, after it has ended, by somebody else than
/// who granted it. Until then no other emergency link is issued for the same profile.
#[utoipa::path(tag = "Magic links", operation_id = "reviewMagicLink", request_body = ReviewLink,
    params(("id" = LinkId, Path, example = "mlk_01kaq3v9e8fwmvd2x7n0c5hbbz", description = "Identifier of the link"),
        ("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Makes a repeat safe; kept for 24 hours")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[post("/magic-links/{id}/review")]
async fn review_magic_link(
    cx: Data<Context>,
    caller: Caller<ApproveLinks>,
    id: Path<LinkId>,
    idempotency: IdempotencyHeader,
    body: Body<ReviewLink>,
) -> Result<Json<LinkResponse>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    Ok(Json(super::review(&cx, &caller, id.into_inner(), body.value, key, cx.clock.now()).await?))
}

/// Correct a magic link
///
/// Its reason and ticket. The evidence of the link shows each of them, by whom and when.
/// Refused for a link that has ended, or that a bulk revocation matches.
#[utoipa::path(tag = "Magic links", operation_id = "correctMagicLink", request_body = CorrectLink,
    params(("id" = LinkId, Path, description = "Identifier of the link")),
    responses((status = 200, body = LinkResponse, description = "The link")))]
#[patch("/magic-links/{id}")]
async fn correct_magic_link(
    cx: Data<Context>,
    caller: Caller<IssueLinks>,
    id: Path<LinkId>,
    body: Body<CorrectLink>,
) -> Result<Json<LinkResponse>, Error> {
    Ok(Json(super::correct(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Read whether links are issued
///
/// Needs a client of every tenant and portal. `/readyz` says it to everybody, without
/// the reason.
#[utoipa::path(tag = "Operations", operation_id = "getIssuing",
    responses((status = 200, body = Issuing, description = "Whether links are issued")))]
#[get("/issuing")]
async fn get_issuing(cx: Data<Context>, caller: Caller<Admin>) -> Result<Json<Issuing>, Error> {
    Ok(Json(super::issuing(&cx, &caller).await?))
}

/// Stop or allow the issuing of links
///
/// A freeze holds for every copy of the service from its next request on; existing
/// links and sessions are not affected. Freezing again changes nothing. None ends
/// before a restore is complete. Needs a client of every tenant and portal.
#[utoipa::path(tag = "Operations", operation_id = "setIssuing", request_body = SetIssuing,
    responses((status = 200, body = Issuing, description = "Whether links are issued")))]
#[put("/issuing")]
async fn set_issuing(cx: Data<Context>, caller: Caller<Admin>, body: Body<SetIssuing>) -> Result<Json<Issuing>, Error> {
    Ok(Json(super::set_issuing(&cx, &caller, body.value, cx.clock.now()).await?))
}

/// Preview a link
///
/// For landing pages. Changes nothing. The token's signature is verified, but it
/// may be expired or replaced, as `state` shows.
///
/// To try it, take the token of a mail: an example would have expired.
#[utoipa::path(tag = "Landing page", operation_id = "previewLink", request_body = LandingRequest,
    responses((status = 200, body = Preview, description = "Preview of the link")), security(()))]
#[post("/preview")]
async fn preview_link(cx: Data<Context>, body: Body<LandingRequest>) -> Result<Json<Preview>, Error> {
    Ok(Json(landing::preview(&cx, &body.value.token, cx.clock.now()).await?))
}

/// Continue to the portal
///
/// Returns the portal's callback with an authorization code that is valid for a
/// minute, or mails a one-time code to the registered address if the portal
/// requires one (`step_up`). The link is spent only when the portal redeems.
///
/// To try it, take the token of a mail: an example would have expired.
#[utoipa::path(tag = "Landing page", operation_id = "continueLink", request_body = LandingRequest,
    responses((status = 200, body = Continued, description = "Next step of the page")), security(()))]
#[post("/continue")]
async fn continue_link(cx: Data<Context>, body: Body<LandingRequest>) -> Result<Json<Continued>, Error> {
    Ok(Json(landing::proceed(&cx, &body.value.token, cx.clock.now()).await?))
}

/// Verify a one-time code
///
/// For portals that require one. The code is valid for ten minutes and five
/// attempts, counted before the comparison, on any page with a token of the same
/// link. A `page_secret`, if given, has to be that of the challenge.
///
/// To try it, take token and code of a mail: an example would have expired.
#[utoipa::path(tag = "Landing page", operation_id = "verifyCode", request_body = VerifyCode,
    responses((status = 200, body = Continued, description = "Next step of the page")), security(()))]
#[post("/verify")]
async fn verify_code(cx: Data<Context>, body: Body<VerifyCode>) -> Result<Json<Continued>, Error> {
    Ok(Json(step_up::verify(&cx, body.value, cx.clock.now()).await?))
}

/// Open a link again
///
/// For links with `reentry: device`, from the browser that the consultant chose to have
/// remembered. Takes a proof by its key over the nonce of `POST /l/preview`, and returns the
/// portal's callback with a code for the next visit. The link token may have expired.
///
/// To try it, let the landing page remember the browser: only its key makes a proof.
#[utoipa::path(tag = "Landing page", operation_id = "reenterLink", request_body = DeviceRequest,
    responses((status = 200, body = Continued, description = "Next step of the page")), security(()))]
#[post("/reenter")]
async fn reenter_link(cx: Data<Context>, body: Body<DeviceRequest>) -> Result<Json<Continued>, Error> {
    Ok(Json(device::reenter(&cx, body.value, cx.clock.now()).await?))
}

/// Forget a device
///
/// The remembered browser opens the link no more; a visit that has begun goes on. Takes a
/// proof by its key, as `POST /l/reenter` does.
///
/// To try it, let the landing page remember the browser: only its key makes a proof.
#[utoipa::path(tag = "Landing page", operation_id = "forgetDevice", request_body = DeviceRequest,
    responses((status = 204, description = "The device is forgotten")), security(()))]
#[post("/forget")]
async fn forget_device(cx: Data<Context>, body: Body<DeviceRequest>) -> Result<HttpResponse, Error> {
    device::forget(&cx, body.value, cx.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Request a fresh link
///
/// Mailed to the registered address, if the link is still open and its cool-down is
/// over; `Retry-After` says how long it lasts. A token that was replaced is refused
/// (`link_superseded`) unless the newest mail failed or is older than a token lives.
///
/// To try it, take the token of a mail: an example would have expired.
#[utoipa::path(tag = "Landing page", operation_id = "requestFreshLink", request_body = LandingRequest,
    responses((status = 202, body = FreshLink, description = "A fresh link is queued")), security(()))]
#[post("/resend")]
async fn request_fresh_link(
    cx: Data<Context>,
    limits: Data<mail::Limits>,
    body: Body<LandingRequest>,
) -> Result<Accepted<FreshLink>, Error> {
    Ok(Accepted::new(landing::request_fresh(&cx, &limits, &body.value.token, cx.clock.now()).await?))
}
