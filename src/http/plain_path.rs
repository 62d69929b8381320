//! One spelling of each path: `%72` is `r` (RFC 3986, 6.2.2.2).
//!
//! The router decodes such escapes. Whatever else looks at the path, as the contract or the headers of an answer do, must
//! not see another address than the router. A `%` that begins no escape (2.1) is refused: with `%%37%32`, one pass would
//! leave the next one something to decode. What is left of a link's address is the page all the same: there such a `%` is
//! taken for itself, as if it had been escaped.

use std::borrow::Cow;

use actix_web::dev::{ServiceRequest, Url};
use actix_web::http::uri::PathAndQuery;
use actix_web::http::{Method, Uri};

use crate::error::{Code, Error};

/// Name of the resources that show a page at whatever is left of a link's address. It is their route in spans and metrics,
/// too.
pub(crate) const PAGE_OF_A_LINK: &str = "/l";

/// Decodes what needed no escape in the path of a request.
///
/// # Errors
/// `invalid_request` where a `%` begins no escape, but in what is left of a link's address.
pub(super) fn take_plain_path(request: &mut ServiceRequest) -> Result<(), Error> {
    let mended = if is_escaped(request.uri().path()) { None } else { Some(page_of_a_link(request)?) };
    let taken = plain(mended.as_ref().unwrap_or(request.uri())).or(mended);
    if let Some(uri) = taken {
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    Ok(())
}

/// The address with each `%` that begins no escape as an escape of its own, if a page is shown there.
fn page_of_a_link(request: &ServiceRequest) -> Result<Uri, Error> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let mended = with_path(request.uri(), &wholly_escaped(request.uri().path())).filter(|_| is_read);
    let is_page = |uri: &Uri| {
        let routed = Url::new(uri.clone());
        request.resource_map().match_name(routed.path()) == Some(PAGE_OF_A_LINK)
    };
    mended.filter(is_page).ok_or_else(|| {
        let detail = "a % in the path must begin an escape of two hexadecimal digits";
        Error::new(Code::InvalidRequest).detail(detail)
    })
}

/// The byte that the two digits behind a `%` stand for.
fn escaped(behind: &str) -> Option<u8> {
    let digits = behind.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(digits, 16).ok()
}

/// Whether each `%` begins an escape.
fn is_escaped(path: &str) -> bool {
    path.split('%').skip(1).all(|behind| escaped(behind).is_some())
}

/// The path with each `%` that begins no escape as an escape of its own.
fn wholly_escaped(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        whole.push_str(if escaped(piece).is_some() { "%" } else { "%25" });
        whole.push_str(piece);
    }
    whole
}

/// The address with the plain path; `None` where it has it already.
fn plain(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(path) = unescaped(uri.path()) else { return None };
    with_path(uri, &path)
}

fn with_path(uri: &Uri, path: &str) -> Option<Uri> {
    let text = uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

fn unescaped(path: &str) -> Cow<'_, str> {
    if !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let mut pieces = path.split('%');
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    let mut changed = false;
    for piece in pieces {
        match escaped(piece).map(char::from) {
            Some(letter) if letter.is_ascii_alphanumeric() || "-._~".contains(letter) => {
                plain.push(letter);
                plain.push_str(piece.get(2..).unwrap_or_default());
                changed = true;
            }
            _ => {
                plain.push('%');
                plain.push_str(piece);
            }
        }
    }
    if changed { Cow::Owned(plain) } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_no_escape_has_none() {
        for (uri, expected) in [
            ("/v1/%72evocations?a=%72", "/v1/revocations?a=%72"),
            ("/%76%31/%2D%2e%5F%7e", "/v1/-._~"),
            ("http://host/%6C", "http://host/l"),
        ] {
            assert_eq!(plain(&uri.parse().unwrap()).unwrap(), *expected, "{uri}");
        }
        for uri in ["/v1/revocations", "/l%23token", "/%2572", "/a%2Fb%20%25", "/%C3%A9", "*"] {
            assert_eq!(plain(&uri.parse().unwrap()), None, "{uri}");
        }
    }

    /// Every path of these letters is refused, or taken for the page, and has one spelling that the router reads as it is.
    #[test]
    fn a_path_that_is_taken_is_plain_after_one_pass() {
        let letters = ["%", "2", "5", "3", "6", "7", "d", "/"];
        let (mut paths, mut taken) = (vec![String::from("/")], 0);
        for _ in 0..6 {
            let longer = |path: &String| letters.map(|letter| format!("{path}{letter}"));
            paths = paths.iter().flat_map(longer).collect();
            for path in &paths {
                // What is taken only where a page is, is whole before that.
                let whole = wholly_escaped(path);
                assert!(is_escaped(&whole) && (whole == *path) == is_escaped(path), "{path} became {whole}");
                let once = unescaped(&whole);
                assert!(is_escaped(&once), "{path} became {once}");
                assert!(matches!(unescaped(&once), Cow::Borrowed(_)), "{path} became {once}, and more");
                let routed = Url::new(once.parse().unwrap());
                let is_plain = routed.path().bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-/".contains(&byte));
                assert!(!is_plain || routed.path() == once, "{path} is {once}, and {} to the router", routed.path());
                taken += 1;
            }
        }
        assert!(taken > 10_000, "{taken} paths");
        assert_eq!(wholly_escaped("/l%u0023a%2%%33%"), "/l%25u0023a%252%25%33%25");
        for path in ["/v1/%%37%32evocations", "/%%372", "/%7%32", "/%7", "/%", "/%zz", "/%2", "/a%/b", "/%é1"] {
            assert!(!is_escaped(path), "{path}");
        }
    }
}
