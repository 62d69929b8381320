//! Mail jobs at rest.

mod counts;
mod put_off;
mod reports;
mod settled;
mod turns;

use std::collections::HashMap;

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Text};

use super::day::Day;
use super::deliveries::DeliveryFilter;
use crate::clock::Timestamp;
use crate::db::schema::{consultants, magic_links as links, mail_jobs as jobs};
use crate::db::{self, Backend, Conn, Three, fixed, prepared_as};
use crate::domain::{DeliveryState, PageRequest, Reach, SYSTEM_LOG, Scan, Template};
use crate::id::{ConsultantId, LinkId, MailJobId, SessionId, StepUpId};
use crate::records::links::{Link, insertion};
use crate::records::revocations::NotBulkRevoked;
use crate::records::{open_grants, scan_end, within};
use crate::telemetry::TraceContext;

pub(super) use counts::{
    Beside, OPENING, link_mails, links_mailed, links_mailed_to_unregistered, mails_to, of_tenant, queued_with,
    was_mailed_often,
};
pub(super) use put_off::{Latest, make_due, put_off};
pub(crate) use reports::MailRecord;
pub(super) use reports::{Sent, about_link, find_sent, find_sent_by_message, reported};
pub(super) use settled::{Attempt, settle, settle_accepted};

/// A stored mail job.
#[derive(Debug, Clone, Queryable, Insertable)]
#[diesel(table_name = jobs, treat_none_as_default_value = false)]
pub(super) struct Job {
    pub id: MailJobId,
    pub template: Template,
    /// Identifies the occasion: one job per template and key.
    pub dedup_key: String,
    /// The consultant whom it is about; none for mails to a tenant's contacts.
    pub consultant_id: Option<ConsultantId>,
    /// Tenant it is listed under; `_system` without one.
    pub tenant_id: String,
    /// Empty without a portal.
    pub portal: String,
    pub magic_link_id: Option<LinkId>,
    /// Set if the job is cancelled with the link's generation.
    pub generation: Option<i32>,
    /// The session that it summarises.
    pub session_id: Option<SessionId>,
    /// Set if it is not the consultant's registered address.
    pub recipient: Option<String>,
    pub state: DeliveryState,
    pub attempts: i32,
    /// Attempts with an unknown outcome, and those of earlier rounds that may have left: their reports may be to come.
    pub unknown_attempts: i32,
    /// Number of manual retries.
    pub retry_round: i32,
    pub next_attempt_at: Timestamp,
    pub lease_until: Option<Timestamp>,
    pub provider: Option<String>,
    pub provider_message_id: Option<String>,
    pub last_error: Option<String>,
    pub created_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// The key that signs the token of this attempt.
    pub kid: Option<String>,
    /// The place in the trace of the act that it follows from.
    pub traceparent: Option<String>,
    /// The consultant's address that the last attempt went to, which may have been changed since.
    pub sent_to: Option<String>,
    /// When it last left, or may have; none where an older version sent it.
    pub left_at: Option<Timestamp>,
}

impl Job {
    /// A job that is due at once.
    pub(super) fn new(
        id: MailJobId,
        template: Template,
        dedup_key: String,
        consultant_id: Option<ConsultantId>,
        now: Timestamp,
    ) -> Self {
        Self {
            id,
            template,
            dedup_key,
            consultant_id,
            tenant_id: SYSTEM_LOG.to_owned(),
            portal: String::new(),
            magic_link_id: None,
            generation: None,
            session_id: None,
            recipient: None,
            state: DeliveryState::Queued,
            attempts: 0,
            unknown_attempts: 0,
            retry_round: 0,
            next_attempt_at: now,
            lease_until: None,
            provider: None,
            provider_message_id: None,
            last_error: None,
            created_at: now,
            finished_at: None,
            kid: None,
            traceparent: TraceContext::current().and_then(|trace| trace.traceparent()),
            sent_to: None,
            left_at: None,
        }
    }

    /// The address that it was sent to, as far as is known; none where it goes to what is registered for the consultant.
    pub(super) fn sent_to(&self) -> Option<&str> {
        let is_to_leave = self.state == DeliveryState::Queued;
        self.recipient.as_deref().or(self.sent_to.as_deref().filter(|_| !is_to_leave))
    }

    /// Whether an attempt of this round had no answer: until a round ends, nothing else has left.
    pub(super) const fn may_have_left(&self) -> bool {
        self.left_at.is_some()
    }

