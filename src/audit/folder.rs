//! The newest checkpoint of each log in a folder outside of the database: a file each, as it was signed.
//!
//! A database that lacks one of them was restored from a backup, or lost its end.
//! It is not ready ([`require_whole`]) until `magic-link restore` has named the
//! checkpoint, and until then no file is replaced: it is the evidence.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::key::LogKey;
use super::restored::{OutsideCheckpoint, OutsideCheckpoints};
use super::store::{self, CheckpointRow};
use crate::context::Context;
use crate::db::Conn;
use crate::error::{Code, Error};
use crate::records::restores;

/// Number of checkpoints that readiness compares with the database: those that were written last.
const COMPARED: usize = 32;

/// A checkpoint is shorter.
const MAX_BYTES: u64 = 16 * 1024;

/// How long the folder may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

const EXTENSION: &str = "checkpoint";

/// The folder, if one is configured.
pub(crate) struct CheckpointFolder {
    path: Option<PathBuf>,
    patience: Patience,
    /// The newest checkpoints that this instance has read or written, the newest last.
    newest: Mutex<Vec<OutsideCheckpoint>>,
    /// Whether the database was behind one of them, or a restore was not complete, when it was compared last.
    behind: AtomicBool,
}

impl CheckpointFolder {
    /// Reads the newest files; a file that is no checkpoint of this service is skipped with a warning.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub(crate) async fn open(path: Option<PathBuf>, key: &LogKey) -> io::Result<Self> {
        let (mut newest, patience) = (Vec::new(), Patience::default());
        if let Some(path) = path.clone() {
            let read = move || {
                fs::create_dir_all(&path)?;
                let newest = files(&path)?.into_iter().rev().take(COMPARED).rev();
                Ok(newest.map(|file| (read(&file), file)).collect::<Vec<_>>())
            };
            for (bytes, file) in patience.bounded(read).await? {
                match parse(bytes, key) {
                    Ok(checkpoint) => newest.push(checkpoint),
                    Err(why) => tracing::warn!(checkpoint.file = %file.display(), error.cause = why, "skipped"),
                }
            }
        }
        // Until they were compared, nobody knows.
        let behind = AtomicBool::new(!newest.is_empty());
        Ok(Self { path, patience, newest: Mutex::new(newest), behind })
    }

    /// Whether a folder is configured.
    pub(crate) const fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the database was restored from a backup, and `magic-link restore` was not run, as [`require_whole`] has seen
    /// it last: what stands in the backup's queues was done before, and what it is about may have ended since.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// The checkpoint of every log.
    ///
    /// # Errors
    /// The first file that is no checkpoint of this service, and why.
    pub(crate) fn all(&self, key: &LogKey) -> Result<OutsideCheckpoints, String> {
        let mut all = OutsideCheckpoints::default();
        let Some(path) = &self.path else { return Ok(all) };
        for file in files(path).map_err(|error| format!("{}: {error}", path.display()))? {
            let added = parse(read(&file), key).and_then(|checkpoint| all.add(checkpoint));
            added.map_err(|why| format!("{}: {why}; move it away first", file.display()))?;
        }
        Ok(all)
    }

    /// Keeps a checkpoint, unless the file holds one that the database lacks.
    pub(super) async fn keep(&self, cx: &Context, key: &LogKey, checkpoint: &CheckpointRow) -> Result<(), String> {
        let Some(path) = &self.path else { return Ok(()) };
        let fresh = OutsideCheckpoint::parse(key, checkpoint.note.as_bytes())?;
        let file = path.join(format!("{}.{EXTENSION}", checkpoint.tenant_id));
        let known = file.clone();
        let look = move || if known.try_exists()? { read(&known).map(Some) } else { Ok(None) };
        let known = self.patience.bounded(look).await;
        if let Some(bytes) = known.map_err(|error| error.to_string())? {
            let known = parse(Ok(bytes), key)?;
            let lacking =
                cx.store.read(move |conn| lacking(conn, &[known])).await.map_err(|error| error.to_string())?;
            if lacking.is_some() {
                return Err("the file holds a checkpoint that the database lacks: run `magic-link restore`".to_owned());
            }
        }
        let note = checkpoint.note.clone();
        self.patience.bounded(move || replace(&file, &note)).await.map_err(|error| error.to_string())?;
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.retain(|one| one.tenant_id != fresh.tenant_id);
        newest.push(fresh);
        let surplus = newest.len().saturating_sub(COMPARED);
        newest.drain(..surplus);
        Ok(())
    }
}

