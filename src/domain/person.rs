//! People, as identified by the portals.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Validator, trimmed};
use crate::id::ConsultantId;

/// Whether two persons are one: the same identifier or address, whatever the case of their letters.
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

/// Person at the portal, or profile, by the portal's identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Portal's identifier of the person.
    #[schema(min_length = 1, max_length = 128, example = "emp-7")]
    pub id: String,
    /// Name of the person.
    #[schema(min_length = 1, max_length = 100, example = "Meera Iyer")]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
}

/// Profile the consultant acts as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Portal's identifier of the profile.
    #[schema(min_length = 1, max_length = 128, example = "emp-1042")]
    pub id: String,
    /// Name of the profile.
    #[schema(min_length = 1, max_length = 100, example = "Asha Rao")]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// E-mail address at which the profile's owner is notified of the first use and of the end of access; one
    /// that cannot be used is left out, and blocks no grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "asha.rao@acme.example")]
    pub email: Option<String>,
}

/// Person at the portal who grants the access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// Portal's identifier of the person.
    #[schema(min_length = 1, max_length = 128, example = "emp-7")]
    pub id: String,
    /// Name of the person.
    #[schema(min_length = 1, max_length = 100, example = "Meera Iyer")]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// E-mail address for notices about the access; one that cannot be used is left out, and blocks no grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "hr@acme.example")]
    pub email: Option<String>,
}

/// A text of a row, unless it was erased: the retention is over, and the text is empty.
pub(crate) fn unless_erased(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Person at the portal, as an answer names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PersonRef {
    /// Portal's identifier of the person.
    #[schema(max_length = 128, example = "emp-7")]
    pub id: String,
    /// Name of the person; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100, example = "Meera Iyer")]
    pub name: Option<String>,
}

impl PersonRef {
    pub(crate) fn of(id: String, name: String) -> Self {
        Self { id, name: unless_erased(name) }
    }
}

/// Profile the consultant acts as, as an answer names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProfileRef {
    /// Portal's identifier of the profile.
    #[schema(max_length = 128, example = "emp-1042")]
    pub id: String,
    /// Name of the profile; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100, example = "Asha Rao")]
    pub name: Option<String>,
    /// E-mail address at which the profile's owner is notified; absent without one, and once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "asha.rao@acme.example")]
    pub email: Option<String>,
}

/// Person at the portal who granted the access, as an answer names them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct IssuerRef {
    /// Portal's identifier of the person.
    #[schema(max_length = 128, example = "emp-7")]
    pub id: String,
    /// Name of the person; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100, example = "Meera Iyer")]
    pub name: Option<String>,
    /// E-mail address for notices about the access; absent without one, and once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "hr@acme.example")]
    pub email: Option<String>,
}

/// Consultant who has access now.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct NamedConsultant {
    /// Identifier of the consultant.
    pub id: ConsultantId,
    /// Name of the consultant.
    #[schema(max_length = 100)]
    pub name: String,
    /// E-mail address to which the consultant's links are mailed.
    #[schema(max_length = 254)]
    pub email: String,
}

/// Consultant who gets access.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsultantRef {
    /// Identifier of the consultant.
    pub id: ConsultantId,
    /// Name of the consultant; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub name: Option<String>,
    /// E-mail address to which the consultant's links are mailed; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub email: Option<String>,
}

impl ConsultantRef {
    pub(crate) fn of(id: ConsultantId, name: String, email: String) -> Self {
        Self { id, name: unless_erased(name), email: unless_erased(email) }
    }
}

/// Validates a person asserted by a client.
pub(crate) fn check_person(fields: &mut Validator, pointer: &str, person: Option<&Person>) {
    if let Some(person) = person {
        fields.external_id(&format!("{pointer}/id"), &person.id);
        fields.text(&format!("{pointer}/name"), &person.name, 1, 100);
    }
}
