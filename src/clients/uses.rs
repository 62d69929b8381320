//! When and from where clients call, and what they read. Each copy of the service notes it in memory (`access/uses.rs`), and
//! writes it down here.

use std::collections::{BTreeSet, HashMap};
use std::ops::Not;

use serde::Serialize;
use time::Duration;

use crate::access::Reads;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::id::ClientId;
use crate::journal::Event;
use crate::records;

/// Uses older than this are not remembered once they are written down.
const USES_KEPT: Duration = Duration::minutes(2);

/// Writes down which clients called since the step before, and what could not be written down before.
pub(crate) async fn write_uses(cx: &Context, now: Timestamp) -> Result<(), Error> {
    let seen = cx.client_uses.all();
    if seen.is_empty() {
        return Ok(());
    }
    cx.store
        .write_large(move |tx| {
            for (id, seen) in &seen {
                let address = seen.address.as_ref().map(ToString::to_string);
                records::clients::note_use(tx, id, seen.at, address.as_deref())?;
            }
            Ok(())
        })
        .await?;
    cx.client_uses.forget_before(now.minus(USES_KEPT));
    Ok(())
}

/// Clients whose reads one transaction records.
const READERS: usize = 20;

/// Records what clients have read, once that began at least so long ago: one event for each, in the log `_system`. After a
/// leak they tell what a key has seen.
pub(crate) async fn record_reads(cx: &Context, age: Duration, now: Timestamp) -> Result<(), Error> {
    loop {
        let taken = cx.client_uses.take_reads(age, READERS, now);
        if taken.is_empty() {
            return Ok(());
        }
        let ids: Vec<ClientId> = taken.iter().map(|(id, _)| id.clone()).collect();
        let known = cx.store.read(move |conn| Ok(records::clients::names(conn, &ids)?)).await;
        let recorded = match known {
            Ok(names) => {
                cx.store.record(taken.iter().map(|(id, reads)| read_event(id, &names, reads, now)).collect()).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = recorded {
            // Counted twice where the outcome is unknown is better than not at all.
            cx.client_uses.put_back(taken);
            return Err(error);
        }
    }
}

/// What a client has read of a route, as the event tells it.
#[derive(Serialize)]
struct RouteRead<'a> {
    route: &'a str,
    count: u64,
    /// What the paths named, or the tenants that the queries asked for.
    subjects: &'a BTreeSet<String>,
    /// Whether there were more of them.
    #[serde(skip_serializing_if = "Not::not")]
    more: bool,
}

fn read_event(id: &ClientId, names: &HashMap<ClientId, String>, reads: &Reads, now: Timestamp) -> Event {
    let name = names.get(id).map_or("", String::as_str);
    let routes = reads.routes.iter().map(|(route, reads)| RouteRead {
        route,
        count: reads.count,
        subjects: &reads.subjects,
        more: reads.is_cut,
    });
    let addresses: Vec<String> = reads.addresses.iter().map(ToString::to_string).collect();
    let event = Event::new(EventType::ClientRead, Actor::client(id, name), now).client(Some(id));
    event.with(&serde_json::json!({
        "from": reads.since, "to": now, "addresses": addresses, "reads": routes.collect::<Vec<RouteRead<'_>>>(),
    }))
}
