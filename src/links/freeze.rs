//! A freeze stops the issuing of links until an operator ends it. Existing links and sessions are not affected.

use serde::Serialize;

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, Validator};
use crate::error::Error;
use crate::journal::Event;
use crate::store::Tx;

/// Whether issuing is frozen.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Issuing {
    /// Whether no links are issued.
    frozen: bool,
    /// When issuing was frozen (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen_at: Option<Timestamp>,
    /// Why issuing was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Freezes issuing, for every instance of the service from its next request on. Freezing again changes nothing.
pub(crate) async fn freeze(cx: &Context, reason: String, now: Timestamp) -> Result<Issuing, Error> {
    let mut fields = Validator::default();
    fields.text("/reason", &reason, 3, 500);
    fields.finish()?;
    cx.store
        .write(move |tx| {
            freeze_now(tx, &reason, now)?;
            let (frozen_at, reason) = store::freeze_state(tx)?;
            Ok(Issuing { frozen: frozen_at.is_some(), frozen_at, reason })
        })
        .await
}

/// Freezes issuing in the caller's transaction.
pub(crate) fn freeze_now(tx: &mut Tx<'_>, reason: &str, now: Timestamp) -> Result<(), Error> {
    if store::freeze(tx, reason, now)? {
        let event = Event::new(EventType::IssuingFrozen, Actor::system("command-line"), now);
        tx.record(event.with(&serde_json::json!({ "reason": reason })));
    }
    Ok(())
}

/// Ends the freeze.
pub(crate) async fn unfreeze(cx: &Context, now: Timestamp) -> Result<Issuing, Error> {
    cx.store
        .write(move |tx| {
            if store::unfreeze(tx)? {
                tx.record(Event::new(EventType::IssuingUnfrozen, Actor::system("command-line"), now));
            }
            Ok(Issuing { frozen: false, frozen_at: None, reason: None })
        })
        .await
}
