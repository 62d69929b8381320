//! Rate limits of mails: per client and minute, per tenant and day, per recipient and hour, and for fresh links.
//!
//! Fresh links and notices are counted in the database. The limits of new links stop
//! runaway programs and are approximate: each instance counts clients and recipients
//! by itself, and reads a tenant's count from the database at least once a minute.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::QueryResult;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota};
use time::Duration;

use super::store::{self, Beside, Job};
use crate::clock::{Stretch, Timestamp};
use crate::config;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::Template;
use crate::error::{Code, Error};
use crate::id::{ClientId, ConsultantId};
use crate::records;
use crate::records::links::Link;
use crate::store::{ANSWER_TIMEOUT, within};

const HOUR: Duration = Duration::hours(1);
const DAY_SECONDS: i64 = 86_400;

/// A limit: its key in the configuration, and what callers are told.
type Limit = (&'static str, &'static str);

const CLIENT: Limit = ("mails_per_client_minute", "too many links per minute");

const RECIPIENT: Limit = ("mails_per_recipient_hour", "the hourly limit of links mailed to this recipient is reached");

const CONTACTS: Limit = (
    "mails_per_recipient_hour",
    "the tenant's contacts had too many mails of this kind within the hour that this client has caused",
);

const FORMER_ADDRESS: Limit = (
    "mails_per_recipient_hour",
    "the address was replaced so often within the hour that its owner hears of no more changes",
);

const TENANT_FULL: Limit = ("mails_per_tenant_day", "the tenant's daily limit of mailed links is reached");
const UNREGISTERED_FULL: Limit = (
    "mails_per_tenant_day",
    "the daily limit of mailed links is reached that all tenants share which were never registered (PUT /v1/tenants/{id})",
);

/// How many times what one client may mail to a recipient all clients may for one tenant.
const CLIENTS_OF_A_TENANT: NonZeroU32 = NonZeroU32::MIN.saturating_add(3);

/// How many times what a recipient gets of one tenant they get of all, and of what is never held back for others of its kind.
const OF_ALL_TENANTS: u32 = 4;

/// How long an instance relies on its own count of a tenant's e-mails.
const RECOUNT: Duration = Duration::minutes(1);

/// The bucket of all tenants that were never registered: an id that no tenant has.
const UNREGISTERED: &str = "";

/// Tenants remembered at a time as registered or not.
const MAX_KNOWN: usize = 10_000;

/// Counters of this instance.
pub(crate) struct Limits {
    clients: DefaultKeyedRateLimiter<String>,
    recipients: DefaultKeyedRateLimiter<String>,
    /// The same for all clients of a tenant: who may make clients makes as many as they like.
    tenants_recipients: DefaultKeyedRateLimiter<String>,
    tenant_day: u32,
    tenants: Mutex<Days>,
    /// Whether a tenant was registered, and when that was read.
    registered: Mutex<HashMap<String, (bool, Timestamp)>>,
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

/// Limits of fresh links.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fresh {
    /// Wait before the first fresh link; doubles with each one within the hour.
    pub cool_down: Duration,
    /// Fresh links of one link per hour.
    pub per_hour: u32,
    /// Links of one tenant mailed to one recipient per hour.
    pub per_recipient_hour: u32,
}

impl Fresh {
    /// Wait after the newest e-mail, given the number of fresh links within the hour.
    fn cool_down_after(self, fresh: usize) -> Duration {
        let doublings = u32::try_from(fresh.min(16)).unwrap_or(16);
        (self.cool_down * 2_i32.saturating_pow(doublings)).min(HOUR.max(self.cool_down))
    }

    /// End of the wait; `None` if over. `fresh` holds the times of the hour's fresh links, newest first.
    fn until(self, mailed_at: Timestamp, fresh: &[Timestamp], now: Timestamp) -> Option<Timestamp> {
        let lately = now.last(HOUR.max(self.cool_down));
        let newest = fresh.iter().copied().chain([mailed_at]).filter(|at| lately.contains(*at)).max();
        let cooled = newest.map(|newest| newest.plus(self.cool_down_after(fresh.len())));
        let most = usize::try_from(self.per_hour).unwrap_or(usize::MAX);
        let room = most.checked_sub(1).and_then(|last| fresh.get(last)).map(|oldest| oldest.plus(HOUR));
        cooled.max(room).filter(|until| *until > now)
    }
}

