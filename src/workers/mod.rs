//! Background workers: each repeats a step until the service stops.
//!
//! Several instances of the service may run the same workers: every step is safe
//! to run concurrently with itself.

mod calls;
mod counts;
mod webhooks;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::audit::{Eraser, Outside};
use crate::context::look_at_clock;
use crate::error::{Code, Error};
use crate::store::{Worker, idempotency};
use crate::{audit, clients, db, links, mail, revocations, sessions, signing_keys};

/// Pause of a worker that had nothing to do.
const MAIL_REST: Duration = Duration::from_millis(500);
const REVOCATION_REST: Duration = Duration::from_secs(2);
/// Pause while a bulk revocation waits for older transactions.
const SHORT_REST: Duration = Duration::from_millis(50);
const AUDIT_REST: Duration = Duration::from_secs(3);
const MAINTENANCE_REST: Duration = Duration::from_secs(15);
/// How often it is seen whether the clock wants a look at the database's: the machine's own may have been set.
const CLOCK_REST: Duration = Duration::from_secs(1);
const CLOCK_LOOK: Duration = Duration::from_millis(500);

/// Time that the workers have to finish their steps when the service stops. What they leave is done after their leases.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);

/// Time that a worker still has for what it does in ranges when the service stops: a backlog may take minutes. What it
/// leaves is done by the next process, as after one that was killed.
const RANGES_TIMEOUT: Duration = Duration::from_secs(2);

