//! Rate limits of mailed links: per client and minute, per tenant and day, and for fresh links per recipient.
//!
//! A recipient's fresh links are counted in the database, exactly. The other two
//! limits stop runaway programs and are approximate: each instance counts clients
//! by itself, and reads a tenant's count from the database at least once a minute.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use time::Duration;

use super::store;
use crate::clock::Timestamp;
use crate::config;
use crate::context::Context;
use crate::db::Conn;
use crate::error::{Code, Error};
use crate::id::{ClientId, ConsultantId};
use crate::store::{ANSWER_TIMEOUT, within};

const HOUR: Duration = Duration::hours(1);
const DAY_SECONDS: i64 = 86_400;

/// How long an instance relies on its own count of a tenant's e-mails.
const RECOUNT: Duration = Duration::minutes(1);

/// Tokens remembered at a time: more than legitimate requests use in an hour.
const MAX_ASKED: usize = 10_000;

/// Counters of this instance.
pub(crate) struct Limits {
    clients: DefaultKeyedRateLimiter<String>,
    tenant_day: u32,
    tenants: Mutex<Days>,
    asked: Mutex<HashMap<[u8; 32], Vec<Timestamp>>>,
    fresh: Fresh,
}

/// The current day of each tenant; `None` before the count was read.
type Days = HashMap<String, Arc<tokio::sync::Mutex<Option<Day>>>>;

/// Number of a tenant's mailed links on one day (UTC).
#[derive(Clone, Copy)]
struct Day {
    number: i64,
    count: u32,
    counted_at: Timestamp,
}

/// Limits of fresh links per recipient.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    /// Wait before the first fresh link; doubles with each one within the hour.
    pub cool_down: Duration,
    /// Fresh links per hour.
    pub per_hour: u32,
}

impl Fresh {
    /// Wait after the newest e-mail, given the number of fresh links within the hour.
    fn cool_down_after(self, fresh: usize) -> Duration {
        let doublings = u32::try_from(fresh.min(16)).unwrap_or(16);
        (self.cool_down * 2_i32.saturating_pow(doublings)).min(HOUR.max(self.cool_down))
    }

    /// End of the wait; `None` if over. `fresh` holds the times of the hour's fresh links, newest first.
    fn until(self, mailed_at: Timestamp, fresh: &[Timestamp], now: Timestamp) -> Option<Timestamp> {
        let newest = fresh.first().map_or(mailed_at, |newest| mailed_at.max(*newest));
        let cooled = newest.plus(self.cool_down_after(fresh.len()));
        let most = usize::try_from(self.per_hour).unwrap_or(usize::MAX);
        let room = most.checked_sub(1).and_then(|last| fresh.get(last)).map_or(now, |oldest| oldest.plus(HOUR));
        Some(cooled.max(room)).filter(|until| *until > now)
    }
}

/// `resend_cool_down` with the remaining wait.
fn too_early(until: Timestamp, now: Timestamp) -> Error {
    let wait = until.since(now).whole_seconds() + 1;
    Error::new(Code::ResendCoolDown).retry_after(wait.unsigned_abs())
}

/// The cool-down that applies to a fresh link.
///
/// # Errors
/// `resend_cool_down` while the cool-down lasts, or when the hour's limit is reached.
pub(crate) fn fresh_link(
    conn: &mut Conn,
    limits: Fresh,
    consultant: &ConsultantId,
    mailed_at: Timestamp,
    now: Timestamp,
) -> Result<Duration, Error> {
    let fresh = store::fresh_links_since(conn, consultant, now.minus(HOUR))?;
    match limits.until(mailed_at, &fresh, now) {
        Some(until) => Err(too_early(until, now)),
        None => Ok(limits.cool_down_after(fresh.len())),
    }
}

impl Limits {
    pub(crate) fn new(config: &config::Config) -> Self {
        let a_minute = NonZeroU32::new(config.limits.mails_per_client_minute).unwrap_or(NonZeroU32::MIN);
        Self {
            clients: DefaultKeyedRateLimiter::keyed(Quota::per_minute(a_minute)),
            tenant_day: config.limits.mails_per_tenant_day,
            tenants: Mutex::default(),
            asked: Mutex::default(),
            fresh: Fresh {
                cool_down: config.links.resend_cool_down,
                per_hour: config.limits.fresh_links_per_recipient_hour,
            },
        }
    }

    /// Limits of fresh links per recipient.
    pub(crate) const fn fresh(&self) -> Fresh {
        self.fresh
    }

    /// Counts an e-mail that a client requests for a tenant.
    ///
    /// # Errors
    /// `rate_limited`, with the wait in `Retry-After`.
    pub(crate) async fn count(
        &self,
        cx: &Context,
        client: Option<&ClientId>,
        tenant_id: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if let Some(client) = client {
            self.clients.check_key(&client.to_string()).map_err(|denied| {
                let wait = denied.wait_time_from(DefaultClock::default().now());
                Error::new(Code::RateLimited).detail("too many links per minute").retry_after(wait.as_secs() + 1)
            })?;
        }
        match tenant_id {
            // All who wait for the tenant's lock share the time-out.
            Some(tenant_id) => within(ANSWER_TIMEOUT, self.count_tenant(cx, tenant_id, now)).await,
            None => Ok(()),
        }
    }

