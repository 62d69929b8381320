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

mod admin;
mod audit;
mod contract;
mod links;
mod mail;
mod resilience;
mod restore;
mod security;
mod sessions;
mod support;
mod webhooks;
