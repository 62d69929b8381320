//! What is said about a link or an extension that waits for an approval: requests and answers.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::domain::{Access, Actor, Issuer, Person, Validator, WindowLength, trimmed, trimmed_if_present};
use crate::id::{ClientId, ExtensionId};
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_requests::{LinkRequest, RequestState};

/// How long a request waits for a decision.
pub(super) const PATIENCE: Duration = Duration::hours(24);

/// Person at the portal who approves or denies an access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Approver {
    /// Portal's identifier of the person.
    #[schema(min_length = 1, max_length = 128, example = "emp-3")]
    pub id: String,
    /// Name of the person.
    #[schema(min_length = 1, max_length = 100, example = "Vikram Shah")]
    #[serde(deserialize_with = "trimmed")]
    pub name: String,
    /// E-mail address of the person: neither the one of who asks, nor the consultant's.
    #[schema(max_length = 254, example = "vikram.shah@acme.example")]
    pub email: String,
}

/// Approval of a link that waits for one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"},
    "duration": {"value": 2, "unit": "hours"}, "comment": "Two hours are enough"
}))]
pub struct ApproveLink {
    /// Person who approves; recorded as asserted by the client, not verified. Neither who asked, nor the consultant.
    pub approver: Approver,
    /// Why, in the words of the person who approves.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub comment: Option<String>,
    /// A shorter window than the one that was asked for.
    pub duration: Option<WindowLength>,
    /// A lower access level than the one that was asked for.
    pub access: Option<Access>,
    /// Identifier of the support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Approval of an extension that waits for one.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"},
    "duration": {"value": 1, "unit": "hours"}
}))]
pub struct ApproveExtension {
    /// Person who approves; recorded as asserted by the client, not verified. Neither who asked, nor the consultant.
    pub approver: Approver,
    /// Why, in the words of the person who approves.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub comment: Option<String>,
    /// A shorter extension than the one that was asked for.
    pub duration: Option<WindowLength>,
    /// Identifier of the support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Denial of a link, or of an extension, that waits for an approval.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "approver": {"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"},
    "reason": "The payroll run is over"
}))]
pub struct DenyLink {
    /// Person who denies; recorded as asserted by the client, not verified.
    pub approver: Approver,
    /// Why the access is denied; told to the person who asked.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Identifier of the support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Withdrawal of a request for a link, or for an extension.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"requested_by": {"id": "emp-7", "name": "Meera Iyer"}, "reason": "It was solved by telephone"}))]
pub struct WithdrawLink {
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Why the request is withdrawn.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub reason: Option<String>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Approval that a link waits for, or waited for.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Approval {
    /// Whether the link needs an approval: always true.
    pub required: bool,
    /// State of the request for it.
    pub state: RequestState,
    /// When the request lapses unless somebody decides (RFC 3339, UTC).
    pub lapses_at: Timestamp,
    /// Length of the window that was asked for.
    pub duration: WindowLength,
    /// Access level that was asked for.
    pub access: Access,
    /// Why access was asked for, in the words that were approved.
    #[schema(max_length = 500)]
    pub reason: String,
    /// When it was decided (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Who decided, as asserted by the client; nobody where it lapsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Actor>,
    /// E-mail address of the person who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 254)]
    pub decided_by_email: Option<String>,
    /// Client through which it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by_client_id: Option<ClientId>,
    /// Why it was decided so.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 600)]
    pub decision_reason: Option<String>,
}

impl Approval {
    pub(super) fn of(request: &LinkRequest, now: Timestamp) -> Self {
        let state = request.state(now);
        let decision = request.decision();
        let lapsed_at = (state == RequestState::Lapsed).then_some(request.lapses_at);
        Self {
            required: true,
            state,
            lapses_at: request.lapses_at,
            duration: WindowLength::of(request.length()),
            access: request.access,
            reason: request.reason.clone(),
            decided_at: request.decided_at.or(lapsed_at),
            decided_by_email: decision.as_ref().and_then(|decision| decision.email.clone()),
            decided_by_client_id: decision.as_ref().and_then(|decision| decision.client_id.clone()),
            decision_reason: decision.as_ref().and_then(|decision| decision.reason.clone()),
            decided_by: decision.map(|decision| decision.by),
        }
    }
}

/// Extension that waits for an approval; the link stays as it is meanwhile.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PendingExtension {
    /// Identifier of the extension.
    pub id: ExtensionId,
    /// How much later the link is to end.
    pub duration: WindowLength,
    /// When the link is to end (RFC 3339, UTC).
    pub expires_at: Timestamp,
    /// Why the access is to last longer.
    #[schema(max_length = 500)]
    pub reason: String,
    /// Person who asked for it.
    pub extended_by: Issuer,
    /// When it lapses unless somebody decides (RFC 3339, UTC).
    pub lapses_at: Timestamp,
}

impl PendingExtension {
    pub(super) fn of(request: &ExtensionRequest) -> Self {
        Self {
            id: request.id.clone(),
            duration: WindowLength::of(request.length()),
            expires_at: request.previous_expires_at.plus(request.length()),
            reason: request.reason.clone(),
            extended_by: Issuer {
                id: request.asked_by_id.clone(),
                name: request.asked_by_name.clone(),
                email: Some(request.asked_by_email.clone()),
            },
            lapses_at: request.lapses_at,
        }
    }
}

/// Whether two persons are one: the same identifier or address, whatever the case of their letters.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

/// Checks who decides; returns the address.
pub(super) fn check_approver(fields: &mut Validator, approver: &Approver) -> String {
    fields.external_id("/approver/id", &approver.id);
    fields.text("/approver/name", &approver.name, 1, 100);
    fields.email("/approver/email", &approver.email)
}
