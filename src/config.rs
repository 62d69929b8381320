//! Configuration: a TOML file, overridden by the environment, checked as a whole.
//!
//! `MAGIC_LINK_` and the key in capitals, `__` between levels:
//! `MAGIC_LINK_LINKS__TOKEN_HOURS=12`. Every problem is reported at once, by the
//! key's name. Nothing is needed for a first run.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use figment::value::{Dict, Value};
use secrecy::SecretString;
use time::Duration;
use url::Url;

use crate::db::{DatabaseUrl, text_enum};

/// The file that is read when no other is named.
pub const DEFAULT_FILE: &str = "magic-link.toml";

const PREFIX: &str = "MAGIC_LINK_";

const KEYS: &[&str] = &[
    "default_time_zone", "product_name", "listen", "public_url", "database_url", "database_connections",
    "master_key", "master_key_file", "body_timeout_seconds", "links.max_duration_hours", "links.token_hours",
    "links.session_hours", "links.resend_cool_down_seconds", "limits.public_per_minute", "mail.provider",
    "mail.from", "mail.from_name", "mail.report_to", "mail.mailpit_url", "mail.mailpit_user",
    "mail.mailpit_password", "log.format", "log.level", "log.sample",
];
const PORTAL_KEYS: &[&str] = &["name", "audience", "callback_url", "landing_url"];

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// What mails and pages call the service.
    pub product_name: String,
    /// IANA zone of tenants that named none.
    pub default_time_zone: String,
    /// Where the service listens.
    pub listen: SocketAddr,
    /// The address in links and in `iss`, without a slash at its end.
    pub public_url: String,
    /// The store.
    pub database_url: DatabaseUrl,
    /// Connections in the pool.
    pub database_connections: u32,
    /// What signing keys are sealed under.
    pub master_key: MasterKeySource,
    /// How long a request's body may take to arrive.
    pub body_timeout: std::time::Duration,
    /// The portals, by id.
    pub portals: BTreeMap<String, Portal>,
    /// How long links, tokens and sessions live.
    pub links: Links,
    /// How often strangers may call.
    pub limits: Limits,
    /// How mail leaves.
    pub mail: Mail,
    /// What is logged.
    pub log: Log,
}

/// A place that links lead to.
#[derive(Debug, Clone)]
pub struct Portal {
    /// What people call it.
    pub name: String,
    /// `aud` of its access tokens.
    pub audience: String,
    /// Where the landing page sends the visitor with a code; may hold `{tenant_id}`.
    pub callback_url: String,
    /// The portal's own landing page; it then receives the link token; may hold `{tenant_id}`.
    pub landing_url: Option<String>,
}

impl Portal {
    /// The callback for this tenant and code.
    #[must_use]
    pub fn callback(&self, tenant_id: &str, code: &str) -> String {
        let address = self.callback_url.replace("{tenant_id}", tenant_id);
        let separator = if address.contains('?') { '&' } else { '?' };
        format!("{address}{separator}code={code}")
    }
}

/// Where the master key comes from.
#[derive(Debug, Clone)]
pub enum MasterKeySource {
    /// Base64 of 32 bytes, given in the configuration.
    Given(SecretString),
    /// A file that holds base64 of 32 bytes.
    File(PathBuf),
    /// The same, but made when it is missing: the embedded default only.
    FileOrNew(PathBuf),
}

/// How long things live.
#[derive(Debug, Clone)]
pub struct Links {
    /// The longest window that may be issued.
    pub max_duration: Duration,
    /// How long a mailed link token lives.
    pub token_life: Duration,
    /// How long a session lives at most.
    pub session_life: Duration,
    /// How long to wait before another mail for the same link.
    pub resend_cool_down: Duration,
}

/// How often strangers may call.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls a minute and address on the landing page's routes.
    pub public_per_minute: u32,
}

/// How mail leaves.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The sender's address.
    pub from: String,
    /// The sender's name.
    pub from_name: String,
    /// Where a surprised recipient can turn to.
    pub report_to: Option<String>,
    /// Who carries it.
    pub provider: Provider,
}

/// Who carries mail.
#[derive(Debug, Clone)]
pub enum Provider {
    /// Kept in memory and shown at `/dev/mailbox`.
    Preview,
    /// A Mailpit server.
    Mailpit {
        /// Its base address.
        url: Url,
        /// Basic credentials.
        login: Option<(String, SecretString)>,
    },
}

