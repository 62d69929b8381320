//! `/metrics`: the gauges are refreshed from the store, then rendered (Prometheus text format).

use std::time::Duration;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::error::Error;
use crate::sessions::incomplete;
use crate::store::within;
use crate::{mail, records, webhooks};

/// Time-out of the database: what this process knows itself is told then.
const METRICS_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Renders all metrics. If the store is unavailable, `store_up` is 0 and what it holds is left out.
///
/// # Errors
/// When the text cannot be encoded.
pub(crate) async fn show(cx: &Context) -> Result<Vec<u8>, Error> {
    let now = cx.clock.now();
    let asked = cx.store.read(move |conn| {
        let outboxes = (mail::unfinished(conn, now)?, webhooks::unfinished(conn)?);
        let reviews = records::link_reviews::count_open(conn, now)?;
        Ok((outboxes, records::sessions::live(conn, now)?, incomplete(conn, now)?, reviews))
    });
    // Both at once, so that whoever asks waits for one of them only.
    let (asked, snapshot) =
        tokio::join!(within(METRICS_TIMEOUT, asked), within(METRICS_TIMEOUT, cx.snapshot(None, None, now)));
    let is_up = asked.is_ok();
    cx.metrics.store_up.set(is_up.into());
    if let Ok(snapshot) = snapshot {
        cx.metrics.issuing_frozen.set(i64::from(snapshot.epochs.frozen));
    }
    if let Ok(((mails, messages), live, (gaps, unclosed), (pending, overdue))) = asked {
        cx.metrics.emergency_reviews.with_label_values(&["pending"]).set(pending);
        cx.metrics.emergency_reviews.with_label_values(&["overdue"]).set(overdue);
        cx.metrics.incomplete_sessions.with_label_values(&["gaps"]).set(gaps);
        cx.metrics.incomplete_sessions.with_label_values(&["unclosed"]).set(unclosed);
        let age = |oldest: Option<Timestamp>| oldest.map_or(0, |oldest| now.since(oldest).whole_seconds().max(0));
        cx.metrics.outbox.set(mails.0);
        cx.metrics.outbox_oldest.set(age(mails.1));
        cx.metrics.webhook_outbox.set(messages.0);
        cx.metrics.webhook_outbox_oldest.set(age(messages.1));
        cx.metrics.live_sessions.set(live);
    }
    let pool = cx.store.pool_state();
    cx.metrics.connections.with_label_values(&["open"]).set(pool.connections.into());
    cx.metrics.connections.with_label_values(&["idle"]).set(pool.idle_connections.into());
    cx.metrics.clock_behind.set(cx.tokens.clock_behind(now).whole_seconds());
    cx.metrics.key_ages.reset();
    for key in cx.tokens.keys(now) {
        let age = now.since(key.created_at).whole_seconds();
        cx.metrics.key_ages.with_label_values(&[key.kid.as_str(), key.state.as_str()]).set(age);
    }
    cx.metrics.text(is_up)
}
