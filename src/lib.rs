//! Magic Link: temporary, audited support access to HR portals.
//!
//! The life of a link in ten sentences. An HR admin requests support access, and
//! the portal's back end issues a link (`links`). The link, its audit event
//! (`journal`) and its mail job (`mail`) are written in one transaction
//! (`store`). A worker (`workers`) claims the job, signs the link token at that
//! moment (`tokens`), and sends the mail through a provider (`mail_providers`).
//! The consultant (`consultants`) opens the landing page, which shows the access
//! on offer and changes nothing. Its button hands the portal a code that is valid
//! for one minute. The portal's back end redeems the code with its own API key
//! (`clients`), and one guarded statement decides which of several callers opens
//! the session (`sessions`). On each request the portal introspects the access
//! token, and it reports what the consultant views, exports and changes. Access
//! ends with its window, when the consultant is done, or at once when it is
//! revoked, alone or together with all matching links by a bulk revocation
//! (`revocations`). Clients with a webhook endpoint are notified (`webhooks`).
//! Every step is an event in the tenant's audit log, which auditors can read,
//! export and verify (`audit`).
//!
//! [`config`] holds the settings, [`app`] wires the parts, [`api`] lists the
//! routes, [`error`] lists the error codes, and only [`clock`] reads the time.

// Floors, from the lowest to the highest: a module uses only what stands above it in this list (`house.rs` checks it).
pub mod clock;
pub mod error;
mod files;
mod id;
mod metrics;
mod secrets;

pub mod db;

pub mod domain;

pub mod config;

mod telemetry;

mod records;

mod journal;

mod store;

mod tokens;

mod access;

mod context;

mod http;
mod mail_providers;

mod rules;
mod status_lists;
mod webhooks;

mod mail;

mod policies;
mod sessions;
mod tenants;

mod links;

mod revocations;

mod audit;
mod clients;
mod consultants;
mod signing_keys;

mod restore;
mod sandbox;

pub mod app;

pub mod api;
mod workers;

pub mod serve;

pub mod cli;

#[cfg(test)]
mod house;
