//! What was put off by a clock that was ahead, and has been set right since.

use diesel::dsl::exists;
use diesel::prelude::*;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::db::schema::{magic_links as links, mail_jobs as jobs};
use crate::id::MailJobId;

/// The latest times that a clock which is right writes.
#[derive(Debug, Clone, Copy)]
pub(in crate::mail) struct Latest {
    pub now: Timestamp,
    pub lease: Timestamp,
    pub attempt: Timestamp,
}

/// Unfinished jobs that are put off for longer than any is, and those that were queued in what is now the future, to be
/// mailed at once. Those whose link has not begun wait for that.
pub(in crate::mail) fn put_off(conn: &mut Conn, latest: Latest, limit: i64) -> QueryResult<Vec<MailJobId>> {
    let was_tried = jobs::attempts.gt(0).or(jobs::retry_round.gt(0)).and(jobs::next_attempt_at.gt(latest.attempt));
    let was_queued = jobs::created_at.gt(latest.now).and(jobs::next_attempt_at.le(jobs::created_at));
    let has_begun =
        links::table.filter(links::id.nullable().eq(jobs::magic_link_id)).filter(links::starts_at.le(latest.now));
    jobs::table
        .filter(jobs::finished_at.is_null())
        .filter(jobs::generation.is_null().or(exists(has_begun)))
        .filter(
            jobs::lease_until
                .gt(latest.lease)
                .assume_not_null()
                .or(was_tried)
                .or(was_queued.and(jobs::next_attempt_at.gt(latest.now))),
        )
        .order(jobs::id.asc())
        .limit(limit)
        .select(jobs::id)
        .load(conn)
}

/// Makes an unfinished job due, unless it was leased since by a clock that is right.
pub(in crate::mail) fn make_due(conn: &mut Conn, id: &MailJobId, latest: Latest, now: Timestamp) -> QueryResult<usize> {
    let is_free = jobs::lease_until.le(now).or(jobs::lease_until.gt(latest.lease));
    diesel::update(jobs::table.find(id))
        .filter(jobs::finished_at.is_null())
        .filter(jobs::lease_until.is_null().or(is_free.assume_not_null()))
        .set((jobs::next_attempt_at.eq(now), jobs::lease_until.eq(None::<Timestamp>)))
        .execute(conn)
}
