//! The newest checkpoint of each log in a folder outside of the database: a file each, as it was signed.
//!
//! A database that lacks one of them was restored from a backup, or lost its end.
//! It is not ready ([`require_whole`]) until `magic-link restore` has named the
//! checkpoint, and until then no file is replaced: it is the evidence.
//!
//! Other copies of the service write there, too, so the folder is read again and
//! again: every file, and where they are many each in its turn. One that is not
//! there, or not the one that was used, vouches for nothing, and is as bad as a
//! database that is behind.

mod files;
mod patience;
mod seen;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::patience::Patience;
use self::seen::{Seen, Skipped, lacking};
use super::deliver::CheckpointChannel;
use super::key::KnownKeys;
use super::restored::{OutsideCheckpoint, OutsideCheckpoints};
use super::store::{self, CheckpointRow};
use super::verify::unverified;
use crate::context::Context;
use crate::db::Conn;
use crate::error::{Code, Error};
use crate::journal::rows;
use crate::records::restores;

/// Number of checkpoints that are read and compared with the database at a time.
const COMPARED: usize = 500;

/// How long what was read in the folder counts.
const FRESH: Duration = Duration::from_secs(10);

/// Why the folder vouches for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderFault {
    /// There is none.
    Missing,
    /// Checkpoints were kept, and not here; or it is somebody else's.
    Other,
    /// It cannot be read, or does not answer.
    Unreadable,
    /// There are many checkpoints, and not all of them were compared yet.
    Unread,
    /// A file that held a checkpoint holds none: of its log nobody can tell.
    Damaged,
}

impl FolderFault {
    /// What is wrong, and what to do; without the folder's path.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Missing => "the folder of audit.checkpoint_folder is not there: mount it, or make it",
            Self::Other => {
                "the folder of audit.checkpoint_folder holds none of the checkpoints that were kept, or is that of another \
                 installation: mount the volume, or, where this is another folder on purpose, put an empty file \
                 magic-link.mark into it"
            }
            Self::Unreadable => "the folder of audit.checkpoint_folder cannot be read",
            Self::Damaged => {
                "a file in the folder of audit.checkpoint_folder is damaged, as the log tells: put the checkpoint back that it \
                 held, or, where nobody has it, move the file away"
            }
            Self::Unread => "the checkpoints in the folder of audit.checkpoint_folder were not all compared yet",
        }
    }

    fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing,
            _ => Self::Unreadable,
        }
    }
}

/// That the database lacked no checkpoint a moment ago, as [`require_whole`] has found: what signs wants to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole(());

/// The folder, if one is configured.
pub(crate) struct CheckpointFolder {
    path: Option<PathBuf>,
    patience: Patience,
    /// Held by whoever reads the folder.
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    /// Whether the database was behind a checkpoint, a restore was not complete, or nobody could tell, when that was asked
    /// last.
    behind: AtomicBool,
}

impl CheckpointFolder {
    /// Reads the folder, which nobody makes. A file that is a checkpoint of another service is skipped with a warning.
    ///
    /// # Errors
    /// When the store is unavailable. A folder that cannot be read is a fault that [`require_whole`] tells.
    pub(crate) async fn open(cx: &Context) -> Result<Self, Error> {
        let path = cx.config.audit.checkpoint_folder.clone();
        // Until it was read and compared, nobody knows.
        let behind = AtomicBool::new(path.is_some());
        let seen = Mutex::new(Seen::before(path.is_some()));
        let folder = Self { path, patience: Patience::default(), turn: tokio::sync::Mutex::default(), seen, behind };
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
        self.seen().fault()
    }

