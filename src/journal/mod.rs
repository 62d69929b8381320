//! The write side of the audit log: events become leaves of their tenant's tree.

pub(crate) mod activity;
mod append;
mod event;
mod growth;
pub(crate) mod leaf;
pub(crate) mod rows;
pub(crate) mod tree;

pub(crate) use append::{Appended, AppendedEvent, Heads, append};
pub(crate) use event::{ActivityRef, Event, RefusalKey};
pub(crate) use tree::Frontier;
