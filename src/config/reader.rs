//! Reads keys one by one, so that one problem does not hide the next.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use figment::value::{Dict, Value};
use ipnet::{IpNet, Ipv4Net};
use secrecy::SecretString;
use time::Duration;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::keys::{KEYS, PORTAL_KEYS, SECRETS};
use super::secrets::SecretFile;
use super::{Audit, Config, ForMigrating, Limits, Links, Log, PREFIX, Provider, TrustedHeader};
use crate::db::DatabaseUrl;
use crate::secrets::{Kept, MasterKeySource, WebhookSecret};

/// Reads the whole configuration, or returns all its problems.
pub(super) fn read(root: &Dict, needs_master_key: bool, credentials: Option<PathBuf>) -> Result<Config, Vec<String>> {
    let mut reader = Reader::of(root, credentials);
    reader.needs_master_key = needs_master_key;
    reader.refuse_unknown_keys();
    let config = reader.config();
    reader.show_unread();
    let Reader { problems, warnings, shown, secret_files, .. } = reader;
    if problems.is_empty() { Ok(Config { warnings, shown, secret_files, ..config }) } else { Err(problems) }
}

/// Reads what migrating needs, and nothing else: whoever migrates has no other setting.
pub(super) fn read_for_migrating(root: &Dict, credentials: Option<PathBuf>) -> Result<ForMigrating, Vec<String>> {
    let mut reader = Reader::of(root, credentials);
    let settings = ForMigrating { database_url: reader.database_url(), log: reader.log() };
    if reader.problems.is_empty() { Ok(settings) } else { Err(reader.problems) }
}

/// Reads where the service listens: whoever asks how it is has no other setting.
pub(super) fn read_listen(root: &Dict) -> Result<SocketAddr, Vec<String>> {
    let mut reader = Reader::of(root, None);
    let listen = reader.listen();
    if reader.problems.is_empty() { Ok(listen) } else { Err(reader.problems) }
}

pub(super) fn is_loopback_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    })
}

/// Reads keys one by one, so that one problem does not hide the next.
pub(super) struct Reader<'a> {
    pub(super) root: &'a Dict,
    needs_master_key: bool,
    /// The folder in which a supervisor hands credentials over.
    pub(super) credentials: Option<PathBuf>,
    problems: Vec<String>,
    warnings: Vec<String>,
    /// What is in force, without secrets, by key.
    shown: BTreeMap<String, String>,
    pub(super) secret_files: Vec<SecretFile>,
}

