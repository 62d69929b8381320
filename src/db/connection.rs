//! One connection type for two databases, and the manager that opens it by URL scheme.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{AnsiTransactionManager, SimpleConnection, TransactionManager};
use diesel::r2d2::ManageConnection;
use diesel::sql_types::{Nullable, Text};
use diesel::{
    Connection, ConnectionError, ConnectionResult, PgConnection, QueryResult, QueryableByName, RunQueryDsl,
    SqliteConnection, sql_query,
};

use super::open_file::{DatabaseFile, OpenFile, Standing};
#[cfg(test)]
use super::sqlite_file::SqliteFile;
use super::{DatabaseUrl, files};

/// What a server is refused with that takes no writes: what it says of access may be long past.
const READ_ONLY: &str = "the server takes no writes: it is a standby, or was made read-only";

/// Makes the schema of the tables the only one, where there are any: another one may be made that comes before it in the
/// usual `"$user", public`, and migrations would begin anew there.
const STAY_IN_SCHEMA: &str = "SELECT set_config('search_path', quote_ident(nspname) || ', pg_temp', false) \
     FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace \
     WHERE pg_class.oid = to_regclass('__diesel_schema_migrations')";

/// Size in bytes to which SQLite's write-ahead log is cut back once it has been larger.
pub(super) const LARGEST_LOG: u64 = 16 << 20;

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

    /// Begins a transaction that several write jobs share, each behind a savepoint if it should be undone alone.
    ///
    /// On PostgreSQL no job waits long for a lock: the others would wait with it, and two batches could wait for each
    /// other.
    pub(crate) fn begin_batch(&mut self, with_savepoints: bool) -> QueryResult<()> {
        let savepoint = if with_savepoints { "; SAVEPOINT act" } else { "" };
        match self {
            Self::Postgres(conn) => {
                let begin = format!("BEGIN; SET LOCAL lock_timeout = '100ms'{savepoint}");
                AnsiTransactionManager::begin_transaction_sql(conn, &begin)
            }
            Self::Sqlite(conn) => {
                AnsiTransactionManager::begin_transaction_sql(conn, &format!("BEGIN IMMEDIATE{savepoint}"))
            }
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
    pub(crate) fn end_batch(&mut self, with_savepoints: bool) -> QueryResult<()> {
        let release = if with_savepoints { "RELEASE SAVEPOINT act" } else { "" };
        match self {
            Self::Postgres(conn) => conn.batch_execute(&format!("SET LOCAL lock_timeout = '5s'; {release}")),
            Self::Sqlite(conn) => conn.batch_execute(release),
        }
    }

    /// Runs statements in the transaction and undoes what they changed. A failure is undone with its job.
    pub(crate) fn try_out<T, E: From<diesel::result::Error>>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.batch_execute("SAVEPOINT trial")?;
        let outcome = work(self)?;
        self.batch_execute("ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial")?;
        Ok(outcome)
    }

    /// The shortest of a few round trips to the server; none to a file.
    pub(crate) fn round_trip(&mut self) -> QueryResult<Duration> {
        let Self::Postgres(conn) = self else { return Ok(Duration::ZERO) };
        let mut shortest = Duration::MAX;
        for _ in 0..5 {
            let asked = Instant::now();
            conn.batch_execute("SELECT 1")?;
            shortest = shortest.min(asked.elapsed());
        }
        Ok(shortest)
    }

    /// Why a statement that asks the primary alone found no row: the server takes no writes, or the row is gone.
    pub(crate) fn why_no_row(&mut self) -> diesel::result::Error {
        let read_only = match self {
            Self::Postgres(conn) => {
                let on = diesel::dsl::sql::<diesel::sql_types::Bool>("current_setting('transaction_read_only') = 'on'");
                diesel::select(on).get_result(conn)
            }
            Self::Sqlite(_) => Ok(false),
        };
        match read_only {
            Ok(true) => diesel::result::Error::DatabaseError(
                diesel::result::DatabaseErrorKind::ReadOnlyTransaction,
                Box::new(READ_ONLY.to_owned()),
            ),
            Ok(false) => diesel::result::Error::NotFound,
            Err(error) => error,
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

/// A pooled connection, and whether it may be broken.
pub(crate) struct Pooled {
    pub conn: Conn,
    pub broken: bool,
    /// The file of an embedded database as it was when it was opened. Dropped after the connection.
    file: Option<OpenFile>,
    /// Connections of the pool that broke, and how many had when this one was last known to work.
    breaks: Arc<AtomicU64>,
    breaks_seen: u64,
}

impl Pooled {
    /// Whether it leads to the database that the URL names now.
    ///
    /// A server ends its connections when a database is replaced. A file that was replaced stays open, and a connection
    /// to it would go on with what was true before.
    pub(crate) fn standing(&self) -> Standing {
        self.file.as_ref().map_or(Standing::Current, OpenFile::standing)
    }

    /// Whether it works, as far as can be known: where another one has broken since, as after a failover, the database is
    /// asked.
    pub(crate) fn works(&mut self) -> bool {
        let breaks = self.breaks.load(Ordering::SeqCst);
        if self.breaks_seen != breaks && self.conn.batch_execute("SELECT 1").is_ok() {
            self.breaks_seen = breaks;
        }
        self.breaks_seen == breaks
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            file.leave(&mut self.conn);
        }
    }
}

/// Opens connections by URL scheme.
///
/// The derived `establish` of [`Conn`] tries one database after the other, and
/// would make an empty SQLite file out of a mistyped PostgreSQL address.
#[derive(Debug)]
pub(crate) struct ConnectionManager {
    url: DatabaseUrl,
    by_primary_keys: bool,
    breaks: Arc<AtomicU64>,
    /// The file of an embedded database, which the pools of a process know together.
    file: Option<Arc<DatabaseFile>>,
}

impl ConnectionManager {
    pub(crate) fn new(url: DatabaseUrl) -> Self {
        let file = match &url {
            DatabaseUrl::Sqlite(file) => Some(DatabaseFile::new(file)),
            DatabaseUrl::Postgres(_) => None,
        };
        Self { url, by_primary_keys: false, breaks: Arc::default(), file }
    }

    /// For another pool of the same database, which is the same file to both.
    pub(crate) fn for_another_pool(&self) -> Self {
        let (url, file) = (self.url.clone(), self.file.clone());
        Self { url, by_primary_keys: self.by_primary_keys, breaks: Arc::default(), file }
    }

    /// The same for connections that only look up rows by primary keys.
    pub(crate) fn by_primary_keys(&self) -> Self {
        Self { by_primary_keys: true, ..self.for_another_pool() }
    }

    pub(crate) const fn is_sqlite(&self) -> bool {
        matches!(self.url, DatabaseUrl::Sqlite(_))
    }

    /// For a file that is made by this.
    #[cfg(test)]
    pub(crate) fn of_new_file(path: std::path::PathBuf) -> Self {
        let manager = Self::new(DatabaseUrl::Sqlite(SqliteFile::at(path)));
        drop(manager.prepare().unwrap());
        manager
    }

    /// Opens one connection with the settings that the service relies on. It makes no file: only
    /// [`ConnectionManager::prepare`] does.
    pub(crate) fn open(&self) -> ConnectionResult<Conn> {
        match &self.url {
            DatabaseUrl::Postgres(url) => {
                let mut conn = PgConnection::establish(&url.for_the_service())?;
                conn.batch_execute(
                    "SET TIME ZONE 'UTC'; SET synchronous_commit = on; SET statement_timeout = '30s'; \
                     SET lock_timeout = '5s'; SET default_transaction_isolation = 'read committed'; \
                     SET idle_in_transaction_session_timeout = '30s';",
                )
                .and_then(|()| conn.batch_execute(STAY_IN_SCHEMA))
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
                // Failures are told apart by their text. Not every role may set it.
                drop(conn.batch_execute("SET lc_messages = 'C'"));
                // Ours are kept while they rest. Servers before 14 do not know it.
                drop(conn.batch_execute("SET idle_session_timeout = 0"));
                fit_postgres(&mut conn)?;
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
            DatabaseUrl::Sqlite(file) => {
                files::require_one_name(file.path()).map_err(ConnectionError::BadConnection)?;
                let mut conn = SqliteConnection::establish(&files::existing(file.path()))?;
                // recursive_triggers: without it INSERT OR REPLACE slips past delete triggers. cache_size: 1 MiB of pages each,
                // half of what is usual, for whoever commits empties the caches of all other connections.
                conn.batch_execute(
                    "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
                     PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON; PRAGMA secure_delete = ON; \
                     PRAGMA cache_size = -1024;",
                )
                .and_then(|()| conn.batch_execute(&format!("PRAGMA journal_size_limit = {LARGEST_LOG}")))
                .map_err(ConnectionError::CouldntSetupConfiguration)?;
                fit_sqlite(&mut conn)?;
                Ok(Conn::Sqlite(conn))
            }
        }
    }

    /// Creates the file of the embedded database, if it is not there: nothing else does. While the result lives, no other
    /// process sets it up.
    pub(crate) fn prepare(&self) -> std::io::Result<Option<File>> {
        match &self.url {
            DatabaseUrl::Sqlite(file) => files::prepare(file.path()),
            DatabaseUrl::Postgres(_) => Ok(None),
        }
    }
}

impl ManageConnection for ConnectionManager {
    type Connection = Pooled;
    type Error = ConnectionError;

    fn connect(&self) -> Result<Pooled, ConnectionError> {
        let breaks_seen = self.breaks.load(Ordering::SeqCst);
        let (conn, file) = match &self.file {
            Some(file) => file.open(|| self.open()).map(|(conn, file)| (conn, Some(file)))?,
            None => (self.open()?, None),
        };
        Ok(Pooled { conn, broken: false, file, breaks: Arc::clone(&self.breaks), breaks_seen })
    }

    fn is_valid(&self, pooled: &mut Pooled) -> Result<(), ConnectionError> {
        pooled.conn.batch_execute("SELECT 1").map_err(ConnectionError::CouldntSetupConfiguration)
    }

    fn has_broken(&self, pooled: &mut Pooled) -> bool {
        let broken = pooled.broken || std::thread::panicking();
        if broken {
            self.breaks.fetch_add(1, Ordering::SeqCst);
        }
        broken
    }
}

/// What a connection says of its database.
#[derive(QueryableByName)]
struct Traits {
    #[diesel(sql_type = Text)]
    encoding: String,
    /// PostgreSQL: `transaction_read_only`. SQLite: the mode of the journal.
    #[diesel(sql_type = Nullable<Text>)]
    mode: Option<String>,
    /// Language of the failures.
    #[diesel(sql_type = Nullable<Text>)]
    language: Option<String>,
}

/// Refuses a server that the service cannot work with. Each connection may reach another one.
fn fit_postgres(conn: &mut PgConnection) -> ConnectionResult<()> {
    let query = "SELECT current_setting('server_encoding') AS encoding, \
                 current_setting('transaction_read_only', true) AS mode, \
                 current_setting('lc_messages', true) AS language";
    let found: Traits = sql_query(query).get_result(conn).map_err(ConnectionError::CouldntSetupConfiguration)?;
    judge_postgres(&found).map_err(ConnectionError::BadConnection)
}

fn judge_postgres(found: &Traits) -> Result<(), String> {
    let Traits { encoding, mode, language } = found;
    if !encoding.eq_ignore_ascii_case("UTF8") {
        return Err(format!(
            "the database's encoding is {encoding} and must be UTF8, or names in other scripts cannot be stored: create \
             it anew with ENCODING 'UTF8' TEMPLATE template0, and move what is in it with pg_dump"
        ));
    }
    if mode.as_deref() == Some("on") {
        return Err(READ_ONLY.to_owned());
    }
    let language = language.as_deref().unwrap_or_default();
    if !(language.is_empty() || ["C", "POSIX", "en", "English"].iter().any(|known| language.starts_with(known))) {
        return Err(format!(
            "the server tells failures in {language}, and the service must tell them apart: let a superuser run ALTER \
             ROLE … SET lc_messages = 'C' for its role"
        ));
    }
    Ok(())
}

/// Refuses a file that the service cannot work with.
fn fit_sqlite(conn: &mut SqliteConnection) -> ConnectionResult<()> {
    let query = "SELECT e.encoding AS encoding, j.journal_mode AS mode, NULL AS language \
                 FROM pragma_encoding e, pragma_journal_mode j";
    let found: Traits = sql_query(query).get_result(conn).map_err(ConnectionError::CouldntSetupConfiguration)?;
    let Traits { encoding, mode, .. } = found;
    if encoding != "UTF-8" {
        return Err(ConnectionError::BadConnection(format!(
            "the database's encoding is {encoding} and must be UTF-8: move what is in it to a new file"
        )));
    }
    if mode.as_deref() != Some("wal") {
        return Err(ConnectionError::BadConnection(
            "SQLite cannot keep a write-ahead log beside the database: it must lie on a disk of this machine"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_must_take_writes_in_every_script_and_tell_failures_in_english() {
        let judged = |encoding: &str, mode: &str, language: Option<&str>| {
            judge_postgres(&Traits {
                encoding: encoding.to_owned(),
                mode: Some(mode.to_owned()),
                language: language.map(ToOwned::to_owned),
            })
        };
        for language in [None, Some(""), Some("C"), Some("C.UTF-8"), Some("en_US.UTF-8"), Some("English_India.1252")] {
            assert_eq!(judged("UTF8", "off", language), Ok(()), "{language:?}");
        }
        for encoding in ["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"] {
            assert!(judged(encoding, "off", Some("C")).unwrap_err().contains(encoding));
        }
        assert!(judged("UTF8", "off", Some("de_DE.UTF-8")).unwrap_err().contains("de_DE"));
        assert!(judged("UTF8", "on", Some("C")).unwrap_err().contains("read-only"));
    }

    #[test]
    fn a_file_in_another_encoding_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wide.db");
        let mut wide = SqliteConnection::establish(&file.to_string_lossy()).unwrap();
        wide.batch_execute("PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a TEXT)").unwrap();
        let refused = ConnectionManager::of_new_file(file).open().err().unwrap().to_string();
        assert!(refused.contains("UTF-16le"), "{refused}");
    }
}
