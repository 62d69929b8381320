//! Whether anything may be erased: what is erased cannot be taken back.
//!
//! Each range asks twice: for a [`Permit`], which only an [`Eraser`] gives, and, in
//! its own transaction, what the permit is good for ([`Permit::end`]).
//!
//! A machine's clock that jumps a year ahead makes everything old at once. So the
//! database remembers the time once an hour, and a time that is much later counts when
//! it has lasted for a day, or an operator says that it is right.

use serde_json::json;
use time::Duration;

use super::folder::{CheckpointFolder, require_whole};
use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::Event;
use crate::records;
use crate::records::restores;
use crate::records::seen_time::{self, SeenTime};
use crate::store::Tx;

/// How often the time is remembered.
const LOOK: Duration = Duration::HOUR;

/// How much later it may be than when the time was remembered last: a service may have rested for a month.
const LONGEST_PAUSE: Duration = Duration::days(31);

/// How long a time that is later than that must last, until it is taken for right.
const TRIAL: Duration = Duration::DAY;

/// Who erases: a service, or a command.
#[derive(Clone, Copy)]
pub(crate) struct Eraser<'a> {
    pub cx: &'a Context,
    /// Tells whether the database is behind.
    pub folder: &'a CheckpointFolder,
    pub now: Timestamp,
    /// Whether an operator says that it is as late as the machine's clock tells.
    pub clock_is_right: bool,
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
    /// Those of [`Eraser::require_no_doubt`], and `unavailable` while the time is not [sure](see_time).
    pub(super) async fn permit(&self) -> Result<Permit, Error> {
        self.require_no_doubt().await?;
        if !is_sure_time(self.cx, self.now).await? {
            let detail = "the clock has jumped by more than a month, and what is erased cannot be taken back: set the machine's \
                          clock; where it is right, this goes on by itself after a day";
            return Err(Error::unavailable().detail(detail));
        }
        Ok(Permit { default: self.cx.config.audit.retention, now: self.now })
    }

    /// Requires that the clocks agree, and the database is whole.
    ///
    /// # Errors
    /// `unavailable` while the clock is in doubt, or the folder of checkpoints vouches for nothing; `restore_required` where
    /// the database is behind a checkpoint outside.
    pub(super) async fn require_no_doubt(&self) -> Result<(), Error> {
        if self.cx.clock.is_in_doubt() {
            let detail = "the clock is in doubt, and what is erased cannot be taken back: set the machine's clock";
            return Err(Error::unavailable().detail(detail));
        }
        require_whole(self.cx, self.folder).await.map(drop)
    }
}

/// Whether the time was taken for right when somebody looked last ([`see_time`]).
async fn is_sure_time(cx: &Context, now: Timestamp) -> Result<bool, Error> {
    if !cx.clock.is_of_a_machine() {
        return Ok(true);
    }
    cx.store.read(move |conn| Ok(follows(seen_time::get(conn)?, now))).await
}

/// Whether it is as late as the clock tells: what goes by the time and cannot be taken back waits for it. The time is
/// remembered, once an hour; a jump as well, which is recorded. `is_told` is whether an operator says that it is right.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn see_time(cx: &Context, now: Timestamp, is_told: bool) -> Result<bool, Error> {
    let was_seen = cx.store.read(|conn| Ok(seen_time::get(conn)?.seen_at)).await?;
    if was_seen.is_some_and(|seen| now.since(seen).abs() < LOOK) {
        return Ok(true);
    }
    let is_told = is_told || !cx.clock.is_of_a_machine();
    let see = move |tx: &mut Tx<'_>| {
        let time = seen_time::get(tx)?;
        let has_lasted = time.jumped_at.is_some_and(|jumped| (TRIAL..=LONGEST_PAUSE).contains(&now.since(jumped)));
        if is_told || has_lasted || follows(time, now) {
            seen_time::take(tx, now)?;
            return Ok(true);
        }
        // Another worker, or copy, may have noticed it as well.
        if seen_time::jump(tx, now, (now.minus(LONGEST_PAUSE), now.plus(LOOK)))? {
            let event = Event::new(EventType::RetentionDelayed, Actor::system("retention"), now);
            tx.record(event.with(&json!({ "seen_at": time.seen_at, "waits_until": now.plus(TRIAL) })));
        }
        Ok(false)
    };
    cx.store.write(see).await
}

/// Whether a time follows on the last one that was taken for right.
fn follows(time: SeenTime, now: Timestamp) -> bool {
    time.seen_at.is_none_or(|seen| now.since(seen) <= LONGEST_PAUSE)
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
