//! Migrations: one tree for each database, with the same names, built into the binary.

use std::error::Error;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel::sqlite::Sqlite;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::failure::waited_in_vain;
use super::schema::tolerated_migrations;
use super::{Conn, ConnectionManager, DatabaseUrl, files, guards};

const POSTGRES: EmbeddedMigrations = embed_migrations!("migrations/postgres");
const SQLITE: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a migration that waits for others is tried again.
const PATIENCE: Duration = Duration::from_mins(10);

/// Pause before the next try. Who has queued behind the last one gets a turn.
const PAUSE: Duration = Duration::from_secs(1);

diesel::table! {
    /// diesel's own.
    __diesel_schema_migrations (version) {
        version -> Text,
    }
}

/// Why migrating failed.
pub(crate) type MigrateError = Box<dyn Error + Send + Sync>;

/// How the migrations of this program and of a database differ.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Names of migrations that the database lacks, in order.
    pub pending: Vec<String>,
    /// Versions of migrations of a later program that this one cannot work beside, in order.
    pub unknown: Vec<String>,
    /// Triggers that the database lacks, though it has the migrations that make them.
    pub missing: Vec<String>,
}

impl Difference {
    /// Whether this program can work with the database as it is.
    pub(crate) const fn is_none(&self) -> bool {
        self.pending.is_empty() && self.unknown.is_empty() && self.missing.is_empty()
    }

    /// That of a database without a table.
    pub(crate) fn to_nothing() -> QueryResult<Self> {
        let known = names(&SQLITE as &dyn MigrationSource<Sqlite>)?;
        Ok(Self { pending: known.into_iter().map(|(_, name)| name).collect(), ..Self::default() })
    }
}

/// Version of the newest migration that this program knows.
pub(crate) fn newest() -> String {
    let known = names(&SQLITE as &dyn MigrationSource<Sqlite>).unwrap_or_default();
    known.into_iter().map(|(version, _)| version).max().unwrap_or_default()
}

/// Version of the newest migration of the database.
pub(crate) fn newest_applied(conn: &mut Conn) -> QueryResult<Option<String>> {
    let newest = diesel::dsl::max(__diesel_schema_migrations::version);
    __diesel_schema_migrations::table.select(newest).get_result(conn)
}

/// Compares the migrations of the database with those of this program. It only reads.
pub(crate) fn difference(conn: &mut Conn) -> QueryResult<Difference> {
    let known = match conn {
        Conn::Postgres(_) => names(&POSTGRES as &dyn MigrationSource<Pg>)?,
        Conn::Sqlite(_) => names(&SQLITE as &dyn MigrationSource<Sqlite>)?,
    };
    let mut applied: Vec<String> = Vec::new();
    if has_schema(conn)? {
        let versions = __diesel_schema_migrations::table.select(__diesel_schema_migrations::version);
        applied = versions.order(__diesel_schema_migrations::version).load(conn)?;
    }
    let is_known = |version: &str| known.iter().any(|(known, _)| known == version);
    let mut unknown: Vec<String> = applied.iter().filter(|version| !is_known(version)).cloned().collect();
    let has_later = !unknown.is_empty();
    if has_later && has_table(conn, "tolerated_migrations")? {
        let tolerated: Vec<(String, String)> = tolerated_migrations::table.load(conn)?;
        unknown.retain(|version| !tolerated.iter().any(|(tolerated, since)| tolerated == version && is_known(since)));
    }
    let pending = known.into_iter().filter(|(version, _)| !applied.contains(version)).map(|(_, name)| name).collect();
    let mut found = Difference { pending, unknown, missing: Vec::new() };
    // A later program may have replaced some.
    if found.is_none() && !has_later {
        found.missing = guards::missing(conn)?;
    }
    Ok(found)
}

/// Versions and names of the migrations of a tree, in order.
fn names<DB: diesel::backend::Backend>(tree: &dyn MigrationSource<DB>) -> QueryResult<Vec<(String, String)>> {
    let migrations = tree.migrations().map_err(diesel::result::Error::QueryBuilderError)?;
    let named = |one: Box<dyn Migration<DB>>| (one.name().version().to_string(), one.name().to_string());
    let mut named: Vec<_> = migrations.into_iter().map(named).collect();
    named.sort();
    Ok(named)
}

/// Whether migrations were ever applied.
pub(super) fn has_schema(conn: &mut Conn) -> QueryResult<bool> {
    has_table(conn, "__diesel_schema_migrations")
}

