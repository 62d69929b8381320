//! Validation of request fields: all errors are collected before the request is refused.

use std::fmt;

use serde::{Deserialize, Deserializer};
use time::Duration;

use super::Rotation;
use super::syntax::{is_visible, plain_address};
use crate::clock::Timestamp;
use crate::error::{Code, Error};

/// Longest time that an old key or secret may stay valid after a rotation.
const MAX_OVERLAP: Duration = Duration::days(30);

/// Largest number of errors in a problem document.
const MAX_PROBLEMS: usize = 100;

/// Collector of the errors of a request.
#[derive(Debug, Default)]
pub(crate) struct Validator(Vec<(String, &'static str, String)>);

impl Validator {
    /// Adds an error.
    pub(crate) fn error(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl fmt::Display) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push((pointer.into(), code, detail.to_string()));
        }
    }

    /// Checks one line of human-readable text: no control characters, and none that change the writing direction.
    pub(crate) fn text(&mut self, pointer: &str, text: &str, min: usize, max: usize) {
        let trimmed = text.trim();
        let length = trimmed.chars().count();
        let is_unseen = min > 0 && !trimmed.chars().any(is_visible);
        if length < min || is_unseen {
            self.error(pointer, "too_short", format_args!("must have at least {min} characters"));
        } else if text.chars().count() > max {
            self.error(pointer, "too_long", format_args!("must have at most {max} characters"));
        }
        if text.chars().any(is_unsafe_char) {
            self.error(pointer, "control_character", "must not hold line breaks or control characters");
        }
    }

    /// The same check for an optional field.
    pub(crate) fn optional_text(&mut self, pointer: &str, text: Option<&str>, min: usize, max: usize) {
        if let Some(text) = text {
            self.text(pointer, text, min, max);
        }
    }

    /// Checks an opaque external identifier: printable ASCII without spaces.
    pub(crate) fn external_id(&mut self, pointer: &str, id: &str) {
        if !crate::domain::is_external_id(id) {
            self.error(pointer, "malformed", "must have 1 to 128 printable ASCII characters and no spaces");
        }
    }

    /// Checks what becomes of the old keys or secrets at a rotation.
    pub(crate) fn rotation(
        &mut self,
        (overlap_seconds, unless_said): (Option<i64>, i64),
        newest_lost: bool,
        now: Timestamp,
    ) -> Rotation {
        if newest_lost && overlap_seconds.is_some() {
            self.error("/overlap_seconds", "excluded", "must be left out where the newest one is lost");
        }
        let overlap = Duration::seconds(overlap_seconds.unwrap_or(unless_said));
        if overlap.is_negative() || overlap > MAX_OVERLAP {
            let most = MAX_OVERLAP.whole_seconds();
            self.error("/overlap_seconds", "out_of_range", format_args!("must be 0 to {most} seconds"));
        }
        if newest_lost {
            Rotation::NewestLost
        } else if overlap.is_zero() {
            Rotation::AtOnce
        } else {
            Rotation::Overlap(now.plus(overlap))
        }
    }

    /// Checks one e-mail address, and returns it as it is stored: an international domain as punycode.
    pub(crate) fn email(&mut self, pointer: &str, address: &str) -> String {
        plain_address(address).unwrap_or_else(|why| {
            self.error(pointer, "malformed", why);
            String::new()
        })
    }

    /// Refuses the request if there is an error.
    ///
    /// # Errors
    /// `validation_failed` with every invalid field.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let refused = Error::new(Code::ValidationFailed);
        Err(self.0.into_iter().fold(refused, |error, (pointer, code, detail)| error.field(pointer, code, detail)))
    }
}

/// A text without the blanks around it, those without width included; line breaks are no blanks. A joiner stays: names
/// in Malayalam end with one.
pub(crate) fn without_outer_blanks(text: &str) -> &str {
    let is_blank = |character: char| {
        (character.is_whitespace() || matches!(character, '\u{200B}' | '\u{2060}')) && !is_unsafe_char(character)
    };
    text.trim_matches(is_blank)
}

/// Reads a name or another line of text [`without_outer_blanks`]. A repeat with an `Idempotency-Key` is told by the same
/// rule.
pub(crate) fn trimmed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|text| without_outer_blanks(&text).to_owned())
}

/// The same of a text that may be absent.
pub(crate) fn trimmed_if_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    trimmed(deserializer).map(Some)
}

/// A text on one line, with a blank for every character that could mislead its reader.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|character| if is_unsafe_char(character) { ' ' } else { character }).collect()
}

/// Whether a character can make a line look like another text, or like two lines.
pub(crate) fn is_unsafe_char(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{2028}' | '\u{2029}'                  // line and paragraph separators
            | '\u{202A}'..='\u{202E}'                // embeddings and overrides of direction
            | '\u{2066}'..='\u{2069}'                // isolates
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}') // byte order mark, annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_outer_blanks_and_no_joiner() {
        let read = |name: &str| trimmed(serde_json::Value::from(name)).unwrap();
        for (name, kept) in [
            (" Asha Rao\u{a0}", "Asha Rao"),
            ("\u{200b}Asha Rao\u{2060} ", "Asha Rao"),
            ("മോഹന്\u{200d}", "മോഹന്\u{200d}"),
            ("Asha\n", "Asha\n"),
        ] {
            assert_eq!(read(name), kept);
        }
    }

    #[test]
    fn text_is_measured_in_characters_and_kept_on_one_line() {
        let check = |text: &str| {
            let mut fields = Validator::default();
            fields.text("/reason", text, 10, 20);
            fields.finish().is_ok()
        };
        assert!(check("वेतन की समस्या है"));
        assert!(check("exactly 10"));
        for wrong in [
            "short",
            "         x         ",
            "this one is far too long",
            "with a\nline break",
            "turned \u{202e}around",
            "\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}\u{200b}",
        ] {
            assert!(!check(wrong), "{wrong:?}");
        }
    }
}
