//! Announcing that an access ends soon, to the admin and the consultant: once for each end that a link is given.
//!
//! A mark for each kind names the last link that was looked at; the instance that advances it queues the notices of the
//! links in between. Whether a notice still holds is seen when it is sent.

use time::Duration;

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::error::Error;
use crate::id::LinkId;
use crate::mail::notices;
use crate::records::links::Link;
use crate::records::{self, link_changes};
use crate::store::Worker;

/// Largest number of links that one step looks at.
const LINKS_PER_STEP: i64 = 100;

/// A window that is longer is announced to end a day before, and any other a quarter of an hour before.
const LONG: Duration = Duration::days(2);

/// How long before its end an access is announced to end, with the number of its mark.
#[derive(Clone, Copy)]
struct Lead {
    mark: i32,
    before: Duration,
    /// Whether it is that of long windows.
    is_long: bool,
}

const LEADS: [Lead; 2] = [
    Lead { mark: 1, before: Duration::minutes(15), is_long: false },
    Lead { mark: 2, before: Duration::DAY, is_long: true },
];

fn is_long(link: &Link) -> bool {
    link.starts_at.plus(LONG) < link.expires_at
}

/// Announces that accesses end soon; returns how many links it looked at.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn announce_ends(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    let mut looked_at = 0;
    for lead in LEADS {
        looked_at += announce(cx, lead, now).await?;
    }
    Ok(looked_at)
}

async fn announce(cx: &Context, lead: Lead, now: Timestamp) -> Result<usize, Error> {
    let until = now.plus(lead.before);
    let (mark, links) = cx
        .store
        .read(move |conn| {
            let mark = store::announced_end(conn, lead.mark)?;
            // What is over by now has had its end.
            let from = mark.clone().max((now, String::new()));
            Ok((mark, records::links::expired_after(conn, &from, LINKS_PER_STEP, until)?))
        })
        .await?;
    let looked_at = links.len();
    if looked_at == 0 {
        return Ok(0);
    }
    cx.store
        .write_large(move |tx| {
            let Some(last) = links.last() else { return Ok(()) };
            if !store::move_announced_end(tx, lead.mark, &mark, (last.expires_at, &last.id))? {
                return Ok(());
            }
            let ids: Vec<LinkId> = links.iter().map(|link| link.id.clone()).collect();
            let mut links = records::links::find_all(tx, &ids)?;
            // A long window whose end was moved when the day before it had begun is announced like a short one.
            // It may have been moved since it was found: then it is not the long lead's any more.
            let late = link_changes::moved_late(tx, &links, Duration::DAY)?;
            links.retain(|link| {
                let is_told_early = is_long(link) && !late.contains(&link.id);
                lead.is_long == is_told_early && link.ended(now).is_none() && link.expires_at <= until
            });
            for link in &links {
                notices::ends_soon(tx, link, now)?;
                tx.wake(Worker::Mail);
            }
            Ok(())
        })
        .await?;
    Ok(looked_at)
}