/// There is no database of a service where the configuration says.
#[derive(Debug, thiserror::Error)]
#[error(
    "there is no database of a service at {0}: see `database_url`. `serve`, `migrate`, `client create` and `consultant add` \
     make one"
)]
pub(crate) struct NoDatabase(String);

/// Refuses an address where no service has made its tables, so that nobody is told of an empty database that all is
/// stopped. What cannot be asked is told by whoever opens it.
pub(crate) fn require_made(url: &DatabaseUrl) -> Result<(), NoDatabase> {
    let conn = match url {
        DatabaseUrl::Sqlite(file) if !file.path().exists() => return Err(NoDatabase(url.without_credentials())),
        // Whoever opens it refuses it; here SQLite would begin a log beside it.
        DatabaseUrl::Sqlite(file) if files::require_one_name(file.path()).is_err() => return Ok(()),
        DatabaseUrl::Sqlite(file) => SqliteConnection::establish(&files::only_read(file.path())).map(Conn::Sqlite),
        DatabaseUrl::Postgres(_) => ConnectionManager::new(url.clone()).open(),
    };
    let is_made = conn.map(|mut conn| has_schema(&mut conn));
    if matches!(is_made, Ok(Ok(false))) { Err(NoDatabase(url.without_credentials())) } else { Ok(()) }
}

fn has_table(conn: &mut Conn, name: &'static str) -> QueryResult<bool> {
    match conn {
        Conn::Postgres(conn) => {
            diesel::select(sql::<Bool>(&format!("to_regclass('{name}') IS NOT NULL"))).get_result(conn)
        }
        Conn::Sqlite(conn) => {
            let there = format!("EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '{name}')");
            diesel::select(sql::<Bool>(&there)).get_result(conn)
        }
    }
}

/// Applies pending migrations, and returns their names. Several processes may do so at once: one does it, the others wait
/// for it, and say so.
///
/// No statement has a time limit, but none waits for a lock longer than two seconds: who uses the table meanwhile would
/// queue behind it. What waited in vain is undone and tried again, for ten minutes.
pub(crate) fn run(conn: &mut Conn) -> Result<Vec<String>, MigrateError> {
    run_for(conn, PATIENCE)
}

fn run_for(conn: &mut Conn, patience: Duration) -> Result<Vec<String>, MigrateError> {
    // On PostgreSQL others may have tables in the same schema; a file has one owner.
    if matches!(conn, Conn::Sqlite(_))
        && let Some(table) = guards::foreign_table(conn)?
    {
        return Err(
            format!("this is the database of another program: it has a table `{table}`, and none of ours").into()
        );
    }
    match conn {
        Conn::Postgres(conn) => {
            conn.batch_execute("SET statement_timeout = 0; SET lock_timeout = '2s'")?;
            // Held until it is released or the connection closes; the number has no other use.
            tried_again(patience, "another process migrates the database; waiting for it", || {
                Ok(conn.batch_execute("SELECT pg_advisory_lock(7304826150)")?)
            })?;
            let outcome = apply(conn, POSTGRES, patience);
            // A connection that is lost has let go of it.
            let released = conn.batch_execute("SELECT pg_advisory_unlock(7304826150)");
            let applied = outcome?;
            released?;
            Ok(applied)
        }
        Conn::Sqlite(conn) => {
            if !conn.has_pending_migration(SQLITE)? {
                return Ok(Vec::new());
            }
            // All in one transaction; what is pending is asked again under its lock.
            tried_again(patience, "the database is locked by another process; waiting for it", || {
                let mut failure = None;
                let outcome = conn.immediate_transaction(|conn| {
                    apply(conn, SQLITE, Duration::ZERO).map_err(|error| {
                        failure = Some(error);
                        diesel::result::Error::RollbackTransaction
                    })
                });
                match failure {
                    Some(failure) => Err(failure),
                    None => Ok(outcome?),
                }
            })
        }
    }
}

/// Applies what is pending, one after the other.
fn apply<DB, C>(conn: &mut C, tree: EmbeddedMigrations, patience: Duration) -> Result<Vec<String>, MigrateError>
where
    DB: diesel::backend::Backend,
    C: MigrationHarness<DB>,
    EmbeddedMigrations: MigrationSource<DB>,
{
    let mut applied = Vec::new();
    let pending = conn.pending_migrations(tree)?;
    let is_new = conn.applied_migrations()?.is_empty();
    if is_new && !pending.is_empty() {
        tracing::info!(migrations = pending.len(), "making the tables of a new database");
    }
    for migration in pending {
        let name = migration.name().to_string();
        if !is_new {
            tracing::info!(migration.name = name, "migrating the database");
        }
        let waiting = "a migration waits for a lock; it was undone, and is tried again";
        tried_again(patience, waiting, || conn.run_migration(migration.as_ref()).map(drop))?;
        applied.push(name);
    }
    Ok(applied)
}