    /// Whether a refusal of [`require_whole`] is told by readiness, so that it is no failure of whoever asked.
    pub(crate) fn is_told(&self, refusal: &Error) -> bool {
        refusal.code() == Code::RestoreRequired || self.fault().is_some()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the folder again, unless that was done a moment ago, and compares what it reads; whether there is more that nobody
    /// has compared since the start. What was read before counts on where the folder only takes its time.
    async fn look(&self, cx: &Context) -> Result<bool, Error> {
        let Some(path) = self.path.clone() else { return Ok(false) };
        let _turn = self.turn.lock().await;
        let (after, again) = {
            let seen = self.seen();
            if seen.is_complete && seen.at.is_some_and(|at| at.elapsed() < FRESH) {
                return Ok(false);
            }
            (seen.after.clone(), seen.again())
        };
        let known = Known::read(cx).await?;
        let place = path.clone();
        let found = match self.patience.at_once(move || files::look(&place, after.as_deref(), COMPARED, &again)).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => {
                tracing::warn!(checkpoint.folder = %path.display(), error.cause = %error, "checkpoints cannot be read");
                if error.kind() != io::ErrorKind::TimedOut || self.seen().fault.is_some() {
                    self.seen().found_fault(FolderFault::of(&error));
                }
                return Ok(false);
            }
        };
        let mut checkpoints = Vec::new();
        let mut skipped = Vec::new();
        for (file, bytes) in &found.files {
            match parse(bytes.as_ref().map_err(ToString::to_string), &known.keys) {
                Ok(checkpoint) => checkpoints.push(checkpoint),
                Err(why) => skipped.push(Skipped { file: file.clone(), why, is_damaged: is_damaged(bytes) }),
            }
        }
        let is_foreign = found.is_foreign(&known.owner, !checkpoints.is_empty(), known.was_used);
        let compared = checkpoints.clone();
        let damaged = skipped.iter().filter(|one| one.is_damaged).filter_map(Skipped::log).collect::<Vec<_>>();
        let (lacking, kept) = cx
            .store
            .read(move |conn| {
                let kept = store::delivered_of(conn, CheckpointChannel::Folder, &damaged)?;
                Ok((lacking(conn, &compared)?, kept))
            })
            .await?;
        for one in &mut skipped {
            // Where none was kept, it held none of ours.
            one.is_damaged &= one.log().is_some_and(|log| kept.contains(&log));
        }
        let mut seen = self.seen();
        seen.skip(skipped);
        if is_foreign {
            seen.found_fault(FolderFault::Other);
        } else {
            seen.fault = None;
        }
        Ok(seen.took(checkpoints, lacking, found.next) && !is_foreign)
    }

    /// The checkpoint of every log.
    ///
    /// # Errors
    /// Why the folder vouches for nothing, or the first file that is no checkpoint of this service, and why.
    pub(crate) async fn all(&self, cx: &Context) -> Result<OutsideCheckpoints, String> {
        let mut all = OutsideCheckpoints::default();
        let Some(path) = self.path.clone() else { return Ok(all) };
        let known = Known::read(cx).await.map_err(|error| error.to_string())?;
        let (place, fault) = (path.clone(), |fault: FolderFault| format!("{}: {}", path.display(), fault.words()));
        let found = self.patience.bounded(move || files::look(&place, None, usize::MAX, &[])).await;
        let found = found.map_err(|error| format!("{} ({error})", fault(FolderFault::of(&error))))?;
        let own = |(_, read): &(_, io::Result<Vec<u8>>)| {
            read.as_ref().is_ok_and(|bytes| parse(Ok(bytes), &known.keys).is_ok())
        };
        if found.is_foreign(&known.owner, found.files.iter().any(own), known.was_used) {
            return Err(fault(FolderFault::Other));
        }
        for (file, bytes) in found.files {
            let checkpoint = parse(bytes.as_ref().map_err(ToString::to_string), &known.keys);
            let added = checkpoint.and_then(|checkpoint| all.add(checkpoint));
            added.map_err(|why| format!("{}: {why}; move it away first", file.display()))?;
        }
        Ok(all)
    }

