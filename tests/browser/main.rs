//! What people see, in headless Chromium: the mailbox, the landing page, the example portal, the Swagger page.
//!
//! The service and the portal are the real binaries, each a process of its own. Chromium and its driver come from
//! `PATH`; where they are missing the stories are skipped, but not on CI.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::similar_names,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    clippy::print_stdout,
    missing_docs,
    reason = "a test that meets what it did not expect should stop right there"
)]

#[path = "../api/support/actors.rs"]
#[expect(dead_code, reason = "the API's tests need more of it")]
mod actors;
mod browser;
#[path = "../api/support/contract.rs"]
#[expect(dead_code, reason = "the API's tests need more of it")]
mod contract;
mod world;

mod approval;
mod arrival;
mod gateways;
mod harmless;
mod in_time;
mod portal;
mod reentry;
mod refusals;
mod states;
mod step_up;
mod swagger;
mod visit;
