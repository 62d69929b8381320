//! States of links and sessions.

use crate::db::text_enum;

text_enum! {
    /// Access level of a consultant.
    pub enum Access {
        /// Everything that the profile may do.
        Full = "full",
        /// Viewing only, no changes.
        ReadOnly = "read_only",
    }
}

text_enum! {
    /// Kind of an activity event.
    pub enum ActivityKind {
        /// Data was viewed.
        View = "view",
        /// Data was exported.
        Export = "export",
        /// Data was changed.
        Change = "change",
    }
}

text_enum! {
    /// How a visit after the first one of a mail begins.
    pub enum Reentry {
        /// With a fresh link by mail.
        Mail = "mail",
        /// With the same link in the browser that the consultant chose to have remembered, or else with a fresh link.
        Device = "device",
    }
}

text_enum! {
    /// State of a link, derived from its times and from the approval that it waits for. Clients must take words that they
    /// do not know.
    pub enum LinkState {
        /// The link waits for an approval, and gives no access.
        Pending = "pending",
        /// The link was denied, and never gave access.
        Denied = "denied",
        /// The request for the link was withdrawn by whoever made it, or by a revocation.
        Withdrawn = "withdrawn",
        /// Nobody approved the link in time.
        Lapsed = "lapsed",
        /// The link's window has not begun.
        Scheduled = "scheduled",
        /// The link's window has begun and not ended.
        Active = "active",
        /// The link's window has ended.
        Expired = "expired",
        /// The link was revoked before the end of its window.
        Revoked = "revoked",
        /// Another link for the same access took the link's place before the end of its window.
        Replaced = "replaced",
    }
}

text_enum! {
    /// Unit of a duration.
    pub enum DurationUnit {
        /// Hours of 60 minutes.
        Hours = "hours",
        /// Days of 24 hours, also across changes to daylight saving time.
        Days = "days",
        /// Weeks of 7 days of 24 hours.
        Weeks = "weeks",
    }
}

text_enum! {
    /// Cause of a session's end.
    pub enum EndCause {
        /// The consultant was done, as the client that ended the session stated.
        Done = "done",
        /// The session expired.
        Expired = "expired",
        /// Somebody else ended the session, or its link, its access token or its signing key was revoked.
        Revoked = "revoked",
        /// A new session was opened with the same link, or another link for the same access took the link's place.
        Replaced = "replaced",
    }
}

text_enum! {
    /// State of a session.
    pub enum SessionState {
        /// The session is active: its access token is valid.
        Active = "active",
        /// The session has ended: its access token is invalid.
        Ended = "ended",
    }
}

text_enum! {
    /// Completeness of activity reports, from best to worst.
    pub enum AuditState {
        /// No report is known to be missing.
        Complete = "complete",
        /// Sequence numbers are missing.
        Gaps = "gaps",
        /// The session ended, and the portal did not send closing counts within 15 minutes.
        Unclosed = "unclosed",
    }
}

text_enum! {
    /// Type of an access token (RFC 6750).
    pub enum TokenType {
        /// Bearer token, presented in the `Authorization` header.
        Bearer = "Bearer",
    }
}

text_enum! {
    /// Storage of the values of reported changes.
    pub enum ChangeValues {
        /// Values are stored as reported.
        Plain = "plain",
        /// Letters and digits are masked, except the last two of a value with at least eight.
        Masked = "masked",
        /// Values are stored as HMAC-SHA256: only equality can be recognised.
        KeyedHash = "keyed_hash",
    }
}
