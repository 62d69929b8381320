//! The application: opens everything, and wires it in this one place.

use std::sync::Arc;

use actix_web::web::{Data, ServiceConfig};

use crate::access::AccessReader;
use crate::audit::{LogAlarms, LogKey, PurgeSchedule};
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::error::Error;
use crate::http::{Limits, Sampler};
use crate::mail::{self, Certificates};
use crate::mail_providers::{self, Mailbox, Providers};
use crate::metrics::Metrics;
use crate::secrets::{MasterKey, MasterKeyError};
use crate::sessions;
use crate::status_lists::StatusLists;
use crate::store::{Observer, OpenError, Store};
use crate::tokens::Tokens;
use crate::webhooks::{self, Sender, Webhook};

/// What follows from an audit event, in the transaction that appends it.
const OBSERVERS: &[Observer] = &[sessions::schedule_report_checks, webhooks::enqueue];

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

/// What every request and every worker works with: the context, and the state of each slice.
pub struct App {
    pub(crate) cx: Data<Context>,
    /// Signs checkpoints of the audit logs.
    pub(crate) log_key: Data<LogKey>,
    /// Where checkpoints go, if anywhere.
    pub(crate) checkpoint_webhook: Option<Webhook>,
    pub(crate) log_alarms: LogAlarms,
    pub(crate) purge_schedule: PurgeSchedule,
    pub(crate) mail_providers: Providers,
    pub(crate) mail_limits: Data<mail::Limits>,
    mail_certificates: Data<Certificates>,
    /// The preview mailbox, where mail goes there.
    mailbox: Option<Data<Mailbox>>,
    status_lists: Data<StatusLists>,
    /// Calls the webhook endpoints of clients.
    pub(crate) webhook_sender: Data<Sender>,
    pub(crate) limits: Data<Limits>,
    log_sampler: Data<Sampler>,
}

impl App {
    /// Opens the store and the keys.
    ///
    /// # Errors
    /// [`StartError`] says what is missing.
    pub async fn open(config: Config, clock: Clock) -> Result<Self, StartError> {
        let master_key = MasterKey::load(&config.master_key)?;
        let metrics = Metrics::new()?;
        let (url, connections) = (&config.database_url, config.database_connections);
        let store = Store::open(url, connections, config.database_batch, OBSERVERS, &metrics)?;
        // The store has brought the tables up to date by now.
        let access = AccessReader::open(url, &metrics)?;
        let tokens = Tokens::open(&config, master_key, &store, clock.now()).await?;
        let log_key = LogKey::open(&store, tokens.master_key(), &config.public_url, clock.now()).await?;
        let webhook = config.audit.webhook.clone();
        let (mail_providers, mailbox) = mail_providers::open(&config.mail, &clock)?;
        Ok(Self {
            log_key: Data::new(log_key),
            checkpoint_webhook: webhook.map(|(url, secret)| Webhook::new(url, secret)).transpose()?,
            log_alarms: LogAlarms::default(),
            purge_schedule: PurgeSchedule::default(),
            mail_providers,
            mail_limits: Data::new(mail::Limits::new(&config)),
            mail_certificates: Data::new(Certificates::new()?),
            mailbox: mailbox.map(Data::new),
            status_lists: Data::new(StatusLists::default()),
            webhook_sender: Data::new(Sender::new(&config.webhooks)?),
            limits: Data::new(Limits::new(&config.limits)),
            log_sampler: Data::new(Sampler::one_in(config.log.sample)),
            cx: Data::new(Context { config: Arc::new(config), clock, store, tokens, access, metrics }),
        })
    }

    /// Hands the context and the state of each slice to the handlers.
    pub(crate) fn register(&self, service: &mut ServiceConfig) {
        service
            .app_data(self.cx.clone())
            .app_data(self.log_key.clone())
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