/// Stops the workers.
pub(crate) struct Stop {
    app: Arc<App>,
    signal: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl Stop {
    /// Waits until every worker has finished its step, for at most `FINISH_TIMEOUT`; whether they have.
    pub(crate) async fn finish(self) -> bool {
        self.signal.send_replace(true);
        tokio::time::timeout(FINISH_TIMEOUT, self.finished()).await.is_ok()
    }

    async fn finished(self) {
        for worker in self.workers {
            if let Err(panic) = worker.await {
                tracing::error!(error.cause = %panic, "worker panicked");
            }
        }
        let cx = &self.app.cx;
        // Counts that are not recorded would be lost with the process.
        if let Err(error) = cx.store.record_refusal_counts(time::Duration::ZERO, cx.clock.now()).await {
            tracing::warn!(error.cause = %error, "counted refusals were not recorded");
        }
        if let Err(error) = clients::write_uses(cx, cx.clock.now()).await {
            tracing::warn!(error.cause = %error, "last uses of clients were not written");
        }
        if let Err(error) = clients::record_reads(cx, time::Duration::ZERO, cx.clock.now()).await {
            tracing::warn!(error.cause = %error, "what clients have read was not recorded");
        }
    }
}

/// Starts every worker.
pub(crate) fn start(app: &Arc<App>) -> Stop {
    let (signal, stopped) = watch::channel(false);
    let [of_retention, of_maintenance] = [stopped.clone(), stopped.clone()];
    let mut workers = vec![
        spawn("mail", app, &stopped, Some(Worker::Mail), MAIL_REST, |app| async move {
            if app.checkpoint_folder.is_behind() {
                return Ok(MAIL_REST);
            }
            let sent = mail::step(&app.cx, &app.mail_providers).await;
            for (provider, is_open) in app.mail_providers.circuits() {
                app.cx.metrics.mail_circuits.with_label_values(&[provider]).set(is_open.into());
            }
            let sent = sent?;
            Ok(if sent > 0 { Duration::ZERO } else { MAIL_REST })
        }),
        // A worker of its own, because a bulk revocation may take a while.
        spawn("revocations", app, &stopped, Some(Worker::Revocations), REVOCATION_REST, |app| async move {
            let left = revocations::step(&app.cx).await?;
            signing_keys::step(&app.cx).await?;
            Ok(if left > 0 { SHORT_REST } else { REVOCATION_REST })
        }),
        spawn("audit", app, &stopped, None, AUDIT_REST, |app| async move {
            // What cannot be taken back waits for what this finds, in the other workers. Other copies write outside, too.
            let keys = (&app.log_key, &**app.checkpoint_folder);
            let signed = audit::sign_due(&app.cx, keys, &app.log_alarms, app.cx.clock.now()).await;
            if let Err(error) = signed.map(drop)
                && !app.checkpoint_folder.is_told(&error)
            {
                return Err(error);
            }
            Ok(AUDIT_REST)
        }),
        // A worker of its own, because of years there may be much to erase, and checkpoints are signed meanwhile.
        spawn("retention", app, &stopped, None, AUDIT_REST, move |app| {
            let stopped = of_retention.clone();
            async move {
                // What is erased cannot be taken back, and goes by the time and by what the database knows.
                let may_erase = !app.cx.clock.is_in_doubt() && !app.checkpoint_folder.is_behind();
                if app.cx.config.audit.erase_in_service && may_erase {
                    let (cx, now) = (&app.cx, app.cx.clock.now());
                    let eraser = Eraser { cx, folder: &app.checkpoint_folder, now, clock_is_right: false };
                    until_stopped(stopped, audit::purge_due(eraser, &app.purge_schedule)).await?;
                }
                Ok(AUDIT_REST)
            }
        }),
        spawn("maintenance", app, &stopped, None, MAINTENANCE_REST, move |app| {
            let stopped = of_maintenance.clone();
            async move {
                maintenance_step(&app, stopped).await?;
                Ok(MAINTENANCE_REST)
            }
        }),
        spawn("counts", app, &stopped, None, MAINTENANCE_REST, |app| async move { counts::step(&app).await }),
        tokio::spawn(webhooks::fan_out(Arc::clone(app), stopped.clone())),
        tokio::spawn(webhooks::run(Arc::clone(app), stopped.clone())),
    ];
    if app.cx.clock.follows() {
        workers.push(spawn("clock", app, &stopped, None, CLOCK_REST, |app| async move {
            look_at_clock(&app.cx.clock, &app.cx.store, &app.cx.metrics).await?;
            Ok(CLOCK_REST)
        }));
    }
    if app.cx.clock.is_of_sandbox() {
        workers.push(spawn("sandbox", app, &stopped, None, CLOCK_LOOK, |app| async move {
            // Another copy may have moved the clock, and what is due is due here, too.
            app.cx.follow_sandbox().await?;
            Ok(CLOCK_LOOK)
        }));
    }
    if app.checkpoint_webhook.is_some() {
        // A worker of its own, because a receiver may be slow.
        workers.push(spawn("checkpoints", app, &stopped, None, AUDIT_REST, |app| async move {
            if let Some(webhook) = &app.checkpoint_webhook {
                audit::deliver_due(&app.cx, &app.checkpoint_folder, &Outside::Webhook(webhook)).await?;
            }
            Ok(AUDIT_REST)
        }));
    }
    if app.checkpoint_folder.is_configured() {
        workers.push(spawn("checkpoint files", app, &stopped, None, AUDIT_REST, |app| async move {
            audit::deliver_due(&app.cx, &app.checkpoint_folder, &Outside::Folder).await?;
            Ok(AUDIT_REST)
        }));
    } else if !(app.cx.config.is_loopback() && app.cx.config.database_url.is_sqlite()) {
        tracing::warn!("audit.checkpoint_folder is not set: a database that was restored goes unnoticed");
    }
    Stop { app: Arc::clone(app), signal, workers }
}

/// Repeats a step until the service stops; pauses for the time that the step returns, or until a wake-up.
fn spawn<S, F>(
    name: &'static str,
    app: &Arc<App>,
    stopped: &watch::Receiver<bool>,
    wake: Option<Worker>,
    rest_after_failure: Duration,
    step: S,
) -> JoinHandle<()>
where
    S: Fn(Arc<App>) -> F + Send + 'static,
    F: Future<Output = Result<Duration, Error>> + Send + 'static,
{
    let (app, mut stopped) = (Arc::clone(app), stopped.clone());
    tokio::spawn(async move {
        while !*stopped.borrow() {
            let done = surviving(step(Arc::clone(&app))).await;
            if done.is_ok() {
                app.cx.metrics.stepped(name, app.cx.clock.true_now());
            }
            let rest = done.unwrap_or_else(|error| {
                tracing::warn!(worker.name = name, error.cause = %error, "worker step failed; the worker continues");
                rest_after_failure
            });
            let wanted = async {
                match wake {
                    Some(worker) => app.cx.store.wanted(worker).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = rest_by_the_clock(&app, rest) => {}
                () = wanted => {}
                _ = stopped.changed() => {}
            }
        }
    })
}

/// Does what consists of transactions in ranges, and leaves it `RANGES_TIMEOUT` after the service was told to stop: `None`.
async fn until_stopped<T>(
    mut stopped: watch::Receiver<bool>,
    ranges: impl Future<Output = Result<T, Error>>,
) -> Result<Option<T>, Error> {
    let told = async {
        if stopped.wait_for(|stopped| *stopped).await.is_ok() {
            tokio::time::sleep(RANGES_TIMEOUT).await;
        }
    };
    tokio::select! {
        done = ranges => done.map(Some),
        () = told => Ok(None),
    }
}

/// Turns a panic of a step into an error, so that the worker continues.
async fn surviving<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(step).catch_unwind().await.unwrap_or_else(|_panic| Err(Code::Internal.into()))
}

/// Pauses by the timer or by the clock, whichever is first: they differ on a machine that slept or whose clock was set.
async fn rest_by_the_clock(app: &App, rest: Duration) {
    let clock = &app.cx.clock;
    let began = clock.now();
    let moved = async {
        while clock.now().since(began).unsigned_abs() < rest {
            tokio::time::sleep(CLOCK_LOOK).await;
        }
    };
    // The later one does not matter.
    drop(tokio::time::timeout(rest, moved).await);
}

/// Reads new signing keys, records ended sessions and links, cancels stale mails, deletes expired data, and
/// keeps the log of SQLite small.
///
/// # Errors
/// When the store is unavailable.
async fn maintenance_step(app: &App, stopped: watch::Receiver<bool>) -> Result<(), Error> {
    let (cx, now) = (&app.cx, app.cx.clock.now());
    // First: no other step that fails may keep counts from being recorded.
    cx.store.record_refusal_counts(time::Duration::MINUTE, now).await?;
    cx.tokens.refresh(&cx.store, now).await?;
    // What follows cannot be taken back, and goes by the time and by what the database knows.
    if cx.clock.is_in_doubt() || app.checkpoint_folder.is_behind() {
        return Ok(());
    }
    let ranges = async {
        while sessions::end_expired(cx, now).await? > 0 {}
        while links::record_expired(cx, now).await? > 0 {}
        while links::lapse(cx, now).await? > 0 {}
        while links::announce_ends(cx, now).await? > 0 {}
        while sessions::check_reports(cx, now).await? > 0 {}
        mail::cancel_stale(cx, now).await?;
        mail::make_due(cx).await?;
        crate::webhooks::make_due(cx).await?;
        if audit::see_time(cx, now, false).await? {
            crate::webhooks::maintain(cx, now).await?;
            idempotency::forget_expired(&cx.store, now).await?;
        }
        cx.store.read(|conn| Ok(db::shrink_log(conn)?)).await
    };
    if until_stopped(stopped, ranges).await?.is_none() {
        // What is counted in memory is written when all workers have ended.
        return Ok(());
    }
    clients::write_uses(cx, now).await?;
    clients::record_reads(cx, time::Duration::HOUR, now).await?;
    app.limits.forget_idle();
    app.mail_limits.forget_idle(now);
    Ok(())
}
