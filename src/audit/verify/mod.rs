//! Offline verification of an export: no database, no network.
//!
//! An unfiltered NDJSON export holds a log from its first event on, one event per
//! line, and ends with a checkpoint. Each line is canonical JSON (RFC 8785), so
//! every byte of it is verified. [`verify_export`] recomputes every leaf and every
//! root, and compares them with checkpoints that were kept outside.

mod approvals;
mod evidence;
mod keys;
mod log_verifier;
mod restores;

use std::io::{self, BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tlog_tiles::Hash;

use self::approvals::Approvals;
pub use self::approvals::{ApprovalKey, KeyChangedBy, VerifiedApprovalKeyChange, VerifiedApprovals};
pub use self::evidence::{is_evidence, verify_evidence};
pub use self::keys::VerifiedKeyChange;
pub(super) use self::keys::introduction;
use self::keys::{Change, Keys};
use self::log_verifier::trunk;
pub(super) use self::log_verifier::{LogVerifier, origin_of, unverified};
pub use self::restores::VerifiedRestore;
use self::restores::{Break, Names, Signed};
use super::Erased;
use crate::clock::Timestamp;
use crate::domain::{Actor, EventType};
use crate::journal::leaf::{SALT_BYTES, canonical, commit};
use crate::journal::tree::{Frontier, base64};

/// Limit of a line; the service writes none that is longer.
const MAX_LINE_BYTES: u64 = 16 * 1024 * 1024;

/// Result of a successful verification.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Tenant of the log.
    pub tenant_id: String,
    /// Number of verified events.
    pub events: u64,
    /// Number of events whose payload was erased, as recorded in the log.
    pub erased: u64,
    /// Root hash of the tree (SHA-256, base64).
    pub root_hash: String,
    /// Number of events that the external checkpoint covers; those beyond are covered only by the export's own one.
    pub checkpoint_size: u64,
    /// Restores of the database that the log records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restores: Vec<VerifiedRestore>,
    /// Changes of the key that signs the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_changes: Vec<VerifiedKeyChange>,
    /// What was found of the customer's signatures; absent where no key of the customer was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approvals: Option<VerifiedApprovals>,
}

/// Why verification failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The file cannot be read.
    #[error("cannot read the export: {0}")]
    Read(#[from] io::Error),
    /// The verifier key is malformed, or is not one of a log.
    #[error("the verifier key is not one of a log of this service: {0}")]
    Key(String),
    /// An external checkpoint is malformed, or is not of this log.
    #[error("checkpoint {number}: {why}")]
    Checkpoint {
        /// Number of the checkpoint, from 1 in the order given.
        number: usize,
        /// The reason.
        why: String,
    },
    /// A line is invalid.
    #[error("line {number}: {why}")]
    Line {
        /// Line number, from 1.
        number: u64,
        /// The reason.
        why: String,
    },
    /// The export leaves events out.
    #[error(
        "this is a view of the log and cannot be verified as a whole: export the log in NDJSON, without filters, by a \
         client that is bound to no portal; the evidence pack of a link can be verified by itself"
    )]
    View,
    /// Events were rewritten together with their hashes: a checkpoint does not match.
    #[error(
        "events {from} to {to}: they are whole in themselves, but they are not the ones that were signed \
         (the log was the signed one at size {from}, and is another one at size {size})",
        to = size.saturating_sub(1)
    )]
    Interval {
        /// Index of the first event that may have been rewritten.
        from: u64,
        /// Size of the checkpoint that does not match.
        size: u64,
    },
    /// The export ends before a checkpoint.
    #[error("events {from} to {to} are missing: the export ends before a checkpoint that was signed", to = size.saturating_sub(1))]
    Truncated {
        /// Index of the first missing event.
        from: u64,
        /// Size of the checkpoint that is not reached.
        size: u64,
    },
}

