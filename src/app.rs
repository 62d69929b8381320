//! The application: opens all parts of the service and wires them, here and nowhere else.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};
use futures_util::future::LocalBoxFuture;
use time::Duration;

use crate::access::{AccessReader, ClientUses};
use crate::audit::{self, CheckpointFolder, LogAlarms, LogKey, PurgeSchedule};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::{Context, look_at_clock};
use crate::error::Error;
use crate::http::{Limits, Sampler};
use crate::mail::{self, Certificates};
use crate::mail_providers::{self, Mailbox, Providers};
use crate::metrics::Metrics;
use crate::sandbox;
use crate::secrets::{MasterKey, MasterKeyError};
use crate::sessions;
use crate::status_lists::StatusLists;
use crate::store::{Observer, OpenError, Opening, Store};
use crate::telemetry::{Tracer, TracesError};
use crate::tokens::Tokens;
use crate::webhooks::{self, Sender, Webhook};

/// Observers of audit events, called in the transaction that appends the events.
const OBSERVERS: &[Observer] = &[sessions::schedule_report_checks, audit::index_principals, webhooks::enqueue];

/// Reason why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The master key cannot be loaded.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The signing keys cannot be opened.
    #[error("cannot open the signing keys: {0} (see the log for the cause)")]
    Keys(#[from] Error),
    /// The database does not tell the time.
    #[error("cannot ask the database for the time: {0} (see the log for the cause)")]
    Clock(Error),
    /// The database, or the configuration, is a sandbox's, and the other is not.
    #[error(transparent)]
    Sandbox(#[from] SandboxMismatch),
    /// Two metrics share a name.
    #[error("cannot set up the metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The HTTP client for calls to mail providers and webhooks cannot be set up.
    #[error("cannot set up the HTTP client (are CA certificates installed?): {0}")]
    Calls(#[from] reqwest::Error),
    /// Spans cannot be sent as configured.
    #[error("traces.endpoint: {0}")]
    Traces(#[from] TracesError),
    /// A port cannot be bound.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The error of the operating system.
        error: std::io::Error,
    },
}

/// The database, or the configuration, is a sandbox's, and the other is not.
#[derive(Debug, thiserror::Error)]
pub enum SandboxMismatch {
    /// The database belongs to people.
    #[error("sandbox: this database is no sandbox's: make one of an empty database by `magic-link sandbox init`")]
    Database,
    /// The clock of this one is moved.
    #[error(
        "sandbox: this database is a sandbox's, whose clock is moved: set `sandbox = true`, or another database_url"
    )]
    Configuration,
}

/// Shared by all requests and workers: the context, and the state of each slice.
pub struct App {
    pub(crate) cx: Data<Context>,
    /// Signs checkpoints of the audit logs.
    pub(crate) log_key: Data<LogKey>,
    /// Receiver of checkpoints, if configured.
    pub(crate) checkpoint_webhook: Option<Webhook>,
    /// Folder that keeps the newest checkpoints, if configured.
    pub(crate) checkpoint_folder: Data<CheckpointFolder>,
    pub(crate) log_alarms: LogAlarms,
    pub(crate) purge_schedule: PurgeSchedule,
    pub(crate) mail_providers: Providers,
    pub(crate) mail_limits: Data<mail::Limits>,
    mail_certificates: Data<Certificates>,
    /// The preview mailbox, if it is the mail provider.
    mailbox: Option<Data<Mailbox>>,
    status_lists: Data<StatusLists>,
    /// Calls the webhook endpoints of clients.
    pub(crate) webhook_sender: Data<Sender>,
    pub(crate) limits: Data<Limits>,
    pub(crate) log_sampler: Data<Sampler>,
}

/// Opens the store, and the signing keys with the master key. Without it nothing is signed, verified or unsealed: for
/// commands that read, revoke and freeze, which must work when the master key is lost.
///
/// # Errors
/// [`StartError`] names the part that failed.
pub(crate) fn open_context(
    config: Config,
    clock: Clock,
    master_key: Option<MasterKey>,
) -> LocalBoxFuture<'static, Result<Context, StartError>> {
    // Boxed here, because the state of a start is large.
    Box::pin(open_unboxed(config, clock, master_key))
}

