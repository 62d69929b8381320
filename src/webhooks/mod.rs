//! A webhook endpoint is a client's URL that receives messages about events.
//!
//! Messages are derived from the audit events of a transaction (`queue`): each event
//! that somebody may hear is queued with it, in one row, and a worker writes the
//! messages from there. No message without its event, and no event without its
//! messages. They are for the endpoints that could hear the event when it happened
//! and still can: not for one that was created, switched on or widened since, and
//! not for one that was deleted, switched off or narrowed.
//! Another worker sends each message, signed, until it is accepted, refused
//! permanently, or given up after about a day. Delivery is at least once; a repeat has the same
//! `webhook-id`. Messages about one link are sent to an endpoint one after the
//! other, in the order of the audit log. A receiver that asks for time with 429
//! or 503 gets it for all of them, but for what ends an access.
//!
//! An endpoint receives only what its client could read: events of the client's
//! tenants and portal. Messages hold ids only; names and reasons are read through
//! the API with the client's key.
//!
//! `magic_link.opened` means that a person pressed the button on the landing page
//! (and entered the one-time code, if the portal requires one); it may occur
//! several times. `session.opened` means that the portal admitted the consultant.

mod addresses;
mod caep;
mod heard_since;
mod manage;
mod message;
mod outbox;
mod owner;
mod queue;
mod read;
pub(crate) mod routes;
mod sender;
mod signed;
pub(crate) mod store;

use std::fmt;

use diesel::prelude::*;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::domain::{Reach, WebhookEvent, WebhookFormat, trimmed_if_present};
use crate::http::Caller;
use crate::id::{ClientId, EndpointId, EventId, LinkId, MessageId};

pub use caep::SetMessage;
pub use manage::{RetriedWebhookDeliveries, RetryWebhookDeliveries};
pub(crate) use manage::{change, create, delete, retry, rotate_secret, seal_secrets_again, test};
pub use message::WebhookMessage;
pub(crate) use outbox::{cancel_queued, deliver, maintain, make_due, ready};
pub(crate) use owner::{follow, let_go, listen_again};
pub(crate) use queue::{enqueue, fan_out};
pub(crate) use read::{deliveries, list, read};
pub(crate) use sender::Sender;
pub(crate) use signed::Webhook;
pub(crate) use store::{ReadyEndpoint, unfinished};

text_enum! {
    /// State of a webhook endpoint.
    pub enum WebhookEndpointState {
        /// The endpoint receives messages.
        Active = "active",
        /// The endpoint is switched off and receives nothing.
        Disabled = "disabled",
    }
}

text_enum! {
    /// Why an endpoint was switched off.
    pub enum DisableCause {
        /// A client that manages the endpoint switched it off.
        Client = "client",
        /// The endpoint responded with 410 (Gone).
        Gone = "gone",
    }
}

text_enum! {
    /// Delivery state of a message.
    pub enum MessageState {
        /// The message waits for earlier messages or for its next attempt.
        Queued = "queued",
        /// The endpoint accepted the message.
        Delivered = "delivered",
        /// The message was refused permanently, or given up after the last attempt.
        Failed = "failed",
        /// The endpoint or its client was disabled before delivery.
        Cancelled = "cancelled",
    }
}

/// Longest wait that a receiver's `Retry-After` may ask for.
const LONGEST_ASKED: time::Duration = time::Duration::hours(24);

/// A stored endpoint.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::webhook_endpoints)]
pub(crate) struct Endpoint {
    pub(super) id: EndpointId,
    client_id: ClientId,
    url: String,
    description: Option<String>,
    /// Event types separated by spaces; `*` is every type, including future ones.
    events: String,
    format: WebhookFormat,
    audience: Option<String>,
    sealed_secret: String,
    previous_sealed_secret: Option<String>,
    previous_secret_expires_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    disabled_at: Option<Timestamp>,
    disable_cause: Option<DisableCause>,
    deleted_at: Option<Timestamp>,
    heard_since: String,
    /// Until when its receiver asked for nothing but what overtakes.
    held_until: Option<Timestamp>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.id)
    }
}

