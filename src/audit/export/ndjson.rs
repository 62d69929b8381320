//! The log itself: one canonical JSON object (RFC 8785) per event, then the checkpoint.

use serde::Serialize;
use serde_json::Value;

use super::{ExportQuery, without_nulls};
use crate::audit::Erased;
use crate::audit::store::{self, Erasure};
use crate::error::Error;
use crate::journal::leaf::canonical;
use crate::journal::rows::Row;
use crate::journal::tree::base64;

/// What an export that does not hold the whole log was cut to.
#[derive(Serialize)]
struct View<'a> {
    /// Those that were given.
    filters: Value,
    note: &'static str,
    /// The portal that the client is bound to, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    portal: Option<&'a str>,
}

/// The first line of an export that does not hold the whole log.
#[derive(Serialize)]
struct Opening<'a> {
    view: View<'a>,
}

pub(super) fn view(filters: &ExportQuery, portal: Option<&str>) -> Result<String, Error> {
    let note = "a view of the log: events are left out, so that it cannot be verified as a whole";
    let filters = without_nulls(serde_json::to_value(filters).map_err(Error::internal)?);
    Ok(canonical(&Opening { view: View { filters, note, portal } })? + "\n")
}

/// The last line of a complete export.
#[derive(Serialize)]
struct Closing<'a> {
    checkpoint: &'a str,
}

/// An event: leaf, leaf hash, and salt and payload unless erased.
///
/// The hash is the stored one, so a row that was changed no longer matches it.
pub(super) fn line(row: &Row, payload: Option<&(Vec<u8>, String)>, erasures: &[Erasure]) -> Result<String, Error> {
    Ok(object(row, payload, payload.is_none().then(|| store::erased(row, erasures)).flatten().as_ref())? + "\n")
}

/// The same without the line break.
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
