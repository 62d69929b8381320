//! Notices: e-mails about an access to people other than the consultant who gets the link.
//!
//! The granting admin is notified of every change, the profile's owner of the
//! first use and of the end, if the request gave their addresses. No notice holds
//! a token. The tenant can mute notices; the consultant cannot.

use super::about;
use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::id::MailJobId;
use crate::records::link_changes::Extension;
use crate::records::links::Link;
use crate::records::sessions::{CLOSING_GRACE, Ended, Session};
use crate::store::{Tx, Worker};

/// Queues a notice, if there is a recipient. `dedup_key` makes it unique.
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

/// Notifies the admin that access was issued.
pub(crate) fn issued(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    enqueue_notice(conn, link, Template::AccessIssued, link.id.to_string(), link.issued_by_email.as_ref(), now)
}

/// Notifies the admin that a fresh link was sent.
pub(crate) fn resent(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let dedup_key = format!("{} {}", link.id, link.generation);
    enqueue_notice(conn, link, Template::LinkResent, dedup_key, link.issued_by_email.as_ref(), now)
}

/// Notifies admin and profile owner of the first use.
pub(crate) fn used(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let dedup_key = link.id.to_string();
    enqueue_notice(conn, link, Template::AccessUsed, dedup_key.clone(), link.issued_by_email.as_ref(), now)?;
    enqueue_notice(conn, link, Template::OwnerAccessUsed, dedup_key, link.profile_email.as_ref(), now)
}

/// Notifies the admin and the consultant of each revoked link.
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

/// Notifies the admin and the consultant of the link's new end.
pub(crate) fn end_moved(conn: &mut Conn, link: &Link, extension: &Extension, now: Timestamp) -> Result<(), Error> {
    let dedup_key = extension.id.to_string();
    enqueue_notice(conn, link, Template::AccessChanged, dedup_key.clone(), link.issued_by_email.as_ref(), now)?;
    store::insert(conn, &about(link, Template::AccessMoved, dedup_key, now))?;
    Ok(())
}

/// Notifies admin and profile owner of a session's end; whether there is anybody to notify. The summary waits for the
/// closing counts, for a limited time.
pub(crate) fn ended(conn: &mut Conn, ended: &Ended, now: Timestamp) -> Result<bool, Error> {
    let Ended { session, issuer_email, owner_email } = ended;
    let recipients = [(Template::AccessEnded, issuer_email), (Template::OwnerAccessEnded, owner_email)];
    let due = match session.closed_at {
        Some(_) => now,
        None => session.ended_at.unwrap_or(now).plus(CLOSING_GRACE).max(now),
    };
    for (template, to) in recipients {
        let Some(to) = to else { continue };
        let job = Job {
            recipient: Some(to.clone()),
            tenant_id: session.tenant_id.clone(),
            portal: session.portal.clone(),
            magic_link_id: Some(session.magic_link_id.clone()),
            session_id: Some(session.id.clone()),
            next_attempt_at: due,
            ..Job::new(MailJobId::new(now), template, session.id.to_string(), session.consultant_id.clone(), now)
        };
        store::insert(conn, &job)?;
    }
    Ok(issuer_email.is_some() || owner_email.is_some())
}

/// Makes the summaries of a session due: its closing counts have arrived.
pub(crate) fn closed(conn: &mut Conn, session: &Session, now: Timestamp) -> Result<(), Error> {
    store::make_due_now(conn, &session.id, now)?;
    Ok(())
}

/// Notifies the admin that the e-mail with the link did not arrive; of other e-mails it does nothing.
pub(super) fn undelivered(tx: &mut Tx<'_>, link: &Link, job: &Job, now: Timestamp) -> Result<(), Error> {
    if job.template != Template::MagicLink {
        return Ok(());
    }
    let dedup_key = format!("{} {}", job.id, job.retry_round);
    tx.wake(Worker::Mail);
    enqueue_notice(tx, link, Template::LinkBounced, dedup_key, link.issued_by_email.as_ref(), now)
}