/// Verifies a complete export.
///
/// `key` is the log's verifier key and `checkpoint` a checkpoint that was kept
/// outside; `since` may hold older ones, which narrow down where events were
/// rewritten. With `approval_keys`, those with which the customer signs approvals,
/// each approval is checked, too. `progress` receives the number of bytes read.
///
/// # Errors
/// The first mismatch. Input that cannot be parsed is a failure.
pub fn verify_export(
    export: &mut impl BufRead,
    key: &str,
    checkpoint: &[u8],
    since: &[Vec<u8>],
    approval_keys: &[ApprovalKey],
    mut progress: impl FnMut(u64),
) -> Result<Verified, Failure> {
    let log = LogVerifier::new(key)?;
    let mut signed = Vec::new();
    for (number, bytes) in (1..).zip(std::iter::once(checkpoint).chain(since.iter().map(Vec::as_slice))) {
        let read = || {
            let (origin, note) = (origin_of(bytes)?, unverified(bytes)?);
            let (size, root) = log.named(origin, &log.key)?.size_and_root(&note)?;
            Ok(Signed { number, origin: origin.to_owned(), size, root, note, agrees: None, after: 0 })
        };
        signed.push(read().map_err(|why| Failure::Checkpoint { number, why })?);
    }
    signed.sort_by_key(|checkpoint| checkpoint.size);

    let (names, keys) = (Names::new(log.origin.clone()), Keys::new(log.key.clone()));
    let (frontier, erased, purges) = (Frontier::default(), Vec::new(), Vec::new());
    let approvals = Approvals::new(approval_keys, true);
    let mut events = Events { log, names, keys, frontier, number: 0, erased, purges, approvals };
    let read = events.read(export, &mut signed, &mut progress);
    for checkpoint in &signed {
        // Where the log was not read to its end, its last keys are not known.
        if let Err(failure) = events.check_signature(checkpoint) {
            return Err(if events.keys.have_changed() { read.err().unwrap_or(failure) } else { failure });
        }
    }
    // What does not agree with a signed root is told first: it comes first in the log.
    let reached = |checkpoint: &&Signed| checkpoint.agrees == Some(false);
    for checkpoint in signed.iter().filter(reached) {
        events.names.judge(checkpoint, events.frontier.size())?;
    }
    let (size, root) = read?;
    if size != events.frontier.size() {
        let held = events.frontier.size();
        for checkpoint in &signed {
            events.names.judge(checkpoint, held)?;
        }
        return Err(events.bad(format!("the checkpoint covers {size} events, but the export holds {held}")));
    }
    for checkpoint in &signed {
        events.names.judge(checkpoint, size)?;
    }
    if !events.names.has(&events.log.origin) {
        return Err(Failure::Key(format!("the log has never had the name {}", events.log.origin)));
    }
    if !events.keys.is_known() {
        return Err(Failure::Key("the log has never had this key".to_owned()));
    }
    let agreed = signed.iter().filter(|checkpoint| checkpoint.agrees == Some(true));
    events.agrees(root, agreed.map(|checkpoint| checkpoint.size).max().unwrap_or(0))?;
    let erased = events.check_erasures()?;
    let approvals = events.approvals.found().map_err(|why| events.bad(why))?;
    let own = signed.iter().find(|checkpoint| checkpoint.number == 1 && checkpoint.agrees == Some(true));
    Ok(Verified {
        tenant_id: events.log.tenant_id().to_owned(),
        events: size,
        erased,
        root_hash: base64(&root.0),
        checkpoint_size: own.map_or(0, |own| own.size),
        restores: events.names.restores(),
        key_changes: events.keys.changes(),
        approvals,
    })
}

/// Whether the first line is that of a view: an export that was cut, CSV, or OCSF.
fn is_view(line: &[u8]) -> bool {
    let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
    let opening = serde_json::from_slice::<Value>(line).ok();
    let has = |name: &str| opening.as_ref().is_some_and(|value| value.get(name).is_some());
    line.starts_with(b"log_index,") || has("view") || has("class_uid")
}

/// State of the verification: the lines read so far.
struct Events<'k> {
    log: LogVerifier,
    names: Names,
    keys: Keys,
    frontier: Frontier,
    number: u64,
    /// Runs of events without a payload.
    erased: Vec<ErasedRun>,
    /// Erasures recorded in the log.
    purges: Vec<Purge>,
    approvals: Approvals<'k>,
}