    /// A job that was claimed. Where its attempt is refused, a mail that may have left before is where it was sent to.
    pub(super) fn claimed_after(self, before: &Self) -> Self {
        if self.unknown_attempts > 0 { Self { sent_to: before.sent_to.clone(), ..self } } else { self }
    }
}

pub(super) fn insert(conn: &mut Conn, job: &Job) -> QueryResult<()> {
    diesel::insert_into(jobs::table).values(job).execute(conn).map(drop)
}

/// Inserts a job, unless its occasion has one.
pub(super) fn insert_once(conn: &mut Conn, job: &Job) -> QueryResult<()> {
    let insertion = diesel::insert_into(jobs::table).values(job).on_conflict_do_nothing();
    match conn {
        Conn::Postgres(conn) => insertion.execute(conn).map(drop),
        Conn::Sqlite(conn) => insertion.execute(conn).map(drop),
    }
}

/// Inserts a link and the job that mails it; `false` if another link has its access: then nothing may be kept.
pub(super) fn insert_with_link(conn: &mut Conn, link: &Link, job: &Job, now: Timestamp) -> QueryResult<bool> {
    let (row, job) = (insertion!(link), diesel::insert_into(jobs::table).values(job));
    match conn {
        Conn::Postgres(conn) => {
            let all = fixed!(prepared_as::<Text, _>(Three(row, job, open_grants::taking(link, now))));
            Ok(all.get_result::<String>(conn).optional()?.is_some())
        }
        Conn::Sqlite(_) => {
            if !open_grants::take(conn, link, now)? {
                return Ok(false);
            }
            row.execute(conn)?;
            job.execute(conn)?;
            Ok(true)
        }
    }
}

pub(super) fn insert_all(conn: &mut Conn, jobs: &[Job]) -> QueryResult<()> {
    db::insert_all!(conn, jobs::table, jobs)
}

/// Condition that this version knows the template of a job: mails of a newer version that runs, or ran, on the same database
/// are left to that one, and hold no other back. Who reads a [`Job`] by anything but a template of ours needs it. It is an expression, so that no index by template seems to fit.
fn known(table: &str) -> String {
    let words: Vec<String> = Template::ALL.iter().map(|word| format!("'{word}'")).collect();
    format!("({table}.template || '') IN ({})", words.join(", "))
}

/// Condition that a job is open, for a statement of PostgreSQL that knows its jobs by their ids. Said as it is here, no index
/// of open jobs fits: PostgreSQL takes the queue for short, and would read all of it to find a few.
const OPEN: &str = "coalesce(mail_jobs.finished_at, 'infinity') = 'infinity'";

/// The link of a job, if its current generation may still be mailed.
///
/// The generation is compared in two halves, so that PostgreSQL looks each link up by its id: an equality is one more that it
/// could hash, and it would read every link for that.
macro_rules! mailable_link {
    ($now:expr) => {
        links::table
            .filter(links::id.nullable().eq(jobs::magic_link_id))
            .filter(links::generation.nullable().le(jobs::generation))
            .filter(links::generation.nullable().ge(jobs::generation))
            .filter(links::revoked_at.is_null())
            .filter(NotBulkRevoked)
            .filter(links::expires_at.gt($now))
    };
}

mod claims;

pub(super) use claims::{Due, claim, due};