/// Repeats what waited for a lock in vain, and says so each time.
fn tried_again<T>(
    patience: Duration,
    waiting: &'static str,
    mut work: impl FnMut() -> Result<T, MigrateError>,
) -> Result<T, MigrateError> {
    let began = Instant::now();
    loop {
        match work() {
            Err(error) if waited_in_vain(&error.to_string()) && began.elapsed() < patience => {
                let seconds = began.elapsed().as_secs();
                tracing::warn!(migration.waited_seconds = seconds, error.cause = %error, "{waiting}");
                std::thread::park_timeout(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::ConnectionManager;

    /// The newest migration from before migrations said who works beside them.
    const BEFORE: &str = "20261128010000";

    fn fresh() -> (tempfile::TempDir, Conn) {
        let folder = tempfile::tempdir().unwrap();
        let conn = ConnectionManager::of_new_file(folder.path().join("test.db")).open().unwrap();
        (folder, conn)
    }

    #[test]
    fn both_trees_have_the_same_names() {
        let postgres = names(&POSTGRES as &dyn MigrationSource<Pg>).unwrap();
        let sqlite = names(&SQLITE as &dyn MigrationSource<Sqlite>).unwrap();
        assert_eq!(postgres, sqlite);
    }

    #[test]
    fn nothing_is_made_in_the_database_of_another_program() {
        let (_folder, mut conn) = fresh();
        conn.batch_execute("CREATE TABLE payroll (id INTEGER)").unwrap();
        let refused = run(&mut conn).unwrap_err().to_string();
        assert!(refused.contains("`payroll`"), "{refused}");
        assert!(!has_schema(&mut conn).unwrap());
    }

    #[test]
    fn what_is_pending_is_applied_once() {
        let (_folder, mut conn) = fresh();
        let all = Difference::to_nothing().unwrap();
        assert_eq!(difference(&mut conn).unwrap(), all);
        assert_eq!(run(&mut conn).unwrap(), all.pending);
        assert!(difference(&mut conn).unwrap().is_none());
        assert_eq!(run(&mut conn).unwrap(), [""; 0]);
    }

    #[test]
    fn a_later_migration_is_tolerated_only_where_it_says_so_to_this_program() {
        let (_folder, mut conn) = fresh();
        run(&mut conn).unwrap();
        let later = |conn: &mut Conn, statement: &str| {
            conn.batch_execute(statement).unwrap();
            difference(conn).unwrap().unknown
        };
        let added = "INSERT INTO __diesel_schema_migrations (version) VALUES ('29990101000000')";
        assert_eq!(later(&mut conn, added), ["29990101000000"]);
        let said = "INSERT INTO tolerated_migrations VALUES ('29990101000000', '29980101000000')";
        assert_eq!(later(&mut conn, said), ["29990101000000"], "to a program in between");
        let said = "UPDATE tolerated_migrations SET known_since = '20261128010000' WHERE version = '29990101000000'";
        assert_eq!(later(&mut conn, said), [""; 0]);
        assert_eq!(later(&mut conn, "DROP TABLE tolerated_migrations"), ["29990101000000"]);
    }

    #[test]
    fn every_migration_says_whether_the_program_before_it_can_go_on() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        for (version, name) in names(&SQLITE as &dyn MigrationSource<Sqlite>).unwrap() {
            for tree in ["sqlite", "postgres"].iter().filter(|_| version.as_str() >= BEFORE) {
                let text = std::fs::read_to_string(root.join(tree).join(&name).join("up.sql")).unwrap();
                let said =
                    text.contains(&format!("INTO tolerated_migrations (version, known_since) VALUES ('{version}'"));
                assert!(said || text.contains("-- Not tolerated: "), "migrations/{tree}/{name}: see src/README.md");
            }
        }
    }

    #[test]
    fn who_waits_in_vain_gives_up_in_the_end() {
        let mut tries = 0;
        let outcome: Result<(), MigrateError> = tried_again(Duration::from_millis(1_200), "waiting", || {
            tries += 1;
            Err("canceling statement due to lock timeout".into())
        });
        assert!(outcome.is_err() && tries == 3, "{tries}");
        let mut tries = 0;
        let outcome: Result<(), MigrateError> = tried_again(PATIENCE, "waiting", || {
            tries += 1;
            Err("no such table".into())
        });
        assert!(outcome.is_err() && tries == 1);
    }
}