/// Opens the store alone, with what counts and records its work.
///
/// # Errors
/// [`StartError`] names the part that failed.
pub(crate) fn open_store(config: &Config) -> Result<(Store, Metrics, Tracer), StartError> {
    let metrics = Metrics::new()?;
    metrics.build.with_label_values(&[env!("CARGO_PKG_VERSION"), &crate::db::newest_migration()]).set(1);
    let opening = Opening {
        connections: config.database_connections,
        max_batch: config.database_batch,
        migrate: config.migrate_at_start,
    };
    let tracer = Tracer::open(&config.traces, &metrics)?;
    Ok((Store::open(&config.database_url, opening, OBSERVERS, &metrics, &tracer)?, metrics, tracer))
}

/// How far a sandbox's clock was moved; `None` where neither the configuration nor the database is a sandbox's.
async fn sandbox_of(config: &Config, store: &Store) -> Result<Option<Duration>, StartError> {
    match (config.sandbox, sandbox::moved(store).await?) {
        (true, None) => Err(SandboxMismatch::Database.into()),
        (false, Some(_)) => Err(SandboxMismatch::Configuration.into()),
        (_, moved) => Ok(moved),
    }
}

async fn open_unboxed(config: Config, clock: Clock, master_key: Option<MasterKey>) -> Result<Context, StartError> {
    let (store, metrics, tracer) = open_store(&config)?;
    // After the store, which runs the migrations.
    let access = AccessReader::open(&store, &metrics)?;
    let clock = if config.database_url.is_sqlite() { clock } else { clock.following() };
    look_at_clock(&clock, &store, &metrics).await.map_err(StartError::Clock)?;
    let moved = sandbox_of(&config, &store).await?;
    let clock = moved.map_or(clock.clone(), |moved| clock.of_sandbox(moved));
    let tokens = match master_key {
        Some(master_key) => Tokens::open(&config, master_key, &store, clock.now()).await?,
        None => Tokens::without_keys(&config)?,
    };
    // Again: what became a sandbox's meanwhile has no key yet, and what has a key becomes none.
    sandbox_of(&config, &store).await?;
    let (config, client_uses) = (Arc::new(config), ClientUses::default());
    Ok(Context { config, clock, store, tokens, access, client_uses, metrics, tracer })
}

impl App {
    /// Opens the store and the keys.
    ///
    /// # Errors
    /// [`StartError`] names the part that failed.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let master_key = MasterKey::load(&config.master_key)?;
        let cx = open_context(config, clock, Some(master_key)).await?;
        let (config, clock) = (&cx.config, &cx.clock);
        let log_key = LogKey::open(&cx.store, cx.tokens.master_key(), cx.tokens.issuer(), clock.now()).await?;
        let checkpoint_folder = CheckpointFolder::open(&cx).await?;
        let webhook = config.audit.webhook.clone();
        let (mail_providers, mailbox) = mail_providers::open(&config.mail, clock)?;
        Ok(Self {
            log_key: Data::new(log_key),
            checkpoint_folder: Data::new(checkpoint_folder),
            checkpoint_webhook: webhook.map(|(url, secret)| Webhook::new(url, secret)).transpose()?,
            log_alarms: LogAlarms::default(),
            purge_schedule: PurgeSchedule::default(),
            mail_providers,
            mail_limits: Data::new(mail::Limits::new(config)),
            mail_certificates: Data::new(Certificates::new()?),
            mailbox: mailbox.map(Data::new),
            status_lists: Data::new(StatusLists::default()),
            webhook_sender: Data::new(Sender::new(&config.webhooks)?),
            limits: Data::new(Limits::new(&config.limits)),
            log_sampler: Data::new(Sampler::one_in(config.log.sample)),
            cx: Data::new(cx),
        })
    }

    /// Makes the context and the state of each slice available to the handlers.
    pub(crate) fn register(&self, service: &mut ServiceConfig) {
        service
            .app_data(self.cx.clone())
            .app_data(self.log_key.clone())
            .app_data(self.checkpoint_folder.clone())
            .app_data(self.mail_limits.clone())
            .app_data(self.mail_certificates.clone())
            .app_data(self.status_lists.clone())
            .app_data(self.webhook_sender.clone())
            .app_data(self.limits.clone())
            .app_data(self.log_sampler.clone());
        if let Some(mailbox) = &self.mailbox {
            service.app_data(mailbox.clone());
        }
    }
}