/// `resend_cool_down` with the remaining wait.
fn too_early(until: Timestamp, now: Timestamp) -> Error {
    let wait = until.since(now).whole_seconds() + 1;
    Error::new(Code::ResendCoolDown).retry_after(wait.unsigned_abs())
}

fn rate_limited((key, detail): Limit, wait: i64) -> Error {
    Error::new(Code::RateLimited).limited_by(key).detail(detail).retry_after(wait.max(1).unsigned_abs())
}

/// The cool-down that applies to a fresh link. It is the link's own: other links to the same person do not count.
///
/// # Errors
/// `resend_cool_down` while the cool-down lasts, or when the hour's limit is reached; `rate_limited` when the
/// recipient's limit is.
pub(crate) fn fresh_link(conn: &mut Conn, limits: Fresh, link: &Link, now: Timestamp) -> Result<Duration, Error> {
    let (of_tenant, of_all) = (limits.per_recipient_hour, limits.per_recipient_hour.saturating_mul(OF_ALL_TENANTS));
    let mails = store::link_mails(conn, link, now.last(HOUR), of_all.into())?;
    let fresh = mails.iter().filter(|mail| mail.magic_link_id.as_ref() == Some(&link.id));
    let fresh = fresh.filter(|mail| mail.generation > Some(1)).map(|mail| mail.created_at).collect::<Vec<_>>();
    if let Some(until) = limits.until(link.resent_at.unwrap_or(link.created_at), &fresh, now) {
        return Err(too_early(until, now));
    }
    let mut for_tenant = mails.iter().filter(|mail| mail.tenant_id == link.tenant_id).collect::<Vec<_>>();
    for_tenant.truncate(usize::try_from(of_tenant).unwrap_or(usize::MAX));
    require_fewer(for_tenant.iter().map(|mail| mail.created_at), of_tenant, RECIPIENT, now)?;
    require_fewer(mails.iter().map(|mail| mail.created_at), of_all, RECIPIENT, now)?;
    Ok(limits.cool_down_after(fresh.len()))
}

/// Refuses one more within the hour where there were so many; the newest come first.
fn require_fewer(
    within_the_hour: impl ExactSizeIterator<Item = Timestamp>,
    most: u32,
    limit: Limit,
    now: Timestamp,
) -> Result<(), Error> {
    let is_full = u32::try_from(within_the_hour.len()).unwrap_or(u32::MAX) >= most;
    match within_the_hour.last() {
        Some(oldest) if is_full => Err(rate_limited(limit, oldest.plus(HOUR).since(now).whole_seconds() + 1)),
        _ => Ok(()),
    }
}

/// Whether a notice goes to somebody who had the hour's limit of a tenant's notices, or of those of all tenants.
///
/// What must not be missed is held back for nothing else: only who was told so many times of the very kind hears of no
/// more. It has another limit where it is caused ([`require_room`]).
pub(super) fn notice_is_too_many(conn: &mut Conn, job: &Job, per_hour: u32, now: Timestamp) -> QueryResult<bool> {
    let is_warning = matches!(
        job.template,
        Template::AddressChanged
            | Template::PolicyLoosened
            | Template::ApprovalKeyChanged
            | Template::ContactsChanged
            | Template::ApprovalRequested
            | Template::ExtensionRequested
            | Template::EmergencyIssued
            | Template::OwnerEmergencyIssued
            | Template::PolicyViolation
    );
    if store::OPENING.contains(&job.template) {
        return Ok(false);
    }
    let (of_tenant, of_all) = (per_hour, per_hour.saturating_mul(OF_ALL_TENANTS));
    let mut had = |beside, most: u32| store::was_mailed_often(conn, (job, beside), now.last(HOUR), most.into());
    if is_warning {
        return had(Beside::OfKind, of_all);
    }
    // Almost nobody has had as many of all.
    Ok(had(Beside::All, of_tenant)? && (had(Beside::OfTenant, of_tenant)? || had(Beside::All, of_all)?))
}

