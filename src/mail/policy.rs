//! What a mail about a tenant's policy, its approval key or its contacts says.

use super::contacts::Exchange;
use super::store::Job;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::{PublicKey, Template};
use crate::error::Error;
use crate::records::approval_keys::{self, ApprovalKeyRow};
use crate::records::tenants::Tenant;
use crate::records::{clients, policies};
use crate::rules::Rules;

/// A change of what binds grants at a tenant, for a contact there.
pub(super) struct RulesChange {
    pub tenant_name: String,
    pub time_zone: String,
    /// Name of the contact; their address if they are none any more.
    pub recipient_name: String,
    pub by: String,
    pub at: Timestamp,
    /// Who ordered the change that was cancelled.
    pub ordered_by: Option<String>,
    pub differences: Vec<Difference>,
    pub what: Changed,
    /// Whether it was ordered, and cancelled before anybody heard of it: of that another mail tells.
    pub is_void: bool,
}

/// What a change is about.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    pub label: &'static str,
    /// What it was, or was to be.
    pub before: String,
    /// What the change made of it.
    pub after: String,
    /// What it is by now, where it was changed again.
    pub by_now: Option<String>,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// The policy: it allows more than before.
    Policy,
    /// The policy: it allowed more than before, and does not any more.
    PolicyForAWhile,
    /// The approval key: where there was none before.
    KeyRegistered,
    /// The approval key: it has signed the change.
    KeyReplaced,
    KeyRemoved,
    /// The approval key, from this time on, as an operator has ordered.
    KeyToBeReplaced(Timestamp),
    KeyToBeRemoved(Timestamp),
    /// The approval key: what an operator had ordered is in effect.
    KeyReplacedByOrder,
    KeyRemovedByOrder,
    /// The approval key: another one, or none, counts by now. How it was changed, as a clause.
    KeyOfThePast(&'static str),
    /// The change that was ordered of it was cancelled.
    KeyKept,
    /// The contacts: the recipient is none any more.
    NoContact,
    /// The contacts: the recipient was none, and is one again.
    NoContactForAWhile,
}

impl Changed {
    /// What the mail about a change says at a time: whether there was a key before, whether there is one after it, and
    /// whether that was changed again.
    fn of(row: &ApprovalKeyRow, is_kept: bool, (had, has): (bool, bool), is_past: bool, now: Timestamp) -> Self {
        let is_in_effect = row.effective_at <= now;
        match (had, has) {
            _ if is_kept => Self::KeyKept,
            (false, _) if is_past => Self::KeyOfThePast(", where there was none before"),
            _ if is_past && row.is_at_once() => Self::KeyOfThePast(", and the key before has signed that"),
            _ if is_past => Self::KeyOfThePast(", as an operator has ordered, which the key before has not signed"),
            (false, _) => Self::KeyRegistered,
            (true, true) if row.is_at_once() => Self::KeyReplaced,
            (true, false) if row.is_at_once() => Self::KeyRemoved,
            (true, true) if is_in_effect => Self::KeyReplacedByOrder,
            (true, false) if is_in_effect => Self::KeyRemovedByOrder,
            (true, true) => Self::KeyToBeReplaced(row.effective_at),
            (true, false) => Self::KeyToBeRemoved(row.effective_at),
        }
    }
}

