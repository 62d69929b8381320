//! `/docs/`: Swagger UI over the API description.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

use actix_web::http::header::{ACCEPT_ENCODING, CACHE_CONTROL, ContentEncoding, VARY};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use flate2::read::GzDecoder;
use utoipa_swagger_ui::Config;

use crate::error::{Code, Error};

/// Swagger UI styles its parts by attributes and has its pictures in its style sheet; it talks to this service only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The key that was entered survives a reload of the page, in the browser.
pub(super) fn config() -> Config<'static> {
    // Outside loopback, Swagger UI would load a badge from swagger.io's validator and disclose the service's URL.
    Config::new(["/openapi.json"]).validator_url("none").persist_authorization(true)
}

/// A file of Swagger UI. The files are part of the program, most of them compressed: no reader gets a copy of its own.
pub(super) async fn file(
    path: web::Path<String>,
    request: HttpRequest,
    config: web::Data<Config<'static>>,
) -> Result<HttpResponse, Error> {
    let file = utoipa_swagger_ui::serve(&path, config.into_inner()).map_err(Error::internal)?;
    let file = file.ok_or(Code::RouteNotFound)?;
    let mut response = HttpResponse::Ok();
    response
        .insert_header(("content-security-policy", POLICY))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((VARY, "accept-encoding"))
        .content_type(file.content_type);
    let body = match file.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => Bytes::from(bytes),
    };
    if !file.gzpipped {
        return Ok(response.body(body));
    }
    if takes_gzip(&request) {
        return Ok(response.insert_header(ContentEncoding::Gzip).body(body));
    }
    Ok(response.body(decompressed(&path, &body).map_err(Error::internal)?))
}

/// A file for readers who cannot decompress: the first one has it decompressed, and all share it. There are as many as
/// Swagger UI has files.
fn decompressed(path: &str, file: &[u8]) -> io::Result<Bytes> {
    static KNOWN: Mutex<BTreeMap<String, Bytes>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plain) = known.get(path) {
        return Ok(plain.clone());
    }
    let mut plain = Vec::new();
    GzDecoder::new(file).read_to_end(&mut plain)?;
    let plain = Bytes::from(plain);
    known.insert(path.to_owned(), plain.clone());
    Ok(plain)
}

/// Whether the reader names gzip, or everything, and does not rule it out or prefer plain files (RFC 9110, 12.5.3).
fn takes_gzip(request: &HttpRequest) -> bool {
    let lines = request.headers().get_all(ACCEPT_ENCODING).filter_map(|value| value.to_str().ok());
    let (mut gzip, mut plain, mut others) = (None, None, None);
    for coding in lines.flat_map(|line| line.split(',')) {
        let mut parts = coding.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = Some(weight.map_or(1.0, |weight| weight.parse::<f32>().unwrap_or(0.0)));
        match name.as_str() {
            "gzip" | "x-gzip" => gzip = weight,
            "identity" => plain = weight,
            "*" => others = weight,
            _ => {}
        }
    }
    gzip.or(others).is_some_and(|gzip| gzip > 0.0 && gzip >= plain.unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody;
    use actix_web::test::TestRequest;

    use super::*;

    #[actix_web::test]
    async fn readers_share_a_file_whatever_they_take() {
        for (name, accepted) in [("swagger-ui-bundle.js", "identity"), ("", "identity"), ("swagger-ui.css", "gzip")] {
            let read = async || {
                let request = TestRequest::default().insert_header((ACCEPT_ENCODING, accepted)).to_http_request();
                let answer = file(name.to_owned().into(), request, web::Data::new(config())).await.unwrap();
                answer.into_body().try_into_bytes().unwrap()
            };
            let (one, other) = (read().await, read().await);
            assert!(one.len() > 400, "{name}: {}", one.len());
            assert_eq!((one.as_ptr(), one.len()), (other.as_ptr(), other.len()), "{name}");
        }
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accepted, takes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("*;q=0", false),
            ("br, deflate", false),
            ("gzip, identity;q=0.5", true),
            ("identity, gzip", true),
            ("gzip;q=0.5, identity", false),
            ("*;q=0.1, identity", false),
        ] {
            let request = TestRequest::default().insert_header((ACCEPT_ENCODING, accepted)).to_http_request();
            assert_eq!(takes_gzip(&request), takes, "{accepted}");
        }
        assert!(!takes_gzip(&TestRequest::default().to_http_request()));
    }
}
