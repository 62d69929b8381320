//! What was read in a folder of checkpoints, and which of them the database lacks.

use std::path::PathBuf;
use std::time::Instant;

use super::{COMPARED, FolderFault};
use crate::audit::restored::OutsideCheckpoint;
use crate::audit::store;
use crate::db::Conn;
use crate::error::Error;
use crate::journal::tree::base64;
use crate::records::restores;

/// Logs that one statement asks for: on SQLite it looks for each of them with each of their sizes.
const LOGS_A_TIME: usize = 50;

/// What was read in the folder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub at: Option<Instant>,
    /// The checkpoints that were read last: all, or the newest and those whose turn it was.
    read: Vec<OutsideCheckpoint>,
    /// Those that the database lacked when they were compared. They count until it has them, or a restore has named them,
    /// whatever else is read.
    pub lacking: Vec<OutsideCheckpoint>,
    /// The incarnation of the database by which they count.
    pub incarnation: Option<i64>,
    /// Up to which file those were read that have turns.
    pub after: Option<PathBuf>,
    /// Whether every file was read and compared.
    pub is_complete: bool,
    /// Whether that is so of `read` alone.
    has_all: bool,
    /// Files that are no checkpoints of ours, as they were read last.
    skipped: Vec<Skipped>,
    pub fault: Option<FolderFault>,
}

/// A file that is no checkpoint of ours, and why.
#[derive(Debug)]
pub(super) struct Skipped {
    pub file: PathBuf,
    pub why: String,
    /// It held one.
    pub is_damaged: bool,
}

impl Skipped {
    /// The log that it is the file of.
    pub(super) fn log(&self) -> Option<String> {
        self.file.file_stem()?.to_str().map(ToOwned::to_owned)
    }
}

impl Seen {
    /// Before anything was read, of a folder that is configured, or of none.
    pub(super) fn before(is_configured: bool) -> Self {
        let fault = is_configured.then_some(FolderFault::Unreadable);
        Self { fault, is_complete: !is_configured, has_all: !is_configured, ..Self::default() }
    }

    /// Why the folder vouches for nothing.
    pub(super) fn fault(&self) -> Option<FolderFault> {
        let is_damaged = self.skipped.iter().any(|one| one.is_damaged);
        self.fault.or(is_damaged.then_some(FolderFault::Damaged)).or((!self.is_complete).then_some(FolderFault::Unread))
    }

    /// What was there is compared on.
    pub(super) fn found_fault(&mut self, fault: FolderFault) {
        if self.fault != Some(fault) {
            tracing::error!(error.cause = fault.words(), "no folder for checkpoints");
        }
        (self.at, self.fault) = (Some(Instant::now()), Some(fault));
    }

    /// A file that is no checkpoint is told once.
    pub(super) fn skip(&mut self, skipped: Vec<Skipped>) {
        for Skipped { file, why, .. } in &skipped {
            if !self.skipped.iter().any(|known| known.file == *file) {
                tracing::warn!(checkpoint.file = %file.display(), error.cause = why, "skipped");
            }
        }
        self.skipped = skipped;
    }

    /// What was skipped is read each time, whatever the others' turn is.
    pub(super) fn again(&self) -> Vec<PathBuf> {
        self.skipped.iter().map(|one| one.file.clone()).collect()
    }

    /// Takes what was read and compared; whether there is more that was not since the start.
    pub(super) fn took(
        &mut self,
        read: Vec<OutsideCheckpoint>,
        lacking: Vec<OutsideCheckpoint>,
        next: Option<PathBuf>,
    ) -> bool {
        self.remember(lacking);
        self.is_complete |= next.is_none();
        self.has_all = self.after.is_none() && next.is_none();
        (self.at, self.read, self.after) = (Some(Instant::now()), read, next);
        !self.is_complete
    }

    /// What is compared each time.
    pub(super) fn to_compare(&self) -> Vec<OutsideCheckpoint> {
        let more = self.lacking.iter().filter(|one| !self.read.contains(one));
        self.read.iter().chain(more).cloned().collect()
    }

    /// Takes what the database lacks of what was compared.
    pub(super) fn compared(&mut self, all: &[OutsideCheckpoint], lacking: Vec<OutsideCheckpoint>, incarnation: i64) {
        self.lacking.retain(|one| !all.contains(one));
        if self.incarnation.is_some_and(|known| known != incarnation) {
            // A restore was begun, or the database is another one: by what stands in the folder.
            let read = std::mem::take(&mut self.read);
            self.remember(lacking.into_iter().filter(|one| read.contains(one)).collect());
            self.read = read;
            (self.is_complete, self.after, self.at) = (self.has_all, None, None);
        } else {
            self.remember(lacking);
        }
        self.incarnation = Some(incarnation);
    }

    fn remember(&mut self, lacking: Vec<OutsideCheckpoint>) {
        for one in lacking {
            // Each of them is enough, and has its turn again.
            if self.lacking.len() < COMPARED && !self.lacking.contains(&one) {
                self.lacking.push(one);
            }
        }
    }
}

/// The checkpoints that the database has not signed, and that no restore has named.
pub(super) fn lacking(conn: &mut Conn, checkpoints: &[OutsideCheckpoint]) -> Result<Vec<OutsideCheckpoint>, Error> {
    let mut all = Vec::new();
    for some in checkpoints.chunks(LOGS_A_TIME) {
        all.extend(lacking_of(conn, some)?);
    }
    Ok(all)
}

fn lacking_of(conn: &mut Conn, checkpoints: &[OutsideCheckpoint]) -> Result<Vec<OutsideCheckpoint>, Error> {
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
                is_later && restore.names(&one.log_name, size(one), &base64(&one.root.0))
            })
    };
    Ok(checkpoints.iter().filter(|one| !is_there(one)).cloned().collect())
}
