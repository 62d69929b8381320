//! Rotations of keys and secrets.

use crate::clock::Timestamp;

/// What becomes of the old keys, or secrets, at a rotation. One of before is never cut off while somebody was told that it
/// is good, unless that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// All end.
    AtOnce,
    /// The newest one is good until this time. Refused while the one before it is.
    Overlap(Timestamp),
    /// The newest one, which nobody has got, ends; the one before it is good as long as was told.
    NewestLost,
}

impl Rotation {
    /// When the newest one ends, which becomes the one of before; `None` where it does not.
    pub(crate) const fn old_until(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::AtOnce => Some(now),
            Self::Overlap(until) => Some(until),
            Self::NewestLost => None,
        }
    }

    /// How long the newest one is good, as it is recorded.
    pub(crate) fn overlap_seconds(self, now: Timestamp) -> Option<i64> {
        self.old_until(now).map(|until| until.since(now).whole_seconds())
    }

    /// That the newest one was lost, as it is recorded: absent where it was not.
    pub(crate) fn newest_lost(self) -> Option<bool> {
        (self == Self::NewestLost).then_some(true)
    }
}