    async fn count_tenant(&self, cx: &Context, tenant_id: &str, now: Timestamp) -> Result<(), Error> {
        let number = now.unix_seconds().div_euclid(DAY_SECONDS);
        let tenant = Arc::clone(self.tenants().entry(tenant_id.to_owned()).or_default());
        // The lock lets one caller read the count for all.
        let mut known = tenant.lock().await;
        let room =
            |day: &Day| day.number == number && day.count < self.tenant_day && now.since(day.counted_at) < RECOUNT;
        let mut today = if let Some(day) = known.filter(room) {
            day
        } else {
            let midnight = now.minus(Duration::seconds(now.unix_seconds().rem_euclid(DAY_SECONDS)));
            let tenant_id = tenant_id.to_owned();
            let mailed = cx.store.read(move |conn| Ok(store::links_mailed_since(conn, &tenant_id, midnight)?)).await?;
            Day { number, count: u32::try_from(mailed).unwrap_or(u32::MAX), counted_at: now }
        };
        let full = today.count >= self.tenant_day;
        if !full {
            today.count += 1;
        }
        *known = Some(today);
        if full {
            let wait = DAY_SECONDS - now.unix_seconds().rem_euclid(DAY_SECONDS);
            let refused = Error::new(Code::RateLimited).detail("the tenant's daily limit of mailed links is reached");
            return Err(refused.retry_after(wait.unsigned_abs()));
        }
        Ok(())
    }

    /// Counts a request for a fresh link with this token, valid or not.
    ///
    /// # Errors
    /// `resend_cool_down`, by the same schedule for every token, so that it reveals nothing about validity.
    pub(crate) fn count_request(&self, token: &str, now: Timestamp) -> Result<(), Error> {
        let mut key = [0; 32];
        key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let mut asked = self.asked();
        if asked.len() >= MAX_ASKED && !asked.contains_key(&key) {
            asked.retain(|_, times| times.first().is_some_and(|last| now.since(*last) < HOUR));
            if asked.len() >= MAX_ASKED {
                asked.clear();
            }
        }
        let times = asked.entry(key).or_default();
        times.retain(|at| now.since(*at) < HOUR);
        let mut fresh = times.clone();
        // The oldest request is the base of the cool-down, as the original e-mail is for a real link.
        let first = fresh.pop();
        if let Some(until) = first.and_then(|first| self.fresh.until(first, &fresh, now)) {
            return Err(too_early(until, now));
        }
        times.insert(0, now);
        Ok(())
    }

    /// Removes expired counters.
    pub(crate) fn forget_idle(&self, now: Timestamp) {
        self.clients.retain_recent();
        self.clients.shrink_to_fit();
        let day = now.unix_seconds().div_euclid(DAY_SECONDS);
        // A locked counter is in use.
        self.tenants()
            .retain(|_, tenant| tenant.try_lock().map_or(true, |known| known.is_some_and(|known| known.number == day)));
        self.asked().retain(|_, times| times.first().is_some_and(|last| now.since(*last) < HOUR));
    }

    fn tenants(&self) -> MutexGuard<'_, Days> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<[u8; 32], Vec<Timestamp>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const FRESH: Fresh = Fresh { cool_down: Duration::seconds(60), per_hour: 5 };

    #[test]
    fn the_cool_down_doubles_and_the_sixth_within_an_hour_waits_for_the_first_to_be_an_hour_old() {
        let start = Clock::System.now();
        let mut now = start;
        let mut fresh: Vec<Timestamp> = Vec::new();
        let mut waits = Vec::new();
        for _ in 0..5 {
            let until = FRESH.until(start, &fresh, now).unwrap();
            waits.push(until.since(now).whole_seconds());
            now = until;
            assert_eq!(FRESH.until(start, &fresh, now), None);
            fresh.insert(0, now);
        }
        assert_eq!(waits, [60, 120, 240, 480, 960]);
        let until = FRESH.until(start, &fresh, now).unwrap();
        assert!(until >= fresh[4].plus(HOUR), "{until}");
    }

    #[test]
    fn without_a_cool_down_there_is_still_a_most() {
        let now = Clock::System.now();
        let none = Fresh { cool_down: Duration::ZERO, per_hour: 2 };
        assert_eq!(none.until(now, &[now], now), None);
        assert_eq!(none.until(now, &[now, now], now), Some(now.plus(HOUR)));
    }

    #[test]
    fn any_token_is_counted_alike() {
        let config = config::Config::from_toml("").unwrap();
        let limits = Limits::new(&config);
        let now = Clock::System.now();
        assert!(limits.count_request("a token of nobody", now).is_ok());
        let refused = limits.count_request("a token of nobody", now.plus(Duration::seconds(10))).unwrap_err();
        assert_eq!((refused.code(), refused.retry_after_seconds()), (Code::ResendCoolDown, Some(51)));
        assert!(limits.count_request("another", now).is_ok());
        assert!(limits.count_request("a token of nobody", now.plus(Duration::seconds(60))).is_ok());
        assert!(limits.count_request("a token of nobody", now.plus(Duration::seconds(120))).is_err(), "it doubles");
        for number in 0..3 * MAX_ASKED {
            assert!(limits.count_request(&number.to_string(), now).is_ok());
        }
        assert!(limits.asked().len() <= MAX_ASKED);
    }
}
