//! Headers of the responses, and the answer to a conditional request.

use serde_json::{Map, Value, json};

/// Names and descriptions.
type Headers = &'static [(&'static str, &'static str)];

/// Headers of each response of a status.
const OF_STATUS: &[(&str, Headers)] = &[
    ("401", &[("www-authenticate", "Schemes that are taken: Bearer and Basic (RFC 9110)")]),
    ("409", &[("retry-after", "Seconds to wait, where waiting helps")]),
    (
        "429",
        &[
            ("retry-after", "Seconds to wait"),
            ("ratelimit", "State of the limit that was exceeded (draft-ietf-httpapi-ratelimit-headers)"),
            ("ratelimit-policy", "The limit that was exceeded (draft-ietf-httpapi-ratelimit-headers)"),
        ],
    ),
    ("503", &[("retry-after", "Seconds to wait")]),
];

/// Headers of the success of an operation.
const OF_SUCCESS: &[(&[&str], Headers)] = &[
    (
        &["getJwks", "getOpenidConfiguration", "getAuthorizationServer", "getStatusLists", "getStatusList"],
        &[("etag", "Entity tag, for `If-None-Match`"), ("cache-control", "How long the response may be cached")],
    ),
    (
        &["exportAuditEvents"],
        &[
            ("content-disposition", "Name of the file to save the export as"),
            ("link", "Where the complete log is, of a format that cannot be verified by itself"),
        ],
    ),
];

/// Describes the headers of all responses.
pub(super) fn describe(description: &mut Value) {
    let paths = description["paths"].as_object_mut().into_iter().flatten();
    for (_, operation) in paths.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten()) {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let repeats =
            operation["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == "Idempotency-Key");
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        for (status, headers) in OF_STATUS {
            if let Some(response) = responses.get_mut(*status) {
                add(response, headers);
            }
        }
        let of_success = OF_SUCCESS.iter().filter(|(ids, _)| ids.contains(&id.as_str())).map(|(_, headers)| *headers);
        let replayed: Headers = &[("idempotency-replayed", "`true` for the response to a repeat")];
        for headers in of_success.chain(repeats.then_some(replayed)) {
            // Of two, the one that creates.
            if let Some((_, response)) = responses.iter_mut().filter(|(status, _)| status.starts_with('2')).last() {
                add(response, headers);
            }
            if headers.iter().any(|(name, _)| *name == "etag") {
                let mut unchanged = json!({ "description": "The client's copy, named in `If-None-Match`, is current" });
                add(&mut unchanged, headers);
                responses.insert("304".into(), unchanged);
            }
        }
    }
}

fn add(response: &mut Value, headers: Headers) {
    let header =
        |description: &str| json!({ "description": description, "schema": { "type": "string", "maxLength": 500 } });
    let described = headers.iter().map(|(name, description)| ((*name).to_owned(), header(description)));
    if let Some(response) = response.as_object_mut() {
        let all = response.entry("headers").or_insert_with(|| Value::Object(Map::new()));
        if let Some(all) = all.as_object_mut() {
            all.extend(described);
        }
    }
}
