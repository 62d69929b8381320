//! A backup of the embedded database, while others read and write.
//!
//! `VACUUM INTO` reads everything in one transaction: what was committed before it is in the backup, the write-ahead log
//! included, and nothing else. SQLite's online backup API, which diesel does not offer, would begin again with each
//! write of another process, and copy free pages as well.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{self, Path};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Text;

use super::{Conn, ConnectionManager, DatabaseUrl, files, migrations};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// PostgreSQL has tools of its own.
    #[error(
        "this is for SQLite: of PostgreSQL `pg_dump` makes a backup (see \"Backup and restore\" in docker/README.md)"
    )]
    NotSqlite,
    /// There is no database to back up.
    #[error("there is no database at {0}")]
    Missing(String),
    /// The place of the backup cannot be used.
    #[error("{0} cannot be written: {1}")]
    Place(String, io::Error),
    /// The database cannot be read.
    #[error("the database cannot be read: {0}")]
    Connect(#[from] diesel::ConnectionError),
    /// The copy failed.
    #[error("the backup failed: {0}")]
    Failed(#[from] diesel::result::Error),
    /// What is there is damaged, or belongs to another file.
    #[error(
        "{database} cannot be read as a whole, and nothing was changed: {cause}. Where {log} is of the file that was there \
         before, put the backup in place once more, and remove {log} first"
    )]
    Mixed {
        /// The file of the database.
        database: String,
        /// Its write-ahead log.
        log: String,
        /// What was found.
        cause: String,
    },
    /// What was written is not what was read.
    #[error("the backup is damaged: {0}")]
    Damaged(String),
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

/// Writes a backup to a new file, for its owner alone, checks it, and returns its connection.
///
/// A file that could not be finished is removed.
pub(crate) fn back_up(url: &DatabaseUrl, place: &Path) -> Result<Conn, BackupError> {
    let DatabaseUrl::Sqlite(database) = url else { return Err(BackupError::NotSqlite) };
    let database = database.path();
    if !database.is_file() {
        return Err(BackupError::Missing(database.display().to_string()));
    }
    let unusable = |error| BackupError::Place(place.display().to_string(), error);
    // To SQLite a bare name may be that of something else, as `:memory:` is.
    let place = &path::absolute(place).map_err(unusable)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(place).map_err(unusable)?);
    let outcome = write(url, place).and_then(|()| {
        sync(place).map_err(unusable)?;
        check(place)
    });
    if outcome.is_err() {
        drop(fs::remove_file(place));
    }
    outcome
}

fn write(url: &DatabaseUrl, place: &Path) -> Result<(), BackupError> {
    let Conn::Sqlite(mut conn) = ConnectionManager::new(url.clone()).open()? else {
        return Err(BackupError::NotSqlite);
    };
    // It fills a file that is there and empty. As an address, since a name need not be text.
    sql_query("VACUUM INTO ?").bind::<Text, _>(files::existing(place)).execute(&mut conn)?;
    Ok(())
}

/// SQLite does not wait for the disk here.
fn sync(place: &Path) -> io::Result<()> {
    File::open(place)?.sync_all()?;
    place.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Reads every page of the backup, and whether each index and reference is whole. An empty file would be, too.
fn check(place: &Path) -> Result<Conn, BackupError> {
    let mut conn = SqliteConnection::establish(&files::existing(place))?;
    if let Some(damage) = damage(&mut conn)? {
        return Err(BackupError::Damaged(damage));
    }
    let mut conn = Conn::Sqlite(conn);
    if !migrations::has_schema(&mut conn)? {
        return Err(BackupError::Damaged("it has no tables".to_owned()));
    }
    Ok(conn)
}

/// Refuses a file that is damaged, or was put beside the write-ahead log of another one, before anything is written to it.
///
/// Such a log has its own pages in the place of some of the file's.
pub(crate) fn require_sound(url: &DatabaseUrl) -> Result<(), BackupError> {
    let DatabaseUrl::Sqlite(database) = url else { return Ok(()) };
    let database = database.path();
    // One that has another name is refused by whoever opens it.
    if !database.is_file() || files::require_one_name(database).is_err() {
        return Ok(());
    }
    // What only reads does not bring the log into the file when it closes.
    let address = files::only_read(database);
    let found = match SqliteConnection::establish(&address) {
        Ok(mut conn) => damage(&mut conn).unwrap_or_else(|error| Some(error.to_string())),
        Err(error) => Some(error.to_string()),
    };
    let Some(cause) = found else { return Ok(()) };
    let log = files::beside(database, "-wal").display().to_string();
    Err(BackupError::Mixed { database: database.display().to_string(), log, cause })
}

/// The first page, index or reference that is not whole.
fn damage(conn: &mut SqliteConnection) -> QueryResult<Option<String>> {
    conn.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON; PRAGMA query_only = ON")?;
    let mut lines: Vec<Line> = sql_query("SELECT integrity_check AS line FROM pragma_integrity_check").load(conn)?;
    lines.retain(|Line { line }| line != "ok");
    let broken = "SELECT \"table\" || ' refers to what is not there' AS line FROM pragma_foreign_key_check";
    lines.extend(sql_query(broken).load::<Line>(conn)?);
    Ok(lines.into_iter().next().map(|Line { line }| line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_tables_is_no_backup() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, backup) = (folder.path().join("empty.db"), folder.path().join("backup.db"));
        fs::write(&empty, "").unwrap();
        let url = format!("sqlite://{}", empty.display()).parse().unwrap();
        assert!(matches!(back_up(&url, &backup).err(), Some(BackupError::Damaged(_))));
        assert!(!backup.exists());
    }
}