impl Endpoint {
    /// The context that an endpoint's secrets are sealed under.
    fn seal(id: &EndpointId) -> String {
        format!("webhook secret {id}")
    }
}

/// Facts of the owning client that limit what an endpoint receives.
#[derive(Debug, Clone, Queryable)]
struct EndpointOwner {
    portal: Option<String>,
    tenants: String,
    disabled_at: Option<Timestamp>,
}

impl EndpointOwner {
    fn reach(&self) -> Reach {
        Reach::of(self.portal.clone(), &self.tenants)
    }
}

/// Endpoints that a caller manages: its own, and with the scope `admin` those of every client within its reach.
#[derive(Debug, Clone)]
struct EndpointAccess {
    client_id: Option<ClientId>,
    admin_of: Option<Reach>,
}

impl EndpointAccess {
    fn of<S>(caller: &Caller<S>) -> Self {
        let admin = caller.has(crate::domain::Scope::Admin);
        Self { client_id: caller.client_id.clone(), admin_of: admin.then(|| caller.reach.clone()) }
    }

    fn manages(&self, client_id: &ClientId, reach: &Reach) -> bool {
        self.client_id.as_ref() == Some(client_id) || self.admin_of.as_ref().is_some_and(|own| own.covers_reach(reach))
    }
}

/// Request to create a webhook endpoint.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "url": "https://portal.example/webhooks/magic-link",
    "description": "Cloud portal, production",
    "events": ["session.opened", "session.ended", "magic_link.revoked"]
}))]
pub struct CreateWebhookEndpoint {
    /// URL that messages are posted to: HTTPS, a public address, no user info, no fragment. Redirects are not followed.
    #[schema(max_length = 500)]
    pub url: String,
    /// Description of the endpoint for operators.
    #[schema(max_length = 100)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub description: Option<String>,
    /// Event types the endpoint receives; every type by default, including future ones.
    #[schema(min_items = 1, max_items = 23)]
    pub events: Option<Vec<WebhookEvent>>,
    /// Message format, `cloudevents` by default; cannot be changed. With `caep` the only event is `session.ended`.
    #[schema(default = "cloudevents")]
    pub format: Option<WebhookFormat>,
    /// `aud` claim of security event tokens, the URL by default. Format `caep` only.
    #[schema(max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub audience: Option<String>,
    /// Client that owns the endpoint, the caller by default. Another client needs the scope `admin`.
    pub client_id: Option<ClientId>,
}

/// Changes to a webhook endpoint; absent members stay unchanged.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": ["session.ended", "magic_link.revoked"], "state": "active"}))]
pub struct ChangeWebhookEndpoint {
    /// URL that messages are posted to.
    #[schema(max_length = 500)]
    pub url: Option<String>,
    /// Description of the endpoint for operators; an empty text clears it.
    #[schema(max_length = 100)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub description: Option<String>,
    /// Event types the endpoint receives.
    #[schema(min_items = 1, max_items = 23)]
    pub events: Option<Vec<WebhookEvent>>,
    /// `aud` claim of security event tokens; an empty text brings back the URL. Format `caep` only.
    #[schema(max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub audience: Option<String>,
    /// `disabled` cancels queued messages, and events meanwhile produce none; `active` switches the endpoint on again.
    pub state: Option<WebhookEndpointState>,
}

/// Request to rotate a webhook secret.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 86400}))]
pub struct RotateWebhookSecret {
    /// Seconds during which the old secret signs beside the new one: 86400 (a day) by default, at most 30 days.
    #[schema(minimum = 0, maximum = 2_592_000, default = 86_400)]
    pub overlap_seconds: Option<i64>,
    /// Whether nobody has got the newest secret: it ends, and the one before it signs as was told. Without
    /// `overlap_seconds`.
    #[serde(default)]
    #[schema(default = false)]
    pub newest_lost: bool,
}

/// How long the old secret signs beside the new one unless it is said, in seconds.
const A_DAY: i64 = 86_400;

