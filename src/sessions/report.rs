//! Reporting what the consultant viewed, exported and changed.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{MAX_SEQ, REPORTING_TAIL, values};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::text_enum;
use crate::domain::{Access, Actor, AuditState, EventType, Validator, is_source};
use crate::error::{Code, Error};
use crate::http::{Caller, WriteAudit};
use crate::id::{ClientId, SessionId};
use crate::journal::{ActivityRef, Event, activity};
use crate::records;
use crate::records::sessions::Session;
use crate::store::Tx;

/// How far ahead of ours a portal's clock may run.
const SKEW: time::Duration = time::Duration::minutes(5);

text_enum! {
    /// What kind of act it was.
    pub enum ActivityKind {
        /// Something was looked at.
        View = "view",
        /// Something was taken out.
        Export = "export",
        /// Something was changed.
        Change = "change",
    }
}

/// A field that was changed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The field.
    #[schema(min_length = 1, max_length = 128, example = "basic")]
    pub field: String,
    /// Its value before; absent when it had none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000, example = "50000")]
    pub before: Option<String>,
    /// Its value after; absent when it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000, example = "52000")]
    pub after: Option<String>,
}

/// One act of the consultant.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivityEvent {
    /// Its number within the source, from 1 without gaps.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1)]
    pub seq: i64,
    /// Which part of the portal reports it.
    #[serde(default = "portal")]
    #[schema(min_length = 1, max_length = 64, example = "portal")]
    pub source: String,
    /// What kind of act; `change` unless told.
    #[serde(default = "change")]
    pub kind: ActivityKind,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// What was done, in the portal's words.
    #[schema(min_length = 1, max_length = 128, example = "employee.salary.updated")]
    pub action: String,
    /// What kind of thing it was done to.
    #[schema(min_length = 1, max_length = 128, example = "employee")]
    pub resource_type: String,
    /// Which one.
    #[schema(min_length = 1, max_length = 128, example = "emp-9")]
    pub resource_id: String,
    /// The person whose data it is: an opaque id, never an address or a name, for the trail keeps it for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128, example = "emp-9")]
    pub principal_id: Option<String>,
    /// What was changed; only for `change`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100)]
    pub changes: Vec<Change>,
}

fn portal() -> String {
    "portal".to_owned()
}

const fn change() -> ActivityKind {
    ActivityKind::Change
}

/// Acts to report.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": [{
    "seq": 1, "source": "portal", "kind": "change", "occurred_at": "2026-11-22T10:00:00Z",
    "action": "employee.salary.updated", "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
    "changes": [{"field": "basic", "before": "50000", "after": "52000"}]
}]}))]
pub struct ReportEvents {
    /// The events, in any order.
    #[schema(min_items = 1, max_items = 1000)]
    pub events: Vec<ActivityEvent>,
}

/// What became of a report.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reported {
    /// How many events were written down.
    #[schema(minimum = 0, maximum = 1000)]
    pub recorded: i64,
    /// How many were in the trail already.
    #[schema(minimum = 0, maximum = 1000)]
    pub repeated: i64,
    /// Whether anything is missing now.
    pub audit_state: AuditState,
}

/// A report of more events than this shares its transaction with nobody.
const MAX_SHARED_EVENTS: usize = 50;

/// Writes a batch of events down: all of them or none.
///
/// A repeated act is taken again; the same number with other content is refused.
pub(crate) async fn report(
    cx: &Context,
    caller: &Caller<WriteAudit>,
    id: SessionId,
    request: ReportEvents,
    now: Timestamp,
) -> Result<Reported, Error> {
    check(&request.events, now)?;
    let digests = cx.tokens.master_key().digests();
    // Over what was sent, before anything is masked: a repeat is told from another act by this alone.
    let events: Vec<(ActivityEvent, Vec<u8>)> = request
        .events
        .into_iter()
        .map(|act| {
            let text = serde_json::to_string(&act).map_err(Error::internal)?;
            let fingerprint = digests.of("act", &[id.as_str(), &text]);
            Ok((act, fingerprint))
        })
        .collect::<Result<_, Error>>()?;
    let (reach, client_id, client) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    let large = events.len() > MAX_SHARED_EVENTS;
    let work = move |tx: &mut Tx<'_>| {
        let session = records::sessions::lock_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
        if session.end(now).is_some_and(|end| end.plus(REPORTING_TAIL) <= now) {
            return Err(refuse(tx, &session, &client, client_id.as_ref(), Code::ReportingClosed, now));
        }
        let references: Vec<ActivityRef<'_>> = events.iter().map(|(act, _)| reference(act)).collect();
        let earlier = tx.recorded_before();
        let known = activity::known_events(tx, earlier, &id, &references)?;
        let mut fresh = Vec::new();
        for (act, fingerprint) in &events {
            match known.get(&(act.source.clone(), act.seq)) {
                None => fresh.push((act, fingerprint)),
                Some(before) if before == fingerprint => {}
                Some(_) => {
                    return Err(refuse(tx, &session, &client, client_id.as_ref(), Code::EventConflict, now));
                }
            }
        }
        let how = records::tenants::change_values(tx, &session.tenant_id)?;
        for (act, fingerprint) in &fresh {
            let changes = values::kept(&act.changes, how, &session.tenant_id, &digests);
            tx.record(event(&session, act, &changes, client_id.as_ref(), now).fingerprint(fingerprint));
        }
        count(tx, &id, &fresh)?;
        let sources = records::sessions::sources(tx, std::slice::from_ref(&id))?;
        let recorded = i64::try_from(fresh.len()).map_err(Error::internal)?;
        let all = i64::try_from(events.len()).map_err(Error::internal)?;
        Ok(Reported { recorded, repeated: all - recorded, audit_state: session.audit_state(&sources, now) })
    };
    if large { cx.store.write_large(work).await } else { cx.store.write(work).await }
}

