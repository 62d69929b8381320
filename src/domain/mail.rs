//! Words for mails.

use time::Duration;

use crate::db::text_enum;

text_enum! {
    /// What became of a mail.
    pub enum DeliveryState {
        /// It waits for its turn.
        Queued = "queued",
        /// It is being handed to the provider.
        Sending = "sending",
        /// The provider took it.
        Accepted = "accepted",
        /// It reached the recipient's mail server.
        Delivered = "delivered",
        /// It came back, or the recipient complained.
        Bounced = "bounced",
        /// It was given up.
        Failed = "failed",
        /// The provider may have taken it, and did not say so.
        Unknown = "unknown",
        /// It was overtaken by a revocation, a fresh link or the window's end.
        Cancelled = "cancelled",
    }
}

text_enum! {
    /// Which mail it is.
    pub enum Template {
        /// The link, for the consultant.
        MagicLink = "magic_link",
        /// The code that a portal wants beside the link.
        StepUpCode = "step_up_code",
        /// Tells the old address of a consultant that it was changed.
        AddressChanged = "address_changed",
        /// Tells the granting admin that access was issued.
        AccessIssued = "access_issued",
        /// Tells the granting admin that access was used for the first time.
        AccessUsed = "access_used",
        /// Tells the granting admin that a visit has ended, with a summary.
        AccessEnded = "access_ended",
        /// Tells the granting admin that a fresh link was sent.
        LinkResent = "link_resent",
        /// Tells the granting admin that access was revoked.
        AccessRevoked = "access_revoked",
        /// Tells the consultant that access was revoked.
        AccessWithdrawn = "access_withdrawn",
        /// Tells the profile's owner that access was used for the first time.
        OwnerAccessUsed = "owner_access_used",
        /// Tells the profile's owner that a visit has ended.
        OwnerAccessEnded = "owner_access_ended",
        /// Tells the granting admin that the mail with the link came back.
        LinkBounced = "link_bounced",
    }
}

text_enum! {
    /// A notice that a tenant can switch off.
    pub enum Notice {
        /// To the granting admin: access was issued.
        AccessIssued = "access_issued",
        /// To the granting admin: it was used for the first time.
        AccessUsed = "access_used",
        /// To the granting admin: a visit has ended, with a summary.
        AccessEnded = "access_ended",
        /// To the granting admin: a fresh link was sent.
        LinkResent = "link_resent",
        /// To the granting admin: it was revoked.
        AccessRevoked = "access_revoked",
        /// To the profile's owner: it was used for the first time.
        OwnerAccessUsed = "owner_access_used",
        /// To the profile's owner: a visit has ended.
        OwnerAccessEnded = "owner_access_ended",
    }
}

impl Notice {
    /// The notice that a template is, if a tenant can switch it off.
    pub(crate) fn of(template: Template) -> Option<Self> {
        template.as_str().parse().ok()
    }
}

/// How long a mailed one-time code counts.
pub(crate) const STEP_UP_CODE_LIFE: Duration = Duration::minutes(10);