/// Consecutive events of one day without a payload and with the same erasure.
struct ErasedRun {
    first_line: u64,
    events: std::ops::Range<u64>,
    erased: Erased,
    /// When the latest of them was recorded.
    newest: Timestamp,
}

impl ErasedRun {
    fn is_of_the_day(&self, moment: Timestamp) -> bool {
        self.newest.to_utc().date() == moment.to_utc().date()
    }
}

/// An erasure recorded in the log.
struct Purge {
    events: std::ops::Range<u64>,
    /// Payloads recorded before this time were erased.
    before: Timestamp,
    erased: Erased,
}

impl Events<'_> {
    fn bad(&self, why: impl Into<String>) -> Failure {
        Failure::Line { number: self.number, why: why.into() }
    }

    /// Reads every line, and compares each signed root; returns the closing checkpoint.
    fn read(
        &mut self,
        export: &mut impl BufRead,
        signed: &mut [Signed],
        mut progress: impl FnMut(u64),
    ) -> Result<(u64, Hash), Failure> {
        let mut expected = signed.iter_mut().peekable();
        let mut last = 0;
        let mut line = Vec::new();
        let closing = loop {
            while let Some(next) = expected.next_if(|next| next.size == self.frontier.size()) {
                let is_same = self.agrees(next.root, last).is_ok();
                (next.agrees, next.after) = (Some(is_same), last);
                if is_same {
                    last = next.size;
                }
            }
            line.clear();
            let read = export.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
            progress(u64::try_from(read).unwrap_or(u64::MAX));
            self.number += 1;
            if let Some(checkpoint) = self.line(&line, expected.peek().map(|next| next.size))? {
                break checkpoint;
            }
        };
        let mut rest = [0];
        if export.read(&mut rest)? > 0 {
            return Err(Failure::Line { number: self.number + 1, why: "follows the closing checkpoint".to_owned() });
        }
        Ok(closing)
    }

    /// Checks that a checkpoint is signed by the key that the log had at its size: of what a restore has lost nobody
    /// knows, so any of its keys may have signed that.
    fn check_signature(&self, signed: &Signed) -> Result<(), Failure> {
        let by = |key: &[u8]| {
            let log = self.log.named(&signed.origin, key)?;
            log.text(&signed.note).map(drop)
        };
        let outcome = if self.names.is_beyond(signed) {
            let outcomes = self.keys.all().map(|key| by(key));
            outcomes.reduce(Result::or).unwrap_or(Ok(()))
        } else {
            by(self.keys.at(signed.size))
        };
        outcome.map_err(|why| Failure::Checkpoint { number: signed.number, why })
    }

    /// Checks the root of the events read so far against a signed one.
    fn agrees(&self, root: Hash, from: u64) -> Result<(), Failure> {
        let own = self.frontier.root().map_err(|error| self.bad(error.to_string()))?;
        if own == root { Ok(()) } else { Err(Failure::Interval { from, size: self.frontier.size() }) }
    }

    /// Verifies a line; returns the closing checkpoint if the line is that.
    fn line(&mut self, line: &[u8], expected: Option<u64>) -> Result<Option<(u64, Hash)>, Failure> {
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(match expected {
                Some(size) if line.is_empty() => Failure::Truncated { from: self.frontier.size(), size },
                _ if line.is_empty() => self.bad("the export ends without its checkpoint"),
                _ => self.bad("is cut off"),
            });
        };
        if self.number == 1 && is_view(text) {
            return Err(Failure::View);
        }
        let value = read_canonical(text).map_err(|why| self.bad(why))?;
        let members = value.as_object().ok_or_else(|| self.bad("is not a JSON object"))?;
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        match names.as_slice() {
            ["checkpoint"] => {
                let note =
                    member(&value, "checkpoint").as_str().ok_or_else(|| self.bad("the checkpoint is no text"))?;
                let current = self.log.named(self.names.current(), self.keys.at(self.frontier.size()));
                let signed = current.and_then(|log| log.checkpoint(note.as_bytes()));
                signed.map(Some).map_err(|why| self.bad(format!("the checkpoint {why}")))
            }
            ["leaf", "leaf_hash", "payload", "salt"] | ["erased", "leaf", "leaf_hash"] => {
                self.event(&value)?;
                Ok(None)
            }
            ["leaf", "leaf_hash"] => Err(self.bad("the payload is missing without an erasure")),
            _ => Err(self.bad("is neither an event nor a checkpoint")),
        }
    }

    fn event(&mut self, event: &Value) -> Result<(), Failure> {
        let index = self.frontier.size();
        check_event(event, self.log.tenant_id(), Some(index)).map_err(|why| self.bad(why))?;
        let approvals = self.approvals.follow(event);
        approvals.map_err(|why| self.bad(why))?;
        let leaf = member(event, "leaf");
        if let Some(erased) = event.get("erased") {
            let erased = Erased::parse(erased).ok_or_else(|| self.bad("the erasure is malformed"))?;
            let newest = time(leaf, "recorded_at").ok_or_else(|| self.bad("has no valid `recorded_at`"))?;
            match self.erased.last_mut() {
                Some(run) if run.events.end == index && run.erased == erased && run.is_of_the_day(newest) => {
                    run.events.end += 1;
                    run.newest = run.newest.max(newest);
                }
                _ => {
                    let (first_line, events) = (self.number, index..index + 1);
                    self.erased.push(ErasedRun { first_line, events, erased, newest });
                }
            }
        } else if member(leaf, "type") == EventType::AuditPurged.as_str() {
            let purge =
                purge(leaf, member(event, "payload")).ok_or_else(|| self.bad("the erasure event is malformed"))?;
            // An erasure may cover only earlier events, and only after the minimum retention of a year and a day.
            let kept_for = ::time::Duration::days(crate::domain::MIN_RETENTION_DAYS.into());
            if purge.events.end > index || purge.before.plus(kept_for) > purge.erased.erased_at {
                return Err(self.bad("it erases payloads that must still be kept"));
            }
            self.purges.push(purge);
        }
        if member(leaf, "type") == EventType::LogRestored.as_str() {
            let restore = Break::parse(index, member(event, "payload"));
            let restore = restore.ok_or_else(|| self.bad("the restore event is malformed"))?;
            if [&restore.origin, &restore.previous_origin].iter().any(|name| trunk(name) != trunk(&self.log.origin)) {
                return Err(self.bad("the restore event names another log"));
            }
            self.names.follow(restore).map_err(|why| self.bad(why))?;
        }
        if member(leaf, "type") == EventType::LogKeyChanged.as_str() {
            let change = Change::parse(index, member(event, "payload"));
            let change = change.ok_or_else(|| self.bad("the key before does not introduce the next one"))?;
            if trunk(&change.origin) != trunk(&self.log.origin) {
                return Err(self.bad("the change of the key names another log"));
            }
            self.keys.follow(change).map_err(|why| self.bad(why))?;
        }
        let hash = leaf_hash(leaf).map_err(|why| self.bad(why))?;
        self.frontier.push(hash).map_err(|error| self.bad(error.to_string()))?;
        Ok(())
    }

    /// Checks that each missing payload is covered by a recorded erasure; returns their number.
    fn check_erasures(&self) -> Result<u64, Failure> {
        let mut count = 0;
        for run in &self.erased {
            let mut next = run.events.start;
            // One erasure may be recorded as several consecutive ranges.
            while next < run.events.end {
                let covering = self.purges.iter().find(|purge| {
                    purge.events.contains(&next) && purge.erased == run.erased && run.newest < purge.before
                });
                let Some(purge) = covering else {
                    let why = "its payload is missing, and the log records no such erasure";
                    return Err(Failure::Line {
                        number: run.first_line + next - run.events.start,
                        why: why.to_owned(),
                    });
                };
                next = purge.events.end;
            }
            count += run.events.end - run.events.start;
        }
        Ok(count)
    }
}

