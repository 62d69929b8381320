//! Carries bulk revocations out: range by range, resumable, by one instance of the service at a time.

use time::Duration;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::{self, Older};
use crate::domain::Actor;
use crate::error::Error;
use crate::id::{LinkId, RevocationId};
use crate::records::link_ends::{Revoking, Selector};
use crate::records::revocations::BulkRevocation;
use crate::{links, records};

/// Links revoked in one transaction: it bounds how long other transactions wait.
const RANGE: usize = 100;

/// Largest number of links for which a bulk revocation is carried out before the response.
pub(super) const AT_ONCE: i64 = 100;

/// Number of links selected by one query.
const LOOK_AHEAD: i64 = 2_000;

/// Longer than a range takes: an expired lease belongs to an instance that died.
const LEASE: Duration = Duration::seconds(30);

/// Age up to which a bulk revocation that waits for older transactions is retried soon.
const PATIENCE: Duration = Duration::seconds(10);

/// Attempts to carry out a new bulk revocation before it is left to the worker.
const TRIES: u32 = 20;

/// Outcome of an attempt to carry out a bulk revocation.
enum Progress {
    Done,
    /// Transactions that started before it, and may not see it, are still open; or a restore has yet to cancel the mails of
    /// the backup, and would cancel those that tell of it.
    TooEarly,
    /// Another instance carries it out, or has finished it.
    LeaseLost,
}

/// Carries out the open bulk revocations; returns how many wait for older transactions and should be retried soon.
///
/// # Errors
/// When the store is unavailable. A bulk revocation whose lease expires is taken up again.
pub(crate) async fn step(cx: &Context) -> Result<usize, Error> {
    attempt(cx).await.map(|(left, _)| left)
}

/// The same, and the first failure of one of them that does not pass by itself.
pub(super) async fn attempt(cx: &Context) -> Result<(usize, Option<Error>), Error> {
    let now = cx.clock.now();
    let open = cx.store.read(move |conn| Ok(records::revocations::open(conn, now)?)).await?;
    let (mut left, mut lasting) = (0, None);
    for (id, created_at) in open {
        match carry_out(cx, &id).await {
            // An older transaction that has been open for that long is unlikely to end soon.
            Ok(Progress::TooEarly) => left += usize::from(now.since(created_at) < PATIENCE),
            Ok(_) => {}
            // A failure of one must not hold up the others.
            Err(error) => {
                tracing::warn!(revocation.id = %id, error.cause = %error, "bulk revocation not finished");
                lasting = lasting.or_else(|| error.lasts().then_some(error));
            }
        }
    }
    Ok((left, lasting))
}

/// Carries a small bulk revocation out before the response.
///
/// It is in force already, so a failure is not reported to the caller: the worker retries.
pub(super) async fn at_once(cx: &Context, order: BulkRevocation) -> BulkRevocation {
    for _ in 0..TRIES {
        match carry_out(cx, &order.id).await {
            Ok(Progress::TooEarly) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(revocation.id = %order.id, error.cause = %error, "bulk revocation left to the worker");
                break;
            }
        }
    }
    let id = order.id.clone();
    let read = cx.store.read(move |conn| Ok(records::revocations::find(conn, &id)?)).await;
    read.ok().flatten().unwrap_or(order)
}

/// The transaction watermark of a bulk revocation, and what has become of the transactions below it.
async fn read_watermark(cx: &Context, id: &RevocationId) -> Result<Option<(i64, Older)>, Error> {
    let own = id.clone();
    cx.store
        .read(move |conn| {
            let Some(watermark) = records::revocations::xid_watermark(conn, &own)? else { return Ok(None) };
            Ok(Some((watermark, db::older_than(conn, watermark)?)))
        })
        .await
}

/// Whether a transaction that issues a link without seeing the bulk revocation may still be open.
async fn has_older_writers(cx: &Context, id: &RevocationId) -> Result<bool, Error> {
    let mut seen = read_watermark(cx, id).await?;
    if let None | Some((_, Older::Unknown)) = seen {
        let (own, unknown) = (id.clone(), seen.map(|(watermark, _)| watermark));
        // A transaction begun after the commit of the bulk revocation: those that do not see it have lower numbers.
        cx.store
            .write_large(move |tx| {
                let number = db::transaction_number(tx)?;
                if let Some(unknown) = unknown {
                    records::revocations::forget_xid_watermark(tx, &own, unknown)?;
                }
                Ok(records::revocations::set_xid_watermark(tx, &own, number)?)
            })
            .await?;
        seen = read_watermark(cx, id).await?;
    }
    Ok(!matches!(seen, Some((_, Older::Ended))))
}

