//! Messages at rest.

use diesel::dsl::{exists, not};
use diesel::prelude::*;
use diesel::sql_types::Bool;

use crate::clock::{Timestamp, lies_in};
use crate::db::schema::{clients, webhook_deliveries as deliveries, webhook_endpoints as endpoints};
use crate::db::{Conn, insert_all};
use crate::domain::{PageRequest, WebhookEvent};
use crate::id::{EndpointId, EventId, LinkId, MessageId};
use crate::records::restores::no_restore_runs;
use crate::telemetry::TraceContext;
use crate::webhooks::{LONGEST_ASKED, MessageState, message};

use super::endpoints::is_free;
use super::queue::{QueuedEvent, forget_queued, waiting};

diesel::alias!(deliveries as earlier: Earlier);

/// A stored message.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = deliveries, treat_none_as_default_value = false)]
pub(in crate::webhooks) struct Delivery {
    pub id: MessageId,
    pub endpoint_id: EndpointId,
    /// The audit event; absent for a test.
    pub event_id: Option<EventId>,
    pub event_type: String,
    pub magic_link_id: Option<LinkId>,
    /// The event's index in its tenant's log, which is the order of commits.
    pub log_index: i64,
    /// Event data as JSON.
    pub data: String,
    pub state: MessageState,
    pub attempts: i32,
    pub next_attempt_at: Timestamp,
    pub lease_until: Option<Timestamp>,
    pub last_attempt_at: Option<Timestamp>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// The place in the trace of the act that it tells of.
    pub traceparent: Option<String>,
}

impl Delivery {
    /// A message about an event, due at once.
    pub(in crate::webhooks) fn about(event: &QueuedEvent, endpoint_id: &EndpointId) -> Self {
        Self {
            event_id: Some(event.event_id.clone()),
            event_type: event.event_type.clone(),
            magic_link_id: event.magic_link_id.clone(),
            log_index: event.log_index,
            traceparent: event.traceparent.clone(),
            ..Self::test(endpoint_id, event.data.clone(), event.recorded_at)
        }
    }

    /// A test message, due at once. It waits for no other.
    pub(in crate::webhooks) fn test(endpoint_id: &EndpointId, data: String, now: Timestamp) -> Self {
        Self {
            id: MessageId::new(now),
            endpoint_id: endpoint_id.clone(),
            event_id: None,
            event_type: message::TEST.to_owned(),
            magic_link_id: None,
            log_index: 0,
            data,
            state: MessageState::Queued,
            attempts: 0,
            next_attempt_at: now,
            lease_until: None,
            last_attempt_at: None,
            last_error: None,
            created_at: now,
            finished_at: None,
            traceparent: TraceContext::current().and_then(|trace| trace.traceparent()),
        }
    }
}

pub(in crate::webhooks) fn insert_deliveries(conn: &mut Conn, rows: &[Delivery]) -> QueryResult<()> {
    insert_all!(conn, deliveries::table, rows)
}

/// Number of test messages to an endpoint that are not settled.
pub(in crate::webhooks) fn waiting_tests(conn: &mut Conn, endpoint: &EndpointId) -> QueryResult<i64> {
    deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoint))
        .filter(deliveries::event_id.is_null())
        .filter(deliveries::finished_at.is_null())
        .count()
        .get_result(conn)
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Earlier messages about the same link to the same endpoint that are not settled.
macro_rules! unsettled_before {
    () => {
        earlier
            .filter(earlier.field(deliveries::endpoint_id).eq(deliveries::endpoint_id))
            .filter(earlier.field(deliveries::magic_link_id).eq(deliveries::magic_link_id))
            .filter(earlier.field(deliveries::log_index).lt(deliveries::log_index))
            .filter(earlier.field(deliveries::finished_at).is_null())
    };
}

/// Event types whose messages overtake: what ends an access shall be known at once. Each waits for the first attempt of
/// those before it, so that they arrive in order where all goes well.
const OVERTAKING: [WebhookEvent; 3] =
    [WebhookEvent::LinkRevoked, WebhookEvent::LinkReplaced, WebhookEvent::SessionEnded];

pub(super) fn overtaking() -> [&'static str; 3] {
    OVERTAKING.map(WebhookEvent::as_str)
}

/// Whether messages of a type overtake.
pub(in crate::webhooks) fn overtakes(event_type: &str) -> bool {
    overtaking().contains(&event_type)
}

