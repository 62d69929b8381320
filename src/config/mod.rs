//! Configuration: a TOML file, overridden by environment variables, checked as a whole.
//!
//! A variable is `MAGIC_LINK_` and the key in capitals, with `__` between levels:
//! `MAGIC_LINK_LINKS__TOKEN_HOURS=12`. All problems are reported at once, by key.
//! A first run needs no configuration.

mod keys;
mod mail;
mod portals;
mod reader;
mod secrets;
mod traces;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format};
use figment::value::Dict;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use time::Duration;
use url::Url;

use crate::db::{DatabaseUrl, text_enum};
use crate::error::Error;
use crate::secrets::{Kept, MasterKeySource, WebhookSecret, sha256_hex};

use secrets::SecretFile;

pub use keys::KEYS;
pub use mail::{Mail, MailEvents, Postmark, Provider, Resend, SendGrid, Ses, SesEvents};
pub use secrets::Reread;
pub use traces::Traces;
pub use webhooks::Webhooks;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "magic-link.toml";

const PREFIX: &str = "MAGIC_LINK_";

/// TOML for figment, parsed by the library that the migrations depend on anyway; figment's own is an older version.
struct Toml;

impl Format for Toml {
    type Error = toml::de::Error;

    const NAME: &'static str = "TOML";

    fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Self::Error> {
        // Its own text shows the line, which may hold a secret.
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            serde::de::Error::custom(format_args!("line {line}: {}", error.message()))
        })
    }
}

/// All settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the service in mails and pages.
    pub product_name: String,
    /// IANA time zone of tenants that set none.
    pub default_time_zone: String,
    /// Address that the service listens on.
    pub listen: SocketAddr,
    /// Address that serves `/metrics`, if any; it needs no authentication.
    pub metrics_listen: Option<SocketAddr>,
    /// Base URL in links, without a trailing slash.
    pub public_url: String,
    /// The database.
    pub database_url: DatabaseUrl,
    /// What works, and what an operator should think about: each with its key.
    pub warnings: Vec<String>,
    /// Connections in the pool.
    pub database_connections: u32,
    /// Largest number of write jobs that share a commit.
    pub database_batch: u32,
    /// Whether pending migrations are applied when the database is opened.
    pub migrate_at_start: bool,
    /// Whether the service is a sandbox, whose clock can be moved forward.
    pub sandbox: bool,
    /// Source of the master key, which seals signing keys.
    pub master_key: MasterKeySource,
    /// Time-out of a request's body.
    pub body_timeout: std::time::Duration,
    /// Time-out of a peer that does not read its answers.
    pub write_timeout: std::time::Duration,
    /// Time that a connection stays open without a request.
    pub keep_alive: std::time::Duration,
    /// Time from SIGTERM, when the service says that it is not ready, to the end of the listener.
    pub shutdown_delay: std::time::Duration,
    /// The portals, by id.
    pub portals: BTreeMap<String, Portal>,
    /// Lifetimes of links, tokens and sessions.
    pub links: Links,
    /// Rate limits.
    pub limits: Limits,
    /// Sending of mail.
    pub mail: Mail,
    /// Checkpoints and retention of the audit log.
    pub audit: Audit,
    /// Webhooks of clients.
    pub webhooks: Webhooks,
    /// Logging.
    pub log: Log,
    /// Spans for a collector.
    pub traces: Traces,
    /// What is in force, by key, without secrets.
    pub shown: BTreeMap<String, String>,
    secret_files: Vec<SecretFile>,
    /// The file that was asked for.
    file: Option<PathBuf>,
}

/// A portal that links lead to.
#[derive(Debug, Clone)]
pub struct Portal {
    /// Display name.
    pub name: String,
    /// `aud` of its access tokens.
    pub audience: String,
    /// URL to which the landing page sends the visitor with a code; may contain `{tenant_id}`.
    pub callback_url: String,
    /// The portal's own landing page, which then receives the link token; may contain `{tenant_id}`.
    pub landing_url: Option<String>,
    /// The portal's own page about granted access, for notices; may contain `{tenant_id}`.
    pub manage_url: Option<String>,
    /// Step-up: what a visitor needs in addition to the link.
    pub step_up: StepUpKind,
}

