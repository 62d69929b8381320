//! Notices: e-mails about an access to people other than the consultant who gets the link.
//!
//! The granting admin is notified of every change, the profile's owner of the
//! first use and of the end, if the request gave their addresses. No notice holds
//! a token. The tenant can mute notices; the consultant cannot.

use super::about;
use super::contacts;
use super::day::Day;
use super::policy::CANCELLED;
use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::id::MailJobId;
use crate::records;
use crate::records::approval_keys::ApprovalKeyRow;
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_changes::Extension;
use crate::records::link_requests::LinkRequest;
use crate::records::links::Link;
use crate::records::sessions::{CLOSING_GRACE, Ended, Session};
use crate::records::tenants::{Contact, Tenant};
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

/// Key of the notices of an end: one for each end that a link is given.
pub(super) fn end_key(link: &Link) -> String {
    format!("{} {}", link.id, link.expires_at)
}

/// Notifies the admin and the consultant that an access ends soon.
pub(crate) fn ends_soon(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let to_admin = about(link, Template::AccessEndsSoon, end_key(link), now);
    if let Some(admin) = &link.issued_by_email {
        store::insert_once(conn, &Job { recipient: Some(admin.clone()), ..to_admin })?;
    }
    store::insert_once(conn, &about(link, Template::AccessRunsOut, end_key(link), now))?;
    Ok(())
}

/// Notifies the admin and the tenant's contacts that a session did what it does not allow: once an hour of the session,
/// and once after its end.
pub(crate) fn beyond_access(conn: &mut Conn, link: &Link, session: &Session, now: Timestamp) -> Result<(), Error> {
    let hour = now.since(session.started_at).whole_hours();
    let occasion = if session.holds(now) { hour.to_string() } else { "late".to_owned() };
    for (number, recipient) in admin_and_contacts(conn, link, now)?.into_iter().enumerate() {
        let dedup_key = format!("{} {occasion} {number}", session.id);
        let job = about(link, Template::PolicyViolation, dedup_key, now);
        store::insert_once(conn, &Job { recipient: Some(recipient), session_id: Some(session.id.clone()), ..job })?;
    }
    Ok(())
}

/// Notifies the admin, the tenant's contacts and the profile's owner of an access that was issued in an emergency.
pub(crate) fn emergency(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    for (number, recipient) in admin_and_contacts(conn, link, now)?.into_iter().enumerate() {
        let dedup_key = format!("{} {number}", link.id);
        enqueue_notice(conn, link, Template::EmergencyIssued, dedup_key, Some(&recipient), now)?;
    }
    let owner = link.profile_email.as_ref();
    enqueue_notice(conn, link, Template::OwnerEmergencyIssued, link.id.to_string(), owner, now)
}

