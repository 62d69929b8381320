//! Address of the database: what is not understood is refused, and not taken as the name of a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use super::sqlite_file::SqliteFile;
use super::uri;
use crate::secrets::Kept;

/// Kind and address of the database.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// `postgres://…`; it may hold a password.
    Postgres(PostgresUrl),
    /// `sqlite://<path>`.
    Sqlite(SqliteFile),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite://") {
            return sqlite_file(path).map(|file| Self::Sqlite(SqliteFile::at(file)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(Self::Postgres);
        }
        Err("must begin with sqlite:// or postgres://, as in sqlite://data/magic-link.db".into())
    }
}

impl DatabaseUrl {
    /// The embedded database of a first run, as text.
    pub(crate) const FIRST_RUN: &str = "sqlite://data/magic-link.db";

    /// The embedded database of a first run.
    pub(crate) fn first_run() -> Self {
        Self::Sqlite(SqliteFile::at(PathBuf::from("data/magic-link.db")))
    }

    /// The address for everybody's eyes: the user stays, passwords do not.
    pub(crate) fn without_credentials(&self) -> String {
        match self {
            Self::Postgres(url) => url.shown(),
            Self::Sqlite(file) => format!("sqlite://{}", file.written().display()),
        }
    }

    /// Connects as another user, or with another password, from now on.
    ///
    /// # Errors
    /// What is wrong with the new address, which must lead to the same database.
    pub(crate) fn take_credentials_of(&self, text: &str) -> Result<(), String> {
        match (self, text.parse()?) {
            (Self::Postgres(url), Self::Postgres(next)) if url.place() == next.place() => {
                url.text.set(next.text.get());
                Ok(())
            }
            _ => Err("only user and password change while the service runs: restart it for another address".to_owned()),
        }
    }

    /// What an operator should know about the address.
    pub(crate) fn warning(&self) -> Option<&str> {
        match self {
            Self::Postgres(url) => url.warning.as_deref(),
            Self::Sqlite(_) => None,
        }
    }

    /// Whether it is the embedded database.
    #[must_use]
    pub const fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(_) => f.write_str("postgres://…"),
            Self::Sqlite(file) => write!(f, "sqlite://{}", file.written().display()),
        }
    }
}

