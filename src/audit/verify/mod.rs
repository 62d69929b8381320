//! Offline verification of an export: no database, no network.
//!
//! An unfiltered NDJSON export holds a log from its first event on, one event per
//! line, and ends with a checkpoint. Each line is canonical JSON (RFC 8785), so
//! every byte of it is verified. [`verify_export`] recomputes every leaf and every
//! root, and compares them with checkpoints that were kept outside.

use std::io::{self, BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList};
use tlog_tiles::{Checkpoint, Hash};

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
    /// Size in the external checkpoint: events beyond it are covered only by the export's own checkpoint.
    pub checkpoint_size: u64,
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

/// A checkpoint whose signature was verified.
struct Signed {
    size: u64,
    root: Hash,
}

/// Verifies the signatures of one log.
pub(super) struct LogVerifier {
    origin: String,
    keys: VerifierList,
}

impl LogVerifier {
    /// Parses a C2SP `vkey`, whose name is the origin of the log.
    pub(super) fn new(key: &str) -> Result<Self, Failure> {
        let verifier = StandardVerifier::new(key.trim()).map_err(|error| Failure::Key(error.to_string()))?;
        let origin = verifier.name().to_owned();
        if !origin.contains("/audit/") {
            return Err(Failure::Key(format!("{origin} names no log")));
        }
        Ok(Self { origin, keys: VerifierList::new(vec![Box::new(verifier)]) })
    }

    /// Tenant of the log.
    pub(super) fn tenant_id(&self) -> &str {
        self.origin.rsplit_once("/audit/").map_or("", |(_, tenant_id)| tenant_id)
    }

    /// The text of a note that the log's key signed.
    pub(super) fn text<'n>(&self, note: &'n Note) -> Result<&'n [u8], String> {
        note.verify(&self.keys).map_err(|error| error.to_string())?;
        Ok(note.text())
    }

    /// Size and root of a checkpoint of this log.
    pub(super) fn checkpoint(&self, bytes: &[u8]) -> Result<(u64, Hash), String> {
        let note = Note::from_bytes(bytes).map_err(|error| error.to_string())?;
        if note.to_bytes() != bytes {
            return Err("is not a well-formed signed note".to_owned());
        }
        let checkpoint = Checkpoint::from_bytes(self.text(&note)?).map_err(|error| error.to_string())?;
        if checkpoint.origin() != self.origin {
            return Err(format!("is of the log {}, not of {}", checkpoint.origin(), self.origin));
        }
        if !checkpoint.extension().is_empty() {
            return Err("has an extension besides size and root".to_owned());
        }
        Ok((checkpoint.size(), *checkpoint.hash()))
    }
}

/// Verifies a complete export.
///
/// `key` is the log's verifier key and `checkpoint` a checkpoint that was kept
/// outside; `since` may hold older ones, which narrow down where events were
/// rewritten. `progress` receives the number of bytes read.
///
/// # Errors
/// The first mismatch. Input that cannot be parsed is a failure.
pub fn verify_export(
    export: &mut impl BufRead,
    key: &str,
    checkpoint: &[u8],
    since: &[Vec<u8>],
    mut progress: impl FnMut(u64),
) -> Result<Verified, Failure> {
    let log = LogVerifier::new(key)?;
    let mut signed = Vec::new();
    for (number, bytes) in std::iter::once(checkpoint).chain(since.iter().map(Vec::as_slice)).enumerate() {
        let (size, root) = log.checkpoint(bytes).map_err(|why| Failure::Checkpoint { number: number + 1, why })?;
        signed.push(Signed { size, root });
    }
    let checkpoint_size = signed.first().map_or(0, |first| first.size);
    signed.sort_by_key(|checkpoint| checkpoint.size);

    let mut events = Events { log, frontier: Frontier::default(), number: 0, erased: Vec::new(), purges: Vec::new() };
    let mut expected = signed.into_iter().peekable();
    let mut agreed = 0;
    let mut line = Vec::new();
    let closing = loop {
        while let Some(next) = expected.next_if(|next| next.size == events.frontier.size()) {
            events.agrees(next.root, agreed)?;
            agreed = next.size;
        }
        line.clear();
        let read = export.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        progress(u64::try_from(read).unwrap_or(u64::MAX));
        events.number += 1;
        if let Some(checkpoint) = events.line(&line, expected.peek())? {
            break checkpoint;
        }
    };
    let mut rest = [0];
    if export.read(&mut rest)? > 0 {
        return Err(Failure::Line { number: events.number + 1, why: "follows the closing checkpoint".to_owned() });
    }
    let (size, root) = closing;
    if let Some(beyond) = expected.next() {
        return Err(Failure::Truncated { from: events.frontier.size(), size: beyond.size });
    }
    if size != events.frontier.size() {
        return Err(
            events.bad(format!("the checkpoint covers {size} events, but the export holds {}", events.frontier.size()))
        );
    }
    events.agrees(root, agreed)?;
    let erased = events.check_erasures()?;
    Ok(Verified {
        tenant_id: events.log.tenant_id().to_owned(),
        events: events.frontier.size(),
        erased,
        root_hash: base64(&root.0),
        checkpoint_size,
    })
}

/// State of the verification: the lines read so far.
struct Events {
    log: LogVerifier,
    frontier: Frontier,
    number: u64,
    /// Runs of events without a payload.
    erased: Vec<ErasedRun>,
    /// Erasures recorded in the log.
    purges: Vec<Purge>,
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

impl Events {
    fn bad(&self, why: impl Into<String>) -> Failure {
        Failure::Line { number: self.number, why: why.into() }
    }

