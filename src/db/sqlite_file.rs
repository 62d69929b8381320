//! The file of the embedded database, whatever names lead to it.

use std::fs;
use std::path::{Path, PathBuf};

/// How many symbolic links are followed, as the system does.
const LINKS: usize = 40;

/// The file of an embedded database.
///
/// SQLite keeps its write-ahead log beside the file itself, and not beside a symbolic link to it. So whatever opens the
/// database, looks beside it or tells where it is goes by [`SqliteFile::path`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteFile {
    written: PathBuf,
    real: PathBuf,
}

impl SqliteFile {
    /// Follows the links of a name, which may lead to a file that is not there yet.
    pub(crate) fn at(written: PathBuf) -> Self {
        let mut real = written.clone();
        for _ in 0..LINKS {
            let Ok(target) = fs::read_link(&real) else { break };
            real = real.parent().unwrap_or_else(|| Path::new("")).join(target);
        }
        if real != written {
            real = fs::canonicalize(&real).unwrap_or(real);
        }
        Self { written, real }
    }

    /// The file itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.real
    }

    /// The name in the configuration: who changes where it leads changes the database.
    pub(crate) fn written(&self) -> &Path {
        &self.written
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_followed_to_the_file_itself() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().canonicalize().unwrap();
        fs::create_dir_all(folder.join("volume/deep")).unwrap();
        symlink("volume", folder.join("names")).unwrap();
        symlink("deep/real.db", folder.join("volume/second.db")).unwrap();
        symlink(folder.join("names/second.db"), folder.join("first.db")).unwrap();
        let real = folder.join("volume/deep/real.db");
        let of = |name: &str| SqliteFile::at(folder.join(name)).path().to_owned();
        // Before the file is there, and after.
        assert_eq!(of("first.db"), folder.join("names/deep/real.db"));
        fs::write(&real, "").unwrap();
        assert_eq!((of("first.db"), of("names/second.db")), (real.clone(), real));
        // What is no link is left as it was written.
        assert_eq!(of("names/deep/real.db"), folder.join("names/deep/real.db"));
        symlink("round.db", folder.join("round.db")).unwrap();
        assert_eq!(of("round.db"), folder.join("round.db"));
    }
}