impl<'a> Reader<'a> {
    const fn of(root: &'a Dict, credentials: Option<PathBuf>) -> Self {
        Self {
            root,
            needs_master_key: false,
            credentials,
            problems: Vec::new(),
            warnings: Vec::new(),
            shown: BTreeMap::new(),
            secret_files: Vec::new(),
        }
    }
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let listen = self.listen();
        let public_url = self.public_url(listen);
        let database_url = self.database_url();
        let config = Config {
            product_name: self.text("product_name", "Magic Link"),
            default_time_zone: self.time_zone("default_time_zone", "Asia/Kolkata"),
            listen,
            metrics_listen: self.optional_address("metrics_listen"),
            database_connections: self.number("database_connections", 16, 4..=1_000),
            database_batch: self.number("database_batch", 64, 1..=64),
            migrate_at_start: self.parsed("migrate_at_start", "true"),
            sandbox: self.parsed("sandbox", "false"),
            master_key: self.master_key(&database_url),
            body_timeout: std::time::Duration::from_secs(self.number("body_timeout_seconds", 10, 1..=300).into()),
            write_timeout: std::time::Duration::from_secs(self.number("write_timeout_seconds", 30, 1..=600).into()),
            keep_alive: std::time::Duration::from_secs(self.number("keep_alive_seconds", 75, 1..=3_600).into()),
            shutdown_delay: std::time::Duration::from_secs(
                // No balancer is before a service that can only be reached from this machine.
                self.number("shutdown_delay_seconds", if listen.ip().is_loopback() { 0 } else { 5 }, 0..=300).into(),
            ),
            portals: self.portals(&public_url),
            links: Links {
                max_duration: Duration::hours(self.number("links.max_duration_hours", 672, 1..=8_760).into()),
                token_life: Duration::hours(self.number("links.token_hours", 24, 1..=672).into()),
                session_life: Duration::hours(self.number("links.session_hours", 8, 1..=672).into()),
                resend_cool_down: Duration::seconds(
                    self.number("links.resend_cool_down_seconds", 60, 0..=86_400).into(),
                ),
            },
            limits: Limits {
                connections_per_address: self.number("limits.connections_per_address", 256, 0..=1_000_000),
                public_per_minute: self.number("limits.public_per_minute", 120, 1..=1_000_000),
                client_per_minute: self.number("limits.client_per_minute", 0, 0..=100_000_000),
                trusted_proxies: self.networks("limits.trusted_proxies"),
                trusted_header: self.header("limits.trusted_header"),
                mails_per_client_minute: self.number("limits.mails_per_client_minute", 6_000, 1..=10_000_000),
                mails_per_tenant_day: self.number("limits.mails_per_tenant_day", 20_000, 1..=10_000_000),
                mails_per_recipient_hour: self.number("limits.mails_per_recipient_hour", 120, 1..=10_000_000),
                fresh_links_per_recipient_hour: self.number("limits.fresh_links_per_recipient_hour", 5, 1..=10_000),
            },
            mail: self.mail(),
            audit: Audit {
                checkpoint_every: Duration::minutes(self.number("audit.checkpoint_minutes", 10, 1..=1_440).into()),
                retention: Duration::days(self.number("audit.retention_days", 400, 366..=36_500).into()),
                erase_in_service: self.parsed("audit.erase_in_service", "true"),
                webhook: self.checkpoint_webhook(),
                checkpoint_folder: self.optional("audit.checkpoint_folder").map(PathBuf::from),
            },
            webhooks: self.webhooks(),
            log: self.log(),
            traces: self.traces(),
            public_url,
            database_url,
            warnings: Vec::new(),
            shown: BTreeMap::new(),
            secret_files: Vec::new(),
            file: None,
        };
        if let Some(warning) = config.database_url.warning() {
            self.warning("database_url", warning);
        }
        if config.sandbox && !config.mail.stays_here() {
            self.problem(
                "sandbox",
                "a sandbox sends no real mail, which would arrive with links of another time: set `mail.provider` to \
                 mailpit or preview, and no `mail.fallback_provider`",
            );
        }
        let preview = matches!(config.mail.provider, Provider::Preview);
        if preview && !(config.is_loopback() && config.database_url.is_sqlite()) {
            self.problem(
                "mail.provider",
                "preview shows every mail to anybody who can reach the service: it needs loopback addresses in \
                 `listen` and `public_url`, and SQLite; choose another provider",
            );
        }
        config
    }

    fn listen(&mut self) -> SocketAddr {
        self.parsed("listen", "127.0.0.1:8080")
    }

    pub(super) fn problem(&mut self, key: &str, what: impl fmt::Display) {
        self.problems.push(format!("{key}: {what}"));
    }

    pub(super) const fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Notes what is in force.
    pub(super) fn show(&mut self, key: &str, value: impl fmt::Display) {
        self.shown.insert(key.to_owned(), value.to_string());
    }

    /// Notes which keys are set, and have no effect.
    fn show_unread(&mut self) {
        let mut found = Vec::new();
        flatten("", self.root, &mut found);
        for key in found {
            self.shown.entry(key).or_insert_with(|| "(set, and not in use)".to_owned());
        }
    }

    /// For what a closed network may need.
    pub(super) fn warning(&mut self, key: &str, what: impl fmt::Display) {
        self.warnings.push(format!("{key}: {what}"));
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

    /// A scalar as text; numbers and booleans are accepted, because the environment has no quotes.
    pub(super) fn optional(&mut self, key: &str) -> Option<String> {
        let value = self.value(key);
        if !SECRETS.contains(&key) {
            self.show(key, value.as_deref().map_or(Cow::Borrowed("(not set)"), without_credentials));
        }
        value
    }

    fn value(&mut self, key: &str) -> Option<String> {
        let mut value: Option<&Value> = None;
        let mut dict = Some(self.root);
        for part in key.split('.') {
            value = dict.and_then(|dict| dict.get(part));
            dict = value.and_then(Value::as_dict);
        }
        match value? {
            Value::String(_, text) => Some(text.clone()),
            // A number from the environment is unsigned, one from the file is signed.
            Value::Num(_, number) => number
                .to_u128()
                .map(|whole| whole.to_string())
                .or_else(|| number.to_i128().map(|whole| whole.to_string()))
                .or_else(|| number.to_f64().map(|real| real.to_string())),
            Value::Bool(_, flag) => Some(flag.to_string()),
            _ => {
                self.problem(key, "must be a single value");
                None
            }
        }
    }

    /// The value, or the default.
    pub(super) fn or(&mut self, key: &str, default: &str) -> String {
        self.optional(key).unwrap_or_else(|| {
            self.show(key, default);
            default.to_owned()
        })
    }

    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        let text = self.or(key, default);
        if text.is_empty() || text.chars().any(char::is_control) {
            self.problem(key, "must be a line of text");
        }
        text
    }

    /// Checks that an address is read as it is seen.
    pub(super) fn check_characters(&mut self, key: &str) {
        if self.value(key).is_some_and(|text| !crate::domain::is_seen_url(&text)) {
            self.problem(key, "must not hold blanks, backslashes, or characters that are not seen");
        }
    }

    /// Parses the value; the default must parse.
    pub(super) fn parsed<T>(&mut self, key: &str, default: &str) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.or(key, default);
        text.parse().unwrap_or_else(|error| {
            self.problem(key, error);
            match default.parse() {
                Ok(value) => value,
                Err(_) => unreachable!("the default of {key} parses"),
            }
        })
    }

    pub(super) fn networks(&mut self, key: &str) -> Vec<IpNet> {
        let text = self.optional(key).unwrap_or_default();
        let named = text.split(',').map(str::trim).filter(|_| !text.is_empty());
        let read: Option<Vec<IpNet>> =
            named.map(|one| one.parse().ok().or_else(|| one.parse().ok().map(IpAddr::into)).map(canonical)).collect();
        read.unwrap_or_else(|| {
            self.problem(key, "must be addresses and networks between commas, such as 10.0.0.0/8, ::1");
            Vec::new()
        })
    }

    /// The name of a header, in any case.
    fn header(&mut self, key: &str) -> TrustedHeader {
        let name = self.or(key, "x-forwarded-for").to_ascii_lowercase();
        name.parse().unwrap_or_else(|error| {
            self.problem(key, error);
            TrustedHeader::XForwardedFor
        })
    }

    fn optional_address(&mut self, key: &str) -> Option<SocketAddr> {
        let text = self.optional(key)?;
        match text.parse() {
            Ok(address) => Some(address),
            Err(error) => {
                self.problem(key, error);
                None
            }
        }
    }

    pub(super) fn number(&mut self, key: &str, default: u32, range: std::ops::RangeInclusive<u32>) -> u32 {
        let text = self.or(key, &default.to_string());
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(key, format_args!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// Receiver of checkpoints. The operator chooses it, so it may be a private address.
    fn checkpoint_webhook(&mut self) -> Option<(Url, Kept<WebhookSecret>)> {
        const URL: &str = "audit.webhook_url";
        const SECRET: &str = "audit.webhook_secret";
        let before = self.problem_count();
        let (url, secret) = (self.optional(URL), self.secret(SECRET, str::parse::<WebhookSecret>));
        if url.is_some() != secret.is_some() && self.problem_count() == before {
            let missing = if url.is_none() { URL } else { SECRET };
            self.problem(missing, "the URL and its secret must be set together");
        }
        self.check_characters(URL);
        let url = url.and_then(|text| match Url::parse(&text) {
            Ok(url) if url.scheme() == "https" || is_loopback_url(&text) => {
                // A path may be all that keeps others from posting there.
                self.show(URL, format_args!("{}/…", url.origin().ascii_serialization()));
                Some(url)
            }
            Ok(_) => {
                self.problem(URL, "must begin with https://, unless it is a loopback address");
                None
            }
            Err(error) => {
                self.problem(URL, error);
                None
            }
        });
        url.zip(secret)
    }

    fn database_url(&mut self) -> DatabaseUrl {
        const KEY: &str = "database_url";
        let default = || (DatabaseUrl::FIRST_RUN.to_owned(), None);
        let (text, file) = self.secret_text(KEY).unwrap_or_else(default);
        let url: DatabaseUrl = text.parse().unwrap_or_else(|error| {
            self.problem(KEY, error);
            DatabaseUrl::first_run()
        });
        if file.is_none() {
            self.show(KEY, url.without_credentials());
        }
        let followed = url.clone();
        self.follow(KEY, &text, file, move |text| followed.take_credentials_of(text));
        url
    }

    fn log(&mut self) -> Log {
        Log {
            format: self.parsed("log.format", "json"),
            level: self.log_level(),
            sample: self.number("log.sample", 100, 1..=1_000_000),
        }
    }

    fn log_level(&mut self) -> String {
        let level = self.text("log.level", "info");
        // A word alone that is no level would be read as the only part of the program that logs.
        let is_read = |part: &str| part.rsplit('=').next().is_some_and(|word| word.parse::<LevelFilter>().is_ok());
        if let Err(error) = level.parse::<tracing_subscriber::filter::Targets>() {
            self.problem("log.level", error);
        } else if !level.split(',').all(|part| is_read(part.trim())) {
            self.problem("log.level", "must be error, warn, info, debug, trace or off, or a list of target=level");
        }
        level
    }

    fn public_url(&mut self, listen: SocketAddr) -> String {
        // Follows `listen`, so that a first run on another port needs one setting only.
        let default = format!("http://{listen}");
        let text = self.or("public_url", &default);
        self.check_characters("public_url");
        match Url::parse(&text) {
            Ok(url)
                if (url.scheme() == "https" || (url.scheme() == "http" && is_loopback_url(&text)))
                    && url.path() == "/"
                    && url.username().is_empty()
                    && url.password().is_none()
                    && url.query().is_none()
                    && url.fragment().is_none() => {}
            _ => self.problem(
                "public_url",
                "must be an https address of a host (http on loopback), without a path: tokens travel to it",
            ),
        }
        text.trim_end_matches('/').to_owned()
    }

    fn time_zone(&mut self, key: &str, default: &str) -> String {
        let name = self.text(key, default);
        if !crate::domain::is_time_zone(&name) {
            self.problem(key, "must be an IANA time zone such as Asia/Kolkata");
        }
        name
    }

    pub(super) fn address(&mut self, key: &str, default: &str) -> String {
        let address = self.text(key, default);
        if !crate::domain::is_address(&address) {
            self.problem(key, "must be one plain e-mail address");
        }
        address
    }

    fn master_key(&mut self, database_url: &DatabaseUrl) -> MasterKeySource {
        let (key, file) = (self.optional("master_key"), self.secret_file("master_key"));
        match (&key, &file) {
            (Some(_), None) => self.show("master_key", "(set)"),
            (None, Some(file)) => self.show("master_key", format_args!("(in {})", file.display())),
            _ => {}
        }
        match (key, file) {
            (Some(_), Some(_)) => {
                self.problem("master_key", "give either master_key or master_key_file");
                MasterKeySource::Given(SecretString::default())
            }
            (Some(key), None) => MasterKeySource::Given(key.into()),
            (None, Some(file)) => MasterKeySource::File(file),
            (None, None) => {
                if self.needs_master_key && !database_url.is_sqlite() {
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

    pub(super) fn required(&mut self, key: &str, value: Option<String>) -> String {
        value.filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.problem(key, "is required");
            String::new()
        })
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

/// A URL without user, password and query; anything else as it is.
fn without_credentials(value: &str) -> Cow<'_, str> {
    if !value.contains("://") {
        return value.into();
    }
    // Behind an @ that is not where the user ends, or in what is no URL, may stand the rest of a password.
    let is_plain = |url: &Url| !url.path().contains('@') && !url.fragment().unwrap_or_default().contains('@');
    let Some(mut url) = Url::parse(value).ok().filter(is_plain) else { return "(set)".into() };
    if url.username().is_empty() && url.password().is_none() && url.query().is_none() {
        return value.into();
    }
    // It fails only where there is no host to have a user.
    if url.set_username("").and_then(|()| url.set_password(None)).is_err() {
        return "(set)".into();
    }
    let query = if url.query().is_some() { "?…" } else { "" };
    url.set_query(None);
    format!("{url}{query}").into()
}

fn in_environment(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// A network of IPv4 addresses that is written as one of IPv6: callers are compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6.prefix_len().checked_sub(96).zip(v6.addr().to_ipv4_mapped()),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(length, address)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}
