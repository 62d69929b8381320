//! From which event on an endpoint hears each event type: what happened before it listened is not for it.
//!
//! Stored with the endpoint as JSON: the last position in the queue of events that is too old. A type that is missing
//! was heard from the beginning.

use std::collections::BTreeMap;

use super::takes;
use crate::domain::WebhookEvent;
use crate::error::Error;

/// The endpoint begins to listen, or listens again.
pub(super) fn from(position: i64) -> String {
    let all = WebhookEvent::ALL.iter().map(|kind| (kind.as_str(), position));
    serde_json::json!(all.collect::<BTreeMap<_, _>>()).to_string()
}

/// It hears other types: those that it did not hear before are heard from now on.
pub(super) fn changed(stored: &str, before: &str, after: &str, position: i64) -> Result<String, Error> {
    let mut since: BTreeMap<String, i64> = serde_json::from_str(stored).map_err(Error::internal)?;
    for kind in
        WebhookEvent::ALL.iter().map(|kind| kind.as_str()).filter(|kind| takes(after, kind) && !takes(before, kind))
    {
        since.insert(kind.to_owned(), position);
    }
    Ok(serde_json::json!(since).to_string())
}

/// The last position that is too old, for a type that may be one of a newer version.
pub(super) fn of(stored: &str, kind: &str) -> Result<i64, Error> {
    let since: BTreeMap<&str, i64> = serde_json::from_str(stored).map_err(Error::internal)?;
    Ok(since.get(kind).copied().unwrap_or(0))
}
