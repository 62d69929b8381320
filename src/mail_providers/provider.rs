//! The interface of a mail provider. A new one is a file beside `mailpit.rs`.

use std::time::Duration;

use async_trait::async_trait;

use crate::domain::one_line;
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
        // An encoded word has at most 75 characters; readers join those of a longer name.
        let mut words = vec![String::new()];
        for character in self.name.chars().filter(|character| !character.is_control()) {
            match words.last_mut() {
                Some(word) if word.len() + character.len_utf8() <= 45 => word.push(character),
                _ => words.push(character.to_string()),
            }
        }
        let encoded = words.iter().map(|word| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(word);
            format!("=?UTF-8?B?{encoded}?= ")
        });
        format!("{}<{}>", encoded.collect::<String>(), self.address)
    }
}

/// Length of a provider's explanation, in characters.
const MAX_WORDS: usize = 300;

/// A run of this many characters of a token's alphabet may be a piece of one.
const TOKEN_RUN: usize = 24;

/// Length of a step-up code.
const CODE_DIGITS: usize = 6;

/// A provider's explanation, on one line and cut.
///
/// It may quote the e-mail: addresses, and whatever can be a piece of a token or a one-time code, are left out.
pub(crate) fn providers_words(text: &str) -> String {
    let text = one_line(text);
    let mut words = String::new();
    for word in text.split_whitespace() {
        let piece = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let quoted = word.contains('@') || word.contains("eyJ") || word.contains('#');
        let token = word.as_bytes().split(|byte| !piece(*byte)).any(|run| run.len() >= TOKEN_RUN && !is_name(run));
        let code = word.as_bytes().split(|byte| !byte.is_ascii_digit()).any(|run| run.len() == CODE_DIGITS);
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(if quoted || token || code { "…" } else { word });
    }
    if words.chars().count() > MAX_WORDS {
        words = words.chars().take(MAX_WORDS - 1).chain(['…']).collect();
    }
    words
}

/// Whether a run is a name of words, as error codes are: `AccountSuspendedException`, `concurrent_idempotent_requests`.
fn is_name(run: &[u8]) -> bool {
    let is_word = |word: &[u8]| word.len() >= 2 && word.iter().all(u8::is_ascii_lowercase);
    let mut capitals = run.chunk_by(|_, next| !next.is_ascii_uppercase());
    let is_camel =
        |part: &[u8]| part.split_first().is_some_and(|(first, rest)| first.is_ascii_uppercase() && is_word(rest));
    run.split(|byte| *byte == b'_').all(is_word) || capitals.all(is_camel)
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

/// The provider refused the e-mail, or the outcome is unknown. The texts quote no token and no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// Temporary failure; to be retried.
    #[error("{0}")]
    Transient(String),
    /// Throttled; to be retried after this time.
    #[error("{said}")]
    Throttled { wait: Duration, said: String },
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

impl SendError {
    /// A word for it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Transient(_) => "transient",
            Self::Throttled { .. } => "throttled",
            Self::Permanent(_) => "permanent",
            Self::Credentials(_) => "credentials",
            Self::Unknown(_) => "unknown",
        }
    }
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
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

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
        let long = "सहायता और पहुँच विभाग, भारत – Magic Link";
        let words = header(long);
        let encoded: Vec<&str> = words.split(' ').filter_map(|word| word.strip_prefix("=?UTF-8?B?")).collect();
        let decode = |word: &&str| STANDARD.decode(word.strip_suffix("?=").unwrap()).unwrap();
        let name: Vec<u8> = encoded.iter().flat_map(decode).collect();
        assert_eq!(String::from_utf8(name).unwrap(), long, "whole");
        assert!(encoded.len() > 1 && words.split(' ').all(|word| word.len() <= 75), "{words}");
    }

    #[test]
    fn a_providers_words_are_kept_without_what_they_quote() {
        let said = "550 5.1.1 <ravi@support.example>: Recipient address rejected:\r\n User unknown in table";
        assert_eq!(providers_words(said), "550 5.1.1 … Recipient address rejected: User unknown in table");
        assert_eq!(providers_words("see https://links.example/l#eyJhbGciOi"), "see …");
        assert_eq!(providers_words(&format!("cut {} off", "aB3_-x".repeat(5))), "cut … off");
        for name in
            ["AccountSuspendedException", "MailFromDomainNotVerifiedException:", "concurrent_idempotent_requests"]
        {
            assert_eq!(providers_words(name), name);
        }
        for piece in ["AkHjqWpLmNbVcXzAsDfGhJkLq", "akhjqwplmnbvcxzasdfghj-klq", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] {
            assert_eq!(providers_words(piece), "…", "{piece}");
        }
        assert_eq!(providers_words("Your code: 042137."), "Your code: …");
        assert_eq!(providers_words("turned \u{202e}around \u{0}"), "turned around");
        assert_eq!(providers_words(&"long ".repeat(200)).chars().count(), MAX_WORDS);
    }
}
