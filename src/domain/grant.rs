//! No grant from a grant.

use crate::error::{Code, Error};

/// No grant from a grant: a call that grants must not come out of a support session.
pub(crate) fn refuse_support_session(acting_session_id: Option<&str>) -> Result<(), Error> {
    match acting_session_id {
        Some(_) => Err(Code::SupportSessionCannotGrant.into()),
        None => Ok(()),
    }
}
