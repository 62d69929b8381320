//! A collector of OpenTelemetry that keeps the spans that it is sent (OTLP over HTTP, protobuf).

use std::collections::BTreeMap;

use wiremock::matchers::{header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

/// Takes spans.
pub struct Collector(MockServer);

/// A span that arrived.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    pub trace_id: String,
    pub span_id: String,
    /// Empty for the first one of a trace.
    pub parent_id: String,
    pub name: String,
    /// 2 of a server, 3 of a client.
    pub kind: u64,
    /// Those that it is linked to.
    pub links: Vec<String>,
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
    /// What is said of the service.
    pub resource: BTreeMap<String, String>,
}

impl Collector {
    /// Starts taking spans.
    pub async fn start() -> Self {
        let server = MockServer::start().await;
        let spans = Mock::given(method("POST")).and(path("/v1/traces"));
        let spans = spans.and(header("content-type", "application/x-protobuf"));
        spans.respond_with(ResponseTemplate::new(200)).mount(&server).await;
        Self(server)
    }

    /// Where it takes them.
    pub fn url(&self) -> String {
        self.0.uri()
    }

    /// A header of each call.
    pub async fn headers(&self, name: &str) -> Vec<String> {
        let requests = self.0.received_requests().await.expect("requests are kept");
        requests.iter().map(|request| request.headers[name].to_str().expect("text").to_owned()).collect()
    }

    /// Every span that arrived.
    pub async fn spans(&self) -> Vec<Recorded> {
        let requests = self.0.received_requests().await.expect("requests are kept");
        let of_resource = |resource_spans: &[u8]| {
            let resource = parts(resource_spans, 1).next().map(|resource| attributes(resource, 1)).unwrap_or_default();
            let scopes = parts(resource_spans, 2).flat_map(|scope| parts(scope, 2));
            scopes.map(|span| Recorded { resource: resource.clone(), ..recorded(span) }).collect::<Vec<_>>()
        };
        requests.iter().flat_map(|request| parts(&request.body, 1).flat_map(of_resource).collect::<Vec<_>>()).collect()
    }
}

fn recorded(span: &[u8]) -> Recorded {
    let id = |number| parts(span, number).next().map(hex).unwrap_or_default();
    Recorded {
        trace_id: id(1),
        span_id: id(2),
        parent_id: id(4),
        name: parts(span, 5).next().map(text).unwrap_or_default(),
        kind: number(span, 6).unwrap_or_default(),
        attributes: attributes(span, 9),
        links: parts(span, 13).map(|link| parts(link, 2).next().map(hex).unwrap_or_default()).collect(),
        failed: parts(span, 15).next().and_then(|status| number(status, 3)) == Some(2),
        resource: BTreeMap::new(),
    }
}

fn attributes(message: &[u8], field: u64) -> BTreeMap<String, String> {
    let pair = |pair: &[u8]| {
        let value = parts(pair, 2).next().expect("a value");
        let words = parts(value, 1).next().map(text);
        let value = words.or_else(|| number(value, 3).map(|number| number.to_string())).expect("a text or a number");
        (parts(pair, 1).next().map(text).expect("a key"), value)
    };
    parts(message, field).map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The messages, texts and bytes in a field of a message.
fn parts(message: &[u8], field: u64) -> impl Iterator<Item = &[u8]> {
    fields(message).into_iter().filter_map(move |(number, value)| match value {
        Field::Bytes(bytes) if number == field => Some(bytes),
        _ => None,
    })
}

fn number(message: &[u8], field: u64) -> Option<u64> {
    fields(message).into_iter().find_map(|(number, value)| match value {
        Field::Number(value) if number == field => Some(value),
        _ => None,
    })
}

enum Field<'m> {
    Number(u64),
    Bytes(&'m [u8]),
}

/// The fields of a message in protobuf's wire format.
fn fields(mut rest: &[u8]) -> Vec<(u64, Field<'_>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let value = match tag & 7 {
            0 => Field::Number(varint(&mut rest)),
            kind => {
                let length = match kind {
                    1 => 8,
                    2 => usize::try_from(varint(&mut rest)).expect("a length"),
                    5 => 4,
                    _ => panic!("no wire type of protobuf: {kind}"),
                };
                let (bytes, after) = rest.split_at(length);
                rest = after;
                Field::Bytes(bytes)
            }
        };
        found.push((tag >> 3, value));
    }
    found
}

fn varint(rest: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().expect("a byte");
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
