//! What a message says: `CloudEvents` 1.0 in JSON, opaque ids only.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::store::Delivery;
use super::{Endpoint, caep};
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::domain::{Access, ActorType, AuditState, EndCause, WebhookEvent, WebhookFormat};
use crate::error::Error;
use crate::id::{ConsultantId, EndpointId, LinkId, SessionId};
use crate::journal::Event;
use crate::tokens::Tokens;

/// The type of a message that a client asked for to try its endpoint.
pub(super) const TEST: &str = "webhook_endpoint.test";

text_enum! {
    /// The version of the envelope.
    pub enum SpecVersion {
        /// `CloudEvents` 1.0
        V1 = "1.0",
    }
}

text_enum! {
    /// The form of what happened.
    pub enum DataContentType {
        /// JSON
        Json = "application/json",
    }
}

/// A message (`CloudEvents` 1.0, JSON). Ids are opaque: names and reasons are for those who ask with their key.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct WebhookMessage {
    /// The version of the envelope.
    specversion: SpecVersion,
    /// The event's id in the trail; for a test the message's own.
    #[schema(max_length = 30, example = "evt_01kaq3v9e8fwmvd2x7n0c5hb5z")]
    id: String,
    /// The service that it comes from: its `public_url`.
    #[schema(max_length = 500, example = "https://links.example")]
    source: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(max_length = 64, example = "session.ended")]
    kind: String,
    /// What it is about: the session, or else the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 30, example = "ses_01kaq3v9e8fwmvd2x7n0c5hb2z")]
    subject: Option<String>,
    /// When it was put on record.
    time: Timestamp,
    /// The form of `data`.
    datacontenttype: DataContentType,
    /// What happened, in ids.
    data: WebhookData,
}

/// What happened. Which members there are hangs on the type.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct WebhookData {
    /// The customer company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub(super) tenant_id: Option<String>,
    /// The portal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    pub(super) portal: Option<String>,
    /// The link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) magic_link_id: Option<LinkId>,
    /// The session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) session_id: Option<SessionId>,
    /// The consultant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consultant_id: Option<ConsultantId>,
    /// The profile, by the portal's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    pub(super) profile_id: Option<String>,
    /// What kind of actor did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) actor_type: Option<ActorType>,
    /// How much was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access: Option<Access>,
    /// When the window begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) starts_at: Option<Timestamp>,
    /// When the window or the session ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<Timestamp>,
    /// When the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<Timestamp>,
    /// Why the session ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cause: Option<EndCause>,
    /// What the reports of the session lack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit_state: Option<AuditState>,
    /// The endpoint that is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) webhook_endpoint_id: Option<EndpointId>,
}

/// What of an event's own data may leave: the rest can hold names and reasons.
#[derive(Default, Deserialize)]
struct Tellable {
    access: Option<Access>,
    starts_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    cause: Option<EndCause>,
    audit_state: Option<AuditState>,
}

impl WebhookData {
    /// What of an event may leave.
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
            actor_type: Some(event.actor.kind),
            access: more.access,
            starts_at: more.starts_at,
            expires_at: more.expires_at,
            ended_at: more.ended_at.or_else(|| ended.then_some(event.occurred_at)),
            cause: more.cause,
            audit_state: more.audit_state,
            webhook_endpoint_id: None,
        })
    }

    /// Whether an event is one that a CAEP receiver is told: access that ended before its time.
    ///
    /// Of a session that ran out they know by `exp`, and nothing was revoked.
    pub(super) fn is_revocation(&self) -> bool {
        self.session_id.is_some() && self.cause.is_some_and(|cause| cause != EndCause::Expired)
    }
}

/// The body of a message and what it is. A repeat is the same, byte for byte, but for the signature of a SET.
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
        datacontenttype: DataContentType::Json,
        data,
    };
    Ok(("application/cloudevents+json", serde_json::to_string(&message).map_err(Error::internal)?))
}
