//! How often strangers may call the landing page's routes.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};

use crate::app::App;
use crate::error::{Code, Error};

/// Counts calls by address; IPv6 by /64, because one customer has that many.
pub(crate) struct PublicLimiter(DefaultKeyedRateLimiter<IpAddr>);

impl PublicLimiter {
    pub(crate) fn per_minute(calls: u32) -> Self {
        Self(DefaultKeyedRateLimiter::keyed(Quota::per_minute(NonZeroU32::new(calls).unwrap_or(NonZeroU32::MIN))))
    }

    fn check(&self, address: IpAddr) -> Result<(), Error> {
        self.0.check_key(&network(address)).map_err(|denied| {
            let wait = denied.wait_time_from(DefaultClock::default().now());
            Error::new(Code::RateLimited).retry_after(wait.as_secs() + 1)
        })
    }

    /// Drops addresses that have not called for a while.
    pub(crate) fn forget_idle(&self) {
        self.0.retain_recent();
        self.0.shrink_to_fit();
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        },
    }
}

/// Refuses callers that come too often. The peer's address counts, never a header.
pub(crate) async fn limit_public(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    if let (Some(app), Some(peer)) = (request.app_data::<web::Data<App>>(), request.peer_addr()) {
        app.public_limiter.check(peer.ip())?;
    }
    next.call(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_calls_as_the_limit_says_are_taken_at_once() {
        for calls in [1, 120, 100_000, 1_000_000] {
            let limiter = PublicLimiter::per_minute(calls);
            let taken = (0..calls.min(2_000)).filter(|_| limiter.check("192.0.2.1".parse().unwrap()).is_ok()).count();
            assert_eq!(taken, calls.min(2_000) as usize);
        }
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_count() {
        let limiter = PublicLimiter::per_minute(1);
        assert!(limiter.check("2001:db8::1".parse().unwrap()).is_ok());
        assert!(limiter.check("2001:db8::2".parse().unwrap()).is_err());
        assert!(limiter.check("2001:db8:0:1::1".parse().unwrap()).is_ok());
        assert!(limiter.check("192.0.2.1".parse().unwrap()).is_ok());
        assert!(limiter.check("::ffff:192.0.2.1".parse().unwrap()).is_err());
    }
}
