//! Mails of whatever version, those of a newer one included that runs, or ran, on the same database: what the evidence shows
//! of them, and what providers report.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Timestamp as SqlTimestamp};
use serde::Serialize;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::mail_jobs as jobs;
use crate::domain::{DeliveryState, Template};
use crate::id::{ConsultantId, LinkId, MailJobId};

/// An e-mail about a link in its evidence pack. Its text is not stored.
#[derive(Debug, Clone, Queryable, Serialize)]
pub(crate) struct MailRecord {
    id: MailJobId,
    /// As it stands there: one of ours, or a newer version's.
    template: String,
    state: DeliveryState,
    attempts: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

/// E-mails about a link, notices included, the oldest first.
pub(in crate::mail) fn about_link(conn: &mut Conn, id: &LinkId, limit: i64) -> QueryResult<Vec<MailRecord>> {
    let record = (
        jobs::id,
        jobs::template,
        jobs::state,
        jobs::attempts,
        jobs::provider,
        jobs::provider_message_id,
        jobs::last_error,
        jobs::created_at,
        jobs::finished_at,
    );
    jobs::table.filter(jobs::magic_link_id.eq(id)).order(jobs::id.asc()).limit(limit).select(record).load(conn)
}

/// An e-mail that a provider may report on.
#[derive(Debug, Clone, Queryable)]
pub(in crate::mail) struct Sent {
    pub id: MailJobId,
    template: String,
    pub consultant_id: Option<ConsultantId>,
    pub magic_link_id: Option<LinkId>,
    pub generation: Option<i32>,
    recipient: Option<String>,
    /// Where it went, if it has no recipient of its own.
    went_to: Option<String>,
    pub state: DeliveryState,
    pub retry_round: i32,
    pub provider: Option<String>,
    pub provider_message_id: Option<String>,
    /// Attempts with an unknown outcome, of earlier rounds, too.
    pub unknown_attempts: i32,
}

impl Sent {
    /// Its template; none for one of a newer version, which counts as a notice.
    pub(in crate::mail) fn template(&self) -> Option<Template> {
        self.template.parse().ok()
    }

    /// The address that it was sent to; none where an older version sent it to what was registered for the consultant.
    pub(in crate::mail) fn sent_to(&self) -> Option<&str> {
        self.recipient.as_deref().or(self.went_to.as_deref())
    }
}

macro_rules! sent {
    () => {
        (
            jobs::id,
            jobs::template,
            jobs::consultant_id,
            jobs::magic_link_id,
            jobs::generation,
            jobs::recipient,
            jobs::sent_to,
            jobs::state,
            jobs::retry_round,
            jobs::provider,
            jobs::provider_message_id,
            jobs::unknown_attempts,
        )
    };
}

/// The e-mail regardless of reach: for authenticated reports.
pub(in crate::mail) fn find_sent(conn: &mut Conn, id: &MailJobId) -> QueryResult<Option<Sent>> {
    jobs::table.find(id).select(sent!()).get_result(conn).optional()
}

/// The e-mail with this provider's message id.
pub(in crate::mail) fn find_sent_by_message(
    conn: &mut Conn,
    provider: &str,
    message_id: &str,
) -> QueryResult<Option<Sent>> {
    jobs::table
        .filter(jobs::provider_message_id.eq(message_id))
        .filter(jobs::provider.eq(provider))
        .select(sent!())
        .first(conn)
        .optional()
}

/// Applies a provider's report to a sent e-mail; `false` if it was applied before, or the e-mail was not sent.
///
/// A bounced e-mail never becomes delivered. A delivered one may still bounce, but not fail: what a provider gives up
/// after the delivery is an automatic answer. A failed one may turn out to have bounced for good, or to have arrived: where
/// an attempt had no answer, or where the provider took it and said too early that it had failed. So may one that waits for
/// its next attempt, or was cancelled since; that it failed says nothing of either.
pub(in crate::mail) fn reported(
    conn: &mut Conn,
    id: &MailJobId,
    state: DeliveryState,
    error: &str,
    now: Timestamp,
) -> QueryResult<bool> {
    let mut from = vec![DeliveryState::Sending, DeliveryState::Accepted, DeliveryState::Unknown];
    if state == DeliveryState::Bounced {
        from.extend([DeliveryState::Delivered, DeliveryState::Failed]);
    }
    // What failed is the last attempt. A report that came before the provider's answer says that it left, too.
    let has_left = jobs::unknown_attempts.gt(0).or(jobs::provider_message_id.is_not_null());
    let has_left = has_left.or(jobs::left_at.is_not_null());
    // It was being sent when it was cancelled.
    let was_leaving = jobs::state.eq(DeliveryState::Cancelled).and(jobs::attempts.gt(0));
    let has_left = has_left.or(was_leaving.and(jobs::lease_until.is_not_null()));
    let at_rest = [DeliveryState::Queued, DeliveryState::Cancelled, DeliveryState::Failed];
    let may_have_left = jobs::state.eq_any(at_rest).and(has_left);
    let has_an_end = (state != DeliveryState::Failed).into_sql::<Bool>();
    // It left before that: `finished_at` is when a mail left until the first report comes.
    let left_at = sql::<Nullable<SqlTimestamp>>("coalesce(mail_jobs.left_at, mail_jobs.finished_at, ")
        .bind::<SqlTimestamp, _>(now)
        .sql(")");
    let applied = diesel::update(jobs::table.find(id))
        .filter(jobs::state.eq_any(from).or(may_have_left.and(has_an_end)))
        .set((
            jobs::state.eq(state),
            jobs::finished_at.eq(Some(now)),
            jobs::left_at.eq(left_at),
            jobs::last_error.eq(Some(error).filter(|text| !text.is_empty())),
        ))
        .execute(conn)?;
    Ok(applied > 0)
}
