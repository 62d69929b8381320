//! Whether anything may be erased: what is erased cannot be taken back.
//!
//! Each range asks twice: for a [`Permit`], which only an [`Eraser`] gives, and, in
//! its own transaction, what the permit is good for ([`Permit::end`]).

use time::Duration;

use super::folder::{CheckpointFolder, require_whole};
use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::error::Error;
use crate::records;
use crate::records::restores;

/// Who erases: a service, or a command.
#[derive(Clone, Copy)]
pub(crate) struct Eraser<'a> {
    pub cx: &'a Context,
    /// Tells whether the database is behind.
    pub folder: &'a CheckpointFolder,
    pub now: Timestamp,
}

/// That something may be erased just now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permit {
    default: Duration,
    now: Timestamp,
}

impl Eraser<'_> {
    /// Asks for a permit, for one range.
    ///
    /// # Errors
    /// `unavailable` while the clock is in doubt, or the folder of checkpoints vouches for nothing; `restore_required` where
    /// the database is behind a checkpoint outside.
    pub(super) async fn permit(&self) -> Result<Permit, Error> {
        if self.cx.clock.is_in_doubt() {
            let detail = "the clock is in doubt, and what is erased cannot be taken back: set the machine's clock";
            return Err(Error::unavailable().detail(detail));
        }
        require_whole(self.cx, self.folder).await?;
        Ok(Permit { default: self.cx.config.audit.retention, now: self.now })
    }
}

impl Permit {
    /// What was recorded, or over, before this time may be erased; `None` while a legal hold is in force, or a restore holds
    /// every log.
    pub(super) fn end(&self, conn: &mut Conn, tenant_id: &str) -> Result<Option<Timestamp>, Error> {
        retention_end(conn, tenant_id, self.default, self.now)
    }
}

/// Before which time a tenant's retention is over; `None` where everything is held.
pub(super) fn retention_end(
    conn: &mut Conn,
    tenant_id: &str,
    default: Duration,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    if restores::holds_erasing(conn)? || store::is_held(conn, tenant_id, now)? {
        return Ok(None);
    }
    let own = records::tenants::retention_days(conn, tenant_id)?.map(|days| Duration::days(days.into()));
    Ok(Some(now.minus(own.unwrap_or(default))))
}
