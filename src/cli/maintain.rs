//! `magic-link maintain`: what is past its retention ends, whoever the service runs as.

use super::output::{Failure, Output};
use crate::audit;
use crate::context::Context;
use crate::store::idempotency;
use crate::webhooks;

pub(super) async fn run(cx: &Context, output: &Output) -> Result<(), Failure> {
    if cx.clock.is_in_doubt() {
        return Err("the clock is in doubt, and what is erased cannot be taken back: set the machine's clock".into());
    }
    let now = cx.clock.now();
    let ended = audit::retain(cx, None, now).await?;
    webhooks::maintain(cx, now).await?;
    idempotency::forget_expired(&cx.store, now).await?;
    output.done(&ended, &ended.to_string())
}