/// A webhook endpoint.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookEndpointResponse {
    /// Webhook endpoint id.
    id: EndpointId,
    /// Client that owns the endpoint; the endpoint receives only what that client could read.
    client_id: ClientId,
    /// URL that messages are posted to.
    #[schema(max_length = 500)]
    url: String,
    /// Description of the endpoint for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    description: Option<String>,
    /// Event types the endpoint receives.
    #[schema(max_items = 23)]
    events: Vec<WebhookEvent>,
    /// Message format.
    format: WebhookFormat,
    /// `aud` claim of security event tokens, if it is not the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    audience: Option<String>,
    /// State of the endpoint.
    state: WebhookEndpointState,
    /// When the endpoint was switched off (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    /// Why the endpoint was switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_cause: Option<DisableCause>,
    /// When the endpoint was created (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the endpoint was last changed (RFC 3339, UTC).
    updated_at: Timestamp,
    /// Until when the previous secret also signs messages (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret_expires_at: Option<Timestamp>,
    /// Secret that signs messages (Standard Webhooks 1.0: `whsec_` and base64). Returned once, on creation or rotation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    secret: Option<String>,
}

impl WebhookEndpointResponse {
    fn of(endpoint: Endpoint, secret: Option<&SecretString>) -> Self {
        let takes = |event: &WebhookEvent| takes(&endpoint.events, event.as_str());
        Self {
            events: WebhookEvent::ALL.iter().copied().filter(takes).collect(),
            id: endpoint.id,
            client_id: endpoint.client_id,
            url: endpoint.url,
            description: endpoint.description,
            format: endpoint.format,
            audience: endpoint.audience,
            state: match endpoint.disabled_at {
                None => WebhookEndpointState::Active,
                Some(_) => WebhookEndpointState::Disabled,
            },
            disabled_at: endpoint.disabled_at,
            disable_cause: endpoint.disable_cause,
            created_at: endpoint.created_at,
            updated_at: endpoint.updated_at,
            previous_secret_expires_at: endpoint.previous_secret_expires_at,
            secret: secret.map(|text| text.expose_secret().to_owned()),
        }
    }
}

/// Whether an endpoint's stored event types include this one.
fn takes(words: &str, event: &str) -> bool {
    words.split_whitespace().any(|word| word == "*" || word == event)
}

/// A message to a webhook endpoint and its delivery state.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Message id: the `webhook-id` header, the same at each attempt.
    id: MessageId,
    /// Audit event the message is about; absent for a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    /// Event type of the message.
    #[serde(rename = "type")]
    #[schema(max_length = 64)]
    kind: String,
    /// Link the message is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// Delivery state.
    state: MessageState,
    /// Number of delivery attempts.
    #[schema(minimum = 0)]
    attempts: i32,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    last_error: Option<String>,
    /// When the last attempt was made (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_at: Option<Timestamp>,
    /// When the next attempt is due (RFC 3339, UTC), which the receiver's `Retry-After` puts off; earlier messages about
    /// the same link are sent first.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// When the event was recorded, or the test requested (RFC 3339, UTC).
    created_at: Timestamp,
    /// When the message was delivered, failed or was cancelled (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

impl WebhookDelivery {
    fn of(delivery: store::Delivery, held_until: Option<Timestamp>) -> Self {
        let held_until = held_until.filter(|_| !store::overtakes(&delivery.event_type));
        let next = held_until.map_or(delivery.next_attempt_at, |until| until.max(delivery.next_attempt_at));
        Self {
            next_attempt_at: delivery.finished_at.is_none().then_some(next),
            id: delivery.id,
            event_id: delivery.event_id,
            kind: delivery.event_type,
            magic_link_id: delivery.magic_link_id,
            state: delivery.state,
            attempts: delivery.attempts,
            last_error: delivery.last_error,
            last_attempt_at: delivery.last_attempt_at,
            created_at: delivery.created_at,
            finished_at: delivery.finished_at,
        }
    }
}
