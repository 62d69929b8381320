//! `magic-link maintain`: what is past its retention ends, whoever the service runs as.

use super::output::{Failure, Output};
use crate::audit::{self, CheckpointFolder, Eraser};
use crate::context::Context;
use crate::store::idempotency;
use crate::webhooks;

pub(super) async fn run(cx: &Context, folder: &CheckpointFolder, output: &Output) -> Result<(), Failure> {
    let now = cx.clock.now();
    let ended = audit::retain(Eraser { cx, folder, now }).await?;
    // No longer than nothing else is wrong, either.
    audit::require_whole(cx, folder).await?;
    webhooks::maintain(cx, now).await?;
    idempotency::forget_expired(&cx.store, now).await?;
    output.done(&ended, &ended.to_string())?;
    match ended.failed.as_slice() {
        [] => Ok(()),
        logs => {
            let (first, more) = (logs.iter().take(10).map(String::as_str).collect::<Vec<_>>().join(", "), logs.len());
            Err(format!("not everything could be erased of {more} audit logs ({first}): the causes stand above").into())
        }
    }
}
