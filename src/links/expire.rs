//! Expiry of a link: the end of its window, recorded once for each link.
//!
//! A mark names the last link that was processed; the instance that advances it
//! records the links in between. A window lasts at least an hour, so no link is
//! issued behind the mark; and no link is given an end behind it.

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::id::LinkId;
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
                records::open_grants::remove_ended(tx, last.expires_at)?;
                // Read again: from here on no link is extended that ends before the mark, but one may have been.
                let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
                // A revoked link ended earlier, and that is recorded.
                let over = |link: &&Link| link.revoked_at.is_none() && link.expires_at <= last.expires_at;
                for link in records::links::find_all(tx, &ids)?.iter().filter(over) {
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
