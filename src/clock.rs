//! Time as a value.
//!
//! Only [`Clock`] reads the system clock. Every rule takes its [`Timestamp`] as
//! an argument, so a test can choose the time.

mod followed;
mod moved;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use diesel::backend::Backend;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::serialize::{self, Output, ToSql};
use diesel::sql_types;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime, PrimitiveDateTime, UtcOffset};

pub use followed::Followed;
pub(crate) use followed::Look;
pub use moved::Moved;

/// A moment in UTC, cut to microseconds because that is what both databases keep.
///
/// On the wire it is RFC 3339 with `Z`; other offsets are accepted and normalised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql_types::Timestamp)]
pub struct Timestamp(PrimitiveDateTime);

/// The first and the last moment that texts of RFC 3339, in UTC, and both databases can tell. RFC 3339 has a year 0, which
/// is one before Christ to PostgreSQL, and none at all to many readers.
const CALENDAR: [PrimitiveDateTime; 2] = [datetime!(0001-01-01 00:00), datetime!(9999-12-31 23:59:59.999_999)];

impl Timestamp {
    /// Brings any moment to UTC and to microseconds.
    #[must_use]
    pub fn from_utc(moment: OffsetDateTime) -> Self {
        let moment = moment.to_offset(UtcOffset::UTC);
        let cut = Duration::nanoseconds(i64::from(moment.nanosecond() % 1_000));
        Self(PrimitiveDateTime::new(moment.date(), moment.time()) - cut)
    }

    /// The moment as a date and time with the UTC offset.
    #[must_use]
    pub fn to_utc(self) -> OffsetDateTime {
        self.0.assume_utc()
    }

    /// Whole seconds since 1970, rounded down: a JWT `NumericDate`.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.to_utc().unix_timestamp()
    }

    /// Microseconds since 1970.
    #[must_use]
    pub fn unix_micros(self) -> i64 {
        i64::try_from(self.to_utc().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
    }

    /// The moment this many microseconds after 1970, which lies within the calendar.
    pub(crate) fn from_unix_micros(micros: i64) -> Self {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000);
        Self::from_utc(moment.unwrap_or(OffsetDateTime::UNIX_EPOCH))
    }

    /// The moment `duration` later, or `None` past the year 9999.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let [_, last] = CALENDAR;
        self.0.checked_add(whole_micros(duration)).filter(|at| *at <= last).map(Self)
    }

    /// The moment `duration` later, at most the end of the calendar.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_micros(duration))).within_calendar()
    }

    /// The moment `duration` earlier, at least the beginning of the calendar.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole_micros(duration))).within_calendar()
    }

    fn within_calendar(self) -> Self {
        let [first, last] = CALENDAR;
        Self(self.0.clamp(first, last))
    }

    /// The time from `earlier` until this moment; negative when it lies after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }

    /// Whether no more than the usual has passed since this moment, and the clock was not set meanwhile.
    pub(crate) fn is_still(self, now: Self) -> bool {
        now.since(self).abs() < DISORDER
    }

    /// The latest moment to which a clock that is right puts something off for at most `longest`.
    pub(crate) fn furthest(self, longest: Duration) -> Self {
        self.plus(longest).plus(DISORDER)
    }

    /// The last `duration`, for what is counted in it. What was written by a clock that was ahead, and has been set right
    /// since, does not lie in it: it would count until that time has come.
    pub(crate) fn last(self, duration: Duration) -> Stretch {
        Stretch { after: self.minus(duration), until: self.furthest(Duration::ZERO) }
    }

    /// The time to come in which something ends that was put off for at most `longest`.
    pub(crate) fn next(self, longest: Duration) -> Stretch {
        Stretch { after: self, until: self.furthest(longest) }
    }
}

/// By how much the clocks of copies differ at most, and one goes back without it being noticed.
const DISORDER: Duration = Duration::MINUTE;

/// A stretch of time, without its beginning and with its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub after: Timestamp,
    pub until: Timestamp,
}

impl Stretch {
    pub(crate) fn contains(self, at: Timestamp) -> bool {
        self.after < at && at <= self.until
    }
}

/// Condition that the time in a column lies in a stretch.
macro_rules! lies_in {
    ($column:expr, $stretch:expr) => {
        $column.gt($stretch.after).and($column.le($stretch.until))
    };
}

pub(crate) use lies_in;

/// A duration without the part that no moment has.
fn whole_micros(duration: Duration) -> Duration {
    duration - Duration::nanoseconds((duration.subsec_nanoseconds() % 1_000).into())
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_utc().format(&Rfc3339).map_err(|_outside_the_calendar| fmt::Error)?;
        f.write_str(&text)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let moment: OffsetDateTime = time::serde::rfc3339::deserialize(deserializer)?;
        // Close to its ends the calendar of another offset holds hours that UTC's does not: the smallest or the largest
        // value of a library, told in local time. They count as that end, because reports are never refused for their time.
        let [first, last] = CALENDAR.map(Self);
        let beyond = if moment.year() < 1_000 { first } else { last };
        Ok(moment.checked_to_offset(UtcOffset::UTC).map_or(beyond, Self::from_utc).within_calendar())
    }
}

