//! Expiry of a link: the end of its window, recorded once for each link.
//!
//! A mark names the last link that was processed; the instance that advances it
//! records the links in between. A window lasts at least an hour, so no link is
//! issued behind the mark.

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::Event;
use crate::records;
use crate::records::links::Link;

/// Largest number of links that one step processes.
const LINKS_PER_STEP: i64 = 100;

/// Records that windows have ended; returns how many links it processed.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn record_expired(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    let (mark, links) = cx
        .store
        .read(move |conn| {
            let mark = store::expiry_mark(conn)?;
            let links = records::links::expired_after(conn, &mark, LINKS_PER_STEP, now)?;
            Ok((mark, links))
        })
        .await?;
    let passed = links.len();
    if passed == 0 {
        return Ok(0);
    }
    cx.store
        .write_large(move |tx| {
            // Another instance may have advanced the mark already.
            if let Some(last) = links.last()
                && store::move_expiry_mark(tx, &mark, (last.expires_at, &last.id))?
            {
                // A revoked link ended earlier, and that is recorded.
                for link in links.iter().filter(|link| link.revoked_at.is_none()) {
                    tx.record(expired(link, now));
                }
            }
            Ok(())
        })
        .await?;
    Ok(passed)
}

fn expired(link: &Link, now: Timestamp) -> Event {
    let event = Event::new(EventType::LinkExpired, Actor::system("clock"), now).link(link);
    event.with(&serde_json::json!({ "expires_at": link.expires_at }))
}
