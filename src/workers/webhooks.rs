//! The webhook worker: each endpoint has a task of its own, so that a slow one does not delay the others.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::surviving;
use crate::app::App;
use crate::id::EndpointId;
use crate::store::Worker;
use crate::webhooks;

/// Pause when there was nothing to do.
const REST: Duration = Duration::from_millis(500);

/// Largest number of endpoints that are called at the same time.
const ENDPOINTS_AT_ONCE: usize = 64;

pub(super) async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let (mut calls, mut called): (JoinSet<EndpointId>, HashSet<EndpointId>) = (JoinSet::new(), HashSet::new());
    // The endpoint that was started last: the next round begins after it, so that each has its turn.
    let mut last: Option<EndpointId> = None;
    while !*stopped.borrow() {
        match surviving(webhooks::ready(&app.cx)).await {
            Ok(mut ready) => {
                let before = |id: &EndpointId| last.as_ref().is_some_and(|last| id.as_str() <= last.as_str());
                let turn = ready.partition_point(before);
                ready.rotate_left(turn);
                for endpoint in ready {
                    if called.len() < ENDPOINTS_AT_ONCE && called.insert(endpoint.clone()) {
                        last = Some(endpoint.clone());
                        calls.spawn(call_endpoint(Arc::clone(&app), endpoint));
                    }
                }
            }
            Err(error) => tracing::warn!(error.cause = %error, "webhook worker failed; it continues"),
        }
        tokio::select! {
            Some(done) = calls.join_next() => {
                if let Ok(endpoint) = done {
                    called.remove(&endpoint);
                }
            }
            () = app.cx.store.wanted(Worker::Webhooks) => {}
            () = tokio::time::sleep(REST) => {}
            _ = stopped.changed() => {}
        }
    }
    // Calls in progress have a time-out.
    while calls.join_next().await.is_some() {}
}

async fn call_endpoint(app: Arc<App>, endpoint: EndpointId) -> EndpointId {
    if let Err(error) = surviving(webhooks::deliver(&app.cx, &app.webhook_sender, endpoint.clone())).await {
        tracing::warn!(webhook.endpoint = %endpoint, error.cause = %error, "webhook messages not sent");
        // The cause is rarely over at once.
        tokio::time::sleep(REST).await;
    }
    endpoint
}
