//! Ends what a revoked key had signed: range by range, resumable.
//!
//! The tokens of a revoked key are refused from the commit of its revocation on, and sessions that hang on the key are
//! inactive. Any instance of the service may do the rest, several at once too: every statement is guarded.

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::Actor;
use crate::error::Error;
use crate::id::LinkId;
use crate::links;
use crate::records;
use crate::records::link_ends::{Revoking, Selector};
use crate::records::signing_keys::{Carried, KeyRevocation};
use crate::sessions::{self, Ending};
use crate::store::Tx;

/// What the tenants of the links are told: the reason of the revocation is for operators.
const REASON: &str = "the signing key was revoked";

/// Links or sessions ended in one transaction: it bounds how long other transactions wait.
const RANGE: usize = 100;

/// Number of links, and of sessions, selected by one query.
const LOOK_AHEAD: i64 = 2_000;

/// Ranges that are carried out before the response.
pub(super) const AT_ONCE: usize = 10;

/// Carries open revocations of signing keys out.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn step(cx: &Context) -> Result<(), Error> {
    let open = cx.store.read(|conn| {
        // A restore would cancel the mails that tell of it.
        let waits = records::restores::has_queues_to_cancel(conn)?;
        Ok(if waits { Vec::new() } else { records::signing_keys::open_revocations(conn)? })
    });
    for revocation in open.await? {
        carry_out(cx, &revocation, usize::MAX).await?;
    }
    Ok(())
}

/// Carries a revocation out, in at most so many ranges.
pub(super) async fn carry_out(cx: &Context, revocation: &KeyRevocation, ranges: usize) -> Result<(), Error> {
    let (mut left, mut was_fruitless) = (ranges, false);
    loop {
        let (kid, now) = (revocation.kid.clone(), cx.clock.now());
        // A link that has ended since is revoked as of then, but not mailed.
        let renews = revocation.renews;
        let at = if renews { now } else { revocation.created_at };
        let (links, sessions) = cx
            .store
            .read(move |conn| {
                let links = if renews {
                    records::links::reached_by(conn, &kid, LOOK_AHEAD, at)?
                } else {
                    records::links::signed_by(conn, &kid, LOOK_AHEAD, at)?
                };
                Ok((links, records::sessions::signed_by(conn, &kid, LOOK_AHEAD, now)?))
            })
            .await?;
        if links.is_empty() && sessions.is_empty() {
            let kid = revocation.kid.clone();
            cx.store.write(move |tx| Ok(records::signing_keys::finish_revocation(tx, &kid, now)?)).await?;
            return Ok(());
        }
        let mut progressed = false;
        // Links first: they take their sessions with them.
        for range in links.chunks(RANGE) {
            let Some(rest) = left.checked_sub(1) else { return Ok(()) };
            left = rest;
            let (order, range, now) = (revocation.clone(), range.to_vec(), cx.clock.now());
            let counts = cx.store.write_large(move |tx| {
                let actor = order.actor();
                if order.renews {
                    let renewed = renew(tx, &order, (&range, false), now)?;
                    return counted(tx, &order, (0, 0), renewed);
                }
                let revoking =
                    Revoking { at: order.created_at, ..Revoking::new(REASON, &actor, order.client_id.as_ref(), now) };
                let revoked = links::revoke_where(tx, Selector::SignedBy(&order.kid, &range), &revoking)?;
                counted(tx, &order, (revoked.links, revoked.sessions), 0)
            });
            progressed |= counts.await?;
        }
        for range in sessions.chunks(RANGE) {
            let Some(rest) = left.checked_sub(1) else { return Ok(()) };
            left = rest;
            let (order, range, now) = (revocation.clone(), range.to_vec(), cx.clock.now());
            let counts = cx.store.write_large(move |tx| {
                let actor = order.actor();
                let ending = Ending { at: order.created_at, ..Ending::new(&actor, order.client_id.as_ref(), now) };
                let ended = sessions::end_all(tx, &range, &ending)?;
                let renewed = if order.renews { renew(tx, &order, (&ended, true), now)? } else { 0 };
                counted(tx, &order, (0, ended.len()), renewed)
            });
            progressed |= counts.await?;
        }
        // Another instance is at it, or the worker: by the next look it may have left nothing.
        if !progressed && was_fruitless {
            return Ok(());
        }
        was_fruitless = !progressed;
    }
}

/// Mails a fresh link for each of these that is still open, and whose session has just ended or that needs one; returns how
/// many.
fn renew(
    tx: &mut Tx<'_>,
    order: &KeyRevocation,
    (ids, had_session): (&[LinkId], bool),
    now: Timestamp,
) -> Result<usize, Error> {
    let mut renewed = 0;
    for id in ids {
        let actor = order.actor();
        renewed += usize::from(links::renew(tx, id, (&order.kid, had_session), &actor, order.client_id.as_ref(), now)?);
    }
    Ok(renewed)
}

/// Adds to the counts of a revocation; whether there was anything to add.
fn counted(
    tx: &mut Tx<'_>,
    order: &KeyRevocation,
    (links, sessions): (usize, usize),
    renewed: usize,
) -> Result<bool, Error> {
    let number = |count: usize| i64::try_from(count).unwrap_or(0);
    let more = Carried { links: number(links), sessions: number(sessions), renewed: number(renewed) };
    records::signing_keys::count_revoked(tx, &order.kid, more)?;
    Ok(more != Carried::default())
}

impl KeyRevocation {
    fn actor(&self) -> Actor {
        Actor { kind: self.actor_type, id: self.actor_id.clone(), name: self.actor_name.clone() }
    }
}