/// Whether a message may be posted though its receiver may have asked for time.
macro_rules! may_be_posted {
    ($now:expr) => {
        deliveries::event_type
            .eq_any(overtaking())
            .or(exists(endpoints::table.filter(endpoints::id.eq(deliveries::endpoint_id)).filter(is_free!($now))))
    };
}

/// Whether a message waits for an earlier one.
macro_rules! waits {
    () => {
        exists(unsettled_before!()).and(
            deliveries::event_type.ne_all(overtaking()).or(exists(
                unsettled_before!()
                    .filter(earlier.field(deliveries::event_type).eq_any(overtaking()))
                    .filter(earlier.field(deliveries::last_error).is_null()),
            )),
        )
    };
}

/// Messages to an endpoint that are due, not leased, and wait for no other; oldest first.
pub(in crate::webhooks) fn due(
    conn: &mut Conn,
    endpoint: &EndpointId,
    limit: i64,
    now: Timestamp,
) -> QueryResult<Vec<MessageId>> {
    deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoint))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::next_attempt_at.le(now))
        .filter(deliveries::lease_until.is_null().or(deliveries::lease_until.le(now).assume_not_null()))
        .filter(not(waits!()))
        .filter(may_be_posted!(now))
        .order(deliveries::id.asc())
        .limit(limit)
        .select(deliveries::id)
        .load(conn)
}

/// Postpones an endpoint's due messages that wait for earlier ones; settling those makes them due again.
///
/// Without it they would be polled again and again.
pub(in crate::webhooks) fn postpone(
    conn: &mut Conn,
    endpoint: &EndpointId,
    until: Timestamp,
    now: Timestamp,
) -> QueryResult<usize> {
    let waiting: Vec<MessageId> = deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoint))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::next_attempt_at.le(now))
        .filter(waits!())
        .order(deliveries::id.asc())
        .limit(500)
        .select(deliveries::id)
        .load(conn)?;
    if waiting.is_empty() {
        return Ok(0);
    }
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(&waiting))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::lease_until.is_null())
        .set(deliveries::next_attempt_at.eq(until))
        .execute(conn)
}

/// Leases a due message; `None` if it is leased already.
///
/// [`due`] has checked that no earlier message is unsettled. Only one that a person sends again can be since then, and
/// the receiver sees by its sequence that it is older.
pub(in crate::webhooks) fn claim(
    conn: &mut Conn,
    id: &MessageId,
    lease_until: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<Delivery>> {
    diesel::update(deliveries::table.find(id))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::next_attempt_at.le(now))
        .filter(deliveries::lease_until.is_null().or(deliveries::lease_until.le(now).assume_not_null()))
        .filter(no_restore_runs())
        .filter(may_be_posted!(now))
        .set((
            deliveries::lease_until.eq(Some(lease_until)),
            deliveries::attempts.eq(deliveries::attempts + 1),
            deliveries::last_attempt_at.eq(Some(now)),
        ))
        .returning(deliveries::all_columns)
        .get_result(conn)
        .optional()
}

/// Outcome of an attempt.
#[derive(Debug, Clone)]
pub(in crate::webhooks) enum Attempt {
    Delivered,
    Again { at: Timestamp, error: String },
    Failed { error: String },
    Cancelled { why: &'static str },
}

/// Stores the outcome of an attempt; `false` if the lease was lost or the message cancelled meanwhile: then only that it
/// was delivered is stored. Makes the messages that waited due: those
/// that have to wait on are postponed again.
pub(in crate::webhooks) fn settle(
    conn: &mut Conn,
    delivery: &Delivery,
    attempt: &Attempt,
    now: Timestamp,
) -> QueryResult<bool> {
    let is_delivered = matches!(attempt, Attempt::Delivered).into_sql::<Bool>();
    let cancelled = deliveries::state.eq(MessageState::Cancelled);
    let mine = diesel::update(deliveries::table.find(&delivery.id))
        .filter(deliveries::lease_until.eq(delivery.lease_until))
        .filter(deliveries::finished_at.is_null().or(cancelled.and(is_delivered)));
    let (state, next, error) = match attempt {
        Attempt::Again { at, error } => (MessageState::Queued, *at, Some(error.as_str())),
        Attempt::Delivered => (MessageState::Delivered, delivery.next_attempt_at, None),
        Attempt::Failed { error } => (MessageState::Failed, delivery.next_attempt_at, Some(error.as_str())),
        Attempt::Cancelled { why } => (MessageState::Cancelled, delivery.next_attempt_at, Some(*why)),
    };
    let rows = mine
        .set((
            deliveries::state.eq(state),
            deliveries::lease_until.eq(None::<Timestamp>),
            deliveries::next_attempt_at.eq(next),
            deliveries::finished_at.eq((state != MessageState::Queued).then_some(now)),
            deliveries::last_error.eq(error),
        ))
        .execute(conn)?;
    if rows == 0 {
        return Ok(false);
    }
    diesel::update(deliveries::table)
        .filter(deliveries::endpoint_id.eq(&delivery.endpoint_id))
        .filter(deliveries::magic_link_id.eq(&delivery.magic_link_id))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::attempts.eq(0))
        .filter(deliveries::next_attempt_at.gt(now))
        .set(deliveries::next_attempt_at.eq(now))
        .execute(conn)?;
    Ok(true)
}