impl RulesChange {
    /// The change that a job names: tenant, number of the change, and place of the contact.
    pub(super) fn of(
        conn: &mut Conn,
        config: &Config,
        tenant: &Tenant,
        job: &Job,
        now: Timestamp,
    ) -> Result<Self, Error> {
        if job.template == Template::ContactsChanged {
            return Self::of_contacts(conn, tenant, job);
        }
        let number = job.dedup_key.split(' ').nth(1).unwrap_or_default();
        let seq = number.trim_end_matches(CANCELLED).parse::<i64>().unwrap_or_default();
        let missing = || Error::internal("a mail about a change that is not there");
        let mut is_void = false;
        let (by, ordered_by, at, differences, what) = if job.template == Template::ApprovalKeyChanged {
            let (row, before) = approval_keys::find(conn, &tenant.id, seq)?.ok_or_else(missing)?;
            let before = before.map(|before| before.key()).transpose()?.flatten();
            let key = row.key()?;
            let is_kept = number.ends_with(CANCELLED);
            is_void = row.cancelled_at.is_some() && !is_kept;
            let newest = approval_keys::in_effect(conn, &tenant.id, now)?.filter(|newest| newest.seq > row.seq);
            let by_now = newest.map(|newest| newest.key()).transpose()?;
            let has = (before.is_some(), key.is_some());
            let shown = |key: Option<PublicKey>| key.map_or_else(|| "none".to_owned(), |key| key.thumbprint());
            let (before, after, by_now) = (shown(before), shown(key), by_now.map(shown));
            let (before, after) = if is_kept { (after, before) } else { (before, after) };
            let by_now = by_now.filter(|by_now| *by_now != after);
            let what = Changed::of(&row, is_kept, has, by_now.is_some(), now);
            let differences = vec![Difference { label: "Key", before, after, by_now }];
            match row.cancelled_at.filter(|_| is_kept) {
                Some(at) => (row.cancelled_by, Some(named(row.actor_name)), at, differences, what),
                None => (row.actor_name, None, row.created_at, differences, what),
            }
        } else {
            let row = policies::find(conn, &tenant.id, seq)?.ok_or_else(missing)?;
            let before = policies::find(conn, &tenant.id, seq - 1)?;
            let before = policies::policy_of(before.as_ref())?;
            let (before, rules) = (Rules::of(&before, config), Rules::of(&row.policy()?, config));
            let newest = policies::policy_of(policies::newest(conn, &tenant.id)?.as_ref())?;
            let newest = Rules::of(&newest, config);
            let again = newest.differences(&rules);
            let by_now = |label| again.iter().find(|(one, ..)| *one == label).map(|(_, _, by_now)| by_now.clone());
            let differences = rules.differences(&before).into_iter();
            let differences = differences.map(|(label, before, after)| {
                let by_now = by_now(label);
                Difference { label, before, after, by_now }
            });
            let what = if newest.loosens(&before) { Changed::Policy } else { Changed::PolicyForAWhile };
            (row.actor_name, None, row.created_at, differences.collect(), what)
        };
        let address = job.recipient.clone().unwrap_or_default();
        let contact = tenant.contacts().into_iter().find(|contact| contact.email == address);
        Ok(Self {
            tenant_name: tenant.name.clone(),
            time_zone: tenant.time_zone.clone(),
            recipient_name: contact.map_or(address, |contact| contact.name),
            by: named(by),
            at,
            ordered_by,
            differences,
            what,
            is_void,
        })
    }

    fn of_contacts(conn: &mut Conn, tenant: &Tenant, job: &Job) -> Result<Self, Error> {
        let address = job.recipient.clone().unwrap_or_default();
        let client = Exchange::of(&job.dedup_key).and_then(|exchange| exchange.client);
        let client = client.map(|id| clients::find(conn, &id)).transpose()?.flatten();
        let again = tenant.contacts().into_iter().find(|contact| contact.email.eq_ignore_ascii_case(&address));
        let what = if again.is_some() { Changed::NoContactForAWhile } else { Changed::NoContact };
        let [contact, none] = ["a contact", "no contact"].map(str::to_owned);
        let by_now = again.is_some().then(|| contact.clone());
        Ok(Self {
            tenant_name: tenant.name.clone(),
            time_zone: tenant.time_zone.clone(),
            recipient_name: again.map_or(address, |contact| contact.name),
            by: named(client.map(|client| client.name)),
            at: job.created_at,
            ordered_by: None,
            differences: vec![Difference { label: "Your address", before: contact, after: none, by_now }],
            what,
            is_void: false,
        })
    }

    /// Whether what was changed was changed again since.
    pub(super) fn is_changed_again(&self) -> bool {
        self.differences.iter().any(|difference| difference.by_now.is_some())
    }
}

/// Somebody by name; only operators have none.
fn named(name: Option<String>) -> String {
    name.unwrap_or_else(|| "an operator".to_owned())
}

/// Follows the number of a change that was cancelled.
pub(super) const CANCELLED: char = 'x';
