//! Retention: erasure of event payloads, by range of indexes, and of what the rows beside the log say (`erase`).
//!
//! Leaves and proofs are kept for ever. An erasure, with its actor and reason, is an
//! event too, without a person's name, and its row is inserted before the first payload is deleted: the
//! database enforces that order.
//!
//! A backup has forgotten the legal holds and the retention periods of later, so
//! nothing is erased from a database that is behind a checkpoint outside, nor
//! after its restore until an operator ends the freeze ([`super::permit`]).

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::erase::{Purge, erase_rows, erase_unused, event};
use super::log;
use super::permit::{Eraser, see_time};
use super::store::{self, Erasure};
use crate::clock::Timestamp;
use crate::domain::{Actor, EventType, Person, SYSTEM_LOG, Validator, check_person, trimmed};
use crate::error::{Code, Error};
use crate::http::{Caller, ManageAudit};
use crate::journal::rows::{self, lock_log};
use crate::records::erasing::Erased;
use crate::records::restores;
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
    /// Erase payloads of events recorded before this time (RFC 3339), and what belongs to links whose window ended before it.
    pub before: Timestamp,
    /// Why the payloads are erased. Kept for ever, as a part of the proof: name nobody in it.
    #[schema(min_length = 10, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Portal user who requested the erasure, recorded as the client asserts it; the identifier is kept for ever, the name is
    /// not.
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
    /// Number of links, of requests for links and of sessions whose names, addresses and reasons were erased.
    #[schema(minimum = 0)]
    pub erased_records: i64,
    /// Number of mails that were removed.
    #[schema(minimum = 0)]
    pub removed_mails: i64,
    /// Number of devices, keys and one-time codes of links that were removed: one or more for each mailing.
    #[schema(minimum = 0)]
    pub removed_keys: i64,
}

/// What a run of the retention has erased and removed.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Retained {
    payloads: i64,
    #[serde(flatten)]
    rows: Erased,
    /// Whether nothing was, since a restore holds everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    held: bool,
    /// Whether nothing was, since the clock has jumped by more than a month, and may be wrong.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) delayed: bool,
    /// Logs of which not everything could be erased; the log of the process has the causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<String>,
}

impl fmt::Display for Retained {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payloads, rows, held, delayed, failed: _ } = self;
        let Erased { links, requests, sessions, mails, keys, decisions, suppressions, consultants } = rows;
        if *held {
            return write!(out, "nothing: after a restore everything is held, until `magic-link unfreeze`");
        }
        if *delayed {
            return write!(out, "nothing: the clock has jumped by more than a month");
        }
        write!(
            out,
            "erased: {payloads} payloads of events, {links} links, {requests} requests, {sessions} sessions, {decisions} \
             decisions, {consultants} consultants; removed: {mails} mails, {keys} keys of links, {suppressions} suppressed addresses"
        )
    }
}

/// Erases payloads, and what the rows beside the log say, on request, ahead of the hourly run; never before the retention
/// period is over.
///
/// # Errors
/// `retention_not_over` and `legal_hold`; both refusals are recorded. Those of a permit, and `erasure_by_command` where the
/// service has not the right to erase.
pub(crate) async fn purge(
    eraser: Eraser<'_>,
    caller: &Caller<ManageAudit>,
    tenant_id: String,
    request: PurgeLog,
) -> Result<PurgedLog, Error> {
    let cx = eraser.cx;
    log::check_whole(caller, &tenant_id)?;
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 10, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    if !cx.config.audit.erase_in_service {
        return Err(Code::ErasureByCommand.into());
    }
    let order = Purge {
        actor: caller.actor(request.requested_by.as_ref()),
        client_id: caller.client_id.clone(),
        before: request.before,
        reason: request.reason,
        tenant_id: tenant_id.clone(),
    };
    let mut payloads = 0;
    while let Some(count) = erase_some(eraser, order.clone()).await? {
        payloads += count;
    }
    let (rows, is_done) = erase_rows(eraser, &order).await?;
    if !is_done {
        let detail = "somebody changes what is left, which stays for now: repeat it";
        return Err(Error::unavailable().detail(detail));
    }
    let erased_to_index = cx.store.read(move |conn| Ok(store::erased_to(conn, &tenant_id)?)).await?;
    let number = |rows| i64::try_from(rows).map_err(Error::internal);
    Ok(PurgedLog {
        erased: payloads,
        erased_to_index,
        erased_records: number(rows.links + rows.requests + rows.sessions)?,
        removed_mails: number(rows.mails)?,
        removed_keys: number(rows.keys)?,
    })
}

