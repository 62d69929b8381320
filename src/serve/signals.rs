//! The signals that stop the service, and the one at which it reads again what can change.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_server::ServerHandle;
#[cfg(unix)]
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};

use tokio::task::JoinHandle;

use super::notify;
use crate::http::Stopping;

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
    /// listener that closes, and each answer that its connection ends. Then requests in progress finish. SIGINT or SIGQUIT ends them at once.
    ///
    /// It ends with a second signal, after which nothing is waited for.
    pub(super) async fn stop(mut self, server: ServerHandle, stopping: Stopping, delay: Duration) {
        let is_graceful = tokio::select! {
            _ = self.terminate.recv() => true,
            _ = self.interrupt.recv() => false,
            _ = self.quit.recv() => false,
        };
        notify::tell(notify::STOPPING);
        let orderly = async {
            if is_graceful {
                stopping.begin();
                tracing::info!(seconds = delay.as_secs(), "SIGTERM received; not ready any more");
                tokio::time::sleep(delay).await;
                tracing::info!("the listener closes; requests in progress finish");
            }
            server.stop(is_graceful).await;
            // The workers finish, too.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = orderly => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
        }
    }
}

/// From now on SIGHUP does not end the process: while it starts there is nothing to read again.
///
/// # Errors
/// When the operating system does not report signals.
#[cfg(unix)]
pub(crate) fn survive_hangups() -> io::Result<()> {
    signal(SignalKind::hangup()).map(drop)
}

/// There is no such signal.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub(crate) fn survive_hangups() -> io::Result<()> {
    Ok(())
}

/// Calls `work` at each SIGHUP.
///
/// # Errors
/// When the operating system does not report signals.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "it reads files, and asks nothing of the database")]
pub(super) fn at_each_hangup(work: impl Fn() + Send + Sync + 'static) -> io::Result<JoinHandle<()>> {
    let (mut hangup, work) = (signal(SignalKind::hangup())?, Arc::new(work));
    Ok(tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let work = Arc::clone(&work);
            drop(tokio::task::spawn_blocking(move || work()).await);
        }
    }))
}

/// There is no such signal.
///
/// # Errors
/// Never.
#[cfg(not(unix))]
pub(super) fn at_each_hangup(_work: impl Fn() + Send + Sync + 'static) -> io::Result<JoinHandle<()>> {
    Ok(tokio::spawn(std::future::ready(())))
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
        drop(actix_web::rt::signal::ctrl_c().await);
    }
}
