//! Delivery of checkpoints to an external receiver: only a copy kept outside protects the log.
//!
//! The newest checkpoint of each log is sent to the configured URL. It covers all
//! earlier ones, so an undelivered checkpoint is superseded by the next. Delivery
//! is never given up: the last retry interval is half an hour. Nothing is delivered
//! while the database is behind a checkpoint outside: what is there is the evidence.
//! Nor does a checkpoint go out that a restored backup had not delivered: a newer one
//! of its name may be outside.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use time::Duration;

use super::folder::{CheckpointFolder, require_whole};
use super::store::{self, CheckpointRow};
use crate::clock::{Stretch, Timestamp};
use crate::context::Context;
use crate::db::text_enum;
use crate::error::Error;
use crate::journal::rows;
use crate::webhooks::Webhook;

/// Lease of a delivery: after it another instance may retry.
const LEASE: Duration = Duration::seconds(30);

/// Deliveries per step.
const AT_A_TIME: i64 = 50;

/// Deliveries after which it is asked again whether the database is whole.
const ASKED_AFTER: usize = 10;

/// Retry intervals by the number of previous attempts; the last one repeats.
const RETRIES: [Duration; 4] =
    [Duration::seconds(5), Duration::minutes(1), Duration::minutes(5), Duration::minutes(30)];

text_enum! {
    /// Channel that checkpoints are delivered through.
    pub enum CheckpointChannel {
        /// The configured folder.
        Folder = "folder",
        /// The configured webhook URL.
        Webhook = "webhook",
    }
}

/// Where checkpoints are delivered to.
pub(crate) enum Outside<'a> {
    /// The operator's webhook.
    Webhook(&'a Webhook),
    /// The operator's folder.
    Folder,
}

/// Delivers the checkpoints that are due; returns how many were delivered.
///
/// # Errors
/// When the store is unavailable. A failed delivery is no error; it is retried.
pub(crate) async fn deliver_due(
    cx: &Context,
    folder: &CheckpointFolder,
    outside: &Outside<'_>,
) -> Result<usize, Error> {
    let channel = match outside {
        Outside::Webhook(_) => CheckpointChannel::Webhook,
        Outside::Folder => CheckpointChannel::Folder,
    };
    let now = cx.clock.now();
    let due = cx.store.read(move |conn| Ok(store::undelivered(conn, channel, AT_A_TIME, put_off(now))?)).await?;
    let mut delivered = 0;
    for (place, tenant_id) in due.into_iter().enumerate() {
        if place.is_multiple_of(ASKED_AFTER)
            && let Err(refusal) = require_whole(cx, folder).await
        {
            return if folder.is_told(&refusal) { Ok(delivered) } else { Err(refusal) };
        }
        // Read again: each delivery takes time, and its lease begins with it.
        let now = cx.clock.now();
        let (id, lease_until) = (tenant_id.clone(), now.plus(LEASE));
        let claimed = cx
            .store
            .write(move |tx| {
                let Some(checkpoint) = store::latest_checkpoint(tx, &id)? else { return Ok(None) };
                // One from before a restore may be older than what is outside.
                if !checkpoint.is_of(&rows::named_head(tx, &id)?.name) {
                    return Ok(None);
                }
                let claimed = store::claim_delivery(tx, &id, channel, checkpoint.size, lease_until, put_off(now))?;
                Ok(claimed.map(|attempts| (checkpoint, attempts)))
            })
            .await?;
        let Some((checkpoint, attempts)) = claimed else { continue };
        // The root is part of the id: after a fork, a second checkpoint of the same size must not pass for a repeat.
        let root = URL_SAFE_NO_PAD.encode(&checkpoint.root);
        let id = format!("checkpoint-{tenant_id}-{}-{root}", checkpoint.size);
        let outcome = match outside {
            Outside::Webhook(webhook) => webhook.send(&id, message(cx, &checkpoint, &id), cx.clock.true_now()).await,
            Outside::Folder => folder.keep(cx, &checkpoint).await,
        };
        if let Err(error) = &outcome {
            tracing::warn!(log.tenant = tenant_id, error.cause = error, "checkpoint delivery failed");
        }
        delivered += usize::from(outcome.is_ok());
        let now = cx.clock.now();
        let retry_at = now.plus(retry_after(attempts));
        cx.store
            .write(move |tx| {
                let done = match &outcome {
                    Ok(()) => store::delivered(tx, &tenant_id, channel, lease_until, checkpoint.size, now),
                    Err(error) => store::not_delivered(tx, &tenant_id, channel, lease_until, error, retry_at),
                };
                Ok(done?)
            })
            .await?;
    }
    Ok(delivered)
}

/// The times of the next attempt of what waits. None lies further ahead, unless by a clock that was.
fn put_off(now: Timestamp) -> Stretch {
    let [.., longest] = RETRIES;
    now.next(longest)
}

fn retry_after(attempts: i32) -> Duration {
    let before = usize::try_from(attempts - 1).unwrap_or(0).min(RETRIES.len() - 1);
    RETRIES.get(before).copied().unwrap_or(Duration::HOUR)
}

/// The message (`CloudEvents` 1.0, JSON).
fn message(cx: &Context, checkpoint: &CheckpointRow, id: &str) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": cx.tokens.issuer(), "type": "audit.checkpoint",
        "subject": checkpoint.tenant_id, "time": checkpoint.signed_at, "datacontenttype": "application/json",
        "data": { "tenant_id": checkpoint.tenant_id, "size": checkpoint.size, "checkpoint": checkpoint.note },
    })
    .to_string()
}
