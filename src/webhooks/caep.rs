//! Security event tokens (RFC 8417) in the words of CAEP 1.0, for receivers that speak them.

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

/// The session does not hold any more (CAEP 1.0).
const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

/// The receiver can be reached (Shared Signals Framework 1.0).
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

/// What a security event token claims. It has no `exp`: what has happened stays so.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SetMessage {
    /// The service that it comes from.
    #[schema(max_length = 500, example = "https://links.example")]
    iss: String,
    /// The endpoint's `audience`, or its address.
    #[schema(max_length = 500)]
    aud: String,
    /// The message; a repeat has the same.
    jti: MessageId,
    /// When it happened, in seconds since 1970.
    iat: i64,
    /// The event of the trail.
    #[serde(skip_serializing_if = "Option::is_none")]
    txn: Option<EventId>,
    /// What it is about: the session, the profile and the tenant.
    sub_id: SetSubject,
    /// One event, by its URI.
    events: BTreeMap<String, SetEvent>,
}

/// A subject (RFC 9493): `opaque` with `id`, `iss_sub` with `iss` and `sub`, `complex` with the rest.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct SetSubject {
    /// Which members there are.
    format: SubjectFormat,
    /// An id of ours or of the portal's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    id: Option<String>,
    /// `iss` of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    iss: Option<String>,
    /// `sub` of the access token: the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    sub: Option<String>,
    /// The session, `sid` of the access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    session: Option<Box<SetSubject>>,
    /// As whom it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    user: Option<Box<SetSubject>>,
    /// The customer company.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    tenant: Option<Box<SetSubject>>,
}

text_enum! {
    /// How a subject is named (RFC 9493; `complex` is of the Shared Signals Framework).
    pub enum SubjectFormat {
        /// By an id that says nothing by itself.
        Opaque = "opaque",
        /// By `iss` and `sub` of a token.
        IssSub = "iss_sub",
        /// By several sides.
        Complex = "complex",
    }
}

text_enum! {
    /// Who set it off.
    pub enum Initiator {
        /// The customer's administrator, or an operator.
        Admin = "admin",
        /// The consultant.
        User = "user",
        /// The service.
        System = "system",
    }
}

/// What happened.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct SetEvent {
    /// When, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    event_timestamp: Option<i64>,
    /// Who set it off.
    #[serde(skip_serializing_if = "Option::is_none")]
    initiating_entity: Option<Initiator>,
    /// Why, by language: a word, and never what a person wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_admin: Option<BTreeMap<String, String>>,
    /// In a verification: the message.
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

/// The claims of a message. They are the same at each attempt.
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
        let cause = data.cause.unwrap_or(EndCause::Revoked);
        let event = SetEvent {
            event_timestamp: Some(data.ended_at.unwrap_or(delivery.created_at).unix_seconds()),
            initiating_entity: Some(match data.actor_type {
                Some(ActorType::Consultant) => Initiator::User,
                Some(ActorType::PortalUser | ActorType::Client) => Initiator::Admin,
                Some(ActorType::System) | None => Initiator::System,
            }),
            reason_admin: Some(BTreeMap::from([("en".to_owned(), cause.to_string())])),
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
