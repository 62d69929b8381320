//! The description of webhook messages, a separate document: generators would turn them into API calls.

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::plain;
use crate::domain::WebhookEvent;
use crate::id::{EndpointKind, EventKind, Kind, LinkKind, MessageKind, SessionKind};
use crate::webhooks::{SetMessage, WebhookMessage};

/// The document, as committed in `openapi/webhooks.json`.
///
/// # Errors
/// When the generated document cannot be serialised: a bug that every test would detect.
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
    webhooks.insert("webhook_endpoint.test".into(), message("webhook_endpoint.test", "A client's test message"));
    webhooks.insert("session-revoked".into(), security_event());
    let description = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Magic Link: messages to webhook endpoints",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            "description": "Messages are signed (Standard Webhooks 1.0). Verify `webhook-signature` with the endpoint's \
                secret, refuse messages whose `webhook-timestamp` is older than five minutes, and ignore a `webhook-id` \
                that was processed before. Any 2xx within 15 seconds accepts a message; 410 switches the endpoint off; \
                any other outcome is retried after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, and then given up. \
                Messages about one link are sent one after the other. A `traceparent` (W3C Trace Context) comes with a \
                message that follows from a request that had one.",
        },
        "webhooks": webhooks,
        "components": { "schemas": schemas },
    });
    Ok(plain::plain(description))
}

const fn summary(event: WebhookEvent) -> &'static str {
    match event {
        WebhookEvent::LinkIssued => "A link was issued",
        WebhookEvent::LinkRequested => "A link was asked for, and waits for an approval",
        WebhookEvent::LinkApproved => "A link was approved; `magic_link.issued` follows",
        WebhookEvent::LinkDenied => "A link was denied",
        WebhookEvent::LinkWithdrawn => "A request for a link was withdrawn by whoever made it, or by a revocation",
        WebhookEvent::LinkLapsed => "Nobody decided on a link in time",
        WebhookEvent::LinkOpened => "The consultant pressed the button on the landing page; may come several times",
        WebhookEvent::LinkMailFailed => {
            "The mail with a link, or with a code for it, did not arrive, and no other attempt is made"
        }
        WebhookEvent::LinkRevoked => "A link was revoked",
        WebhookEvent::LinkReplaced => "Another link for the same access took a link's place",
        WebhookEvent::LinkExtended => "A link's window was extended",
        WebhookEvent::ExtensionRequested => "An extension of a link was asked for, and waits for an approval",
        WebhookEvent::ExtensionDenied => "An extension of a link was denied",
        WebhookEvent::ExtensionWithdrawn => "A request for an extension of a link was withdrawn",
        WebhookEvent::ExtensionLapsed => "Nobody decided in time on an extension of a link",
        WebhookEvent::LinkShortened => "A link's window was shortened, and that of its session with it",
        WebhookEvent::PolicyViolation => "A session did what it does not allow, as a report said",
        WebhookEvent::EmergencyIssued => "A link was issued in an emergency, without an approval",
        WebhookEvent::EmergencyReviewed => "A link that was issued in an emergency was reviewed",
        WebhookEvent::LinkExpired => "A link's window has ended",
        WebhookEvent::SessionOpened => "A session was opened",
        WebhookEvent::SessionEnded => "A session ended, whatever the cause",
        WebhookEvent::ReportsIncomplete => "A session ended with incomplete reports; once for each `audit_state`",
    }
}

