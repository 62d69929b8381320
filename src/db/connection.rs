//! One connection type for two databases, and the manager that opens it by URL scheme.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::r2d2::ManageConnection;
use diesel::{Connection, ConnectionError, ConnectionResult, PgConnection, QueryResult, SqliteConnection};
use secrecy::{ExposeSecret, SecretString};

/// A connection to either database.
#[derive(diesel::MultiConnection)]
pub enum Conn {
    /// PostgreSQL, or a cluster that speaks its protocol.
    Postgres(PgConnection),
    /// The embedded default.
    Sqlite(SqliteConnection),
}

/// The backend that stands for both databases in types.
pub type Backend = MultiBackend;

impl Conn {
    /// Begins a transaction that may write.
    ///
    /// On SQLite it takes the write lock at once: a transaction that reads first, and writes after another one has
    /// written, fails whatever the time-out.
    pub(crate) fn begin(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => AnsiTransactionManager::begin_transaction(conn),
            Self::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE"),
        }
    }

    /// Begins a transaction that several write jobs share, each with a savepoint.
    ///
    /// On PostgreSQL no job waits long for a lock: the others would wait with it, and two batches could wait for each
    /// other.
    pub(crate) fn begin_batch(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => AnsiTransactionManager::begin_transaction_sql(
                conn,
                "BEGIN; SET LOCAL lock_timeout = '100ms'; SAVEPOINT act",
            ),
            Self::Sqlite(conn) => AnsiTransactionManager::begin_transaction_sql(conn, "BEGIN IMMEDIATE; SAVEPOINT act"),
        }
    }

    /// Keeps the changes of a job, and opens the savepoint of the next one.
    pub(crate) fn next_savepoint(&mut self) -> QueryResult<()> {
        self.batch_execute("RELEASE SAVEPOINT act; SAVEPOINT act")
    }

    /// Undoes the changes of a job. An error means that the whole transaction is lost.
    pub(crate) fn back_to_savepoint(&mut self) -> QueryResult<()> {
        self.batch_execute("ROLLBACK TO SAVEPOINT act")
    }

    /// Ends the jobs. Only audit events are left to write: their locks are taken in one order, and may wait.
    pub(crate) fn end_batch(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => conn.batch_execute("RELEASE SAVEPOINT act; SET LOCAL lock_timeout = '5s'"),
            Self::Sqlite(conn) => conn.batch_execute("RELEASE SAVEPOINT act"),
        }
    }

    /// Makes the transaction durable.
    pub(crate) fn commit(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => AnsiTransactionManager::commit_transaction(conn),
            Self::Sqlite(conn) => AnsiTransactionManager::commit_transaction(conn),
        }
    }

    /// Undoes the transaction.
    pub(crate) fn rollback(&mut self) -> QueryResult<()> {
        match self {
            Self::Postgres(conn) => AnsiTransactionManager::rollback_transaction(conn),
            Self::Sqlite(conn) => AnsiTransactionManager::rollback_transaction(conn),
        }
    }
}

/// Kind and address of the database.
#[derive(Clone)]
pub enum DatabaseUrl {
    /// `postgres://…`; it may hold a password.
    Postgres(SecretString),
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
            // libpq accepts addresses that URL parsers refuse, such as ones without a host.
            let query = text.split_once('?').map_or("", |(_, query)| query);
            let tls = query
                .split('&')
                .filter_map(|pair| pair.strip_prefix("sslmode="))
                .any(|mode| matches!(mode, "require" | "verify-ca" | "verify-full"));
            if tls && cfg!(not(feature = "pg-tls")) {
                return Err("this build speaks no TLS to PostgreSQL: build with `--features pg-tls`".into());
            }
            return Ok(Self::Postgres(text.into()));
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

/// Limits how long a server that does not answer can hold a connection, unless the URL sets the limits.
fn bounded(url: &str) -> String {
    let bounds = [("connect_timeout", "2"), ("tcp_user_timeout", "5000"), ("keepalives_idle", "5")];
    bounds.iter().filter(|(parameter, _)| !url.contains(&format!("{parameter}="))).fold(
        url.to_owned(),
        |url, (parameter, value)| {
            let separator = if url.contains('?') { '&' } else { '?' };
            format!("{url}{separator}{parameter}={value}")
        },
    )
}

/// A pooled connection, and whether it may be broken.
pub(crate) struct Pooled {
    pub conn: Conn,
    pub broken: bool,
    /// The file of an embedded database, and which one it was when it was opened.
    file: Option<(PathBuf, Option<FileId>)>,
}

impl Pooled {
    /// Whether it leads to the database that the URL names now.
    ///
    /// A server ends its connections when a database is replaced. A file that was replaced stays open, and a connection
    /// to it would go on with what was true before.
    pub(crate) fn is_current(&self) -> bool {
        self.file.as_ref().is_none_or(|(path, opened)| FileId::of(path) == *opened)
    }
}

/// Device and number of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    /// `None` if there is no such file.
    #[cfg(unix)]
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).ok().map(|file| Self(file.dev(), file.ino()))
    }

    #[cfg(not(unix))]
    const fn of(_path: &Path) -> Option<Self> {
        None
    }
}

