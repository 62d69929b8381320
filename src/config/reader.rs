//! Reads keys one by one, so that one problem does not hide the next.

use std::collections::{BTreeMap, BTreeSet};
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

use super::{Audit, Config, Limits, Links, Log, PREFIX, Portal, Provider, TrustedHeader};
use crate::db::DatabaseUrl;
use crate::secrets::{MasterKeySource, WebhookSecret};

/// Every key, except those of portals.
pub const KEYS: &[&str] = &[
    "default_time_zone",
    "product_name",
    "listen",
    "metrics_listen",
    "public_url",
    "database_url",
    "database_connections",
    "database_batch",
    "master_key",
    "master_key_file",
    "body_timeout_seconds",
    "write_timeout_seconds",
    "keep_alive_seconds",
    "shutdown_delay_seconds",
    "links.max_duration_hours",
    "links.token_hours",
    "links.session_hours",
    "links.resend_cool_down_seconds",
    "limits.connections_per_address",
    "limits.public_per_minute",
    "limits.client_per_minute",
    "limits.trusted_proxies",
    "limits.trusted_header",
    "limits.mails_per_client_minute",
    "limits.mails_per_tenant_day",
    "limits.mails_per_recipient_hour",
    "limits.fresh_links_per_recipient_hour",
    "mail.provider",
    "mail.fallback_provider",
    "mail.from",
    "mail.from_name",
    "mail.report_to",
    "mail.only_to",
    "mail.mailpit_url",
    "mail.mailpit_user",
    "mail.mailpit_password",
    "mail.ses_region",
    "mail.ses_url",
    "mail.ses_access_key_id",
    "mail.ses_secret_access_key",
    "mail.ses_configuration_set",
    "mail.ses_tracking_is_off",
    "mail.postmark_url",
    "mail.postmark_server_token",
    "mail.postmark_message_stream",
    "mail.sendgrid_url",
    "mail.sendgrid_api_key",
    "mail.resend_url",
    "mail.resend_api_key",
    "mail.resend_tracking_is_off",
    "mail.ses_events_topic_arn",
    "mail.ses_sns_url",
    "mail.postmark_events_user",
    "mail.postmark_events_password",
    "mail.sendgrid_events_public_key",
    "mail.resend_events_secret",
    "audit.checkpoint_minutes",
    "audit.retention_days",
    "audit.webhook_url",
    "audit.checkpoint_folder",
    "audit.webhook_secret",
    "webhooks.allow_addresses",
    "webhooks.keep_days",
    "webhooks.endpoints_per_client",
    "webhooks.endpoints_per_tenant",
    "log.format",
    "log.level",
    "log.sample",
];
const PORTAL_KEYS: &[&str] = &["name", "audience", "callback_url", "landing_url", "manage_url", "step_up"];

