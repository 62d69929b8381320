//! States, templates and notices of mails.

use time::Duration;

use crate::db::text_enum;

text_enum! {
    /// State of a mail's delivery.
    pub enum DeliveryState {
        /// The mail waits in the queue.
        Queued = "queued",
        /// The mail is being sent to the provider.
        Sending = "sending",
        /// The provider accepted the mail.
        Accepted = "accepted",
        /// The mail reached the recipient's mail server.
        Delivered = "delivered",
        /// The mail bounced, or the recipient reported it as spam.
        Bounced = "bounced",
        /// The mail failed, here or at the provider, and will not be retried.
        Failed = "failed",
        /// The provider may have accepted the mail, but did not confirm it.
        Unknown = "unknown",
        /// The mail was cancelled by a revocation, a fresh link or the end of the window.
        Cancelled = "cancelled",
    }
}

text_enum! {
    /// Template of a mail.
    pub enum Template {
        /// Magic link, to the consultant.
        MagicLink = "magic_link",
        /// One-time code for a portal that requires one, to the consultant.
        StepUpCode = "step_up_code",
        /// Change of a consultant's e-mail address, to the old address.
        AddressChanged = "address_changed",
        /// Access was issued, to the granting admin.
        AccessIssued = "access_issued",
        /// Access was used for the first time, to the granting admin.
        AccessUsed = "access_used",
        /// A session ended, with a summary, to the granting admin.
        AccessEnded = "access_ended",
        /// The day's sessions after the first one, to the granting admin.
        AccessVisits = "access_visits",
        /// A fresh link was sent, to the granting admin.
        LinkResent = "link_resent",
        /// Access was revoked, to the granting admin.
        AccessRevoked = "access_revoked",
        /// Access was revoked, to the consultant.
        AccessWithdrawn = "access_withdrawn",
        /// The end of an access was moved, to the granting admin.
        AccessChanged = "access_changed",
        /// The end of an access was moved, to the consultant.
        AccessMoved = "access_moved",
        /// An access ends soon, to the granting admin.
        AccessEndsSoon = "access_ends_soon",
        /// An access ends soon, to the consultant.
        AccessRunsOut = "access_runs_out",
        /// Access was issued in an emergency, to the granting admin and the tenant's contacts; it cannot be muted.
        EmergencyIssued = "emergency_issued",
        /// Access was issued in an emergency, to the profile's owner; it cannot be muted.
        OwnerEmergencyIssued = "owner_emergency_issued",
        /// A session did what it does not allow, to the granting admin and the tenant's contacts; it cannot be muted.
        PolicyViolation = "policy_violation",
        /// A link was issued that opens later, to the consultant.
        AccessAnnounced = "access_announced",
        /// Access was used for the first time, to the profile's owner.
        OwnerAccessUsed = "owner_access_used",
        /// A session ended, to the profile's owner.
        OwnerAccessEnded = "owner_access_ended",
        /// The day's sessions after the first one, to the profile's owner.
        OwnerAccessVisits = "owner_access_visits",
        /// The mail with the link, or with a one-time code, bounced or failed, to the granting admin.
        LinkBounced = "link_bounced",
        /// A link waits for an approval, to the contacts of the tenant.
        ApprovalRequested = "approval_requested",
        /// A link was denied, or nobody decided on it in time, to the person who asked for it.
        RequestDenied = "request_denied",
        /// An extension waits for an approval, to the contacts of the tenant.
        ExtensionRequested = "extension_requested",
        /// An extension was denied, or nobody decided on it in time, to the person who asked for it.
        ExtensionDenied = "extension_denied",
        /// The policy of a tenant allows more than before, to the contacts of the tenant.
        PolicyLoosened = "policy_loosened",
        /// The approval key of a tenant was changed, or is to be, to the contacts of the tenant.
        ApprovalKeyChanged = "approval_key_changed",
        /// The contacts of a tenant were exchanged, to those who are none any more; it cannot be muted.
        ContactsChanged = "contacts_changed",
    }
}

text_enum! {
    /// Notice that a tenant can mute.
    pub enum Notice {
        /// Access was issued, to the granting admin.
        AccessIssued = "access_issued",
        /// Access was used for the first time, to the granting admin.
        AccessUsed = "access_used",
        /// Sessions ended, with a summary, to the granting admin.
        AccessEnded = "access_ended",
        /// A fresh link was sent, to the granting admin.
        LinkResent = "link_resent",
        /// Access was revoked, to the granting admin.
        AccessRevoked = "access_revoked",
        /// The end of an access was moved, to the granting admin.
        AccessChanged = "access_changed",
        /// An access ends soon, to the granting admin.
        AccessEndsSoon = "access_ends_soon",
        /// Access was used for the first time, to the profile's owner.
        OwnerAccessUsed = "owner_access_used",
        /// Sessions ended, to the profile's owner.
        OwnerAccessEnded = "owner_access_ended",
    }
}

impl Notice {
    /// The notice of a template, if a tenant can mute it.
    pub(crate) fn of(template: Template) -> Option<Self> {
        match template {
            Template::AccessVisits => Some(Self::AccessEnded),
            Template::OwnerAccessVisits => Some(Self::OwnerAccessEnded),
            template => template.as_str().parse().ok(),
        }
    }
}

/// How long a mailed one-time code is valid.
pub(crate) const STEP_UP_CODE_LIFE: Duration = Duration::minutes(10);
