//! Erasure of names, addresses and reasons in the rows beside the audit log, by the rule of its payloads: the tenant's
//! retention, no legal hold, and on record. What belongs to no tenant follows the log `_system`.

use std::time::Duration;

use serde_json::json;

use super::permit::{Eraser, Permit};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{Actor, EventType, SYSTEM_LOG};
use crate::error::{Code, Error};
use crate::id::{ClientId, ConsultantId, RevocationId};
use crate::journal::Event;
use crate::journal::rows::{has_begun, lock_log};
use crate::records::erasing::{self, Erased};
use crate::records::unused::{self, SaidRevocation};
use crate::store::Tx;

/// Consultants, and bulk revocations, that one query reads and one transaction erases.
const PAGE: i64 = 50;

/// How often, and after which pause, it is tried again to erase what somebody holds.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);

/// An erasure to perform: range, actor and reason.
#[derive(Clone)]
pub(super) struct Purge {
    pub tenant_id: String,
    pub before: Timestamp,
    pub reason: String,
    pub actor: Actor,
    pub client_id: Option<ClientId>,
}

pub(super) fn event(kind: EventType, order: &Purge, now: Timestamp) -> Event {
    Event::new(kind, order.actor.clone(), now)
        .client(order.client_id.as_ref())
        .tenant(&order.tenant_id)
        .because(&order.reason)
}

/// Erases what the rows of a tenant of before a time say of people, in ranges; each is an event. Whether nothing is left.
pub(super) async fn erase_rows(eraser: Eraser<'_>, order: &Purge) -> Result<(Erased, bool), Error> {
    let (mut all, mut tries) = (Erased::default(), 0);
    loop {
        let (tenant_id, before) = (order.tenant_id.clone(), order.before);
        if !eraser.cx.store.read(move |conn| Ok(erasing::is_due(conn, &tenant_id, before)?)).await? {
            return Ok((all, true));
        }
        let some = erase_some(eraser, order.clone()).await?;
        // Where that is nothing, somebody holds what is left: perhaps another run, which is about to be done.
        tries = if some.is_nothing() { tries + 1 } else { 0 };
        match tries {
            0 => all += some,
            1..=TRIES => tokio::time::sleep(PAUSE).await,
            _ => return Ok((all, false)),
        }
    }
}

async fn erase_some(eraser: Eraser<'_>, order: Purge) -> Result<Erased, Error> {
    let (permit, now) = (eraser.permit().await?, eraser.now);
    eraser
        .cx
        .store
        .write_large(move |tx| {
            if !has_begun(tx, &order.tenant_id)? {
                return Ok(Erased::default());
            }
            let rows = erasing::erase(tx, &order.tenant_id, order.before, now)?;
            if rows.is_nothing() {
                return Ok(rows);
            }
            require_no_hold(tx, &order.tenant_id, order.before, permit)?;
            let erasure = event(EventType::PersonalDataErased, &order, now);
            tx.record(erasure.with(&json!({
                "before": order.before, "links": rows.links, "requests": rows.requests,
                "sessions": rows.sessions, "mails": rows.mails, "keys": rows.keys,
                "decisions": rows.decisions,
            })));
            Ok(rows)
        })
        .await
}

/// Undoes an erasure that a legal hold has overtaken. Placing one takes the same lock, so the two are serialized; it is
/// taken last, since nobody may wait for a row who holds the head of a log.
fn require_no_hold(tx: &mut Tx<'_>, tenant_id: &str, before: Timestamp, permit: Permit) -> Result<(), Error> {
    lock_log(tx, tenant_id)?;
    match permit.end(tx, tenant_id)? {
        Some(end) if before <= end => Ok(()),
        _ => Err(Code::LegalHold.into()),
    }
}

