//! A magic link grants access: one consultant, one portal, one profile, one time window.
//!
//! Its state follows from its times and is never stored. Its token is minted
//! when it is mailed, can be spent once, and is invalidated by the next generation.

mod announce;
mod approval;
mod change;
mod changing;
mod decisions;
pub(crate) mod device;
mod emergency;
mod expire;
pub(crate) mod extensions;
mod freeze;
mod grant;
mod issue;
mod landing;
mod lapse;
mod read;
mod resend;
mod review;
mod revoke;
pub(crate) mod routes;
mod signed;
pub(crate) mod step_up;
mod store;
mod withdrawing;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::domain::{
    Access, Actor, AuditState, ConsultantRef, Forbidden, Issuer, IssuerRef, LinkState, ModuleName, Person, Profile,
    ProfileRef, Reentry, WindowLength, trimmed, trimmed_if_present,
};
use crate::id::{ClientId, ConsultantId, LinkId};
use crate::mail::Delivery;

pub(crate) use announce::announce_ends;
pub(crate) use approval::withdraw_matched;
pub(crate) use change::{correct, extend, shorten};
pub(crate) use expire::record_expired;
pub(crate) use extensions::extension_shown;
pub use freeze::{Issuing, SetIssuing};
pub(crate) use freeze::{freeze_now, issuing, set_issuing};
pub(crate) use issue::{draft, issue};
pub(crate) use lapse::lapse;
pub(crate) use read::{list, one_within, read};
pub(crate) use resend::{renew, resend};
pub(crate) use review::review;
pub(crate) use revoke::{revoke, revoke_where};
pub(crate) use store::void_challenges;

