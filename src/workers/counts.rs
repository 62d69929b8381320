//! Counts for `/metrics` what the tables hold. How long that takes grows with them, so nobody who asks waits for it.

use std::time::{Duration, Instant};

use crate::app::App;
use crate::audit;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::records;
use crate::sessions::incomplete;
use crate::{mail, webhooks};

/// Pause after counts that took no time worth mentioning, and the longest one.
const REST: Duration = Duration::from_secs(15);
const LONGEST_REST: Duration = Duration::from_mins(2);

/// Counts, and returns how long to pause: twenty times as long as it took.
///
/// # Errors
/// When the store is unavailable: what was counted before is not told any more.
pub(super) async fn step(app: &App) -> Result<Duration, Error> {
    let began = Instant::now();
    let counted = count(app).await;
    app.cx.metrics.counted(counted.is_ok());
    counted.map(|()| (began.elapsed() * 20).clamp(REST, LONGEST_REST))
}

async fn count(app: &App) -> Result<(), Error> {
    let (metrics, now) = (&app.cx.metrics, app.cx.clock.now());
    let asked = app.cx.store.read(move |conn| {
        let outboxes = (mail::unfinished(conn, now)?, webhooks::unfinished(conn)?);
        let reviews = records::link_reviews::count_open(conn, now)?;
        let sessions = (records::sessions::live(conn, now)?, incomplete(conn, now)?);
        Ok((outboxes, sessions, reviews, audit::delivered_last(conn)?))
    });
    let ((mails, messages), (live, (gaps, unclosed)), (pending, overdue), checkpoints) = asked.await?;
    metrics.emergency_reviews.with_label_values(&["pending"]).set(pending);
    metrics.emergency_reviews.with_label_values(&["overdue"]).set(overdue);
    metrics.incomplete_sessions.with_label_values(&["gaps"]).set(gaps);
    metrics.incomplete_sessions.with_label_values(&["unclosed"]).set(unclosed);
    let age = |since: Option<Timestamp>| since.map_or(0, |since| now.since(since).whole_seconds().max(0));
    metrics.outbox.set(mails.0);
    metrics.outbox_oldest.set(age(mails.1));
    metrics.webhook_outbox.set(messages.0);
    metrics.webhook_outbox_oldest.set(age(messages.1));
    metrics.live_sessions.set(live);
    for (channel, failing, delivered_at) in checkpoints {
        metrics.checkpoints_failing.with_label_values(&[channel.as_str()]).set(failing);
        if delivered_at.is_some() {
            metrics.checkpoint_age.with_label_values(&[channel.as_str()]).set(age(delivered_at));
        }
    }
    Ok(())
}