/// Erases what belongs to no tenant and nobody has needed for the whole retention.
pub(super) async fn erase_unused(eraser: Eraser<'_>) -> Result<Erased, Error> {
    let (permit, now) = (eraser.permit().await?, eraser.now);
    let ended = eraser.cx.store.read(move |conn| permit.end(conn, SYSTEM_LOG)).await?;
    let Some(before) = ended else { return Ok(Erased::default()) };
    // Before the suppressed addresses: one goes when nobody has it any more.
    let mut all = erase_consultants(eraser, before).await?;
    loop {
        let permit = eraser.permit().await?;
        let some = eraser
            .cx
            .store
            .write_large(move |tx| {
                let suppressions = unused::remove_suppressions(tx, before)?;
                let decisions = unused::erase_key_revocations(tx, before)? + unused::erase_addresses(tx, before)?;
                on_record(tx, Erased { decisions, suppressions, ..Erased::default() }, before, (permit, now))
            })
            .await?;
        if some.is_nothing() {
            break;
        }
        all += some;
    }
    all += erase_revocations(eraser, before).await?;
    Ok(all)
}

/// Records an erasure in the log `_system`, if there was any.
fn on_record(
    tx: &mut Tx<'_>,
    erased: Erased,
    before: Timestamp,
    (permit, now): (Permit, Timestamp),
) -> Result<Erased, Error> {
    if !erased.is_nothing() {
        require_no_hold(tx, SYSTEM_LOG, before, permit)?;
        let erasure = Event::new(EventType::PersonalDataErased, Actor::system("retention"), now);
        tx.record(erasure.with(&json!({
            "before": before, "suppressions": erased.suppressions, "decisions": erased.decisions,
        })));
    }
    Ok(erased)
}

/// Erases why bulk revocations were created, once the retention of each of their tenants is over.
async fn erase_revocations(eraser: Eraser<'_>, before: Timestamp) -> Result<Erased, Error> {
    let (mut all, mut after) = (Erased::default(), None::<RevocationId>);
    loop {
        let (permit, now, last) = (eraser.permit().await?, eraser.now, after.take());
        let (over, last) = eraser
            .cx
            .store
            .read(move |conn| {
                let page = unused::said_revocations(conn, before, last.as_ref(), PAGE)?;
                let last = page.last().map(|said| said.id.clone());
                let mut over = Vec::new();
                for said in page {
                    if is_over(conn, &said, permit)? {
                        over.push(said.id);
                    }
                }
                Ok((over, last))
            })
            .await?;
        if last.is_none() {
            return Ok(all);
        }
        after = last;
        if over.is_empty() {
            continue;
        }
        all += eraser
            .cx
            .store
            .write_large(move |tx| {
                let decisions = unused::erase_revocations(tx, &over)?;
                on_record(tx, Erased { decisions, ..Erased::default() }, before, (permit, now))
            })
            .await?;
    }
}

/// Whether the retention of each of its tenants is over for a bulk revocation.
fn is_over(conn: &mut Conn, said: &SaidRevocation, permit: Permit) -> Result<bool, Error> {
    for tenant_id in &said.tenants {
        if permit.end(conn, tenant_id)?.is_none_or(|end| said.created_at >= end) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Erases consultants whom nothing refers to that is kept; each erasure is an event.
async fn erase_consultants(eraser: Eraser<'_>, before: Timestamp) -> Result<Erased, Error> {
    let (mut all, mut after) = (Erased::default(), None::<ConsultantId>);
    loop {
        let (permit, now, last) = (eraser.permit().await?, eraser.now, after.take());
        let page = eraser.cx.store.read(move |conn| Ok(unused::idle_consultants(conn, before, last.as_ref(), PAGE)?));
        let (idle, last) = page.await?;
        if last.is_none() {
            return Ok(all);
        }
        after = last;
        if idle.is_empty() {
            continue;
        }
        all.consultants += eraser
            .cx
            .store
            .write_large(move |tx| {
                let mut gone = Vec::new();
                for id in &idle {
                    if unused::erase_consultant(tx, id, before, now)? {
                        gone.push(id);
                    }
                }
                if !gone.is_empty() {
                    require_no_hold(tx, SYSTEM_LOG, before, permit)?;
                }
                for id in &gone {
                    tx.record(Event::new(EventType::ConsultantErased, Actor::system("retention"), now).consultant(*id));
                }
                Ok(gone.len())
            })
            .await?;
    }
}
