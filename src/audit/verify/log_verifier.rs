//! The signatures of one log, by one of its keys (C2SP `signed-note`, `tlog-checkpoint`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, StandardVerifier, Verifier, VerifierList, key_id};
use tlog_tiles::{Checkpoint, Hash};

use super::Failure;

/// Verifies the signatures of one log.
pub(in crate::audit) struct LogVerifier {
    pub(super) origin: String,
    /// The key in signed-note form.
    pub(super) key: Vec<u8>,
    keys: VerifierList,
}

impl LogVerifier {
    /// Parses a C2SP `vkey`, whose name is the origin of the log.
    pub(in crate::audit) fn new(key: &str) -> Result<Self, Failure> {
        let verifier = StandardVerifier::new(key.trim()).map_err(|error| Failure::Key(error.to_string()))?;
        let origin = verifier.name().to_owned();
        if !origin.contains("/audit/") {
            return Err(Failure::Key(format!("{origin} names no log")));
        }
        let key = key.trim().splitn(3, '+').nth(2).and_then(|key| STANDARD.decode(key).ok());
        let key = key.ok_or_else(|| Failure::Key("it has no key".to_owned()))?;
        Ok(Self { origin, key, keys: VerifierList::new(vec![Box::new(verifier)]) })
    }

    /// The verifier of the same log under a name that it has before or after a restore, with one of its keys.
    pub(super) fn named(&self, origin: &str, key: &[u8]) -> Result<Self, String> {
        if trunk(origin) != trunk(&self.origin) {
            return Err(format!("is of the log {origin}, not of {}", self.origin));
        }
        let (id, key) = (key_id(origin, key), STANDARD.encode(key));
        Self::new(&format!("{origin}+{id:08x}+{key}")).map_err(|error| error.to_string())
    }

    /// Tenant of the log.
    pub(super) fn tenant_id(&self) -> &str {
        let log_name = self.origin.rsplit_once("/audit/").map_or("", |(_, log_name)| log_name);
        log_name.split('/').next().unwrap_or(log_name)
    }

    /// The text of a note that the log's key signed.
    pub(super) fn text<'n>(&self, note: &'n Note) -> Result<&'n [u8], String> {
        note.verify(&self.keys).map_err(|error| error.to_string())?;
        Ok(note.text())
    }

    /// Size and root of a checkpoint of this log.
    pub(in crate::audit) fn checkpoint(&self, bytes: &[u8]) -> Result<(u64, Hash), String> {
        let note = unverified(bytes)?;
        self.text(&note)?;
        self.size_and_root(&note)
    }

    /// The same, of a note whose signature is still to be verified.
    pub(in crate::audit) fn size_and_root(&self, note: &Note) -> Result<(u64, Hash), String> {
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|error| error.to_string())?;
        if checkpoint.origin() != self.origin {
            return Err(format!("is of the log {}, not of {}", checkpoint.origin(), self.origin));
        }
        if !checkpoint.extension().is_empty() {
            return Err("has an extension besides size and root".to_owned());
        }
        Ok((checkpoint.size(), *checkpoint.hash()))
    }
}

/// A note whose signatures are still to be verified.
pub(in crate::audit) fn unverified(bytes: &[u8]) -> Result<Note, String> {
    super::require_untouched(bytes)?;
    if !bytes.ends_with(b"\n") {
        return Err(
            "has lost its last line break: the file was changed on the way; verify it as it was downloaded".to_owned()
        );
    }
    let note = Note::from_bytes(bytes).map_err(|error| error.to_string())?;
    if note.to_bytes() == bytes { Ok(note) } else { Err("is not a well-formed signed note".to_owned()) }
}

/// The origin of a log without what restores have added.
pub(super) fn trunk(origin: &str) -> &str {
    let suffix = origin.rsplit_once("/audit/").and_then(|(_, log_name)| log_name.split_once('/'));
    suffix.map_or(origin, |(_, suffix)| {
        origin.strip_suffix(suffix).and_then(|rest| rest.strip_suffix('/')).unwrap_or(origin)
    })
}

/// The origin in the first line of a checkpoint.
pub(in crate::audit) fn origin_of(checkpoint: &[u8]) -> Result<&str, String> {
    super::require_untouched(checkpoint)?;
    let line = checkpoint.split(|byte| *byte == b'\n').next().unwrap_or_default();
    std::str::from_utf8(line).map_err(|_error| "is not a well-formed signed note".to_owned())
}
