//! Restores within a log: the one break between two checkpoints of a log that is accepted.
//!
//! A restored log goes on under another origin from its event `log.restored` on,
//! which names the origin before and the newest checkpoints that were kept outside.
//! A checkpoint under the earlier origin must be one of the tree before that event,
//! or lie within what the event names as lost; one under the later origin must
//! cover the event. Every other difference is a failure, as in a log without a
//! restore.

use serde_json::Value;
use signed_note::Note;
use tlog_tiles::Hash;

use super::{Failure, member};

/// A restore that a log records.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedRestore {
    /// Index of the `log.restored` event.
    pub log_index: u64,
    /// Name of the log from this event on.
    pub origin: String,
    /// Number of events that were lost, as recorded; absent where nobody could count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_lost: Option<u64>,
}

/// A checkpoint, whose signature is verified once the keys of the log are known.
pub(super) struct Signed {
    /// Number in the order given, from 1.
    pub number: usize,
    pub origin: String,
    pub size: u64,
    pub root: Hash,
    pub note: Note,
    /// Whether the export has the root at this size, once it was reached.
    pub agrees: Option<bool>,
    /// Size of the last checkpoint before it that agrees.
    pub after: u64,
}

/// A `log.restored` event.
pub(super) struct Break {
    pub index: u64,
    pub previous_origin: String,
    pub origin: String,
    events_lost: Option<u64>,
    /// Origin, size and root of the newest checkpoint of each name that was kept outside.
    outside: Vec<(String, u64, Hash)>,
}

impl Break {
    /// Parses the payload of an event.
    pub(super) fn parse(index: u64, payload: &Value) -> Option<Self> {
        let data = payload.get("data")?;
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let more = member(data, "more_checkpoints").as_array();
        let outside = data.get("checkpoint").into_iter().chain(more.into_iter().flatten()).map(|outside| {
            let root = Hash::parse_hash(member(outside, "root").as_str()?).ok()?;
            Some((text(outside, "origin")?, member(outside, "size").as_u64()?, root))
        });
        let outside = outside.collect::<Option<Vec<_>>>()?;
        let (previous_origin, origin) = (text(data, "previous_origin")?, text(data, "origin")?);
        Some(Self { index, previous_origin, origin, events_lost: member(data, "events_lost").as_u64(), outside })
    }

    /// Whether the event names the checkpoint, or a later one of the same name.
    fn names(&self, signed: &Signed) -> bool {
        self.outside.iter().any(|(origin, size, root)| {
            *origin == signed.origin && (signed.size < *size || (signed.size == *size && signed.root == *root))
        })
    }

    /// Whether the event names exactly this checkpoint.
    fn is_about(&self, signed: &Signed) -> bool {
        self.outside
            .iter()
            .any(|(origin, size, root)| (origin, *size, root) == (&signed.origin, signed.size, &signed.root))
    }
}

/// The names that a log has had, and its restores in between.
pub(super) struct Names {
    first: String,
    breaks: Vec<Break>,
}

impl Names {
    /// A log without a restore so far.
    pub(super) const fn new(first: String) -> Self {
        Self { first, breaks: Vec::new() }
    }

    /// The name of the log at the end of what was read.
    pub(super) fn current(&self) -> &str {
        self.breaks.last().map_or(&self.first, |last| &last.origin)
    }

    /// Takes a restore down.
    pub(super) fn follow(&mut self, next: Break) -> Result<(), String> {
        if self.breaks.is_empty() {
            // The key may be that of any name of the log.
            self.first.clone_from(&next.previous_origin);
        }
        if self.current() != next.previous_origin || self.position(&next.origin).is_some() {
            return Err("the restore event does not continue the names of the log".to_owned());
        }
        self.breaks.push(next);
        Ok(())
    }

    /// Whether the log has had this name.
    pub(super) fn has(&self, origin: &str) -> bool {
        self.position(origin).is_some()
    }

    fn position(&self, origin: &str) -> Option<usize> {
        let names = std::iter::once(&self.first).chain(self.breaks.iter().map(|one| &one.origin));
        names.into_iter().position(|name| name == origin)
    }

    /// Whether a checkpoint covers more than the log had under its name: a restore has lost the rest.
    pub(super) fn is_beyond(&self, signed: &Signed) -> bool {
        let Some(place) = self.position(&signed.origin) else { return self.is_named(signed) };
        self.breaks.get(place).is_some_and(|ends| signed.size > ends.index)
    }

    /// Whether a restore names the checkpoint: the name under which it was signed may be lost, too.
    fn is_named(&self, signed: &Signed) -> bool {
        self.breaks.iter().any(|restore| restore.names(signed))
    }

    /// Judges a checkpoint, once the export was read as far as it goes: `size` events.
    pub(super) fn judge(&self, signed: &Signed, size: u64) -> Result<(), Failure> {
        let bad = |why: String| Err(Failure::Checkpoint { number: signed.number, why });
        let Some(place) = self.position(&signed.origin) else {
            if self.is_named(signed) {
                return Ok(());
            }
            return bad(format!("is of the log {}, not of {}", signed.origin, self.current()));
        };
        let begins = place.checked_sub(1).and_then(|before| self.breaks.get(before));
        if let Some(begins) = begins.filter(|begins| signed.size <= begins.index) {
            return bad(format!("has the name of event {}, and does not cover it", begins.index));
        }
        let ends = self.breaks.get(place);
        let is_beyond = self.is_beyond(signed);
        if !is_beyond && signed.agrees == Some(true) {
            return Ok(());
        }
        let mut later = self.breaks.iter().skip(place);
        let named = if is_beyond {
            later.any(|restore| restore.names(signed))
        } else {
            later.any(|restore| restore.is_about(signed))
        };
        match (named, ends) {
            (true, _) => Ok(()),
            (false, Some(ends)) if is_beyond => bad(format!(
                "covers {} events, and the log was restored at event {} without naming it",
                signed.size, ends.index
            )),
            _ if signed.agrees.is_none() => Err(Failure::Truncated { from: size, size: signed.size }),
            _ => Err(Failure::Interval { from: signed.after, size: signed.size }),
        }
    }

    /// The restores for the result.
    pub(super) fn restores(&self) -> Vec<VerifiedRestore> {
        let restore = |one: &Break| VerifiedRestore {
            log_index: one.index,
            origin: one.origin.clone(),
            events_lost: one.events_lost,
        };
        self.breaks.iter().map(restore).collect()
    }
}
