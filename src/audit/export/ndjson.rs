//! The log itself: one canonical JSON object (RFC 8785) an event, and its checkpoint at the end.

use serde::Serialize;

use crate::audit::Erased;
use crate::audit::store::{self, Erasure};
use crate::error::Error;
use crate::journal::leaf::canonical;
use crate::journal::rows::Row;
use crate::journal::tree::base64;

/// The last line of a whole log.
#[derive(Serialize)]
struct Closing<'a> {
    checkpoint: &'a str,
}

/// An event: what its leaf commits to, the hash, and salt and payload while they are kept.
///
/// The hash is the stored one: if the row was changed, they do not fit together any more.
pub(super) fn line(row: &Row, payload: Option<&(Vec<u8>, String)>, erasures: &[Erasure]) -> Result<String, Error> {
    Ok(object(row, payload, payload.is_none().then(|| store::erased(row, erasures)).flatten().as_ref())? + "\n")
}

/// The same without its line break.
pub(in crate::audit) fn object(
    row: &Row,
    payload: Option<&(Vec<u8>, String)>,
    erased: Option<&Erased>,
) -> Result<String, Error> {
    let (leaf, hash) = (row.leaf().canonical()?, row.leaf_hash());
    Ok(match (payload, erased) {
        (Some((salt, payload)), _) => {
            let salt = base64(salt);
            format!(r#"{{"leaf":{leaf},"leaf_hash":"{hash}","payload":{payload},"salt":"{salt}"}}"#)
        }
        (None, Some(erased)) => {
            format!(r#"{{"erased":{},"leaf":{leaf},"leaf_hash":"{hash}"}}"#, canonical(erased)?)
        }
        (None, None) => format!(r#"{{"leaf":{leaf},"leaf_hash":"{hash}"}}"#),
    })
}

pub(super) fn closing(checkpoint: &str) -> Result<String, Error> {
    Ok(canonical(&Closing { checkpoint })? + "\n")
}