/// The addresses of the admin and of the tenant's contacts, those who were lately included, each once.
fn admin_and_contacts(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<Vec<String>, Error> {
    let contacts = contacts::told(conn, &link.tenant_id, now)?;
    let mut recipients: Vec<String> = link.issued_by_email.iter().cloned().collect();
    for Contact { email, .. } in contacts {
        if !recipients.iter().any(|known| known.eq_ignore_ascii_case(&email)) {
            recipients.push(email);
        }
    }
    Ok(recipients)
}

/// Notifies the consultant of a link that opens later, and is mailed then.
pub(crate) fn announced(conn: &mut Conn, link: &Link, now: Timestamp) -> Result<(), Error> {
    let dedup_key = format!("{} {}", link.id, link.generation);
    store::insert(conn, &about(link, Template::AccessAnnounced, dedup_key, now))?;
    Ok(())
}

/// Notifies admin and profile owner of a session's end; whether there is anybody to notify.
///
/// The summary of a link's first session waits for the closing counts, for a limited time. Later ones share a summary of
/// the tenant's day; one whose end was found out when that day's is under way has its own.
pub(crate) fn ended(conn: &mut Conn, ended: &Ended, now: Timestamp) -> Result<bool, Error> {
    let Ended { session, issuer_email, owner_email } = ended;
    let recipients = [
        (Template::AccessEnded, Template::AccessVisits, issuer_email),
        (Template::OwnerAccessEnded, Template::OwnerAccessVisits, owner_email),
    ];
    if recipients.iter().all(|(_, _, to)| to.is_none()) {
        return Ok(false);
    }
    let ended_at = session.ended_at.unwrap_or(now);
    let is_first = records::sessions::first_of_link(conn, &session.magic_link_id)?.as_ref() == Some(&session.id);
    let shared = if is_first { None } else { Some(day_of(conn, &session.tenant_id, ended_at)?) };
    let shared = shared.filter(|day| now < day.to.plus(CLOSING_GRACE));
    let due = match (shared, session.closed_at) {
        (Some(day), _) => day.to.plus(CLOSING_GRACE),
        (None, Some(_)) => now,
        (None, None) => ended_at.plus(CLOSING_GRACE).max(now),
    };
    for (single, daily, to) in recipients {
        let Some(to) = to else { continue };
        // The mail of a day tells of what has ended in it, whenever it is found out and whatever day that is in another
        // time zone.
        let is_told = |day: &Day| day.holds(ended_at);
        if !is_first && store::days_told(conn, &session.magic_link_id, daily, None)?.iter().any(is_told) {
            continue;
        }
        let (template, dedup_key, session_id) = match shared {
            Some(day) => (daily, day.key(&session.magic_link_id), None),
            None => (single, session.id.to_string(), Some(session.id.clone())),
        };
        let job = Job {
            recipient: Some(to.clone()),
            tenant_id: session.tenant_id.clone(),
            portal: session.portal.clone(),
            magic_link_id: Some(session.magic_link_id.clone()),
            session_id,
            next_attempt_at: due,
            ..Job::new(MailJobId::new(now), template, dedup_key, Some(session.consultant_id.clone()), now)
        };
        store::insert_once(conn, &job)?;
    }
    Ok(true)
}

/// The day of a moment for a tenant; of one that is not registered, in UTC.
fn day_of(conn: &mut Conn, tenant: &str, at: Timestamp) -> Result<Day, Error> {
    let tenant = records::tenants::find(conn, tenant)?;
    Ok(Day::of(at, tenant.as_ref().map_or("UTC", |tenant| &tenant.time_zone)))
}

/// Makes the summaries of a session due: its closing counts have arrived.
pub(crate) fn closed(conn: &mut Conn, session: &Session, now: Timestamp) -> Result<(), Error> {
    store::make_due_now(conn, &session.id, now)?;
    Ok(())
}

/// Asks the contacts of a tenant to decide on a link; the mail leads to the portal's own page.
pub(crate) fn approval_requested(tx: &mut Tx<'_>, request: &LinkRequest, now: Timestamp) -> Result<(), Error> {
    let contacts = records::tenants::contacts(tx, &request.tenant_id)?;
    to_each(tx, contacts, |place| of_request(request, Template::ApprovalRequested, &place.to_string(), now))
}

/// Queues a job for each contact; `job` is told the contact's place.
fn to_each(tx: &mut Tx<'_>, contacts: Vec<Contact>, job: impl Fn(usize) -> Job) -> Result<(), Error> {
    for (place, contact) in contacts.into_iter().enumerate() {
        store::insert(tx, &Job { recipient: Some(contact.email), ..job(place) })?;
        tx.wake(Worker::Mail);
    }
    Ok(())
}

/// Tells the person who asked for a link that it was denied, or that nobody decided in time.
pub(crate) fn request_denied(tx: &mut Tx<'_>, request: &LinkRequest, now: Timestamp) -> Result<(), Error> {
    let job = of_request(request, Template::RequestDenied, "issuer", now);
    store::insert(tx, &Job { recipient: Some(request.issued_by_email.clone()), ..job })?;
    tx.wake(Worker::Mail);
    Ok(())
}

/// Asks the contacts of a tenant to decide on an extension.
pub(crate) fn extension_requested(
    tx: &mut Tx<'_>,
    link: &Link,
    request: &ExtensionRequest,
    now: Timestamp,
) -> Result<(), Error> {
    let contacts = records::tenants::contacts(tx, &link.tenant_id)?;
    to_each(tx, contacts, |place| about(link, Template::ExtensionRequested, format!("{} {place}", request.id), now))
}

/// Tells the person who asked for an extension that it was denied, or that nobody decided in time.
pub(crate) fn extension_denied(
    tx: &mut Tx<'_>,
    link: &Link,
    request: &ExtensionRequest,
    now: Timestamp,
) -> Result<(), Error> {
    let dedup_key = format!("{} issuer", request.id);
    tx.wake(Worker::Mail);
    enqueue_notice(tx, link, Template::ExtensionDenied, dedup_key, Some(&request.asked_by_email), now)
}

/// A job about a link that does not exist yet: the key names it.
fn of_request(request: &LinkRequest, template: Template, to: &str, now: Timestamp) -> Job {
    let (id, consultant) = (MailJobId::new(now), Some(request.consultant_id.clone()));
    Job {
        tenant_id: request.tenant_id.clone(),
        portal: request.portal.clone(),
        ..Job::new(id, template, format!("{} {to}", request.id), consultant, now)
    }
}

/// Tells the contacts of a tenant that its policy allows more than before.
pub(crate) fn policy_loosened(tx: &mut Tx<'_>, tenant: &Tenant, seq: i64, now: Timestamp) -> Result<(), Error> {
    let contacts = contacts::told(tx, &tenant.id, now)?;
    to_each(tx, contacts, |place| Job {
        tenant_id: tenant.id.clone(),
        ..Job::new(MailJobId::new(now), Template::PolicyLoosened, loosening_key(&tenant.id, seq, place), None, now)
    })
}

fn loosening_key(tenant_id: &str, seq: i64, place: usize) -> String {
    format!("{tenant_id} {seq} {place}")
}

/// Of these changes of a tenant's policy, those of which its contacts were told.
pub(crate) fn loosening(
    conn: &mut Conn,
    tenant_id: &str,
    changes: Vec<(i64, Timestamp)>,
) -> Result<Vec<Timestamp>, Error> {
    let keys: Vec<String> = changes.iter().map(|(seq, _)| loosening_key(tenant_id, *seq, 0)).collect();
    let told = store::queued_with(conn, Template::PolicyLoosened, &keys)?;
    let is_told = |seq| told.contains(&loosening_key(tenant_id, seq, 0));
    Ok(changes.into_iter().filter(|(seq, _)| is_told(*seq)).map(|(_, at)| at).collect())
}

/// Tells the contacts of a tenant that its approval key was changed, or is to be, or that it is kept.
pub(crate) fn approval_key_changed(
    tx: &mut Tx<'_>,
    tenant: &Tenant,
    change: &ApprovalKeyRow,
    now: Timestamp,
) -> Result<(), Error> {
    let mut number = change.seq.to_string();
    number.extend(change.cancelled_at.map(|_| CANCELLED));
    to_each(tx, change.told(), |place| {
        let dedup_key = format!("{} {number} {place}", tenant.id);
        Job {
            tenant_id: tenant.id.clone(),
            ..Job::new(MailJobId::new(now), Template::ApprovalKeyChanged, dedup_key, None, now)
        }
    })
}

/// Notifies the admin that an e-mail that opens the access did not arrive: the link, or a code for it. Of other e-mails it
/// does nothing, those of a newer version included. One that was delivered before may have been told of as failed before that.
pub(super) fn undelivered(
    tx: &mut Tx<'_>,
    link: &Link,
    template: Option<Template>,
    (id, retry_round, was_delivered): (&MailJobId, i32, bool),
    now: Timestamp,
) -> Result<(), Error> {
    if template.is_none_or(|template| !store::OPENING.contains(&template)) {
        return Ok(());
    }
    let dedup_key = format!("{id} {retry_round}{}", if was_delivered { " delivered" } else { "" });
    tx.wake(Worker::Mail);
    enqueue_notice(tx, link, Template::LinkBounced, dedup_key, link.issued_by_email.as_ref(), now)
}
