//! Links: issued, listed, revoked one by one or in bulk, and what the consultant sees of them.

mod approvals;
mod bulk_revocation;
pub mod changing;
mod emergency;
mod landing_page;
mod lost_codes;
mod managing;
mod one_access;
mod outlived;
mod over;
mod reentry;
mod restrictions;
mod searching;
mod signed_approvals;
mod step_up;
mod tickets;
mod validation;
mod waiting_extensions;
mod whole_life;
