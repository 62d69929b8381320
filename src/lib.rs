//! Magic Link: temporary, recorded support access to HR portals.
//!
//! The life of a link in ten sentences. An HR admin asks, and the portal's back
//! end issues a link ([`links`]): the link, its audit event ([`audit`]) and a mail
//! job ([`mail`]) are one transaction ([`db`]). A worker ([`workers`]) claims the
//! job, mints the link token at that moment ([`tokens`]), and a provider carries
//! the mail. The consultant ([`consultants`]) opens the landing page, which shows
//! what the link is and changes nothing. A press of its button hands the portal a
//! one-minute code. The portal's back end redeems it with its own key
//! ([`clients`]), and one guarded statement decides who wins: a session is opened
//! ([`sessions`]). On each request the portal asks whether the session still
//! holds, and it reports what was viewed, exported and changed. Access ends when
//! its window does, when the consultant is done, or when somebody revokes it, and
//! then at once, or all links of a customer with one order ([`revocations`]), and
//! clients that asked for it are told ([`webhooks`]). Names and time zones of the
//! customers come from [`tenants`]. What the process counts is in `metrics`.
//! [`http`] is the way in, [`config`] is what can be set, [`app`] wires it all.
//! [`error`] lists every way to fail, and [`clock`] is the only one to know the time.

// Floors, from the lowest to the highest: a module uses only what stands above it in this list (`house.rs` checks it).
pub mod clock;
pub mod error;
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

mod status_lists;
mod tenants;
mod webhooks;

mod mail;

mod sessions;

mod links;

mod audit;
mod clients;
mod consultants;
mod revocations;
mod signing_keys;

pub mod app;

pub mod api;
mod workers;

pub mod serve;

pub mod cli;

#[cfg(test)]
mod house;
