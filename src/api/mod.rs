//! The route table, and what concerns all routes: API description, problem pages, `/metrics`.

mod metrics;
pub mod openapi;
mod problems_page;
mod readiness;
mod swagger;

use std::sync::OnceLock;

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig as PageConfig};
use actix_web::{HttpResponse, get};
use bytes::Bytes;
use serde_json::Value;
use utoipa_actix_web::AppExt;
use utoipa_actix_web::scope::scope;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::app::App;
use crate::context::Context;
use crate::http::{Contract, KnownRoutes, Stopping, head_as_get, refuse, surround};
use crate::{
    audit, clients, consultants, links, mail, policies, revocations, sandbox, sessions, signing_keys, status_lists,
    tenants, webhooks,
};

/// Every documented route. The API description is generated from this only.
pub(crate) fn routes(service: &mut ServiceConfig) {
    service.configure(versioned).configure(unversioned);
}

fn versioned(service: &mut ServiceConfig) {
    service.service(
        scope("/v1")
            // Routes are matched in this order; the most frequent one is first.
            .configure(sessions::routes::configure)
            .configure(links::routes::configure)
            .configure(revocations::routes::configure)
            .configure(consultants::routes::configure)
            .configure(tenants::routes::configure)
            .configure(policies::routes::configure)
            .configure(clients::routes::configure)
            .configure(signing_keys::routes::configure)
            .configure(status_lists::routes::configure)
            .configure(audit::routes::configure)
            .configure(mail::routes::configure)
            .configure(webhooks::routes::configure)
            .configure(sandbox::routes::configure),
    );
}

fn unversioned(service: &mut ServiceConfig) {
    service
        .configure(links::routes::configure_landing)
        .configure(signing_keys::routes::configure_discovery)
        .configure(health);
}

/// HTML pages.
fn pages(service: &mut PageConfig) {
    service
        .configure(links::routes::configure_page)
        .configure(mail::routes::configure_page)
        .service(web::resource("/").get(show_start))
        .service(web::resource("/problems").get(problems_page::show));
}

/// The page for people who know the address of the service and nothing else.
async fn show_start() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((
            "content-security-policy",
            "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ))
        .content_type("text/html; charset=utf-8")
        .body(include_str!("start.html"))
}

fn health(service: &mut ServiceConfig) {
    service.service(healthz).service(readiness::readyz);
}

/// Check that the process runs
///
/// Asks nothing of the database: a process that answers need not be started anew.
#[utoipa::path(tag = "Operations", operation_id = "getHealth", security(()),
    responses((status = 200, description = "The process runs")))]
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().finish()
}

/// The service behind `metrics_listen`: `/metrics`, without authentication.
pub(crate) fn metrics_service(
    cx: web::Data<Context>,
) -> actix_web::App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<actix_web::body::BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    >,
> {
    actix_web::App::new().wrap(from_fn(head_as_get)).app_data(cx).route("/metrics", web::get().to(show_metrics))
}

async fn show_metrics(cx: web::Data<Context>) -> HttpResponse {
    match metrics::show(&cx).await {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        Err(_logged) => HttpResponse::InternalServerError().finish(),
    }
}

/// The contract of the description, which is the same for every application of the process.
fn contract(description: &Value) -> web::Data<Contract> {
    static CONTRACT: OnceLock<web::Data<Contract>> = OnceLock::new();
    let checked = || {
        Contract::of(description).unwrap_or_else(|error| {
            tracing::error!(error.cause = %error, "the API description cannot be checked against");
            Contract::default()
        })
    };
    CONTRACT.get_or_init(|| web::Data::new(checked())).clone()
}

/// What holds for every operation, for people and programs that read it.
const GUIDE: &str = include_str!("../../openapi/README.md");

/// Serves a text that is a part of the program.
fn written(kind: &'static str, text: &'static str) -> impl Fn() -> std::future::Ready<HttpResponse> + Clone {
    move || std::future::ready(HttpResponse::Ok().content_type(format!("{kind}; charset=utf-8")).body(text))
}

/// The actix application.
pub(crate) fn service(
    app: &App,
    stopping: &Stopping,
    description: &Value,
    [text, text_3_0, text_webhooks]: &[Bytes; 3],
) -> actix_web::App<
    impl actix_web::dev::ServiceFactory<
        actix_web::dev::ServiceRequest,
        Config = (),
        Response = actix_web::dev::ServiceResponse<actix_web::body::BoxBody>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    let (actix, _) = actix_web::App::new()
        .wrap(from_fn(surround))
        .configure(|service| app.register(service))
        .into_utoipa_app()
        .configure(versioned)
        // Behind the hot routes, whose callers would wait for the patterns of pages; before the scope of the landing page,
        // which matches every path with its prefix.
        .map(|actix| {
            let actix = actix.configure(pages);
            if app.cx.config.sandbox { actix.configure(signing_keys::routes::configure_sandbox) } else { actix }
        })
        .configure(unversioned)
        .split_for_parts();
    let known = KnownRoutes::of(description);
    let contract = contract(description);
    // Every reader gets the same buffer.
    let document = |text: &Bytes| {
        let text = text.clone();
        move || std::future::ready(HttpResponse::Ok().content_type("application/json").body(text.clone()))
    };
    actix
        .app_data(web::Data::new(swagger::config()))
        .app_data(web::Data::new(stopping.clone()))
        .app_data(contract)
        .service(web::resource("/openapi.json").get(document(text)))
        .service(web::resource("/openapi-3.0.json").get(document(text_3_0)))
        .service(web::resource("/webhooks.json").get(document(text_webhooks)))
        .service(web::resource("/llms.txt").get(written("text/plain", include_str!("llms.txt"))))
        .service(web::resource("/integrators.md").get(written("text/markdown", GUIDE)))
        .service(web::resource("/docs/{file:.*}").get(swagger::file))
        .service(web::redirect("/docs", "/docs/"))
        .app_data(web::Data::new(known))
        .default_service(web::to(refuse))
}
