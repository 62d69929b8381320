//! `/v1/mail-deliveries`, `/v1/mail-events`, `/v1/mail-suppressions`, and `/dev/mailbox` where the provider is the preview

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data, Path, Query};
use actix_web::{HttpRequest, HttpResponse, Responder, get, post};
use askama::Template;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::deliveries::{self, DeliveryFilter, MailDelivery};
use super::events::{self, Certificates};
use super::suppressions::{self, ClearSuppression, SuppressionFilter, SuppressionResponse};
use crate::context::Context;
use crate::domain::{Page, Template as MailTemplate};
use crate::error::{Code, Error};
use crate::http::{
    Accepted, Admin, Body, Caller, Json, RawBody, ReadLinks, ReadProblems, ReportProblems, WriteProblems,
};
use crate::id::{MailJobId, SuppressionId};
use crate::mail_providers::Mailbox;
use crate::mail_providers::preview::Mail;

#[derive(Template)]
#[template(path = "mailbox.html", config = "src/mail/askama.toml")]
struct MailboxPage<'a> {
    mails: &'a [Mail],
    /// The newest mail with a link is what people come for.
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

/// Report what became of mails
///
/// For the providers: `ses` (through Amazon SNS), `postmark`, `sendgrid` and
/// `resend`, each in its own format. A report that does not prove who sent it
/// changes nothing.
#[utoipa::path(tag = "Mail", operation_id = "reportMailEvents", request_body = MailReport, security(()),
    params(("provider" = String, Path, max_length = 32, example = "postmark", description = "Who reports")),
    responses((status = 204, description = "Taken"), ReportProblems))]
#[post("/mail-events/{provider}")]
async fn report_mail_events(
    cx: Data<Context>,
    certificates: Data<Certificates>,
    request: HttpRequest,
    provider: Path<String>,
    body: RawBody,
) -> Result<HttpResponse, Error> {
    events::receive(&cx, &certificates, &provider, request.headers(), &body.0, cx.clock.now()).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// List suppressed addresses
///
/// Addresses that get no mail, because one came back for good or the recipient
/// complained. Needs a client of every tenant and portal.
#[utoipa::path(tag = "Mail", operation_id = "listMailSuppressions", params(SuppressionFilter),
    responses((status = 200, body = Page<SuppressionResponse>, description = "A page of addresses"), ReadProblems))]
#[get("/mail-suppressions")]
async fn list_mail_suppressions(
    cx: Data<Context>,
    caller: Caller<Admin>,
    filter: Query<SuppressionFilter>,
) -> Result<Json<Page<SuppressionResponse>>, Error> {
    Ok(Json(suppressions::list(&cx, &caller, filter.into_inner()).await?))
}

/// Let an address get mail again
///
/// Somebody has made sure that the mailbox works and wants the mail. Needs a
/// client of every tenant and portal. Clearing twice changes nothing.
#[utoipa::path(tag = "Mail", operation_id = "clearMailSuppression", request_body = ClearSuppression,
    params(("id" = SuppressionId, Path, description = "The suppressed address")),
    responses((status = 200, body = SuppressionResponse, description = "The address"), WriteProblems))]
#[post("/mail-suppressions/{id}/clear")]
async fn clear_mail_suppression(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<SuppressionId>,
    body: Body<ClearSuppression>,
) -> Result<Json<SuppressionResponse>, Error> {
    Ok(Json(suppressions::clear(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// A report in the provider's own format; SendGrid sends a list of such objects.
#[derive(ToSchema)]
#[schema(example = json!({
    "RecordType": "Bounce", "Type": "HardBounce", "MessageID": "b7bc2f4a-e38e-4336-af7d-e6c392c2f817",
    "Metadata": {"mail_job_id": "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z"}
}))]
#[expect(dead_code, reason = "only its schema is used")]
struct MailReport {
    /// Postmark's name for the kind of report; the others have their own members.
    #[schema(max_length = 64)]
    #[schema(rename = "RecordType")]
    record_type: Option<String>,
}

/// List mail deliveries
///
/// What became of every mail about the links that the client may read; a client
/// of every tenant and portal also sees those that are about none.
#[utoipa::path(tag = "Mail", operation_id = "listMailDeliveries", params(DeliveryFilter),
    responses((status = 200, body = Page<MailDelivery>, description = "A page of mails"), ReadProblems))]
#[get("/mail-deliveries")]
async fn list_mail_deliveries(
    cx: Data<Context>,
    caller: Caller<ReadLinks>,
    filter: Query<DeliveryFilter>,
) -> Result<Json<Page<MailDelivery>>, Error> {
    Ok(Json(deliveries::list(&cx, &caller, filter.into_inner()).await?))
}

/// Send a mail again
///
/// One that was given up, came back, or whose fate is unknown. Its link must
/// still be open, in the same generation.
#[utoipa::path(tag = "Mail", operation_id = "retryMailDelivery",
    params(("id" = MailJobId, Path, description = "The mail")),
    responses((status = 202, body = MailDelivery, description = "Queued"), WriteProblems))]
#[post("/mail-deliveries/{id}/retry")]
async fn retry_mail_delivery(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<MailJobId>,
) -> Result<Accepted<MailDelivery>, Error> {
    Ok(Accepted(deliveries::retry(&cx, &caller, id.into_inner(), cx.clock.now()).await?))
}

pub(crate) fn configure_page(service: &mut web::ServiceConfig) {
    service
        .service(web::resource("/dev/mailbox").get(page).route(web::head().to(page)))
        .service(web::resource("/dev/mailbox.json").get(json));
}

/// There is a mailbox only where mail goes there.
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
