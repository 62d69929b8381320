//! From events to messages, in two steps: the act's transaction writes one row for each event that an endpoint may hear,
//! however many endpoints there are; a worker writes the messages afterwards, for the endpoints that could hear the
//! event when it happened and still can.

use std::collections::BTreeSet;

use super::message::WebhookData;
use super::store::{self, Delivery, NewQueuedEvent};
use super::{heard_since, takes};
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Reach, WebhookEvent, WebhookFormat};
use crate::error::Error;
use crate::journal::{Appended, AppendedEvent};
use crate::records;
use crate::store::{Tx, Wakes, Worker};

/// Messages that one transaction writes: at most twice as many.
const MESSAGES: usize = 250;

/// Events that one transaction takes from the queue.
const EVENTS: i64 = 64;

/// Queues recorded events that an endpoint may hear: one row each.
///
/// The heads of the logs are locked meanwhile, so no other lock is taken: it only
/// reads and inserts. Without any endpoint it asks nothing.
pub(crate) fn enqueue(conn: &mut Conn, recorded: &Appended<'_>, wakes: &mut Wakes) -> Result<(), Error> {
    let tellable = recorded.events.iter().filter_map(|one| WebhookEvent::of(one.event.kind()).map(|kind| (one, kind)));
    let tellable: Vec<(&AppendedEvent<'_>, WebhookEvent)> = tellable.collect();
    if tellable.is_empty() || !recorded.any_endpoint {
        return Ok(());
    }
    let tenants: BTreeSet<&str> = tellable.iter().map(|(one, _)| one.event.tenant_id.as_str()).collect();
    let audiences = store::audiences(conn, tenants.into_iter())?;
    let mut rows = Vec::new();
    for (one, kind) in tellable {
        let Some(portal) = one.event.portal.as_deref() else { continue };
        let hearing = audiences.iter().filter(|audience| audience.hears(&one.event.tenant_id, portal));
        let mut formats =
            hearing.filter(|audience| takes(&audience.events, kind.as_str())).map(|audience| audience.format);
        let Some(format) = formats.next() else { continue };
        let data = WebhookData::of(one.event, kind)?;
        if is_for(format, &data) || formats.any(|format| is_for(format, &data)) {
            rows.push(NewQueuedEvent::of(one, kind, portal, serde_json::to_string(&data).map_err(Error::internal)?));
        }
    }
    if !rows.is_empty() {
        wakes.add(Worker::WebhookEvents);
    }
    Ok(store::queue(conn, &rows)?)
}

/// Whether messages of this format are about such events.
fn is_for(format: WebhookFormat, data: &WebhookData) -> bool {
    format == WebhookFormat::Cloudevents || data.is_revocation()
}

/// Writes the messages about queued events of one tenant, the next one after `turn`; `false` if there was none to do.
///
/// # Errors
/// When the store is unavailable, or a message cannot be made. The next call is about another tenant.
pub(crate) async fn fan_out(cx: &Context, turn: &mut String) -> Result<bool, Error> {
    let after = std::mem::take(turn);
    let next = cx.store.read(move |conn| Ok(store::next_queued(conn, &after)?)).await?;
    let Some((tenant, first)) = next else { return Ok(false) };
    turn.clone_from(&tenant);
    cx.store.write_large(move |tx| write_messages(tx, &tenant, first)).await
}

/// One step of a tenant's queue.
///
/// Every copy begins with the tenant's first event and holds its row, so that one at a time works on a queue: in order,
/// and each event once. What was written is committed together with how far it has come.
fn write_messages(tx: &mut Tx<'_>, tenant: &str, first: i64) -> Result<bool, Error> {
    if records::restores::is_running(tx)? || !store::hold(tx, first)? {
        return Ok(false);
    }
    let (mut rows, mut done, mut page) = (Vec::new(), None, None);
    for event in store::queued(tx, tenant, EVENTS)? {
        if rows.len() >= MESSAGES {
            break;
        }
        let listeners = match page.take() {
            Some((after, listeners)) if after == event.done_up_to => listeners,
            _ => store::listeners(tx, tenant, event.done_up_to.as_ref(), MESSAGES)?,
        };
        // The type may be one of a newer version: who hears every type hears of it, too.
        let data: WebhookData = serde_json::from_str(&event.data).map_err(Error::internal)?;
        for listener in &listeners {
            let reach = Reach::of(listener.portal.clone(), &listener.tenants);
            let could = heard_since::of(&listener.heard_since, &event.event_type)? < event.position;
            let can = reach.covers(tenant, &event.portal) && takes(&listener.events, &event.event_type);
            if could && can && is_for(listener.format, &data) {
                rows.push(Delivery::about(&event, &listener.id));
            }
        }
        match listeners.last().filter(|_| listeners.len() >= MESSAGES) {
            Some(last) => {
                store::note_progress(tx, event.position, &last.id)?;
                break;
            }
            None => done = Some(event.position),
        }
        page = Some((event.done_up_to, listeners));
    }
    store::insert_deliveries(tx, &rows)?;
    if let Some(last) = done {
        store::dequeue(tx, tenant, last)?;
    }
    if !rows.is_empty() {
        tx.wake(Worker::Webhooks);
    }
    Ok(true)
}
