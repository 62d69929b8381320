//! The newest checkpoint of each log in a folder outside of the database: a file each, as it was signed.
//!
//! A database that lacks one of them was restored from a backup, or lost its end.
//! It is not ready ([`require_whole`]) until `magic-link restore` has named the
//! checkpoint, and until then no file is replaced: it is the evidence.
//!
//! Other copies of the service write there, too, so the folder is read again and
//! again. One that is not there, or not the one that was used, vouches for
//! nothing, and is as bad as a database that is behind.

mod files;
mod patience;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::files::Found;
use self::patience::Patience;
use super::deliver::CheckpointChannel;
use super::key::KnownKeys;
use super::restored::{OutsideCheckpoint, OutsideCheckpoints};
use super::store::{self, CheckpointRow};
use crate::context::Context;
use crate::db::Conn;
use crate::error::{Code, Error};
use crate::records::restores;

/// Number of checkpoints that are compared with the database: those that were written last.
const COMPARED: usize = 32;

/// How long what was read in the folder counts.
const FRESH: Duration = Duration::from_secs(10);

/// Why the folder vouches for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderFault {
    /// There is none.
    Missing,
    /// Checkpoints were kept, and not here.
    Other,
    /// It cannot be read, or does not answer.
    Unreadable,
}

impl FolderFault {
    /// What is wrong, and what to do; without the folder's path.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Missing => "the folder of audit.checkpoint_folder is not there: mount it, or make it",
            Self::Other => {
                "the folder of audit.checkpoint_folder holds none of the checkpoints that were kept: mount the volume, or, \
                 where this is another folder on purpose, put an empty file magic-link.mark into it"
            }
            Self::Unreadable => "the folder of audit.checkpoint_folder cannot be read",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable,
        }
    }
}

/// What was read in the folder.
#[derive(Debug, Clone, Default)]
struct Seen {
    at: Option<Instant>,
    /// The newest checkpoints, the newest last.
    newest: Vec<OutsideCheckpoint>,
    /// Files that are no checkpoints of ours.
    skipped: Vec<PathBuf>,
    fault: Option<FolderFault>,
}

impl Seen {
    /// The checkpoints among what was found; a file that is none is told once.
    fn checkpoints_of(&mut self, found: Found, keys: &KnownKeys) -> Vec<OutsideCheckpoint> {
        let (mut newest, mut skipped) = (Vec::new(), Vec::new());
        for (file, bytes) in found.files {
            match parse(bytes, keys) {
                Ok(checkpoint) => newest.push(checkpoint),
                Err(why) => {
                    if !self.skipped.contains(&file) {
                        tracing::warn!(checkpoint.file = %file.display(), error.cause = why, "skipped");
                    }
                    skipped.push(file);
                }
            }
        }
        self.skipped = skipped;
        newest
    }
}

/// The folder, if one is configured.
pub(crate) struct CheckpointFolder {
    path: Option<PathBuf>,
    patience: Patience,
    seen: Mutex<Seen>,
    /// Whether the database was behind a checkpoint, a restore was not complete, or nobody could tell, when that was asked
    /// last.
    behind: AtomicBool,
}

impl CheckpointFolder {
    /// Reads the folder, which nobody makes. A file that is no checkpoint of this service is skipped with a warning.
    ///
    /// # Errors
    /// When the store is unavailable. A folder that cannot be read is a fault that [`require_whole`] tells.
    pub(crate) async fn open(cx: &Context) -> Result<Self, Error> {
        let path = cx.config.audit.checkpoint_folder.clone();
        // Until it was read and compared, nobody knows.
        let fault = path.as_ref().map(|_| FolderFault::Unreadable);
        let behind = AtomicBool::new(path.is_some());
        let seen = Mutex::new(Seen { fault, ..Seen::default() });
        let folder = Self { path, patience: Patience::default(), seen, behind };
        folder.look(cx).await?;
        Ok(folder)
    }

