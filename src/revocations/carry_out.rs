//! Carrying orders out: range by range, resumable, by one copy of the service at a time.

use time::Duration;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::Actor;
use crate::error::Error;
use crate::id::{LinkId, RevocationId};
use crate::records::links::{Revoking, Selector};
use crate::records::revocations::BulkRevocation;
use crate::{db, links, records};

/// How many links share a transaction: nobody else waits for longer than these take.
const RANGE: usize = 100;

/// An order for so many is carried out before it is answered.
pub(super) const AT_ONCE: i64 = 100;

/// How many links are looked for at once.
const LOOK_AHEAD: i64 = 2_000;

/// Longer than a range may take: a lease that ends belongs to a copy that died.
const LEASE: Duration = Duration::seconds(30);

/// How long the transactions that did not see an order are looked for often.
const PATIENCE: Duration = Duration::seconds(10);

/// How often an order that was just given is tried before it is left to the worker.
const TRIES: u32 = 20;

/// How far an order has come.
enum Progress {
    Done,
    /// Transactions that did not see it are still under way.
    TooEarly,
    /// Somebody else is at it, or has finished it.
    LeaseLost,
}

/// Carries out what there is; tells how many orders were only too early, and want another read_watermark soon.
///
/// # Errors
/// When the store cannot be asked. An order whose lease runs out is taken up again.
pub(crate) async fn step(cx: &Context) -> Result<usize, Error> {
    let now = cx.clock.now();
    let open = cx.store.read(move |conn| Ok(records::revocations::open(conn, now)?)).await?;
    let mut left = 0;
    for (id, created_at) in open {
        match carry_out(cx, &id).await {
            // A transaction of somebody else's that takes that long is not over in a moment.
            Ok(Progress::TooEarly) => left += usize::from(now.since(created_at) < PATIENCE),
            Ok(_) => {}
            // The others need not wait for it.
            Err(error) => tracing::warn!(revocation.id = %id, error.cause = %error, "an order was not carried out"),
        }
    }
    Ok(left)
}

/// Carries a small order out before it is answered, and leaves a large one to the worker.
///
/// The order is in force in any case, so that a failure here is none of the caller's.
pub(super) async fn at_once(cx: &Context, order: BulkRevocation) -> BulkRevocation {
    for _ in 0..TRIES {
        match carry_out(cx, &order.id).await {
            Ok(Progress::TooEarly) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Ok(_) => break,
            Err(error) => {
                tracing::warn!(revocation.id = %order.id, error.cause = %error, "an order is left to the worker");
                break;
            }
        }
    }
    let id = order.id.clone();
    let read = cx.store.read(move |conn| Ok(records::revocations::find(conn, &id)?)).await;
    read.ok().flatten().unwrap_or(order)
}

/// The xid_watermark of an order, once it is set, and the oldest transaction that is under way.
async fn read_watermark(cx: &Context, id: &RevocationId) -> Result<(Option<i64>, i64), Error> {
    let own = id.clone();
    cx.store
        .read(move |conn| Ok((records::revocations::xid_watermark(conn, &own)?, db::oldest_transaction(conn)?)))
        .await
}

/// Whether somebody who did not see the order when they issued a link may not have committed it yet.
async fn has_older_writers(cx: &Context, id: &RevocationId) -> Result<bool, Error> {
    let mut seen = read_watermark(cx, id).await?;
    if seen.0.is_none() {
        let own = id.clone();
        // A transaction of its own, begun after the order was committed: who did not see the order has a lower number.
        cx.store
            .write_large(move |tx| {
                let number = db::transaction_number(tx)?;
                Ok(records::revocations::set_xid_watermark(tx, &own, number)?)
            })
            .await?;
        seen = read_watermark(cx, id).await?;
    }
    let (xid_watermark, oldest) = seen;
    Ok(xid_watermark.is_none_or(|xid_watermark| oldest < xid_watermark))
}

async fn carry_out(cx: &Context, id: &RevocationId) -> Result<Progress, Error> {
    // A link must not be passed over because it is not there yet.
    if has_older_writers(cx, id).await? {
        return Ok(Progress::TooEarly);
    }
    let (own, now) = (id.clone(), cx.clock.now());
    let claimed = cx.store.write(move |tx| Ok(records::revocations::claim(tx, &own, now.plus(LEASE), now)?)).await?;
    let Some(mut order) = claimed else { return Ok(Progress::LeaseLost) };
    let own = order.id.clone();
    let tenant_ids = cx.store.read(move |conn| Ok(records::revocations::tenants(conn, &own)?)).await?;
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

/// Revokes a range, as of the moment of the order; `None` if the lease was lost, and then nothing happened.
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
            let (links, sessions) = links::revoke_where(tx, Selector::BulkRevoked(&range), &revoking)?;
            let counts = (i64::try_from(links).unwrap_or(0), i64::try_from(sessions).unwrap_or(0));
            Ok(records::revocations::advance(tx, &order, done_to, counts)?)
        })
        .await
}
