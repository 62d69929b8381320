//! Checkpoints leave the machine: only what is kept outside protects the log.
//!
//! The newest checkpoint of each log goes to the configured address. It covers
//! all before it, so one that could not be delivered is overtaken by the next,
//! and nothing is given up: it is tried again, in the end every half hour.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use time::Duration;

use super::store::{self, CheckpointRow};
use crate::context::Context;
use crate::db::text_enum;
use crate::error::Error;
use crate::webhooks::Webhook;

/// How long a delivery may take before another copy of the service may try it.
const LEASE: Duration = Duration::seconds(30);

/// How many are delivered in one step.
const AT_A_TIME: i64 = 50;

/// When to try again, by the number of attempts before. The address is the operator's own, and what is not there is
/// not protected: it is asked at least every half hour.
const RETRIES: [Duration; 4] =
    [Duration::seconds(5), Duration::minutes(1), Duration::minutes(5), Duration::minutes(30)];

text_enum! {
    /// Where checkpoints go.
    pub enum CheckpointChannel {
        /// The configured address.
        Webhook = "webhook",
    }
}

/// Delivers what is due; tells how many were delivered.
///
/// # Errors
/// When the store cannot be asked. A receiver that does not answer is no error, but tried again.
pub(crate) async fn deliver_due(cx: &Context, webhook: &Webhook) -> Result<usize, Error> {
    let (channel, now) = (CheckpointChannel::Webhook, cx.clock.now());
    let due = cx.store.read(move |conn| Ok(store::undelivered(conn, channel, AT_A_TIME, now)?)).await?;
    let mut delivered = 0;
    for tenant_id in due {
        // Each takes its time: the next one's lease begins when it begins.
        let now = cx.clock.now();
        let id = tenant_id.clone();
        let claimed = cx
            .store
            .write(move |tx| {
                let Some(checkpoint) = store::latest_checkpoint(tx, &id)? else { return Ok(None) };
                let claimed = store::claim_delivery(tx, &id, channel, checkpoint.size, now.plus(LEASE), now)?;
                Ok(claimed.map(|attempts| (checkpoint, attempts)))
            })
            .await?;
        let Some((checkpoint, attempts)) = claimed else { continue };
        // With the root: were a log ever signed twice at one size, nobody may take the second one for a repeat.
        let root = URL_SAFE_NO_PAD.encode(&checkpoint.root);
        let id = format!("checkpoint-{tenant_id}-{}-{root}", checkpoint.size);
        let outcome = webhook.send(&id, message(cx, &checkpoint, &id), now).await;
        if let Err(error) = &outcome {
            tracing::warn!(log.tenant = tenant_id, error.cause = error, "a checkpoint was not delivered");
        }
        delivered += usize::from(outcome.is_ok());
        let now = cx.clock.now();
        let retry_at = now.plus(retry_after(attempts));
        cx.store
            .write(move |tx| {
                let done = match &outcome {
                    Ok(()) => store::delivered(tx, &tenant_id, channel, checkpoint.size, now),
                    Err(error) => store::not_delivered(tx, &tenant_id, channel, checkpoint.size, error, retry_at),
                };
                Ok(done?)
            })
            .await?;
    }
    Ok(delivered)
}

fn retry_after(attempts: i32) -> Duration {
    let before = usize::try_from(attempts - 1).unwrap_or(0).min(RETRIES.len() - 1);
    RETRIES.get(before).copied().unwrap_or(Duration::HOUR)
}

/// The message, as `CloudEvents` 1.0 has it.
fn message(cx: &Context, checkpoint: &CheckpointRow, id: &str) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": cx.config.public_url, "type": "audit.checkpoint",
        "subject": checkpoint.tenant_id, "time": checkpoint.signed_at, "datacontenttype": "application/json",
        "data": { "tenant_id": checkpoint.tenant_id, "size": checkpoint.size, "checkpoint": checkpoint.note },
    })
    .to_string()
}