impl<DB: Backend> ToSql<sql_types::Timestamp, DB> for Timestamp
where
    PrimitiveDateTime: ToSql<sql_types::Timestamp, DB>,
{
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, DB>) -> serialize::Result {
        self.0.to_sql(out)
    }
}

impl<DB: Backend> FromSql<sql_types::Timestamp, DB> for Timestamp
where
    PrimitiveDateTime: FromSql<sql_types::Timestamp, DB>,
{
    fn from_sql(bytes: DB::RawValue<'_>) -> deserialize::Result<Self> {
        PrimitiveDateTime::from_sql(bytes).map(Self)
    }
}

impl utoipa::PartialSchema for Timestamp {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .max_length(Some(35))
            .build()
            .into()
    }
}

impl utoipa::ToSchema for Timestamp {}

/// A difference between clocks above which the time is in doubt.
const LARGEST_OFFSET: Duration = Duration::seconds(30);

/// By how many microseconds the system clock may be set back, and its time stands still instead: what was done later sorts
/// later. After a larger step it was wrong before.
const STANDS_STILL: i64 = DISORDER.whole_seconds() * 1_000_000;

/// The latest time of the system clock that was told.
static LATEST: AtomicI64 = AtomicI64::new(i64::MIN);

/// Source of the time: the system clock, the clock of the database's server, that of a sandbox, or one that a test moves.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The system clock.
    #[default]
    System,
    /// The clock of the database's server, which all copies of the service share.
    Server(Arc<Followed>),
    /// A clock that moves only by [`Clock::advance`]: microseconds since 1970.
    Manual(Arc<AtomicI64>),
    /// The clock of a sandbox: another one, moved forward as its database says.
    Sandbox(Arc<Moved>),
}

impl Clock {
    /// A clock that starts at `now` and moves only by [`Clock::advance`].
    #[must_use]
    pub fn manual(now: Timestamp) -> Self {
        Self::Manual(Arc::new(AtomicI64::new(now.unix_micros())))
    }

    /// The clock of a machine that is wrong by this much, until the database's server tells the time.
    #[must_use]
    pub fn wrong_by(error: Duration) -> Self {
        Self::Server(Arc::new(Followed::new(error)))
    }

    /// The clock of a sandbox, which goes by this one and is moved forward by [`Clock::move_to`].
    pub(crate) fn of_sandbox(self, moved: Duration) -> Self {
        let clock = Self::Sandbox(Arc::new(Moved::new(self)));
        clock.move_to(moved);
        clock
    }

    /// Whether it is the clock of a sandbox.
    pub(crate) const fn is_of_sandbox(&self) -> bool {
        matches!(self, Self::Sandbox(_))
    }

    /// Moves a sandbox's clock to so much after the true time, unless it is further on; others are not affected.
    pub(crate) fn move_to(&self, moved: Duration) {
        if let Self::Sandbox(clock) = self {
            clock.move_to(moved);
        }
    }

    /// Whether it is a machine's, which may be wrong; that of a sandbox or a test is moved on purpose.
    pub(crate) const fn is_of_a_machine(&self) -> bool {
        matches!(self, Self::System | Self::Server(_))
    }

    /// How far a sandbox's clock was moved.
    pub(crate) fn moved(&self) -> Duration {
        match self {
            Self::Sandbox(clock) => clock.moved(),
            _ => Duration::ZERO,
        }
    }

    /// The time by which others judge what they get from us, such as the age of a signed call: a sandbox's clock is not
    /// theirs.
    pub(crate) fn true_now(&self) -> Timestamp {
        match self {
            Self::Sandbox(clock) => clock.source().now(),
            own => own.now(),
        }
    }

    /// The clock that will follow the server's; a manual clock stays what it is.
    pub(crate) fn following(self) -> Self {
        match self {
            Self::System => Self::wrong_by(Duration::ZERO),
            other => other,
        }
    }

    /// Whether it follows the clock of a server.
    pub(crate) fn follows(&self) -> bool {
        matches!(self.source(), Self::Server(_))
    }

    /// Whether the server should be asked for the time: once a minute, and when the machine's own clock was set.
    pub(crate) fn wants_a_look(&self) -> bool {
        matches!(self.source(), Self::Server(followed) if followed.wants_a_look())
    }

    /// Takes the server's time over.
    pub(crate) fn look(&self, look: Look) {
        if let Self::Server(followed) = self.source() {
            followed.look(look);
        }
    }

    /// The server's time minus the machine's own, as of the last look.
    pub(crate) fn offset(&self) -> Option<Duration> {
        match self.source() {
            Self::Server(followed) => followed.offset(),
            _ => None,
        }
    }

