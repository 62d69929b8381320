//! Who did something.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::db::text_enum;
use crate::id::{ClientId, ConsultantId};

text_enum! {
    /// What kind of actor did it.
    pub enum ActorType {
        /// The support consultant.
        Consultant = "consultant",
        /// A user of the portal, as the client names them.
        PortalUser = "portal_user",
        /// An API client.
        Client = "client",
        /// The service itself, or an operator at its command line.
        System = "system",
    }
}

/// Who did it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind of actor.
    #[serde(rename = "type")]
    pub(crate) kind: ActorType,
    /// Its id; for a portal user the portal's own.
    #[schema(max_length = 128)]
    pub(crate) id: String,
    /// Its name at that time.
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
}
