//! What is said about a link or an extension that waits for an approval: requests and answers.

use serde::{Deserialize, Deserializer, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::db::{AdvisoryLock, Conn};
use crate::domain::{
    Access, Actor, Finding, Issuer, Person, PersonRef, ReviewState, Validator, WindowLength, check_person, is_same,
    refuse_support_session, trimmed, trimmed_if_present, unless_erased,
};
use crate::error::Error;
use crate::id::{ClientId, ExtensionId};
use crate::mail;
use crate::records;
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_requests::{LinkRequest, RequestState};
use crate::records::link_reviews::Review;
use crate::records::links::Link;
use crate::tokens::{ApprovalTerms, check_signed};

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
    /// The approval as the customer has signed it, where the tenant has an approval key
    /// (`/v1/tenants/{id}/approval-key`): a JWS (ES256) in compact form with `typ` `magic-link-approval+jwt` and the key's
    /// thumbprint as `kid`, over exactly the members of `approval.terms` as they are approved, `approver_id`,
    /// `approver_email`, `iat` and `exp` (seconds since 1970; at most 24 hours later).
    #[schema(max_length = 16384)]
    #[serde(default, deserialize_with = "without_line_break")]
    pub signed_approval: Option<String>,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Reads what the customer has signed without the line break that a program prints behind it.
fn without_line_break<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    String::deserialize(deserializer).map(|text| Some(text.trim().to_owned()))
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
    /// The approval as the customer has signed it, where the tenant has an approval key
    /// (`/v1/tenants/{id}/approval-key`): a JWS (ES256) in compact form with `typ` `magic-link-extension-approval+jwt` and the key's
    /// thumbprint as `kid`, over exactly the members of `extension.terms` as they are approved, `approver_id`,
    /// `approver_email`, `iat` and `exp` (seconds since 1970; at most 24 hours later).
    #[schema(max_length = 16384)]
    #[serde(default, deserialize_with = "without_line_break")]
    pub signed_approval: Option<String>,
    /// Support session the caller acts in: a request with one is refused.
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
    /// Support session the caller acts in: a request with one is refused.
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
    /// Why access was asked for, in the words that were approved; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// When it was decided (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Timestamp>,
    /// Who decided, as asserted by the client unless there is a `signed_approval`; nobody where it lapsed. Absent once it is
    /// erased, with all else that is said of the decision.
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
    /// What the customer has to sign, where the tenant has an approval key; absent once it is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<ApprovalTerms>,
    /// The approval as the customer has signed it (JWS in compact form); absent where it is the client's word alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(rename = "signed_approval")]
    #[schema(max_length = 16384)]
    pub signed: Option<String>,
    /// Thumbprint of the key that signed it (RFC 7638).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 43)]
    pub key_thumbprint: Option<String>,
}

