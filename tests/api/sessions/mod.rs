//! Sessions: opened with a link, asked about, reported on and ended.

mod client_authentication;
mod introspection;
mod one_truth;
mod opening_and_ending;
mod reporting;
mod revoking_access;
mod status_lists;
mod violations;
mod who_ended_it;
