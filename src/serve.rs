//! The running service: its listeners, and how it stops.

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::HttpServer;

use crate::api::{self, openapi};
use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::Config;
use crate::workers;

/// A service that is ready to run.
pub struct Service {
    app: Arc<App>,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
}

impl Service {
    /// Opens the store, the keys and the ports.
    ///
    /// # Errors
    /// [`StartError`] names the part that failed.
    pub async fn build(config: Config, clock: Clock) -> Result<Self, StartError> {
        let bind = |address| TcpListener::bind(address).map_err(|error| StartError::Listen { address, error });
        let (listen, metrics_listen) = (config.listen, config.metrics_listen);
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        // Boxed: whoever awaits this would carry the whole of it.
        let app = Arc::new(Box::pin(App::open(config, clock)).await?);
        let metrics_listener = metrics_listen.map(bind).transpose()?;
        Ok(Self { app, listener: bind(listen)?, metrics_listener })
    }

    /// The port that the service listens on: chosen by the operating system if the configuration says 0.
    ///
    /// # Errors
    /// When the operating system does not report the port.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The port that serves `/metrics`, if configured.
    ///
    /// # Errors
    /// When the operating system does not report the port.
    pub fn metrics_port(&self) -> std::io::Result<Option<u16>> {
        self.metrics_listener.as_ref().map(|listener| Ok(listener.local_addr()?.port())).transpose()
    }

    /// Serves until SIGINT or SIGTERM, then lets requests and mails in progress finish.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self) -> std::io::Result<()> {
        self.run_until(std::future::pending()).await
    }

    /// The same, but also stops when `stopped` is ready.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run_until(self, stopped: impl Future<Output = ()>) -> std::io::Result<()> {
        let stop = workers::start(&self.app);
        let app = self.app;
        let blocking_threads = usize::try_from(app.cx.config.database_connections).unwrap_or(16) + 2;
        let description = openapi::description()?;
        let metrics = match self.metrics_listener {
            None => None,
            Some(listener) => {
                let cx = app.cx.clone();
                let server = HttpServer::new(move || api::metrics_service(cx.clone()));
                let server = server.workers(1).disable_signals();
                Some(server.listen(listener)?.run())
            }
        };
        let metrics_handle = metrics.as_ref().map(actix_web::dev::Server::handle);
        let metrics = metrics.map(tokio::spawn);
        let mut server = HttpServer::new(move || api::service(&app, description.clone()))
            .worker_max_blocking_threads(blocking_threads)
            .client_request_timeout(std::time::Duration::from_secs(5))
            .shutdown_timeout(15)
            .listen(self.listener)?
            .run();
        let handle = server.handle();
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            // The server handles the stop command only while it is polled.
            () = stopped => tokio::join!(handle.stop(true), server).1,
        };
        stop.finish().await;
        if let (Some(handle), Some(metrics)) = (metrics_handle, metrics) {
            handle.stop(false).await;
            drop(metrics.await);
        }
        outcome
    }
}