/// What is logged.
#[derive(Debug, Clone)]
pub struct Log {
    /// The shape of a line.
    pub format: LogFormat,
    /// A `tracing` filter.
    pub level: String,
    /// One of how many successful requests is logged; the others always are.
    pub sample: u32,
}

text_enum! {
    /// The shape of a log line.
    pub enum LogFormat {
        /// One JSON object a line.
        Json = "json",
        /// For a person's eyes.
        Text = "text",
    }
}

/// All that is wrong with a configuration.
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
    /// Reads the file, then the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn load(file: Option<&Path>) -> Result<Self, Problems> {
        let toml = match file {
            Some(path) if !path.is_file() => {
                return Err(Problems(vec![format!("{}: there is no such file", path.display())]));
            }
            Some(path) => Toml::file_exact(path),
            None if Path::new(DEFAULT_FILE).is_file() => Toml::file_exact(DEFAULT_FILE),
            None => Toml::string(""),
        };
        Self::from_figment(&Figment::new().merge(toml).merge(Env::prefixed(PREFIX).split("__")))
    }

    /// Reads a text in the form of the file, without the environment.
    ///
    /// # Errors
    /// All problems at once, each with its key.
    pub fn from_toml(text: &str) -> Result<Self, Problems> {
        Self::from_figment(&Figment::new().merge(Toml::string(text)))
    }

    fn from_figment(figment: &Figment) -> Result<Self, Problems> {
        let root: Dict = figment.extract().map_err(|errors| {
            Problems(errors.into_iter().map(|error| error.to_string()).collect())
        })?;
        let mut read = Reader { root: &root, problems: Vec::new() };
        read.refuse_unknown_keys();
        let config = read.config();
        if read.problems.is_empty() { Ok(config) } else { Err(Problems(read.problems)) }
    }

    /// Whether the service can only be reached from this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.listen.ip().is_loopback() && is_loopback_url(&self.public_url)
    }
}

fn is_loopback_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

