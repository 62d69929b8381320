//! A make-believe HR portal that lets support consultants in through Magic Link.
//!
//! It stands for the back ends of both portals (Cloud and ESS) of any company, under `/{tenant}/{portal}/`.
//! It knows the service by its HTTP contract only, as an integrator's portal would. See `README.md` beside
//! this file for what to copy and which rules to keep.

mod admin;
mod arrival;
mod magic_link;
mod pages;
mod records;
mod sessions;
mod visitor;
mod web;

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use actix_web::http::StatusCode;
use actix_web::middleware::from_fn;
use actix_web::web::{Data, FormConfig, PathConfig, QueryConfig, ServiceConfig, get, post, resource, scope, to};
use actix_web::{HttpResponse, HttpServer, ResponseError as _, rt};
use askama::Template;
use url::Url;

use crate::arrival::Arrivals;
use crate::magic_link::MagicLink;
use crate::records::Companies;
use crate::sessions::Sessions;
use crate::web::{Portal, PublicUrl, Stop, page, see_other};

/// Everything the handlers share.
pub struct App {
    cloud: MagicLink,
    ess: MagicLink,
    sessions: Sessions,
    arrivals: Arrivals,
    companies: Companies,
    /// The consultant the grant form proposes, if the configuration names one.
    consultant_id: Option<String>,
}

impl App {
    /// The service as seen by one portal, with that portal's own key.
    fn service(&self, portal: Portal) -> &MagicLink {
        match portal {
            Portal::Cloud => &self.cloud,
            Portal::Ess => &self.ess,
        }
    }
}

/// The environment, and nothing from the command line: keys in arguments can be read in every process list.
struct Settings(HashMap<String, String>);

impl Settings {
    fn read() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(std::env::vars_os().filter_map(text).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<String, String> {
        self.get(name).map(str::to_owned).ok_or_else(|| format!("{name} is not set (see examples/portal/README.md)"))
    }
}

#[actix_web::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            web::log(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn Error>> {
    let settings = Settings::read();
    let service: Url = settings.get("PORTAL_SERVICE_URL").unwrap_or("http://127.0.0.1:8080").parse()?;
    if !matches!(service.scheme(), "http" | "https") {
        return Err("PORTAL_SERVICE_URL must begin with http:// or https://".into());
    }
    let public_url: Url = settings.get("PORTAL_PUBLIC_URL").unwrap_or("http://127.0.0.1:8081").parse()?;
    let public_url = Data::new(PublicUrl(public_url));
    let http = MagicLink::http()?;
    let app = Data::new(App {
        cloud: MagicLink::new(http.clone(), service.clone(), settings.need("PORTAL_CLOUD_KEY")?),
        ess: MagicLink::new(http, service, settings.need("PORTAL_ESS_KEY")?),
        sessions: Sessions::default(),
        arrivals: Arrivals::default(),
        companies: Companies::default(),
        consultant_id: settings.get("PORTAL_CONSULTANT_ID").map(str::to_owned),
    });

    rt::spawn(visitor::close_expired(app.clone()));
    // Actix ends by itself on Ctrl-C and SIGTERM, after the requests under way.
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(app.clone())
            .app_data(public_url.clone())
            .wrap(from_fn(web::own_forms_only))
            .wrap(web::headers())
            .configure(routes)
    })
    .workers(2)
    .shutdown_timeout(5)
    .bind(settings.get("PORTAL_LISTEN").unwrap_or("127.0.0.1:8081"))?;
    for address in server.addrs() {
        writeln!(io::stdout(), "The example portal listens on http://{address}")?;
    }
    Ok(server.run().await?)
}

fn routes(routes: &mut ServiceConfig) {
    let in_place = scope("/{tenant}/{portal}")
        .route("", get().to(slash))
        .route("/", get().to(pages::home))
        .service(resource("/callback").get(arrival::callback).wrap(arrival::headers()))
        .service(resource("/arrival").get(arrival::ask).post(arrival::answer))
        .route("/done", post().to(visitor::done))
        .service(resource("/employees/{id}").get(pages::employee).post(pages::edit_employee))
        .service(resource("/leave-policy").get(pages::leave_policy).post(pages::edit_leave_policy))
        .service(resource("/admin").get(admin::show).post(admin::grant))
        .route("/admin/links/{id}", get().to(admin::record))
        .route("/admin/links/{id}/revoke", post().to(admin::revoke))
        .route("/admin/links/{id}/resend", post().to(admin::resend))
        .route("/admin/links/{id}/extend", post().to(admin::extend))
        .route("/admin/links/{id}/{decision}", post().to(admin::decide))
        .route("/admin/links/{id}/extensions/{extension}/{decision}", post().to(admin::decide_extension));
    routes
        .app_data(FormConfig::default().limit(web::LARGEST_FORM_BYTES).error_handler(|_, _| Stop::Unreadable.into()))
        .app_data(QueryConfig::default().error_handler(|_, _| Stop::Unreadable.into()))
        .app_data(PathConfig::default().error_handler(|_, _| Stop::NoSuchPage.into()))
        .route("/", get().to(start))
        .route("/portal.css", get().to(style))
        .service(in_place)
        .default_service(to(no_such_page));
}

#[derive(Template)]
#[template(path = "start.html")]
struct Start {
    companies: [(&'static str, &'static str); 2],
    portals: [Portal; 2],
}

async fn start() -> HttpResponse {
    page(StatusCode::OK, &Start { companies: [("acme", "ACME"), ("globex", "Globex")], portals: Portal::ALL })
}

async fn style() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header(("cache-control", "public, max-age=300"))
        .body(include_str!("templates/portal.css"))
}

/// The cookie's path ends in a slash, so the portal's root must have it too.
async fn slash(place: web::Place) -> HttpResponse {
    see_other(&place.root())
}

async fn no_such_page() -> HttpResponse {
    Stop::NoSuchPage.error_response()
}
