//! What happens without a request: loops around a step, until the service stops.
//!
//! Several copies of the service may run the same workers: every step is safe
//! beside itself.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use actix_web::web::Data;
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::app::App;
use crate::db::forget_before;
use crate::error::{Code, Error};
use crate::id::EndpointId;
use crate::{audit, db, links, mail, revocations, sessions, webhooks};

/// How long a worker rests when there was nothing to do.
const MAIL_REST: Duration = Duration::from_millis(500);
const WEBHOOK_REST: Duration = Duration::from_millis(500);
const REVOCATION_REST: Duration = Duration::from_secs(2);
/// The same where an order was only too early.
const SHORT_REST: Duration = Duration::from_millis(50);
const AUDIT_REST: Duration = Duration::from_secs(3);
const UPKEEP_REST: Duration = Duration::from_secs(15);
const CLOCK_LOOK: Duration = Duration::from_millis(500);

/// How many webhook endpoints are called at the same time.
const ENDPOINTS_AT_ONCE: usize = 64;

/// Tells the workers to stop.
pub(crate) struct Stop {
    signal: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
}

impl Stop {
    /// Lets the workers finish what they have in hand.
    pub(crate) async fn finish(self) {
        self.signal.send_replace(true);
        for worker in self.workers {
            if let Err(panic) = worker.await {
                tracing::error!(error.cause = %panic, "a worker panicked");
            }
        }
    }
}

/// Starts every worker.
pub(crate) fn start(app: &Data<App>) -> Stop {
    let (signal, stopped) = watch::channel(false);
    let workers = vec![
        tokio::spawn(mail_loop(app.clone(), stopped.clone())),
        tokio::spawn(revocation_loop(app.clone(), stopped.clone())),
        tokio::spawn(webhook_loop(app.clone(), stopped.clone())),
        tokio::spawn(audit_loop(app.clone(), stopped.clone())),
        tokio::spawn(delivery_loop(app.clone(), stopped.clone())),
        tokio::spawn(upkeep_loop(app.clone(), stopped)),
    ];
    Stop { signal, workers }
}

/// A step that panics is a step that failed: the worker goes on, or nothing would leave any more.
async fn surviving<T>(step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    AssertUnwindSafe(step).catch_unwind().await.unwrap_or_else(|_panic| Err(Code::Internal.into()))
}

async fn mail_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        match surviving(mail::step(&app)).await {
            Ok(found) if found > 0 => continue,
            Ok(_) => {}
            Err(error) => tracing::warn!(error.cause = %error, "the mail worker failed; it goes on"),
        }
        tokio::select! {
            () = app.mail_wake.notified() => {}
            () = tokio::time::sleep(MAIL_REST) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Carries orders of revocation out: a loop of its own, because one may take a while.
async fn revocation_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        let left = surviving(revocations::step(&app)).await.unwrap_or_else(|error| {
            tracing::warn!(error.cause = %error, "an order of revocation was not carried out; the worker goes on");
            0
        });
        tokio::select! {
            () = app.revocation_wake.notified() => {}
            () = tokio::time::sleep(if left > 0 { SHORT_REST } else { REVOCATION_REST }) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Each endpoint has a task of its own: one that takes its time keeps no other waiting.
async fn webhook_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    let (mut calls, mut called): (JoinSet<EndpointId>, HashSet<EndpointId>) = (JoinSet::new(), HashSet::new());
    // Who came last: the next one has its turn before those who had theirs.
    let mut last: Option<EndpointId> = None;
    while !*stopped.borrow() {
        match surviving(webhooks::ready(&app)).await {
            Ok(mut ready) => {
                let before = |id: &EndpointId| last.as_ref().is_some_and(|last| id.as_str() <= last.as_str());
                let turn = ready.partition_point(before);
                ready.rotate_left(turn);
                for endpoint in ready {
                    if called.len() < ENDPOINTS_AT_ONCE && called.insert(endpoint.clone()) {
                        last = Some(endpoint.clone());
                        calls.spawn(call_endpoint(app.clone(), endpoint));
                    }
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "the webhook worker failed; it goes on"),
        }
        tokio::select! {
            Some(done) = calls.join_next() => {
                if let Ok(endpoint) = done {
                    called.remove(&endpoint);
                }
            }
            () = app.webhook_wake.notified() => {}
            () = tokio::time::sleep(WEBHOOK_REST) => {}
            _ = stopped.changed() => {}
        }
    }
    // What is under way is bounded in time.
    while calls.join_next().await.is_some() {}
}

async fn call_endpoint(app: Data<App>, endpoint: EndpointId) -> EndpointId {
    if let Err(error) = surviving(webhooks::deliver(&app, endpoint.clone())).await {
        tracing::warn!(webhook.endpoint = %endpoint, error.cause = %error, "messages were not sent; the worker goes on");
        // Whatever it is, it is not over in an instant.
        tokio::time::sleep(WEBHOOK_REST).await;
    }
    endpoint
}

async fn audit_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if let Err(error) = surviving(audit_step(&app)).await {
            tracing::warn!(error.cause = %error, "the audit worker failed; it goes on");
        }
        tokio::select! {
            () = tokio::time::sleep(AUDIT_REST) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Sends checkpoints out: a loop of its own, because a receiver may take its time.
async fn delivery_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    while app.checkpoint_webhook.is_some() && !*stopped.borrow() {
        if let Err(error) = surviving(audit::deliver_due(&app)).await {
            tracing::warn!(error.cause = %error, "checkpoints were not sent out; the worker goes on");
        }
        tokio::select! {
            () = tokio::time::sleep(AUDIT_REST) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Signs checkpoints, erases what is too old.
///
/// # Errors
/// When the store cannot be asked.
async fn audit_step(app: &App) -> Result<(), Error> {
    audit::sign_due(app, app.clock.now()).await?;
    audit::purge_due(app, app.clock.now()).await
}

async fn upkeep_loop(app: Data<App>, mut stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if let Err(error) = surviving(upkeep_step(&app)).await {
            tracing::warn!(error.cause = %error, "upkeep failed; it goes on");
        }
        tokio::select! {
            () = rest_by_the_clock(&app, UPKEEP_REST) => {}
            _ = stopped.changed() => {}
        }
    }
}

/// Rests so long, by the timer or by the clock: on a machine that slept, or whose clock was set, they differ.
async fn rest_by_the_clock(app: &App, rest: Duration) {
    let began = app.clock.now();
    let moved = async {
        while app.clock.now().since(began).unsigned_abs() < rest {
            tokio::time::sleep(CLOCK_LOOK).await;
        }
    };
    // The one that is later does not matter any more.
    drop(tokio::time::timeout(rest, moved).await);
}

/// Reads new signing keys, puts what has ended on record, cancels dead mail, forgets what is too old.
///
/// # Errors
/// When the store cannot be asked.
pub(crate) async fn upkeep_step(app: &App) -> Result<(), Error> {
    let now = app.clock.now();
    app.tokens.refresh(&app.db, now).await?;
    while sessions::end_expired(app, now).await? > 0 {}
    while links::record_expired(app, now).await? > 0 {}
    while sessions::check_reports(app, now).await? > 0 {}
    mail::cancel_dead(app, now).await?;
    webhooks::tidy(app, now).await?;
    app.db.write_large(move |tx| Ok(forget_before(tx, now.minus(db::REMEMBERED))?)).await?;
    app.public_limiter.forget_idle();
    if let Some(limiter) = &app.client_limiter {
        limiter.forget_idle();
    }
    app.mail_limits.forget_idle(now);
    Ok(())
}
