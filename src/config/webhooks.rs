//! Settings of webhooks.

use ipnet::IpNet;
use time::Duration;

use super::reader::Reader;

/// Settings of webhooks.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Networks that may be called although they are not public; over plain HTTP where they are loopback.
    pub allow_addresses: Vec<IpNet>,
    /// Retention of finished messages.
    pub keep: Duration,
    /// Largest number of endpoints of a client.
    pub endpoints_per_client: u32,
    /// Largest number of endpoints that hear of a tenant, of all its clients.
    pub endpoints_per_tenant: u32,
}

impl Reader<'_> {
    pub(super) fn webhooks(&mut self) -> Webhooks {
        Webhooks {
            allow_addresses: self.networks("webhooks.allow_addresses"),
            keep: Duration::days(self.number("webhooks.keep_days", 30, 1..=3_650).into()),
            endpoints_per_client: self.number("webhooks.endpoints_per_client", 20, 1..=10_000),
            endpoints_per_tenant: self.number("webhooks.endpoints_per_tenant", 100, 1..=10_000),
        }
    }
}
