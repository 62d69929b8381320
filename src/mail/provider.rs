//! What a mail provider has to do. The next one is a file beside `mailpit.rs`.

use std::time::Duration;

use async_trait::async_trait;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub name: String,
    pub address: String,
}

/// A mail, ready to go. It may hold a token: it has no `Debug`.
pub(crate) struct Outgoing {
    pub from: Mailbox,
    pub to: Mailbox,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The template's name, for the provider's own statistics.
    pub tag: &'static str,
}

/// Headers that every mail carries: no vacation responder should answer it (RFC 3834).
pub(super) const HEADERS: &[(&str, &str)] = &[("Auto-Submitted", "auto-generated")];

/// The provider took the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The provider's own id, if it gave one.
    pub message_id: Option<String>,
}

/// The provider did not take the mail, or did not say so. The texts hold no part of the mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Worth another try.
    #[error("{0}")]
    Transient(String),
    /// Worth another try, but not before that time.
    #[error("the provider asks to wait {} s", .0.as_secs())]
    Throttled(Duration),
    /// The same mail will be refused again.
    #[error("{0}")]
    Permanent(String),
    /// We are refused, and not the mail: an operator has to act, and the mail waits.
    #[error("the provider refuses us; check address and credentials: {0}")]
    Credentials(String),
}

/// Carries mail over HTTP.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Its name in the configuration, in logs and in the trail.
    fn name(&self) -> &'static str;

    /// Hands one mail over. Comes back in bounded time.
    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError>;
}
