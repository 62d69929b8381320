//! Rate limits: anonymous callers by address, clients by id.

use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::HeaderMap;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, web};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use super::Sender;
use super::body_budget::{BodyBudget, CountedBody};
use super::forwarded::Proxies;
use crate::config;
use crate::error::{Code, Error};
use crate::id::ClientId;
use crate::store::Owner;

/// Counts requests a minute, for each caller.
struct Limiter<K: Hash + Eq + Clone> {
    name: &'static str,
    /// The key of the configuration that sets it.
    key: &'static str,
    calls: u32,
    counts: DefaultKeyedRateLimiter<K>,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn per_minute((name, key): (&'static str, &'static str), calls: u32) -> Self {
        let quota = Quota::per_minute(NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN));
        Self { name, key, calls, counts: DefaultKeyedRateLimiter::keyed(quota) }
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `rate_limited`, with the policy and the time to wait.
    fn check(&self, caller: &K) -> Result<(), Error> {
        self.counts.check_key(caller).map_err(|denied| {
            let wait = denied.wait_time_from(DefaultClock::default().now());
            let error = Error::new(Code::RateLimited).retry_after(wait.as_secs() + 1);
            error.limit(self.name, self.calls).limited_by(self.key)
        })
    }

    /// Removes the counts of idle callers.
    fn forget_idle(&self) {
        self.counts.retain_recent();
        self.counts.shrink_to_fit();
    }
}

/// Names of the policies, and their keys in the configuration.
const PUBLIC: (&str, &str) = ("public", "public_per_minute");
const CLIENT: (&str, &str) = ("client", "client_per_minute");

/// Limits of anonymous callers and of clients.
pub(crate) struct Limits {
    /// Anonymous callers, by network.
    public: Limiter<IpAddr>,
    /// Clients, if the configuration limits them.
    client: Option<Limiter<ClientId>>,
    of_strangers: Arc<BodyBudget>,
    of_clients: Arc<BodyBudget>,
    proxies: Proxies,
    /// Whether the log says already that a peer is not trusted.
    is_warned: AtomicBool,
}

impl Limits {
    pub(crate) fn new(config: &config::Limits) -> Self {
        let client = (config.client_per_minute > 0).then(|| Limiter::per_minute(CLIENT, config.client_per_minute));
        Self {
            public: Limiter::per_minute(PUBLIC, config.public_per_minute),
            client,
            of_strangers: BodyBudget::of_strangers(),
            of_clients: BodyBudget::of_clients(),
            proxies: Proxies { trusted: config.trusted_proxies.clone(), header: config.trusted_header },
            is_warned: AtomicBool::new(false),
        }
    }

    /// Counts a request of a client.
    ///
    /// # Errors
    /// `rate_limited`, with the policy and the time to wait.
    pub(super) fn check_client(&self, client: &ClientId) -> Result<(), Error> {
        self.client.as_ref().map_or(Ok(()), |limiter| limiter.check(client))
    }

    /// The address of a caller; behind proxies as they state it.
    pub(super) fn address(&self, request: &HttpRequest) -> Option<IpAddr> {
        request.peer_addr().map(|peer| self.origin(peer.ip(), request.headers()).to_canonical())
    }

    /// The address of a caller as [`Proxies::origin`] tells it. That a peer is not believed is told once.
    fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let origin = self.proxies.origin(peer, headers);
        if origin.is_unheard && !self.is_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                peer.address = %origin.address,
                "a peer that is not trusted sent `{}`: callers behind a proxy share its limits, unless it is named in \
                 `limits.trusted_proxies`",
                self.proxies.header.as_str()
            );
        }
        origin.address
    }

    /// A body of which nothing has arrived; of this length, as far as it is known.
    ///
    /// # Errors
    /// `unavailable`, if so much finds no room.
    pub(super) fn body(&self, request: &HttpRequest, sender: Sender, length: usize) -> Result<CountedBody, Error> {
        match sender {
            Sender::Proven => self.of_clients.body(Owner::current(), length),
            Sender::Unproven => {
                let address = self.address(request).unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
                self.of_strangers.body(Owner::Address(network(address)), length)
            }
        }
    }

    /// Removes the counts of idle callers.
    pub(crate) fn forget_idle(&self) {
        self.public.forget_idle();
        if let Some(client) = &self.client {
            client.forget_idle();
        }
    }
}

/// The network that an address is counted as: IPv6 by /64, because one customer has that many addresses.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

/// Refuses anonymous callers above the limit.
pub(crate) async fn limit_public(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let (Some(limits), Some(peer)) = (request.app_data::<web::Data<Limits>>(), request.peer_addr()) {
        let network = network(limits.origin(peer.ip(), request.headers()));
        limits.public.check(&network)?;
        Owner::Address(network).becomes_current(None);
    }
    next.call(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_as_the_limit_says_are_taken_at_once() {
        for calls in [1, 120, 100_000, 1_000_000] {
            let limiter = Limiter::per_minute(PUBLIC, calls);
            let taken = (0..calls.min(2_000)).filter(|_| limiter.check(&"somebody").is_ok()).count();
            assert_eq!(taken, calls.min(2_000) as usize);
        }
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_count() {
        let limiter = Limiter::per_minute(PUBLIC, 1);
        let calls = |address: &str| limiter.check(&network(address.parse().unwrap())).is_ok();
        assert!(calls("2001:db8::1"));
        assert!(!calls("2001:db8::2"));
        assert!(calls("2001:db8:0:1::1"));
        assert!(calls("192.0.2.1"));
        assert!(!calls("::ffff:192.0.2.1"));
    }
}
