//! What webhook endpoints receive, in a document of its own: among the operations, generators would make calls of it.

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::plain;
use crate::domain::WebhookEvent;
use crate::id::{EndpointKind, EventKind, Kind, LinkKind, MessageKind, SessionKind};
use crate::webhooks::{SetMessage, WebhookMessage};

/// The document, as it is committed in `openapi/webhooks.json`.
///
/// # Errors
/// When what was generated cannot be written: a fault of ours that every test would meet.
pub fn webhooks() -> Result<Value, serde_json::Error> {
    let mut schemas = Vec::new();
    <WebhookMessage as ToSchema>::schemas(&mut schemas);
    <SetMessage as ToSchema>::schemas(&mut schemas);
    schemas.push(("WebhookMessage".to_owned(), WebhookMessage::schema()));
    schemas.push(("SetMessage".to_owned(), SetMessage::schema()));
    let schemas: Map<String, Value> = schemas
        .into_iter()
        .map(|(name, schema)| Ok((name, serde_json::to_value(schema)?)))
        .collect::<Result<_, serde_json::Error>>()?;
    let mut webhooks = Map::new();
    for event in WebhookEvent::ALL {
        webhooks.insert(event.to_string(), message(event.as_str(), summary(*event)));
    }
    webhooks.insert("webhook_endpoint.test".into(), message("webhook_endpoint.test", "A client tries its endpoint"));
    webhooks.insert("session-revoked".into(), security_event());
    let description = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Magic Link: messages to webhook endpoints",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Signed as Standard Webhooks 1.0 says: check `webhook-signature` with the endpoint's secret, refuse \
                what is older than five minutes by `webhook-timestamp`, and take a `webhook-id` that came before for the \
                repeat that it is. Any 2xx within 15 seconds takes a message; 410 switches the endpoint off; \
                everything else is tried again after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, and then given up. \
                About one link, one message comes after the other.",
        },
        "webhooks": webhooks,
        "components": { "schemas": schemas },
    });
    Ok(plain::plain(description))
}

const fn summary(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::LinkIssued => "A link was issued",
        WebhookEvent::LinkOpened => "The consultant pressed the button on the landing page; may come several times",
        WebhookEvent::LinkRevoked => "A link was revoked",
        WebhookEvent::LinkExpired => "A link's window has ended",
        WebhookEvent::SessionOpened => "A session was opened",
        WebhookEvent::SessionEnded => "A session ended, for whatever cause",
        WebhookEvent::ReportsIncomplete => "A session ended, and its reports are not whole: once for each state",
    }
}

/// What stands in `data` of a message, by type.
fn data(kind: &str) -> Value {
    let mut data = json!({
        "tenant_id": "acme", "portal": "cloud", "magic_link_id": LinkKind::EXAMPLE,
        "consultant_id": "con_01kaq3v9e8fwmvd2x7n0c5hb3z", "profile_id": "emp-1042",
    });
    let more = match kind {
        "magic_link.issued" => json!({ "actor_type": "portal_user", "access": "full",
            "starts_at": "2026-11-23T03:30:00Z", "expires_at": "2026-11-23T07:30:00Z" }),
        "magic_link.opened" => json!({ "actor_type": "consultant" }),
        "magic_link.revoked" => json!({ "actor_type": "portal_user" }),
        "magic_link.expired" => json!({ "actor_type": "system", "expires_at": "2026-11-23T07:30:00Z" }),
        "session.opened" => json!({ "actor_type": "consultant", "session_id": SessionKind::EXAMPLE, "access": "full",
            "expires_at": "2026-11-23T07:30:00Z" }),
        "session.ended" => json!({ "actor_type": "consultant", "session_id": SessionKind::EXAMPLE, "cause": "done",
            "ended_at": "2026-11-23T05:12:44.120394Z" }),
        "audit.gap" => json!({ "actor_type": "system", "session_id": SessionKind::EXAMPLE, "audit_state": "unclosed" }),
        _ => return json!({ "webhook_endpoint_id": EndpointKind::EXAMPLE }),
    };
    if let (Some(data), Value::Object(more)) = (data.as_object_mut(), more) {
        data.extend(more);
    }
    data
}

fn message(kind: &str, summary: &str) -> Value {
    let data = data(kind);
    let subject = ["session_id", "magic_link_id", "webhook_endpoint_id"].into_iter().find_map(|name| data.get(name));
    let example = json!({
        "specversion": "1.0", "id": EventKind::EXAMPLE, "source": "https://links.example", "type": kind,
        "subject": subject, "time": "2026-11-23T05:12:44.120394Z", "datacontenttype": "application/json", "data": data,
    });
    let header = |name: &str, description: &str, example: &str| {
        json!({ "name": name, "in": "header", "required": true, "description": description, "example": example,
            "schema": { "type": "string", "maxLength": 200 } })
    };
    json!({ "post": {
        "operationId": operation_id(kind), "summary": summary, "tags": ["Webhooks"],
        "parameters": [
            header("webhook-id", "The message; a repeat has the same", MessageKind::EXAMPLE),
            header("webhook-timestamp", "When it was sent, in seconds since 1970", "1795410764"),
            header("webhook-signature", "`v1,` and base64 of HMAC-SHA256 over id, timestamp and body with dots between them; \
                two of these with a space between while a secret rotates", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        "requestBody": { "required": true, "content": { "application/cloudevents+json": {
            "schema": { "$ref": "#/components/schemas/WebhookMessage" }, "example": example,
        } } },
        "responses": {
            "2XX": { "description": "It is taken" },
            "410": { "description": "Nothing more is wanted: the endpoint is switched off" },
        },
    } })
}

fn security_event() -> Value {
    json!({ "post": {
        "operationId": "receiveSecurityEvent", "tags": ["Webhooks"],
        "summary": "To a `caep` endpoint: a session ended before its time",
        "description": "A security event token (RFC 8417), typ `secevent+jwt`, signed with ES256 by a key of the JWK set, pushed as \
            RFC 8935 says. The schema is that of its claims. A session that runs out is not told: that says `exp`. A test is \
            a verification event.",
        "requestBody": { "required": true, "content": { "application/secevent+jwt": {
            "schema": { "$ref": "#/components/schemas/SetMessage" },
        } } },
        "responses": {
            "202": { "description": "It is taken" },
            "400": { "description": "With a JSON object that has `err`: it is refused for good (RFC 8935, section 2.3)" },
            "410": { "description": "Nothing more is wanted: the endpoint is switched off" },
        },
    } })
}

fn operation_id(kind: &str) -> String {
    let mut id = "receive".to_owned();
    for word in kind.split(['.', '_']) {
        let mut letters = word.chars();
        id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        id.extend(letters);
    }
    id
}
