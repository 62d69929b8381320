//! A webhook endpoint is an address of a client that is told what happens.
//!
//! The message is written in the act's own transaction, derived from the audit
//! events that the act records (`queue`): an act that did not happen tells
//! nothing, and no act can forget to. A worker sends it, signed, until it is
//! taken, refused for good, or given up after a day or so. It arrives at least
//! once, and a repeat has the same `webhook-id`. About one link an endpoint is
//! told one thing after the other, in the order of the trail.
//!
//! An endpoint hears only what its client could read: the events of the client's
//! tenants and portal. What it hears are ids; names and reasons are for those
//! who ask with their key.
//!
//! `magic_link.opened` says that a person pressed the button on the landing page
//! (and gave the mailed code, where the portal wants one); it may come several
//! times. That the portal let them in says `session.opened`.

mod addresses;
mod caep;
mod manage;
mod message;
mod outbox;
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
use crate::domain::{Reach, WebhookEvent, WebhookFormat};
use crate::http::Caller;
use crate::id::{ClientId, EndpointId, EventId, LinkId, MessageId};

pub use caep::SetMessage;
pub(crate) use manage::{change, create, delete, rotate_secret, test};
pub use message::WebhookMessage;
pub(crate) use outbox::{deliver, maintain, ready};
pub(crate) use queue::enqueue;
pub(crate) use read::{deliveries, list, read};
pub(crate) use sender::Sender;
pub(crate) use signed::Webhook;
pub(crate) use store::unfinished;

text_enum! {
    /// Whether an endpoint is told anything.
    pub enum WebhookEndpointState {
        /// It is.
        Active = "active",
        /// It is not.
        Disabled = "disabled",
    }
}

text_enum! {
    /// Who switched an endpoint off.
    pub enum DisableCause {
        /// A client that manages it.
        Client = "client",
        /// The endpoint itself: it answered 410.
        Gone = "gone",
    }
}

text_enum! {
    /// What became of a message.
    pub enum MessageState {
        /// It waits for its turn, or for the next attempt.
        Queued = "queued",
        /// The endpoint took it.
        Delivered = "delivered",
        /// It was refused for good, or given up.
        Failed = "failed",
        /// The endpoint or its client was switched off first.
        Cancelled = "cancelled",
    }
}

/// An endpoint as it is stored.
#[derive(Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::webhook_endpoints)]
pub(crate) struct Endpoint {
    id: EndpointId,
    client_id: ClientId,
    url: String,
    description: Option<String>,
    /// Words between spaces; `*` is everything, also what is added later.
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
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.id)
    }
}

impl Endpoint {
    /// What its secrets are sealed under.
    fn seal(id: &EndpointId) -> String {
        format!("webhook secret {id}")
    }
}

/// What it takes to know what an endpoint may hear.
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

/// Whose endpoints a caller manages: its own, and with `admin` those of every client within its reach.
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

/// An endpoint to create.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "url": "https://portal.example/webhooks/magic-link",
    "description": "Cloud portal, production",
    "events": ["session.opened", "session.ended", "magic_link.revoked"]
}))]
pub struct CreateWebhookEndpoint {
    /// Where messages are posted: HTTPS, a public address, no user name and no fragment. Redirects are not followed.
    #[schema(max_length = 500)]
    pub url: String,
    /// What operators call it.
    #[schema(max_length = 100)]
    pub description: Option<String>,
    /// What it is told; everything unless said, also what is added later.
    #[schema(min_items = 1, max_items = 7)]
    pub events: Option<Vec<WebhookEvent>>,
    /// What messages look like; `cloudevents` unless told. It stays as it is. With `caep` the only event is `session.ended`.
    pub format: Option<WebhookFormat>,
    /// `aud` of security event tokens; the address unless told. For `caep` only.
    #[schema(max_length = 500)]
    pub audience: Option<String>,
    /// The client whose endpoint it is; the caller unless told. Another client's needs the scope `admin`.
    pub client_id: Option<ClientId>,
}

/// What of an endpoint is to change; the rest stays.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": ["session.ended", "magic_link.revoked"], "state": "active"}))]
pub struct ChangeWebhookEndpoint {
    /// Where messages are posted.
    #[schema(max_length = 500)]
    pub url: Option<String>,
    /// What operators call it.
    #[schema(max_length = 100)]
    pub description: Option<String>,
    /// What it is told.
    #[schema(min_items = 1, max_items = 7)]
    pub events: Option<Vec<WebhookEvent>>,
    /// `aud` of security event tokens. For `caep` only.
    #[schema(max_length = 500)]
    pub audience: Option<String>,
    /// `disabled` switches it off: what waits is cancelled, what happens meanwhile is not told. `active` switches it on.
    pub state: Option<WebhookEndpointState>,
}

/// How a secret is rotated.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"overlap_seconds": 86400}))]
pub struct RotateWebhookSecret {
    /// Seconds during which the old secret signs beside the new one, at most 30 days; a day unless told.
    #[serde(default = "a_day")]
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub overlap_seconds: i64,
}

const fn a_day() -> i64 {
    86_400
}

/// An endpoint as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookEndpointResponse {
    /// Its id.
    id: EndpointId,
    /// The client whose endpoint it is: it hears what that client could read.
    client_id: ClientId,
    /// Where messages are posted.
    #[schema(max_length = 500)]
    url: String,
    /// What operators call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    description: Option<String>,
    /// What it is told.
    #[schema(max_items = 7)]
    events: Vec<WebhookEvent>,
    /// What messages look like.
    format: WebhookFormat,
    /// `aud` of security event tokens, where it is not the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    audience: Option<String>,
    /// Whether it is told anything.
    state: WebhookEndpointState,
    /// When it was switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    disabled_at: Option<Timestamp>,
    /// Who switched it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    disable_cause: Option<DisableCause>,
    /// When it was created.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
    /// Until when the secret before the last rotation signs, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_secret_expires_at: Option<Timestamp>,
    /// What messages are signed with: `whsec_` and base64. Shown in this answer and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    secret: Option<String>,
}

impl WebhookEndpointResponse {
    fn of(endpoint: Endpoint, secret: Option<&SecretString>) -> Self {
        let takes = |event: &WebhookEvent| takes(&endpoint.events, *event);
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

/// Whether an event is among the words of an endpoint.
fn takes(words: &str, event: WebhookEvent) -> bool {
    words.split_whitespace().any(|word| word == "*" || word == event.as_str())
}

/// A message to an endpoint, and what became of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookDelivery {
    /// Its `webhook-id`, the same at each attempt.
    id: MessageId,
    /// The event of the trail that it tells; absent for a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<EventId>,
    /// What it tells.
    #[serde(rename = "type")]
    #[schema(max_length = 64)]
    kind: String,
    /// The link that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// What became of it.
    state: MessageState,
    /// How often it was sent.
    #[schema(minimum = 0)]
    attempts: i32,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 300)]
    last_error: Option<String>,
    /// When it was last sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_attempt_at: Option<Timestamp>,
    /// When it is sent next, if it is; a message about the same link that came before goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// When it happened.
    created_at: Timestamp,
    /// When it was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

impl WebhookDelivery {
    fn of(delivery: store::Delivery) -> Self {
        Self {
            next_attempt_at: delivery.finished_at.is_none().then_some(delivery.next_attempt_at),
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
