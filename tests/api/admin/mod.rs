//! What operators do: clients, consultants, tenants, signing keys, the command line and metrics.

mod command_line;
mod directory;
mod emergency_brake;
mod metrics_and_logs;
mod revoked_keys;
mod signing_keys;
