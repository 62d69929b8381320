//! `/v1/mail-deliveries`, `/v1/mail-events`, `/v1/mail-suppressions`, and `/dev/mailbox` with the preview provider

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data};
use actix_web::{HttpRequest, HttpResponse, Responder, get, post};
use askama::Template;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::deliveries::{self, DeliveryFilter, MailDelivery};
use super::events::{self, Certificates};
use super::suppressions::{self, ClearSuppression, SuppressionFilter, SuppressionResponse};
use crate::context::Context;
use crate::domain::{Page, ProviderName, Template as MailTemplate};
use crate::error::{Code, Error};
use crate::http::{Accepted, Admin, Body, Caller, Json, NoMembers, Path, Query, RawBody, ReadLinks};
use crate::id::{MailJobId, SuppressionId};
use crate::mail_providers::Mailbox;
use crate::mail_providers::preview::Mail;

#[derive(Template)]
#[template(path = "mailbox.html", config = "src/mail/askama.toml")]
struct MailboxPage<'a> {
    mails: &'a [Mail],
    /// Index of the e-mail shown open: the newest with a link.
    open: usize,
}

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(list_mail_deliveries)
        .service(retry_mail_delivery)
        .service(report_mail_events)
        .service(list_mail_suppressions)
        .service(clear_mail_suppression);
}

/// Receive delivery reports from mail providers
///
/// Called by the providers `ses` (through Amazon SNS), `postmark`, `sendgrid` and
/// `resend`, each in its own format. A report that is not authenticated is refused
/// and changes nothing.
///
/// To try it, configure the provider: without, there is no such route.
#[utoipa::path(tag = "Mail", operation_id = "reportMailEvents", request_body = MailReport, security(()),
    params(("provider" = ProviderName, Path, example = "postmark", description = "Mail provider that sends the report")),
    responses((status = 204, description = "The report was accepted")))]
#[post("/mail-events/{provider}")]
async fn report_mail_events(
    cx: Data<Context>,
    certificates: Data<Certificates>,
    request: HttpRequest,
    provider: Path<String>,
    body: RawBody,
) -> Result<HttpResponse, Error> {
    let provider = provider.into_inner();
    let reporter = events::admit(&cx, &provider, request.headers())?;
    let body = body.read(reporter.body_limit(), reporter.sender()).await?;
    events::receive(&cx, &certificates, reporter, request.headers(), &body, cx.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List suppressed addresses
///
/// Addresses that are sent no e-mail because one bounced permanently or the
/// recipient complained. Needs a client of every tenant and portal.
#[utoipa::path(tag = "Mail", operation_id = "listMailSuppressions", params(SuppressionFilter),
    responses((status = 200, body = Page<SuppressionResponse>, description = "A page of suppressed addresses, newest first")))]
#[get("/mail-suppressions")]
async fn list_mail_suppressions(
    cx: Data<Context>,
    caller: Caller<Admin>,
    filter: Query<SuppressionFilter>,
) -> Result<Json<Page<SuppressionResponse>>, Error> {
    Ok(Json(suppressions::list(&cx, &caller, filter.into_inner()).await?))
}

/// Clear a suppressed address
///
/// E-mail is sent to the address again. First make sure that the mailbox works and
/// its owner wants the e-mail. Needs a client of every tenant and portal. Clearing
/// a cleared address changes nothing.
#[utoipa::path(tag = "Mail", operation_id = "clearMailSuppression", request_body = ClearSuppression,
    params(("id" = SuppressionId, Path, description = "Suppression id")),
    responses((status = 200, body = SuppressionResponse, description = "The cleared address")))]
#[post("/mail-suppressions/{id}/clear")]
async fn clear_mail_suppression(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<SuppressionId>,
    body: Body<ClearSuppression>,
) -> Result<Json<SuppressionResponse>, Error> {
    Ok(Json(suppressions::clear(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// A delivery report in the provider's own format; SendGrid sends an array of such objects.
#[derive(ToSchema)]
#[schema(example = json!({
    "RecordType": "Bounce", "Type": "HardBounce", "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
    "Metadata": {"mail_job_id": "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"}
}))]
#[expect(dead_code, reason = "only its schema is used")]
struct MailReport {
    /// Kind of report (Postmark); the other providers use members of their own.
    #[schema(max_length = 64)]
    #[schema(rename = "RecordType")]
    record_type: Option<String>,
    #[serde(flatten)]
    others: std::collections::HashMap<String, serde_json::Value>,
}

/// List mail deliveries
///
/// Delivery state of every e-mail about links within the client's reach. A client
/// of every tenant and portal also sees e-mails that concern no link.
#[utoipa::path(tag = "Mail", operation_id = "listMailDeliveries", params(DeliveryFilter),
    responses((status = 200, body = Page<MailDelivery>, description = "A page of mail deliveries, newest first")))]
#[get("/mail-deliveries")]
async fn list_mail_deliveries(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    filter: Query<DeliveryFilter>,
) -> Result<Json<Page<MailDelivery>>, Error> {
    Ok(Json(deliveries::list(&cx, &caller, filter.into_inner()).await?))
}

/// Send an e-mail again
///
/// For an e-mail in the state `failed`, `bounced` or `unknown`. One that carries a
/// link or code is sent only while the link is open in the same generation.
#[utoipa::path(tag = "Mail", operation_id = "retryMailDelivery",
    params(("id" = MailJobId, Path, description = "Mail job id")),
    responses((status = 202, body = MailDelivery, description = "The e-mail is queued again")))]
#[post("/mail-deliveries/{id}/retry")]
async fn retry_mail_delivery(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<MailJobId>,
    _body: Body<NoMembers>,
) -> Result<Accepted<MailDelivery>, Error> {
    Ok(Accepted::new(deliveries::retry(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

pub(crate) fn configure_page(service: &mut web::ServiceConfig) {
    service.service(web::resource("/dev/mailbox").get(page)).service(web::resource("/dev/mailbox.json").get(json));
}

/// The mailbox's e-mails; `route_not_found` unless the preview is a provider.
fn mails(mailbox: Option<&Data<Mailbox>>) -> Result<Vec<Mail>, Error> {
    Ok(mailbox.ok_or(Code::RouteNotFound)?.mails())
}

async fn page(request: HttpRequest) -> Result<HttpResponse, Error> {
    let mails = mails(request.app_data())?;
    let open = mails.iter().position(|mail| mail.template == MailTemplate::MagicLink.as_str()).unwrap_or(0);
    let html = MailboxPage { mails: &mails, open }.render().map_err(Error::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header(("referrer-policy", "no-referrer"))
        .insert_header((
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'",
        ))
        .content_type("text/html; charset=utf-8")
        .body(html))
}

async fn json(request: HttpRequest) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(mails(request.app_data())?))
}
