//! What a verb needs: configuration, time, store, tokens and who may do what at this moment.

use std::sync::Arc;

use crate::access::{AccessReader, Snapshot};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::error::Error;
use crate::id::{ClientId, SessionId};
use crate::metrics::Metrics;
use crate::store::Store;
use crate::tokens::Tokens;

/// What every verb works with. The state of a slice is a type of its own, beside it.
pub(crate) struct Context {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub store: Store,
    pub tokens: Tokens,
    pub access: AccessReader,
    pub metrics: Metrics,
}

impl Context {
    /// What the store says of a client and a session at this moment.
    ///
    /// With it comes the epoch of the signing keys: where they have changed, this
    /// process reads them before it goes on.
    ///
    /// # Errors
    /// `unavailable` when the store cannot be asked.
    pub(crate) async fn snapshot(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let snapshot = self.access.load(client, session, now).await?;
        if self.tokens.epoch() < snapshot.epochs.keys {
            // Boxed, because it seldom happens: what lies in every request's future is moved with it.
            Box::pin(self.tokens.refresh_if_stale(&self.store, snapshot.epochs.keys, now)).await?;
        }
        Ok(snapshot)
    }
}
