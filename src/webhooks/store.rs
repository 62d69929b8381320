//! Endpoints and messages at rest. A message is claimed by a guarded UPDATE with a lease.

mod deliveries;
mod endpoints;

pub(crate) use deliveries::unfinished;
pub(super) use deliveries::{
    Attempt, Delivery, cancel_closed, cancel_queued, claim, due, forget_finished, forget_of_deleted, insert_deliveries,
    list_deliveries, postpone, retry, settle,
};
pub(super) use endpoints::{
    Changes, any_endpoint, change, count_of, delete, disable, enable, find, forget_deleted, forget_secrets, insert,
    list, listeners, ready, rotate, seal_again, sealed_secrets,
};