/// Unsettled messages that are put off for longer than any is, or leased, and those that were queued or tried in what is now
/// the future: by a clock that was ahead, and has been set right since.
pub(in crate::webhooks) fn put_off(
    conn: &mut Conn,
    (now, lease, attempt): (Timestamp, Timestamp, Timestamp),
    limit: usize,
) -> QueryResult<Vec<MessageId>> {
    let was_ahead = deliveries::created_at.gt(now).or(deliveries::last_attempt_at.gt(now).assume_not_null());
    deliveries::table
        .filter(deliveries::finished_at.is_null())
        .filter(
            deliveries::next_attempt_at
                .gt(attempt)
                .or(deliveries::lease_until.gt(lease).assume_not_null())
                .or(was_ahead.and(deliveries::next_attempt_at.gt(now))),
        )
        .order(deliveries::id.asc())
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)
}

/// Makes unsettled messages due, unless they were leased since by a clock that is right, and lets go of their endpoints.
pub(in crate::webhooks) fn make_due(
    conn: &mut Conn,
    ids: &[MessageId],
    (now, lease): (Timestamp, Timestamp),
) -> QueryResult<usize> {
    let theirs = deliveries::table.filter(deliveries::id.eq_any(ids)).select(deliveries::endpoint_id);
    diesel::update(endpoints::table.filter(endpoints::id.eq_any(theirs)))
        .filter(endpoints::held_until.is_not_null())
        .set(endpoints::held_until.eq(None::<Timestamp>))
        .execute(conn)?;
    let is_free = deliveries::lease_until.le(now).or(deliveries::lease_until.gt(lease));
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(ids))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::lease_until.is_null().or(is_free.assume_not_null()))
        .set((deliveries::next_attempt_at.eq(now), deliveries::lease_until.eq(None::<Timestamp>)))
        .execute(conn)
}

/// Queues messages again that were given up or cancelled, one or the oldest; returns how many.
pub(in crate::webhooks) fn retry(
    conn: &mut Conn,
    endpoint: &EndpointId,
    only: Option<&MessageId>,
    limit: usize,
    now: Timestamp,
) -> QueryResult<usize> {
    let given_up = [MessageState::Failed, MessageState::Cancelled];
    let mut found = deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoint))
        .filter(deliveries::state.eq_any(given_up))
        .into_boxed::<crate::db::Backend>();
    if let Some(id) = only {
        found = found.filter(deliveries::id.eq(id));
    }
    let ids: Vec<MessageId> = found.order(deliveries::id.asc()).limit(rows(limit)).select(deliveries::id).load(conn)?;
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(&ids))
        .filter(deliveries::state.eq_any(given_up))
        .set((
            deliveries::state.eq(MessageState::Queued),
            deliveries::attempts.eq(0),
            deliveries::next_attempt_at.eq(now),
            deliveries::lease_until.eq(None::<Timestamp>),
            deliveries::finished_at.eq(None::<Timestamp>),
        ))
        .execute(conn)
}

/// Messages to an endpoint, newest first.
pub(in crate::webhooks) fn list_deliveries(
    conn: &mut Conn,
    endpoint: &EndpointId,
    page: &PageRequest,
) -> QueryResult<Vec<Delivery>> {
    let mut query = deliveries::table.filter(deliveries::endpoint_id.eq(endpoint)).into_boxed::<crate::db::Backend>();
    if let Some(after) = &page.after {
        query = query.filter(deliveries::id.lt(after));
    }
    query.order(deliveries::id.desc()).limit(page.limit).load(conn)
}

