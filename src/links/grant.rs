//! What giving an access asks, whether it is issued or approved.

use time::Duration;

use super::withdrawing;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{Actor, ConsultantRef, EventType, Reentry, Restrictions};
use crate::error::{Code, Error};
use crate::id::ClientId;
use crate::journal::Event;
use crate::records::link_ends::{self, Revoking};
use crate::records::links::Link;
use crate::rules::Grant;
use crate::rules::granting::Candidate;
use crate::sessions::{self, Ending};
use crate::store::Tx;
use crate::{mail, records};

/// Replacements of one access, one after the other, that are followed at a time.
pub(super) const LONGEST_CHAIN: usize = 16;

/// The link that may be issued to its consultant, by its client and under the tenant's policy, with its window; and whether
/// it waits for an approval.
///
/// Locks the rows of consultant and client in a transaction.
pub(super) fn admit(
    conn: &mut Conn,
    config: &Config,
    mut link: Link,
    length: Option<Duration>,
    is_emergency: bool,
) -> Result<(Link, ConsultantRef, bool), Error> {
    let found =
        records::consultants::lock_for_issue(conn, &link.consultant_id, link.client_id.as_ref(), &link.tenant_id)?;
    let candidate = Candidate::of(found, config)?;
    let rules = &candidate.rules;
    let length = length.or(rules.default_duration).ok_or_else(|| {
        let detail = "is missing, and the tenant's policy sets no default_duration";
        Error::new(Code::ValidationFailed).field("/duration", "missing", detail)
    })?;
    let (access, reentry) = (link.access, link.reentry);
    rules.require(&Grant { length, access, ticket: link.ticket.as_deref(), reentry })?;
    if is_emergency {
        rules.require_emergency()?;
    }
    candidate.require_welcome()?;
    link.expires_at = link.starts_at.plus(length);
    link.session_hours = rules.session_hours;
    link.restrictions = Restrictions::with(link.restrictions, &rules.forbidden);
    // An emergency waits for nobody.
    let waits = !is_emergency && rules.wants_approval(access, length);
    let consultant = candidate.consultant;
    Ok((link, ConsultantRef::of(consultant.id, consultant.name, consultant.email), waits))
}

/// The event of a new link: who the consultant was then, whatever their entry says later, and why the addresses for
/// notices to owner and issuer cannot be used.
pub(super) fn issued(
    link: &Link,
    consultant: &ConsultantRef,
    actor: Actor,
    (profile_refusal, issuer_refusal): (Option<&str>, Option<&str>),
    now: Timestamp,
) -> Event {
    let (modules, forbidden) = Restrictions::recorded(link.restrictions.as_ref());
    Event::new(EventType::LinkIssued, actor, now).client(link.client_id.as_ref()).link(link).with(&serde_json::json!({
        "access": link.access, "starts_at": link.starts_at, "expires_at": link.expires_at,
        "profile_name": link.profile_name, "consultant": consultant,
        "modules": modules, "forbidden": forbidden,
        "reentry": (link.reentry == Reentry::Device).then_some(link.reentry),
        "issued_by": { "id": link.issued_by_id, "name": link.issued_by_name },
        "profile_email_refused": profile_refusal, "issuer_email_refused": issuer_refusal,
    }))
}

/// Inserts a link and queues its mail: in the place of the one that has its access, if it `replaces` that one.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    link: &Link,
    replaces: bool,
    (actor, client_id): (&Actor, Option<&ClientId>),
    now: Timestamp,
) -> Result<(), Error> {
    if replaces {
        replace(tx, link, actor, now)?;
    }
    if mail::insert_with_link(tx, link, now)? {
        return Ok(());
    }
    if replaces {
        // Another one has got the access since: the transaction is run again, and replaces it.
        return Err(Error::unavailable().after_a_lost_race());
    }
    Err(access_exists(tx, link, actor, client_id, now)?)
}

/// The refusal of a second link for one access, which names the first and is on record with it.
pub(super) fn access_exists(
    tx: &mut Tx<'_>,
    link: &Link,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<Error, Error> {
    let Some(other) = records::open_grants::holder(tx, link)? else { return Ok(Code::AccessExists.into()) };
    let refused = Event::link_refused(&other, actor.clone(), Code::AccessExists, now);
    let error = Error::new(Code::AccessExists).magic_link(other.id.to_string());
    Ok(tx.refuse(error, refused.client(client_id)))
}

/// Ends the link that gives the same access, because another one takes its place; nobody is alarmed by a mail.
fn replace(tx: &mut Tx<'_>, by: &Link, actor: &Actor, now: Timestamp) -> Result<(), Error> {
    let Some(other) = locked_holder(tx, by)? else { return Ok(()) };
    if other.ended(now).is_none() {
        require_open(by, now)?;
        if records::link_reviews::find(tx, &other.id)?.is_some() {
            let refused = Event::link_refused(&other, actor.clone(), Code::EmergencyAccess, now);
            let error = Error::new(Code::EmergencyAccess).magic_link(other.id.to_string());
            return Err(tx.refuse(error, refused.client(by.client_id.as_ref())));
        }
    }
    let reason = "Another link for the same access took its place";
    let revoking = Revoking::new(reason, actor, by.client_id.as_ref(), now);
    // One that has ended meanwhile is in nobody's way.
    let Some(link) = link_ends::replace(tx, &other.id, &by.id, &revoking)? else { return Ok(()) };
    let links = std::slice::from_ref(&link);
    mail::cancel_for_links(tx, links, now)?;
    let event = Event::new(EventType::LinkReplaced, actor.clone(), now).client(by.client_id.as_ref()).link(&link);
    tx.record(event.with(&serde_json::json!({ "replaced_by": by.id })));
    withdrawing::withdraw_with(tx, links, &revoking)?;
    sessions::end_all_of_links(
        tx,
        links,
        sessions::EndCause::Replaced,
        &Ending::new(actor, by.client_id.as_ref(), now),
    )?;
    Ok(())
}

/// The link that has the access, locked: of several that would replace it, each replaces the one before.
fn locked_holder(tx: &mut Tx<'_>, by: &Link) -> Result<Option<Link>, Error> {
    for _ in 0..LONGEST_CHAIN {
        let Some(holder) = records::open_grants::holder(tx, by)? else { return Ok(None) };
        match records::links::lock(tx, &holder.id)? {
            // Another one took its place while its lock was awaited.
            Some(link) if link.replaced_by.is_some() => {}
            link => return Ok(link),
        }
    }
    Err(Error::unavailable().after_a_lost_race())
}

/// Refuses a link that opens later the place of one that is open.
pub(super) fn require_open(by: &Link, now: Timestamp) -> Result<(), Error> {
    if by.starts_at <= now {
        return Ok(());
    }
    let detail =
        "a link that opens later cannot take the place of one that is open: nobody would have the access until then";
    Err(Error::new(Code::ValidationFailed).field("/replace", "too_early", detail))
}
