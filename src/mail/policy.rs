//! What a mail about a tenant's policy, or about its approval key, says.

use super::store::Job;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::Error;
use crate::records::approval_keys::{self, ApprovalKeyRow};
use crate::records::policies;
use crate::records::tenants::Tenant;
use crate::tenants::rules::Rules;

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
    /// What it is about, what it was or was to be, and what it is.
    pub differences: Vec<(&'static str, String, String)>,
    pub what: Changed,
    /// Whether it was ordered, and cancelled before anybody heard of it: of that another mail tells.
    pub is_void: bool,
}

/// What was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changed {
    /// The policy: it allows more than before.
    Policy,
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
    /// The change that was ordered of it was cancelled.
    KeyKept,
}

impl Changed {
    /// What the mail about a change says at a time.
    fn of(row: &ApprovalKeyRow, is_kept: bool, had: bool, has: bool, now: Timestamp) -> Self {
        let is_in_effect = row.effective_at <= now;
        match (had, has) {
            _ if is_kept => Self::KeyKept,
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
            let what = Changed::of(&row, is_kept, before.is_some(), key.is_some(), now);
            let shown = [before, key].map(|key| key.map_or_else(|| "none".to_owned(), |key| key.thumbprint()));
            let [before, after] = shown;
            match row.cancelled_at.filter(|_| is_kept) {
                Some(at) => (row.cancelled_by, Some(named(row.actor_name)), at, vec![("Key", after, before)], what),
                None => (row.actor_name, None, row.created_at, vec![("Key", before, after)], what),
            }
        } else {
            let row = policies::find(conn, &tenant.id, seq)?.ok_or_else(missing)?;
            let before = policies::find(conn, &tenant.id, seq - 1)?;
            let before = policies::policy_of(before.as_ref())?;
            let rules = Rules::of(&row.policy()?, config);
            let differences = rules.differences(&Rules::of(&before, config));
            (row.actor_name, None, row.created_at, differences, Changed::Policy)
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
}

/// Somebody by name; only operators have none.
fn named(name: Option<String>) -> String {
    name.unwrap_or_else(|| "an operator".to_owned())
}

/// Follows the number of a change that was cancelled.
pub(super) const CANCELLED: char = 'x';