impl Approval {
    pub(super) fn of(request: &LinkRequest, now: Timestamp) -> Self {
        let state = request.state(now);
        let decision = request.decision();
        let lapsed_at = (state == RequestState::Lapsed).then_some(request.lapses_at);
        let signed = decision.as_ref().and_then(|decision| decision.signed.clone());
        let (signed, key_thumbprint) = signed.map(|signed| (signed.jws, signed.key_thumbprint)).unzip();
        Self {
            required: true,
            state,
            lapses_at: request.lapses_at,
            duration: WindowLength::of(request.length()),
            access: request.access,
            reason: unless_erased(request.reason.clone()),
            decided_at: request.decided_at.or(lapsed_at),
            decided_by_email: decision.as_ref().and_then(|decision| decision.email.clone()),
            decided_by_client_id: decision.as_ref().and_then(|decision| decision.client_id.clone()),
            decision_reason: decision.as_ref().and_then(|decision| decision.reason.clone()),
            decided_by: decision.map(|decision| decision.by),
            terms: (state == RequestState::Pending).then(|| request.terms()),
            signed,
            key_thumbprint,
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
    /// What the customer has to sign, where the tenant has an approval key.
    pub terms: ApprovalTerms,
}

impl PendingExtension {
    pub(super) fn of(request: &ExtensionRequest, link: &Link) -> Self {
        Self {
            id: request.id.clone(),
            duration: WindowLength::of(request.length()),
            expires_at: request.previous_expires_at.plus(request.length()),
            reason: request.reason.clone(),
            extended_by: request.asked_by(),
            terms: request.terms(link),
            lapses_at: request.lapses_at,
        }
    }
}

/// Refuses to ask the contacts of a tenant where the client has asked them so often within the hour.
///
/// # Errors
/// `rate_limited`
pub(super) fn require_room(
    conn: &mut Conn,
    by: (&str, Option<&ClientId>),
    per_hour: u32,
    now: Timestamp,
) -> Result<(), Error> {
    AdvisoryLock::AskForLinks.take(conn)?;
    let caused = records::asked::asked(conn, by, mail::within_the_hour(now), per_hour.into())?;
    mail::require_room(caused, per_hour, now)
}

/// A person by identifier, and by address where that is known.
pub(super) type Party<'a> = (&'a str, Option<&'a str>);

/// Whether a person is one of others, by identifier or by address.
pub(super) fn is_among(one: Party<'_>, others: &[Party<'_>]) -> bool {
    others.iter().any(|other| {
        is_same(one.0, other.0) || one.1.zip(other.1).is_some_and(|(address, other)| is_same(address, other))
    })
}

/// Checks an approval of a link or of an extension; returns the approver's address, and the shorter length.
pub(super) fn check_approval(
    approver: &Approver,
    comment: Option<&str>,
    duration: Option<WindowLength>,
    (signed_approval, acting_session_id): (Option<&str>, Option<&str>),
) -> Result<(String, Option<Duration>), Error> {
    refuse_support_session(acting_session_id)?;
    let mut fields = Validator::default();
    let email = check_approver(&mut fields, approver);
    fields.optional_text("/comment", comment, 3, 500);
    check_signed(&mut fields, "/signed_approval", signed_approval);
    let length = duration.map(WindowLength::duration);
    if length.is_some_and(|length| length.is_none()) {
        fields.error("/duration", "out_of_range", "must be at least one hour, and no longer than was asked for");
    }
    fields.finish()?;
    Ok((email, length.flatten()))
}

impl Approver {
    pub(super) fn actor(&self) -> Actor {
        Actor::portal_user(&self.id, &self.name)
    }
}

impl DenyLink {
    /// Checks the denial; returns the approver's address.
    pub(super) fn check(&self) -> Result<String, Error> {
        refuse_support_session(self.acting_session_id.as_deref())?;
        let mut fields = Validator::default();
        let email = check_approver(&mut fields, &self.approver);
        fields.text("/reason", &self.reason, 3, 500);
        fields.finish().map(|()| email)
    }
}

impl WithdrawLink {
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut fields = Validator::default();
        check_person(&mut fields, "/requested_by", self.requested_by.as_ref());
        fields.optional_text("/reason", self.reason.as_deref(), 3, 500);
        fields.optional_text("/acting_session_id", self.acting_session_id.as_deref(), 1, 64);
        fields.finish()
    }
}

/// Checks who decides; returns the address.
fn check_approver(fields: &mut Validator, approver: &Approver) -> String {
    fields.external_id("/approver/id", &approver.id);
    fields.text("/approver/name", &approver.name, 1, 100);
    fields.email("/approver/email", &approver.email)
}

/// Emergency for which a link is issued without an approval.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"justification": "Salaries are paid in one hour, and the run is stuck"}))]
pub struct Emergency {
    /// Why it could not wait for an approval.
    #[schema(min_length = 10, max_length = 500)]
    pub justification: String,
}

/// Emergency for which a link was issued, and its review.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct EmergencyResponse {
    /// Why it could not wait for an approval; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub justification: Option<String>,
    /// State of the review.
    pub review_state: ReviewState,
    /// When the review is due (RFC 3339, UTC): 72 hours after the link was issued.
    pub review_due_at: Timestamp,
    /// Review; absent until there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub review: Option<ReviewResponse>,
}

/// Review of an emergency link.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ReviewResponse {
    /// Person who reviewed the access, as asserted by the client.
    pub reviewer: PersonRef,
    /// What the review found.
    pub finding: Finding,
    /// What the reviewer says of it; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 1000)]
    pub comment: Option<String>,
    /// When the review was given (RFC 3339, UTC).
    pub reviewed_at: Timestamp,
}

/// Review to give.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "reviewer": {"id": "emp-8", "name": "Anil Rao"}, "finding": "justified",
    "comment": "The run was stuck, and nothing else was touched"
}))]
pub struct ReviewLink {
    /// Person who reviews the access: neither who granted it or sent the request, nor the consultant; recorded as asserted by the client, not verified.
    pub reviewer: Person,
    /// What the review found.
    pub finding: Finding,
    /// What the reviewer says of it.
    #[schema(min_length = 3, max_length = 1000)]
    pub comment: String,
    /// Support session the caller acts in: a request with one is refused.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

impl EmergencyResponse {
    pub(super) fn of(review: Review, now: Timestamp) -> Self {
        let review_state = review.state(now);
        let Review { justification, review_due_at, reviewed_at, reviewer_id, reviewer_name, finding, comment, .. } =
            review;
        let review = match (reviewed_at, reviewer_id, finding) {
            (Some(reviewed_at), Some(id), Some(finding)) => {
                Some(ReviewResponse { reviewer: PersonRef { id, name: reviewer_name }, finding, comment, reviewed_at })
            }
            _ => None,
        };
        Self { justification: unless_erased(justification), review_state, review_due_at, review }
    }
}
