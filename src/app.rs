//! The application: the only place where its parts are wired.
//!
//! [`App::build`] opens everything, [`Service::port`] tells where it listens, and
//! [`Service::run`] serves until it is told to stop.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::{HttpServer, web};
use tokio::sync::Notify;

use crate::audit::{LogAlarms, LogKey, PurgeSchedule};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::db::{Db, OpenError, State};
use crate::error::Error;
use crate::http::{self, Limiter};
use crate::id::{ClientId, SessionId};
use crate::mail::{self, Certificates, MailLimits, Mailbox, Providers};
use crate::metrics::Metrics;
use crate::status_lists::StatusLists;
use crate::secrets::{MasterKey, MasterKeyError};
use crate::tokens::Tokens;
use crate::webhooks::{Sender, Webhook};
use crate::workers;

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// No store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// No signing keys.
    #[error("cannot open the signing keys: {0} (the log says more)")]
    Keys(#[from] Error),
    /// Two metrics share a name.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// No way to call the mail provider or the address that checkpoints go to.
    #[error("cannot set up calls to others (are CA certificates installed?): {0}")]
    Calls(#[from] reqwest::Error),
    /// No port.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// What happened.
        error: std::io::Error,
    },
}

/// What every request and every worker works with.
pub struct App {
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) db: Db,
    pub(crate) tokens: Tokens,
    /// Signs checkpoints of the audit logs.
    pub(crate) log_key: Arc<LogKey>,
    /// Where checkpoints go, if anywhere.
    pub(crate) checkpoint_webhook: Option<Webhook>,
    /// Which logs are not signed for any more.
    pub(crate) log_alarms: LogAlarms,
    /// When payloads were last looked through for those whose time is over.
    pub(crate) purge_schedule: PurgeSchedule,
    pub(crate) mail_providers: Providers,
    /// How many links are mailed.
    pub(crate) mail_limits: MailLimits,
    /// What Amazon SNS signs its reports with.
    pub(crate) mail_certificates: Certificates,
    /// The preview mailbox, where mail goes there.
    pub(crate) mailbox: Option<Mailbox>,
    /// Status lists, as this process has signed them.
    pub(crate) status_lists: StatusLists,
    /// Wakes the mail worker: there may be something to send.
    pub(crate) mail_wake: Notify,
    /// Wakes the worker that carries orders of revocation out.
    pub(crate) revocation_wake: Notify,
    /// Calls the webhook endpoints of clients.
    pub(crate) webhook_sender: Sender,
    /// Wakes the webhook worker: there is something to send.
    pub(crate) webhook_wake: Notify,
    /// Strangers, by network.
    pub(crate) public_limiter: Limiter<IpAddr>,
    /// Clients, where the configuration limits them.
    pub(crate) client_limiter: Option<Limiter<ClientId>>,
    pub(crate) log_sampler: Sampler,
    pub(crate) metrics: Metrics,
}

impl App {
    /// Opens the store, the keys and the port.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn build(config: Config, clock: Clock) -> Result<Service, StartError> {
        let bind = |address| TcpListener::bind(address).map_err(|error| StartError::Listen { address, error });
        let (listen, metrics_listen) = (config.listen, config.metrics_listen);
        let app = Self::open(config, clock).await?;
        let metrics_listener = metrics_listen.map(bind).transpose()?;
        Ok(Service { app: web::Data::new(app), listener: bind(listen)?, metrics_listener })
    }

    /// Opens the store and the keys, for the command line.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let master_key = MasterKey::load(&config.master_key)?;
        let metrics = Metrics::new()?;
        let db = Db::open(&config.database_url, config.database_connections, config.database_batch, &metrics)?;
        let tokens = Tokens::open(&config, master_key, &db, clock.now()).await?;
        let log_key = LogKey::open(&db, tokens.master_key(), &config.public_url, clock.now()).await?;
        let webhook = config.audit.webhook.clone();
        let checkpoint_webhook = webhook.map(|(url, secret)| Webhook::new(url, secret)).transpose()?;
        let (mail_providers, mailbox) = mail::providers(&config.mail, &clock)?;
        Ok(Self {
            clock,
            db,
            tokens,
            log_key: Arc::new(log_key),
            checkpoint_webhook,
            log_alarms: LogAlarms::default(),
            purge_schedule: PurgeSchedule::default(),
            mail_providers,
            mail_limits: MailLimits::new(&config),
            mail_certificates: Certificates::new()?,
            mailbox,
            status_lists: StatusLists::default(),
            mail_wake: Notify::new(),
            revocation_wake: Notify::new(),
            webhook_sender: Sender::new(&config.webhooks)?,
            webhook_wake: Notify::new(),
            public_limiter: Limiter::per_minute("public", config.limits.public_per_minute),
            client_limiter: match config.limits.client_per_minute {
                0 => None,
                calls => Some(Limiter::per_minute("client", calls)),
            },
            log_sampler: Sampler::one_in(config.log.sample),
            metrics,
            config: Arc::new(config),
        })
    }

    /// What the store says of a client and a session at this moment.
    ///
    /// With it comes the epoch of the signing keys: where they have changed, this
    /// process reads them before it goes on.
    ///
    /// # Errors
    /// `unavailable` when the store cannot be asked.
    pub(crate) async fn ask(
        &self,
        client: Option<&ClientId>,
        session: Option<&SessionId>,
        now: Timestamp,
    ) -> Result<State, Error> {
        let state = self.db.state(client, session, now).await?;
        if self.tokens.epoch() < state.epochs.keys {
            // Boxed, because it seldom happens: what lies in every request's future is moved with it.
            Box::pin(self.tokens.catch_up(&self.db, state.epochs.keys, now)).await?;
        }
        Ok(state)
    }
}

/// A service that is ready to run.
pub struct Service {
    app: web::Data<App>,
    listener: TcpListener,
    metrics_listener: Option<TcpListener>,
}

impl Service {
    /// The port it listens on; of interest where the configuration said 0.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// The port that shows `/metrics`, where there is one.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn metrics_port(&self) -> std::io::Result<Option<u16>> {
        self.metrics_listener.as_ref().map(|listener| Ok(listener.local_addr()?.port())).transpose()
    }

    /// Serves until SIGINT or SIGTERM, then lets requests and mails in hand finish.
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
        let blocking_threads = usize::try_from(app.config.database_connections).unwrap_or(16) + 2;
        let description = http::openapi::description()?;
        let metrics = match self.metrics_listener {
            None => None,
            Some(listener) => {
                let app = app.clone();
                let server = HttpServer::new(move || http::metrics_service(app.clone())).workers(1).disable_signals();
                Some(server.listen(listener)?.run())
            }
        };
        let metrics_handle = metrics.as_ref().map(actix_web::dev::Server::handle);
        let metrics = metrics.map(tokio::spawn);
        let mut server = HttpServer::new(move || http::service(app.clone(), description.clone()))
            .worker_max_blocking_threads(blocking_threads)
            .client_request_timeout(std::time::Duration::from_secs(5))
            .shutdown_timeout(15)
            .listen(self.listener)?
            .run();
        let handle = server.handle();
        let outcome = tokio::select! {
            outcome = &mut server => outcome,
            // The server itself has to be polled for it to hear that it should stop.
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

/// Picks one of every so many.
pub(crate) struct Sampler {
    one_in: u32,
    count: AtomicU32,
}

impl Sampler {
    const fn one_in(one_in: u32) -> Self {
        Self { one_in, count: AtomicU32::new(0) }
    }

    pub(crate) fn take(&self) -> bool {
        self.one_in <= 1 || self.count.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.one_in)
    }
}