fn reference(act: &ActivityEvent) -> ActivityRef<'_> {
    ActivityRef { source: &act.source, seq: act.seq }
}

fn refuse(
    tx: &mut Tx<'_>,
    session: &Session,
    client: &Actor,
    client_id: Option<&ClientId>,
    code: Code,
    now: Timestamp,
) -> Error {
    let event = Event::new(EventType::SessionRefused, client.clone(), now).client(client_id).session(session);
    tx.refuse(code, event.with(&serde_json::json!({ "code": code.slug() })))
}

/// What the trail keeps of an act, beside what every event has.
#[derive(Serialize)]
struct ActivityData<'a> {
    action: &'a str,
    resource_type: &'a str,
    resource_id: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changes: &'a [Change],
}

fn event(
    session: &Session,
    act: &ActivityEvent,
    changes: &[Change],
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Event {
    let kind = match act.kind {
        ActivityKind::View => EventType::DataViewed,
        ActivityKind::Export => EventType::DataExported,
        ActivityKind::Change => EventType::DataChanged,
    };
    let recorded =
        ActivityData { action: &act.action, resource_type: &act.resource_type, resource_id: &act.resource_id, changes };
    Event::new(kind, Actor::consultant(&session.consultant_id), now)
        .client(client_id)
        .session(session)
        .act(reference(act), act.occurred_at, act.principal_id.as_deref())
        .late(session.end(now).is_some())
        .policy_violation(act.kind == ActivityKind::Change && session.access == Access::ReadOnly)
        .with(&recorded)
}

/// Adds the fresh events to the counts of their sources.
fn count(tx: &mut Tx<'_>, session: &SessionId, fresh: &[(&ActivityEvent, &Vec<u8>)]) -> Result<(), Error> {
    let mut by_source: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for (act, _) in fresh {
        let (number, last_seq) = by_source.entry(&act.source).or_default();
        *number += 1;
        *last_seq = act.seq.max(*last_seq);
    }
    for (source, (number, last_seq)) in by_source {
        records::sessions::ensure_source(tx, session, source)?;
        records::sessions::count_events(tx, session, source, number, last_seq)?;
    }
    Ok(())
}

fn check(events: &[ActivityEvent], now: Timestamp) -> Result<(), Error> {
    let mut fields = Validator::default();
    if events.is_empty() || events.len() > 1_000 {
        fields.error("/events", "out_of_range", "must hold 1 to 1000 events");
    }
    let mut seen = HashSet::new();
    for (index, act) in events.iter().enumerate() {
        let at = |field: &str| format!("/events/{index}/{field}");
        if !(1..=MAX_SEQ).contains(&act.seq) {
            fields.error(at("seq"), "out_of_range", format_args!("must be 1 to {MAX_SEQ}"));
        }
        if !is_source(&act.source) {
            fields.error(at("source"), "malformed", "has 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if !seen.insert((&act.source, act.seq)) {
            fields.error(at("seq"), "duplicate", "stands twice in this batch");
        }
        if act.occurred_at > now.plus(SKEW) {
            fields.error(at("occurred_at"), "in_the_future", "must not lie in the future");
        }
        fields.text(&at("action"), &act.action, 1, 128);
        fields.text(&at("resource_type"), &act.resource_type, 1, 128);
        fields.text(&at("resource_id"), &act.resource_id, 1, 128);
        if let Some(principal) = &act.principal_id {
            fields.external_id(&at("principal_id"), principal);
        }
        if act.kind != ActivityKind::Change && !act.changes.is_empty() {
            fields.error(at("changes"), "not_allowed", "belongs to a change only");
        }
        if act.changes.len() > 100 {
            fields.error(at("changes"), "out_of_range", "must hold at most 100 fields");
        }
        for (number, change) in act.changes.iter().enumerate() {
            fields.text(&at(&format!("changes/{number}/field")), &change.field, 1, 128);
            let longest =
                [&change.before, &change.after].into_iter().flatten().map(|value| value.chars().count()).max();
            if longest.is_some_and(|length| length > 4_000) {
                fields.error(at(&format!("changes/{number}")), "too_long", "values have at most 4000 characters");
            }
        }
    }
    fields.finish()
}