/// The file that stands after `sqlite://`.
fn sqlite_file(path: &str) -> Result<PathBuf, String> {
    // Other programs give each of these a meaning: a parameter, an encoded character, a name without a file, a drive, a
    // host, a password, a home folder. Here it would be a part of the name.
    if let Some(odd) = path.chars().find(|c| c.is_control() || r#"?#%:\@*"<>|$"#.contains(*c)) {
        return Err(format!("sqlite:// takes the plain path of a file, without {odd:?}"));
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    if path.starts_with('~') || path.trim() != path || matches!(name, "" | "." | "..") {
        return Err("sqlite:// needs the path of a file, such as sqlite://data/magic-link.db or sqlite:///var/lib/magic-link.db".into());
    }
    Ok(PathBuf::from(path))
}

/// `postgres://…`, as libpq reads it.
#[derive(Clone)]
pub struct PostgresUrl {
    text: Kept<SecretString>,
    /// What an operator should know about it.
    warning: Option<String>,
}

/// Whether a build speaks TLS to PostgreSQL.
const TLS: bool = cfg!(feature = "pg-tls");

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, String> {
        uri::judge(text)?;
        let mut url = Self { text: Kept::new(text.into()), warning: None };
        url.warning = url.transport(TLS)?;
        match url.parameter("target_session_attrs").as_deref() {
            None | Some("read-write" | "primary") => Ok(url),
            Some(_) => {
                Err("target_session_attrs must be read-write: what a standby says of access may be long past".into())
            }
        }
    }

    /// Whether what is said to the server can be read on the way: a warning, or a refusal.
    fn transport(&self, tls: bool) -> Result<Option<String>, String> {
        let mode = self.parameter("sslmode");
        // As JDBC writes it, and libpq understands it.
        let mode = mode.or_else(|| self.parameter("ssl").filter(|ssl| ssl == "true").map(|_| "require".to_owned()));
        let asked = matches!(mode.as_deref(), Some("require" | "verify-ca" | "verify-full"));
        if asked && !tls {
            return Err("this build speaks no TLS to PostgreSQL: build with `--features pg-tls`".into());
        }
        let away = self.hosts().into_iter().find(|host| !is_this_machine(host));
        match away {
            Some(host) if tls && !asked && mode.as_deref() != Some("disable") => Err(format!(
                "PostgreSQL at {host} might be spoken to without TLS: add sslmode=verify-full (and sslrootcert), or say \
                 sslmode=disable where the network is closed"
            )),
            Some(host) if !tls && mode.as_deref() != Some("disable") => Ok(Some(format!(
                "PostgreSQL at {host} is spoken to without TLS, which this build cannot: build with `--features pg-tls` \
                 and add sslmode=verify-full, or say sslmode=disable where the network is closed"
            ))),
            _ => Ok(None),
        }
    }

    /// The address for everybody's eyes.
    fn shown(&self) -> String {
        // One that is written in any other way may hold the password, too.
        let is_plain = |user: &str| user.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
        let shown_user = |user: &str| if is_plain(user) { format!("{user}@") } else { "…@".to_owned() };
        self.written(shown_user, |name| !uri::is_secret(name))
    }

    /// The address without user and password: which database it is.
    fn place(&self) -> String {
        self.written(|_user| String::new(), |name| !uri::is_secret(name) && name != "user")
    }

    fn written(&self, user: impl Fn(&str) -> String, is_shown: impl Fn(&str) -> bool) -> String {
        let text = self.text.get();
        let (address, query) = text.expose_secret().split_once('?').unwrap_or((text.expose_secret(), ""));
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = credentials.split(':').next().filter(|user| !user.is_empty()).map(user).unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty() && is_shown(&uri::name_of(pair)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let mark = if query.is_empty() { "" } else { "?" };
        format!("{scheme}://{user}{hosts}{path}{mark}{query}")
    }

    /// The hosts; those of parameters count, too. None stands for this machine.
    fn hosts(&self) -> Vec<String> {
        let text = self.text.get();
        let rest = text.expose_secret().split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let named = authority.rsplit('@').next().unwrap_or_default().split(',').map(|host| {
            let end = if host.starts_with('[') { host.find(']').map(|at| at + 1) } else { host.find(':') };
            host.split_at_checked(end.unwrap_or(host.len())).map_or(host, |(host, _port)| host).to_owned()
        });
        let given = ["host", "hostaddr"].into_iter().filter_map(|name| self.parameter(name));
        let given = given.flat_map(|hosts| hosts.split(',').map(ToOwned::to_owned).collect::<Vec<_>>());
        named.chain(given).filter(|host| !host.is_empty()).collect()
    }

    /// A parameter of the query; of several, libpq takes the last one.
    fn parameter(&self, name: &str) -> Option<String> {
        // libpq accepts addresses that URL parsers refuse, such as ones without a host.
        let text = self.text.get();
        let query = text.expose_secret().split_once('?').map_or("", |(_, query)| query);
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
    }

    /// The address with what the service asks for, unless it says so itself: limits to how long a server that does not
    /// answer can hold a connection, and of several hosts the one that takes writes.
    pub(super) fn for_the_service(&self) -> String {
        let wanted = [
            ("connect_timeout", "2"),
            ("tcp_user_timeout", "3000"),
            ("keepalives_idle", "2"),
            ("keepalives_interval", "1"),
            ("keepalives_count", "2"),
            ("target_session_attrs", "read-write"),
        ];
        let text = self.text.get();
        let url = text.expose_secret();
        wanted.iter().filter(|(name, _)| self.parameter(name).is_none()).fold(url.to_owned(), |url, (name, value)| {
            let separator = if url.contains('?') { '&' } else { '?' };
            format!("{url}{separator}{name}={value}")
        })
    }
}

/// Whether a host is this machine, or a socket on it.
fn is_this_machine(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let address = plain.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    address || host == "localhost" || host.starts_with(['/', '@']) || host.to_ascii_lowercase().starts_with("%2f")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn only_the_two_databases_are_taken() {
        assert!("sqlite://data/magic-link.db".parse::<DatabaseUrl>().is_ok_and(|url| url.is_sqlite()));
        assert!(
            "postgres://user:word@host/name?sslmode=disable".parse::<DatabaseUrl>().is_ok_and(|url| !url.is_sqlite())
        );
        assert!("postgres://user@/name?host=/run/postgresql".parse::<DatabaseUrl>().is_ok());
        if !TLS {
            let refused = "postgres://host/name?application_name=x&sslmode=require".parse::<DatabaseUrl>();
            assert!(refused.unwrap_err().contains("pg-tls"));
        }
        for wrong in
            ["mysql://host/name", "postgers://host/name", "postgresqll://host/name", "data.db", "", "SQLITE://a.db"]
        {
            assert!(wrong.parse::<DatabaseUrl>().unwrap_err().contains("must begin with"), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_name_of_a_file() {
        for (text, path) in [
            ("sqlite://data/magic-link.db", "data/magic-link.db"),
            ("sqlite:///var/lib/magic link/db", "/var/lib/magic link/db"),
            ("sqlite://./../नई.db", "./../नई.db"),
        ] {
            let DatabaseUrl::Sqlite(found) = text.parse().unwrap() else { panic!("{text}") };
            assert_eq!((found.written(), found.path()), (Path::new(path), Path::new(path)));
        }
        for wrong in [
            "sqlite:",
            "sqlite:data.db",
            "sqlite:/var/lib/data.db",
            "sqlite::memory:",
            "sqlite://",
            "sqlite:///",
            "sqlite://:memory:",
            "sqlite://data/",
            "sqlite://.",
            "sqlite://data/..",
            "sqlite://~/data.db",
            "sqlite://$HOME/data.db",
            "sqlite://data.db ",
            "sqlite:// data.db",
            "sqlite://data.db?mode=ro",
            "sqlite://data.db?mode=memory&cache=shared",
            "sqlite://data.db#1",
            "sqlite://my%20data.db",
            "sqlite://file:data.db",
            "sqlite://file:data.db?immutable=1",
            "sqlite://C:/data.db",
            "sqlite:///C:/data.db",
            "sqlite://C:\\data.db",
            "sqlite://data\\magic-link.db",
            "sqlite://user:word@host/data.db",
            "sqlite://user@host/data.db",
            "sqlite://host:5432/data",
            "sqlite://data\u{0}.db",
            "sqlite://data\n.db",
            "sqlite3://data.db",
            "file:data.db?mode=ro",
            "file:///data.db",
            ":memory:",
            "C:\\data.db",
            "/var/lib/data.db",
            "postgres:host/name",
            "postgres:/host/name",
            "host=one dbname=name",
        ] {
            assert!(wrong.parse::<DatabaseUrl>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_can_be_read_on_the_way_to_another_machine_is_said() {
        let said = |text: &str, tls| {
            let text = Kept::new(format!("postgres://{text}").into());
            PostgresUrl { text, warning: None }.transport(tls)
        };
        for at_home in [
            "",
            "/name",
            "u:p@/name",
            "u@localhost/name",
            "u:p@127.0.0.1:5432,[::1]:5433/name",
            "u@/name?host=/run/postgresql",
            "u@%2Frun%2Fpostgresql/name",
            "u@/name?host=%2Frun",
        ] {
            assert_eq!((said(at_home, true), said(at_home, false)), (Ok(None), Ok(None)), "{at_home}");
        }
        for away in [
            "db.example/name",
            "u:p@db.example:5432/name",
            "localhost,db.example/name",
            "u@10.0.0.7/name",
            "u@[fd00::7]:5432/name",
            "u@/name?host=db.example",
            "u@localhost/name?hostaddr=10.0.0.7",
            "u@localhost?host=db.example",
        ] {
            let (with, joint) = (said(away, true), if away.contains('?') { '&' } else { '?' });
            assert!(with.unwrap_err().contains("sslmode=verify-full"), "{away}");
            let without = said(away, false).unwrap().expect(away);
            assert!(without.contains("--features pg-tls") && without.contains("sslmode=disable"), "{without}");
            assert!(!without.contains("u:p"), "{without}");
            for mode in ["prefer", "allow"] {
                assert!(said(&format!("{away}{joint}sslmode={mode}"), true).is_err(), "{away} {mode}");
            }
            let closed = format!("{away}{joint}sslmode=disable");
            assert_eq!((said(&closed, true), said(&closed, false)), (Ok(None), Ok(None)), "{closed}");
            for mode in ["sslmode=require", "sslmode=verify-full", "ssl=true"] {
                let asked = format!("{away}{joint}{mode}");
                assert_eq!(said(&asked, true), Ok(None), "{asked}");
                assert!(said(&asked, false).is_err(), "{asked}");
            }
            assert!(
                said(&format!("{away}{joint}sslmode=require&sslmode=prefer"), true).is_err(),
                "the last one counts"
            );
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_asked() {
        let asked = |text: &str| PostgresUrl::parse(text).map(|url| url.for_the_service());
        assert_eq!(
            asked("postgres://one,two/name?sslmode=disable").unwrap(),
            "postgres://one,two/name?sslmode=disable&connect_timeout=2&tcp_user_timeout=3000&keepalives_idle=2\
             &keepalives_interval=1&keepalives_count=2\
             &target_session_attrs=read-write"
        );
        let said =
            asked("postgres://one,two/name?sslmode=disable&target_session_attrs=primary&connect_timeout=9").unwrap();
        assert!(
            said.matches("target_session_attrs").count() == 1 && said.matches("connect_timeout").count() == 1,
            "{said}"
        );
        for wrong in ["any", "read-only", "standby", "prefer-standby", "read-write&target_session_attrs=any"] {
            let refused = asked(&format!("postgres://one,two/name?sslmode=disable&target_session_attrs={wrong}"));
            assert!(refused.unwrap_err().contains("must be read-write"), "{wrong}");
        }
        let hidden = asked("postgres://one,two/name?sslmode=disable&target%5Fsession_attrs=any");
        assert!(hidden.is_err());
    }

    #[test]
    fn a_password_does_not_print() {
        let url: DatabaseUrl = "postgres://user:word@host/name?sslmode=disable".parse().unwrap();
        assert!(!format!("{url:?}").contains("word"));
    }

    #[test]
    fn no_part_of_a_password_prints_however_it_is_written() {
        let at = "@127.0.0.1:5999/db?sslmode=disable";
        for password in [
            "Sek%ret",
            "Sek%zzret",
            "Sekret%",
            "Sek%00ret",
            "Sek ret",
            "Sek\tret",
            "Sek\u{a0}ret",
            "Sek@ret",
            "Sek/ret",
            "Sek?ret",
            "Sek?ret=1",
            "Sek?ret=1&xyzzy",
            "7/Sekret",
            "Sek/r@et",
            "Sek:ret",
            "Sek#ret",
            "Sek[ret",
            "Sek]ret",
            "Sek,ret",
            "Sek&ret",
            "Sek=ret",
            "Sek+ret",
            "Sek%40ret",
            "नSekret",
            "Sek\nret",
            "Sek\\ret",
            "Sek\"ret",
            "Sek'ret",
        ] {
            for user in ["u", "", "u%3A", "u:"] {
                for text in
                    [format!("{user}:{password}{at}"), format!("{user}:{password}@/db?host=/tmp&sslmode=disable")]
                {
                    says_nothing(&text, &["Sek", "ret", "xyzzy"]);
                }
            }
        }
        for text in [
            // Without a host, or with the password somewhere else.
            "u:Sekret",
            "u:Sekret/db",
            "u:Sekret,other/db",
            "[u:Sekret/db",
            "[::1]Sekret/db",
            "u@127.0.0.1/db?password=Sek&ret",
            "u@127.0.0.1/db?password=Sek&ret=1",
            "u@127.0.0.1/db?password=Sek=ret",
            "u@127.0.0.1/db?password=Sek@ret",
            "u@127.0.0.1/db?p%61ssword=Sek%ret",
            "u@127.0.0.1/db?p%61ssword=Sekret",
            "u@127.0.0.1/db?Password=Sekret",
            "u@127.0.0.1/db?pwd=Sekret",
            "u@127.0.0.1/db?Sekret",
            "u@127.0.0.1/db?sslpassword=Sekret",
            "u@127.0.0.1/db?scram_client_key=Sekret",
            "u%3ASekret@127.0.0.1/db",
        ] {
            says_nothing(text, &["Sek", "ret"]);
        }
        // What is percent-encoded as it should be is taken.
        for password in ["Sek%25ret", "Sek%20ret", "Sek%40ret", "Sek%2Fret", "Sek%3Fret", "Sek:ret", "Sek#ret"] {
            let url: DatabaseUrl = format!("postgres://u:{password}{at}").parse().expect(password);
            assert_eq!(url.without_credentials(), "postgres://u@127.0.0.1:5999/db?sslmode=disable");
        }
    }

    /// Neither the refusal of an address, nor the address as it is shown, nor what is said where nobody answers.
    #[track_caller]
    fn says_nothing(text: &str, pieces: &[&str]) {
        let parsed = format!("postgres://{text}").parse::<DatabaseUrl>();
        let said = match &parsed {
            Err(refused) => refused.clone(),
            Ok(url) => format!("{} {url:?} {}", url.without_credentials(), url.warning().unwrap_or_default()),
        };
        for piece in pieces {
            assert!(!said.contains(piece), "{text}: {said}");
        }
    }

    #[test]
    fn a_parameter_that_is_none_is_named() {
        let refused = "postgres://u@127.0.0.1/db?sslmod=require".parse::<DatabaseUrl>().unwrap_err();
        assert!(refused.contains("sslmod "), "{refused}");
        let hidden = "postgres://u:p@127.0.0.1/db?sslmod=require".parse::<DatabaseUrl>().unwrap_err();
        assert!(hidden.contains("parameter") && !hidden.contains("sslmod "), "{hidden}");
    }
}
