//! Offline verification of an evidence pack: its signature, its checkpoint, and each event with its proof.

use std::io::Read;

use serde_json::Value;
use signed_note::Note;
use tlog_tiles::Hash;

use super::approvals::{ApprovalKey, Approvals};
use super::{Failure, LogVerifier, Verified, check_event, leaf_hash, member, read_canonical};
use crate::journal::leaf::canonical;
use crate::journal::tree::base64;

/// Limit of an evidence pack; the service writes none that is larger.
const MAX_PACK_BYTES: u64 = 256 * 1024 * 1024;

/// Whether the beginning of a file is that of an evidence pack, not of an export.
///
/// Also where a program has saved it anew: with blanks, in another order or in another encoding. What is wrong with it is
/// told then in the words of evidence.
#[must_use]
pub fn is_evidence(beginning: &[u8]) -> bool {
    let mut words = beginning.iter().copied().filter(u8::is_ascii_graphic);
    let start: Vec<u8> = words.by_ref().take(b"{\"signature\"".len()).collect();
    start.starts_with(b"{\"evidence\"") || start == b"{\"signature\""
}

/// Verifies an evidence pack: its signature, its checkpoint, and each event with its inclusion proof. With `approval_keys`
/// what is signed in it must be signed by one of them; what is not is counted.
///
/// # Errors
/// The first mismatch.
pub fn verify_evidence(pack: &mut impl Read, key: &str, approval_keys: &[ApprovalKey]) -> Result<Verified, Failure> {
    let mut approvals = Approvals::new(approval_keys, false);
    let bad = |why: String| Failure::Line { number: 1, why };
    let log = LogVerifier::new(key)?;
    let mut bytes = Vec::new();
    pack.by_ref().take(MAX_PACK_BYTES).read_to_end(&mut bytes)?;
    // Whatever saved it may have ended its last line.
    let text = bytes.strip_suffix(b"\r\n").or_else(|| bytes.strip_suffix(b"\n")).unwrap_or(&bytes);
    let value = read_canonical(text).map_err(|why| bad(why.to_owned()))?;
    let evidence = value.get("evidence").ok_or_else(|| bad("holds no evidence".to_owned()))?;
    let signature = member(&value, "signature").as_str().ok_or_else(|| bad("is not signed".to_owned()))?;
    let text = canonical(evidence).map_err(|error| bad(error.to_string()))?;
    let signed = crate::audit::evidence::signed_text(&log.origin, &text);
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
            approvals.follow(event).map_err(|why| bad(format!("event {name}: {why}")))?;
            count += 1;
            erased += u64::from(event.get("erased").is_some());
        }
    }
    let (tenant_id, root_hash) = (log.tenant_id().to_owned(), base64(&root.0));
    Ok(Verified {
        tenant_id,
        events: count,
        erased,
        root_hash,
        checkpoint_size: size,
        restores: Vec::new(),
        key_changes: Vec::new(),
        approvals: approvals.found().map_err(bad)?,
    })
}

/// Verifies that an event is in the tree of a checkpoint.
pub(super) fn check_proof(event: &Value, size: u64, root: Hash) -> Result<(), String> {
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
