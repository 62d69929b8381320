//! The files of a folder of checkpoints.
//!
//! The first write leaves a mark there. A folder without one, and without a
//! checkpoint, is not the one in which checkpoints were kept: the volume is not
//! mounted, or somebody has named another folder. Nothing but an operator makes a
//! folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A checkpoint is shorter.
const MAX_BYTES: u64 = 16 * 1024;

const EXTENSION: &str = "checkpoint";

/// The file that says that a folder is ours; an operator may make it, too.
pub(super) const MARK: &str = "magic-link.mark";

const MARKED: &str = "Magic Link keeps the newest checkpoint of each audit log in this folder.\n";

/// What was found in a folder.
pub(super) struct Found {
    /// Whether checkpoints were kept here, or an operator says that they are from now on.
    pub is_ours: bool,
    /// The newest files, the oldest first.
    pub files: Vec<(PathBuf, io::Result<Vec<u8>>)>,
}

/// Reads a folder, and its newest files.
pub(super) fn look(folder: &Path, most: usize) -> io::Result<Found> {
    let all = checkpoints(folder)?;
    let is_ours = !all.is_empty() || is_marked(folder)?;
    let newest = all.into_iter().rev().take(most).rev();
    Ok(Found { is_ours, files: newest.map(|file| (file.clone(), read(&file))).collect() })
}

/// The file of a log in a folder.
pub(super) fn of_log(folder: &Path, tenant_id: &str) -> PathBuf {
    folder.join(format!("{tenant_id}.{EXTENSION}"))
}

/// Reads a file, if it is there.
pub(super) fn known(file: &Path) -> io::Result<Option<Vec<u8>>> {
    if file.try_exists()? { read(file).map(Some) } else { Ok(None) }
}

/// Replaces a file, so that it is whole at every moment, and marks the folder; `false` if that is not ours, though one was
/// used before.
pub(super) fn replace(folder: &Path, file: &Path, text: &str, was_used: bool) -> io::Result<bool> {
    if !is_marked(folder)? {
        if was_used && checkpoints(folder)?.is_empty() {
            return Ok(false);
        }
        fs::write(folder.join(MARK), MARKED)?;
    }
    write(file, text)?;
    Ok(true)
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut opened = fs::File::create(&fresh)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&fresh, file)
}

fn is_marked(folder: &Path) -> io::Result<bool> {
    folder.join(MARK).try_exists()
}

/// The checkpoints in a folder, the oldest first.
fn checkpoints(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    crate::files::read(file, MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_an_operator_makes_a_folder_or_begins_another_one() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().join("outside");
        let file = of_log(&outside, "acme");
        assert!(look(&outside, 1).is_err() && replace(&outside, &file, "first", false).is_err() && !outside.exists());
        fs::create_dir(&outside).unwrap();
        assert!(!look(&outside, 1).unwrap().is_ours);
        assert!(!replace(&outside, &file, "first", true).unwrap());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        // A new installation's, or one of a version that has left no mark.
        assert!(replace(&outside, &file, "first", false).unwrap());
        fs::remove_file(outside.join(MARK)).unwrap();
        assert!(look(&outside, 1).unwrap().is_ours && replace(&outside, &file, "second", true).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(look(&outside, 1).unwrap().is_ours && replace(&outside, &file, "third", true).unwrap());
    }
}
