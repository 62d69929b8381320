//! Who at a tenant hears what must not be missed: its contacts, and for three days those who were.
//!
//! Whoever may exchange the contacts decides who is told. So who is none any more hears of that at once, and still of
//! emergencies, violations, rules that allow more and approval keys: nobody exchanges the contacts for a moment unseen.

use time::Duration;

use super::limits::{require_room, within_the_hour};
use super::store::{self, Job};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::id::{ClientId, MailJobId};
use crate::records::tenants::{self, Contact, Tenant};
use crate::store::{Tx, Worker};

/// How long who was a contact hears what contacts are told: as long as an approval key that is ordered waits.
const REMEMBERED: Duration = Duration::hours(72);

/// Number of former contacts who are told, those who left first: nobody pushes them out by exchanging more.
const MOST_FORMER: usize = 20;

/// Number of mails that are looked at.
const MOST_MAILS: i64 = 5_000;

/// Tells those who are no longer among the contacts of a tenant.
///
/// # Errors
/// `rate_limited` where the client has caused so many of these mails within the hour.
pub(crate) fn exchanged(
    tx: &mut Tx<'_>,
    before: &Tenant,
    contacts: &[Contact],
    (client, per_hour): (Option<&ClientId>, u32),
    now: Timestamp,
) -> Result<(), Error> {
    let gone = without(before.contacts(), contacts);
    if gone.is_empty() {
        return Ok(());
    }
    let since = store::of_tenant(tx, Template::ContactsChanged, &before.id, within_the_hour(now), MOST_MAILS)?;
    let mut caused: Vec<Timestamp> = since
        .into_iter()
        .filter(|mail| Exchange::of(&mail.dedup_key).is_some_and(|one| one.is_first && one.client.as_ref() == client))
        .map(|mail| mail.created_at)
        .collect();
    caused.reverse();
    require_room(caused, per_hour, now)?;
    for (place, contact) in gone.into_iter().enumerate() {
        let client = client.map_or("-", ClientId::as_str);
        let id = MailJobId::new(now);
        let key = format!("{} {id} {client} {place}", before.id);
        let job = Job::new(id, Template::ContactsChanged, key, None, now);
        store::insert(tx, &Job { tenant_id: before.id.clone(), recipient: Some(contact.email), ..job })?;
        tx.wake(Worker::Mail);
    }
    Ok(())
}

/// Who is told what must not be missed.
pub(crate) fn told(conn: &mut Conn, tenant_id: &str, now: Timestamp) -> Result<Vec<Contact>, Error> {
    let mut told = tenants::contacts(conn, tenant_id)?;
    let left = store::of_tenant(conn, Template::ContactsChanged, tenant_id, now.last(REMEMBERED), MOST_MAILS)?;
    let mut former: Vec<Contact> = Vec::new();
    for email in left.into_iter().filter_map(|mail| mail.recipient) {
        let contact = Contact { name: email.clone(), email };
        if former.len() < MOST_FORMER && !is_among(&contact, &told) && !is_among(&contact, &former) {
            former.push(contact);
        }
    }
    told.extend(former);
    Ok(told)
}

fn is_among(contact: &Contact, contacts: &[Contact]) -> bool {
    contacts.iter().any(|other| other.email.eq_ignore_ascii_case(&contact.email))
}

fn without(mut contacts: Vec<Contact>, others: &[Contact]) -> Vec<Contact> {
    contacts.retain(|contact| !is_among(contact, others));
    contacts
}

/// What the key of such a mail says.
pub(super) struct Exchange {
    /// Who exchanged them; `None` for an operator.
    pub client: Option<ClientId>,
    /// Whether it is the first mail about the exchange.
    is_first: bool,
}

impl Exchange {
    pub(super) fn of(key: &str) -> Option<Self> {
        let mut words = key.split(' ').skip(2);
        let (client, place) = (words.next()?, words.next()?);
        Some(Self { client: client.parse().ok(), is_first: place == "0" })
    }
}
