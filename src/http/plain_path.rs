//! One spelling of each path: `%72` is `r` (RFC 3986, 6.2.2.2).
//!
//! The router decodes such escapes. Whatever else looks at the path, as the contract or the headers of an answer do, must
//! not see another address than the router.

use std::borrow::Cow;

use actix_web::dev::ServiceRequest;
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;

/// Decodes what needed no escape in the path of a request.
pub(super) fn take_plain_path(request: &mut ServiceRequest) {
    let Some(uri) = plain(request.uri()) else { return };
    request.match_info_mut().get_mut().update(&uri);
    request.head_mut().uri = uri;
}

/// The address with the plain path; `None` where it has it already.
fn plain(uri: &Uri) -> Option<Uri> {
    let Cow::Owned(path) = unescaped(uri.path()) else { return None };
    let text = uri.query().map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
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
        let byte = piece.get(..2).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match byte.and_then(|hex| u8::from_str_radix(hex, 16).ok()).map(char::from) {
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
        for uri in ["/v1/revocations", "/l%23token", "/%2572", "/a%2Fb%20%25", "/%7", "/%", "/%zz", "/%C3%A9", "*"] {
            assert_eq!(plain(&uri.parse().unwrap()), None, "{uri}");
        }
    }
}
