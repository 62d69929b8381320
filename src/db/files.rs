//! The files of the embedded database: only their owner reads them, and one process at a time sets them up.

use std::fmt::Write;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::secrets::tighten;

/// How long a process waits while another one sets the database up.
const SET_UP_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it looks whether that is done.
const LOOK: Duration = Duration::from_millis(20);

/// The address by which SQLite opens a file that is there, and makes none.
///
/// It makes one by itself where there is none, and throws away the write-ahead log that it finds beside it.
pub(super) fn existing(database: &Path) -> String {
    address(database, "rw")
}

/// The address by which SQLite opens a file that is there, and writes nothing to it.
pub(super) fn only_read(database: &Path) -> String {
    address(database, "ro")
}

fn address(database: &Path, mode: &str) -> String {
    let mut address = String::from("file:");
    let bytes = database.as_os_str().as_encoded_bytes();
    match bytes {
        [b'/', ..] => address.push_str("//"),
        [_, b':', ..] if cfg!(windows) => address.push_str("///"),
        _ => {}
    }
    for byte in bytes {
        match byte {
            b'\\' if cfg!(windows) => address.push('/'),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                address.push(char::from(*byte));
            }
            _ => drop(write!(address, "%{byte:02X}")),
        }
    }
    address.push_str("?mode=");
    address.push_str(mode);
    address
}

/// Refuses a database that has a second name: SQLite keeps a write-ahead log beside each, and who opens the one does not see
/// what was committed through the other.
pub(super) fn require_one_name(database: &Path) -> Result<(), String> {
    #[cfg(unix)]
    let names = fs::metadata(database).map_or(1, |file| std::os::unix::fs::MetadataExt::nlink(&file));
    #[cfg(not(unix))]
    let names = 1;
    if names > 1 {
        return Err(format!(
            "{} is one of {names} names (hard links) of the database, and SQLite keeps {ONE_LOG_FOR_EACH}: remove the others,              stopping whoever uses them first",
            database.display()
        ));
    }
    Ok(())
}

/// Of a database with several names; `failure.rs` knows it by this.
pub(super) const ONE_LOG_FOR_EACH: &str = "a write-ahead log beside each name";

/// A file that SQLite keeps beside a database.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Refuses to make a database beside a write-ahead log: the file that it belongs to was moved away, or is damaged. SQLite
/// never leaves one beside an empty file.
fn require_no_log(database: &Path) -> io::Result<()> {
    let size = |file: &Path| fs::metadata(file).ok().map(|file| file.len());
    let log = beside(database, "-wal");
    let refused = match (size(database), size(&log)) {
        (None, Some(_)) => "is not there",
        (Some(0), Some(1..)) => "is empty",
        _ => return Ok(()),
    };
    let (log, database) = (log.display(), database.display());
    let why = format!(
        "{database} {refused}, and {log} holds what was committed last: put the database back, or restore a backup and \
         remove the log"
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// Creates folder and file of the embedded database, for its owner alone, and takes from others what they may read.
///
/// While the result lives, no other process is at the same place: SQLite refuses one of two that switch a new file to a
/// write-ahead log at once.
pub(super) fn prepare(database: &Path) -> io::Result<Option<File>> {
    let folder = match database.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    let alone = lock(folder)?;
    require_no_log(database)?;
    let mut options = OpenOptions::new();
    // Never opened if it exists: to close it would release the locks that this process holds on it.
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(database) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !fs::metadata(database)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is no file", database.display())));
    }
    // SQLite gives the other two the mode of the first.
    for suffix in ["", "-wal", "-shm"] {
        tighten(&beside(database, suffix));
    }
    Ok(alone)
}

/// Waits until no other process has the folder; `None` where the file system knows no locks.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) if began.elapsed() < SET_UP_TIMEOUT => std::thread::park_timeout(LOOK),
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "another process is setting up a database there"));
            }
            Err(TryLockError::Error(_unsupported)) => return Ok(None),
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn only_the_owner_reads_what_is_made_and_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("deep/new.db");
        drop(prepare(&database).unwrap());
        assert_eq!((mode(&database), mode(database.parent().unwrap())), (0o600, 0o700));
        let (old, log) = (folder.path().join("old.db"), folder.path().join("old.db-wal"));
        for file in [&old, &log] {
            fs::write(file, "").unwrap();
            fs::set_permissions(file, fs::Permissions::from_mode(0o664)).unwrap();
        }
        drop(prepare(&old).unwrap());
        assert_eq!((mode(&old), mode(&log)), (0o600, 0o600));
    }

    #[test]
    fn what_is_no_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner.db");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(prepare(&inner).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(mode(&inner), 0o755);
    }

    #[test]
    fn nothing_is_made_beside_a_write_ahead_log() {
        let folder = tempfile::tempdir().unwrap();
        let (database, log) = (folder.path().join("old.db"), folder.path().join("old.db-wal"));
        fs::write(&log, "committed").unwrap();
        assert_eq!(prepare(&database).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!database.exists());
        fs::write(&database, "").unwrap();
        assert_eq!(prepare(&database).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read(&log).unwrap(), b"committed");
        fs::write(&database, "a database").unwrap();
        drop(prepare(&database).unwrap());
    }

    #[test]
    fn only_what_is_there_is_opened_whatever_its_name() {
        use diesel::connection::SimpleConnection;
        use diesel::{Connection, SqliteConnection};
        let folder = tempfile::tempdir().unwrap();
        for name in ["plain.db", "a b%20?c#d&e=f.db", "Größe:1.db"] {
            let database = folder.path().join(name);
            assert!(SqliteConnection::establish(&existing(&database)).is_err(), "{name}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
            drop(prepare(&database).unwrap());
            let mut opened = SqliteConnection::establish(&existing(&database)).unwrap();
            opened.batch_execute("CREATE TABLE t (a TEXT)").unwrap();
            drop(opened);
            assert!(fs::metadata(&database).unwrap().len() > 0, "{name}");
            fs::remove_file(&database).unwrap();
        }
    }

    #[test]
    fn a_database_has_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let (database, other) = (folder.path().join("one.db"), folder.path().join("other.db"));
        drop(prepare(&database).unwrap());
        fs::hard_link(&database, &other).unwrap();
        assert!(require_one_name(&database).is_err() && require_one_name(&other).is_err());
        fs::remove_file(&database).unwrap();
        require_one_name(&other).unwrap();
    }

    #[test]
    fn one_at_a_time_sets_a_database_up() {
        let folder = tempfile::tempdir().unwrap();
        let alone = prepare(&folder.path().join("one.db")).unwrap();
        let other = File::open(folder.path()).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(alone);
        assert!(other.try_lock().is_ok());
    }
}
