//! The interface of a mail provider. A new one is a file beside `mailpit.rs`.

use std::time::Duration;

use async_trait::async_trait;

use crate::id::MailJobId;

/// A display name and an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mailbox {
    pub name: String,
    pub address: String,
}

impl Mailbox {
    /// `"Name" <address>` for the `From` header (RFC 5322; RFC 2047 if the name is not ASCII).
    pub(crate) fn header(&self) -> String {
        use base64::Engine;
        let plain = self.name.chars().all(|character| matches!(character, ' '..='~'));
        if plain {
            let quoted = self.name.replace('\\', "\\\\").replace('"', "\\\"");
            return format!("\"{quoted}\" <{}>", self.address);
        }
        // An encoded word has at most 75 characters; a longer name is truncated at a character.
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

/// An e-mail to send. No `Debug`: it may hold a token.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub from: Mailbox,
    pub to: Mailbox,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// Template name, for the provider's statistics.
    pub tag: &'static str,
    /// Mail job id, which delivery reports return.
    pub job_id: MailJobId,
    /// Idempotency key, the same for every attempt of a retry round.
    pub idempotency_key: String,
}

/// Headers of every e-mail: auto-responders should not answer it (RFC 3834).
pub(crate) const HEADERS: &[(&str, &str)] = &[("Auto-Submitted", "auto-generated")];

/// The provider accepted the e-mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The provider's message id, if it returned one.
    pub message_id: Option<String>,
}

/// The provider refused the e-mail, or the outcome is unknown. The texts quote no part of the e-mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Temporary failure; to be retried.
    #[error("{0}")]
    Transient(String),
    /// Throttled; to be retried after this time.
    #[error("the provider asks to wait {} s", .0.as_secs())]
    Throttled(Duration),
    /// Permanent failure: a retry would be refused too.
    #[error("{0}")]
    Permanent(String),
    /// The provider refuses the credentials: retried until an operator corrects them.
    #[error("the provider refuses us; check address and credentials: {0}")]
    Credentials(String),
    /// Unknown outcome: no response came, and the provider may have accepted the e-mail.
    #[error("no answer, and the provider may have taken the mail: {0}")]
    Unknown(String),
}

/// Sends e-mail through a provider's HTTP API.
#[async_trait]
pub(crate) trait Provider: Send + Sync {
    /// Provider name in the configuration, in logs and in the audit log.
    fn name(&self) -> &'static str;

    /// Whether the provider sends one e-mail only for repeated requests with the same `idempotency_key`.
    fn removes_duplicates(&self) -> bool {
        false
    }

    /// Sends one e-mail. Returns in bounded time.
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
