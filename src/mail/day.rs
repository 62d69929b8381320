//! The days of a tenant, by which visits are summarised.

use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use crate::clock::Timestamp;
use crate::id::LinkId;

/// The time zone of this name.
pub(super) fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// A moment in a time zone.
pub(super) fn zoned(at: Timestamp, zone: TimeZone) -> Zoned {
    jiff::Timestamp::from_microsecond(at.unix_micros()).unwrap_or_default().to_zoned(zone)
}

/// A day: from one midnight to the next, in the time zone of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Day {
    /// The day of this moment.
    pub(super) fn of(at: Timestamp, zone_name: &str) -> Self {
        let zoned = zoned(at, zone(zone_name));
        let midnight = |zoned: Result<Zoned, jiff::Error>| {
            let midnight = zoned.and_then(|zoned| zoned.start_of_day());
            midnight.map_or(at, |midnight| Timestamp::from_unix_micros(midnight.timestamp().as_microsecond()))
        };
        Self { from: midnight(Ok(zoned.clone())), to: midnight(zoned.checked_add(1.day())) }
    }

    /// Whether it is the day of this moment.
    pub(super) fn holds(self, at: Timestamp) -> bool {
        self.from <= at && at < self.to
    }

    /// The day as the key of a link's summary.
    pub(super) fn key(self, link: &LinkId) -> String {
        format!("{link} {} {}", self.from.unix_micros(), self.to.unix_micros())
    }

    /// The day in the key of a summary.
    pub(super) fn in_key(key: &str) -> Option<Self> {
        let mut times = key.split(' ').skip(1).map(|micros| micros.parse().map(Timestamp::from_unix_micros));
        Some(Self { from: times.next()?.ok()?, to: times.next()?.ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn a_day_is_the_tenants_and_its_key_tells_it() {
        let at = Timestamp::from_utc(datetime!(2026-11-23 19:00 UTC));
        let day = Day::of(at, "Asia/Kolkata");
        assert_eq!(day.from, Timestamp::from_utc(datetime!(2026-11-23 18:30 UTC)));
        assert_eq!(day.to, Timestamp::from_utc(datetime!(2026-11-24 18:30 UTC)));
        assert!(day.holds(at) && !day.holds(day.to));
        assert_eq!(Day::in_key(&day.key(&LinkId::new(at))), Some(day));
        // The night in which summer time ends has 25 hours.
        let long = Day::of(Timestamp::from_utc(datetime!(2026-10-25 12:00 UTC)), "Europe/Berlin");
        assert_eq!(long.to.since(long.from), time::Duration::hours(25));
    }
}