/// Reads keys one by one, so that one problem does not hide the next.
struct Reader<'a> {
    root: &'a Dict,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let listen = self.parsed("listen", "127.0.0.1:8080");
        let public_url = self.public_url(listen);
        let database_url: DatabaseUrl = self.parsed("database_url", "sqlite://data/magic-link.db");
        let config = Config {
            product_name: self.text("product_name", "Magic Link"),
            default_time_zone: self.time_zone("default_time_zone", "Asia/Kolkata"),
            listen,
            database_connections: self.number("database_connections", 16, 2..=1_000),
            master_key: self.master_key(&database_url),
            body_timeout: std::time::Duration::from_secs(self.number("body_timeout_seconds", 10, 1..=300).into()),
            portals: self.portals(&public_url),
            links: Links {
                max_duration: Duration::hours(self.number("links.max_duration_hours", 672, 1..=8_760).into()),
                token_life: Duration::hours(self.number("links.token_hours", 24, 1..=672).into()),
                session_life: Duration::hours(self.number("links.session_hours", 8, 1..=672).into()),
                resend_cool_down: Duration::seconds(
                    self.number("links.resend_cool_down_seconds", 60, 0..=86_400).into(),
                ),
            },
            limits: Limits { public_per_minute: self.number("limits.public_per_minute", 120, 1..=1_000_000) },
            mail: Mail {
                from: self.address("mail.from", "no-reply@magic-link.example"),
                from_name: self.text("mail.from_name", "Magic Link"),
                report_to: self.optional("mail.report_to"),
                provider: self.provider(),
            },
            log: Log {
                format: self.parsed("log.format", "json"),
                level: self.text("log.level", "info"),
                sample: self.number("log.sample", 1, 1..=1_000_000),
            },
            public_url,
            database_url,
        };
        let preview = matches!(config.mail.provider, Provider::Preview);
        if preview && !(config.is_loopback() && config.database_url.is_sqlite()) {
            self.problem(
                "mail.provider",
                "preview shows every mail to anybody who can reach the service: it needs loopback addresses in \
                 `listen` and `public_url`, and SQLite; choose mailpit",
            );
        }
        config
    }

    fn problem(&mut self, key: &str, what: impl fmt::Display) {
        self.problems.push(format!("{key}: {what}"));
    }

    fn refuse_unknown_keys(&mut self) {
        let mut found = Vec::new();
        flatten("", self.root, &mut found);
        for key in found {
            let known = match key.strip_prefix("portals.").and_then(|rest| rest.split_once('.')) {
                Some((_, field)) => PORTAL_KEYS.contains(&field),
                None => KEYS.contains(&key.as_str()),
            };
            if !known {
                self.problem(&key, format_args!("there is no such key (environment: {})", in_environment(&key)));
            }
        }
    }

    /// A scalar as text; numbers and booleans count, because the environment has no quotes.
    fn optional(&mut self, key: &str) -> Option<String> {
        let mut value: Option<&Value> = None;
        let mut dict = Some(self.root);
        for part in key.split('.') {
            value = dict.and_then(|dict| dict.get(part));
            dict = value.and_then(Value::as_dict);
        }
        match value? {
            Value::String(_, text) => Some(text.clone()),
            Value::Num(_, number) => {
                // The file has signed numbers, the environment unsigned ones.
                let whole = number.to_i128().map(|whole| whole.to_string());
                let whole = whole.or_else(|| number.to_u128().map(|whole| whole.to_string()));
                whole.or_else(|| number.to_f64().map(|real| real.to_string()))
            }
            Value::Bool(_, flag) => Some(flag.to_string()),
            _ => {
                self.problem(key, "must be a single value");
                None
            }
        }
    }

    fn text(&mut self, key: &str, default: &str) -> String {
        let text = self.optional(key).unwrap_or_else(|| default.to_owned());
        if text.is_empty() || text.chars().any(char::is_control) {
            self.problem(key, "must be a line of text");
        }
        text
    }

    /// Parses the value; the default must parse.
    fn parsed<T>(&mut self, key: &str, default: &str) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.optional(key).unwrap_or_else(|| default.to_owned());
        text.parse().unwrap_or_else(|error| {
            self.problem(key, error);
            match default.parse() {
                Ok(value) => value,
                Err(_) => unreachable!("the default of {key} parses"),
            }
        })
    }

    fn number(&mut self, key: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
        let Some(text) = self.optional(key) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(key, format_args!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    fn public_url(&mut self, listen: SocketAddr) -> String {
        // Whoever moves the port of a first run should not have to say so twice.
        let default = format!("http://{listen}");
        let text = self.optional("public_url").unwrap_or(default);
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https")
                && url.has_host() && url.query().is_none() && url.fragment().is_none() => {}
            _ => self.problem("public_url", "must be an http or https address without query and fragment"),
        }
        text.trim_end_matches('/').to_owned()
    }

    fn time_zone(&mut self, key: &str, default: &str) -> String {
        let name = self.text(key, default);
        if !crate::tenants::is_time_zone(&name) {
            self.problem(key, "must be an IANA time zone such as Asia/Kolkata");
        }
        name
    }

    fn address(&mut self, key: &str, default: &str) -> String {
        let address = self.text(key, default);
        if !crate::mail::is_address(&address) {
            self.problem(key, "must be one plain e-mail address");
        }
        address
    }

    fn master_key(&mut self, database_url: &DatabaseUrl) -> MasterKeySource {
        match (self.optional("master_key"), self.optional("master_key_file")) {
            (Some(_), Some(_)) => {
                self.problem("master_key", "give either master_key or master_key_file");
                MasterKeySource::Given(SecretString::default())
            }
            (Some(key), None) => MasterKeySource::Given(key.into()),
            (None, Some(file)) => MasterKeySource::File(file.into()),
            (None, None) => {
                if !database_url.is_sqlite() {
                    self.problem(
                        "master_key",
                        "is required with PostgreSQL: base64 of 32 random bytes, or a file that holds it in \
                         master_key_file",
                    );
                }
                MasterKeySource::FileOrNew("data/master.key".into())
            }
        }
    }

    fn portals(&mut self, public_url: &str) -> BTreeMap<String, Portal> {
        let ids: Vec<String> = match self.root.get("portals").and_then(Value::as_dict) {
            Some(portals) => portals.keys().cloned().collect(),
            None if is_loopback_url(public_url) => vec!["cloud".into(), "ess".into()],
            None => {
                self.problem("portals", "name at least one portal: [portals.cloud] with callback_url and audience");
                Vec::new()
            }
        };
        ids.into_iter().map(|id| (id.clone(), self.portal(&id, public_url))).collect()
    }

    fn portal(&mut self, id: &str, public_url: &str) -> Portal {
        let key = |field: &str| format!("portals.{id}.{field}");
        if !crate::links::is_portal_id(id) {
            self.problem(&format!("portals.{id}"), "an id has 1 to 32 characters of a-z, 0-9 and -");
        }
        // The example portal of this repository, for a first run on one machine.
        let example = (is_loopback_url(public_url) && matches!(id, "cloud" | "ess"))
            .then(|| (format!("http://127.0.0.1:8081/{{tenant_id}}/{id}/callback"), format!("http://127.0.0.1:8081/{id}")));
        let (callback, audience) = example.unzip();
        let callback_url = self.optional(&key("callback_url")).or(callback);
        let audience = self.optional(&key("audience")).or(audience);
        let name = match id {
            "cloud" => "Cloud",
            "ess" => "ESS",
            other => other,
        };
        let portal = Portal {
            name: self.text(&key("name"), name),
            audience: self.required(&key("audience"), audience),
            callback_url: self.required(&key("callback_url"), callback_url),
            landing_url: self.optional(&key("landing_url")),
        };
        self.check_address(&key("callback_url"), &portal.callback_url);
        if let Some(landing_url) = &portal.landing_url {
            self.check_address(&key("landing_url"), landing_url);
        }
        portal
    }

    fn required(&mut self, key: &str, value: Option<String>) -> String {
        value.unwrap_or_else(|| {
            self.problem(key, "is required");
            String::new()
        })
    }

    /// An address that people are sent to, after `{tenant_id}` is filled in.
    fn check_address(&mut self, key: &str, address: &str) {
        if address.is_empty() {
            return;
        }
        match Url::parse(&address.replace("{tenant_id}", "acme")) {
            Ok(url) if matches!(url.scheme(), "http" | "https")
                && url.fragment().is_none() && url.username().is_empty() => {}
            _ => self.problem(key, "must be an http or https address without fragment; it may hold {tenant_id}"),
        }
    }

    fn provider(&mut self) -> Provider {
        match self.text("mail.provider", "preview").as_str() {
            "preview" => Provider::Preview,
            "mailpit" => {
                let url = self.parsed("mail.mailpit_url", "http://127.0.0.1:8025");
                let user = self.optional("mail.mailpit_user");
                let password = self.optional("mail.mailpit_password");
                Provider::Mailpit { url, login: user.map(|user| (user, password.unwrap_or_default().into())) }
            }
            _ => {
                self.problem("mail.provider", "expected one of preview, mailpit");
                Provider::Preview
            }
        }
    }
}