impl Portal {
    /// The callback URL for a tenant and a code.
    #[must_use]
    pub fn callback(&self, tenant_id: &str, code: &str) -> String {
        let address = self.callback_url.replace("{tenant_id}", tenant_id);
        let separator = if address.contains('?') { '&' } else { '?' };
        format!("{address}{separator}code={code}")
    }

    /// Whether consultants may have their browser remembered: they give a mailed code on this service's own page.
    #[must_use]
    pub fn remembers_devices(&self) -> bool {
        self.step_up == StepUpKind::EmailCode && self.landing_url.is_none()
    }
}

text_enum! {
    /// Step-up: what a visitor needs in addition to the link.
    pub enum StepUpKind {
        /// Nothing.
        None = "none",
        /// A one-time code, mailed to the registered address when the visitor presses the button.
        EmailCode = "email_code",
    }
}

/// Lifetimes of links, tokens and sessions.
#[derive(Debug, Clone)]
pub struct Links {
    /// Longest window of a link.
    pub max_duration: Duration,
    /// Lifetime of a mailed link token.
    pub token_life: Duration,
    /// Longest lifetime of a session.
    pub session_life: Duration,
    /// Shortest time between two mails for the same link.
    pub resend_cool_down: Duration,
}

/// Checkpoints and retention of the audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Interval of checkpoints of an audit log that has grown.
    pub checkpoint_every: Duration,
    /// Retention of payloads, for tenants that set none.
    pub retention: Duration,
    /// Whether the service erases what is past it; if not, `magic-link maintain` does.
    pub erase_in_service: bool,
    /// URL that receives every checkpoint, and the secret that signs the requests.
    pub webhook: Option<(Url, Kept<WebhookSecret>)>,
    /// Folder that keeps the newest checkpoint of each log, outside of the database.
    pub checkpoint_folder: Option<PathBuf>,
}

/// Rate limits of requests and mails.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections of one address; 0 is unlimited.
    pub connections_per_address: u32,
    /// Requests a minute from one address to the landing page's routes.
    pub public_per_minute: u32,
    /// Requests a minute of one client; 0 is unlimited.
    pub client_per_minute: u32,
    /// Proxies whose `trusted_header` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they name who called them.
    pub trusted_header: TrustedHeader,
    /// Links a minute that one client may have mailed.
    pub mails_per_client_minute: u32,
    /// Links a day (UTC) that may be mailed for one tenant.
    pub mails_per_tenant_day: u32,
    /// Mailed links an hour, and notices an hour, that one address may get.
    pub mails_per_recipient_hour: u32,
    /// Fresh links an hour of one link.
    pub fresh_links_per_recipient_hour: u32,
}

text_enum! {
    /// The header in which proxies name who called them. The other one is ignored.
    pub enum TrustedHeader {
        /// `X-Forwarded-For`
        XForwardedFor = "x-forwarded-for",
        /// `Forwarded` (RFC 7239)
        Forwarded = "forwarded",
    }
}

/// Logging.
#[derive(Debug, Clone)]
pub struct Log {
    /// Format of a line.
    pub format: LogFormat,
    /// A `tracing` filter.
    pub level: String,
    /// One of this number of successful requests is logged; other requests always are.
    pub sample: u32,
}

text_enum! {
    /// Format of a log line.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// Text for people.
        Text = "text",
    }
}

/// What migrating needs: the address of the database, and where to say how it goes.
#[derive(Debug, Clone)]
pub(crate) struct ForMigrating {
    pub database_url: DatabaseUrl,
    pub log: Log,
}

/// All problems of a configuration.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration has problems:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}

impl Config {
    /// Whether a portal remembers devices.
    #[must_use]
    pub fn remembers_devices(&self) -> bool {
        self.portals.values().any(Portal::remembers_devices)
    }

