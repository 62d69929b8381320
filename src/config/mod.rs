//! Configuration: a TOML file, overridden by environment variables, checked as a whole.
//!
//! A variable is `MAGIC_LINK_` and the key in capitals, with `__` between levels:
//! `MAGIC_LINK_LINKS__TOKEN_HOURS=12`. All problems are reported at once, by key.
//! A first run needs no configuration.

mod mail;
mod reader;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format};
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use time::Duration;
use url::Url;

use crate::db::{DatabaseUrl, text_enum};
use crate::error::Error;
use crate::secrets::{MasterKeySource, WebhookSecret};

pub use mail::{Mail, MailEvents, Postmark, Provider, Resend, SendGrid, Ses, SesEvents};
pub use reader::KEYS;
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
        toml::from_str(text)
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
    /// Base URL in links, and `iss` of tokens, without a trailing slash.
    pub public_url: String,
    /// The database.
    pub database_url: DatabaseUrl,
    /// What works, and what an operator should think about: each with its key.
    pub warnings: Vec<String>,
    /// Connections in the pool.
    pub database_connections: u32,
    /// Largest number of write jobs that share a commit.
    pub database_batch: u32,
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
    /// URL that receives every checkpoint, and the secret that signs the requests.
    pub webhook: Option<(Url, WebhookSecret)>,
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
        Self::from_figment(&Self::figment(file)?, true)
    }

    /// The same for what opens no keys: it need not say where the master key is.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub(crate) fn load_without_master_key(file: Option<&Path>) -> Result<Self, Problems> {
        Self::from_figment(&Self::figment(file)?, false)
    }

    fn figment(file: Option<&Path>) -> Result<Figment, Problems> {
        let toml = match file {
            Some(path) if !path.is_file() => {
                return Err(Problems(vec![format!("{}: there is no such file", path.display())]));
            }
            Some(path) => Toml::file_exact(path),
            None if Path::new(DEFAULT_FILE).is_file() => Toml::file_exact(DEFAULT_FILE),
            None => Toml::string(""),
        };
        let environment = Env::prefixed(PREFIX).filter(|key| !is_service_link(key.as_str())).split("__");
        Ok(Figment::new().merge(toml).merge(environment))
    }

    /// Reads a text in the form of the file, without the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        Self::from_figment(&Figment::new().merge(Toml::string(text)), true)
    }

    fn from_figment(figment: &Figment, needs_master_key: bool) -> Result<Self, Problems> {
        let root = figment
            .extract()
            .map_err(|errors| Problems(errors.into_iter().map(|error| error.to_string()).collect()))?;
        reader::read(&root, needs_master_key).map_err(Problems)
    }

    /// The portal of this id.
    ///
    /// # Errors
    /// When it was removed from the configuration while there are links to it.
    pub(crate) fn portal(&self, id: &str) -> Result<&Portal, Error> {
        self.portals.get(id).ok_or_else(|| Error::internal(format_args!("portal {id} is no longer configured")))
    }

    /// Whether the service can only be reached from this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback() && reader::is_loopback_url(&self.public_url)
    }
}

