//! A restored backup has forgotten what happened after it was made: what was spent, revoked or suspended since would
//! come back.
//!
//! [`restore`] ends all that, from its first commit on, for every instance of the
//! service: issuing is frozen, every link is revoked, every signing key is
//! replaced, every status list so far has all its bits set, every ordered change
//! of an approval key is cancelled, every client is disabled and every consultant
//! suspended until somebody confirms them. The database gets another
//! *incarnation*, so that nothing counts that an instance has cached. The rest is
//! done in ranges; while it is not complete, no mail and no webhook message is
//! sent, and the service is not ready. Nothing is erased from an audit log until
//! an operator ends the freeze: legal holds may be missing. To repeat a restore is safe, whether it was
//! complete or not.

use actix_web::web::Data;
use rand::RngExt;
use serde::Serialize;

use crate::audit::{self, LegalHold, LogKey, OutsideCheckpoints, Restoration, RestoredLog};
use crate::clients::{self, UnconfirmedClient};
use crate::clock::Timestamp;
use crate::consultants::{self, UnconfirmedConsultant};
use crate::context::Context;
use crate::domain::{Actor, SYSTEM_LOG, Validator};
use crate::error::{Code, Error};
use crate::http::Caller;
use crate::id::RevocationId;
use crate::policies::approval_key::{self, RestoredApprovalKey};
use crate::store::{Tx, Worker};
use crate::tokens::keyring;
use crate::{links, mail, records, revocations, signing_keys, status_lists, webhooks};

/// What a restore did, and what is left to confirm.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoreResponse {
    /// When the restore was in force (RFC 3339, UTC).
    restored_at: Timestamp,
    /// Number of revoked links.
    revoked_links: i64,
    /// Number of ended sessions.
    ended_sessions: i64,
    /// Number of mails that were queued.
    cancelled_mails: usize,
    /// Number of webhook messages that were queued.
    cancelled_webhook_messages: usize,
    /// Number of revoked signing keys.
    revoked_keys: usize,
    /// Identifier of the key that signs from now on.
    kid: String,
    /// Number of audit logs that go on under another origin.
    logs: usize,
    /// What was added to the origin of each of them.
    origin_suffix: String,
    /// Logs of which a checkpoint was kept outside.
    checkpoints: Vec<RestoredLog>,
    /// Keys with which tenants sign approvals, as the backup has them.
    approval_keys: Vec<RestoredApprovalKey>,
    /// Legal holds in force, as the backup has them. Nothing is erased until issuing is unfrozen.
    legal_holds: Vec<LegalHold>,
    /// Number of days for which the audit logs of other tenants keep names, reasons and values.
    retention_days: i64,
    /// Tenants with a retention period of their own, as the backup has it.
    retentions: Vec<RestoredRetention>,
    /// Clients that are disabled until they are confirmed.
    clients: Vec<UnconfirmedClient>,
    /// Consultants who are suspended until they are confirmed.
    consultants: Vec<UnconfirmedConsultant>,
}

/// How long the audit log of a tenant keeps names, reasons and values.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoredRetention {
    /// Portal's identifier of the tenant.
    tenant_id: String,
    retention_days: i32,
}

/// What the first transaction of a restore did.
struct Begun {
    order: RevocationId,
    revoked_keys: usize,
    /// Logs that go on under another origin already.
    logs: Vec<String>,
    /// Of them those of which a checkpoint was named.
    named: Vec<RestoredLog>,
}

