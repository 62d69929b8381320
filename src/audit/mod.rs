//! An audit event records one operation and its result.
//!
//! A verb records it in its own transaction ([`crate::store::Tx::record`]): if the
//! event cannot be written, the transaction is rolled back. Refusals are events
//! too. Database triggers refuse to change or delete an event.
//!
//! Each tenant has its own *audit log*, a Merkle tree (RFC 6962); `_system` is the
//! log of events without a tenant. A *checkpoint* is a signed size and root of a
//! log. Any later export can be verified against a checkpoint that was kept
//! outside, without this service and its database ([`verify`]): the log is
//! tamper-evident. It is not tamper-proof: events after the last checkpoint that
//! was kept outside can be cut off unnoticed.

mod checkpoint;
mod deliver;
mod erase;
mod evidence;
mod export;
mod folder;
mod holds;
mod key;
mod log;
mod permit;
mod purge;
mod restored;
pub(crate) mod routes;
pub(crate) mod store;
mod summary;
pub mod verify;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{
    Actor, Cursor, EventResult, EventType, ExternalId, LogId, Page, Paging, PortalId, RecordedType, SYSTEM_LOG,
};
use crate::error::Error;
use crate::http::{Caller, ReadAudit};
use crate::id::{ClientId, ConsultantId, EventId, LinkId, SessionId};
use crate::journal::{Event, rows};
use crate::sessions::PrincipalId;

pub(crate) use checkpoint::{LogAlarms, NewestCheckpoints, sign_due};
pub use deliver::CheckpointChannel;
pub(crate) use deliver::{Outside, deliver_due};
pub use export::ExportFormat;
pub(crate) use export::{ExportQuery, export};
pub(crate) use folder::{CheckpointFolder, FolderFault, compare as compare_checkpoints, require_whole};
pub(crate) use holds::{LegalHold, PlaceHold, ReleaseHold, list as list_holds, place as place_hold};
pub(crate) use holds::{release as release_hold, standing as standing_holds};
pub(crate) use key::{KnownKeys, LogKey, change as change_key, seal_keys_again};
pub(crate) use log::{checkpoint, require_known, verifier_key};
pub(crate) use permit::{Eraser, see_time};
pub(crate) use purge::{PurgeSchedule, purge_due, retain};
pub(crate) use restored::{OutsideCheckpoint, OutsideCheckpoints, Restoration, RestoredLog};
pub(crate) use store::{delivered_last, index_principals, settle_deliveries};

/// An event of a tenant's audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditEvent {
    /// Event id; ids sort by the time of recording.
    id: EventId,
    /// Event type.
    #[serde(rename = "type")]
    #[schema(value_type = EventType)]
    kind: RecordedType,
    /// Tenant whose audit log holds the event; `_system` for events without a tenant.
    #[schema(max_length = 64)]
    tenant_id: String,
    /// Portal the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    portal: Option<String>,
    /// Index of the event in the tenant's audit log, from 0 without gaps.
    #[schema(minimum = 0)]
    log_index: i64,
    /// Leaf hash of the event in the tenant's audit log (RFC 6962, SHA-256, base64).
    #[schema(max_length = 44)]
    leaf_hash: String,
    /// When the event happened (RFC 3339, UTC).
    occurred_at: Timestamp,
    /// When the event was recorded (RFC 3339, UTC).
    recorded_at: Timestamp,
    /// Result of the operation.
    result: EventResult,
    /// Actor that performed the operation.
    actor: Actor,
    /// API client that made the request or asserted the actor.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<ClientId>,
    /// Link the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    magic_link_id: Option<LinkId>,
    /// Session the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    /// Consultant the event concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    consultant_id: Option<ConsultantId>,
    /// Profile the consultant acted as (the portal's own id).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    profile_id: Option<String>,
    /// Person whose data the event concerns (the portal's own id).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 128)]
    principal_id: Option<String>,
    /// Persons whose data the event concerns (the portal's own ids), where they are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false, max_items = 100, value_type = Vec<PrincipalId>)]
    principal_ids: Vec<String>,
    /// Why access was granted, or why the operation was performed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    reason: Option<String>,
    /// Support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    ticket: Option<String>,
    /// Visitor's IP address as the portal asserted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    address: Option<String>,
    /// Visitor's `User-Agent` as the portal asserted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    user_agent: Option<String>,
    /// Source within the portal that reported the activity event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    source: Option<String>,
    /// Sequence number of the activity event within its source.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
    /// Whether the activity event was reported after its session had ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    late: bool,
    /// Whether the activity event is a change although the link granted `read_only` access, or occurred after its session
    /// had ended.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    policy_violation: bool,
    /// Whether the activity event's own time lies outside its session, by more than 5 minutes: `recorded_at` counts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    out_of_session: bool,
    /// Trace id of the request that recorded the event (W3C Trace Context, 32 hex digits).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 32)]
    trace_id: Option<String>,
    /// Details that depend on the event type; absent once erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object)]
    data: Option<serde_json::Value>,
    /// Erasure of the event's payload (names, reason, data); absent while the payload is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<Erased>,
}

