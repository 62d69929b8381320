//! Types and results of audit events.

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql};
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types::Text;
use serde::{Serialize, Serializer};

use crate::db::text_enum;

/// Name of the audit log for events that belong to no tenant.
pub(crate) const SYSTEM_LOG: &str = "_system";

text_enum! {
    /// Type of an audit event.
    pub enum EventType {
        /// A link was issued.
        LinkIssued = "magic_link.issued",
        /// A link was asked for, and waits for an approval.
        LinkRequested = "magic_link.requested",
        /// A link that waited for an approval was approved.
        LinkApproved = "magic_link.approved",
        /// A link that waited for an approval was denied.
        LinkDenied = "magic_link.denied",
        /// A request for a link was withdrawn.
        LinkWithdrawn = "magic_link.withdrawn",
        /// Nobody decided in time on a link that waited for an approval.
        LinkLapsed = "magic_link.lapsed",
        /// A mail provider accepted the mail with the link.
        LinkMailed = "magic_link.mailed",
        /// The mail with the link, or with a one-time code, failed and will not be retried.
        LinkMailFailed = "magic_link.mail_failed",
        /// The mail with the link reached the recipient's mail server.
        LinkDelivered = "magic_link.mail_delivered",
        /// The mail with the link, or with a one-time code, bounced, or the recipient reported it as spam.
        LinkBounced = "magic_link.mail_bounced",
        /// An e-mail address was suppressed: it gets no mail until an operator clears it.
        AddressSuppressed = "mail_address.suppressed",
        /// The suppression of an e-mail address was cleared: it gets mail again.
        AddressCleared = "mail_address.cleared",
        /// A failed mail was queued again.
        MailRetried = "mail.retried",
        /// The consultant continued from the landing page to the portal.
        LinkContinued = "magic_link.continued",
        /// The consultant continued to the portal again, on the device that is remembered.
        LinkReentered = "magic_link.reentered",
        /// The consultant's device was remembered for the link: it opens it again without a mail.
        DeviceRemembered = "magic_link.device_remembered",
        /// The device that was remembered for the link was forgotten.
        DeviceForgotten = "magic_link.device_forgotten",
        /// A one-time code was mailed to the consultant.
        LinkCodeSent = "magic_link.code_sent",
        /// A one-time code was refused: it was wrong, expired or used up.
        LinkCodeRefused = "magic_link.code_refused",
        /// A fresh link was queued for mailing.
        LinkResent = "magic_link.resent",
        /// A link was revoked.
        LinkRevoked = "magic_link.revoked",
        /// A link ended because another link for the same access took its place.
        LinkReplaced = "magic_link.replaced",
        /// A link's window was extended.
        LinkExtended = "magic_link.extended",
        /// An extension of a link was asked for, and waits for an approval.
        ExtensionRequested = "magic_link.extension_requested",
        /// An extension of a link was denied.
        ExtensionDenied = "magic_link.extension_denied",
        /// A request for an extension of a link was withdrawn.
        ExtensionWithdrawn = "magic_link.extension_withdrawn",
        /// Nobody decided in time on an extension of a link.
        ExtensionLapsed = "magic_link.extension_lapsed",
        /// A link's window was shortened.
        LinkShortened = "magic_link.shortened",
        /// A report names acts that their session did not allow: forbidden, changes in a `read_only` one, or after its end.
        PolicyViolation = "magic_link.policy_violation",
        /// A link was issued in an emergency, without an approval.
        EmergencyIssued = "magic_link.emergency_issued",
        /// A link that was issued in an emergency was reviewed.
        EmergencyReviewed = "magic_link.reviewed",
        /// A link's reason or ticket was corrected.
        LinkCorrected = "magic_link.corrected",
        /// A bulk revocation was created, or counted as a dry run.
        RevocationOrdered = "revocation.ordered",
        /// A link's window has ended.
        LinkExpired = "magic_link.expired",
        /// A link token or code was refused.
        LinkRefused = "magic_link.refused",
        /// A session was opened.
        SessionOpened = "session.opened",
        /// A session ended.
        SessionEnded = "session.ended",
        /// The portal sent the closing counts of a session's reports.
        SessionClosed = "session.closed",
        /// A session ended because a new session was opened with the same link.
        SessionReplaced = "session.replaced",
        /// A request about a session was refused.
        SessionRefused = "session.refused",
        /// The activity reports of an ended session are incomplete.
        ReportsIncomplete = "audit.gap",
        /// The consultant viewed data.
        DataViewed = "data.viewed",
        /// The consultant exported data.
        DataExported = "data.exported",
        /// The consultant changed data.
        DataChanged = "data.changed",
        /// An authenticated client was refused access to a resource that is not its own.
        AccessRefused = "access.refused",
        /// A tenant was registered or changed.
        TenantSaved = "tenant.saved",
        /// The policy of a tenant was changed.
        PolicySaved = "policy.saved",
        /// A tenant's approval key was registered, or replaced or removed by what it has signed.
        ApprovalKeyChanged = "approval_key.changed",
        /// An operator ordered another approval key for a tenant, or its removal; it takes effect at `data.effective_at`.
        ApprovalKeyChangeOrdered = "approval_key.change_ordered",
        /// An ordered change of a tenant's approval key was cancelled.
        ApprovalKeyChangeCancelled = "approval_key.change_cancelled",
        /// A consultant was registered.
        ConsultantRegistered = "consultant.registered",
        /// A consultant's name or e-mail address was changed.
        ConsultantChanged = "consultant.changed",
        /// A consultant was suspended.
        ConsultantSuspended = "consultant.suspended",
        /// A consultant was reinstated.
        ConsultantReinstated = "consultant.reinstated",
        /// A consultant whom a restore had suspended was confirmed: they can get links again.
        ConsultantConfirmed = "consultant.confirmed",
        /// A consultant's name and e-mail address were erased: nobody has needed them for the whole retention.
        ConsultantErased = "consultant.erased",
        /// A client was created.
        ClientCreated = "client.created",
        /// The API key of a client was rotated.
        ClientRotated = "client.rotated",
        /// A client's name, portal, tenants or scopes were changed.
        ClientChanged = "client.changed",
        /// What a client has read within an hour: routes, how often, and what the paths named.
        ClientRead = "client.read",
        /// A client was disabled.
        ClientDisabled = "client.disabled",
        /// A client that a restore had disabled was confirmed: it can call the API again.
        ClientConfirmed = "client.confirmed",
        /// A webhook endpoint was created.
        EndpointCreated = "webhook_endpoint.created",
        /// A webhook endpoint was changed.
        EndpointChanged = "webhook_endpoint.changed",
        /// The secret of a webhook endpoint was rotated.
        EndpointRotated = "webhook_endpoint.rotated",
        /// A webhook endpoint was disabled.
        EndpointDisabled = "webhook_endpoint.disabled",
        /// Given-up messages to a webhook endpoint were queued again.
        EndpointRetried = "webhook_endpoint.retried",
        /// A webhook endpoint was deleted.
        EndpointDeleted = "webhook_endpoint.deleted",
        /// The issuing of links was frozen.
        IssuingFrozen = "issuing.frozen",
        /// The freeze of issuing was ended.
        IssuingUnfrozen = "issuing.unfrozen",
        /// An empty database became that of a sandbox.
        SandboxCreated = "sandbox.created",
        /// The clock of a sandbox was moved forward.
        SandboxClockMoved = "sandbox.clock_moved",
        /// A signing key was added.
        KeyAdded = "key.added",
        /// A signing key was retired: it signs no more, and what it signed stays valid.
        KeyRetired = "key.retired",
        /// A signing key was revoked, with everything it had signed.
        KeyRevoked = "key.revoked",
        /// The master key was changed: every secret is sealed under the new one.
        MasterKeyChanged = "master_key.changed",
        /// Audit events were read.
        AuditRead = "audit.read",
        /// Audit events were exported.
        AuditExported = "audit.exported",
        /// Payloads of audit events were erased after their retention.
        AuditPurged = "audit.purged",
        /// Names, addresses and reasons of links, requests and sessions, and mails, were erased after their retention.
        PersonalDataErased = "personal_data.erased",
        /// Nothing is erased for a day: the clock has jumped by more than a month, and may be wrong.
        RetentionDelayed = "retention.delayed",
        /// A request to erase payloads before the end of their retention was refused.
        PurgeRefused = "audit.purge_refused",
        /// An audit log does not extend its last checkpoint: it was altered, or an old backup was restored.
        CheckpointRefused = "audit.checkpoint_refused",
        /// The database was restored from a backup: the log goes on under another name, and events may be lost.
        LogRestored = "log.restored",
        /// The key that signs the log's checkpoints was changed: a statement by the one before introduces the next one.
        LogKeyChanged = "log.key_changed",
        /// A legal hold was placed: no payload of the tenant's audit log is erased until it is released.
        HoldPlaced = "legal_hold.placed",
        /// A legal hold was released.
        HoldReleased = "legal_hold.released",
    }
}