/// Number of unsettled messages, and of events whose messages are not all written.
pub(crate) fn unfinished(conn: &mut Conn) -> QueryResult<(i64, Option<Timestamp>)> {
    let open = deliveries::table.filter(deliveries::finished_at.is_null());
    let messages: i64 = open.count().get_result(conn)?;
    let oldest = open.order(deliveries::id.asc()).select(deliveries::created_at).first(conn).optional()?;
    Ok((messages + waiting(conn)?, oldest))
}

/// Cancels messages of endpoints that are disabled, or whose client is; returns how many.
pub(in crate::webhooks) fn cancel_closed(conn: &mut Conn, limit: usize, now: Timestamp) -> QueryResult<usize> {
    let closed: Vec<EndpointId> = endpoints::table
        .inner_join(clients::table.on(clients::id.eq(endpoints::client_id)))
        .filter(endpoints::disabled_at.is_not_null().or(clients::disabled_at.is_not_null()))
        .filter(exists(
            deliveries::table
                .filter(deliveries::endpoint_id.eq(endpoints::id))
                .filter(deliveries::finished_at.is_null()),
        ))
        .limit(rows(limit))
        .select(endpoints::id)
        .load(conn)?;
    if closed.is_empty() {
        return Ok(0);
    }
    let waiting: Vec<MessageId> = deliveries::table
        .filter(deliveries::endpoint_id.eq_any(&closed))
        .filter(deliveries::finished_at.is_null())
        .filter(deliveries::lease_until.is_null().or(deliveries::lease_until.le(now).assume_not_null()))
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)?;
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(&waiting))
        .filter(deliveries::finished_at.is_null())
        .set((deliveries::state.eq(MessageState::Cancelled), deliveries::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels messages to an endpoint that are not settled; returns how many. One that is under way keeps its lease, by which
/// [`settle`] knows it.
pub(in crate::webhooks) fn cancel_of(
    conn: &mut Conn,
    endpoint: &EndpointId,
    limit: usize,
    now: Timestamp,
) -> QueryResult<usize> {
    let unsettled: Vec<MessageId> = deliveries::table
        .filter(deliveries::endpoint_id.eq(endpoint))
        .filter(deliveries::finished_at.is_null())
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)?;
    diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(&unsettled))
        .filter(deliveries::finished_at.is_null())
        .set((deliveries::state.eq(MessageState::Cancelled), deliveries::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels messages that are not settled, and events that have none yet; returns how many.
pub(in crate::webhooks) fn cancel_queued(conn: &mut Conn, limit: usize, now: Timestamp) -> QueryResult<usize> {
    let events = forget_queued(conn, rows(limit))?;
    let queued: Vec<MessageId> = deliveries::table
        .filter(deliveries::finished_at.is_null())
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)?;
    let messages = diesel::update(deliveries::table)
        .filter(deliveries::id.eq_any(&queued))
        .filter(deliveries::finished_at.is_null())
        .set((deliveries::state.eq(MessageState::Cancelled), deliveries::finished_at.eq(Some(now))))
        .execute(conn)?;
    Ok(events + messages)
}

/// Deletes messages that were settled before a time; returns how many.
pub(in crate::webhooks) fn forget_finished(conn: &mut Conn, limit: usize, before: Timestamp) -> QueryResult<usize> {
    let old: Vec<MessageId> = deliveries::table
        .filter(deliveries::finished_at.le(before))
        .order(deliveries::finished_at.asc())
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)?;
    diesel::delete(deliveries::table.filter(deliveries::id.eq_any(&old))).execute(conn)
}

/// Deletes messages of deleted endpoints; returns how many.
pub(in crate::webhooks) fn forget_of_deleted(conn: &mut Conn, limit: usize) -> QueryResult<usize> {
    let deleted = endpoints::table.filter(endpoints::deleted_at.is_not_null()).select(endpoints::id);
    let theirs: Vec<MessageId> = deliveries::table
        .filter(deliveries::endpoint_id.eq_any(deleted))
        .limit(rows(limit))
        .select(deliveries::id)
        .load(conn)?;
    diesel::delete(deliveries::table.filter(deliveries::id.eq_any(&theirs))).execute(conn)
}
