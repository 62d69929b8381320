//! Erasure of event payloads after their retention period, by range of indexes.
//!
//! Leaves and proofs are kept for ever. An erasure, with its actor and reason, is an
//! event too, and its row is inserted before the first payload is deleted: the
//! database enforces that order.

use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::log;
use super::store::{self, Erasure};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Person, Validator, check_person, trimmed};
use crate::error::{Code, Error};
use crate::http::{Caller, ManageAudit};
use crate::journal::Event;
use crate::journal::rows::{self, lock_log};
use crate::records;
use crate::store::Tx;

/// Events per transaction, and bytes of their payloads.
const EVENTS_AT_A_TIME: i64 = 5_000;
const BYTES_AT_A_TIME: i64 = 8 << 20;

/// Interval of the retention run.
const EVERY: Duration = Duration::hours(1);

/// Request to erase payloads of a tenant's audit log.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"before": "2025-10-01T00:00:00Z", "reason": "The retention period of the contract is over"}))]
pub struct PurgeLog {
    /// Erase payloads of events recorded before this time (RFC 3339).
    pub before: Timestamp,
    /// Why the payloads are erased.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Portal user who requested the erasure, recorded as the client asserts it.
    pub requested_by: Option<Person>,
}

/// Result of an erasure.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PurgedLog {
    /// Number of payloads erased.
    #[schema(minimum = 0)]
    pub erased: i64,
    /// Payloads of events below this index are erased, except those of `audit.purged`,
    /// `log.restored` and `log.key_changed`
    /// events.
    #[schema(minimum = 0)]
    pub erased_to_index: i64,
}

/// An erasure to perform: range, actor and reason.
#[derive(Clone)]
struct Purge {
    tenant_id: String,
    before: Timestamp,
    reason: String,
    actor: Actor,
    client_id: Option<crate::id::ClientId>,
}

/// Erases payloads on request, ahead of the hourly run; never before the retention period is over.
///
/// # Errors
/// `retention_not_over` and `legal_hold`; both refusals are recorded.
pub(crate) async fn purge(
    cx: &Context,
    caller: &Caller<ManageAudit>,
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

/// Erases payloads past their retention period in every log; runs once an hour.
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
                // A log that cannot be read must not block the others.
                Err(error) => {
                    tracing::error!(log.tenant = order.tenant_id, error.cause = %error, "retention run of a log failed");
                    break;
                }
            }
        }
    }
    schedule.done(now);
    Ok(())
}

/// Payloads recorded before this time may be erased; `None` while a legal hold is in force.
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

/// Erases one range; `None` if nothing is left to erase.
async fn erase_some(cx: &Context, order: Purge, now: Timestamp) -> Result<Option<i64>, Error> {
    let default = cx.config.audit.retention;
    cx.store
        .write_large(move |tx| {
            // A tenant without a log has nothing to erase, and gets none for being asked about.
            if !rows::has_begun(tx, &order.tenant_id)? {
                return Ok(None);
            }
            // Placing a hold takes the same lock, so the two are serialized.
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
    let to_index =
        store::first_beyond(tx, &order.tenant_id, from_index..to_index, BYTES_AT_A_TIME)?.unwrap_or(to_index);
    // A range that holds only what is kept is skipped: each erasure adds one, so it would never end.
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

/// Time of this process's last retention run.
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