impl EventType {
    /// Result of events of this type.
    #[must_use]
    pub const fn result(self) -> EventResult {
        match self {
            Self::LinkRefused
            | Self::LinkCodeRefused
            | Self::SessionRefused
            | Self::AccessRefused
            | Self::PurgeRefused
            | Self::CheckpointRefused => EventResult::Refused,
            Self::LinkMailFailed | Self::LinkBounced => EventResult::Failed,
            _ => EventResult::Success,
        }
    }
}

/// The type of an event as it stands in the log: one of ours, or a word of a newer version that runs, or ran, on the same
/// database. That one is handed on as it is.
#[derive(Debug, Clone, PartialEq, Eq, diesel::expression::AsExpression, diesel::deserialize::FromSqlRow)]
#[diesel(sql_type = diesel::sql_types::Text)]
pub(crate) enum RecordedType {
    Known(EventType),
    Newer(String),
}

impl RecordedType {
    /// The word.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Known(kind) => kind.as_str(),
            Self::Newer(word) => word,
        }
    }

    /// The type, if it is one of ours.
    pub(crate) const fn known(&self) -> Option<EventType> {
        match self {
            Self::Known(kind) => Some(*kind),
            Self::Newer(_) => None,
        }
    }

    /// Result of the operation. It is a part of the leaf, so it has to follow from the word alone: a test holds the names to it.
    pub(crate) fn result(&self) -> EventResult {
        match self {
            Self::Known(kind) => kind.result(),
            Self::Newer(word) => EventResult::of_word(word),
        }
    }
}

