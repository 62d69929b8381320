//! `/v1/mail-deliveries`, and `/dev/mailbox` where the provider is the preview

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data, Path, Query};
use actix_web::{HttpResponse, Responder, get, post};
use askama::Template;
use utoipa_actix_web::service_config::ServiceConfig;

use super::deliveries::{self, DeliveryFilter, MailDelivery};
use super::preview::Mail;
use crate::app::App;
use crate::error::{Code, Error};
use crate::http::{Accepted, Admin, Caller, Json, Page, ReadLinks, ReadProblems, WriteProblems};
use crate::id::MailJobId;

#[derive(Template)]
#[template(path = "mailbox.html", config = "src/mail/askama.toml")]
struct MailboxPage<'a> {
    mails: &'a [Mail],
}

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(list_mail_deliveries).service(retry_mail_delivery);
}

/// List mail deliveries
///
/// What became of every mail about the links that the client may read; a client
/// of every tenant and portal also sees those that are about none.
#[utoipa::path(tag = "Mail", operation_id = "listMailDeliveries", params(DeliveryFilter),
    responses((status = 200, body = Page<MailDelivery>, description = "A page of mails"), ReadProblems))]
#[get("/mail-deliveries")]
async fn list_mail_deliveries(
    app: Data<App>,
    caller: Caller<ReadLinks>,
    filter: Query<DeliveryFilter>,
) -> Result<Json<Page<MailDelivery>>, Error> {
    Ok(Json(deliveries::list(&app, &caller, filter.into_inner()).await?))
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
    app: Data<App>,
    caller: Caller<Admin>,
    id: Path<MailJobId>,
) -> Result<Accepted<MailDelivery>, Error> {
    Ok(Accepted(deliveries::retry(&app, &caller, id.into_inner(), app.clock.now()).await?))
}

pub(crate) fn configure_page(service: &mut web::ServiceConfig) {
    service
        .service(web::resource("/dev/mailbox").get(page).route(web::head().to(page)))
        .service(web::resource("/dev/mailbox.json").get(json));
}

fn mails(app: &App) -> Result<Vec<Mail>, Error> {
    Ok(app.mailbox.as_ref().ok_or(Code::RouteNotFound)?.mails())
}

async fn page(app: Data<App>) -> Result<HttpResponse, Error> {
    let html = MailboxPage { mails: &mails(&app)? }.render().map_err(Error::internal)?;
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

async fn json(app: Data<App>) -> Result<impl Responder, Error> {
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(mails(&app)?))
}