    /// Whether a folder is configured.
    pub(crate) const fn is_configured(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the database was restored from a backup, and `magic-link restore` was not run, or nobody can tell, as it was
    /// asked last: what stands in the backup's queues was done before, and what it is about may have ended since.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Why the folder vouches for nothing, as it was read last.
    pub(crate) fn fault(&self) -> Option<FolderFault> {
        self.seen().fault
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the folder again, unless it was read a moment ago. What was read before counts on where it only takes its time.
    async fn look(&self, cx: &Context) -> Result<(), Error> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        if self.seen().at.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        let (keys, was_used) = known(cx).await?;
        let place = path.clone();
        let found = self.patience.at_once(move || files::look(&place, COMPARED)).await;
        let mut seen = self.seen();
        let (newest, fault) = match found {
            Ok(found) => {
                let fault = fault_of(&found, was_used);
                (seen.checkpoints_of(found, &keys), fault)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && seen.fault.is_none() => {
                tracing::warn!(checkpoint.folder = %path.display(), error.cause = %error, "checkpoints cannot be read");
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(checkpoint.folder = %path.display(), error.cause = %error, "checkpoints cannot be read");
                // What was there is compared on.
                (std::mem::take(&mut seen.newest), Some(FolderFault::of(&error)))
            }
        };
        if let Some(fault) = fault.filter(|fault| seen.fault != Some(*fault)) {
            tracing::error!(checkpoint.folder = %path.display(), error.cause = fault.words(), "no folder for checkpoints");
        }
        (seen.at, seen.newest, seen.fault) = (Some(Instant::now()), newest, fault);
        Ok(())
    }

    /// The checkpoint of every log.
    ///
    /// # Errors
    /// Why the folder vouches for nothing, or the first file that is no checkpoint of this service, and why.
    pub(crate) async fn all(&self, cx: &Context) -> Result<OutsideCheckpoints, String> {
        let mut all = OutsideCheckpoints::default();
        let Some(path) = self.path.clone() else { return Ok(all) };
        let (keys, was_used) = known(cx).await.map_err(|error| error.to_string())?;
        let (place, fault) = (path.clone(), |fault: FolderFault| format!("{}: {}", path.display(), fault.words()));
        let found = self.patience.bounded(move || files::look(&place, usize::MAX)).await;
        let found = found.map_err(|error| format!("{} ({error})", fault(FolderFault::of(&error))))?;
        if let Some(other) = fault_of(&found, was_used) {
            return Err(fault(other));
        }
        for (file, bytes) in found.files {
            let added = parse(bytes, &keys).and_then(|checkpoint| all.add(checkpoint));
            added.map_err(|why| format!("{}: {why}; move it away first", file.display()))?;
        }
        Ok(all)
    }

    /// Keeps a checkpoint, unless the file holds one that the database lacks.
    pub(super) async fn keep(&self, cx: &Context, checkpoint: &CheckpointRow) -> Result<(), String> {
        let Some(folder) = self.path.clone() else { return Ok(()) };
        let (keys, was_used) = known(cx).await.map_err(|error| error.to_string())?;
        OutsideCheckpoint::parse(&keys, checkpoint.note.as_bytes())?;
        let file = files::of_log(&folder, &checkpoint.tenant_id);
        let known = file.clone();
        let known = self.patience.bounded(move || files::known(&known)).await;
        if let Some(bytes) = known.map_err(|error| error.to_string())? {
            let known = parse(Ok(bytes), &keys)?;
            let lacking =
                cx.store.read(move |conn| lacking(conn, &[known])).await.map_err(|error| error.to_string())?;
            if lacking.is_some() {
                return Err("the file holds a checkpoint that the database lacks: run `magic-link restore`".to_owned());
            }
        }
        let note = checkpoint.note.clone();
        let replaced = self.patience.bounded(move || files::replace(&folder, &file, &note, was_used)).await;
        match replaced {
            Ok(true) => Ok(()),
            Ok(false) => Err(FolderFault::Other.words().to_owned()),
            Err(error) => Err(format!("{} ({error})", FolderFault::of(&error).words())),
        }
    }
}

/// The keys of the logs, and whether checkpoints were kept in a folder before.
async fn known(cx: &Context) -> Result<(KnownKeys, bool), Error> {
    let url = cx.tokens.issuer().to_owned();
    let known = move |conn: &mut Conn| {
        Ok((KnownKeys::read(conn, &url)?, store::has_delivered(conn, CheckpointChannel::Folder)?))
    };
    cx.store.read(known).await
}

fn fault_of(found: &Found, was_used: bool) -> Option<FolderFault> {
    (was_used && !found.is_ours).then_some(FolderFault::Other)
}

/// Refuses a database that was restored from a backup, and has not gone through `magic-link restore`, by what stands in the
/// folder now. Whatever cannot be taken back asks this.
///
/// # Errors
/// `restore_required`, and `unavailable` where the folder vouches for nothing.
pub(crate) async fn require_whole(cx: &Context, folder: &CheckpointFolder) -> Result<(), Error> {
    folder.look(cx).await?;
    compare(cx, folder).await
}

/// The same by what was read in the folder last, for callers who do not wait for it.
///
/// # Errors
/// Those of [`require_whole`].
pub(crate) async fn compare(cx: &Context, folder: &CheckpointFolder) -> Result<(), Error> {
    let Seen { newest, fault, .. } = folder.seen().clone();
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
    match (compared, fault) {
        (Ok(()), None) => {
            folder.behind.store(false, Ordering::Relaxed);
            Ok(())
        }
        (Ok(()), Some(fault)) => {
            folder.behind.store(true, Ordering::Relaxed);
            Err(Error::unavailable().detail(fault.words()))
        }
        (Err(error), _) => {
            // After any other failure nothing was compared.
            if error.code() == Code::RestoreRequired {
                folder.behind.store(true, Ordering::Relaxed);
            }
            Err(error)
        }
    }
}

/// The first checkpoint that the database has not signed, and that no restore has named.
fn lacking(conn: &mut Conn, checkpoints: &[OutsideCheckpoint]) -> Result<Option<OutsideCheckpoint>, Error> {
    if checkpoints.is_empty() {
        return Ok(None);
    }
    let size = |checkpoint: &OutsideCheckpoint| i64::try_from(checkpoint.size).unwrap_or(i64::MAX);
    let tenants: Vec<&str> = checkpoints.iter().map(|one| one.tenant_id.as_str()).collect();
    let asked: Vec<(&str, i64)> = checkpoints.iter().map(|one| (one.tenant_id.as_str(), size(one))).collect();
    let (signed, restored) = (store::roots(conn, &asked)?, restores::of_logs(conn, &tenants)?);
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

fn parse(read: io::Result<Vec<u8>>, keys: &KnownKeys) -> Result<OutsideCheckpoint, String> {
    let bytes = read.map_err(|error| error.to_string())?;
    // A backup from before a change of the key does not know who signed what came after it.
    OutsideCheckpoint::parse(keys, &bytes).or_else(|why| OutsideCheckpoint::of_unknown_key(keys, &bytes).ok_or(why))
}