async fn carry_out(cx: &Context, id: &RevocationId) -> Result<Progress, Error> {
    let waits = cx.store.read(|conn| Ok(records::restores::has_queues_to_cancel(conn)?)).await?;
    // A link that is issued but not yet committed must not be skipped.
    if waits || has_older_writers(cx, id).await? {
        return Ok(Progress::TooEarly);
    }
    let (own, now) = (id.clone(), cx.clock.now());
    let claimed = cx.store.write(move |tx| Ok(records::revocations::claim(tx, &own, now.plus(LEASE), now)?)).await?;
    let Some(mut order) = claimed else { return Ok(Progress::LeaseLost) };
    let own = order.id.clone();
    let tenant_ids = cx.store.read(move |conn| Ok(records::revocations::tenants(conn, &own)?)).await?;
    loop {
        let Some((advanced, more)) = withdraw_requests(cx, order, cx.clock.now()).await? else {
            return Ok(Progress::LeaseLost);
        };
        order = advanced;
        if !more {
            break;
        }
    }
    loop {
        let (from, bound) = (order.clone(), tenant_ids.clone());
        let ids =
            cx.store.read(move |conn| Ok(records::revocations::next_links(conn, &from, &bound, LOOK_AHEAD)?)).await?;
        if ids.is_empty() {
            let now = cx.clock.now();
            let finished = cx.store.write(move |tx| Ok(records::revocations::finish(tx, &order, now)?)).await?;
            return Ok(if finished { Progress::Done } else { Progress::LeaseLost });
        }
        for range in ids.chunks(RANGE) {
            match revoke_range(cx, order, range, cx.clock.now()).await? {
                Some(advanced) => order = advanced,
                None => return Ok(Progress::LeaseLost),
            }
        }
    }
}

/// Withdraws requests for links, and says whether there are more; `None` if the lease was lost and nothing was changed.
async fn withdraw_requests(
    cx: &Context,
    order: BulkRevocation,
    now: Timestamp,
) -> Result<Option<(BulkRevocation, bool)>, Error> {
    cx.store
        .write_large(move |tx| {
            let Some(order) = records::revocations::extend_lease(tx, &order, now.plus(LEASE))? else { return Ok(None) };
            let (matched, withdrawn) = links::withdraw_matched(tx, &order, now)?;
            records::revocations::count_requests(tx, &order, i64::try_from(withdrawn).unwrap_or(0))?;
            Ok(Some((order, matched > 0)))
        })
        .await
}

/// Revokes a range, as of the time of the bulk revocation; `None` if the lease was lost and nothing was changed.
async fn revoke_range(
    cx: &Context,
    order: BulkRevocation,
    range: &[LinkId],
    now: Timestamp,
) -> Result<Option<BulkRevocation>, Error> {
    let range = range.to_vec();
    cx.store
        .write_large(move |tx| {
            let Some(done_to) = range.last() else { return Ok(None) };
            let Some(order) = records::revocations::extend_lease(tx, &order, now.plus(LEASE))? else { return Ok(None) };
            let actor = Actor { kind: order.actor_type, id: order.actor_id.clone(), name: order.actor_name.clone() };
            let revoking = Revoking {
                revocation_id: Some(&order.id),
                at: order.created_at,
                ..Revoking::new(&order.reason, &actor, order.client_id.as_ref(), now)
            };
            let revoked = links::revoke_where(tx, Selector::BulkRevoked(&range, order.seq), &revoking)?;
            let number = |of: usize| i64::try_from(of).unwrap_or(0);
            let counts = (number(revoked.links), number(revoked.sessions));
            if revoked.requests > 0 {
                records::revocations::count_requests(tx, &order, number(revoked.requests))?;
            }
            Ok(records::revocations::advance(tx, &order, done_to, counts)?)
        })
        .await
}
