//! Endpoints and messages at rest. A message is claimed by a guarded UPDATE with a lease.

mod deliveries;
mod endpoints;
mod queue;

pub(crate) use deliveries::unfinished;
pub(super) use deliveries::{
    Attempt, Delivery, cancel_closed, cancel_of, cancel_queued, claim, due, forget_finished, forget_of_deleted,
    insert_deliveries, list_deliveries, make_due, overtakes, postpone, put_off, retry, settle, waiting_tests,
};
pub(crate) use endpoints::ReadyEndpoint;
pub(super) use endpoints::{
    Changes, audiences, change, count_of, delete, disable, enable, find, forget_deleted, forget_secrets, heard_tenants,
    hold_back, insert, list, listen_from, listeners, most_of_a_tenant, of_client, ready, replace_tenants, rotate,
    seal_again, sealed_secrets,
};
pub(super) use queue::{NewQueuedEvent, dequeue, hold, newest_position, next_queued, note_progress, queue, queued};