/// Erasure of event payloads after their retention period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "`erased_at` is its name on the wire")]
pub struct Erased {
    /// When the payload was erased (RFC 3339, UTC).
    pub erased_at: Timestamp,
    /// Actor that erased the payload.
    pub by: Actor,
    /// Why the payload was erased.
    #[schema(max_length = 500)]
    pub reason: String,
}

/// Filters of an audit event list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventFilter {
    /// Only events of this tenant's audit log.
    #[param(value_type = Option<LogId>, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only events of this portal.
    #[param(value_type = Option<PortalId>)]
    pub portal: Option<String>,
    /// Only events of this link.
    pub magic_link_id: Option<LinkId>,
    /// Only events of this session.
    pub session_id: Option<SessionId>,
    /// Only events of this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only events that concern this person's data (the portal's own id), alone or with that of others.
    #[param(value_type = Option<ExternalId>)]
    pub principal_id: Option<String>,
    /// Only events of this type.
    #[serde(rename = "type")]
    #[param(rename = "type")]
    pub kind: Option<EventType>,
    /// `true`: only activity events reported after their session had ended; `false`: only the other events.
    pub late: Option<bool>,
    /// `true`: only changes despite `read_only` access and activity after the session's end; `false`: only the other
    /// events.
    pub policy_violation: Option<bool>,
    /// `true`: only activity events whose own time lies outside their session; `false`: only the other events.
    pub out_of_session: Option<bool>,
    /// Only events that happened at or after this time (RFC 3339).
    pub occurred_from: Option<Timestamp>,
    /// Only events that happened before this time (RFC 3339).
    pub occurred_to: Option<Timestamp>,
    /// Only events that were recorded at or after this time (RFC 3339): when the call began that recorded them. They are seen
    /// once they are committed, so whoever asks at intervals begins each range two minutes before the end of the one before,
    /// and drops by `id` what comes twice.
    pub recorded_from: Option<Timestamp>,
    /// Only events that were recorded before this time (RFC 3339).
    pub recorded_to: Option<Timestamp>,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// A page of audit events within the caller's reach. Reading them is recorded too.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadAudit>,
    mut filter: EventFilter,
    now: Timestamp,
) -> Result<Page<AuditEvent>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked, wanted) = (caller.reach.clone(), page.clone(), filter.clone());
    let (events, log) = cx
        .store
        .read(move |conn| {
            let asked_log = wanted.tenant_id.as_deref().filter(|id| reach.covers_tenant(id)).unwrap_or(SYSTEM_LOG);
            let log = rows::log_of_reading(conn, asked_log)?.to_owned();
            Ok((store::list(conn, &wanted, &reach, &asked)?, log))
        })
        .await?;
    let readings = readings(caller, &filter, &events.rows, &log, now);
    cx.store.record(readings).await?;
    Ok(page.answer(cx.tokens.master_key(), events, |event| event.id.as_str(), |event| event))
}

/// The `audit.read` events: one in each log that events were read from, or else one in the requested log.
fn readings(
    reader: &Caller<ReadAudit>,
    filter: &EventFilter,
    events: &[AuditEvent],
    requested: &str,
    now: Timestamp,
) -> Vec<Event> {
    let mut logs: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        *logs.entry(&event.tenant_id).or_default() += 1;
    }
    if logs.is_empty() {
        logs.insert(requested, 0);
    }
    let reading = Event::new(EventType::AuditRead, reader.actor(None), now).client(reader.client_id.as_ref());
    let of_log = |(log, events)| reading.clone().tenant(log).with(&Reading { filter, events });
    logs.into_iter().map(of_log).collect()
}

/// Data of an `audit.read` event: the filters, and how many events were returned.
#[derive(Serialize)]
struct Reading<'a> {
    #[serde(flatten)]
    filter: &'a EventFilter,
    events: usize,
}
