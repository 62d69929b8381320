//! Rows and their statements, by noun. Every race is decided by one guarded statement.

pub(crate) mod approval_keys;
pub(crate) mod asked;
pub(crate) mod clients;
pub(crate) mod consultants;
pub(crate) mod devices;
pub(crate) mod erasing;
pub(crate) mod extension_requests;
pub(crate) mod freeze;
pub(crate) mod link_changes;
pub(crate) mod link_ends;
pub(crate) mod link_lists;
pub(crate) mod link_requests;
pub(crate) mod link_reviews;
pub(crate) mod links;
pub(crate) mod master_key;
pub(crate) mod open_grants;
pub(crate) mod policies;
pub(crate) mod restores;
pub(crate) mod revocations;
pub(crate) mod sandboxes;
pub(crate) mod scan;
pub(crate) mod seen_time;
pub(crate) mod session_lists;
pub(crate) mod session_sources;
pub(crate) mod sessions;
pub(crate) mod signing_keys;
pub(crate) mod status_lists;
pub(crate) mod tenants;
pub(crate) mod unused;
pub(crate) mod within;

pub(crate) use scan::scan_end;
pub(crate) use within::{reached, within};