/// Erases what is past its retention in every log and beside it; runs once an hour.
///
/// # Errors
/// Those of [`retain`].
pub(crate) async fn purge_due(eraser: Eraser<'_>, schedule: &PurgeSchedule) -> Result<(), Error> {
    // After a restore it is due as soon as the freeze ends.
    if schedule.is_due(eraser.now) && !eraser.cx.store.read(|conn| Ok(restores::holds_erasing(conn)?)).await? {
        retain(eraser).await?;
        schedule.done(eraser.now);
    }
    Ok(())
}

/// Erases what is past its retention in every log and beside it, in ranges; nothing after a restore until the freeze ends.
///
/// # Errors
/// When the store is unavailable, and those of a permit. What was erased until then stays so, and is on record.
pub(crate) async fn retain(eraser: Eraser<'_>) -> Result<Retained, Error> {
    // Before anything else, though there may be nothing to erase.
    eraser.require_no_doubt().await?;
    if !see_time(eraser.cx, eraser.now, eraser.clock_is_right).await? {
        tracing::warn!(
            "nothing is erased: the clock has jumped by more than a month; where it is right, wait for a day"
        );
        return Ok(Retained { delayed: true, ..Retained::default() });
    }
    let logs = eraser.cx.store.read(|conn| Ok(store::logs(conn)?)).await?;
    let held = eraser.cx.store.read(|conn| Ok(restores::holds_erasing(conn)?)).await?;
    let mut all = Retained { held, ..Retained::default() };
    for tenant_id in logs {
        let (id, permit) = (tenant_id.clone(), eraser.permit().await?);
        let ended = eraser.cx.store.read(move |conn| permit.end(conn, &id)).await?;
        let Some(before) = ended else { continue };
        let order = Purge {
            tenant_id,
            before,
            reason: "The retention period is over".to_owned(),
            actor: Actor::system("retention"),
            client_id: None,
        };
        // A log that cannot be read must not block the others.
        let done = retain_log(eraser, &order, &mut all).await;
        all.survive(done, &order.tenant_id)?;
    }
    let done = erase_unused(eraser).await.map(|rows| all.rows += rows);
    all.survive(done, SYSTEM_LOG)?;
    Ok(all)
}

async fn retain_log(eraser: Eraser<'_>, order: &Purge, all: &mut Retained) -> Result<(), Error> {
    while let Some(count) = erase_some(eraser, order.clone()).await? {
        all.payloads += count;
    }
    let (rows, is_done) = erase_rows(eraser, order).await?;
    all.rows += rows;
    if !is_done {
        tracing::warn!(
            log.tenant = order.tenant_id,
            "somebody changes what is left to erase, which waits for the next run"
        );
        all.failed.push(order.tenant_id.clone());
    }
    Ok(())
}

impl Retained {
    /// Passes on only what concerns every log; the rest is noted.
    fn survive(&mut self, outcome: Result<(), Error>, log: &str) -> Result<(), Error> {
        match outcome {
            Err(error) if matches!(error.code(), Code::Unavailable | Code::RestoreRequired) => Err(error),
            // One was placed meanwhile.
            Err(error) if error.code() == Code::LegalHold => Ok(()),
            Err(error) => {
                tracing::error!(log.tenant = log, error.cause = %error, "retention run of a log failed");
                self.failed.push(log.to_owned());
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// Erases one range; `None` if nothing is left to erase.
async fn erase_some(eraser: Eraser<'_>, order: Purge) -> Result<Option<i64>, Error> {
    let (permit, now) = (eraser.permit().await?, eraser.now);
    eraser
        .cx
        .store
        .write_large(move |tx| {
            // A tenant without a log has nothing to erase, and gets none for being asked about.
            if !rows::has_begun(tx, &order.tenant_id)? {
                return Ok(None);
            }
            // Placing a hold takes the same lock, so the two are serialized.
            lock_log(tx, &order.tenant_id)?;
            let refusal = match permit.end(tx, &order.tenant_id)? {
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
    let order = Purge { actor: order.actor.clone().for_ever(), ..order.clone() };
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
    tx.record(event(EventType::AuditPurged, &order, now).with(&serde_json::json!({
        "before": order.before, "from_index": from_index, "to_index": to_index, "erased": erased,
    })));
    Ok(Some(i64::try_from(erased).map_err(Error::internal)?))
}

/// Time of this process's last retention run.
#[derive(Default)]
pub(crate) struct PurgeSchedule(AtomicI64);

impl PurgeSchedule {
    fn is_due(&self, now: Timestamp) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        // Either way: a clock that was ahead must not have put it off.
        last == 0 || now.unix_seconds().abs_diff(last) >= EVERY.whole_seconds().unsigned_abs()
    }

    fn done(&self, now: Timestamp) {
        self.0.store(now.unix_seconds(), Ordering::Relaxed);
    }
}
