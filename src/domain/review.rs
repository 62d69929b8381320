//! Reviews of what was granted in an emergency.

use crate::db::text_enum;

text_enum! {
    /// What the review of an emergency found.
    pub enum Finding {
        /// The access was needed, and could not have waited for an approval.
        Justified = "justified",
        /// The access was not needed, could have waited, or was used for something else.
        Unjustified = "unjustified",
        /// It cannot be said.
        Inconclusive = "inconclusive",
    }
}

text_enum! {
    /// State of the review of an emergency.
    pub enum ReviewState {
        /// The review is not due yet.
        Pending = "pending",
        /// The review is due, and there is none.
        Overdue = "overdue",
        /// The review was given.
        Done = "done",
    }
}
