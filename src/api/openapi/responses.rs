//! Headers of successful responses, and the answer to a conditional request.

use serde_json::{Map, Value, json};

use super::operations::{self, parameters};

/// Operations that answer with an entity tag.
const CACHED: &[&str] =
    &["getJwks", "getOpenidConfiguration", "getAuthorizationServer", "getStatusLists", "getStatusList"];

/// Operations whose success says where what was created can be read, with an example.
const CREATED: &[(&str, &str)] = &[
    ("createRevocation", "/v1/revocations/rvk_01m8frqj01e91bw939pgkdc35v"),
    ("createClient", "/v1/clients/cli_01kaq3v9e8fwmvd2x7n0c5hb4z"),
    ("createWebhookEndpoint", "/v1/webhook-endpoints/whe_01kaq3v9e8fwmvd2x7n0c5hc1z"),
    ("extendMagicLink", "/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z"),
    ("issueMagicLink", "/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z"),
    ("openSession", "/v1/sessions/ses_01kaq3v9e8fwmvd2x7n0c5hb2z"),
    ("registerConsultant", "/v1/consultants/con_01kaq3v9e8fwmvd2x7n0c5hb3z"),
];

/// Describes the headers of all successes.
pub(super) fn describe(description: &mut Value) {
    operations::for_each(description, |_, operation| {
        let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
        let repeats = parameters(operation).any(|one| one["name"] == "Idempotency-Key");
        let Some(responses) = operation["responses"].as_object_mut() else { return };
        // Of two, the one that creates.
        let success = responses.iter_mut().filter(|(status, _)| status.starts_with('2')).last();
        let Some(success) = success.and_then(|(_, response)| response.as_object_mut()) else { return };
        let mut headers = Map::new();
        if repeats {
            headers.extend([header("Idempotency-Replayed", "`true` for the response to a repeat", &json!("true"))]);
        }
        if let Some((_, address)) = CREATED.iter().find(|(created, _)| *created == id) {
            headers.extend([header("Location", "Path at which it can be read", &json!(address))]);
        }
        if id == "exportAuditEvents" {
            headers.extend([
                header(
                    "Content-Disposition",
                    "Name of the file to save the export as",
                    &json!("attachment; filename=\"acme-audit.ndjson\""),
                ),
                header(
                    "Link",
                    "Where the complete log is, of a format that cannot be verified by itself",
                    &json!("</v1/audit-events/export?format=ndjson&tenant_id=acme>; rel=\"canonical\""),
                ),
            ]);
        }
        if CACHED.contains(&&*id) {
            headers.extend([
                header("ETag", "Entity tag, for `If-None-Match`", &json!("\"1b4f0e9851971998e732078544c96b36\"")),
                header("Cache-Control", "How long the response may be cached", &json!("public, max-age=300")),
            ]);
        }
        if headers.is_empty() {
            return;
        }
        success.insert("headers".into(), headers.clone().into());
        if CACHED.contains(&&*id) {
            let unchanged = "The client's copy, named in `If-None-Match`, is current";
            responses.insert("304".into(), json!({ "description": unchanged, "headers": headers }));
        }
    });
}

/// A header with an example.
pub(super) fn header(name: &str, description: &str, example: &Value) -> (String, Value) {
    let schema = if example.is_number() {
        json!({ "type": "integer", "format": "int64", "minimum": 0 })
    } else {
        json!({ "type": "string", "maxLength": 500 })
    };
    (name.to_owned(), json!({ "description": description, "schema": schema, "example": example }))
}
