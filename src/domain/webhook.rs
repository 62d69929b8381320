//! Words for webhooks.

use super::EventType;
use crate::db::text_enum;

text_enum! {
    /// What an endpoint can be told.
    pub enum WebhookEvent {
        /// A link was issued.
        LinkIssued = "magic_link.issued",
        /// The consultant pressed the button on the landing page; may come several times.
        LinkOpened = "magic_link.opened",
        /// A link was revoked.
        LinkRevoked = "magic_link.revoked",
        /// A link's window has ended.
        LinkExpired = "magic_link.expired",
        /// A session was opened.
        SessionOpened = "session.opened",
        /// A session ended, for whatever cause.
        SessionEnded = "session.ended",
        /// A session ended, and its reports are not whole.
        ReportsIncomplete = "audit.gap",
    }
}

text_enum! {
    /// What messages look like.
    pub enum WebhookFormat {
        /// `CloudEvents` 1.0 in JSON.
        Cloudevents = "cloudevents",
        /// CAEP `session-revoked` as a security event token (RFC 8417), pushed as RFC 8935 says.
        Caep = "caep",
    }
}

impl WebhookEvent {
    /// What of the trail is told; `None` for what is nobody else's business.
    pub(crate) const fn of(kind: EventType) -> Option<Self> {
        Some(match kind {
            EventType::LinkIssued => Self::LinkIssued,
            // A person pressed the button, and gave the mailed code where the portal wants one. Showing the
            // page is no event at all: scanners do that, too.
            EventType::LinkContinued => Self::LinkOpened,
            EventType::LinkRevoked => Self::LinkRevoked,
            EventType::LinkExpired => Self::LinkExpired,
            EventType::SessionOpened => Self::SessionOpened,
            // For the portal the session is over, whatever comes after it.
            EventType::SessionEnded | EventType::SessionReplaced => Self::SessionEnded,
            EventType::ReportsIncomplete => Self::ReportsIncomplete,
            _ => return None,
        })
    }
}