    /// Checks the root of the events read so far against a signed one.
    fn agrees(&self, root: Hash, from: u64) -> Result<(), Failure> {
        let own = self.frontier.root().map_err(|error| self.bad(error.to_string()))?;
        if own == root { Ok(()) } else { Err(Failure::Interval { from, size: self.frontier.size() }) }
    }

    /// Verifies a line; returns the closing checkpoint if the line is that.
    fn line(&mut self, line: &[u8], expected: Option<&Signed>) -> Result<Option<(u64, Hash)>, Failure> {
        let Some(text) = line.strip_suffix(b"\n") else {
            return Err(match expected {
                Some(signed) if line.is_empty() => Failure::Truncated { from: self.frontier.size(), size: signed.size },
                _ if line.is_empty() => self.bad("the export ends without its checkpoint"),
                _ => self.bad("is cut off"),
            });
        };
        let value: Value = serde_json::from_slice(text).map_err(|error| self.bad(format!("is not JSON: {error}")))?;
        if !canonical(&value).is_ok_and(|canonical| canonical.as_bytes() == text) {
            return Err(self.bad("is not in canonical form (RFC 8785)"));
        }
        let members = value.as_object().ok_or_else(|| self.bad("is not a JSON object"))?;
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        match names.as_slice() {
            ["checkpoint"] => {
                let note =
                    member(&value, "checkpoint").as_str().ok_or_else(|| self.bad("the checkpoint is no text"))?;
                let signed = self.log.checkpoint(note.as_bytes());
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

/// Limit of an evidence pack; the service writes none that is larger.
const MAX_PACK_BYTES: u64 = 256 * 1024 * 1024;

/// Whether the beginning of a file is that of an evidence pack, not of an export.
#[must_use]
pub fn is_evidence(beginning: &[u8]) -> bool {
    beginning.starts_with(b"{\"evidence\"")
}

/// Verifies an evidence pack: its signature, its checkpoint, and each event with its inclusion proof.
///
/// # Errors
/// The first mismatch.
pub fn verify_evidence(pack: &mut impl Read, key: &str) -> Result<Verified, Failure> {
    let bad = |why: String| Failure::Line { number: 1, why };
    let log = LogVerifier::new(key)?;
    let mut bytes = Vec::new();
    pack.by_ref().take(MAX_PACK_BYTES).read_to_end(&mut bytes)?;
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let value: Value = serde_json::from_slice(text).map_err(|error| bad(format!("is not JSON: {error}")))?;
    if !canonical(&value).is_ok_and(|canonical| canonical.as_bytes() == text) {
        return Err(bad("is not in canonical form (RFC 8785)".to_owned()));
    }
    let evidence = value.get("evidence").ok_or_else(|| bad("holds no evidence".to_owned()))?;
    let signature = member(&value, "signature").as_str().ok_or_else(|| bad("is not signed".to_owned()))?;
    let text = canonical(evidence).map_err(|error| bad(error.to_string()))?;
    let signed = super::evidence::signed_text(&log.origin, &text);
    let note = Note::from_bytes(format!("{signed}\n{signature}").as_bytes());
    let note = note.map_err(|error| bad(format!("the signature is malformed: {error}")))?;
    let text = log.text(&note).map_err(|error| bad(format!("the signature is not over this evidence: {error}")))?;
    if text != signed.as_bytes() {
        return Err(bad("the signature is not over this evidence".to_owned()));
    }

    let checkpoint = member(evidence, "checkpoint").as_str().unwrap_or_default();
    let (size, root) =
        log.checkpoint(checkpoint.as_bytes()).map_err(|why| bad(format!("the checkpoint inside {why}")))?;
    let (mut count, mut erased) = (0, 0);
    for list in ["events", "refusals"] {
        let events = member(evidence, list).as_array().ok_or_else(|| bad(format!("has no list of {list}")))?;
        for event in events {
            let name = member(member(event, "leaf"), "id");
            check_event(event, log.tenant_id(), None).map_err(|why| bad(format!("event {name}: {why}")))?;
            check_proof(event, size, root).map_err(|why| bad(format!("event {name}: {why}")))?;
            count += 1;
            erased += u64::from(event.get("erased").is_some());
        }
    }
    let (tenant_id, root_hash) = (log.tenant_id().to_owned(), base64(&root.0));
    Ok(Verified { tenant_id, events: count, erased, root_hash, checkpoint_size: size })
}

/// Verifies that an event is in the tree of a checkpoint.
fn check_proof(event: &Value, size: u64, root: Hash) -> Result<(), String> {
    let index = member(member(event, "leaf"), "log_index").as_u64().ok_or("has no index")?;
    let proof = member(event, "proof").as_array().ok_or("has no proof")?;
    let hashes = proof.iter().map(|hash| Hash::parse_hash(hash.as_str()?).ok()).collect::<Option<Vec<_>>>();
    let hashes = hashes.ok_or("the proof holds no hashes")?;
    // The library's check recurses to the depth of the tree, which a forged size could inflate.
    if hashes.len() > 64 {
        return Err("the proof is too long".to_owned());
    }
    tlog_tiles::check_record(&hashes, size, root, index, leaf_hash(member(event, "leaf"))?)
        .map_err(|_not_in_it| "is not in the tree of the checkpoint".to_owned())
}

#[cfg(test)]
mod tests;
