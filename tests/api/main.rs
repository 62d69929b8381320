//! The service from the outside: real sockets, both databases, actors as values.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    reason = "a test that meets what it did not expect should stop right there"
)]

mod canary;
mod crash;
mod life;
mod outage;
mod races;
mod schema;
mod support;