/// Queued jobs whose link may no longer be mailed.
pub(super) fn stale(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<Vec<MailJobId>> {
    jobs::table
        .filter(jobs::finished_at.is_null())
        .filter(jobs::generation.is_not_null())
        .filter(jobs::lease_until.is_null().or(jobs::lease_until.le(now).assume_not_null()))
        .filter(not(exists(mailable_link!(now))))
        .limit(limit)
        .select(jobs::id)
        .load(conn)
}

/// Cancels a job if its link may no longer be mailed.
pub(super) fn cancel_stale(conn: &mut Conn, id: &MailJobId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table.find(id))
        .filter(jobs::finished_at.is_null())
        .filter(jobs::generation.is_not_null())
        .filter(not(exists(mailable_link!(now))))
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels unsent mails with one-time codes: the challenges were voided.
pub(super) fn cancel_all_codes(conn: &mut Conn, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table)
        .filter(jobs::template.eq(Template::StepUpCode))
        .filter(jobs::finished_at.is_null())
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels the unfinished jobs that are bound to the links' generations.
pub(super) fn cancel_for_links(conn: &mut Conn, links: &[Link], now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table)
        .filter(jobs::magic_link_id.eq_any(links.iter().map(|link| Some(&link.id))))
        .filter(jobs::generation.is_not_null())
        .filter(jobs::finished_at.is_null())
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels unfinished jobs, the oldest first; returns how many.
pub(super) fn cancel_queued(conn: &mut Conn, limit: i64, now: Timestamp) -> QueryResult<usize> {
    let queued: Vec<MailJobId> = jobs::table
        .filter(jobs::finished_at.is_null())
        .order(jobs::id.asc())
        .limit(limit)
        .select(jobs::id)
        .load(conn)?;
    diesel::update(jobs::table)
        .filter(jobs::id.eq_any(&queued))
        .filter(jobs::finished_at.is_null())
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Cancels the unfinished jobs with one-time codes for a link.
pub(super) fn cancel_codes(conn: &mut Conn, link: &LinkId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table)
        .filter(jobs::magic_link_id.eq(link))
        .filter(jobs::template.eq(Template::StepUpCode))
        .filter(jobs::finished_at.is_null())
        .set((jobs::state.eq(DeliveryState::Cancelled), jobs::finished_at.eq(Some(now))))
        .execute(conn)
}

/// Attempts of the rounds so far that may still be reported on. Not of one that bounced, whose report may be repeated; and
/// none that went to another address than the next one will.
const EARLIER: &str = "CASE WHEN mail_jobs.state = 'bounced' OR (mail_jobs.recipient IS NULL AND NOT EXISTS \
     (SELECT 1 FROM consultants WHERE consultants.id = mail_jobs.consultant_id AND consultants.email = mail_jobs.sent_to)) \
     THEN 0 WHEN mail_jobs.left_at IS NULL THEN mail_jobs.unknown_attempts ELSE mail_jobs.unknown_attempts + 1 END";

/// Queues a failed, bounced or unknown job again; `None` in any other state, or if its link may no longer be mailed.
pub(super) fn retry(conn: &mut Conn, id: &MailJobId, reach: &Reach, now: Timestamp) -> QueryResult<Option<Job>> {
    let given_up = [DeliveryState::Failed, DeliveryState::Unknown, DeliveryState::Bounced];
    diesel::update(jobs::table.find(id))
        .filter(within!(jobs, reach))
        .filter(sql::<Bool>(&known("mail_jobs")))
        .filter(jobs::finished_at.is_not_null())
        .filter(jobs::state.eq_any(given_up))
        .filter(jobs::generation.is_null().or(exists(mailable_link!(now))))
        .set((
            jobs::state.eq(DeliveryState::Queued),
            jobs::attempts.eq(0),
            jobs::unknown_attempts.eq(sql::<Integer>(EARLIER)),
            jobs::retry_round.eq(jobs::retry_round + 1),
            jobs::next_attempt_at.eq(now),
            jobs::lease_until.eq(None::<Timestamp>),
            jobs::provider_message_id.eq(None::<String>),
            jobs::finished_at.eq(None::<Timestamp>),
            jobs::sent_to.eq(None::<String>),
            jobs::left_at.eq(None::<Timestamp>),
        ))
        .returning(jobs::all_columns)
        .get_result(conn)
        .optional()
}

/// The job, if it is within the caller's reach; one that this version does not know is left to the version that does.
pub(super) fn find_within(conn: &mut Conn, id: &MailJobId, reach: &Reach) -> QueryResult<Option<Job>> {
    let job = jobs::table.find(id).filter(within!(jobs, reach)).filter(sql::<Bool>(&known("mail_jobs")));
    job.get_result(conn).optional()
}

/// Whether there is a job within the caller's reach, of whatever version.
pub(super) fn is_within(conn: &mut Conn, id: &MailJobId, reach: &Reach) -> QueryResult<bool> {
    let job = jobs::table.find(id).filter(within!(jobs, reach)).select(jobs::id);
    Ok(job.first::<MailJobId>(conn).optional()?.is_some())
}

/// Jobs that match the filter within the reach, newest first.
pub(super) fn list(
    conn: &mut Conn,
    filter: &DeliveryFilter,
    reach: &Reach,
    page: &PageRequest,
) -> QueryResult<Scan<Job>> {
    let mut query =
        jobs::table.into_boxed::<Backend>().filter(within!(jobs, reach)).filter(sql::<Bool>(&known("mail_jobs")));
    if let Some(tenant_id) = &filter.tenant_id {
        query = query.filter(jobs::tenant_id.eq(tenant_id));
    }
    if let Some(link) = &filter.magic_link_id {
        query = query.filter(jobs::magic_link_id.eq(link));
    }
    if let Some(state) = filter.state {
        query = query.filter(jobs::state.eq(state));
    }
    if let Some(template) = filter.template {
        query = query.filter(jobs::template.eq(template));
    }
    if let Some(after) = &page.after {
        query = query.filter(jobs::id.lt(after));
    }
    let indexed = DeliveryFilter { tenant_id: filter.tenant_id.clone(), ..DeliveryFilter::default() };
    let mut end = None;
    if filter.magic_link_id.is_none() && (*filter != indexed || reach.portal.is_some()) {
        let of_tenants = within!(jobs, &reach.tenants_of(filter.tenant_id.as_deref()));
        end = scan_end!(conn, jobs, jobs::table.into_boxed::<Backend>().filter(of_tenants), page)?;
    }
    if let Some(end) = &end {
        query = query.filter(jobs::id.ge(end.clone()));
    }
    let found = query.order(jobs::id.desc()).limit(page.limit).load(conn)?;
    Ok(Scan::to(found, page, end))
}

/// The registered addresses of some consultants.
pub(super) fn addresses<'a>(
    conn: &mut Conn,
    ids: impl Iterator<Item = &'a ConsultantId>,
) -> QueryResult<HashMap<ConsultantId, String>> {
    let found: Vec<(ConsultantId, String)> = consultants::table
        .filter(consultants::id.eq_any(ids))
        .select((consultants::id, consultants::email))
        .load(conn)?;
    Ok(found.into_iter().collect())
}