impl PartialEq<EventType> for RecordedType {
    fn eq(&self, kind: &EventType) -> bool {
        self.known() == Some(*kind)
    }
}

impl Serialize for RecordedType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<DB: Backend> ToSql<Text, DB> for RecordedType
where
    str: ToSql<Text, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.as_str().to_sql(out)
    }
}

impl<DB: Backend> FromSql<Text, DB> for RecordedType
where
    String: FromSql<Text, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        let word = String::from_sql(bytes)?;
        Ok(word.parse().map_or_else(|_unknown| Self::Newer(word), Self::Known))
    }
}

text_enum! {
    /// Result of an audited operation.
    pub enum EventResult {
        /// The operation succeeded.
        Success = "success",
        /// The operation was refused.
        Refused = "refused",
        /// The operation was attempted and failed.
        Failed = "failed",
    }
}

impl EventResult {
    /// What the name of an event says of its result.
    fn of_word(word: &str) -> Self {
        match () {
            () if word.ends_with("refused") => Self::Refused,
            () if word.ends_with("failed") || word.ends_with("bounced") => Self::Failed,
            () => Self::Success,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_is_named_a_refusal_or_a_failure_is_none_of_success() {
        for kind in EventType::ALL {
            let name = kind.as_str();
            assert_eq!(kind.result(), EventResult::of_word(name), "{name}");
        }
    }
}
