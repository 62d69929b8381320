//! Mail jobs at rest. A job is claimed by a guarded UPDATE with a lease.

use diesel::dsl::{exists, not};
use diesel::prelude::*;

use super::{DeliveryState, Template};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{magic_links as links, mail_jobs as jobs};
use crate::id::{ConsultantId, LinkId, MailJobId};

/// A mail job as it is stored.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = jobs)]
pub(super) struct Job {
    pub id: MailJobId,
    pub template: Template,
    pub consultant_id: ConsultantId,
    pub magic_link_id: Option<LinkId>,
    pub generation: Option<i32>,
    pub recipient: Option<String>,
    pub state: DeliveryState,
    pub attempts: i32,
    pub next_attempt_at: Timestamp,
    pub lease_until: Option<Timestamp>,
    pub provider: Option<String>,
    pub provider_message_id: Option<String>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// The key that signs the token of this attempt.
    pub kid: Option<String>,
}

impl Job {
    /// A job that is due at once.
    pub(super) const fn new(id: MailJobId, template: Template, consultant_id: ConsultantId, now: Timestamp) -> Self {
        Self {
            id,
            template,
            consultant_id,
            magic_link_id: None,
            generation: None,
            recipient: None,
            state: DeliveryState::Queued,
            attempts: 0,
            next_attempt_at: now,
            lease_until: None,
            provider: None,
            provider_message_id: None,
            last_error: None,
            created_at: now,
            finished_at: None,
            kid: None,
        }
    }
}

pub(super) fn insert(conn: &mut Conn, job: &Job) -> QueryResult<()> {
    diesel::insert_into(jobs::table).values(job).execute(conn).map(drop)
}

/// The links whose present generation may still be mailed.
macro_rules! mailable_link {
    ($now:expr) => {
        links::table
            .filter(links::id.nullable().eq(jobs::magic_link_id))
            .filter(links::generation.nullable().eq(jobs::generation))
            .filter(links::revoked_at.is_null())
            .filter(links::expires_at.gt($now))
    };
}

/// Jobs that are due and not leased, the oldest first.
pub(super) fn due(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<MailJobId>> {
    jobs::table
        .filter(jobs::finished_at.is_null())
        .filter(jobs::next_attempt_at.le(now))
        .filter(jobs::lease_until.is_null().or(jobs::lease_until.le(now).assume_not_null()))
        .order((jobs::next_attempt_at.asc(), jobs::id.asc()))
        .limit(limit)
        .select(jobs::id)
        .load(conn)
}

/// Leases a due job; `None` if somebody else has it, or its link may not be mailed any more.
pub(super) fn claim(
    conn: &mut Conn,
    id: &MailJobId,
    kid: &str,
    lease_until: Timestamp,
    now: Timestamp,
) -> QueryResult<Option<Job>> {
    diesel::update(jobs::table.find(id))
        .filter(jobs::finished_at.is_null())
        .filter(jobs::next_attempt_at.le(now))
        .filter(jobs::lease_until.is_null().or(jobs::lease_until.le(now).assume_not_null()))
        .filter(jobs::magic_link_id.is_null().or(exists(mailable_link!(now))))
        .set((
            jobs::state.eq(DeliveryState::Sending),
            jobs::lease_until.eq(Some(lease_until)),
            jobs::attempts.eq(jobs::attempts + 1),
            jobs::kid.eq(Some(kid)),
        ))
        .returning(jobs::all_columns)
        .get_result(conn)
        .optional()
}

/// Cancels the job if its link may not be mailed any more.
pub(super) fn cancel_dead(conn: &mut Conn, id: &MailJobId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table.find(id))
        .filter(jobs::finished_at.is_null())
        .filter(jobs::magic_link_id.is_not_null())
        .filter(not(exists(mailable_link!(now))))
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels what is not finished for a link.
pub(super) fn cancel_for_link(conn: &mut Conn, link: &LinkId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table)
        .filter(jobs::magic_link_id.eq(link))
        .filter(jobs::finished_at.is_null())
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// How an attempt went.
#[derive(Debug, Clone)]
pub(super) enum Attempt {
    Accepted { message_id: Option<String> },
    Again { at: Timestamp, error: String },
    GivenUp { error: String },
}

/// Stores how an attempt went; `false` if the lease was lost meanwhile, or the job was cancelled.
pub(super) fn settle(
    conn: &mut Conn,
    job: &Job,
    provider: &str,
    attempt: &Attempt,
    now: Timestamp,
) -> QueryResult<bool> {
    let mine = diesel::update(jobs::table.find(&job.id))
        .filter(jobs::lease_until.eq(job.lease_until))
        .filter(jobs::finished_at.is_null());
    let provider = jobs::provider.eq(Some(provider));
    let rows = match attempt {
        Attempt::Accepted { message_id } => mine
            .set((
                provider,
                jobs::state.eq(DeliveryState::Accepted),
                jobs::finished_at.eq(Some(now)),
                jobs::provider_message_id.eq(message_id.as_ref()),
                jobs::last_error.eq(None::<String>),
            ))
            .execute(conn)?,
        Attempt::Again { at, error } => mine
            .set((
                provider,
                jobs::state.eq(DeliveryState::Queued),
                jobs::lease_until.eq(None::<Timestamp>),
                jobs::next_attempt_at.eq(*at),
                jobs::last_error.eq(Some(error)),
            ))
            .execute(conn)?,
        Attempt::GivenUp { error } => mine
            .set((
                provider,
                jobs::state.eq(DeliveryState::Failed),
                jobs::finished_at.eq(Some(now)),
                jobs::last_error.eq(Some(error)),
            ))
            .execute(conn)?,
    };
    Ok(rows > 0)
}

/// How many jobs are not finished.
pub(super) fn unfinished(conn: &mut Conn) -> QueryResult<i64> {
    jobs::table.filter(jobs::finished_at.is_null()).count().get_result(conn)
}

/// Every mail job of some links.
pub(super) fn of_links(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<Vec<Job>> {
    jobs::table.filter(jobs::magic_link_id.eq_any(ids.iter().map(Some))).load(conn)
}
