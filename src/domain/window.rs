//! Lengths of windows.

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use super::DurationUnit;

/// Length of a link's window: from one hour to the configured maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WindowLength {
    /// Number of units.
    #[schema(minimum = 1, maximum = 8760, example = 4)]
    pub value: i64,
    /// Unit of the length.
    pub unit: DurationUnit,
}

impl WindowLength {
    /// The length; a day is 24 hours. `None` if it is no hour to a year.
    pub(crate) fn duration(self) -> Option<Duration> {
        let hours = match self.unit {
            DurationUnit::Hours => 1,
            DurationUnit::Days => 24,
            DurationUnit::Weeks => 7 * 24,
        };
        let hours = self.value.checked_mul(hours).filter(|hours| (1..=8_760).contains(hours))?;
        Some(Duration::hours(hours))
    }

    /// A length of whole hours.
    pub(crate) const fn of(length: Duration) -> Self {
        Self { value: length.whole_hours(), unit: DurationUnit::Hours }
    }
}

/// A length of whole hours for people: `8 hours`.
pub(crate) fn in_hours(length: Duration) -> String {
    match length.whole_hours() {
        1 => "1 hour".to_owned(),
        hours => format!("{hours} hours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_counted_in_hours_of_the_clock() {
        let window = |value, unit| WindowLength { value, unit }.duration();
        assert_eq!(window(4, DurationUnit::Hours), Some(Duration::hours(4)));
        assert_eq!(window(3, DurationUnit::Days), Some(Duration::hours(72)));
        assert_eq!(window(2, DurationUnit::Weeks), Some(Duration::hours(336)));
        for value in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(window(value, DurationUnit::Weeks), None, "{value}");
        }
    }
}
