//! The running service: its listeners, and how it stops.

mod connection;
mod file_limit;
mod framing;
mod notify;
mod places;
mod refusal;
mod reload;
mod signals;

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_http::{Extensions, HttpService, Request, Response};
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::body::MessageBody;
use actix_web::dev::AppConfig;
use bytes::Bytes;

use self::connection::{Connection, Connections};
use self::signals::Signals;
pub(crate) use self::signals::survive_hangups;
use crate::api::{self, openapi};
use crate::app::{App, StartError};
use crate::clock::Clock;
use crate::config::Config;
use crate::db::newest_applied;
use crate::http::{SLICE, Stopping};
use crate::store::MOST_GIVEN_UP;
use crate::telemetry::LogLevel;
use crate::workers;

/// Time-out of a connection that is closing.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Time that requests in progress have to finish, in seconds.
const DRAIN_SECONDS: u64 = 15;

/// A service that is ready to run.
pub struct Service {
    app: Arc<App>,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
    log_level: Option<LogLevel>,
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
        let listener = bind(listen)?;
        let schema = app.cx.store.read(|conn| Ok(newest_applied(conn)?)).await?;
        tracing::info!(
            service.version = env!("CARGO_PKG_VERSION"),
            schema.version = schema,
            config.digest = app.cx.config.digest(),
            "started"
        );
        Ok(Self { app, listener, metrics_listener, log_level: None })
    }

    /// Lets SIGHUP change the level of the log, too.
    #[must_use]
    pub(crate) fn with_log_level(self, log_level: LogLevel) -> Self {
        Self { log_level: Some(log_level), ..self }
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

    /// Serves until SIGTERM, says for a moment that it is not ready, then lets requests and mails in progress finish, for
    /// less than half a minute. SIGINT waits for no requests, and a second signal for nothing. At SIGHUP it reads secrets
    /// and the level of the log again.
    ///
    /// # Errors
    /// When the listener fails, or something in progress did not finish.
    pub async fn run(self) -> std::io::Result<()> {
        self.run_until(std::future::pending()).await
    }

    /// The same, but also stops when `stopped` is ready.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run_until(self, stopped: impl Future<Output = ()>) -> std::io::Result<()> {
        let signals = Signals::listen()?;
        let (config, log_level) = (Arc::clone(&self.app.cx.config), self.log_level);
        let hangups = signals::at_each_hangup(move || reload::read_again(&config, log_level.as_ref()))?;
        let stop = workers::start(&self.app);
        let app = self.app;
        // Those that the database holds are left behind, and others take their place.
        let readers = usize::try_from(app.cx.config.database_connections).unwrap_or(16);
        let blocking_threads = readers * (1 + MOST_GIVEN_UP) + 2;
        let description = Arc::new(openapi::description()?);
        let three_zero = openapi::description_3_0(&description).to_string();
        let texts = [description.to_string(), three_zero, openapi::webhooks()?.to_string()].map(Bytes::from);
        let room = file_limit::connections_within(file_limit::raise(), app.cx.config.database_connections);
        let connections = |room| Connections::new(&app.cx.config, room, &app.cx.metrics, app.log_sampler.clone());
        let (keep_alive, delay) = (app.cx.config.keep_alive, app.cx.config.shutdown_delay);
        let stopping = Stopping::default();
        let metrics = match self.metrics_listener {
            None => None,
            Some(listener) => {
                let cx = app.cx.clone();
                let builder = Server::build().workers(1).disable_signals();
                let factory = move || api::metrics_service(cx.clone());
                Some(listen(builder, listener, connections(file_limit::FOR_METRICS), keep_alive, factory)?)
            }
        };
        let tracer = app.cx.tracer.clone();
        let metrics_handle = metrics.as_ref().map(Server::handle);
        let metrics = metrics.map(tokio::spawn);
        let builder = Server::build().worker_max_blocking_threads(blocking_threads).shutdown_timeout(DRAIN_SECONDS);
        let builder = builder.disable_signals();
        let (connections, is_stopping) = (connections(room), stopping.clone());
        let factory = move || api::service(&app, &is_stopping, &description, &texts);
        let mut server = listen(builder, self.listener, connections, keep_alive, factory)?;
        let handle = server.handle();
        notify::tell(notify::READY);
        let at_once = signals.stop(server.handle(), stopping, delay);
        let orderly = async {
            let outcome = tokio::select! {
                outcome = &mut server => outcome,
                // The server handles the stop command only while it is polled.
                () = stopped => tokio::join!(handle.stop(true), server).1,
            };
            let is_finished = stop.finish().await;
            tracer.finish().await;
            if let (Some(handle), Some(metrics)) = (metrics_handle, metrics) {
                handle.stop(false).await;
                drop(metrics.await);
            }
            if is_finished { outcome } else { Err(by_force("the database or a provider did not answer")) }
        };
        let outcome = tokio::select! {
            outcome = orderly => outcome,
            () = at_once => Err(by_force("a second signal came; what was in progress is left as it is")),
        };
        hangups.abort();
        outcome
    }
}

fn by_force(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("stopped by force: {why}"))
}

/// Starts a server for HTTP/1.1, as `HttpServer` of actix would, but on connections that have an end.
fn listen<F, A, S, B>(
    builder: ServerBuilder,
    listener: TcpListener,
    connections: Connections,
    keep_alive: Duration,
    factory: F,
) -> std::io::Result<Server>
where
    F: Fn() -> A + Clone + Send + 'static,
    A: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let address = listener.local_addr()?;
    let stopping = builder.graceful_shutdown_signal();
    let server = builder.listen("http", listener, move || {
        let (connections, stopping) = (connections.clone(), stopping.clone());
        let service = factory().into_factory().map_err(|error| error.into().error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(keep_alive)
            // The time of a connection without any request; a head's own is shorter (`Connection`).
            .client_request_timeout(keep_alive)
            .on_connect_ext(|connection: &Connection, data: &mut Extensions| {
                data.insert(connection.awaited_body());
                data.insert(connection.until_close());
            })
            .client_disconnect_timeout(CLOSE_TIMEOUT)
            .h1_write_buffer_size(SLICE)
            .local_addr(address)
            .h1(map_config(service, |()| AppConfig::default()));
        fn_service(move |stream| std::future::ready(connections.accept(stream).map_err(Into::into))).and_then(http)
    })?;
    Ok(server.run())
}