/// Magic link to issue.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "tenant_id": "acme", "portal": "cloud", "consultant_id": "con_01kaq3v9e8fwmvd2x7n0c5hb3z",
    "reason": "Payroll run for November stops at step 3", "ticket": "SUP-48213",
    "duration": {"value": 4, "unit": "hours"},
    "profile": {"id": "emp-1042", "name": "Asha Rao"},
    "issued_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"},
    "access": "full", "forbidden": ["export", "bank_account"]
}))]
pub struct IssueLink {
    /// Portal's identifier of the tenant (customer company).
    #[schema(min_length = 1, max_length = 64)]
    pub tenant_id: String,
    /// Identifier of the portal, as configured in the service, such as `cloud` or `ess`.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Identifier of the consultant who gets access.
    pub consultant_id: ConsultantId,
    /// Why access is granted, in the words of the person who grants it.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Identifier of the support ticket.
    #[schema(min_length = 1, max_length = 64)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub ticket: Option<String>,
    /// Length of the window; by default the one that the tenant's policy sets, if it does.
    pub duration: Option<WindowLength>,
    /// When the window begins (RFC 3339); default now.
    pub starts_at: Option<Timestamp>,
    /// Profile the consultant acts as.
    pub profile: Profile,
    /// Person who grants the access; recorded as asserted by the client, not verified.
    pub issued_by: Issuer,
    /// Access level of the consultant; default `full`.
    #[serde(default = "full")]
    #[schema(default = "full")]
    pub access: Access,
    /// Portal's words for the only modules that the consultant may enter: 1 to 20, each once. Absent for all of them.
    /// What the words mean, and that they are kept to, is the portal's.
    #[schema(min_items = 1, max_items = 20, value_type = Option<Vec<ModuleName>>, example = json!(["payroll"]))]
    pub modules: Option<Vec<String>>,
    /// What the consultant must not do, though the profile may, each once. The portal refuses it; what it reports all the
    /// same is marked `policy_violation`.
    #[serde(default)]
    #[schema(max_items = 10, default = json!([]), example = json!(["export", "bank_account"]))]
    pub forbidden: Vec<Forbidden>,
    /// How visits after the first one begin; default `mail`. `device` is for portals with `step_up` `email_code` and the
    /// service's own landing page.
    #[serde(default = "by_mail")]
    #[schema(default = "mail")]
    pub reentry: Reentry,
    /// Person at the portal who sent the request, if not `issued_by`; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Whether the link takes the place of the one that gives the same consultant the same access (tenant, portal and
    /// profile), if there is one; default `false`. Needs the scope `links:revoke`, too, and a link that opens at once.
    #[serde(default)]
    #[schema(default = false)]
    pub replace: bool,
    /// Whether to check the request only: 200 with the link as it would be, and nothing is written or mailed; its id names
    /// nothing. Default `false`. Takes no `Idempotency-Key`.
    #[serde(default)]
    #[schema(default = false)]
    pub validate_only: bool,
    /// Emergency for which the link waits for no approval; needs the scope `links:emergency`, too, and a policy of the
    /// tenant that allows it. Such a link begins at once, lasts at most 4 hours, can be neither extended nor replaced, and
    /// has to be reviewed within 72 hours. Everybody concerned is told.
    pub emergency: Option<decisions::Emergency>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

const fn full() -> Access {
    Access::Full
}

const fn by_mail() -> Reentry {
    Reentry::Mail
}

/// Request to revoke a link.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "The work is done", "requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct RevokeLink {
    /// Why the link is revoked.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Request to let a link end later.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "duration": {"value": 4, "unit": "hours"}, "reason": "The payroll run has to be repeated",
    "extended_by": {"id": "emp-7", "name": "Meera Iyer"}
}))]
pub struct ExtendLink {
    /// How much later the window ends. The whole window lasts at most as long as a link may.
    pub duration: WindowLength,
    /// Why the access lasts longer, in the words of the person who extends it.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Person who extends the access; recorded as asserted by the client, not verified. With an `email` where the
    /// extension waits for an approval.
    pub extended_by: Issuer,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Request to let a link end earlier.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "expires_at": "2040-01-01T00:00:00Z", "reason": "The work takes less time than planned",
    "requested_by": {"id": "emp-7", "name": "Meera Iyer"}
}))]
pub struct ShortenLink {
    /// When the window ends (RFC 3339): at least 60 seconds from now, after its beginning, and before its present end.
    pub expires_at: Timestamp,
    /// Why the access ends earlier.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Correction of a link; what is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"ticket": "SUP-48231", "requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct CorrectLink {
    /// Why access was granted; the reason before is kept in the link's evidence.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub reason: Option<String>,
    /// Identifier of the support ticket; an empty text removes it.
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Request to mail a fresh link.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct ResendLink {
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Device that a consultant chose to have remembered for a link.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct RememberedDevice {
    /// JWK thumbprint of the key that its browser keeps (RFC 7638).
    #[schema(max_length = 64)]
    pub thumbprint: String,
    /// When it was remembered (RFC 3339, UTC).
    pub remembered_at: Timestamp,
}

/// Magic link; its token is never included.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LinkResponse {
    /// Identifier of the link.
    pub id: LinkId,
    /// State of the link, derived from its times.
    pub state: LinkState,
    /// Portal's identifier of the tenant (customer company).
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Identifier of the portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Consultant who gets access.
    pub consultant: ConsultantRef,
    /// Profile the consultant acts as.
    pub profile: ProfileRef,
    /// Why access was granted; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// Identifier of the support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// Access level of the consultant.
    pub access: Access,
    /// Portal's words for the only modules that the consultant may enter; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    pub modules: Option<Vec<String>>,
    /// What the consultant must not do, though the profile may; absent where nothing is forbidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, required = false)]
    pub forbidden: Vec<Forbidden>,
    /// How visits after the first one of a mail begin.
    pub reentry: Reentry,
    /// Device that is remembered, and opens the link again without a mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<RememberedDevice>,
    /// When the link's window begins (RFC 3339, UTC).
    pub starts_at: Timestamp,
    /// When the link's window ends (RFC 3339, UTC).
    pub expires_at: Timestamp,
    /// Person who granted the access, as asserted by the client.
    pub issued_by: IssuerRef,
    /// Delivery of the newest mail with the link; absent where there is none, as of what waits for an approval or never got
    /// one, or none any more, once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// When the link was issued (RFC 3339, UTC).
    pub created_at: Timestamp,
    /// When the newest token of the link was spent, or its newest visit began on the remembered device (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spent_at: Option<Timestamp>,
    /// When the link was revoked (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Timestamp>,
    /// Actor who revoked the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<Actor>,
    /// Why the link was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 600)]
    pub revoke_reason: Option<String>,
    /// Link for the same access that took this one's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<LinkId>,
    /// Completeness of the activity reports: the worst state among the link's sessions.
    pub audit_state: AuditState,
    /// When the link's first session was opened (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_used_at: Option<Timestamp>,
    /// When the link's newest session was opened (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<Timestamp>,
    /// Whether the link has a live session.
    pub in_use: bool,
    /// Number of activity events that the link's sessions reported.
    #[schema(minimum = 0)]
    pub event_count: i64,
    /// Emergency for which the link was issued without an approval, and its review.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emergency: Option<decisions::EmergencyResponse>,
    /// Approval that the link waits for, or waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<decisions::Approval>,
    /// Extension that waits for an approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<decisions::PendingExtension>,
    /// Client that issued the link; absent for the command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// When names, addresses, reasons and ticket were erased, which are absent since (RFC 3339, UTC): the tenant's
    /// retention is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}
