//! A freeze stops the issuing of links until an operator ends it. Existing links and sessions are not affected.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, Validator, trimmed_if_present};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::journal::Event;
use crate::records::{self, restores};
use crate::store::Tx;

/// Whether links are issued.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Issuing {
    /// Whether no links are issued.
    frozen: bool,
    /// When issuing was frozen (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    frozen_at: Option<Timestamp>,
    /// Why issuing was frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<String>,
}

/// Request to stop or to allow the issuing of links.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"frozen": false}))]
pub struct SetIssuing {
    /// Whether no links are issued from now on.
    pub frozen: bool,
    /// Why issuing is frozen, or goes on; required for a freeze.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(default, deserialize_with = "trimmed_if_present")]
    pub reason: Option<String>,
}

impl Issuing {
    fn of((frozen_at, reason): (Option<Timestamp>, Option<String>)) -> Self {
        Self { frozen: frozen_at.is_some(), frozen_at, reason }
    }
}

fn require_operator(caller: &Caller<Admin>) -> Result<(), Error> {
    caller.require_operator("freezing the issuing of links")
}

/// Whether links are issued.
pub(crate) async fn issuing(cx: &Context, caller: &Caller<Admin>) -> Result<Issuing, Error> {
    require_operator(caller)?;
    Ok(Issuing::of(cx.store.read(|conn| Ok(records::freeze::state(conn)?)).await?))
}

/// Freezes issuing or ends the freeze, for every instance of the service from its next request on. What is so already
/// is not changed.
///
/// # Errors
/// `restore_required` for the end of a freeze while a restore is not complete.
pub(crate) async fn set_issuing(
    cx: &Context,
    caller: &Caller<Admin>,
    request: SetIssuing,
    now: Timestamp,
) -> Result<Issuing, Error> {
    require_operator(caller)?;
    let mut fields = Validator::default();
    let missing = request.frozen.then_some("");
    fields.optional_text("/reason", request.reason.as_deref().or(missing), 3, 500);
    fields.finish()?;
    let (actor, client_id) = (caller.actor(None), caller.client_id.clone());
    cx.store
        .write(move |tx| {
            if request.frozen {
                let event = Event::new(EventType::IssuingFrozen, actor.clone(), now).client(client_id.as_ref());
                freeze_as(tx, request.reason.as_deref().unwrap_or_default(), event, now)?;
            } else {
                // Also where issuing goes on already.
                restores::release_erasing(tx)?;
                let ended = records::freeze::end(tx)?;
                // Links of a database that is not whole would be cancelled by the restore that goes on with it. Whoever
                // waited for its first transaction sees it now.
                if restores::is_running(tx)? {
                    return Err(Code::RestoreRequired.into());
                }
                if ended {
                    let event = Event::new(EventType::IssuingUnfrozen, actor.clone(), now).client(client_id.as_ref());
                    tx.record(match &request.reason {
                        Some(reason) => event.with(&serde_json::json!({ "reason": reason })),
                        None => event,
                    });
                }
            }
            Ok(Issuing::of(records::freeze::state(tx)?))
        })
        .await
}

/// Freezes issuing in the transaction of the command line.
pub(crate) fn freeze_now(tx: &mut Tx<'_>, reason: &str, now: Timestamp) -> Result<(), Error> {
    freeze_as(tx, reason, Event::new(EventType::IssuingFrozen, Actor::system("command-line"), now), now)
}

fn freeze_as(tx: &mut Tx<'_>, reason: &str, event: Event, now: Timestamp) -> Result<(), Error> {
    if records::freeze::begin(tx, reason, now)? {
        tx.record(event.with(&serde_json::json!({ "reason": reason })));
    }
    Ok(())
}
