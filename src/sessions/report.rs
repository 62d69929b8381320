//! Reporting what the consultant viewed, exported and changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::violations::Violations;
use super::{MAX_EVENTS, MAX_SEQ, MAX_SOURCES, REPORTING_TAIL, values};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{ActivityKind, Actor, AuditState, EventType, Forbidden, Validator, is_source};
use crate::error::{Code, Error};
use crate::http::{Caller, WriteAudit};
use crate::id::{ClientId, SessionId};
use crate::journal::{ActivityRef, Event, activity};
use crate::records;
use crate::records::sessions::{Session, Source};
use crate::store::Tx;

/// How far a portal's clock may differ from this service's clock.
const SKEW: time::Duration = time::Duration::minutes(5);

/// Changed field, with its values before and after.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// Name of the changed field, as the portal defines it.
    #[schema(min_length = 1, max_length = 128, example = "basic")]
    pub field: String,
    /// Value before the change; absent if the field had none. Stored as the tenant's `change_values` states.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000, example = "50000")]
    pub before: Option<String>,
    /// Value after the change; absent if the value was removed. Stored as the tenant's `change_values` states.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000, example = "52000")]
    pub after: Option<String>,
}

/// Activity event: one thing the consultant viewed, exported or changed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActivityEvent {
    /// Sequence number of the event within its source, from 1 without gaps.
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1)]
    pub seq: i64,
    /// Part of the portal that reports the event: letters, digits, dots, dashes and underscores; default `portal`.
    #[serde(default = "portal")]
    #[schema(min_length = 1, max_length = 64, default = "portal", example = "portal")]
    pub source: String,
    /// Kind of the event; default `change`.
    #[serde(default = "change")]
    #[schema(default = "change")]
    pub kind: ActivityKind,
    /// When the event occurred, by the portal's clock (RFC 3339). No time is refused: one outside the session is marked
    /// `out_of_session`.
    pub occurred_at: Timestamp,
    /// Action of the consultant, as the portal names it.
    #[schema(min_length = 1, max_length = 128, example = "employee.salary.updated")]
    pub action: String,
    /// Type of the resource the action applied to, as the portal names it.
    #[schema(min_length = 1, max_length = 128, example = "employee")]
    pub resource_type: String,
    /// Portal's identifier of the resource.
    #[schema(min_length = 1, max_length = 128, example = "emp-9")]
    pub resource_id: String,
    /// Portal's identifier of the person whose data it is: an opaque identifier, never an address or a name, because
    /// the audit log keeps it for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128, example = "emp-9")]
    pub principal_id: Option<String>,
    /// Portal's identifiers of all the persons whose data it is, where they are several, such as those in a list that
    /// was exported; instead of `principal_id`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100, value_type = Vec<PrincipalId>, default = json!([]))]
    pub principal_ids: Vec<String>,
    /// What was done, in the words of a link's `forbidden`, if it is one of these. Where the link forbids it the event is
    /// marked `policy_violation`, and so is one of kind `export` where that is forbidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<Forbidden>,
    /// Changed fields; only for events of kind `change`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100, default = json!([]))]
    pub changes: Vec<Change>,
}

/// Portal's identifier of a person whose data was accessed.
#[derive(ToSchema)]
#[schema(min_length = 1, max_length = 128, example = "emp-9")]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct PrincipalId(String);

fn portal() -> String {
    "portal".to_owned()
}

const fn change() -> ActivityKind {
    ActivityKind::Change
}

/// Activity events to report.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": [{
    "seq": 1, "source": "portal", "kind": "change", "occurred_at": "2026-11-22T10:00:00Z",
    "action": "employee.salary.updated", "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
    "changes": [{"field": "basic", "before": "50000", "after": "52000"}]
}]}))]
pub struct ReportEvents {
    /// Activity events, in any order; each has at most 65,536 bytes of JSON, and all of them name at most 5,000 persons
    /// in their `principal_ids`. A session takes 100,000 of at most 100 sources.
    #[schema(min_items = 1, max_items = 1000)]
    pub events: Vec<ActivityEvent>,
}

/// Result of a report.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Reported {
    /// Number of events recorded by this request.
    #[schema(minimum = 0, maximum = 1000)]
    pub recorded: i64,
    /// Number of events that were in the audit log already.
    #[schema(minimum = 0, maximum = 1000)]
    pub repeated: i64,
    /// Completeness of the session's activity reports after this request.
    pub audit_state: AuditState,
}