/// What another program has written is the same JSON with other bytes, at best.
const WRITTEN_ANEW: &str = "is not in canonical form (RFC 8785): it was formatted anew or changed on the way; verify the \
                            file as it was downloaded";

/// Refuses what a program on the way has saved in another way than it was written, and says how.
fn require_untouched(text: &[u8]) -> Result<(), &'static str> {
    if text.starts_with(b"\xEF\xBB\xBF") || text.contains(&0) {
        return Err("was saved anew in another encoding: verify the file as it was downloaded");
    }
    if text.ends_with(b"\r") || text.ends_with(b"\r\n") {
        return Err("ends as lines of Windows do: the file was changed on the way; verify it as it was downloaded");
    }
    Ok(())
}

/// Reads a text that must be as it was written, to the byte; says so where a program on the way has saved it anew.
fn read_canonical(text: &[u8]) -> Result<Value, &'static str> {
    require_untouched(text)?;
    let value: Value = serde_json::from_slice(text).map_err(|_invalid| "is not JSON")?;
    let is_canonical = canonical(&value).is_ok_and(|canonical| canonical.as_bytes() == text);
    if is_canonical { Ok(value) } else { Err(WRITTEN_ANEW) }
}

/// A member of an object, or null.
fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Verifies one event by itself: tenant, index, leaf hash and payload commitment.
pub(super) fn check_event(event: &Value, tenant_id: &str, index: Option<u64>) -> Result<(), String> {
    let leaf = member(event, "leaf");
    if member(leaf, "tenant_id") != tenant_id {
        return Err(format!("is of the log of {}, not of {tenant_id}", member(leaf, "tenant_id")));
    }
    if let Some(index) = index
        && member(leaf, "log_index").as_u64() != Some(index)
    {
        return Err(format!("is event {}, where event {index} belongs", member(leaf, "log_index")));
    }
    if *member(event, "leaf_hash") != base64(&leaf_hash(leaf)?.0) {
        return Err("the leaf hash is not that of the event".to_owned());
    }
    if event.get("erased").is_some() {
        return Ok(());
    }
    let salt = member(event, "salt").as_str().and_then(|salt| STANDARD.decode(salt).ok());
    let salt = salt.filter(|salt| salt.len() == SALT_BYTES).ok_or("the salt is malformed")?;
    let payload = canonical(member(event, "payload")).map_err(|error| error.to_string())?;
    if *member(leaf, "payload_commitment") != base64(&commit(&salt, &payload)) {
        return Err("the payload is not the one that was committed to".to_owned());
    }
    Ok(())
}

