//! Ten thousand manipulations of an export; verification detects each.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use tlog_tiles::HashReader;

use super::evidence::check_proof;
use super::*;
use crate::audit::checkpoint;
use crate::audit::key::LogKey;
use crate::clock::Timestamp;
use crate::domain::{ActorType, EventResult};
use crate::id::EventId;
use crate::journal::leaf::Leaf;

/// Events per log of the corpus.
const EVENTS: u64 = 24;

/// Number of manipulations.
const TAMPERINGS: usize = 10_000;

/// Number of erased events at the beginning of a log, and the index of the `audit.purged` event.
const ERASED: u64 = 3;
const PURGE: u64 = 20;

/// A log in export form, with the checkpoints that were signed as it grew.
#[derive(Clone)]
struct Log {
    lines: Vec<String>,
    checkpoints: Vec<String>,
    /// Every node of its tree, in storage order.
    nodes: Vec<Hash>,
}

impl HashReader for Log {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.nodes[usize::try_from(*index).unwrap()]).collect())
    }
}

fn long_ago() -> Timestamp {
    serde_json::from_str("\"2025-01-01T10:00:00Z\"").unwrap()
}

fn moment() -> Timestamp {
    serde_json::from_str("\"2026-11-22T10:00:00Z\"").unwrap()
}

