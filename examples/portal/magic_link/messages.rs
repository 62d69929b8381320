//! What is said to the service and what it answers, field by field as far as this portal needs it.
//!
//! Unknown fields in answers are ignored, so the service may add some.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// An RFC 9457 problem. `code` is the stable part: decide by it, show the texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    pub status: u16,
    pub code: String,
    pub title: String,
    pub detail: String,
    pub errors: Vec<FieldError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct FieldError {
    /// A JSON pointer into the request, such as `/duration/value`.
    pub pointer: String,
    pub detail: String,
}

/// Stands where the service has erased a name or a reason, because the time for which it keeps them is over.
pub const ERASED: &str = "(erased)";

/// A person as a link names one. A name is gone once it is erased: who requires it loses the whole list of links.
#[derive(Clone, Debug, Deserialize)]
pub struct Named {
    pub name: Option<String>,
}

impl Named {
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(ERASED)
    }
}

/// A person as the portal names one: the shared profile, or the admin who grants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Person {
    pub id: String,
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Consultant {
    pub id: String,
    /// Absent once it is erased.
    pub name: Option<String>,
    /// Absent where the consultant is only mentioned, as in a link.
    #[serde(default)]
    pub state: String,
}

impl Consultant {
    pub fn shown(&self) -> &str {
        self.name.as_deref().unwrap_or(ERASED)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    Full,
    ReadOnly,
}

#[derive(Debug, Serialize)]
pub struct Grant<'a> {
    pub tenant_id: &'a str,
    pub portal: &'a str,
    pub consultant_id: &'a str,
    pub reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<&'a str>,
    pub duration: Length<'a>,
    pub profile: &'a Person,
    pub issued_by: &'a Person,
    pub access: Access,
    /// The only parts of the portal, in its own words; absent for all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<&'a str>,
    /// What the consultant must not do, in the service's words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbidden: Vec<&'a str>,
    /// The support session from inside which the form was sent. The service refuses such a grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acting_session_id: Option<&'a str>,
}

#[derive(Debug, Serialize)]
pub struct Length<'a> {
    pub value: u32,
    pub unit: &'a str,
}

#[derive(Debug, Deserialize)]
pub struct Link {
    pub id: String,
    pub state: String,
    pub tenant_id: String,
    pub portal: String,
    pub consultant: Consultant,
    pub profile: Named,
    /// Absent once it is erased.
    pub reason: Option<String>,
    pub ticket: Option<String>,
    pub access: Access,
    pub modules: Option<Vec<String>>,
    #[serde(default)]
    pub forbidden: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    pub starts_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
    /// Absent where no mail with the link is known, or none any more.
    pub delivery: Option<Delivery>,
    /// Whether somebody is inside with it now.
    #[serde(default)]
    pub in_use: bool,
    /// The approval that it waits for, or waited for.
    pub approval: Option<Approval>,
    /// The extension that waits for an approval.
    pub extension: Option<Extension>,
}

impl Link {
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(ERASED)
    }
}

#[derive(Debug, Deserialize)]
pub struct Approval {
    #[serde(with = "time::serde::rfc3339")]
    pub lapses_at: OffsetDateTime,
}

#[derive(Debug, Deserialize)]
pub struct Extension {
    pub id: String,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, Deserialize)]
pub struct Delivery {
    pub state: String,
}

#[derive(Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Absent on the last page.
    pub next_cursor: Option<String>,
}

/// What a code buys. The access token is a secret: there is no `Debug` here on purpose.
#[derive(Deserialize)]
pub struct OpenedSession {
    pub id: String,
    pub tenant_id: String,
    pub portal: String,
    pub profile: Person,
    pub consultant: Consultant,
    pub access_token: String,
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

/// What an access leaves out, for people.
pub fn limits(modules: Option<&[String]>, forbidden: &[String]) -> Vec<String> {
    let only = modules.map(|modules| format!("Only in: {}", modules.join(", ")));
    let never = (!forbidden.is_empty()).then(|| format!("Not included: {}", forbidden.join(", ").replace('_', " ")));
    only.into_iter().chain(never).collect()
}

/// The part of an active introspection that the guard compares.
#[derive(Clone, Debug, Deserialize)]
pub struct ActiveToken {
    pub sid: String,
    pub tenant_id: String,
    pub portal: String,
    /// The end that holds now. Of a link that was shortened it comes before the `expires_at` of the redemption.
    #[serde(with = "time::serde::timestamp")]
    pub exp: OffsetDateTime,
    pub access: Access,
    modules: Option<Vec<String>>,
    #[serde(default)]
    forbidden: Vec<String>,
    /// The session ends within a quarter of an hour.
    #[serde(default)]
    pub ends_soon: bool,
}

impl ActiveToken {
    pub fn is_read_only(&self) -> bool {
        self.access == Access::ReadOnly
    }

    pub fn includes(&self, module: &str) -> bool {
        self.modules.as_ref().is_none_or(|modules| modules.iter().any(|one| one == module))
    }

    pub fn forbids(&self, category: &str) -> bool {
        self.forbidden.iter().any(|one| one == category)
    }

    pub fn limits(&self) -> Vec<String> {
        limits(self.modules.as_deref(), &self.forbidden)
    }
}

#[derive(Deserialize)]
pub(super) struct Introspection {
    pub active: bool,
    /// `None` also when a field is missing or odd: then the guard has nothing to compare and stays shut.
    #[serde(flatten)]
    pub token: Option<ActiveToken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    View,
    Change,
}

/// One reported act with its number. The same number must always carry the same content.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    pub seq: u64,
    pub source: &'static str,
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    #[serde(flatten)]
    pub act: Act,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Act {
    pub kind: Kind,
    /// The part of the portal, in the words of a grant's `modules`.
    #[serde(skip)]
    pub module: &'static str,
    /// What of the words of a grant's `forbidden` it is, if it is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<&'static str>,
    pub action: &'static str,
    pub resource_type: &'static str,
    pub resource_id: String,
    /// The person whose data it is, if it is anybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub field: &'static str,
    pub before: String,
    pub after: String,
}

#[derive(Debug, Deserialize)]
pub struct AuditEvent {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(with = "time::serde::rfc3339")]
    pub occurred_at: OffsetDateTime,
    /// Everything else the service tells, shown as it comes.
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}
