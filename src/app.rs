//! The application: the only place where its parts are wired.
//!
//! [`App::build`] opens everything, [`Service::port`] tells where it listens, and
//! [`Service::run`] serves until it is told to stop.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use actix_web::{HttpServer, web};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::{Db, OpenError};
use crate::error::Error;
use crate::http::{self, PublicLimiter};
use crate::mail::{self, Certificates, MailLimits, Mailbox, Providers};
use crate::tokens::{MasterKey, MasterKeyError, Tokens};
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
    /// No way to call the mail provider.
    #[error("cannot set up calls to the mail provider (are CA certificates installed?): {0}")]
    Mail(#[from] reqwest::Error),
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
    pub(crate) mail_providers: Providers,
    /// How many links are mailed.
    pub(crate) mail_limits: MailLimits,
    /// What Amazon SNS signs its reports with.
    pub(crate) mail_certificates: Certificates,
    /// The preview mailbox, where mail goes there.
    pub(crate) mailbox: Option<Mailbox>,
    /// Wakes the mail worker: there may be something to send.
    pub(crate) mail_wake: Notify,
    pub(crate) public_limiter: PublicLimiter,
    pub(crate) log_sampler: Sampler,
}

impl App {
    /// Opens the store, the keys and the port.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn build(config: Config, clock: Clock) -> Result<Service, StartError> {
        let listen = config.listen;
        let app = Self::open(config, clock).await?;
        let listener = TcpListener::bind(listen).map_err(|error| StartError::Listen { address: listen, error })?;
        Ok(Service { app: web::Data::new(app), listener })
    }

    /// Opens the store and the keys, for the command line.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let master_key = MasterKey::load(&config.master_key)?;
        let db = Db::open(&config.database_url, config.database_connections)?;
        let tokens = Tokens::open(&config, master_key, &db, clock.now()).await?;
        let (mail_providers, mailbox) = mail::providers(&config.mail, &clock)?;
        Ok(Self {
            clock,
            db,
            tokens,
            mail_providers,
            mail_limits: MailLimits::new(&config),
            mail_certificates: Certificates::new()?,
            mailbox,
            mail_wake: Notify::new(),
            public_limiter: PublicLimiter::per_minute(config.limits.public_per_minute),
            log_sampler: Sampler::one_in(config.log.sample),
            config: Arc::new(config),
        })
    }
}

/// A service that is ready to run.
pub struct Service {
    app: web::Data<App>,
    listener: TcpListener,
}

impl Service {
    /// The port it listens on; of interest where the configuration said 0.
    ///
    /// # Errors
    /// When the operating system does not tell.
    pub fn port(&self) -> std::io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
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
