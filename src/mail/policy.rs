//! What a mail about a tenant's policy says.

use super::store::Job;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::db::Conn;
use crate::error::Error;
use crate::records::policies;
use crate::records::tenants::Tenant;
use crate::tenants::rules::Rules;

/// A change of a tenant's policy, for a contact of the tenant.
pub(super) struct PolicyChange {
    pub tenant_name: String,
    pub time_zone: String,
    /// Name of the contact; their address if they are none any more.
    pub recipient_name: String,
    pub by: String,
    pub at: Timestamp,
    /// What it is about, what it was, and what it is.
    pub differences: Vec<(&'static str, String, String)>,
}

impl PolicyChange {
    /// The change that a job names: tenant, number of the change, and place of the contact.
    pub(super) fn of(conn: &mut Conn, config: &Config, tenant: &Tenant, job: &Job) -> Result<Self, Error> {
        let seq = job.dedup_key.split(' ').nth(1).and_then(|seq| seq.parse::<i64>().ok()).unwrap_or_default();
        let row = policies::find(conn, &tenant.id, seq)?;
        let row = row.ok_or_else(|| Error::internal("a mail about a policy that is not there"))?;
        let before = policies::find(conn, &tenant.id, seq - 1)?;
        let before = policies::policy_of(before.as_ref())?;
        let rules = Rules::of(&row.policy()?, config);
        let address = job.recipient.clone().unwrap_or_default();
        let contact = tenant.contacts().into_iter().find(|contact| contact.email == address);
        Ok(Self {
            tenant_name: tenant.name.clone(),
            time_zone: tenant.time_zone.clone(),
            recipient_name: contact.map_or(address, |contact| contact.name),
            by: row.actor_name.unwrap_or_else(|| "an operator".to_owned()),
            at: row.created_at,
            differences: rules.differences(&Rules::of(&before, config)),
        })
    }
}
