//! The context of a verb: configuration, clock, store, tokens, current access and metrics.

use std::sync::Arc;

use crate::access::{AccessReader, ClientUses, Snapshot};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::error::Error;
use crate::id::{ClientId, SessionId};
use crate::metrics::Metrics;
use crate::store::Store;
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
}

impl Context {
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
        let keys = snapshot.epochs.of_keys();
        if !self.tokens.epoch().covers(keys) {
            // Boxed: the rare branch would enlarge the future of every request.
            Box::pin(self.tokens.refresh_if_stale(&self.store, keys, now)).await?;
        }
        Ok(snapshot)
    }
}
