//! `/metrics`: what changes by itself is read, then everything is rendered (Prometheus text format).
//!
//! Nothing here takes longer as the tables grow: `workers/counts.rs` counts what they hold.

use std::time::Duration;

use crate::context::Context;
use crate::db;
use crate::error::Error;
use crate::store::within;

/// Time-out of the database: what this process knows itself is told then.
const METRICS_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Renders all metrics. If the store is unavailable, `store_up` is 0 and what it holds is left out.
///
/// # Errors
/// When the text cannot be encoded.
pub(crate) async fn show(cx: &Context) -> Result<Vec<u8>, Error> {
    let now = cx.clock.now();
    let asked = cx.store.read(|conn| Ok(db::newest_applied(conn)?));
    // Both at once, so that whoever asks waits for one of them only.
    let (asked, snapshot) =
        tokio::join!(within(METRICS_TIMEOUT, asked), within(METRICS_TIMEOUT, cx.snapshot(None, None, now)));
    let is_up = asked.is_ok();
    cx.metrics.store_up.set(is_up.into());
    if let Ok(snapshot) = snapshot {
        cx.metrics.issuing_frozen.set(i64::from(snapshot.epochs.frozen));
    }
    if let Ok(Some(schema)) = asked {
        cx.metrics.database_schema.reset();
        cx.metrics.database_schema.with_label_values(&[schema]).set(1);
    }
    let (open, idle) = cx.store.connections();
    cx.metrics.connections.with_label_values(&["open"]).set(open.into());
    cx.metrics.connections.with_label_values(&["idle"]).set(idle.into());
    cx.metrics.writer_oldest.set(cx.store.oldest_write().unwrap_or_default().as_secs_f64());
    cx.metrics.clock_behind.set(cx.tokens.clock_behind(now).whole_seconds());
    cx.metrics.key_ages.reset();
    for key in cx.tokens.keys(now) {
        let age = now.since(key.created_at).whole_seconds();
        cx.metrics.key_ages.with_label_values(&[key.kid.as_str(), key.state.as_str()]).set(age);
    }
    cx.metrics.text(is_up)
}
