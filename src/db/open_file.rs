//! The file of an embedded database as a connection has opened it, and the two files beside it.
//!
//! What was committed last stands in the write-ahead log alone. Where that is
//! removed under a service that runs, its connections go on with a log that nobody
//! else sees: what they acknowledge is lost with them, and another process has a
//! truth of its own. So such connections work no more. They stay open, and no other
//! one is opened beside them: SQLite would let it share their index of another log.
//! The last one that closes writes what the lost log holds into the file.
//!
//! Where the file is moved away and its log is not, SQLite would take another file at that place for the one that the log
//! belongs to, and throw the log of an empty one away: nothing is opened until the file is back. A file that was replaced
//! together with what is beside it is another database, and opened anew.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::{Connection, ConnectionError, ConnectionResult, SqliteConnection};

use super::Conn;
use super::files::beside;
use super::sqlite_file::SqliteFile;

/// Whether a connection leads to the database that the URL names now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Current,
    /// Another file has taken the place of the one that was opened, without the log of that one.
    Replaced,
    /// The file is not where it was, and what was committed last may stand in the log that is.
    Moved,
    /// The file is the same, and its write-ahead log, or the index of it, is another one or gone.
    LogLost,
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

/// The write-ahead log and its index.
type Beside = [Option<FileId>; 2];

/// Whether one of the files is where it was. Where the system does not number files, nobody can tell.
fn is_left(known: &Beside, found: &Beside) -> bool {
    known.iter().zip(found).any(|(known, found)| known.is_some() && known == found)
}

/// The file, and the paths of those beside it.
#[derive(Debug)]
struct Paths {
    /// As it is named: a symbolic link that leads elsewhere names another file.
    file: PathBuf,
    /// The file itself, which the other two are beside.
    real: PathBuf,
    beside: [PathBuf; 2],
}

impl Paths {
    fn file(&self) -> Option<FileId> {
        FileId::of(&self.file)
    }

    /// Whether the name has led to another file since it was followed.
    fn leads_elsewhere(&self) -> bool {
        self.file != self.real && self.file() != FileId::of(&self.real)
    }

    fn beside(&self) -> Beside {
        [FileId::of(&self.beside[0]), FileId::of(&self.beside[1])]
    }
}

/// What the connections of all pools of one manager have opened.
#[derive(Debug, Default)]
struct Known {
    file: Option<FileId>,
    beside: Beside,
    /// Number of connections to these files. With the last one SQLite removes those beside.
    open: usize,
    /// The file whose log was lost.
    lost: Option<FileId>,
}

/// The file of the connections of all pools of one manager.
#[derive(Debug)]
pub(super) struct DatabaseFile {
    paths: Paths,
    known: Mutex<Known>,
}

impl DatabaseFile {
    pub(super) fn new(file: &SqliteFile) -> Arc<Self> {
        let real = file.path().to_owned();
        let beside = ["-wal", "-shm"].map(|suffix| beside(&real, suffix));
        Arc::new(Self { paths: Paths { file: file.written().to_owned(), real, beside }, known: Mutex::default() })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a connection, unless there are some whose log is lost, or whose file was moved away.
    ///
    /// # Errors
    /// Those of `open`, of [`DatabaseFile::lost`] and of [`DatabaseFile::moved`].
    pub(super) fn open(
        self: &Arc<Self>,
        open: impl FnOnce() -> ConnectionResult<Conn>,
    ) -> ConnectionResult<(Conn, OpenFile)> {
        // Before it is opened: one that is replaced meanwhile is then taken for the one before.
        let before = self.paths.file();
        let is_lost = |known: &Known, file| {
            let is_same = file == known.file && known.open > 0;
            (known.lost.is_some() && known.lost == file) || (is_same && known.beside != self.paths.beside())
        };
        let is_moved = |known: &Known, file: Option<FileId>| {
            let is_another = known.open > 0 && known.file != file;
            is_another && (file.is_none() || is_left(&known.beside, &self.paths.beside()))
        };
        {
            let known = self.known();
            if is_lost(&known, before) {
                return Err(self.lost());
            }
            if is_moved(&known, before) || self.paths.leads_elsewhere() {
                return Err(self.moved());
            }
        }
        let opened = open()?;
        let file = before.or_else(|| self.paths.file());
        let mut known = self.known();
        if is_lost(&known, file) {
            return Err(self.lost());
        }
        let beside = self.paths.beside();
        if known.file == file {
            known.open += 1;
        } else {
            *known = Known { file, open: 1, ..Known::default() };
        }
        known.beside = beside;
        Ok((opened, OpenFile { of: Arc::clone(self), file, beside }))
    }

    fn lost(&self) -> ConnectionError {
        ConnectionError::BadConnection(format!("{} {LOST}", self.paths.beside[0].display()))
    }

    fn moved(&self) -> ConnectionError {
        ConnectionError::BadConnection(format!("{} {MOVED}", self.paths.file.display()))
    }
}

/// Of a log that was removed; `failure.rs` knows both by their end.
const LOST: &str = "was removed or replaced while the database was open";

/// Of a file that was moved away from its log.
const MOVED: &str = "was moved away or replaced, and its write-ahead log was not, while the database was open";

/// The file that one connection has opened.
#[derive(Debug)]
pub(super) struct OpenFile {
    of: Arc<DatabaseFile>,
    file: Option<FileId>,
    beside: Beside,
}

impl OpenFile {
    /// Looks at the files.
    pub(super) fn standing(&self) -> Standing {
        // The log first: who replaces the database removes it before, or after.
        let beside = self.of.paths.beside();
        let file = self.of.paths.file();
        if file != self.file {
            let is_moved = file.is_none() || is_left(&self.beside, &beside);
            return if is_moved { Standing::Moved } else { Standing::Replaced };
        }
        if beside == self.beside {
            return Standing::Current;
        }
        self.of.known().lost = self.file;
        Standing::LogLost
    }

    /// Lets a connection close, or only be forgotten: where another process has begun a log of its own, to close the last
    /// connection would undo what that process has acknowledged.
    pub(super) fn leave(&self, conn: &mut Conn) {
        if self.of.paths.file() != self.file {
            return;
        }
        let [log, _] = self.of.paths.beside();
        if log == self.beside[0] || log.is_none() {
            return;
        }
        tracing::error!(
            database.file = %self.of.paths.file.display(),
            "another process has begun a write-ahead log: what this one wrote since its own was removed is lost"
        );
        if let Ok(none) = SqliteConnection::establish(":memory:") {
            std::mem::forget(std::mem::replace(conn, Conn::Sqlite(none)));
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let mut known = self.of.known();
        if known.file == self.file {
            known.open = known.open.saturating_sub(1);
        }
    }
}
