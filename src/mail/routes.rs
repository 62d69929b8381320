//! `/dev/mailbox`, where the provider is the preview

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{self, Data};
use actix_web::{HttpResponse, Responder};
use askama::Template;

use super::preview::Mail;
use crate::app::App;
use crate::error::{Code, Error};

#[derive(Template)]
#[template(path = "mailbox.html", config = "src/mail/askama.toml")]
struct MailboxPage<'a> {
    mails: &'a [Mail],
}

pub(crate) fn configure(service: &mut web::ServiceConfig) {
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
