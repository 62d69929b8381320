//! A magic link is the grant: one consultant, one portal, one profile, one window.
//!
//! Its state follows from its times and is never stored. Its token is minted
//! when it is mailed, can be spent once, and is voided by the next generation.

mod expire;
mod freeze;
mod issue;
mod landing;
mod read;
mod resend;
mod revoke;
pub(crate) mod routes;
pub(crate) mod step_up;
mod store;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::domain::{Access, Actor, AuditState, ConsultantRef, DurationUnit, Issuer, LinkState, Person, Profile};
use crate::id::{ConsultantId, LinkId};
use crate::mail::Delivery;

pub(crate) use expire::record_expired;
pub(crate) use freeze::{freeze, unfreeze};
pub(crate) use issue::issue;
pub(crate) use read::{list, read, view_within};
pub(crate) use resend::resend;
pub(crate) use revoke::{revoke, revoke_where};

/// How long a window is.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowLength {
    /// How many units.
    #[schema(minimum = 1, maximum = 8760, example = 4)]
    pub value: i64,
    /// Which unit.
    pub unit: DurationUnit,
}

/// A link to issue: the HR admin's form, field by field.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "tenant_id": "acme", "portal": "cloud", "consultant_id": "con_01kaq3v9e8fwmvd2x7n0c5hb3z",
    "reason": "Payroll run for November stops at step 3", "ticket": "SUP-48213",
    "duration": {"value": 4, "unit": "hours"},
    "profile": {"id": "emp-1042", "name": "Asha Rao"},
    "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"},
    "access": "full"
}))]
pub struct IssueLink {
    /// The customer company, by the portal's own id.
    #[schema(min_length = 1, max_length = 64)]
    pub tenant_id: String,
    /// The portal: `cloud`, `ess`, or whatever the service is configured for.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Who gets access.
    pub consultant_id: ConsultantId,
    /// Why, in the words of the person who grants it.
    #[schema(min_length = 10, max_length = 500)]
    pub reason: String,
    /// The ticket it belongs to.
    #[schema(min_length = 1, max_length = 64)]
    pub ticket: Option<String>,
    /// How long.
    pub duration: WindowLength,
    /// When the window begins; now unless told.
    pub starts_at: Option<Timestamp>,
    /// As whom.
    pub profile: Profile,
    /// Who grants it; recorded as the client asserts it.
    pub issued_by: Issuer,
    /// How much; `full` unless told.
    #[serde(default = "full")]
    pub access: Access,
    /// Who at the portal sent the form, where that is not `issued_by`.
    pub requested_by: Option<Person>,
    /// The support session that the caller acts in; a call with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

const fn full() -> Access {
    Access::Full
}

/// Why a link is revoked.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The work is done", "requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct RevokeLink {
    /// Why.
    #[schema(min_length = 3, max_length = 500)]
    pub reason: String,
    /// Who at the portal asked; recorded as the client asserts it.
    pub requested_by: Option<Person>,
    /// The support session that the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Who asks for a fresh mail.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct ResendLink {
    /// Who at the portal asked; recorded as the client asserts it.
    pub requested_by: Option<Person>,
    /// The support session that the caller acts in; a call with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// A link as callers see it. The token is never part of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LinkResponse {
    /// Its id.
    pub id: LinkId,
    /// Where it is in its life.
    pub state: LinkState,
    /// The customer company.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// The portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Who gets access.
    pub consultant: ConsultantRef,
    /// As whom.
    pub profile: Profile,
    /// Why.
    #[schema(max_length = 500)]
    pub reason: String,
    /// The ticket it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// How much.
    pub access: Access,
    /// When the window begins.
    pub starts_at: Timestamp,
    /// When the window ends.
    pub expires_at: Timestamp,
    /// Who granted it.
    pub issued_by: Issuer,
    /// What became of the newest mail.
    pub delivery: Delivery,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When its newest token was spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent_at: Option<Timestamp>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Who revoked it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<Actor>,
    /// Why it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 600)]
    pub revoke_reason: Option<String>,
    /// Whether every reported act of its sessions has arrived: the worst of them.
    pub audit_state: AuditState,
}