/// Opens connections by URL scheme.
///
/// The derived `establish` of [`Conn`] tries one database after the other, and
/// would make an empty SQLite file out of a mistyped PostgreSQL address.
pub(crate) struct ConnectionManager {
    url: DatabaseUrl,
    by_primary_keys: bool,
}

impl ConnectionManager {
    pub(crate) const fn new(url: DatabaseUrl) -> Self {
        Self { url, by_primary_keys: false }
    }

    /// For connections that only look up rows by primary keys.
    pub(crate) const fn by_primary_keys(url: DatabaseUrl) -> Self {
        Self { url, by_primary_keys: true }
    }

    /// Opens one connection with the settings that the service relies on.
    pub(crate) fn open(&self) -> ConnectionResult<Conn> {
        match &self.url {
            DatabaseUrl::Postgres(url) => {
                let mut conn = PgConnection::establish(&bounded(url.expose_secret()))?;
                conn.batch_execute(
                    "SET TIME ZONE 'UTC'; SET synchronous_commit = on; SET statement_timeout = '30s'; \
                     SET lock_timeout = '5s'; \
                     SET idle_in_transaction_session_timeout = '30s';",
                )
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
                if self.by_primary_keys {
                    // Planned once, and not by statistics from before the tables grew. A setting that a cluster does
                    // not know is skipped.
                    for setting in [
                        "plan_cache_mode = force_generic_plan",
                        "enable_seqscan = off",
                        "enable_hashjoin = off",
                        "enable_mergejoin = off",
                        "jit = off",
                    ] {
                        drop(conn.batch_execute(&format!("SET {setting}")));
                    }
                }
                Ok(Conn::Postgres(conn))
            }
            DatabaseUrl::Sqlite(path) => {
                let mut conn = SqliteConnection::establish(&path.to_string_lossy())?;
                // recursive_triggers: without it INSERT OR REPLACE slips past delete triggers.
                conn.batch_execute(
                    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                     PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA secure_delete = ON;",
                )
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
                Ok(Conn::Sqlite(conn))
            }
        }
    }

    /// Creates the folder of the embedded database.
    pub(crate) fn prepare(&self) -> std::io::Result<()> {
        match &self.url {
            DatabaseUrl::Sqlite(path) => match path.parent() {
                Some(folder) if folder != Path::new("") => std::fs::create_dir_all(folder),
                _ => Ok(()),
            },
            DatabaseUrl::Postgres(_) => Ok(()),
        }
    }
}

impl ManageConnection for ConnectionManager {
    type Connection = Pooled;
    type Error = ConnectionError;

    fn connect(&self) -> Result<Pooled, ConnectionError> {
        let file = match &self.url {
            // Before it is opened: one that is replaced meanwhile is then taken for the one before.
            DatabaseUrl::Sqlite(path) => Some((path.clone(), FileId::of(path))),
            DatabaseUrl::Postgres(_) => None,
        };
        let conn = self.open()?;
        let file = file.map(|(path, opened)| (opened.or_else(|| FileId::of(&path)), path));
        let file = file.map(|(opened, path)| (path, opened));
        Ok(Pooled { conn, broken: false, file })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectionError> {
        pooled.conn.batch_execute("SELECT 1").map_err(ConnectionError::CouldntSetupConfiguration)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        pooled.broken || std::thread::panicking()
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
    fn a_password_does_not_print() {
        let url: DatabaseUrl = "postgres://user:word@host/name".parse().unwrap();
        assert!(!format!("{url:?}").contains("word"));
    }
}
