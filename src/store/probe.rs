//! Whether acts can be recorded: tried now and then, on a row that nothing else uses and with an audit event that is
//! taken back.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use tokio::sync::Mutex;

use super::Store;
use crate::clock::Timestamp;
use crate::db::schema::write_probe;
use crate::domain::{Actor, EventType};
use crate::error::Error;
use crate::journal::{self, Event, Heads};

/// How long an outcome is told again before the next write: a success, and a failure.
const SUCCESS_KEPT: Duration = Duration::from_secs(5);
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// The last outcome, and when it was seen.
#[derive(Default)]
pub(super) struct LastProbe(Mutex<Option<(Instant, Result<(), Error>)>>);

impl Store {
    /// Writes and commits, and appends an event that is taken back, unless that was tried a moment ago. Many callers at
    /// once share one attempt.
    ///
    /// # Errors
    /// Those of the write.
    pub(crate) async fn can_be_written(&self, now: Timestamp) -> Result<(), Error> {
        let mut last = self.written.0.lock().await;
        if let Some((at, outcome)) = last.as_ref() {
            let kept = if outcome.is_ok() { SUCCESS_KEPT } else { FAILURE_KEPT };
            if at.elapsed() < kept {
                return outcome.clone();
            }
        }
        let outcome = self
            .write(move |tx| {
                let rows =
                    diesel::update(write_probe::table).set(write_probe::written_at.eq(now)).execute(&mut **tx)?;
                if rows != 1 {
                    return Err(Error::internal("the row of write_probe is missing"));
                }
                let event = Event::new(EventType::AuditRead, Actor::system("readiness"), now);
                tx.try_out(|conn| journal::append(conn, &Heads::default(), &[event], &[]).map(drop))
            })
            .await;
        *last = Some((Instant::now(), outcome.clone()));
        outcome
    }
}
