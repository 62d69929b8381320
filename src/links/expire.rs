//! Windows that end are put on record, once for each link.
//!
//! A mark says up to which link that was done; whoever moves it on records what
//! lies between. Links are issued an hour before their window ends at the latest,
//! so none comes to lie behind the mark.

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::Event;
use crate::records;
use crate::records::links::Link;

/// How many links one step takes.
const LINKS_PER_STEP: i64 = 100;

/// Puts on record that windows have ended; tells how many it came past.
///
/// # Errors
/// When the store cannot be asked.
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
            // Another copy may have been quicker.
            if let Some(last) = links.last()
                && store::move_expiry_mark(tx, &mark, (last.expires_at, &last.id))?
            {
                // A link that was revoked has ended before.
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
