//! The content of a message: `CloudEvents` 1.0 in JSON, opaque ids only.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::Delivery;
use super::{Endpoint, caep};
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::domain::{
    Access, ActorType, AuditState, EndCause, Finding, Forbidden, ModuleName, Reach, ViolationCause, WebhookEvent,
    WebhookFormat,
};
use crate::error::Error;
use crate::id::{ConsultantId, EndpointId, LinkId, SessionId};
use crate::journal::Event;
use crate::tokens::Tokens;

/// Type of a test message.
pub(super) const TEST: &str = "webhook_endpoint.test";

text_enum! {
    /// Version of the `CloudEvents` specification.
    pub enum SpecVersion {
        /// `CloudEvents` 1.0.
        V1 = "1.0",
    }
}

text_enum! {
    /// Media type of a message's `data`.
    pub enum DataContentType {
        /// JSON (RFC 8259).
        Json = "application/json",
    }
}

/// A message (`CloudEvents` 1.0, JSON). It holds opaque ids; names and reasons are read through the API.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookMessage {
    /// Version of the `CloudEvents` specification.
    specversion: SpecVersion,
    /// Id of the audit event; for a test, the message id.
    #[schema(max_length = 30, example = "evt_01kaq3v9e8fwmvd2x7n0c5hb5z")]
    id: String,
    /// Service that sends the message: its `public_url`.
    #[schema(max_length = 500, example = "https://links.example")]
    source: String,
    /// Event type.
    #[serde(rename = "type")]
    #[schema(max_length = 64, example = "session.ended")]
    kind: String,
    /// Subject of the event: the session id, or else the link id; for a test, the endpoint id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 30, example = "ses_01kaq3v9e8fwmvd2x7n0c5hb2z")]
    subject: Option<String>,
    /// When the event was recorded, or the test requested (RFC 3339, UTC).
    time: Timestamp,
    /// Order of the events about a link (`CloudEvents` extension Sequence: a text, in the order of its characters): a
    /// message with a lower one than that of a message that was received is older and can be dropped. Absent for a test.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[0-9]{19}$", max_length = 19, example = "0000000000000004213")]
    sequence: Option<String>,
    /// Media type of `data`.
    datacontenttype: DataContentType,
    /// Event data; ids only.
    data: WebhookData,
}

/// Event data. The members present depend on the event type.
// Its words are texts, because a newer version may have written one that this version does not know.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WebhookData {
    /// Tenant of the access.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub(super) tenant_id: Option<String>,
    /// Portal of the access.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub(super) portal: Option<String>,
    /// Link the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) magic_link_id: Option<LinkId>,
    /// Session the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<SessionId>,
    /// Consultant who was granted access.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consultant_id: Option<ConsultantId>,
    /// Profile the consultant acts as (the portal's own id).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub(super) profile_id: Option<String>,
    /// Type of the actor that caused the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ActorType>)]
    pub(super) actor_type: Option<String>,
    /// Access the link grants.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Access>)]
    pub(super) access: Option<String>,
    /// Portal's words for the only modules that the link or session grants; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    pub(super) modules: Option<Vec<String>>,
    /// What the link or session forbids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, value_type = Vec<Forbidden>)]
    pub(super) forbidden: Vec<String>,
    /// Number of acts that the session did not allow, in one report.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) violations: Option<i64>,
    /// Why the session did not allow them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 3, value_type = Vec<ViolationCause>)]
    pub(super) causes: Vec<String>,
    /// What of the forbidden was done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, value_type = Vec<Forbidden>)]
    pub(super) categories: Vec<String>,
    /// When the review of the emergency is due (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) review_due_at: Option<Timestamp>,
    /// What the review of the emergency found.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Finding>)]
    pub(super) finding: Option<String>,
    /// When the link's window begins (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) starts_at: Option<Timestamp>,
    /// When the link's window, or the session, expires (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    /// When the session ended (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Timestamp>,
    /// Why the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<EndCause>)]
    pub(super) cause: Option<String>,
    /// Completeness of the session's reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AuditState>)]
    pub(super) audit_state: Option<String>,
    /// Webhook endpoint under test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_endpoint_id: Option<EndpointId>,
}

