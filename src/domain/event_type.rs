//! What an audit event can tell.

use crate::db::text_enum;

/// The log of what belongs to no tenant.
pub(crate) const SYSTEM_LOG: &str = "_system";

text_enum! {
    /// What happened.
    pub enum EventType {
        /// A link was issued.
        LinkIssued = "magic_link.issued",
        /// A provider took the mail with the link.
        LinkMailed = "magic_link.mailed",
        /// The mail with the link was given up.
        LinkMailFailed = "magic_link.mail_failed",
        /// The mail with the link reached the recipient's mail server.
        LinkDelivered = "magic_link.mail_delivered",
        /// The mail with the link came back, or the recipient complained.
        LinkBounced = "magic_link.mail_bounced",
        /// An address gets no mail until a person clears it.
        AddressSuppressed = "mail_address.suppressed",
        /// An address gets mail again.
        AddressCleared = "mail_address.cleared",
        /// A mail that was given up is sent again.
        MailRetried = "mail.retried",
        /// The consultant pressed the button on the landing page.
        LinkContinued = "magic_link.continued",
        /// A code was mailed to the consultant.
        LinkCodeSent = "magic_link.code_sent",
        /// A code was wrong, or did not count any more.
        LinkCodeRefused = "magic_link.code_refused",
        /// A fresh link was sent for.
        LinkResent = "magic_link.resent",
        /// A link was revoked.
        LinkRevoked = "magic_link.revoked",
        /// Many links were revoked by one order.
        RevocationOrdered = "revocation.ordered",
        /// A link's window has ended.
        LinkExpired = "magic_link.expired",
        /// A link token or code was refused.
        LinkRefused = "magic_link.refused",
        /// A session was opened.
        SessionOpened = "session.opened",
        /// A session ended.
        SessionEnded = "session.ended",
        /// The portal said how many acts there were.
        SessionClosed = "session.closed",
        /// A session ended because the next one was opened.
        SessionReplaced = "session.replaced",
        /// A call about a session was refused.
        SessionRefused = "session.refused",
        /// A session has ended, and its reports are not whole.
        ReportsIncomplete = "audit.gap",
        /// The consultant looked at something.
        DataViewed = "data.viewed",
        /// The consultant took something out.
        DataExported = "data.exported",
        /// The consultant changed something.
        DataChanged = "data.changed",
        /// A known client was refused something that is not its own.
        AccessRefused = "access.refused",
        /// A tenant was registered or changed.
        TenantSaved = "tenant.saved",
        /// A consultant was registered.
        ConsultantRegistered = "consultant.registered",
        /// A consultant's name or address was changed.
        ConsultantChanged = "consultant.changed",
        /// A consultant was suspended.
        ConsultantSuspended = "consultant.suspended",
        /// A consultant was reinstated.
        ConsultantReinstated = "consultant.reinstated",
        /// A client was created.
        ClientCreated = "client.created",
        /// A client's key was rotated.
        ClientRotated = "client.rotated",
        /// A client was disabled.
        ClientDisabled = "client.disabled",
        /// A webhook endpoint was created.
        EndpointCreated = "webhook_endpoint.created",
        /// A webhook endpoint was changed.
        EndpointChanged = "webhook_endpoint.changed",
        /// A webhook endpoint got a new secret.
        EndpointRotated = "webhook_endpoint.rotated",
        /// A webhook endpoint was switched off.
        EndpointDisabled = "webhook_endpoint.disabled",
        /// A webhook endpoint was deleted.
        EndpointDeleted = "webhook_endpoint.deleted",
        /// Issuing was frozen.
        IssuingFrozen = "issuing.frozen",
        /// Issuing goes on.
        IssuingUnfrozen = "issuing.unfrozen",
        /// A signing key was added.
        KeyAdded = "key.added",
        /// A signing key stopped signing before its time.
        KeyRetired = "key.retired",
        /// A signing key was revoked, and with it everything that it signed.
        KeyRevoked = "key.revoked",
        /// Events were read.
        AuditRead = "audit.read",
        /// Events were exported.
        AuditExported = "audit.exported",
        /// Payloads whose time was over were erased.
        AuditPurged = "audit.purged",
        /// Somebody asked to erase what must still be kept.
        PurgeRefused = "audit.purge_refused",
        /// A log does not extend its last checkpoint: it was tampered with, or an old copy was restored.
        CheckpointRefused = "audit.checkpoint_refused",
        /// A legal hold was placed: nothing of the tenant's log is erased while it stands.
        HoldPlaced = "legal_hold.placed",
        /// A legal hold was released.
        HoldReleased = "legal_hold.released",
    }
}

impl EventType {
    /// How it came out.
    #[must_use]
    pub const fn result(self) -> EventResult {
        match self {
            Self::LinkRefused
            | Self::SessionRefused
            | Self::AccessRefused
            | Self::PurgeRefused
            | Self::CheckpointRefused => EventResult::Refused,
            Self::LinkMailFailed => EventResult::Failed,
            _ => EventResult::Success,
        }
    }
}

text_enum! {
    /// How it came out.
    pub enum EventResult {
        /// It was done.
        Success = "success",
        /// It was refused.
        Refused = "refused",
        /// It was tried in vain.
        Failed = "failed",
    }
}
