//! An audit event is one thing that happened.
//!
//! A verb records it in its own transaction ([`crate::store::Tx::record`]); if it
//! cannot be written, the act did not happen. Refusals are events too. The
//! database itself refuses to change or remove what was written.
//!
//! Each tenant has a *log* of its own, a Merkle tree (RFC 6962), and `_system`
//! is the log of what belongs to no tenant. A *checkpoint* is a signed size and
//! root of a log. Whoever keeps one can check any later export against it,
//! without this service and its database ([`verify`]): the trail is
//! tamper-evident. It is not tamper-proof: what came after the last checkpoint
//! that left the building can be cut off unseen.

mod checkpoint;
mod deliver;
mod evidence;
mod export;
mod holds;
mod key;
mod log;
mod purge;
pub(crate) mod routes;
pub(crate) mod store;
mod summary;
pub mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventResult, EventType, Page, Paging, SYSTEM_LOG, check_filters};
use crate::error::Error;
use crate::http::{Caller, ReadAudit};
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};
use crate::journal::Event;

pub(crate) use checkpoint::{LogAlarms, sign_due};
pub use deliver::CheckpointChannel;
pub(crate) use deliver::deliver_due;
pub use export::ExportFormat;
pub(crate) use export::{ExportQuery, export};
pub(crate) use key::LogKey;
pub(crate) use log::{checkpoint, verifier_key};
pub(crate) use purge::{PurgeSchedule, purge_due};

/// An audit event as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEvent {
    /// Its id; ids sort by time.
    id: EventId,
    /// What happened.
    #[serde(rename = "type")]
    kind: EventType,
    /// The tenant whose log it stands in; `_system` for what belongs to none.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// The portal it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<String>,
    /// Its place in the tenant's log, from 0 without gaps.
    #[schema(minimum = 0)]
    log_index: i64,
    /// Its leaf hash in the tenant's log (RFC 6962, SHA-256, base64).
    #[schema(max_length = 44)]
    leaf_hash: String,
    /// When it happened.
    occurred_at: Timestamp,
    /// When it was written down.
    recorded_at: Timestamp,
    /// How it came out.
    result: EventResult,
    /// Who did it.
    actor: Actor,
    /// The client that asked for it, or that asserted who the actor is.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    /// The link it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// The session it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    /// The consultant it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    consultant_id: Option<ConsultantId>,
    /// The profile as whom it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    profile_id: Option<String>,
    /// The person whose data it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    principal_id: Option<String>,
    /// Why the access was granted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// The support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    ticket: Option<String>,
    /// The visitor's network address, as the portal asserts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    address: Option<String>,
    /// The visitor's browser, as the portal asserts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    user_agent: Option<String>,
    /// Which of the portal's sources reported it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    source: Option<String>,
    /// Its number in that source.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// It was reported when its session was over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    late: bool,
    /// It is a change, where only looking was granted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    policy_violation: bool,
    /// The trace of the request that wrote it (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    trace_id: Option<String>,
    /// What else is known, by type; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    data: Option<serde_json::Value>,
    /// Why there are no names, no reason and no data any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<Erased>,
}

/// That something was erased when its time was over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Erased {
    /// When.
    pub erased_at: Timestamp,
    /// Who did it.
    pub by: Actor,
    /// Why.
    #[schema(max_length = 500)]
    pub reason: String,
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only this tenant's log.
    #[param(max_length = 64, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(max_length = 32)]
    pub portal: Option<String>,
    /// Only this link.
    pub magic_link_id: Option<LinkId>,
    /// Only this session.
    pub session_id: Option<SessionId>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only this person's data.
    #[param(max_length = 128)]
    pub principal_id: Option<String>,
    /// Only this type.
    #[serde(rename = "type")]
    #[param(rename = "type", inline)]
    pub kind: Option<EventType>,
    /// Only what was (or was not) reported after its session's end.
    pub late: Option<bool>,
    /// Only changes where only looking was granted, or all but those.
    pub policy_violation: Option<bool>,
    /// Only what happened at or after this moment.
    pub occurred_from: Option<Timestamp>,
    /// Only what happened before this moment.
    pub occurred_to: Option<Timestamp>,
    /// Items a page, 50 unless told; more than 200 is cut to 200.
    #[param(minimum = 1, maximum = 200)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// A page of the trail, cut to what the caller may see. Reading it is an event too.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadAudit>,
    mut filter: EventFilter,
    now: Timestamp,
) -> Result<Page<AuditEvent>, Error> {
    check_filters([&filter.tenant_id, &filter.portal, &filter.principal_id])?;
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked, wanted) = (caller.reach.clone(), page.clone(), filter.clone());
    let events = cx.store.read(move |conn| store::list(conn, &wanted, &reach, &asked)).await?;
    let readings = readings(caller, &filter, &events, now);
    cx.store.record(readings).await?;
    Ok(page.answer(cx.tokens.master_key(), events, |event| event.id.as_str(), |event| event))
}

/// What goes on record in each log that events of it were read; if none were, in that which was asked for.
fn readings(reader: &Caller<ReadAudit>, filter: &EventFilter, events: &[AuditEvent], now: Timestamp) -> Vec<Event> {
    let mut logs: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        *logs.entry(&event.tenant_id).or_default() += 1;
    }
    if logs.is_empty() {
        let asked = filter.tenant_id.as_deref().filter(|id| reader.reach.covers_tenant(id));
        logs.insert(asked.unwrap_or(SYSTEM_LOG), 0);
    }
    let reading = Event::new(EventType::AuditRead, reader.actor(None), now).client(reader.client_id.as_ref());
    let of_log = |(log, events)| reading.clone().tenant(log).with(&Reading { filter, events });
    logs.into_iter().map(of_log).collect()
}

/// What was read.
#[derive(Serialize)]
struct Reading<'a> {
    #[serde(flatten)]
    filter: &'a EventFilter,
    events: usize,
}
