//! Erasing what need not be kept any longer: payloads, by range, and nothing else.
//!
//! Leaves and proofs stay for ever. What is erased, by whom and why is itself an
//! event, and stands on record before the first payload goes: the database
//! refuses any other way.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::log;
use super::store::{self, Erasure};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Person, Validator, check_person};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::journal::Event;
use crate::journal::rows::{self, lock_log};
use crate::records;
use crate::store::Tx;

/// Events that one transaction goes over.
const EVENTS_AT_A_TIME: i64 = 5_000;

/// How often the service looks for payloads whose time is over.
const EVERY: Duration = Duration::hours(1);

/// What is to be erased.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"before": "2025-10-01T00:00:00Z", "reason": "The retention period of the contract is over"}))]
pub struct PurgeLog {
    /// Payloads of events that were recorded before this moment.
    pub before: Timestamp,
    /// Why.
    #[schema(min_length = 10, max_length = 500)]
    pub reason: String,
    /// Who at the portal asks for it; recorded as the client asserts it.
    pub requested_by: Option<Person>,
}

/// What was erased.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PurgedLog {
    /// How many payloads are gone.
    #[schema(minimum = 0)]
    pub erased: i64,
    /// Every payload before this index is gone, but those of erasures.
    #[schema(minimum = 0)]
    pub erased_to_index: i64,
}

/// Who erases, and why.
#[derive(Clone)]
struct Purge {
    tenant_id: String,
    before: Timestamp,
    reason: String,
    actor: Actor,
    client_id: Option<crate::id::ClientId>,
}

/// Erases payloads before their time comes by itself, but never before it has come.
///
/// # Errors
/// `retention_not_over` and `legal_hold`, which are recorded.
pub(crate) async fn purge(
    cx: &Context,
    caller: &Caller<Admin>,
    tenant_id: String,
    request: PurgeLog,
    now: Timestamp,
) -> Result<PurgedLog, Error> {
    log::check_whole(caller, &tenant_id)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 10, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let order = Purge {
        actor: caller.actor(request.requested_by.as_ref()),
        client_id: caller.client_id.clone(),
        before: request.before,
        reason: request.reason,
        tenant_id: tenant_id.clone(),
    };
    let mut erased = 0;
    while let Some(count) = erase_some(cx, order.clone(), now).await? {
        erased += count;
    }
    let erased_to_index = cx.store.read(move |conn| Ok(store::erased_to(conn, &tenant_id)?)).await?;
    Ok(PurgedLog { erased, erased_to_index })
}

/// Erases the payloads of every log whose time is over; looks once an hour.
pub(crate) async fn purge_due(cx: &Context, schedule: &PurgeSchedule, now: Timestamp) -> Result<(), Error> {
    if !schedule.is_due(now) {
        return Ok(());
    }
    let logs = cx.store.read(|conn| Ok(store::logs(conn)?)).await?;
    for tenant_id in logs {
        let (id, default) = (tenant_id.clone(), cx.config.audit.retention);
        let ended = cx.store.read(move |conn| retention_end(conn, &id, default, now)).await?;
        let Some(before) = ended else { continue };
        let order = Purge {
            tenant_id,
            before,
            reason: "The retention period is over".to_owned(),
            actor: Actor::system("retention"),
            client_id: None,
        };
        loop {
            match erase_some(cx, order.clone(), now).await {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) if error.code() == Code::Unavailable => return Err(error),
                // One log that cannot be read must not keep the others.
                Err(error) => {
                    tracing::error!(log.tenant = order.tenant_id, error.cause = %error, "a log was not looked through");
                    break;
                }
            }
        }
    }
    schedule.done(now);
    Ok(())
}

/// What was recorded before this moment need not be kept any longer; `None` while there is a legal hold.
fn retention_end(
    conn: &mut Conn,
    tenant_id: &str,
    default: Duration,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    if store::is_held(conn, tenant_id, now)? {
        return Ok(None);
    }
    let own = records::tenants::retention_days(conn, tenant_id)?.map(|days| Duration::days(days.into()));
    Ok(Some(now.minus(own.unwrap_or(default))))
}

/// Erases one range; `None` when there is nothing left to erase.
async fn erase_some(cx: &Context, order: Purge, now: Timestamp) -> Result<Option<i64>, Error> {
    let default = cx.config.audit.retention;
    cx.store
        .write_large(move |tx| {
            // Whoever places a hold takes the same lock: it stands before the erasure, or after it.
            lock_log(tx, &order.tenant_id)?;
            let end = retention_end(tx, &order.tenant_id, default, now)?;
            let refusal = match end {
                None => Some(Code::LegalHold),
                Some(end) if order.before > end => Some(Code::RetentionNotOver),
                Some(_) => None,
            };
            if let Some(code) = refusal {
                let refused = event(EventType::PurgeRefused, &order, now);
                let refused = refused.with(&serde_json::json!({ "before": order.before, "code": code.slug() }));
                return Err(tx.refuse(code, refused));
            }
            erase(tx, &order, now)
        })
        .await
}

fn erase(tx: &mut Tx<'_>, order: &Purge, now: Timestamp) -> Result<Option<i64>, Error> {
    let from_index = store::erased_to(tx, &order.tenant_id)?;
    let size = i64::try_from(rows::head(tx, &order.tenant_id)?.size()).map_err(Error::internal)?;
    let to_index = size.min(from_index + EVENTS_AT_A_TIME);
    let kept = store::first_since(tx, &order.tenant_id, from_index..to_index, order.before)?;
    let to_index = kept.unwrap_or(to_index);
    // Erasures that are old themselves are no reason for another one, or there would be no end to them.
    if !store::holds_more_than_erasures(tx, &order.tenant_id, from_index..to_index)? {
        return Ok(None);
    }
    let erasure = Erasure {
        tenant_id: order.tenant_id.clone(),
        from_index,
        to_index,
        erased_at: now,
        actor_type: order.actor.kind,
        actor_id: order.actor.id.clone(),
        actor_name: order.actor.name.clone(),
        reason: order.reason.clone(),
    };
    store::insert_erasure(tx, &erasure)?;
    let erased = store::erase(tx, &erasure)?;
    tx.record(event(EventType::AuditPurged, order, now).with(&serde_json::json!({
        "before": order.before, "from_index": from_index, "to_index": to_index, "erased": erased,
    })));
    Ok(Some(i64::try_from(erased).map_err(Error::internal)?))
}

fn event(kind: EventType, order: &Purge, now: Timestamp) -> Event {
    Event::new(kind, order.actor.clone(), now)
        .client(order.client_id.as_ref())
        .tenant(&order.tenant_id)
        .because(&order.reason)
}

/// When the service looked for payloads to erase.
#[derive(Default)]
pub(crate) struct PurgeSchedule(AtomicI64);

impl PurgeSchedule {
    fn is_due(&self, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        last == 0 || now.unix_seconds() - last >= EVERY.whole_seconds()
    }

    fn done(&self, now: Timestamp) {
        self.0.store(now.unix_seconds(), Ordering::Relaxed);
    }
}