/// Refuses a database that was restored from a backup, and has not gone through `magic-link restore`.
///
/// # Errors
/// `restore_required`
pub(crate) async fn require_whole(cx: &Context, folder: &CheckpointFolder) -> Result<(), Error> {
    let newest = folder.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let compared = cx
        .store
        .read(move |conn| {
            if restores::is_running(conn)? {
                let detail = "a restore is not complete: run `magic-link restore` again";
                return Err(Error::new(Code::RestoreRequired).detail(detail));
            }
            let Some(lacking) = lacking(conn, &newest)? else { return Ok(()) };
            tracing::error!(log.tenant = lacking.tenant_id, log.size = lacking.size, "the database lacks a checkpoint");
            let detail = "the database is behind a checkpoint that was kept outside: run `magic-link restore`";
            Err(Error::new(Code::RestoreRequired).detail(detail))
        })
        .await;
    match &compared {
        Ok(()) => folder.behind.store(false, Ordering::Relaxed),
        Err(error) if error.code() == Code::RestoreRequired => folder.behind.store(true, Ordering::Relaxed),
        // Nothing was compared.
        Err(_) => {}
    }
    compared
}

/// The first checkpoint that the database has not signed, and that no restore has named.
fn lacking(conn: &mut Conn, checkpoints: &[OutsideCheckpoint]) -> Result<Option<OutsideCheckpoint>, Error> {
    if checkpoints.is_empty() {
        return Ok(None);
    }
    let size = |checkpoint: &OutsideCheckpoint| i64::try_from(checkpoint.size).unwrap_or(i64::MAX);
    let tenants: Vec<&str> = checkpoints.iter().map(|one| one.tenant_id.as_str()).collect();
    let sizes: Vec<i64> = checkpoints.iter().map(size).collect();
    let (signed, restored) = (store::roots(conn, &tenants, &sizes)?, restores::of_logs(conn, &tenants)?);
    let is_there = |one: &OutsideCheckpoint| {
        let is_signed = signed.iter().any(|(tenant_id, at, root)| {
            *tenant_id == one.tenant_id && *at == size(one) && root.as_slice() == one.root.0.as_slice()
        });
        let mut of_log = restored.iter().filter(|restore| restore.tenant_id == one.tenant_id);
        // A restore lets checkpoints of names from before it be missing, and none of its own.
        let suffix = one.log_name.split_once('/').map(|(_, suffix)| suffix);
        let own = of_log.clone().find(|restore| suffix == Some(restore.suffix.as_str()));
        is_signed
            || of_log.any(|restore| {
                let is_later = own.is_none_or(|own| restore.restored_at > own.restored_at);
                is_later
                    && restore.checkpoint_size.is_some_and(|named| {
                        let is_named = restore.checkpoint_root.as_deref() == Some(one.root.0.as_slice());
                        size(one) < named || (size(one) == named && is_named)
                    })
            })
    };
    Ok(checkpoints.iter().find(|one| !is_there(one)).cloned())
}

/// The checkpoints in a folder, the oldest first.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
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

fn parse(read: io::Result<Vec<u8>>, key: &LogKey) -> Result<OutsideCheckpoint, String> {
    let bytes = read.map_err(|error| error.to_string())?;
    // A backup from before a change of the key does not know who signed what came after it.
    OutsideCheckpoint::parse(key, &bytes).or_else(|why| OutsideCheckpoint::of_unknown_key(key, &bytes).ok_or(why))
}

/// Replaces a file, so that it is whole at every moment.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    let mut opened = fs::File::create(&fresh)?;
    opened.write_all(text.as_bytes())?;
    opened.sync_all()?;
    fs::rename(&fresh, file)
}

/// Works on the folder one at a time, on a thread that is left behind where the folder does not answer: it may be that of
/// another machine. Until it does, nothing else is tried, so that no more than one thread hangs.
#[derive(Clone, Default)]
struct Patience(Arc<tokio::sync::Mutex<()>>);

impl Patience {
    async fn bounded<T: Send + 'static>(&self, work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
        self.within(PATIENCE, work).await
    }

    async fn within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let hangs = || io::Error::new(io::ErrorKind::TimedOut, "the folder does not answer");
        let Ok(turn) = Arc::clone(&self.0).try_lock_owned() else { return Err(hangs()) };
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            let done = work();
            drop(turn);
            drop(tell.send(done));
        })?;
        match tokio::time::timeout(limit, told).await {
            Ok(done) => done.map_err(io::Error::other)?,
            Err(_elapsed) => Err(hangs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_hangs_costs_one_thread() {
        let patience = Patience::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hanging = patience.within(Duration::from_millis(20), move || held.recv().map_err(io::Error::other)).await;
        assert_eq!(hanging.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // Nothing is begun that could hang as well.
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let next = patience.bounded(move || tell.send(()).map_err(io::Error::other)).await;
        assert_eq!(next.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(told.try_recv().is_err());
        drop(release);
        let free = async {
            while patience.bounded(|| Ok(())).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        free.await;
    }
}