/// Grows a log event by event, with a checkpoint after each.
fn grow(key: &LogKey, tenant_id: &str, random: &mut StdRng) -> Log {
    let mut frontier = Frontier::default();
    let (mut lines, mut checkpoints, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    let reason = "The retention period is over";
    for index in 0..EVENTS {
        let mut salt = [0; SALT_BYTES];
        random.fill_bytes(&mut salt);
        let payload = if index == PURGE {
            let data = serde_json::json!({ "before": "2025-06-01T00:00:00Z", "from_index": 0, "to_index": ERASED });
            canonical(&serde_json::json!({ "data": data, "reason": reason })).unwrap()
        } else {
            canonical(&serde_json::json!({ "data": { "field": index }, "reason": "Payroll, step 3" })).unwrap()
        };
        let id = EventId::new(moment());
        let leaf = Leaf {
            actor_id: if index == PURGE { "retention" } else { "con_1" },
            actor_type: if index == PURGE { ActorType::System } else { ActorType::Consultant },
            approval: None,
            client_id: None,
            consultant_id: None,
            id: &id,
            late: false,
            log_index: i64::try_from(index).unwrap(),
            magic_link_id: None,
            occurred_at: moment(),
            out_of_session: false,
            payload_commitment: Leaf::commitment(&commit(&salt, &payload)),
            policy_violation: false,
            portal: Some("cloud"),
            principal_id: Some("emp-9"),
            principal_ids: Vec::new(),
            profile_id: None,
            recorded_at: if index < ERASED { long_ago() } else { moment() },
            result: EventResult::Success,
            seq: Some(i64::try_from(index).unwrap() + 1),
            session_id: None,
            source: Some("portal"),
            tenant_id,
            trace_id: None,
            kind: if index == PURGE { EventType::AuditPurged.as_str() } else { EventType::DataChanged.as_str() },
        };
        let hash = leaf.hash().unwrap();
        nodes.extend(frontier.push(hash).unwrap());
        let by = serde_json::json!({ "type": "system", "id": "retention" });
        let erased = canonical(&serde_json::json!({ "erased_at": moment(), "by": by, "reason": reason })).unwrap();
        let (text, hash) = (leaf.canonical().unwrap(), base64(&hash.0));
        lines.push(if index < ERASED {
            format!(r#"{{"erased":{erased},"leaf":{text},"leaf_hash":"{hash}"}}"#)
        } else {
            format!(r#"{{"leaf":{text},"leaf_hash":"{hash}","payload":{payload},"salt":"{}"}}"#, base64(&salt))
        });
        checkpoints.push(
            checkpoint::sign(&key.newest(), &key.origin(tenant_id), frontier.size(), frontier.root().unwrap()).unwrap(),
        );
    }
    Log { lines, checkpoints, nodes }
}

impl Log {
    /// The export of the log at a given size.
    fn export(&self, size: usize) -> Vec<u8> {
        let closing = canonical(&serde_json::json!({ "checkpoint": self.checkpoints[size - 1] })).unwrap();
        let lines = self.lines[..size].iter().chain([&closing]);
        lines.flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    fn whole(&self) -> Vec<u8> {
        self.export(self.lines.len())
    }

    fn checkpoint(&self, size: u64) -> Vec<u8> {
        self.checkpoints[usize::try_from(size).unwrap() - 1].clone().into_bytes()
    }

    /// Verifies an export against the log's last checkpoint and an older one.
    fn verify(&self, key: &str, export: &[u8], since: &[u64]) -> Result<Verified, Failure> {
        let since: Vec<Vec<u8>> = since.iter().map(|size| self.checkpoint(*size)).collect();
        verify_export(&mut io::Cursor::new(export), key, &self.checkpoint(EVENTS), &since, &[], |_| {})
    }
}

/// Recomputes the leaf hash and commitment of a manipulated event.
fn rehashed(line: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut event: Value = serde_json::from_str(line).unwrap();
    change(&mut event);
    if let Some(salt) = event["salt"].as_str().map(|salt| STANDARD.decode(salt).unwrap()) {
        event["leaf"]["payload_commitment"] = base64(&commit(&salt, &canonical(&event["payload"]).unwrap())).into();
    }
    event["leaf_hash"] = base64(&leaf_hash(&event["leaf"]).unwrap().0).into();
    canonical(&event).unwrap()
}

fn join(lines: &[String], closing: &str) -> Vec<u8> {
    let lines = lines.iter().map(String::as_str).chain([closing]);
    lines.flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

/// Number of complete lines.
fn lines_in(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// The expected failure.
#[derive(Debug)]
enum Expected {
    Line(u64),
    Interval { from: u64, size: u64 },
    Truncated { from: u64 },
}

impl Expected {
    fn is(&self, failure: &Failure) -> bool {
        match (self, failure) {
            (Self::Line(expected), Failure::Line { number, .. }) => expected == number,
            (Self::Interval { from, size }, Failure::Interval { from: found, size: of }) => (from, size) == (found, of),
            (Self::Truncated { from }, Failure::Truncated { from: found, .. }) => from == found,
            _ => false,
        }
    }
}

/// A random event that has its payload and is not the `audit.purged` event.
fn a_whole_row(random: &mut StdRng) -> usize {
    loop {
        let at = random.random_range(ERASED..EVENTS);
        if at != PURGE {
            return usize::try_from(at).unwrap();
        }
    }
}

/// One manipulation: the export, the auditor's older checkpoint, and the expected failure.
fn tamper(log: &Log, other: &Log, random: &mut StdRng) -> (Vec<u8>, u64, Expected) {
    let count = log.lines.len();
    let at = random.random_range(0..count);
    let number = u64::try_from(at).unwrap();
    let whole = a_whole_row(random);
    let since = random.random_range(1..EVENTS);
    // A rewritten event lies after the last checkpoint that still matches.
    let interval_of = |number: u64| {
        if number < since {
            Expected::Interval { from: 0, size: since }
        } else {
            Expected::Interval { from: since, size: EVENTS }
        }
    };
    let closing = canonical(&serde_json::json!({ "checkpoint": log.checkpoints[count - 1] })).unwrap();
    let mut lines = log.lines.clone();
    match random.random_range(0..12) {
        // A byte is edited, anywhere: in a line, at its end, in the checkpoint.
        0 | 1 => {
            let mut export = log.whole();
            let place = random.random_range(0..export.len());
            let before = export[place];
            while export[place] == before {
                export[place] = random.random();
            }
            let line = lines_in(&export[..place]);
            (export, since, Expected::Line(u64::try_from(line).unwrap() + 1))
        }
        // A line is deleted.
        2 => {
            lines.remove(at);
            let expected =
                if at + 1 == count { Expected::Truncated { from: number } } else { Expected::Line(number + 1) };
            (join(&lines, &closing), since, expected)
        }
        // Two lines are swapped.
        3 => {
            let with = (at + random.random_range(1..count)) % count;
            lines.swap(at, with);
            (join(&lines, &closing), since, Expected::Line(u64::try_from(at.min(with)).unwrap() + 1))
        }
        // A line is inserted: an older one again, or a new one of its own making.
        4 => {
            lines.insert(at, lines.choose(random).unwrap().clone());
            let same = lines[at] == lines[at + 1];
            (join(&lines, &closing), since, Expected::Line(number + 1 + u64::from(same)))
        }
        // Every event after a deleted line is renumbered and hashed again.
        5 => {
            let at = at.min(count - 2);
            lines.remove(at);
            for (index, line) in lines.iter_mut().enumerate().skip(at) {
                *line = rehashed(line, |event| event["leaf"]["log_index"] = index.into());
            }
            let number = u64::try_from(at).unwrap();
            let expected = if number < since && since < EVENTS {
                Expected::Interval { from: 0, size: since }
            } else {
                Expected::Truncated { from: EVENTS - 1 }
            };
            // The export reaches the older checkpoint, or else it ends before the newer one.
            (join(&lines, &closing), since, expected)
        }
        // An event is rewritten with its hash and commitment.
        6 => {
            lines[whole] = rehashed(&lines[whole], |event| event["payload"]["data"]["field"] = "forged".into());
            (join(&lines, &closing), since, interval_of(u64::try_from(whole).unwrap()))
        }
        // The actor is rewritten, with hash and commitment.
        7 => {
            lines[at] = rehashed(&lines[at], |event| event["leaf"]["actor_id"] = "con_2".into());
            (join(&lines, &closing), since, interval_of(number))
        }
        // The export is replaced by an older one with a valid checkpoint.
        8 => {
            let size = at.max(1);
            (log.export(size), since, Expected::Truncated { from: u64::try_from(size).unwrap() })
        }
        // Events of another tenant's log are inserted at the same index.
        9 => {
            lines[at] = other.lines[at].clone();
            (join(&lines, &closing), since, Expected::Line(number + 1))
        }
        // The end is cut off, at a line or within one.
        10 => {
            let export = log.whole();
            let cut = random.random_range(1..export.len());
            let line = lines_in(&export[..cut]);
            let whole_line = export[cut - 1] == b'\n';
            let line = u64::try_from(line).unwrap();
            let expected = match (whole_line, line) {
                (true, EVENTS) => Expected::Line(EVENTS + 1),
                (true, line) => Expected::Truncated { from: line },
                (false, line) => Expected::Line(line + 1),
            };
            (export[..cut].to_vec(), since, expected)
        }
        // A payload is removed as if it had been erased.
        _ => {
            let mut event: Value = serde_json::from_str(&lines[whole]).unwrap();
            let members = event.as_object_mut().unwrap();
            members.retain(|name, _| name.starts_with("leaf"));
            let by = serde_json::json!({ "type": "system", "id": "retention" });
            let reason = "The retention period is over";
            if random.random() {
                let erased = serde_json::json!({ "erased_at": moment(), "by": by, "reason": reason });
                members.insert("erased".to_owned(), erased);
            }
            lines[whole] = canonical(&event).unwrap();
            (join(&lines, &closing), since, Expected::Line(u64::try_from(whole).unwrap() + 1))
        }
    }
}

fn vkey(key: &LogKey) -> String {
    key.verifier_key(&key.newest(), "acme")
}

fn logs() -> (LogKey, Log, Log, StdRng) {
    let mut random = StdRng::seed_from_u64(20_261_122);
    let key = LogKey::for_tests([7; 32]);
    let log = grow(&key, "acme", &mut random);
    let other = grow(&key, "globex", &mut random);
    (key, log, other, random)
}

#[test]
fn an_untouched_export_passes() {
    let (key, log, _, _) = logs();
    let verified = log.verify(&vkey(&key), &log.whole(), &[1, 7, EVENTS]).unwrap();
    assert_eq!((verified.events, verified.erased, verified.checkpoint_size), (EVENTS, ERASED, EVENTS));
    // A log that has grown since the external checkpoint passes too, with the size that is covered.
    let older = log.checkpoint(5);
    let verified = verify_export(&mut io::Cursor::new(log.whole()), &vkey(&key), &older, &[], &[], |_| {}).unwrap();
    assert_eq!((verified.events, verified.checkpoint_size), (EVENTS, 5));
}

#[test]
fn ten_thousand_tamperings_are_found_to_the_last_one() {
    let (key, log, other, mut random) = logs();
    let vkey = vkey(&key);
    for round in 0..TAMPERINGS {
        let (export, since, expected) = tamper(&log, &other, &mut random);
        match log.verify(&vkey, &export, &[since]) {
            Ok(_) => panic!("round {round}: went unnoticed: {expected:?}\n{}", String::from_utf8_lossy(&export)),
            Err(failure) => assert!(expected.is(&failure), "round {round}: {failure} instead of {expected:?}"),
        }
    }
}

#[test]
fn a_log_that_was_signed_by_somebody_else_is_not_ours() {
    let (key, log, other, mut random) = logs();
    let forged = grow(&LogKey::for_tests([8; 32]), "acme", &mut random);
    let vkey = vkey(&key);
    assert!(matches!(forged.verify(&vkey, &forged.whole(), &[]), Err(Failure::Checkpoint { number: 1, .. })));
    // The external checkpoint is valid, but the closing one is not.
    let inside = log.verify(&vkey, &forged.whole(), &[]);
    assert!(matches!(inside, Err(Failure::Interval { from: 0, size: EVENTS })), "{inside:?}");
    let spliced = other.verify(&vkey, &other.whole(), &[]);
    assert!(matches!(spliced, Err(Failure::Checkpoint { number: 1, .. })), "{spliced:?}");
    assert!(matches!(log.verify("not a key", &log.whole(), &[]), Err(Failure::Key(_))));
}

#[test]
fn nothing_may_stand_after_the_end() {
    let (key, log, _, _) = logs();
    for more in [&b"\n"[..], b"{}\n", b" "] {
        let export = [&log.whole(), more].concat();
        let outcome = log.verify(&vkey(&key), &export, &[]);
        assert!(matches!(outcome, Err(Failure::Line { number, .. }) if number == EVENTS + 2), "{outcome:?}");
    }
    assert!(matches!(log.verify(&vkey(&key), b"", &[]), Err(Failure::Truncated { from: 0, .. })));
}

#[test]
fn a_proof_of_one_row_proves_no_other() {
    let (_, log, other, _) = logs();
    let root = tlog_tiles::tree_hash(EVENTS, &log).unwrap();
    let with_proof = |line: &str, index: u64, size: u64| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let proof = tlog_tiles::prove_record(size, index, &log).unwrap();
        event["proof"] = proof.iter().map(|hash| base64(&hash.0)).collect::<Vec<_>>().into();
        event
    };
    for (index, line) in (0..EVENTS).zip(&log.lines) {
        check_proof(&with_proof(line, index, EVENTS), EVENTS, root).unwrap();
        for forged in (0..EVENTS).filter(|forged| *forged != index) {
            assert!(check_proof(&with_proof(line, forged, EVENTS), EVENTS, root).is_err());
            let renumbered = rehashed(line, |event| event["leaf"]["log_index"] = forged.into());
            assert!(check_proof(&with_proof(&renumbered, forged, EVENTS), EVENTS, root).is_err());
        }
        let foreign = &other.lines[usize::try_from(index).unwrap()];
        assert!(check_proof(&with_proof(foreign, index, EVENTS), EVENTS, root).is_err());
    }
    for (size, index) in [(0, 0), (1, 1), (u64::MAX, 0), (EVENTS, u64::MAX)] {
        let event = serde_json::json!({ "leaf": { "log_index": index }, "proof": [] });
        assert!(check_proof(&event, size, root).is_err(), "{size} {index}");
    }
}

#[test]
fn an_erasure_that_came_too_early_is_none() {
    let (key, log, _, _) = logs();
    let at = usize::try_from(PURGE).unwrap();
    for (member, value) in [("before", Value::from("2026-06-01T00:00:00Z")), ("to_index", Value::from(EVENTS))] {
        let mut lines = log.lines.clone();
        lines[at] = rehashed(&lines[at], |event| event["payload"]["data"][member] = value.clone());
        let outcome = log.verify(&vkey(&key), &join(&lines, "{}"), &[]);
        assert!(matches!(outcome, Err(Failure::Line { number, .. }) if number == PURGE + 1), "{outcome:?}");
    }
}

#[test]
fn a_file_that_was_saved_anew_is_told_from_a_forged_one() {
    let line = br#"{"a":1}"#;
    assert!(read_canonical(line).is_ok());
    let marked = [b"\xEF\xBB\xBF".as_slice(), line].concat();
    let wide: Vec<u8> = line.iter().flat_map(|byte| [*byte, 0]).collect();
    for (text, told) in [
        (marked, "another encoding"),
        (wide, "another encoding"),
        ([line.as_slice(), b"\r"].concat(), "lines of Windows"),
        (br#"{"a": 1}"#.to_vec(), "canonical"),
        (b"{".to_vec(), "is not JSON"),
    ] {
        assert!(read_canonical(&text).unwrap_err().contains(told), "{told}");
    }
}
