//! `/problems`: explains every error code. The `type` URI of a problem document (RFC 9457) points here.

use actix_web::HttpResponse;
use askama::Template;

use crate::error::{Code, Error};

#[derive(Template)]
#[template(path = "problems.html", config = "src/api/askama.toml")]
struct ProblemsPage {
    codes: &'static [Code],
}

pub(super) async fn show() -> Result<HttpResponse, Error> {
    let html = ProblemsPage { codes: Code::ALL }.render().map_err(Error::internal)?;
    Ok(HttpResponse::Ok()
        .insert_header((
            "content-security-policy",
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ))
        .content_type("text/html; charset=utf-8")
        .body(html))
}
