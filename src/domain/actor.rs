//! An actor is the person, client or part of the service that caused an event.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::text_enum;
use crate::id::{ClientId, ConsultantId};

text_enum! {
    /// Type of an actor.
    pub enum ActorType {
        /// Support consultant: the bearer of a link, token or code that was mailed to them, or as the client asserts.
        Consultant = "consultant",
        /// User of the portal, as asserted by the client, not verified.
        PortalUser = "portal_user",
        /// API client.
        Client = "client",
        /// Part of the service itself, or an operator at its command line.
        System = "system",
    }
}

/// Actor that caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// Type of the actor.
    #[serde(rename = "type")]
    pub(crate) kind: ActorType,
    /// Identifier of the actor: of the consultant, client or part of the service, or the portal's of its user.
    #[schema(max_length = 128)]
    pub(crate) id: String,
    /// Name of the actor at the time of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub(crate) name: Option<String>,
}

impl Actor {
    pub(crate) fn consultant(id: &ConsultantId) -> Self {
        Self { kind: ActorType::Consultant, id: id.to_string(), name: None }
    }

    pub(crate) fn portal_user(id: &str, name: &str) -> Self {
        Self { kind: ActorType::PortalUser, id: id.to_owned(), name: Some(name.to_owned()) }
    }

    pub(crate) fn client(id: &ClientId, name: &str) -> Self {
        Self { kind: ActorType::Client, id: id.to_string(), name: Some(name.to_owned()) }
    }

    pub(crate) fn system(part: &str) -> Self {
        Self { kind: ActorType::System, id: part.to_owned(), name: None }
    }

    /// The actor in a record that is kept for ever: a person by the identifier alone.
    pub(crate) fn for_ever(self) -> Self {
        let is_person = matches!(self.kind, ActorType::Consultant | ActorType::PortalUser);
        Self { name: self.name.filter(|_| !is_person), ..self }
    }
}