/// Refuses to replace an address that was replaced so often within the hour: its owner is told each time, whoever moves it
/// to and fro. Each client has a room of its own, and all of them one for each address.
///
/// # Errors
/// `rate_limited`, with the wait in `Retry-After`.
pub(super) fn require_room_for_change(
    conn: &mut Conn,
    address: &str,
    (client, per_hour): (Option<&ClientId>, u32),
    now: Timestamp,
) -> Result<(), Error> {
    let of_all = per_hour.saturating_mul(OF_ALL_TENANTS);
    let told = store::mails_to(conn, Template::AddressChanged, address, now.last(HOUR), of_all.into())?;
    let by = |key: &str| key.split(' ').nth(1).and_then(|word| word.parse::<ClientId>().ok());
    let own: Vec<Timestamp> = told.iter().filter(|(key, _)| by(key).as_ref() == client).map(|(_, at)| *at).collect();
    let most = usize::try_from(per_hour).unwrap_or(usize::MAX);
    require_fewer(own.into_iter().take(most), per_hour, FORMER_ADDRESS, now)?;
    // An operator at the command line is kept from it by no client.
    if client.is_none() { Ok(()) } else { require_fewer(told.iter().map(|(_, at)| *at), of_all, FORMER_ADDRESS, now) }
}

/// Refuses what the contacts of a tenant would be mailed about, where they had so many mails of its kind within the hour
/// that the same client has caused: no client uses up what others may ask, and an operator has a room of their own.
///
/// `caused` holds when it did so within the hour, newest first.
///
/// # Errors
/// `rate_limited`, with the wait in `Retry-After`.
pub(crate) fn require_room(caused: Vec<Timestamp>, per_hour: u32, now: Timestamp) -> Result<(), Error> {
    let newest = usize::try_from(per_hour).unwrap_or(usize::MAX);
    require_fewer(caused.into_iter().take(newest), per_hour, CONTACTS, now)
}

/// When mails to contacts count.
pub(crate) fn within_the_hour(now: Timestamp) -> Stretch {
    now.last(HOUR)
}

fn check(limiter: &DefaultKeyedRateLimiter<String>, caller: &String, limit: Limit) -> Result<(), Error> {
    limiter.check_key(caller).map_err(|denied| {
        let wait = denied.wait_time_from(DefaultClock::default().now());
        rate_limited(limit, i64::try_from(wait.as_secs()).unwrap_or(i64::MAX).saturating_add(1))
    })
}

impl Limits {
    pub(crate) fn new(config: &config::Config) -> Self {
        let most = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let (a_minute, an_hour) =
            (most(config.limits.mails_per_client_minute), most(config.limits.mails_per_recipient_hour));
        let of_a_tenant = an_hour.saturating_mul(CLIENTS_OF_A_TENANT);
        Self {
            clients: DefaultKeyedRateLimiter::keyed(Quota::per_minute(a_minute)),
            recipients: DefaultKeyedRateLimiter::keyed(Quota::per_hour(an_hour)),
            tenants_recipients: DefaultKeyedRateLimiter::keyed(Quota::per_hour(of_a_tenant)),
            tenant_day: config.limits.mails_per_tenant_day,
            tenants: Mutex::default(),
            registered: Mutex::default(),
            fresh: Fresh {
                cool_down: config.links.resend_cool_down,
                per_hour: config.limits.fresh_links_per_recipient_hour,
                per_recipient_hour: config.limits.mails_per_recipient_hour,
            },
        }
    }

    /// Limits of fresh links.
    pub(crate) const fn fresh(&self) -> Fresh {
        self.fresh
    }

    /// Counts an e-mail that a client requests.
    ///
    /// # Errors
    /// `rate_limited`, with the wait in `Retry-After`.
    pub(crate) fn count_client(&self, client: Option<&ClientId>) -> Result<(), Error> {
        let Some(client) = client else { return Ok(()) };
        check(&self.clients, &client.to_string(), CLIENT)
    }

