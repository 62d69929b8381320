//! `magic-link maintain`: what is past its retention ends, whoever the service runs as.

use super::output::{Failure, Output};
use crate::audit::{self, CheckpointFolder, Eraser};
use crate::context::Context;
use crate::store::idempotency;
use crate::webhooks;

#[derive(clap::Args)]
pub(super) struct Maintain {
    /// Erase though the clock has jumped by more than a month: it is right, and so much time has passed
    #[arg(long)]
    clock_is_right: bool,
}

pub(super) async fn run(
    cx: &Context,
    folder: &CheckpointFolder,
    order: &Maintain,
    output: &Output,
) -> Result<(), Failure> {
    let now = cx.clock.now();
    let ended = audit::retain(Eraser { cx, folder, now, clock_is_right: order.clock_is_right }).await?;
    if ended.delayed {
        return Err(format!(
            "erased {ended}. Is the clock right? If so, this goes on by itself a day after this run, or at once with \
             `--clock-is-right`"
        )
        .into());
    }
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
