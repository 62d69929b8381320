//! What a mail provider has to do. The next one is a file beside `mailpit.rs`.

use std::time::Duration;

use async_trait::async_trait;

use crate::id::MailJobId;

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub name: String,
    pub address: String,
}

impl Mailbox {
    /// `"Name" <address>`, as the From line wants it (RFC 5322, and RFC 2047 for a name beyond ASCII).
    pub(crate) fn header(&self) -> String {
        use base64::Engine;
        let plain = self.name.chars().all(|character| matches!(character, ' '..='~'));
        if plain {
            let quoted = self.name.replace('\\', "\\\\").replace('"', "\\\"");
            return format!("\"{quoted}\" <{}>", self.address);
        }
        // An encoded word holds 75 characters at most; a name that needs more is cut at a character.
        let mut name = String::new();
        for character in self.name.chars().filter(|character| !character.is_control()) {
            if name.len() + character.len_utf8() > 45 {
                break;
            }
            name.push(character);
        }
        let encoded = base64::engine::general_purpose::STANDARD.encode(name);
        format!("=?UTF-8?B?{encoded}?= <{}>", self.address)
    }
}

/// A mail, ready to go. It may hold a token: it has no `Debug`.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub from: Mailbox,
    pub to: Mailbox,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// The template's name, for the provider's own statistics.
    pub tag: &'static str,
    /// The job, so that a delivery report finds its way back.
    pub job_id: MailJobId,
    /// The same for every attempt at one mail.
    pub idempotency_key: String,
}

/// Headers that every mail carries: no vacation responder should answer it (RFC 3834).
pub(crate) const HEADERS: &[(&str, &str)] = &[("Auto-Submitted", "auto-generated")];

/// The provider took the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The provider's own id, if it gave one.
    pub message_id: Option<String>,
}

/// The provider did not take the mail, or did not say so. The texts hold no part of the mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Not taken; worth another try.
    #[error("{0}")]
    Transient(String),
    /// Not taken; worth another try, but not before that time.
    #[error("the provider asks to wait {} s", .0.as_secs())]
    Throttled(Duration),
    /// The same mail will be refused again.
    #[error("{0}")]
    Permanent(String),
    /// We are refused, and not the mail: an operator has to act, and the mail waits.
    #[error("the provider refuses us; check address and credentials: {0}")]
    Credentials(String),
    /// It was sent, and no answer came: the provider may have taken it.
    #[error("no answer, and the provider may have taken the mail: {0}")]
    Unknown(String),
}

/// Carries mail over HTTP.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Its name in the configuration, in logs and in the trail.
    fn name(&self) -> &'static str;

    /// Whether it sends a mail once, however often it gets the same `idempotency_key`.
    fn removes_duplicates(&self) -> bool {
        false
    }

    /// Hands one mail over. Comes back in bounded time.
    async fn send(&self, mail: &Outgoing) -> Result<Accepted, SendError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_senders_name_stays_a_name() {
        let header =
            |name: &str| Mailbox { name: name.to_owned(), address: "no-reply@support.example".to_owned() }.header();
        assert_eq!(header("Magic Link"), "\"Magic Link\" <no-reply@support.example>");
        assert_eq!(
            header("A\" <x@evil.example>, \"\\"),
            "\"A\\\" <x@evil.example>, \\\"\\\\\" <no-reply@support.example>"
        );
        assert_eq!(header("Hilfe für Ärzte"), "=?UTF-8?B?SGlsZmUgZsO8ciDDhHJ6dGU=?= <no-reply@support.example>");
        assert!(header(&"ä".repeat(200)).len() < 75 + 30);
    }
}
