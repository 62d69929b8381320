//! Events and formats of webhooks.

use super::EventType;
use crate::db::text_enum;

text_enum! {
    /// Event that is sent to webhook endpoints.
    pub enum WebhookEvent {
        /// A link was issued.
        LinkIssued = "magic_link.issued",
        /// A link was asked for, and waits for an approval.
        LinkRequested = "magic_link.requested",
        /// A link was approved; `magic_link.issued` follows.
        LinkApproved = "magic_link.approved",
        /// A link was denied.
        LinkDenied = "magic_link.denied",
        /// A request for a link was withdrawn by whoever made it, or by a revocation.
        LinkWithdrawn = "magic_link.withdrawn",
        /// Nobody decided on a link in time.
        LinkLapsed = "magic_link.lapsed",
        /// The consultant continued from the landing page to the portal; can occur several times for a link.
        LinkOpened = "magic_link.opened",
        /// The mail with a link failed or bounced and will not be retried, or the recipient reported it as spam.
        LinkMailFailed = "magic_link.mail_failed",
        /// A link was revoked.
        LinkRevoked = "magic_link.revoked",
        /// Another link for the same access took a link's place.
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
        /// A link's window was shortened, and that of its session with it.
        LinkShortened = "magic_link.shortened",
        /// A session did what it does not allow, as one report said; `data.violations` counts.
        PolicyViolation = "magic_link.policy_violation",
        /// A link's window has ended.
        LinkExpired = "magic_link.expired",
        /// A session was opened.
        SessionOpened = "session.opened",
        /// A session ended, for any cause.
        SessionEnded = "session.ended",
        /// The activity reports of an ended session are incomplete.
        ReportsIncomplete = "audit.gap",
    }
}

text_enum! {
    /// Format of webhook messages.
    pub enum WebhookFormat {
        /// `CloudEvents` 1.0 in JSON.
        Cloudevents = "cloudevents",
        /// CAEP `session-revoked` as a security event token (RFC 8417), pushed over HTTP (RFC 8935).
        Caep = "caep",
    }
}

impl WebhookEvent {
    /// The webhook event for a type of audit event; `None` for types that are not sent.
    pub(crate) const fn of(kind: EventType) -> Option<Self> {
        Some(match kind {
            EventType::LinkIssued => Self::LinkIssued,
            EventType::LinkRequested => Self::LinkRequested,
            EventType::LinkApproved => Self::LinkApproved,
            EventType::LinkDenied => Self::LinkDenied,
            EventType::LinkWithdrawn => Self::LinkWithdrawn,
            EventType::LinkLapsed => Self::LinkLapsed,
            // Sent after the click on "Continue" and the one-time code, if required. A preview is no event: mail
            // scanners open the page too.
            EventType::LinkContinued | EventType::LinkReentered => Self::LinkOpened,
            EventType::LinkMailFailed | EventType::LinkBounced => Self::LinkMailFailed,
            EventType::LinkRevoked => Self::LinkRevoked,
            EventType::LinkReplaced => Self::LinkReplaced,
            EventType::LinkExtended => Self::LinkExtended,
            EventType::ExtensionRequested => Self::ExtensionRequested,
            EventType::ExtensionDenied => Self::ExtensionDenied,
            EventType::ExtensionWithdrawn => Self::ExtensionWithdrawn,
            EventType::ExtensionLapsed => Self::ExtensionLapsed,
            EventType::LinkShortened => Self::LinkShortened,
            EventType::PolicyViolation => Self::PolicyViolation,
            EventType::LinkExpired => Self::LinkExpired,
            EventType::SessionOpened => Self::SessionOpened,
            // A replaced session has ended too: its access token is invalid.
            EventType::SessionEnded | EventType::SessionReplaced => Self::SessionEnded,
            EventType::ReportsIncomplete => Self::ReportsIncomplete,
            _ => return None,
        })
    }
}
