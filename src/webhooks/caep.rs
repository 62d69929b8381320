//! Security event tokens (SET, RFC 8417) with CAEP 1.0 events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Endpoint;
use super::message::{self, WebhookData};
use super::store::Delivery;
use crate::db::text_enum;
use crate::domain::{ActorType, EndCause};
use crate::id::{EventId, MessageId};
use crate::tokens::Claims;

/// Event type `session-revoked` (CAEP 1.0).
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// Event type `verification` (Shared Signals Framework 1.0).
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// Claims of a security event token (RFC 8417). There is no `exp`: an event does not expire.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SetMessage {
    /// Issuer: the service's `public_url`.
    #[schema(max_length = 500, example = "https://links.example")]
    iss: String,
    /// Audience: the endpoint's `audience`, or else its URL.
    #[schema(max_length = 500)]
    aud: String,
    /// Message id, the same at each attempt.
    jti: MessageId,
    /// When the event was recorded, or the test requested (seconds since 1970-01-01T00:00:00Z).
    iat: i64,
    /// Audit event id; absent for a verification.
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<EventId>,
    /// Subject of the event: session, profile and tenant; for a verification, the endpoint.
    sub_id: SetSubject,
    /// The event by its type's URI; exactly one.
    events: BTreeMap<String, SetEvent>,
}

/// A subject (RFC 9493): `opaque` with `id`, `iss_sub` with `iss` and `sub`, `complex` with the rest.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SetSubject {
    /// Subject identifier format, which decides the members present.
    format: SubjectFormat,
    /// Opaque id of a session, tenant or webhook endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    id: Option<String>,
    /// `iss` claim of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    iss: Option<String>,
    /// `sub` claim of the access token: the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    sub: Option<String>,
    /// Session, the `sid` claim of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    session: Option<Box<SetSubject>>,
    /// Profile the consultant acted as.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    user: Option<Box<SetSubject>>,
    /// Tenant of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    tenant: Option<Box<SetSubject>>,
}

text_enum! {
    /// Subject identifier format (RFC 9493; `complex` is defined by the Shared Signals Framework).
    pub enum SubjectFormat {
        /// An opaque `id`.
        Opaque = "opaque",
        /// `iss` and `sub` of a token.
        IssSub = "iss_sub",
        /// Several subjects: session, user and tenant.
        Complex = "complex",
    }
}

text_enum! {
    /// Entity that initiated the event (CAEP 1.0).
    pub enum Initiator {
        /// An administrator of the customer, or an operator.
        Admin = "admin",
        /// The consultant.
        User = "user",
        /// The service.
        System = "system",
    }
}

/// Event payload (CAEP 1.0).
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SetEvent {
    /// When the session ended (seconds since 1970-01-01T00:00:00Z).
    #[serde(skip_serializing_if = "Option::is_none")]
    event_timestamp: Option<i64>,
    /// Entity that initiated the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    initiating_entity: Option<Initiator>,
    /// Cause of the session's end by language tag: a fixed term, never free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_admin: Option<BTreeMap<String, String>>,
    /// Order of the events about a link, as in the other format: an event with a lower number than one that was received
    /// is older and can be dropped. Absent in a verification. RFC 8417 leaves an event's further members to its issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, example = 4213)]
    sequence: Option<i64>,
    /// Message id in a verification event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 30)]
    state: Option<String>,
}

impl SetSubject {
    const fn named(format: SubjectFormat) -> Self {
        Self { format, id: None, iss: None, sub: None, session: None, user: None, tenant: None }
    }

    fn opaque(id: String) -> Self {
        Self { id: Some(id), ..Self::named(SubjectFormat::Opaque) }
    }
}

impl Claims for SetMessage {
    const TYP: &'static str = "secevent+jwt";

    fn issued_at(&self) -> i64 {
        self.iat
    }
}

/// The claims of a message, the same at each attempt.
pub(super) fn claims(issuer: &str, delivery: &Delivery, endpoint: &Endpoint, data: &WebhookData) -> SetMessage {
    let (uri, sub_id, event) = if delivery.event_type == message::TEST {
        let event = SetEvent { state: Some(delivery.id.to_string()), ..SetEvent::default() };
        (VERIFICATION, SetSubject::opaque(endpoint.id.to_string()), event)
    } else {
        let subject = SetSubject {
            session: data.session_id.as_ref().map(|id| Box::new(SetSubject::opaque(id.to_string()))),
            user: Some(Box::new(SetSubject {
                iss: Some(issuer.to_owned()),
                sub: data.profile_id.clone(),
                ..SetSubject::named(SubjectFormat::IssSub)
            })),
            tenant: data.tenant_id.clone().map(|id| Box::new(SetSubject::opaque(id))),
            ..SetSubject::named(SubjectFormat::Complex)
        };
        let cause = data.cause.clone().unwrap_or_else(|| EndCause::Revoked.to_string());
        let event = SetEvent {
            event_timestamp: Some(data.ended_at.unwrap_or(delivery.created_at).unix_seconds()),
            initiating_entity: Some(match data.actor_type.as_deref().and_then(|kind| kind.parse().ok()) {
                Some(ActorType::Consultant) => Initiator::User,
                Some(ActorType::PortalUser | ActorType::Client) => Initiator::Admin,
                Some(ActorType::System) | None => Initiator::System,
            }),
            reason_admin: Some(BTreeMap::from([("en".to_owned(), cause)])),
            sequence: Some(delivery.log_index + 1),
            state: None,
        };
        (SESSION_REVOKED, subject, event)
    };
    SetMessage {
        iss: issuer.to_owned(),
        aud: endpoint.audience.clone().unwrap_or_else(|| endpoint.url.clone()),
        jti: delivery.id.clone(),
        iat: delivery.created_at.unix_seconds(),
        txn: delivery.event_id.clone(),
        sub_id,
        events: BTreeMap::from([(uri.to_owned(), event)]),
    }
}