    /// Reads the file, then the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        Self::load_as(file, true)
    }

    fn load_as(file: Option<&Path>, needs_master_key: bool) -> Result<Self, Problems> {
        let config = Self::from_figment(&Self::figment(file)?, needs_master_key, credentials())?;
        Ok(Self { file: file.map(Path::to_owned), ..config })
    }

    /// The configuration as it is now in the same places.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_again(&self) -> Result<Self, Problems> {
        Self::load(self.file.as_deref())
    }

    /// Tells configurations apart: a digest of what is in force, without secrets.
    #[must_use]
    pub fn digest(&self) -> String {
        let shown = serde_json::json!(self.shown).to_string();
        sha256_hex(shown.as_bytes()).chars().take(16).collect()
    }

    /// Keys with another value in `other`, except the level of the log.
    pub(crate) fn differing<'a>(&'a self, other: &'a Self) -> Vec<&'a str> {
        let keys: BTreeSet<&str> = self.shown.keys().chain(other.shown.keys()).map(String::as_str).collect();
        let differs = |key: &&str| *key != "log.level" && self.shown.get(*key) != other.shown.get(*key);
        keys.into_iter().filter(differs).collect()
    }

    /// The same for what opens no keys: it need not say where the master key is.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_without_master_key(file: Option<&Path>) -> Result<Self, Problems> {
        Self::load_as(file, false)
    }

    /// What `magic-link migrate` needs, and nothing else.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_for_migrating(file: Option<&Path>) -> Result<ForMigrating, Problems> {
        let root = Self::extract(&Self::figment(file)?)?;
        reader::read_for_migrating(&root, credentials()).map_err(Problems)
    }

    /// Where the service listens, and nothing else.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_listen(file: Option<&Path>) -> Result<SocketAddr, Problems> {
        reader::read_listen(&Self::extract(&Self::figment(file)?)?).map_err(Problems)
    }

    fn figment(file: Option<&Path>) -> Result<Figment, Problems> {
        let default = Some(Path::new(DEFAULT_FILE)).filter(|file| file.exists());
        let toml = match file.or(default) {
            Some(path) if !path.is_file() => {
                return Err(Problems(vec![format!("{}: {}", path.display(), why_no_file(path))]));
            }
            Some(path) => Toml::file_exact(path),
            None => Toml::string(""),
        };
        let environment = Env::prefixed(PREFIX).filter(|key| !is_service_link(key.as_str())).split("__");
        Ok(traces::of_opentelemetry().merge(toml).merge(environment))
    }

    /// Reads a text in the form of the file, without the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        Self::from_figment(&Figment::new().merge(Toml::string(text)), true, None)
    }

    fn from_figment(figment: &Figment, needs_master_key: bool, credentials: Option<PathBuf>) -> Result<Self, Problems> {
        reader::read(&Self::extract(figment)?, needs_master_key, credentials).map_err(Problems)
    }

    fn extract(figment: &Figment) -> Result<Dict, Problems> {
        let problems = |errors: figment::Error| errors.into_iter().map(|error| error.to_string()).collect();
        figment.extract().map_err(|errors| Problems(problems(errors)))
    }

    /// The portal of this id.
    ///
    /// # Errors
    /// When it was removed from the configuration while there are links to it.
    pub(crate) fn portal(&self, id: &str) -> Result<&Portal, Error> {
        self.portals.get(id).ok_or_else(|| Error::internal(format_args!("portal {id} is no longer configured")))
    }

    /// `iss` of tokens: one of a sandbox counts nowhere else.
    #[must_use]
    pub fn issuer(&self) -> String {
        if self.sandbox { format!("{}/sandbox", self.public_url) } else { self.public_url.clone() }
    }

    /// Whether the service can only be reached from this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback() && reader::is_loopback_url(&self.public_url)
    }
}

/// What is there in the place of a file.
fn why_no_file(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(it) if it.is_dir() => "this is a folder, and no file".to_owned(),
        Ok(_device_or_pipe) => "this is no regular file".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "there is no such file".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    }
}

/// The folder in which systemd hands credentials over, each in a file of its name.
fn credentials() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

/// The socket at which systemd wants to hear how the service is.
pub(crate) fn notify_socket() -> Option<OsString> {
    std::env::var_os("NOTIFY_SOCKET")
}

/// Whether Kubernetes set the variable, as it does for a Service called `magic-link`: it is not a setting.
fn is_service_link(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("service_") || key == "port" || key.starts_with("port_")
}

#[cfg(test)]
mod tests;
