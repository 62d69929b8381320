//! Access cannot be granted from granted access.

use crate::error::{Code, Error};

/// Refuses a granting request from a support session: consultants must not extend their own access.
pub(crate) fn refuse_support_session(acting_session_id: Option<&str>) -> Result<(), Error> {
    match acting_session_id {
        Some(_) => Err(Code::SupportSessionCannotGrant.into()),
        None => Ok(()),
    }
}
