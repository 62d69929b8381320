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

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{Actor, ActorType};
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::error::Code;
use crate::domain::{Fields, json};
use crate::id::{ClientId, ConsultantId, LinkId};
use crate::mail::Delivery;
use crate::domain::AuditState;
use crate::domain::Access;
use crate::domain::LinkState;
use crate::domain::DurationUnit;
use crate::domain::Profile;
use crate::domain::Issuer;
use crate::domain::Person;
use crate::domain::ConsultantRef;

pub(crate) use expire::record_expired;
pub(crate) use freeze::{freeze, unfreeze};
pub(crate) use issue::issue;
pub(crate) use read::{LinkFilter, current, list, read, view_within};
pub(crate) use resend::resend;
pub(crate) use revoke::{Revoking, revoke, revoke_all_issued_by, revoke_all_of, revoke_all_signed_by, revoke_these};
pub(crate) use store::{Spend, find, spend};

/// A link as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::magic_links)]
pub(crate) struct Link {
    pub id: LinkId,
    pub tenant_id: String,
    pub portal: String,
    pub consultant_id: ConsultantId,
    pub profile_id: String,
    pub profile_name: String,
    pub profile_email: Option<String>,
    pub reason: String,
    pub ticket: Option<String>,
    pub access: Access,
    pub starts_at: Timestamp,
    pub expires_at: Timestamp,
    pub issued_by_id: String,
    pub issued_by_name: String,
    pub issued_by_email: Option<String>,
    pub client_id: Option<ClientId>,
    pub created_at: Timestamp,
    pub generation: i32,
    pub resent_at: Option<Timestamp>,
    pub spent_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub revoke_reason: Option<String>,
    pub revoked_by_type: Option<ActorType>,
    pub revoked_by_id: Option<String>,
    pub revoked_by_name: Option<String>,
    /// The newest order of revocation when it was issued: that one and those before it do not concern the link.
    #[diesel(skip_insertion)]
    #[expect(dead_code, reason = "statements compare it, and nobody else")]
    pub issued_after: Option<i64>,
}

impl Link {
    /// The state that follows from the times.
    pub(crate) fn state(&self, now: Timestamp) -> LinkState {
        if self.revoked_at.is_some() {
            LinkState::Revoked
        } else if self.expires_at <= now {
            LinkState::Expired
        } else if self.starts_at > now {
            LinkState::Scheduled
        } else {
            LinkState::Active
        }
    }

    /// Why a token of this generation cannot be used, if it cannot.
    pub(crate) fn why_not(&self, generation: i32, now: Timestamp) -> Option<Code> {
        match self.state(now) {
            LinkState::Revoked => Some(Code::LinkRevoked),
            LinkState::Expired => Some(Code::LinkExpired),
            LinkState::Scheduled | LinkState::Active if generation != self.generation => Some(Code::LinkSuperseded),
            LinkState::Scheduled => Some(Code::LinkNotYetValid),
            LinkState::Active => self.spent_at.is_some().then_some(Code::LinkSpent),
        }
    }

    fn revoked_by(&self) -> Option<Actor> {
        let (kind, id) = (self.revoked_by_type?, self.revoked_by_id.clone()?);
        Some(Actor { kind, id, name: self.revoked_by_name.clone() })
    }
}

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
    #[serde(deserialize_with = "json::object")]
    pub duration: WindowLength,
    /// When the window begins; now unless told.
    pub starts_at: Option<Timestamp>,
    /// As whom.
    #[serde(deserialize_with = "json::object")]
    pub profile: Profile,
    /// Who grants it; recorded as the client asserts it.
    #[serde(deserialize_with = "json::object")]
    pub issued_by: Issuer,
    /// How much; `full` unless told.
    #[serde(default = "full")]
    pub access: Access,
    /// Who at the portal sent the form, where that is not `issued_by`.
    #[serde(default, deserialize_with = "json::optional_object")]
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
    #[serde(default, deserialize_with = "json::optional_object")]
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
    #[serde(default, deserialize_with = "json::optional_object")]
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
