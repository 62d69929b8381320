//! Address of the database: what is not understood is refused, and not taken as the name of a file.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

/// Kind and address of the database.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// `postgres://…`; it may hold a password.
    Postgres(PostgresUrl),
    /// `sqlite://<path>`.
    Sqlite(PathBuf),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() || path == ":memory:" {
                return Err("sqlite:// needs the path of a file".into());
            }
            return Ok(Self::Sqlite(PathBuf::from(path)));
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return PostgresUrl::parse(text).map(Self::Postgres);
        }
        Err("must begin with sqlite:// or postgres://".into())
    }
}

impl DatabaseUrl {
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
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
        }
    }
}

/// `postgres://…`, as libpq reads it.
#[derive(Clone)]
pub struct PostgresUrl(SecretString);

impl PostgresUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let url = Self(text.into());
        if matches!(url.parameter("sslmode").as_deref(), Some("require" | "verify-ca" | "verify-full"))
            && cfg!(not(feature = "pg-tls"))
        {
            return Err("this build speaks no TLS to PostgreSQL: build with `--features pg-tls`".into());
        }
        match url.parameter("target_session_attrs").as_deref() {
            None | Some("read-write" | "primary") => Ok(url),
            Some(_) => {
                Err("target_session_attrs must be read-write: what a standby says of access may be long past".into())
            }
        }
    }

    /// A parameter of the query; of several, libpq takes the last one.
    fn parameter(&self, name: &str) -> Option<String> {
        // libpq accepts addresses that URL parsers refuse, such as ones without a host.
        let query = self.0.expose_secret().split_once('?').map_or("", |(_, query)| query);
        let pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.filter(|(key, _)| key == name).last().map(|(_, value)| value.into_owned())
    }

    /// The address with what the service asks for, unless it says so itself: limits to how long a server that does not
    /// answer can hold a connection, and of several hosts the one that takes writes.
    pub(super) fn for_the_service(&self) -> String {
        let wanted = [
            ("connect_timeout", "2"),
            ("tcp_user_timeout", "5000"),
            ("keepalives_idle", "5"),
            ("target_session_attrs", "read-write"),
        ];
        let url = self.0.expose_secret();
        wanted.iter().filter(|(name, _)| self.parameter(name).is_none()).fold(url.to_owned(), |url, (name, value)| {
            let separator = if url.contains('?') { '&' } else { '?' };
            format!("{url}{separator}{name}={value}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_databases_are_taken() {
        assert!("sqlite://data/magic-link.db".parse::<DatabaseUrl>().is_ok_and(|url| url.is_sqlite()));
        assert!("postgres://user:word@host/name".parse::<DatabaseUrl>().is_ok_and(|url| !url.is_sqlite()));
        assert!("postgres://user@/name?host=/run/postgresql".parse::<DatabaseUrl>().is_ok());
        if cfg!(not(feature = "pg-tls")) {
            let refused = "postgres://host/name?application_name=x&sslmode=require".parse::<DatabaseUrl>();
            assert!(refused.unwrap_err().contains("pg-tls"));
        }
        for wrong in ["mysql://host/name", "postgers://host/name", "data.db", "sqlite://", "sqlite::memory:", ""] {
            assert!(wrong.parse::<DatabaseUrl>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_asked() {
        let asked = |text: &str| PostgresUrl::parse(text).map(|url| url.for_the_service());
        assert_eq!(
            asked("postgres://one,two/name").unwrap(),
            "postgres://one,two/name?connect_timeout=2&tcp_user_timeout=5000&keepalives_idle=5\
             &target_session_attrs=read-write"
        );
        let said = asked("postgres://one,two/name?target_session_attrs=primary&connect_timeout=9").unwrap();
        assert!(
            said.matches("target_session_attrs").count() == 1 && said.matches("connect_timeout").count() == 1,
            "{said}"
        );
        for wrong in ["any", "read-only", "standby", "prefer-standby", "read-write&target_session_attrs=any"] {
            let refused = asked(&format!("postgres://one,two/name?target_session_attrs={wrong}"));
            assert!(refused.unwrap_err().contains("must be read-write"), "{wrong}");
        }
        let hidden = asked("postgres://one,two/name?target%5Fsession_attrs=any");
        assert!(hidden.is_err(), "{hidden:?}");
    }

    #[test]
    fn a_password_does_not_print() {
        let url: DatabaseUrl = "postgres://user:word@host/name".parse().unwrap();
        assert!(!format!("{url:?}").contains("word"));
    }
}