    /// Counts the e-mail with a new link, for its tenant, and for its recipient as far as the client and the tenant cause
    /// them: no client, and no tenant by many of them, uses up what others may mail to the same person.
    ///
    /// # Errors
    /// `rate_limited`, with the wait in `Retry-After`.
    pub(crate) async fn count_new_link(
        &self,
        cx: &Context,
        client: Option<&ClientId>,
        tenant_id: &str,
        recipient: &ConsultantId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let client = client.map_or("", ClientId::as_str);
        check(&self.recipients, &format!("{client} {recipient}"), RECIPIENT)?;
        check(&self.tenants_recipients, &format!("{tenant_id} {recipient}"), RECIPIENT)?;
        // All who wait for the tenant's lock share the time-out.
        within(ANSWER_TIMEOUT, async {
            let bucket = if self.is_registered(cx, tenant_id, now).await? { tenant_id } else { UNREGISTERED };
            self.count_tenant(cx, bucket, now).await
        })
        .await
    }

    /// Whether the tenant was registered: so many invented ids have no more e-mails than one.
    async fn is_registered(&self, cx: &Context, tenant_id: &str, now: Timestamp) -> Result<bool, Error> {
        if let Some((registered, at)) = self.registered().get(tenant_id).copied()
            && (registered || now.last(RECOUNT).contains(at))
        {
            return Ok(registered);
        }
        let id = tenant_id.to_owned();
        let registered = cx.store.read(move |conn| Ok(records::tenants::find(conn, &id)?.is_some())).await?;
        let mut known = self.registered();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(tenant_id.to_owned(), (registered, now));
        Ok(registered)
    }

    async fn count_tenant(&self, cx: &Context, tenant_id: &str, now: Timestamp) -> Result<(), Error> {
        let is_shared = tenant_id == UNREGISTERED;
        let number = now.unix_seconds().div_euclid(DAY_SECONDS);
        let tenant = Arc::clone(self.tenants().entry(tenant_id.to_owned()).or_default());
        // The lock lets one caller read the count for all.
        let mut known = tenant.lock().await;
        let room = |day: &Day| {
            day.number == number && day.count < self.tenant_day && now.last(RECOUNT).contains(day.counted_at)
        };
        let mut today = if let Some(day) = known.filter(room) {
            day
        } else {
            let today = now.last(Duration::seconds(now.unix_seconds().rem_euclid(DAY_SECONDS)));
            let tenant_id = tenant_id.to_owned();
            let mailed = cx.store.read(move |conn| {
                Ok(match tenant_id.as_str() {
                    UNREGISTERED => store::links_mailed_to_unregistered(conn, today)?,
                    _ => store::links_mailed(conn, &tenant_id, today)?,
                })
            });
            let mailed = mailed.await?;
            Day { number, count: u32::try_from(mailed).unwrap_or(u32::MAX), counted_at: now }
        };
        let full = today.count >= self.tenant_day;
        if !full {
            today.count += 1;
        }
        *known = Some(today);
        if full {
            let wait = DAY_SECONDS - now.unix_seconds().rem_euclid(DAY_SECONDS);
            return Err(rate_limited(if is_shared { UNREGISTERED_FULL } else { TENANT_FULL }, wait));
        }
        Ok(())
    }

    /// Removes expired counters.
    pub(crate) fn forget_idle(&self, now: Timestamp) {
        for limiter in [&self.clients, &self.recipients, &self.tenants_recipients] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        let day = now.unix_seconds().div_euclid(DAY_SECONDS);
        // A locked counter is in use.
        self.tenants()
            .retain(|_, tenant| tenant.try_lock().map_or(true, |known| known.is_some_and(|known| known.number == day)));
        self.registered().retain(|_, (_, at)| now.last(HOUR).contains(*at));
    }

    fn tenants(&self) -> MutexGuard<'_, Days> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registered(&self) -> MutexGuard<'_, HashMap<String, (bool, Timestamp)>> {
        self.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const FRESH: Fresh = Fresh { cool_down: Duration::seconds(60), per_hour: 5, per_recipient_hour: 120 };

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
        let none = Fresh { cool_down: Duration::ZERO, per_hour: 2, ..FRESH };
        assert_eq!(none.until(now, &[now], now), None);
        assert_eq!(none.until(now, &[now, now], now), Some(now.plus(HOUR)));
    }
}
