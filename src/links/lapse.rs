//! The end of what nobody decided on in time: requests for links, and for extensions.

use super::extensions;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::Event;
use crate::mail::notices;
use crate::records::link_requests as requests;

/// Number of requests that one transaction marks.
const A_TIME: i64 = 100;

/// Records the requests on which nobody decided in time; returns how many.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn lapse(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    cx.store
        .write_large(move |tx| {
            let lapsed = requests::lapse(tx, A_TIME, now)?;
            for request in &lapsed {
                let event = Event::new(EventType::LinkLapsed, Actor::system("clock"), now).link(&request.link(now));
                tx.record(event.with(&serde_json::json!({ "lapses_at": request.lapses_at })));
                notices::request_denied(tx, request, now)?;
            }
            Ok(lapsed.len() + extensions::record_lapsed(tx, now)?)
        })
        .await
}
