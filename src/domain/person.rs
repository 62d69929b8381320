//! People, as the portals name them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Validator;
use crate::id::ConsultantId;

/// A person at the portal, by the portal's own id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// The portal's own id.
    #[schema(min_length = 1, max_length = 128, example = "emp-7")]
    pub id: String,
    /// Their name.
    #[schema(min_length = 1, max_length = 100, example = "Meera Iyer")]
    pub name: String,
}

/// As whom access is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The portal's own id.
    #[schema(min_length = 1, max_length = 128, example = "emp-1042")]
    pub id: String,
    /// Their name.
    #[schema(min_length = 1, max_length = 100, example = "Asha Rao")]
    pub name: String,
    /// Where its owner is told of the first use and of the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "asha.rao@acme.example")]
    pub email: Option<String>,
}

/// Who at the portal grants the access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// The portal's own id.
    #[schema(min_length = 1, max_length = 128, example = "emp-7")]
    pub id: String,
    /// Their name.
    #[schema(min_length = 1, max_length = 100, example = "Meera Iyer")]
    pub name: String,
    /// Where notices about the access go.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254, example = "hr@acme.example")]
    pub email: Option<String>,
}

/// Whom access is given to.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsultantRef {
    /// Their id.
    pub id: ConsultantId,
    /// Their name.
    #[schema(max_length = 100)]
    pub name: String,
    /// Where their links are mailed to.
    #[schema(max_length = 254)]
    pub email: String,
}

/// Checks a person that a client asserts.
pub(crate) fn check_person(fields: &mut Validator, pointer: &str, person: Option<&Person>) {
    if let Some(person) = person {
        fields.external_id(&format!("{pointer}/id"), &person.id);
        fields.text(&format!("{pointer}/name"), &person.name, 1, 100);
    }
}
