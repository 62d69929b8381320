//! The keys that a log has had: each introduces the next one by a statement that it signed, in an event of the log.
//!
//! Whoever trusts one key of a log can follow the statements to later keys, and
//! what a later key signed names the ones before. A checkpoint must be signed by
//! the key that the log had at its size: a key that was changed signs nothing of
//! what comes after.

use serde_json::Value;
use signed_note::Note;

use super::LogVerifier;

/// A change of the key that a log records.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedKeyChange {
    /// Index of the `log.key_changed` event.
    pub log_index: u64,
    /// Verifier key of the log from this event on (C2SP `vkey`).
    pub key: String,
}

/// The text that a key signs to introduce the next one. It is no checkpoint, whose second line is a number.
pub(in crate::audit) fn introduction(origin: &str, key: &str) -> String {
    format!("{origin}\nlog-key {key}\n")
}

/// A `log.key_changed` event whose statement was verified.
pub(super) struct Change {
    index: u64,
    pub origin: String,
    key: String,
    /// The keys in signed-note form, before and after.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Change {
    /// Parses the payload of an event, and verifies that the key before introduces the next one.
    pub(super) fn parse(index: u64, payload: &Value) -> Option<Self> {
        let data = payload.get("data")?;
        let text = |name: &str| data.get(name)?.as_str();
        let (before, key) = (LogVerifier::new(text("previous_key")?).ok()?, text("key")?);
        let after = LogVerifier::new(key).ok()?;
        let statement = Note::from_bytes(text("statement")?.as_bytes()).ok()?;
        let said = before.text(&statement).ok()? == introduction(&before.origin, key).as_bytes();
        let change = Self { index, origin: before.origin, key: key.to_owned(), before: before.key, after: after.key };
        (said && after.origin == change.origin).then_some(change)
    }
}

/// The keys of a log, and where they were changed.
pub(super) struct Keys {
    /// The key that the caller trusts.
    trusted: Vec<u8>,
    changes: Vec<Change>,
}

impl Keys {
    /// A log without a change so far.
    pub(super) const fn new(trusted: Vec<u8>) -> Self {
        Self { trusted, changes: Vec::new() }
    }

    /// Takes a change down.
    pub(super) fn follow(&mut self, next: Change) -> Result<(), String> {
        let continues = self.changes.last().is_none_or(|last| last.after == next.before);
        let had = |key: &Vec<u8>| self.changes.iter().any(|change| [&change.before, &change.after].contains(&key));
        if !continues || next.before == next.after || had(&next.after) {
            return Err("the change of the key does not continue the keys of the log".to_owned());
        }
        self.changes.push(next);
        Ok(())
    }

    /// The key that signs the log after this number of events.
    pub(super) fn at(&self, size: u64) -> &[u8] {
        let before = self.changes.iter().rev().find(|change| change.index < size).map(|change| &change.after);
        before.or_else(|| self.changes.first().map(|first| &first.before)).unwrap_or(&self.trusted)
    }

    /// Every key that the log has had.
    pub(super) fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        let first = self.changes.first().map_or(&self.trusted, |first| &first.before);
        std::iter::once(first).chain(self.changes.iter().map(|change| &change.after))
    }

    /// Whether the key that the caller trusts is one of the log's.
    pub(super) fn is_known(&self) -> bool {
        self.all().any(|key| *key == self.trusted)
    }

    /// Whether the log records a change.
    pub(super) fn have_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// The changes for the result.
    pub(super) fn changes(&self) -> Vec<VerifiedKeyChange> {
        let change = |one: &Change| VerifiedKeyChange { log_index: one.index, key: one.key.clone() };
        self.changes.iter().map(change).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::key::LogSigner;

    const ORIGIN: &str = "links.example/audit/acme";

    fn signer(seed: u8) -> LogSigner {
        LogSigner::for_tests([seed; 32])
    }

    fn vkey(seed: u8) -> String {
        signer(seed).verifier_key(ORIGIN)
    }

    fn payload(before: &str, after: &str, statement: &str) -> Value {
        serde_json::json!({ "data": { "previous_key": before, "key": after, "statement": statement } })
    }

    /// The event by which one key introduces another.
    fn change(index: u64, before: u8, after: u8) -> Change {
        let statement = signer(before).sign(ORIGIN, introduction(ORIGIN, &vkey(after)).as_bytes()).unwrap();
        Change::parse(index, &payload(&vkey(before), &vkey(after), &statement)).expect("a statement that holds")
    }

    fn key(seed: u8) -> Vec<u8> {
        LogVerifier::new(&vkey(seed)).unwrap().key
    }

    #[test]
    fn only_the_key_before_introduces_the_next_one() {
        let says = |by: u8, text: &str| {
            let statement = signer(by).sign(ORIGIN, text.as_bytes()).unwrap();
            Change::parse(7, &payload(&vkey(1), &vkey(2), &statement)).is_some()
        };
        assert!(says(1, &introduction(ORIGIN, &vkey(2))));
        assert!(!says(2, &introduction(ORIGIN, &vkey(2))), "itself");
        assert!(!says(3, &introduction(ORIGIN, &vkey(2))), "a stranger");
        assert!(!says(1, &introduction(ORIGIN, &vkey(3))), "another key");
        assert!(!says(1, &introduction("links.example/audit/globex", &vkey(2))), "another log");
        assert!(!says(1, &format!("{ORIGIN}\n7\nAAAA\n")), "a checkpoint");
    }

    #[test]
    fn each_key_signs_what_lies_between_its_changes() {
        let mut keys = Keys::new(key(2));
        assert!(keys.at(100) == key(2) && keys.is_known());
        keys.follow(change(10, 1, 2)).unwrap();
        keys.follow(change(20, 2, 3)).unwrap();
        for (size, signs) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (u64::MAX, 3)] {
            assert_eq!(keys.at(size), key(signs), "{size}");
        }
        for (before, after) in [(1, 4), (3, 1), (3, 2), (4, 5)] {
            assert!(keys.follow(change(30, before, after)).is_err(), "{before} to {after}");
        }
        let mut of_another = Keys::new(key(9));
        of_another.follow(change(10, 1, 2)).unwrap();
        assert!(!of_another.is_known());
    }
}