/// Number of unfinished jobs, without those that wait for a time to come.
pub(super) fn unfinished(conn: &mut Conn, now: Timestamp) -> QueryResult<(i64, Option<Timestamp>)> {
    let due =
        jobs::table.filter(jobs::finished_at.is_null()).filter(jobs::next_attempt_at.le(now).or(jobs::attempts.gt(0)));
    let oldest = due.order(jobs::id.asc()).select(jobs::created_at).first(conn).optional()?;
    Ok((due.count().get_result(conn)?, oldest))
}

/// The job regardless of reach, of a template that this version knows.
pub(super) fn find(conn: &mut Conn, id: &MailJobId) -> QueryResult<Option<Job>> {
    jobs::table.find(id).filter(sql::<Bool>(&known("mail_jobs"))).get_result(conn).optional()
}

/// Makes the queued summaries of a session due.
pub(super) fn make_due_now(conn: &mut Conn, session: &SessionId, now: Timestamp) -> QueryResult<usize> {
    diesel::update(jobs::table)
        .filter(jobs::session_id.eq(session))
        .filter(jobs::finished_at.is_null())
        .filter(jobs::next_attempt_at.gt(now))
        .set(jobs::next_attempt_at.eq(now))
        .execute(conn)
}

/// The jobs that carry the links.
pub(super) fn of_links(conn: &mut Conn, ids: &[LinkId]) -> QueryResult<Vec<Job>> {
    jobs::table
        .filter(jobs::magic_link_id.eq_any(ids.iter().map(Some)))
        .filter(jobs::template.eq(Template::MagicLink))
        .load(conn)
}

/// The days that a link's summaries of this kind tell of: of all jobs, or of those before one of them.
pub(super) fn days_told(
    conn: &mut Conn,
    link: &LinkId,
    template: Template,
    before: Option<&MailJobId>,
) -> QueryResult<Vec<Day>> {
    let all = jobs::table.filter(jobs::magic_link_id.eq(link)).filter(jobs::template.eq(template));
    let found: Vec<(MailJobId, String)> = all.select((jobs::id, jobs::dedup_key)).load(conn)?;
    let is_before = |id: &MailJobId| before.is_none_or(|before| id.as_str() < before.as_str());
    Ok(found.iter().filter(|(id, _)| is_before(id)).filter_map(|(_, key)| Day::in_key(key)).collect())
}

/// The mails with these codes.
pub(super) fn of_codes(conn: &mut Conn, ids: &[StepUpId]) -> QueryResult<Vec<Job>> {
    jobs::table
        .filter(jobs::template.eq(Template::StepUpCode))
        .filter(jobs::dedup_key.eq_any(ids.iter().map(StepUpId::as_str)))
        .load(conn)
}

/// The newest mail of a kind about a link.
pub(super) fn newest_of_link(conn: &mut Conn, link: &LinkId, template: Template) -> QueryResult<Option<Job>> {
    jobs::table
        .filter(jobs::magic_link_id.eq(link))
        .filter(jobs::template.eq(template))
        .order(jobs::id.desc())
        .first(conn)
        .optional()
}
