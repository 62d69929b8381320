//! The service from the outside: real sockets, both databases, actors as values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::print_stderr,
    missing_docs,
    reason = "a test that meets what it did not expect should stop right there"
)]

mod acts;
mod audit_log;
mod bad_http;
mod bad_input;
mod bad_keys;
mod bad_provider;
mod canary;
mod cli;
mod crash;
mod delivery;
mod directory;
mod durability;
mod hostile_mail;
mod interop;
mod introspection;
mod keys;
mod life;
mod limits;
mod links;
mod mail_crash;
mod mail_events;
mod mail_limits;
mod matrix;
mod metrics;
mod notices;
mod openapi;
mod outage;
mod outbox;
mod races;
mod retention;
mod revocations;
mod revoking;
mod schema;
mod sessions;
mod status_lists;
mod step_up;
mod storage;
mod support;
mod webhooks;
mod webhooks_caep;
mod webhooks_delivery;
mod webhooks_manage;
