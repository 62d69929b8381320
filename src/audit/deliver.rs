//! Checkpoints leave the machine: only what is kept outside protects the log.
//!
//! The newest checkpoint of each log goes to the configured address. It covers
//! all before it, so one that could not be delivered is overtaken by the next,
//! and nothing is given up: it is tried again, in the end every ten hours.

use serde_json::json;
use time::Duration;

use super::store::{self, Undelivered};
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::text_enum;
use crate::error::Error;

/// How long a delivery may take before another copy of the service may try it.
const LEASE: Duration = Duration::seconds(30);

/// How many are delivered in one step.
const AT_A_TIME: i64 = 50;

/// When to try again, by the number of attempts before.
const RETRIES: [Duration; 7] = [
    Duration::seconds(5),
    Duration::minutes(5),
    Duration::minutes(30),
    Duration::hours(2),
    Duration::hours(5),
    Duration::hours(10),
    Duration::hours(10),
];

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
pub(crate) async fn deliver_due(app: &App, now: Timestamp) -> Result<usize, Error> {
    let Some(webhook) = &app.checkpoint_webhook else { return Ok(0) };
    let channel = CheckpointChannel::Webhook;
    let due = app.db.read(move |conn| Ok(store::undelivered(conn, channel, AT_A_TIME, now)?)).await?;
    let mut delivered = 0;
    for checkpoint in due {
        let tenant_id = checkpoint.tenant_id.clone();
        let claimed =
            app.db.write(move |tx| Ok(store::claim_delivery(tx, &tenant_id, channel, now.plus(LEASE), now)?)).await?;
        let Some(attempts) = claimed else { continue };
        let id = format!("checkpoint-{}-{}", checkpoint.tenant_id, checkpoint.size);
        let outcome = webhook.send(&id, message(app, &checkpoint, &id), app.clock.now()).await;
        if let Err(error) = &outcome {
            tracing::warn!(log.tenant = checkpoint.tenant_id, error.cause = error, "a checkpoint was not delivered");
        }
        delivered += usize::from(outcome.is_ok());
        let retry_at = now.plus(retry_after(attempts));
        app.db
            .write(move |tx| {
                let done = match &outcome {
                    Ok(()) => store::delivered(tx, &checkpoint.tenant_id, channel, checkpoint.size, now),
                    Err(error) => store::not_delivered(tx, &checkpoint.tenant_id, channel, error, retry_at),
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
fn message(app: &App, checkpoint: &Undelivered, id: &str) -> String {
    json!({
        "specversion": "1.0", "id": id, "source": app.config.public_url, "type": "audit.checkpoint",
        "subject": checkpoint.tenant_id, "time": checkpoint.signed_at, "datacontenttype": "application/json",
        "data": { "tenant_id": checkpoint.tenant_id, "size": checkpoint.size, "checkpoint": checkpoint.note },
    })
    .to_string()
}