/// Largest activity event, as JSON without white space.
const MAX_EVENT_BYTES: usize = 65_536;

/// Largest number of persons whose data one event concerns.
const MAX_PRINCIPALS: usize = 100;

/// Largest number of persons that the events of one report concern, each counted at each event: each is a row.
const MAX_PRINCIPALS_A_REPORT: usize = 5_000;

/// Largest report that shares its transaction with other write jobs, in events and in persons.
const MAX_SHARED_EVENTS: usize = 50;
const MAX_SHARED_PRINCIPALS: usize = 200;

/// Records a batch of activity events: all of them or none.
///
/// Repeated events are accepted and not recorded again; a sequence number with other content is refused.
pub(crate) async fn report(
    cx: &Context,
    caller: &Caller<WriteAudit>,
    id: SessionId,
    request: ReportEvents,
    now: Timestamp,
) -> Result<Reported, Error> {
    check(&request.events)?;
    let digests = cx.tokens.master_key().digests();
    // Computed over the request, before values are masked: it alone distinguishes a repeat from a conflict.
    let events: Vec<(ActivityEvent, Vec<u8>)> = request
        .events
        .into_iter()
        .enumerate()
        .map(|(index, act)| {
            let text = serde_json::to_string(&act).map_err(Error::internal)?;
            if text.len() > MAX_EVENT_BYTES {
                let mut fields = Validator::default();
                let detail = format_args!("must have at most {MAX_EVENT_BYTES} bytes");
                fields.error(format!("/events/{index}"), "too_long", detail);
                fields.finish()?;
            }
            let fingerprint = digests.of("act", &[id.as_str(), &text]);
            Ok((act, fingerprint))
        })
        .collect::<Result<_, Error>>()?;
    let (reach, client_id, client) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    let persons: usize = events.iter().map(|(act, _)| act.principal_ids.len()).sum();
    let large = events.len() > MAX_SHARED_EVENTS || persons > MAX_SHARED_PRINCIPALS;
    let work = move |tx: &mut Tx<'_>| {
        let locked = records::sessions::lock_within(tx, &id, &reach)?;
        let (session, how) = locked.ok_or_else(Error::not_found)?;
        if session.end(now).is_some_and(|end| end.plus(REPORTING_TAIL) <= now) {
            return Err(refuse(tx, &session, &client, client_id.as_ref(), Code::ReportingClosed, now));
        }
        let mut sources = records::sessions::sources_of(tx, &id)?;
        let last: HashMap<&str, i64> = sources.iter().map(|source| (source.name.as_str(), source.last_seq)).collect();
        // What lies beyond the last number of its source cannot be known yet.
        let seen = events.iter().map(|(act, _)| reference(act));
        let references: Vec<ActivityRef<'_>> =
            seen.filter(|act| last.get(act.source).is_some_and(|last| act.seq <= *last)).collect();
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
        let mut violations = Violations::default();
        for (act, fingerprint) in &fresh {
            let changes = values::kept(&act.changes, how, &session.tenant_id, &digests);
            let event = event(&session, act, &changes, &mut violations, client_id.as_ref(), now);
            tx.record(event.fingerprint(fingerprint));
        }
        let known_names: HashSet<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let new_names: HashSet<&str> =
            fresh.iter().map(|(act, _)| act.source.as_str()).filter(|name| !known_names.contains(name)).collect();
        let too_many_sources = !new_names.is_empty() && known_names.len() + new_names.len() > MAX_SOURCES;
        let recorded = i64::try_from(fresh.len()).map_err(Error::internal)?;
        let before: i64 = sources.iter().map(|source| source.event_count).sum();
        if too_many_sources || before + recorded > MAX_EVENTS {
            return Err(refuse(tx, &session, &client, client_id.as_ref(), Code::ReportLimitReached, now));
        }
        count(tx, &session, &fresh, &mut sources, now)?;
        violations.tell(tx, &session, client_id.as_ref(), now)?;
        let all = i64::try_from(events.len()).map_err(Error::internal)?;
        Ok(Reported { recorded, repeated: all - recorded, audit_state: session.audit_state(&sources, now) })
    };
    if large { cx.store.write_large(work).await } else { cx.store.write(work).await }
}

fn reference(act: &ActivityEvent) -> ActivityRef<'_> {
    ActivityRef { source: &act.source, seq: act.seq }
}

