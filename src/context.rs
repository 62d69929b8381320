//! The context of a verb: configuration, clock, store, tokens, current access and metrics.

use std::sync::Arc;

use crate::access::{AccessReader, ClientUses, Snapshot};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::db;
use crate::error::Error;
use crate::id::{ClientId, SessionId};
use crate::metrics::Metrics;
use crate::records;
use crate::store::Store;
use crate::telemetry::Tracer;
use crate::tokens::Tokens;

/// What every verb needs. The state of a slice is a type of its own, passed beside the context.
pub(crate) struct Context {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub store: Store,
    pub tokens: Tokens,
    pub access: AccessReader,
    pub client_uses: ClientUses,
    pub metrics: Metrics,
    pub tracer: Tracer,
}

/// A difference between the machine's clock and the database's that somebody should look at.
const NOTED_OFFSET: time::Duration = time::Duration::seconds(2);

/// Takes the time over from the database's server, if there is one: all copies of the service share its clock.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn look_at_clock(clock: &Clock, store: &Store, metrics: &Metrics) -> Result<(), Error> {
    if !clock.wants_a_look() {
        return Ok(());
    }
    let Some(look) = store.read(|conn| Ok(db::look_at_clock(conn)?)).await? else { return Ok(()) };
    clock.look(look);
    let offset = clock.offset().unwrap_or_default();
    metrics.clock_offset.set(offset.as_seconds_f64());
    if offset.abs() > NOTED_OFFSET {
        tracing::warn!(
            clock.offset_seconds = offset.as_seconds_f64(),
            "this machine's clock and the database's differ; the database's counts: let both follow the same NTP servers"
        );
    }
    Ok(())
}

impl Context {
    /// Takes over how far the clock of a sandbox was moved, by whichever copy of the service.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub(crate) async fn follow_sandbox(&self) -> Result<(), Error> {
        if self.clock.is_of_sandbox() {
            let moved = self.store.read(|conn| Ok(records::sandboxes::moved(conn)?)).await?;
            self.clock.move_to(moved.unwrap_or_default());
        }
        Ok(())
    }

    /// Loads the current state of a client, a session and the epochs.
    ///
    /// If the signing keys have changed since this instance read them, it reads them again first.
    ///
    /// # Errors
    /// `unavailable` when the store does not answer.
    pub(crate) async fn snapshot(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let snapshot = self.access.load(client, session, now).await?;
        let (keys, connection) = (snapshot.epochs.of_keys(), snapshot.epochs.connection);
        if !self.tokens.are_of(keys, connection) {
            // Boxed: the rare branch would enlarge the future of every request.
            Box::pin(self.tokens.read_for(&self.store, connection, now)).await?;
        }
        Ok(snapshot)
    }
}
