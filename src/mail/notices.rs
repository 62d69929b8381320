//! Notices: who is told what about an access, beside the consultant who gets the link.
//!
//! The granting admin hears of every turn, the profile's owner of the first use
//! and of the end, where the request gave their addresses. No notice holds a
//! token. The consultant cannot keep one from leaving; the tenant may.

use super::about;
use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::records::links::Link;
use crate::records::sessions::{CLOSING_GRACE, Session};

/// Queues a notice, where there is somebody to enqueue_notice. There is one for each dedup_key.
fn enqueue_notice(
    conn: &mut Conn,
    link: &Link,
    template: Template,
    dedup_key: String,
    to: Option<&String>,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(to) = to else { return Ok(()) };
    store::insert(conn, &Job { recipient: Some(to.clone()), ..about(link, template, dedup_key, now) })?;
    Ok(())
}

/// Access was issued.
pub(crate) fn issued(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    enqueue_notice(conn, link, Template::AccessIssued, link.id.to_string(), link.issued_by_email.as_ref(), now)
}

/// A fresh link was sent.
pub(crate) fn resent(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let dedup_key = format!("{} {}", link.id, link.generation);
    enqueue_notice(conn, link, Template::LinkResent, dedup_key, link.issued_by_email.as_ref(), now)
}

/// Access was used for the first time.
pub(crate) fn used(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let dedup_key = link.id.to_string();
    enqueue_notice(conn, link, Template::AccessUsed, dedup_key.clone(), link.issued_by_email.as_ref(), now)?;
    enqueue_notice(conn, link, Template::OwnerAccessUsed, dedup_key, link.profile_email.as_ref(), now)
}

/// Accesses were revoked: each one's admin hears of it, and so does the consultant.
pub(crate) fn revoked(conn: &mut Conn, links: &[Link], now: Timestamp) -> Result<(), Error> {
    let mut jobs = Vec::with_capacity(2 * links.len());
    for link in links {
        let job = |template| about(link, template, link.id.to_string(), now);
        if let Some(admin) = &link.issued_by_email {
            jobs.push(Job { recipient: Some(admin.clone()), ..job(Template::AccessRevoked) });
        }
        jobs.push(job(Template::AccessWithdrawn));
    }
    store::insert_all(conn, &jobs)?;
    Ok(())
}

/// A visit has ended. The summary waits for the closing counts, but not for ever.
pub(crate) fn ended(conn: &mut Conn, link: &Link, session: &Session, now: Timestamp) -> Result<(), Error> {
    let recipients =
        [(Template::AccessEnded, &link.issued_by_email), (Template::OwnerAccessEnded, &link.profile_email)];
    for (template, to) in recipients {
        let Some(to) = to else { continue };
        let job = Job {
            recipient: Some(to.clone()),
            session_id: Some(session.id.clone()),
            next_attempt_at: session.ended_at.unwrap_or(now).plus(CLOSING_GRACE).max(now),
            ..about(link, template, session.id.to_string(), now)
        };
        store::insert(conn, &job)?;
    }
    Ok(())
}

/// The closing counts of a visit are there: its summary need not wait any more.
pub(crate) fn closed(conn: &mut Conn, session: &Session, now: Timestamp) -> Result<(), Error> {
    store::make_due_now(conn, &session.id, now)?;
    Ok(())
}

/// The mail with the link came back.
pub(super) fn bounced(conn: &mut Conn, link: &Link, job: &Job, now: Timestamp) -> Result<(), Error> {
    let dedup_key = format!("{} {}", job.id, job.retry_round);
    enqueue_notice(conn, link, Template::LinkBounced, dedup_key, link.issued_by_email.as_ref(), now)
}