    /// Keeps a checkpoint, unless the file holds one that the database lacks, or a newer one.
    pub(super) async fn keep(&self, cx: &Context, checkpoint: &CheckpointRow) -> Result<(), String> {
        let Some(folder) = self.path.clone() else { return Ok(()) };
        let Known { keys, owner, was_used } = Known::read(cx).await.map_err(|error| error.to_string())?;
        let fresh = OutsideCheckpoint::parse(&keys, checkpoint.note.as_bytes())?;
        let file = files::of_log(&folder, &checkpoint.tenant_id);
        let known = file.clone();
        let known = self.patience.bounded(move || files::known(&known)).await;
        if let Some(bytes) = known.map_err(|error| error.to_string())? {
            let known = parse(Ok(&bytes), &keys)?;
            let (kept, tenant_id) = (known.clone(), checkpoint.tenant_id.clone());
            let read = move |conn: &mut Conn| {
                Ok((lacking(conn, &[kept])?.is_empty(), rows::named_head(conn, &tenant_id)?.name))
            };
            let (is_whole, log_name) = cx.store.read(read).await.map_err(|error| error.to_string())?;
            if !is_whole {
                return Err("the file holds a checkpoint that the database lacks: run `magic-link restore`".to_owned());
            }
            if known.log_name == fresh.log_name && known.size > fresh.size {
                // Another copy was faster.
                return Ok(());
            }
            if fresh.log_name != log_name {
                return Err("the checkpoint is of a name that the log had before a restore".to_owned());
            }
        }
        let note = checkpoint.note.clone();
        let replace =
            move || files::replace(&folder, &file, &note, (&owner, was_used), |bytes| parse(Ok(bytes), &keys).is_ok());
        match self.patience.bounded(replace).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(FolderFault::Other.words().to_owned()),
            Err(error) => Err(format!("{} ({error})", FolderFault::of(&error).words())),
        }
    }
}

/// What the database knows of its checkpoints outside.
struct Known {
    keys: KnownKeys,
    /// Whom the folder is marked with.
    owner: String,
    /// Whether checkpoints were kept in a folder before.
    was_used: bool,
}

impl Known {
    async fn read(cx: &Context) -> Result<Self, Error> {
        let url = cx.tokens.issuer().to_owned();
        let known = move |conn: &mut Conn| {
            let keys = KnownKeys::read(conn, &url)?;
            let was_used = store::has_delivered(conn, CheckpointChannel::Folder)?;
            Ok(Self { owner: keys.first(), keys, was_used })
        };
        cx.store.read(known).await
    }
}

/// Refuses a database that was restored from a backup, and has not gone through `magic-link restore`, by what stands in the
/// folder now. Whatever cannot be taken back asks this.
///
/// # Errors
/// `restore_required`, and `unavailable` where the folder vouches for nothing.
pub(crate) async fn require_whole(cx: &Context, folder: &CheckpointFolder) -> Result<Whole, Error> {
    while folder.look(cx).await? {}
    compare(cx, folder).await
}

/// The same by what was read in the folder last, for callers who do not wait for it.
///
/// # Errors
/// Those of [`require_whole`].
pub(crate) async fn compare(cx: &Context, folder: &CheckpointFolder) -> Result<Whole, Error> {
    let (known, incarnation) = {
        let seen = folder.seen();
        (seen.to_compare(), seen.incarnation)
    };
    let compared = known.clone();
    let (is_running, now, lacking) = cx
        .store
        .read(move |conn| {
            let (is_running, now) = (restores::is_running(conn)?, restores::incarnation(conn)?);
            Ok((is_running, now, lacking(conn, &compared)?))
        })
        .await?;
    let (lacks, fault) = {
        let mut seen = folder.seen();
        if incarnation == seen.incarnation {
            seen.compared(&known, lacking, now);
        }
        (seen.lacking.first().cloned(), seen.fault())
    };
    folder.behind.store(is_running || lacks.is_some() || fault.is_some(), Ordering::Relaxed);
    if is_running {
        let detail = "a restore is not complete: run `magic-link restore` again";
        return Err(Error::new(Code::RestoreRequired).detail(detail));
    }
    if let Some(lacks) = lacks {
        tracing::error!(log.tenant = lacks.tenant_id, log.size = lacks.size, "the database lacks a checkpoint");
        let detail = "the database is behind a checkpoint that was kept outside: run `magic-link restore`";
        return Err(Error::new(Code::RestoreRequired).detail(detail));
    }
    fault.map_or(Ok(Whole(())), |fault| Err(Error::unavailable().detail(fault.words())))
}

/// Whether a file in which a checkpoint may have stood holds none. One that was taken away meanwhile holds nothing.
fn is_damaged(read: &io::Result<Vec<u8>>) -> bool {
    match read {
        Ok(bytes) => unverified(bytes).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn parse<B: AsRef<[u8]>>(read: Result<B, String>, keys: &KnownKeys) -> Result<OutsideCheckpoint, String> {
    let bytes = read?;
    let bytes = bytes.as_ref();
    // A backup from before a change of the key does not know who signed what came after it.
    OutsideCheckpoint::parse(keys, bytes).or_else(|why| OutsideCheckpoint::of_unknown_key(keys, bytes).ok_or(why))
}