/// Recomputes the leaf hash (RFC 6962).
pub(super) fn leaf_hash(leaf: &Value) -> Result<Hash, String> {
    let text = canonical(leaf).map_err(|error| error.to_string())?;
    Ok(tlog_tiles::record_hash(text.as_bytes()))
}

/// A timestamp member of an object.
fn time(value: &Value, name: &str) -> Option<Timestamp> {
    serde_json::from_value(value.get(name)?.clone()).ok()
}

/// Parses an `audit.purged` event.
fn purge(leaf: &Value, payload: &Value) -> Option<Purge> {
    let data = payload.get("data")?;
    let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
    let by = Actor {
        kind: text(leaf, "actor_type")?.parse().ok()?,
        id: text(leaf, "actor_id")?,
        name: text(payload, "actor_name"),
    };
    let erased = Erased { erased_at: time(leaf, "recorded_at")?, by, reason: text(payload, "reason")? };
    let events = data.get("from_index")?.as_u64()?..data.get("to_index")?.as_u64()?;
    Some(Purge { events, before: time(data, "before")?, erased })
}

impl Erased {
    /// Accepts only the canonical spelling: a timestamp has several.
    fn parse(value: &Value) -> Option<Self> {
        let erased: Self = serde_json::from_value(value.clone()).ok()?;
        (canonical(&erased).ok()? == canonical(value).ok()?).then_some(erased)
    }
}

#[cfg(test)]
mod tests;