/// Ends everything that a restored backup would revive.
///
/// # Errors
/// `validation_failed` for the reason; `unavailable` when the store does not answer: repeat it.
pub(crate) async fn restore(
    cx: &Context,
    key: &Data<LogKey>,
    checkpoints: OutsideCheckpoints,
    reason: String,
    now: Timestamp,
) -> Result<RestoreResponse, Error> {
    let mut fields = Validator::default();
    fields.text("/reason", &reason, 3, 400);
    fields.finish()?;
    let incarnation: i64 = rand::rng().random_range(1..=i64::MAX);
    let suffix = format!("{incarnation:016x}");
    let actor = Actor::system("command-line");
    let restoration = Restoration { suffix: suffix.clone(), checkpoints, actor: actor.clone(), now };
    let fresh = keyring::generate(cx.tokens.master_key(), now, now)?;
    let kid = fresh.kid.clone();

    let (first, log_key) = (restoration.clone(), key.clone());
    let begun = cx
        .store
        .write_large(move |tx| {
            records::restores::begin(tx, incarnation, now)?;
            links::freeze_now(tx, &reason, now)?;
            let order = revocations::revoke_everything(tx, &reason, &actor, now)?;
            let revoked_keys = signing_keys::replace_all(tx, &fresh, &reason, &actor, now)?;
            status_lists::begin_anew(tx, now)?;
            audit::settle_deliveries(tx)?;
            let (mut logs, mut named) = (Vec::new(), Vec::new());
            for tenant_id in approval_key::cancel_key_changes(tx, &actor, now)? {
                if !logs.contains(&tenant_id) {
                    named.extend(first.record(tx, &log_key, &tenant_id, &serde_json::Value::Null)?);
                    logs.push(tenant_id.clone());
                }
                tx.record(approval_key::cancelled_by_restore(&tenant_id, &actor, now));
            }
            let clients = records::clients::disable_until_confirmed(tx, now)?;
            let unconfirmed = format!("{reason}; not confirmed since");
            let consultants = records::consultants::suspend_until_confirmed(tx, &unconfirmed, now)?;
            let more = serde_json::json!({ "clients": clients, "consultants": consultants });
            named.extend(first.record(tx, &log_key, SYSTEM_LOG, &more)?);
            logs.push(SYSTEM_LOG.to_owned());
            Ok(Begun { order, revoked_keys, logs, named })
        })
        .await?;
    cx.tokens.refresh(&cx.store, now).await?;

    let (cancelled_mails, cancelled_webhook_messages) = cancel_queued(cx, incarnation).await?;
    let (logs, named) = restoration.record_all(cx, key, &begun.logs).await?;
    revocations::finish_pending(cx).await?;
    // They have nothing left to end.
    signing_keys::step(cx).await?;
    let order = revocations::read(cx, &Caller::operator(), begun.order).await?;
    cx.store.write(move |tx| finish(tx, incarnation)).await?;
    let retentions = cx.store.read(|conn| Ok(records::tenants::own_retention(conn)?)).await?;
    let retentions = retentions.into_iter();
    Ok(RestoreResponse {
        restored_at: now,
        revoked_links: order.links,
        ended_sessions: order.sessions,
        cancelled_mails,
        cancelled_webhook_messages,
        revoked_keys: begun.revoked_keys,
        kid,
        logs: begun.logs.len() + logs,
        origin_suffix: suffix,
        checkpoints: begun.named.into_iter().chain(named).collect(),
        approval_keys: approval_key::restored_keys(cx, now).await?,
        legal_holds: audit::standing_holds(cx, now).await?,
        retention_days: cx.config.audit.retention.whole_days(),
        retentions: retentions
            .map(|(tenant_id, retention_days)| RestoredRetention { tenant_id, retention_days })
            .collect(),
        clients: clients::unconfirmed(cx).await?,
        consultants: consultants::unconfirmed(cx).await?,
    })
}

/// Cancels the mails and webhook messages of the backup, unless a restore before this one has: what is queued since then
/// tells consultants and contacts what has ended. Returns how many.
async fn cancel_queued(cx: &Context, incarnation: i64) -> Result<(usize, usize), Error> {
    if !cx.store.read(|conn| Ok(records::restores::has_queues_to_cancel(conn)?)).await? {
        return Ok((0, 0));
    }
    let cancelled = (mail::cancel_queued(cx).await?, webhooks::cancel_queued(cx).await?);
    let is_noted = cx.store.write(move |tx| Ok(records::restores::note_queues_cancelled(tx, incarnation)?)).await?;
    if is_noted { Ok(cancelled) } else { Err(another_began()) }
}

fn another_began() -> Error {
    Error::new(Code::Unavailable).detail("another restore was begun meanwhile, and goes on")
}

/// Completes a restore, unless another one was begun meanwhile.
fn finish(tx: &mut Tx<'_>, incarnation: i64) -> Result<(), Error> {
    if !records::restores::finish(tx, incarnation)? {
        return Err(another_began());
    }
    tx.wake(Worker::Mail);
    tx.wake(Worker::Webhooks);
    Ok(())
}