/// Whether Kubernetes set the variable, as it does for a Service called `magic-link`: it is not a setting.
fn is_service_link(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    key.starts_with("service_") || key == "port" || key.starts_with("port_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_needed_for_a_first_run() {
        let config = Config::from_toml("").unwrap();
        assert_eq!(config.public_url, "http://127.0.0.1:8080");
        assert_eq!(config.portals.keys().collect::<Vec<_>>(), ["cloud", "ess"]);
        assert!(matches!(config.mail.provider, Provider::Preview));
        assert!(config.database_url.is_sqlite() && config.is_loopback());
        assert_eq!(config.links.max_duration, Duration::weeks(4));
    }

    #[test]
    fn all_problems_are_reported_at_once_by_key() {
        let problems = Config::from_toml(
            "colour = 'red'\nlisten = 'here'\ndefault_time_zone = 'Mars/Base'\n[links]\ntoken_hours = -1\n\
             [portals.hr]\nlanding_url = 'ftp://hr'\nface = 'x'\n[mail]\nfrom = 'a@b, c@d'\nprovider = 'pigeon'",
        )
        .unwrap_err()
        .to_string();
        for key in [
            "colour:",
            "listen:",
            "default_time_zone:",
            "links.token_hours:",
            "portals.hr.callback_url:",
            "portals.hr.audience:",
            "portals.hr.landing_url:",
            "portals.hr.face:",
            "mail.from:",
            "mail.provider:",
        ] {
            assert!(problems.contains(key), "{key} is missing in {problems}");
        }
    }

    #[test]
    fn addresses_that_would_mislead_are_refused() {
        let portal = |id: &str, audience: &str, callback: &str| {
            format!("[portals.{id}]\naudience = '{audience}'\ncallback_url = '{callback}'\n")
        };
        let callback = "https://p.example/{tenant_id}/c";
        for (text, key) in [
            ("public_url = 'http://127.0.0.1:8080/ml'".to_owned(), "public_url:"),
            ("public_url = 'http://user:word@127.0.0.1:8080'".to_owned(), "public_url:"),
            ("public_url = 'http://links.example'".to_owned(), "public_url: must be an https address"),
            ("public_url = 'http://10.0.0.7:8080'".to_owned(), "public_url: must be an https address"),
            ("public_url = 'http://localhost.example'".to_owned(), "public_url: must be an https address"),
            ("public_url = 'http://0.0.0.0:8080'".to_owned(), "public_url: must be an https address"),
            // Nothing was said, and nobody could reach what follows from it.
            ("listen = '0.0.0.0:8080'".to_owned(), "public_url: must be an https address"),
            ("listen = '10.0.0.7:8080'".to_owned(), "public_url: must be an https address"),
            ("[portals]".to_owned(), "portals:"),
            (portal("cloud", "", callback), "portals.cloud.audience:"),
            (portal("cloud", "a", callback) + &portal("ess", "a", callback), "portals.ess.audience:"),
            (portal("cloud", "a", "http://p.example/c"), "portals.cloud.callback_url:"),
            (portal("cloud", "a", "https://p.example/{tenant}/c"), "portals.cloud.callback_url:"),
            ("log.level = 'magic_link=loud'".to_owned(), "log.level:"),
        ] {
            let problems = Config::from_toml(&text).unwrap_err().to_string();
            assert!(problems.contains(key), "{text}: {problems}");
        }
    }

    #[test]
    fn what_kubernetes_injects_is_no_setting() {
        for injected in ["SERVICE_HOST", "service_port_http", "PORT", "PORT_8080_TCP_ADDR"] {
            assert!(is_service_link(injected), "{injected}");
        }
        assert!(!is_service_link("portals__cloud__name") && !is_service_link("public_url"));
    }

    #[test]
    fn the_preview_mailbox_stays_on_this_machine() {
        for public in [
            "listen = '0.0.0.0:8080'\npublic_url = 'http://127.0.0.1:8080'",
            "public_url = 'https://links.example'\n[portals.cloud]\naudience = 'a'\ncallback_url = 'https://p.example/c'",
            "database_url = 'postgres://host/name?sslmode=disable'\nmaster_key = 'x'",
        ] {
            let problems = Config::from_toml(public).unwrap_err().to_string();
            assert!(problems.contains("mail.provider: preview"), "{problems}");
        }
    }

    #[test]
    fn numbers_are_read_and_kept_within_bounds() {
        let config = Config::from_toml("limits.public_per_minute = 7\n[links]\nresend_cool_down_seconds = 0").unwrap();
        assert_eq!(config.limits.public_per_minute, 7);
        assert_eq!(config.links.resend_cool_down, Duration::ZERO);
        let unsigned = figment::providers::Serialized::default("links", BTreeMap::from([("token_hours", 12_u64)]));
        let config = Config::from_figment(&Figment::new().merge(unsigned), true).unwrap();
        assert_eq!(config.links.token_life, Duration::hours(12));
        let problems = Config::from_toml("database_connections = 1\nlog.sample = 1.5").unwrap_err().to_string();
        assert!(
            problems.contains("database_connections: must be") && problems.contains("log.sample: must be"),
            "{problems}"
        );
    }

    #[test]
    fn proxies_are_addresses_and_networks() {
        let config = Config::from_toml("limits.trusted_proxies = '10.0.0.0/8, ::1'").unwrap();
        let proxies: Vec<String> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["10.0.0.0/8", "::1/128"]);
        let config = Config::from_toml("limits.trusted_proxies = '::ffff:127.0.0.0/104, ::ffff:0:0/90'").unwrap();
        let proxies: Vec<String> = config.limits.trusted_proxies.iter().map(ToString::to_string).collect();
        assert_eq!(proxies, ["127.0.0.0/8", "::ffff:0.0.0.0/90"], "callers are compared as IPv4");
        assert!(Config::from_toml("").unwrap().limits.trusted_proxies.is_empty());
        assert_eq!(Config::from_toml("").unwrap().limits.trusted_header, TrustedHeader::XForwardedFor);
        let config = Config::from_toml("limits.trusted_header = 'Forwarded'").unwrap();
        assert_eq!(config.limits.trusted_header, TrustedHeader::Forwarded);
        let problems = Config::from_toml("limits.trusted_header = 'x-real-ip'").unwrap_err().to_string();
        assert!(problems.contains("limits.trusted_header:"), "{problems}");
        for wrong in ["proxy.example", "10.0.0.0/33", "10.0.0.1,,"] {
            let problems = Config::from_toml(&format!("limits.trusted_proxies = '{wrong}'")).unwrap_err().to_string();
            assert!(problems.contains("limits.trusted_proxies:"), "{problems}");
        }
    }

    #[test]
    fn a_log_level_that_would_silence_the_log_is_a_problem() {
        for level in ["info", "WARN", "off", "magic_link=debug", "info, magic_link::mail=trace"] {
            assert!(Config::from_toml(&format!("log.level = '{level}'")).is_ok(), "{level}");
        }
        for level in ["verbose", "loud", "magic_link", "info,magic_link", "magic_link=loud", ""] {
            let problems = Config::from_toml(&format!("log.level = '{level}'")).unwrap_err().to_string();
            assert!(problems.contains("log.level"), "{level}: {problems}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let config = Config::from_toml("master_key = 'hidden-words'").unwrap();
        assert!(!format!("{config:?}").contains("hidden-words"));
    }

    #[test]
    fn a_callback_carries_the_tenant_and_the_code() {
        let config = Config::from_toml("").unwrap();
        let cloud = config.portals.get("cloud").unwrap();
        assert_eq!(cloud.callback("acme", "c0de"), "http://127.0.0.1:8081/acme/cloud/callback?code=c0de");
    }
}