/// Example of a message's `data` by event type.
fn data(kind: &str) -> Value {
    let mut data = json!({
        "tenant_id": "acme", "portal": "cloud", "magic_link_id": LinkKind::EXAMPLE,
        "consultant_id": "con_01kaq3v9e8fwmvd2x7n0c5hb3z", "profile_id": "emp-1042",
    });
    let more = match kind {
        "magic_link.issued" | "magic_link.approved" => json!({ "actor_type": "portal_user", "access": "full",
            "starts_at": "2026-11-23T03:30:00Z", "expires_at": "2026-11-23T07:30:00Z" }),
        "magic_link.requested" => json!({ "actor_type": "portal_user", "access": "full",
            "starts_at": "2026-11-23T03:30:00Z" }),
        "magic_link.opened" => json!({ "actor_type": "consultant" }),
        "magic_link.mail_failed" | "magic_link.lapsed" | "magic_link.extension_lapsed" => {
            json!({ "actor_type": "system" })
        }
        "magic_link.revoked"
        | "magic_link.replaced"
        | "magic_link.denied"
        | "magic_link.withdrawn"
        | "magic_link.extension_requested"
        | "magic_link.extension_denied"
        | "magic_link.extension_withdrawn" => json!({ "actor_type": "portal_user" }),
        "magic_link.extended" | "magic_link.shortened" => {
            json!({ "actor_type": "portal_user", "expires_at": "2026-11-23T09:30:00Z" })
        }
        "magic_link.policy_violation" => json!({ "actor_type": "consultant", "session_id": SessionKind::EXAMPLE,
            "violations": 2, "causes": ["forbidden"], "categories": ["export", "bank_account"] }),
        "magic_link.emergency_issued" => json!({ "actor_type": "portal_user", "expires_at": "2026-11-23T07:30:00Z",
            "review_due_at": "2026-11-26T03:30:00Z" }),
        "magic_link.reviewed" => json!({ "actor_type": "portal_user", "finding": "justified" }),
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
    let mut example = json!({
        "specversion": "1.0", "id": EventKind::EXAMPLE, "source": "https://links.example", "type": kind,
        "subject": subject, "time": "2026-11-23T05:12:44.120394Z", "datacontenttype": "application/json", "data": data,
    });
    // A message that is about no event has no place among them.
    if let Some(members) = example.as_object_mut().filter(|_| !kind.starts_with("webhook_endpoint.")) {
        members.insert("sequence".to_owned(), "0000000000000000042".into());
    }
    let header = |name: &str, description: &str, example: &str| {
        json!({ "name": name, "in": "header", "required": true, "description": description, "example": example,
            "schema": { "type": "string", "maxLength": 200 } })
    };
    json!({ "post": {
        "operationId": operation_id(kind), "summary": summary, "tags": ["Webhooks"],
        "parameters": [
            header("webhook-id", "Message id; a repeat has the same", MessageKind::EXAMPLE),
            header("webhook-timestamp", "When the attempt was made (seconds since 1970-01-01T00:00:00Z)", "1795410764"),
            header("webhook-signature", "`v1,` and the base64 HMAC-SHA256 of id, timestamp and body, joined by dots; \
                two, separated by a space, while a secret rotates", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
        ],
        "requestBody": { "required": true, "content": { "application/cloudevents+json": {
            "schema": { "$ref": "#/components/schemas/WebhookMessage" }, "example": example,
        } } },
        "responses": {
            "2XX": { "description": "The message is accepted" },
            "410": { "description": "The receiver wants no more messages: the endpoint is switched off" },
        },
    } })
}

fn security_event() -> Value {
    json!({ "post": {
        "operationId": "receiveSecurityEvent", "tags": ["Webhooks"],
        "summary": "Format `caep`: a session ended before it expired",
        "description": "A security event token (RFC 8417), typ `secevent+jwt`, signed with ES256 by a key of the JWK set, \
            pushed according to RFC 8935. The schema is that of its claims. No message is sent when a session expires: \
            receivers know `exp`. A test is a verification event.",
        "requestBody": { "required": true, "content": { "application/secevent+jwt": {
            "schema": { "$ref": "#/components/schemas/SetMessage" },
        } } },
        "responses": {
            "202": { "description": "The message is accepted" },
            "400": { "description": "With a JSON object that has `err`: the token is refused permanently (RFC 8935, section 2.3)" },
            "410": { "description": "The receiver wants no more messages: the endpoint is switched off" },
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