fn flatten(prefix: &str, dict: &Dict, found: &mut Vec<String>) {
    for (key, value) in dict {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value.as_dict() {
            Some(inner) => flatten(&key, inner, found),
            None => found.push(key),
        }
    }
}

fn in_environment(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
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
            "colour:", "listen:", "default_time_zone:", "links.token_hours:", "portals.hr.callback_url:",
            "portals.hr.audience:", "portals.hr.landing_url:", "portals.hr.face:", "mail.from:", "mail.provider:",
        ] {
            assert!(problems.contains(key), "{key} is missing in {problems}");
        }
    }

    #[test]
    fn numbers_from_the_environment_count() {
        // As `Env` reads them.
        let of = |text: &str| Figment::new().merge(("links.token_hours", text.parse::<Value>().unwrap()));
        let config = Config::from_figment(&of("12")).unwrap();
        assert_eq!(config.links.token_life, Duration::hours(12));
        for wrong in ["0", "-1", "1.5", "99999999999999999999"] {
            assert!(Config::from_figment(&of(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_preview_mailbox_stays_on_this_machine() {
        for public in [
            "listen = '0.0.0.0:8080'\npublic_url = 'http://127.0.0.1:8080'",
            "public_url = 'https://links.example'\n[portals.cloud]\naudience = 'a'\ncallback_url = 'https://p.example/c'",
            "database_url = 'postgres://host/name'\nmaster_key = 'x'",
        ] {
            let problems = Config::from_toml(public).unwrap_err().to_string();
            assert!(problems.contains("mail.provider: preview"), "{problems}");
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
