//! The signals that stop the service.

use std::io;
use std::time::Duration;

use actix_server::ServerHandle;
#[cfg(unix)]
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};

use crate::api::Stopping;

/// The signals, from the moment on that this exists: none is missed, and none ends the process by itself.
pub(super) struct Signals {
    #[cfg(unix)]
    terminate: Signal,
    #[cfg(unix)]
    interrupt: Signal,
    #[cfg(unix)]
    quit: Signal,
}

#[cfg(unix)]
impl Signals {
    /// Listens to them.
    ///
    /// # Errors
    /// When the operating system does not report signals.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for SIGTERM, then for `delay` while `/readyz` says 503, so that balancers send no more requests to a
    /// listener that closes. Then requests in progress finish. A second signal ends the wait, and SIGINT or SIGQUIT
    /// everything.
    pub(super) async fn stop(mut self, server: ServerHandle, stopping: Stopping, delay: Duration) {
        let is_graceful = tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
            _ = self.quit.recv() => false,
        };
        if is_graceful {
            stopping.begin();
            tracing::info!(seconds = delay.as_secs(), "SIGTERM received; not ready any more");
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
        server.stop(is_graceful).await;
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Nothing to prepare.
    ///
    /// # Errors
    /// Never.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for Ctrl-C.
    pub(super) async fn stop(self, server: ServerHandle, _stopping: Stopping, _delay: Duration) {
        drop(actix_web::rt::signal::ctrl_c().await);
        server.stop(false).await;
    }
}
