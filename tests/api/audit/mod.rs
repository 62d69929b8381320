//! The audit log: complete, checkable by anybody, and kept as long as it must be.

mod log;
mod retention;