/// Members of an event's data that a message may hold; others can hold names and reasons.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tellable {
    access: Option<Access>,
    modules: Option<Vec<String>>,
    forbidden: Vec<Forbidden>,
    violations: Option<i64>,
    causes: Vec<ViolationCause>,
    categories: Vec<Forbidden>,
    review_due_at: Option<Timestamp>,
    finding: Option<Finding>,
    starts_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    cause: Option<EndCause>,
    audit_state: Option<AuditState>,
}

impl WebhookData {
    /// Takes from an event the members that a message may hold.
    pub(super) fn of(event: &Event, kind: WebhookEvent) -> Result<Self, Error> {
        let more: Tellable = serde_json::from_value(event.data.clone()).map_err(Error::internal)?;
        let ended = kind == WebhookEvent::SessionEnded;
        Ok(Self {
            tenant_id: Some(event.tenant_id.clone()),
            portal: event.portal.clone(),
            magic_link_id: event.magic_link_id.clone(),
            session_id: event.session_id.clone(),
            consultant_id: event.consultant_id.clone(),
            profile_id: event.profile_id.clone(),
            actor_type: Some(event.actor.kind.to_string()),
            access: more.access.map(|word| word.to_string()),
            modules: more.modules,
            forbidden: texts(&more.forbidden),
            violations: more.violations,
            causes: texts(&more.causes),
            categories: texts(&more.categories),
            review_due_at: more.review_due_at,
            finding: more.finding.map(|word| word.to_string()),
            starts_at: more.starts_at,
            expires_at: more.expires_at,
            ended_at: more.ended_at.or_else(|| ended.then_some(event.occurred_at)),
            cause: more.cause.map(|word| word.to_string()),
            audit_state: more.audit_state.map(|word| word.to_string()),
            webhook_endpoint_id: None,
        })
    }

    /// Whether an event is a CAEP `session-revoked`: a session ended before it expired.
    ///
    /// An expired session is none: receivers know its end from `exp`, and nothing was revoked.
    pub(super) fn is_revocation(&self) -> bool {
        self.session_id.is_some() && self.cause.as_deref().is_some_and(|cause| cause != EndCause::Expired.as_str())
    }
}

fn texts<T: ToString>(words: &[T]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

/// Whether a client of this reach may read what a message tells: it may have been queued for one that reached further.
pub(super) fn is_within(delivery: &Delivery, reach: &Reach) -> Result<bool, Error> {
    let data: WebhookData = serde_json::from_str(&delivery.data).map_err(Error::internal)?;
    // A test is about no tenant.
    Ok(data.tenant_id.is_none_or(|tenant| reach.covers(&tenant, data.portal.as_deref().unwrap_or_default())))
}

/// Media type and body of a message. A repeat is identical byte for byte, except for the signature of a SET.
pub(super) fn compose(
    tokens: &Tokens,
    delivery: &Delivery,
    endpoint: &Endpoint,
    now: Timestamp,
) -> Result<(&'static str, String), Error> {
    let data: WebhookData = serde_json::from_str(&delivery.data).map_err(Error::internal)?;
    if endpoint.format == WebhookFormat::Caep {
        let claims = caep::claims(tokens.issuer(), delivery, endpoint, &data);
        return Ok(("application/secevent+jwt", tokens.sign(&claims, now)?));
    }
    let subject = match (&data.session_id, &data.magic_link_id, &data.webhook_endpoint_id) {
        (Some(session), _, _) => Some(session.to_string()),
        (None, Some(link), _) => Some(link.to_string()),
        (None, None, endpoint) => endpoint.as_ref().map(ToString::to_string),
    };
    let message = WebhookMessage {
        specversion: SpecVersion::V1,
        id: delivery.event_id.as_ref().map_or_else(|| delivery.id.to_string(), ToString::to_string),
        source: tokens.issuer().to_owned(),
        kind: delivery.event_type.clone(),
        subject,
        time: delivery.created_at,
        sequence: delivery.event_id.is_some().then(|| format!("{:019}", delivery.log_index + 1)),
        datacontenttype: DataContentType::Json,
        data,
    };
    Ok(("application/cloudevents+json", serde_json::to_string(&message).map_err(Error::internal)?))
}
