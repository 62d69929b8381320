//! What actix refuses by itself: heads that are malformed, too large or too slow. It answers without a body; the peer gets
//! a problem document like any other.

use bytes::Bytes;

use crate::error::Code;
use crate::http::{TRACE_ID, bare_problem};
use crate::telemetry::TraceId;

/// Longest head of such an answer.
const HEAD: usize = 256;

const STATUS_LINES: &[(&[u8], Code)] = &[
    (b" 400 Bad Request\r\n", Code::InvalidRequest),
    (b" 408 Request Timeout\r\n", Code::RequestTimeout),
    (b" 431 Request Header Fields Too Large\r\n", Code::HeadersTooLarge),
    (b" 500 Internal Server Error\r\n", Code::Internal),
];

/// What comes before a refusal of actix at the end of what it writes, and the refusal's code.
///
/// An answer of ours with one of these statuses has a body, so it is not mistaken for one.
pub(super) fn split(bytes: &[u8]) -> (&[u8], Option<Code>) {
    find(bytes).map_or((bytes, None), |(own, code)| (own, Some(code)))
}

fn find(bytes: &[u8]) -> Option<(&[u8], Code)> {
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let tail = head.len().saturating_sub(HEAD);
    let start = tail + memchr::memmem::rfind(head.get(tail..)?, b"HTTP/1.")?;
    let (own, head) = head.split_at_checked(start)?;
    let rest = head.get(b"HTTP/1.1".len()..)?;
    let (fields, code) = STATUS_LINES.iter().find_map(|(line, code)| Some((rest.strip_prefix(*line)?, *code)))?;
    let fields = fields.strip_prefix(b"content-length: 0\r\n")?;
    let is_plain = |field: &[u8]| field.starts_with(b"connection: ") || field.starts_with(b"date: ");
    fields.split(|byte| *byte == b'\n').all(is_plain).then_some((own, code))
}

/// A whole answer, after which the connection ends.
pub(super) fn problem(code: Code, public_url: &str, trace_id: TraceId) -> Bytes {
    let (status, body) = (code.status(), bare_problem(code, public_url, trace_id));
    let reason = actix_web::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    Bytes::from(format!(
        "HTTP/1.1 {status} {}\r\ncontent-length: {}\r\nconnection: close\r\ncontent-type: application/problem+json\r\n\
         cache-control: no-store\r\nx-content-type-options: nosniff\r\n{TRACE_ID}: {trace_id}\r\n\r\n{body}",
        reason.unwrap_or_default(),
        body.len(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "date: Fri, 27 Nov 2026 09:00:00 GMT\r\n\r\n";

    #[test]
    fn only_what_actix_says_by_itself_is_replaced() {
        let refused = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n{DATE}");
        let too_large = format!("HTTP/1.0 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n{DATE}");
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        for (bytes, own, code) in [
            (refused.clone(), "", Some(Code::InvalidRequest)),
            (too_large, "", Some(Code::HeadersTooLarge)),
            (format!("{answer}{refused}"), answer, Some(Code::InvalidRequest)),
            (answer.to_owned(), answer, None),
        ] {
            assert_eq!(split(bytes.as_bytes()), (own.as_bytes(), code), "{bytes}");
        }
        for other in [
            format!("HTTP/1.1 400 Bad Request\r\ncontent-length: 7\r\n{DATE}"),
            format!("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nallow: GET\r\n{DATE}"),
            format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{DATE}"),
            String::new(),
            "\r\n\r\n".to_owned(),
        ] {
            assert_eq!(split(other.as_bytes()), (other.as_bytes(), None));
        }
    }
}
