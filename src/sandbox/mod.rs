//! A sandbox: a service over a database of its own whose clock can be moved forward, so that a portal's team sees in
//! minutes what weeks bring: expiry, lapse, retention.
//!
//! That a database is a sandbox's is a property of the database ([`init`]), and so is how far its clock was moved: it is
//! the same for every copy of the service. A copy asks for it before each request, and twice a second for its workers.
//! The configuration must say `sandbox`, too, and no real mail provider is permitted.

pub(crate) mod routes;

use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, Validator};
use crate::error::{Code, Error};
use crate::http::{Admin, Caller};
use crate::journal::Event;
use crate::records;
use crate::store::{Store, Worker};

/// How far the clock can be moved, in all: past the end of the default retention.
const FARTHEST: Duration = Duration::days(400);

/// Request to move the clock of a sandbox: by so much, or to a moment.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"advance_seconds": 3600}))]
pub(crate) struct MoveClock {
    /// Seconds to move the clock forward by. A repeat moves it again.
    #[schema(minimum = 1, maximum = 34_560_000)]
    advance_seconds: Option<i64>,
    /// Moment to move the clock to (RFC 3339); one that is reached already changes nothing, so that a repeat is safe.
    to: Option<Timestamp>,
}

/// Clock of a sandbox.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SandboxClock {
    /// Time of the sandbox (RFC 3339, UTC).
    now: Timestamp,
    /// Whole seconds by which it is ahead of the true time.
    #[schema(minimum = 0, maximum = 34_560_000)]
    moved_seconds: i64,
    /// Whole seconds by which it can still be moved.
    #[schema(minimum = 0, maximum = 34_560_000)]
    remaining_seconds: i64,
}

/// What was asked for, as an end of the move.
#[derive(Debug, Clone, Copy)]
enum Move {
    By(Duration),
    To(Duration),
}

/// A database of a sandbox.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct InitResponse {
    /// Whether it was one before.
    existed: bool,
}

impl SandboxClock {
    fn of(cx: &Context) -> Self {
        let moved = cx.clock.moved();
        Self {
            now: cx.clock.now(),
            moved_seconds: moved.whole_seconds(),
            remaining_seconds: (FARTHEST - moved).whole_seconds(),
        }
    }
}

impl MoveClock {
    fn checked(&self, true_now: Timestamp) -> Result<Move, Error> {
        let mut fields = Validator::default();
        let asked = match (self.advance_seconds, self.to) {
            (Some(seconds), None) => {
                if !(1..=FARTHEST.whole_seconds()).contains(&seconds) {
                    fields.error("/advance_seconds", "out_of_range", "must be 1 to 34560000, which is 400 days");
                }
                Move::By(Duration::seconds(seconds))
            }
            (None, Some(to)) => {
                let moved = to.since(true_now);
                if moved > FARTHEST {
                    fields.error("/to", "out_of_range", "must be at most 400 days ahead of the true time");
                }
                Move::To(moved)
            }
            _ => {
                fields.error("", "malformed", "give either advance_seconds or to");
                Move::By(Duration::ZERO)
            }
        };
        fields.finish()?;
        Ok(asked)
    }
}

/// How far a sandbox's clock was moved; `None` if the database is no sandbox's.
///
/// # Errors
/// `unavailable` when the store does not answer.
pub(crate) async fn moved(store: &Store) -> Result<Option<Duration>, Error> {
    store.read(|conn| Ok(records::sandboxes::moved(conn)?)).await
}

/// Makes an empty database that of a sandbox, for ever; `None` if it is not empty.
///
/// # Errors
/// `unavailable` when the store does not answer.
pub(crate) async fn init(store: &Store, now: Timestamp) -> Result<Option<InitResponse>, Error> {
    store
        .write_large(move |tx| {
            if records::sandboxes::found(tx)? {
                tx.record(Event::new(EventType::SandboxCreated, Actor::system("command-line"), now));
                return Ok(Some(InitResponse { existed: false }));
            }
            let existed = records::sandboxes::moved(tx)?.is_some();
            Ok(existed.then_some(InitResponse { existed }))
        })
        .await
}

/// Only a sandbox has a clock of its own, and only its operators move it.
fn require_sandbox(cx: &Context, caller: &Caller<Admin>) -> Result<(), Error> {
    if !cx.clock.is_of_sandbox() {
        return Err(Error::new(Code::NotFound).detail("this service is no sandbox: its clock is the true one"));
    }
    caller.require_operator("the clock of a sandbox")
}

/// The clock of a sandbox.
pub(crate) fn clock(cx: &Context, caller: &Caller<Admin>) -> Result<SandboxClock, Error> {
    require_sandbox(cx, caller)?;
    Ok(SandboxClock::of(cx))
}

/// Moves the clock of a sandbox forward, for every copy of the service: in force before this is answered.
pub(crate) async fn move_clock(
    cx: &Context,
    caller: &Caller<Admin>,
    request: MoveClock,
) -> Result<SandboxClock, Error> {
    require_sandbox(cx, caller)?;
    let true_now = cx.clock.true_now();
    let asked = request.checked(true_now)?;
    let (actor, client_id) = (caller.actor(None), caller.client_id.clone());
    let moved = cx
        .store
        .write(move |tx| {
            let before = records::sandboxes::moved(tx)?.unwrap_or_default();
            let is_moved = match asked {
                Move::By(by) => {
                    if !records::sandboxes::advance(tx, by, FARTHEST)? {
                        return Err(too_far(before));
                    }
                    true
                }
                Move::To(to) => records::sandboxes::move_to(tx, to)?,
            };
            let moved = records::sandboxes::moved(tx)?.unwrap_or_default();
            if is_moved {
                // At the time that it made: what is recorded after it is not older.
                let event = Event::new(EventType::SandboxClockMoved, actor.clone(), true_now.plus(moved));
                tx.record(event.client(client_id.as_ref()).with(&serde_json::json!({
                    "moved_seconds": moved.whole_seconds(), "from": true_now.plus(before), "to": true_now.plus(moved),
                })));
            }
            Ok(moved)
        })
        .await?;
    cx.clock.move_to(moved);
    for worker in [Worker::Mail, Worker::Webhooks, Worker::Revocations] {
        cx.store.wake(worker);
    }
    Ok(SandboxClock::of(cx))
}

fn too_far(moved: Duration) -> Error {
    let detail =
        format!("the clock can be moved by {} more seconds: 400 days in all", (FARTHEST - moved).whole_seconds());
    Error::new(Code::ValidationFailed).field("/advance_seconds", "out_of_range", detail)
}
