//! The webhook workers: one writes the messages about events, the other one sends them. Each endpoint has a task of its
//! own, so that a slow one does not delay the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::calls::Calls;
use super::surviving;
use crate::app::App;
use crate::id::EndpointId;
use crate::store::Worker;
use crate::webhooks::{self, ReadyEndpoint};

/// Pause when there was nothing to do.
const REST: Duration = Duration::from_millis(500);

/// A call that takes longer shows that an endpoint is slow.
const PROMPT: Duration = Duration::from_secs(2);

/// Writes the messages about queued events, one tenant after the other, so that each has its turn.
pub(super) async fn fan_out(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut turn = String::new();
    while !*stopped.borrow() {
        match surviving(webhooks::fan_out(&app.cx, &mut turn)).await {
            Ok(more) => {
                app.cx.metrics.stepped("webhook messages", app.cx.clock.true_now());
                if more {
                    continue;
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "webhook messages not written; the worker continues"),
        }
        tokio::select! {
            () = app.cx.store.wanted(Worker::WebhookEvents) => {}
            () = tokio::time::sleep(REST) => {}
            _ = stopped.changed() => {}
        }
    }
}

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let (mut running, mut calls): (JoinSet<Finished>, Calls) = (JoinSet::new(), Calls::default());
    // The endpoint that was started last: the next round begins after it, so that each has its turn.
    let mut last: Option<EndpointId> = None;
    while !*stopped.borrow() {
        let ready = async {
            // As of mails: what stands in the queue of a backup was sent before.
            if app.checkpoint_folder.is_behind() { Ok(Vec::new()) } else { webhooks::ready(&app.cx).await }
        };
        match surviving(ready).await {
            Ok(mut ready) => {
                app.cx.metrics.stepped("webhook calls", app.cx.clock.true_now());
                let before = |one: &ReadyEndpoint| last.as_ref().is_some_and(|last| one.id.as_str() <= last.as_str());
                let turn = ready.partition_point(before);
                ready.rotate_left(turn);
                for endpoint in ready {
                    if let Some(is_prompt) = calls.begin(&endpoint) {
                        last = Some(endpoint.id.clone());
                        running.spawn(call_endpoint(Arc::clone(&app), endpoint.id, is_prompt));
                    }
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "webhook worker failed; it continues"),
        }
        tokio::select! {
            Some(done) = running.join_next() => {
                if let Ok(Finished { endpoint, was_prompt }) = done {
                    calls.end(&endpoint, was_prompt);
                }
            }
            () = app.cx.store.wanted(Worker::Webhooks) => {}
            () = tokio::time::sleep(REST) => {}
            _ = stopped.changed() => {}
        }
    }
    // Calls in progress have a time-out.
    while running.join_next().await.is_some() {}
}

/// An endpoint that was called, and whether it answered promptly, where there was a message for it.
struct Finished {
    endpoint: EndpointId,
    was_prompt: Option<bool>,
}

async fn call_endpoint(app: Arc<App>, endpoint: EndpointId, is_prompt: bool) -> Finished {
    let began = Instant::now();
    match surviving(webhooks::deliver(&app.cx, &app.webhook_sender, endpoint.clone(), is_prompt)).await {
        Ok(messages) => {
            let was_prompt = (messages > 0).then(|| began.elapsed() < PROMPT);
            Finished { endpoint, was_prompt }
        }
        Err(error) => {
            tracing::warn!(webhook.endpoint = %endpoint, error.cause = %error, "webhook messages not sent");
            // The cause is rarely over at once.
            tokio::time::sleep(REST).await;
            Finished { endpoint, was_prompt: None }
        }
    }
}