pub(super) fn refuse(
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

/// The data of an activity event in the audit log, in addition to the members of every event.
#[derive(Serialize)]
struct ActivityData<'a> {
    action: &'a str,
    resource_type: &'a str,
    resource_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<Forbidden>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    changes: &'a [Change],
}

fn event(
    session: &Session,
    act: &ActivityEvent,
    changes: &[Change],
    violations: &mut Violations,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Event {
    let kind = match act.kind {
        ActivityKind::View => EventType::DataViewed,
        ActivityKind::Export => EventType::DataExported,
        ActivityKind::Change => EventType::DataChanged,
    };
    let recorded = ActivityData {
        action: &act.action,
        resource_type: &act.resource_type,
        resource_id: &act.resource_id,
        category: act.category,
        changes,
    };
    let ends_at = session.end(now).unwrap_or(session.expires_at);
    let is_after = act.occurred_at > ends_at.plus(SKEW);
    let is_outside = is_after || is_before(session, act) || act.occurred_at > now.plus(SKEW);
    Event::new(kind, Actor::consultant(&session.consultant_id), now)
        .client(client_id)
        .session(session)
        .act(reference(act), act.occurred_at, principals(act))
        .late(session.end(now).is_some())
        .out_of_session(is_outside)
        .policy_violation(violations.judge(session, act.kind, act.category, is_after))
        .with(&recorded)
}

/// Whether an act's own time lies before the session.
fn is_before(session: &Session, act: &ActivityEvent) -> bool {
    act.occurred_at < session.started_at.minus(SKEW)
}

/// The persons whose data it is, each once.
fn principals(act: &ActivityEvent) -> BTreeSet<&str> {
    act.principal_id.iter().chain(&act.principal_ids).map(String::as_str).collect()
}

/// Adds the new events to the counts of their sources.
fn count(
    tx: &mut Tx<'_>,
    session: &Session,
    fresh: &[(&ActivityEvent, &Vec<u8>)],
    sources: &mut Vec<Source>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut by_source: BTreeMap<&str, (i64, i64, Option<Timestamp>)> = BTreeMap::new();
    for (act, _) in fresh {
        let (number, last_seq, last_event_at) = by_source.entry(&act.source).or_default();
        *number += 1;
        *last_seq = act.seq.max(*last_seq);
        // It has happened, and in this session, whatever the portal's clock says.
        let at = if is_before(session, act) { now } else { act.occurred_at.min(now) };
        *last_event_at = Some(at).max(*last_event_at);
    }
    for (name, (number, last_seq, last_event_at)) in by_source {
        if let Some(source) = sources.iter_mut().find(|source| source.name == name) {
            source.event_count += number;
            source.last_seq = last_seq.max(source.last_seq);
            source.last_event_at = last_event_at.max(source.last_event_at);
            records::sessions::count_events(tx, source)?;
        } else {
            let source = Source { event_count: number, last_seq, last_event_at, ..Source::new(&session.id, name) };
            records::sessions::insert_source(tx, &source)?;
            sources.push(source);
        }
    }
    Ok(())
}

fn check(events: &[ActivityEvent]) -> Result<(), Error> {
    let mut fields = Validator::default();
    if events.is_empty() || events.len() > 1_000 {
        fields.error("/events", "out_of_range", "must hold 1 to 1000 events");
    }
    if events.iter().map(|act| act.principal_ids.len()).sum::<usize>() > MAX_PRINCIPALS_A_REPORT {
        let detail = format_args!("must name at most {MAX_PRINCIPALS_A_REPORT} persons in their lists, all together");
        fields.error("/events", "out_of_range", detail);
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
            fields.error(at("seq"), "duplicate", "appears twice in this batch");
        }
        fields.text(&at("action"), &act.action, 1, 128);
        fields.text(&at("resource_type"), &act.resource_type, 1, 128);
        fields.text(&at("resource_id"), &act.resource_id, 1, 128);
        if let Some(principal) = &act.principal_id {
            fields.external_id(&at("principal_id"), principal);
            if !act.principal_ids.is_empty() {
                fields.error(at("principal_ids"), "not_allowed", "is given instead of principal_id");
            }
        }
        if act.principal_ids.len() > MAX_PRINCIPALS {
            let detail = format_args!("must hold at most {MAX_PRINCIPALS} persons");
            fields.error(at("principal_ids"), "out_of_range", detail);
        }
        for (number, principal) in act.principal_ids.iter().enumerate() {
            fields.external_id(&at(&format!("principal_ids/{number}")), principal);
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
