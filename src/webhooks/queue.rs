//! Deriving messages from events, in the one place that every recorded event passes.

use std::collections::BTreeSet;

use super::message::WebhookData;
use super::store::{self, Delivery};
use super::takes;
use crate::db::Conn;
use crate::domain::{Reach, WebhookEvent, WebhookFormat};
use crate::error::Error;
use crate::journal::AppendedEvent;
use crate::store::{Wakes, Worker};

/// Inserts messages about recorded events for the endpoints that may receive them and subscribe to them.
///
/// The heads of the logs are locked meanwhile, so no other lock is taken: it only
/// reads and inserts. Without any endpoint it costs one query per transaction.
pub(crate) fn enqueue(conn: &mut Conn, recorded: &[AppendedEvent<'_>], wakes: &mut Wakes) -> Result<(), Error> {
    let tellable = recorded.iter().filter_map(|one| WebhookEvent::of(one.event.kind()).map(|kind| (one, kind)));
    let tellable: Vec<(&AppendedEvent<'_>, WebhookEvent)> = tellable.collect();
    if tellable.is_empty() || !store::any_endpoint(conn)? {
        return Ok(());
    }
    let tenants: BTreeSet<&str> = tellable.iter().map(|(one, _)| one.event.tenant_id.as_str()).collect();
    let listeners = store::listeners(conn, tenants.into_iter())?;
    let listeners: Vec<_> =
        listeners.iter().map(|listener| (listener, Reach::of(listener.portal.clone(), &listener.tenants))).collect();
    if listeners.is_empty() {
        return Ok(());
    }
    let mut rows = Vec::new();
    for (one, kind) in tellable {
        let data = WebhookData::of(one.event, kind)?;
        let text = serde_json::to_string(&data).map_err(Error::internal)?;
        for (listener, reach) in &listeners {
            let portal = one.event.portal.as_deref();
            let may_hear = portal.is_some_and(|portal| reach.covers(&one.event.tenant_id, portal));
            let wants = takes(&listener.events, kind)
                && (listener.format == WebhookFormat::Cloudevents || data.is_revocation());
            if may_hear && wants {
                rows.push(Delivery::new(&listener.id, one, kind, text.clone()));
            }
        }
    }
    if !rows.is_empty() {
        wakes.add(Worker::Webhooks);
    }
    Ok(store::insert_deliveries(conn, &rows)?)
}
