//! The files of the embedded database: only their owner reads them, and one process at a time sets them up.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::secrets::tighten;

/// How long a process waits while another one sets the database up.
const SET_UP_TIMEOUT: Duration = Duration::from_mins(1);

/// How often it looks whether that is done.
const LOOK: Duration = Duration::from_millis(20);

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
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        tighten(Path::new(&name));
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
    fn one_at_a_time_sets_a_database_up() {
        let folder = tempfile::tempdir().unwrap();
        let alone = prepare(&folder.path().join("one.db")).unwrap();
        let other = File::open(folder.path()).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(alone);
        assert!(other.try_lock().is_ok());
    }
}
