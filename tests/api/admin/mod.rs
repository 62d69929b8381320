//! What operators do: clients, consultants, tenants, signing keys, the command line and metrics.

mod client_changes;
mod command_line;
mod directory;
mod emergency_brake;
mod fresh_links;
mod key_reads;
mod key_succession;
mod master_key;
mod metrics_and_logs;
mod nightly_review;
mod policies;
mod readme;
mod revoked_keys;
mod sandbox;
mod signing_keys;
#[cfg(feature = "otlp")]
mod spans;
mod traces;
