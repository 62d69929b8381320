//! The files of a folder of checkpoints.
//!
//! The first write leaves a mark there, which names whose folder it is. One without
//! it, and without a checkpoint of ours, is not the one in which checkpoints were
//! kept: the volume is not mounted, or somebody has named another folder, perhaps
//! that of another installation. Nothing but an operator makes a folder.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A checkpoint is shorter.
const MAX_BYTES: u64 = 16 * 1024;

const EXTENSION: &str = "checkpoint";

/// The file that says that a folder is ours; an operator may make it, too.
pub(super) const MARK: &str = "magic-link.mark";

const MARKED: &str = "Magic Link keeps the newest checkpoint of each audit log in this folder.\n";

/// How many of the files that were written last are read each time, whatever the others' turn is.
const NEWEST: usize = 32;

/// Whose folder it is, by its mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// There is none.
    None,
    /// An operator's, for whoever comes first.
    Empty,
    /// That of a version which named nobody.
    OfNobody,
    /// Whom it names.
    Of(String),
}

/// What was found in a folder.
pub(super) struct Found {
    pub mark: Mark,
    /// Files that were read, the oldest first.
    pub files: Vec<(PathBuf, io::Result<Vec<u8>>)>,
    /// Where to go on, in the order of their names; `None` after the last one.
    pub next: Option<PathBuf>,
}

impl Found {
    /// Whether the folder is not the one of somebody, of whom it has checkpoints or not; `was_used` says whether they have kept
    /// checkpoints before.
    pub(super) fn is_foreign(&self, owner: &str, has_own: bool, was_used: bool) -> bool {
        !has_own
            && match &self.mark {
                Mark::Of(other) => other != owner,
                Mark::Empty => false,
                Mark::OfNobody => was_used || !self.files.is_empty(),
                Mark::None => was_used,
            }
    }
}

/// Reads the mark of a folder, the files that were written last, of the others those whose turn it is, and those that are to
/// be read `again`, if they are still there.
pub(super) fn look(folder: &Path, after: Option<&Path>, most: usize, again: &[PathBuf]) -> io::Result<Found> {
    let mut files = checkpoints(folder)?;
    let mut next = None;
    let again: Vec<PathBuf> = again.iter().filter(|file| files.contains(file)).cloned().collect();
    if files.len() > most {
        let newest = files.split_off(files.len().saturating_sub(NEWEST.min(most)));
        files.sort();
        files.retain(|file| after.is_none_or(|after| file.as_path() > after));
        if files.len() > most - newest.len() {
            files.truncate(most - newest.len());
            next = files.last().cloned();
        }
        files.extend(newest);
        let missing: Vec<PathBuf> = again.into_iter().filter(|file| !files.contains(file)).collect();
        files.extend(missing);
    }
    Ok(Found { mark: mark(folder)?, files: files.into_iter().map(|file| (file.clone(), read(&file))).collect(), next })
}

/// The file of a log in a folder.
pub(super) fn of_log(folder: &Path, tenant_id: &str) -> PathBuf {
    folder.join(format!("{tenant_id}.{EXTENSION}"))
}

/// Reads a file, if it is there.
pub(super) fn known(file: &Path) -> io::Result<Option<Vec<u8>>> {
    if file.try_exists()? { read(file).map(Some) } else { Ok(None) }
}

/// Replaces a file, so that it is whole at every moment, and marks the folder; `false` if that is not the owner's, by what is
/// found there now. `is_own` tells the owner's checkpoints.
pub(super) fn replace(
    folder: &Path,
    file: &Path,
    text: &str,
    (owner, was_used): (&str, bool),
    is_own: impl Fn(&[u8]) -> bool,
) -> io::Result<bool> {
    if mark(folder)? != Mark::Of(owner.to_owned()) {
        let found = look(folder, None, NEWEST, &[])?;
        let has_own = found.files.iter().any(|(_, read)| read.as_ref().is_ok_and(|bytes| is_own(bytes)));
        if found.is_foreign(owner, has_own, was_used) {
            return Ok(false);
        }
        write(&folder.join(MARK), &format!("{MARKED}{owner}\n"))?;
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

fn mark(folder: &Path) -> io::Result<Mark> {
    let Some(bytes) = known(&folder.join(MARK))? else { return Ok(Mark::None) };
    let text = String::from_utf8_lossy(&bytes);
    Ok(match text.strip_prefix(MARKED).unwrap_or(&text).trim() {
        "" if text.trim().is_empty() => Mark::Empty,
        "" => Mark::OfNobody,
        owner => Mark::Of(owner.to_owned()),
    })
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
        let replaced = |text: &str, owner: &str, was_used: bool| {
            replace(&outside, &file, text, (owner, was_used), |bytes| bytes.starts_with(owner.as_bytes()))
        };
        assert!(
            look(&outside, None, 1, &[]).is_err() && replaced("us: first", "us", false).is_err() && !outside.exists()
        );
        fs::create_dir(&outside).unwrap();
        assert!(!replaced("us: first", "us", true).unwrap());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        // A new installation's, or one of a version that has left no mark, or one that names nobody.
        assert!(replaced("us: first", "us", false).unwrap());
        assert_eq!(mark(&outside).unwrap(), Mark::Of("us".to_owned()));
        fs::remove_file(outside.join(MARK)).unwrap();
        assert!(replaced("us: second", "us", true).unwrap());
        fs::write(outside.join(MARK), MARKED).unwrap();
        assert!(!replaced("them: first", "them", true).unwrap() && !replaced("them: first", "them", false).unwrap());
        assert!(replaced("us: third", "us", true).unwrap());
        fs::remove_file(&file).unwrap();
        assert!(replaced("us: fourth", "us", true).unwrap());
        // Another installation's, until an operator says that it is not any more.
        assert!(!replaced("them: first", "them", true).unwrap() && !replaced("them: first", "them", false).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "us: fourth");
        fs::write(outside.join(MARK), "").unwrap();
        assert!(replaced("them: first", "them", true).unwrap());
    }

    #[test]
    fn every_file_has_its_turn_and_those_that_were_written_last_are_always_read() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..100 {
            fs::write(of_log(place.path(), &format!("t{number:02}")), "").unwrap();
        }
        let (mut after, mut seen, mut turns) = (None::<PathBuf>, std::collections::BTreeSet::new(), 0);
        let newest = checkpoints(place.path()).unwrap().pop().unwrap();
        loop {
            let found = look(place.path(), after.as_deref(), 50, &[]).unwrap();
            assert!(found.files.len() <= 50 && found.files.iter().any(|(file, _)| *file == newest));
            seen.extend(found.files.into_iter().map(|(file, _)| file));
            turns += 1;
            after = found.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen.len(), turns), (100, 4));
        assert_eq!(look(place.path(), None, 100, &[]).unwrap().files.len(), 100);
    }
}