/// Reads the whole configuration, or returns all its problems.
pub(super) fn read(root: &Dict, needs_master_key: bool) -> Result<Config, Vec<String>> {
    let mut reader = Reader { root, needs_master_key, problems: Vec::new(), warnings: Vec::new() };
    reader.refuse_unknown_keys();
    let config = reader.config();
    if reader.problems.is_empty() { Ok(Config { warnings: reader.warnings, ..config }) } else { Err(reader.problems) }
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
    root: &'a Dict,
    needs_master_key: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Config {
        let listen: SocketAddr = self.parsed("listen", "127.0.0.1:8080");
        let public_url = self.public_url(listen);
        let database_url: DatabaseUrl = self.parsed("database_url", "sqlite://data/magic-link.db");
        let config = Config {
            product_name: self.text("product_name", "Magic Link"),
            default_time_zone: self.time_zone("default_time_zone", "Asia/Kolkata"),
            listen,
            metrics_listen: self.optional_address("metrics_listen"),
            database_connections: self.number("database_connections", 16, 4..=1_000),
            database_batch: self.number("database_batch", 64, 1..=64),
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
                webhook: self.checkpoint_webhook(),
                checkpoint_folder: self.optional("audit.checkpoint_folder").map(PathBuf::from),
            },
            webhooks: self.webhooks(),
            log: Log {
                format: self.parsed("log.format", "json"),
                level: self.log_level(),
                sample: self.number("log.sample", 100, 1..=1_000_000),
            },
            public_url,
            database_url,
            warnings: Vec::new(),
        };
        if let Some(warning) = config.database_url.warning() {
            self.warning("database_url", warning);
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

    pub(super) fn problem(&mut self, key: &str, what: impl fmt::Display) {
        self.problems.push(format!("{key}: {what}"));
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

    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        let text = self.optional(key).unwrap_or_else(|| default.to_owned());
        if text.is_empty() || text.chars().any(char::is_control) {
            self.problem(key, "must be a line of text");
        }
        text
    }

    /// Parses the value; the default must parse.
    pub(super) fn parsed<T>(&mut self, key: &str, default: &str) -> T
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
        let name = self.optional(key).unwrap_or_else(|| "x-forwarded-for".to_owned()).to_ascii_lowercase();
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
        let Some(text) = self.optional(key) else { return default };
        match text.parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                self.problem(key, format_args!("must be a whole number from {} to {}", range.start(), range.end()));
                default
            }
        }
    }

    /// Receiver of checkpoints. The operator chooses it, so it may be a private address.
    fn checkpoint_webhook(&mut self) -> Option<(Url, WebhookSecret)> {
        const URL: &str = "audit.webhook_url";
        const SECRET: &str = "audit.webhook_secret";
        let (url, secret) = (self.optional(URL), self.optional(SECRET));
        if url.is_some() != secret.is_some() {
            let missing = if url.is_none() { URL } else { SECRET };
            self.problem(missing, "the URL and its secret must be set together");
        }
        let url = url.and_then(|text| match Url::parse(&text) {
            Ok(url) if url.scheme() == "https" || is_loopback_url(&text) => Some(url),
            Ok(_) => {
                self.problem(URL, "must begin with https://, unless it is a loopback address");
                None
            }
            Err(error) => {
                self.problem(URL, error);
                None
            }
        });
        let secret = secret.and_then(|text| text.parse().map_err(|error: String| self.problem(SECRET, error)).ok());
        url.zip(secret)
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
        let text = self.optional("public_url").unwrap_or(default);
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
        match (self.optional("master_key"), self.optional("master_key_file")) {
            (Some(_), Some(_)) => {
                self.problem("master_key", "give either master_key or master_key_file");
                MasterKeySource::Given(SecretString::default())
            }
            (Some(key), None) => MasterKeySource::Given(key.into()),
            (None, Some(file)) => MasterKeySource::File(file.into()),
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

    fn portals(&mut self, public_url: &str) -> BTreeMap<String, Portal> {
        let ids: Vec<String> = match self.root.get("portals").and_then(Value::as_dict) {
            Some(portals) => portals.keys().cloned().collect(),
            None if is_loopback_url(public_url) => vec!["cloud".into(), "ess".into()],
            None => Vec::new(),
        };
        if ids.is_empty() {
            self.problem("portals", "name at least one: [portals.cloud] with callback_url and audience");
        }
        let mut audiences = BTreeSet::new();
        let mut portals = BTreeMap::new();
        for id in ids {
            let portal = self.portal(&id, public_url);
            if !portal.audience.is_empty() && !audiences.insert(portal.audience.clone()) {
                self.problem(
                    &format!("portals.{id}.audience"),
                    "is the audience of another portal, which would accept its tokens",
                );
            }
            portals.insert(id, portal);
        }
        portals
    }

    fn portal(&mut self, id: &str, public_url: &str) -> Portal {
        let key = |field: &str| format!("portals.{id}.{field}");
        if !crate::domain::is_portal_id(id) {
            self.problem(&format!("portals.{id}"), "an id has 1 to 32 characters of a-z, 0-9 and -");
        }
        // The example portal of this repository, for a first run on one machine.
        let example = (is_loopback_url(public_url) && matches!(id, "cloud" | "ess")).then(|| {
            (format!("http://127.0.0.1:8081/{{tenant_id}}/{id}/callback"), format!("http://127.0.0.1:8081/{id}"))
        });
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
            manage_url: self.optional(&key("manage_url")),
            step_up: self.parsed(&key("step_up"), "none"),
        };
        self.check_address(&key("callback_url"), &portal.callback_url);
        if let Some(landing_url) = &portal.landing_url {
            self.check_address(&key("landing_url"), landing_url);
        }
        if let Some(manage_url) = &portal.manage_url {
            self.check_address(&key("manage_url"), manage_url);
        }
        portal
    }

    pub(super) fn required(&mut self, key: &str, value: Option<String>) -> String {
        value.filter(|text| !text.is_empty()).unwrap_or_else(|| {
            self.problem(key, "is required");
            String::new()
        })
    }

    /// Checks a URL that visitors are sent to, with `{tenant_id}` filled in.
    fn check_address(&mut self, key: &str, address: &str) {
        if address.is_empty() {
            return;
        }
        let example = address.replace("{tenant_id}", "acme");
        let private = is_loopback_url(&example);
        match Url::parse(&example) {
            Ok(url) if (url.scheme() == "https" || (url.scheme() == "http" && private))
                && url.fragment().is_none() && url.username().is_empty() && !example.contains(['{', '}']) => {}
            _ => self.problem(
                key,
                "must be an https address (http on loopback) without fragment; it may hold {tenant_id} and no other braces",
            ),
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

/// A network of IPv4 addresses that is written as one of IPv6: callers are compared as IPv4.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(v6) => v6.prefix_len().checked_sub(96).zip(v6.addr().to_ipv4_mapped()),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(length, address)| Ipv4Net::new(address, length).ok()).map_or(network, IpNet::V4)
}
