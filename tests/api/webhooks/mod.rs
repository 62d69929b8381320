//! Webhooks: who manages endpoints, who is told what, and how messages arrive.

mod busy;
mod caep;
mod delivery;
mod endpoints;
mod fan_out;
mod limits;
mod messages;
mod switched_off;
