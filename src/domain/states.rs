//! Words for the lives of links and sessions.

use crate::db::text_enum;

text_enum! {
    /// How much the consultant may do.
    pub enum Access {
        /// Everything the profile may.
        Full = "full",
        /// Look, and change nothing.
        ReadOnly = "read_only",
    }
}

text_enum! {
    /// Where a link is in its life; follows from its times.
    pub enum LinkState {
        /// Its window has not begun.
        Scheduled = "scheduled",
        /// Its window is open.
        Active = "active",
        /// Its window is over.
        Expired = "expired",
        /// It was ended before its time.
        Revoked = "revoked",
    }
}

text_enum! {
    /// What a duration is counted in.
    pub enum DurationUnit {
        /// 60 minutes.
        Hours = "hours",
        /// 24 hours, whatever the calendar says.
        Days = "days",
        /// 7 days of 24 hours.
        Weeks = "weeks",
    }
}

text_enum! {
    /// Why a session ended.
    pub enum EndCause {
        /// The consultant said so.
        Done = "done",
        /// Its time was over.
        Expired = "expired",
        /// Its link or its token was revoked.
        Revoked = "revoked",
        /// The link opened the next one.
        Replaced = "replaced",
    }
}

text_enum! {
    /// Whether a session holds.
    pub enum SessionState {
        /// It does.
        Active = "active",
        /// It does not.
        Ended = "ended",
    }
}

text_enum! {
    /// Whether every act has been reported; from good to bad.
    pub enum AuditState {
        /// Nothing is missing, as far as anybody can know yet.
        Complete = "complete",
        /// Numbers are missing.
        Gaps = "gaps",
        /// The session ended, and the portal never said how many acts there were.
        Unclosed = "unclosed",
    }
}

text_enum! {
    /// How an access token is presented (RFC 6750).
    pub enum TokenType {
        /// In an Authorization header.
        Bearer = "Bearer",
    }
}

text_enum! {
    /// How the values of reported changes are kept.
    pub enum ChangeValues {
        /// As they were sent.
        Plain = "plain",
        /// Letters and digits hidden.
        Masked = "masked",
        /// As a keyed hash: equal values can be told, and nothing else.
        KeyedHash = "keyed_hash",
    }
}