    /// Whether the machine, the server and what was told are so far apart that nobody knows the time.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.offset().is_some_and(|offset| offset.abs() > LARGEST_OFFSET)
    }

    /// The current moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => {
                let own = Timestamp::from_utc(OffsetDateTime::now_utc()).unix_micros();
                Timestamp::from_unix_micros(steady(&LATEST, own))
            }
            Self::Server(followed) => Timestamp::from_unix_micros(followed.now()),
            Self::Manual(micros) => Timestamp::from_unix_micros(micros.load(Ordering::SeqCst)),
            Self::Sandbox(clock) => clock.now(),
        }
    }

    /// The clock that a sandbox's goes by, or itself.
    fn source(&self) -> &Self {
        match self {
            Self::Sandbox(clock) => clock.source(),
            own => own,
        }
    }

    /// Moves a manual clock; others are not affected.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(micros) = self.source() {
            let by = i64::try_from(by.whole_microseconds()).unwrap_or(i64::MAX);
            micros.fetch_add(by, Ordering::SeqCst);
        }
    }
}

/// The time of a clock that tells `own`, and has told `latest`.
fn steady(latest: &AtomicI64, own: i64) -> i64 {
    let told = |before| if (own..=own.saturating_add(STANDS_STILL)).contains(&before) { before } else { own };
    let before = latest.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |before| Some(told(before)));
    before.map_or(own, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_clock_wrote_that_was_ahead_does_not_count_as_lately() {
        let now = Clock::System.now();
        let hour = now.last(Duration::HOUR);
        for (minutes, counts) in
            [(-61, false), (-60, false), (-59, true), (0, true), (1, true), (2, false), (600, false)]
        {
            assert_eq!(hour.contains(now.plus(Duration::minutes(minutes))), counts, "{minutes}");
        }
    }

    #[test]
    fn the_system_clock_stands_still_where_it_is_set_back_a_little() {
        let latest = AtomicI64::new(i64::MIN);
        let minute = STANDS_STILL;
        for (own, told) in [
            (10 * minute, 10 * minute),
            (10 * minute - 1, 10 * minute),
            (9 * minute, 10 * minute),
            (10 * minute + 1, 10 * minute + 1),
            (9 * minute, 9 * minute),
            (500 * minute, 500 * minute),
            (9 * minute + 5, 9 * minute + 5),
            (9 * minute, 9 * minute + 5),
        ] {
            assert_eq!(steady(&latest, own), told, "{own}");
        }
    }

    #[test]
    fn no_moment_has_a_part_of_a_microsecond() {
        let at = Timestamp::from_unix_micros(1_000_000);
        let odd = Duration::nanoseconds(1_234_567);
        for moment in [at.plus(odd), at.minus(odd), at.checked_add(odd).unwrap()] {
            assert_eq!(moment, Timestamp::from_unix_micros(moment.unix_micros()));
        }
        assert_eq!(at.plus(odd).unix_micros(), 1_001_234);
    }

    #[test]
    fn a_moment_is_cut_to_microseconds_and_brought_to_utc() {
        let moment = Timestamp::from_utc(datetime!(2026-11-23 09:00:00.123_456_789 +5:30));
        assert_eq!(moment.to_string(), "2026-11-23T03:30:00.123456Z");
        assert_eq!(serde_json::to_string(&moment).unwrap(), "\"2026-11-23T03:30:00.123456Z\"");
    }

    #[test]
    fn a_moment_beyond_the_calendar_is_its_end() {
        let [first, last] = CALENDAR.map(Timestamp);
        for (text, end) in [
            ("\"9999-12-31T23:59:59-00:01\"", last),
            ("\"9999-12-31T23:59:59.9999999-23:59\"", last),
            ("\"9999-12-31T23:59:59.9999999Z\"", last),
            ("\"0001-01-01T00:00:00+05:30\"", first),
            ("\"0000-12-31T18:30:00Z\"", first),
            ("\"0000-01-01T00:00:00+00:01\"", first),
        ] {
            assert_eq!(serde_json::from_str::<Timestamp>(text).unwrap(), end, "{text}");
        }
        assert!(serde_json::from_str::<Timestamp>("\"9999-12-31T23:59:59+00:01\"").unwrap() < last);
        for (moment, end) in [(last.plus(Duration::DAY), last), (first.minus(Duration::DAY), first)] {
            assert_eq!(moment, end);
            assert_eq!(serde_json::from_value::<Timestamp>(serde_json::to_value(moment).unwrap()).unwrap(), end);
        }
        assert_eq!(last.checked_add(Duration::MICROSECOND), None);
    }

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(Timestamp::from_utc(datetime!(2026-01-01 0:00 UTC)));
        let before = clock.now();
        assert_eq!(clock.now(), before);
        clock.advance(Duration::hours(3));
        assert_eq!(clock.now().since(before), Duration::hours(3));
    }
}
