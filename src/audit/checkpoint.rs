//! Checkpoints: a log's size and root, signed (C2SP `tlog-checkpoint`).
//!
//! A checkpoint is signed on a schedule and on request. It always extends the last
//! one: if the stored log does not, it was tampered with or restored from an old
//! backup, and the service refuses to sign (`log_forked`) and records the refusal.
//! While the database is behind a checkpoint outside, nothing is signed
//! ([`Whole`]): it would be another tree under the same name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::web::Data;
use diesel::QueryResult;
use tlog_tiles::{Checkpoint, HASH_SIZE, Hash};

use super::folder::{CheckpointFolder, Whole, require_whole};
use super::key::{self, LogKey, LogSigner};
use super::store::{self, CheckpointRow};
use crate::clock::{Stretch, Timestamp};
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType};
use crate::error::{Code, Error};
use crate::journal::rows::{self, LogHead};
use crate::journal::tree::{self, base64};
use crate::journal::{Event, Frontier};
use crate::records::restores;
use crate::store::Tx;

/// Logs that are signed before it is asked again whether the database is whole.
const LOGS_A_TIME: usize = 50;

/// Writes and signs a checkpoint.
pub(super) fn sign(signer: &LogSigner, origin: &str, size: u64, root: Hash) -> Result<String, Error> {
    signer.sign(origin, &Checkpoint::new(origin, size, root, "").map_err(Error::internal)?.to_bytes())
}

/// A checkpoint, and the key that signs for the log at this moment.
pub(super) struct Current {
    pub checkpoint: CheckpointRow,
    pub signer: Arc<LogSigner>,
    /// Name of the log.
    pub log_name: String,
}

/// The current checkpoint of a log; signs a new one if the log has grown since the last.
///
/// # Errors
/// `log_forked`; the refusal is recorded. `restore_required` where a restore has begun meanwhile.
pub(super) fn current(
    tx: &mut Tx<'_>,
    (key, _): (&LogKey, Whole),
    tenant_id: &str,
    now: Timestamp,
) -> Result<Current, Error> {
    if restores::is_running(tx)? {
        return Err(Code::RestoreRequired.into());
    }
    // The checkpoint is read before the head: one signed in between must not seem to exceed the log.
    let last = store::latest_checkpoint(tx, tenant_id)?;
    let LogHead { name: log_name, key_id, head } = rows::named_head(tx, tenant_id)?;
    let Some(head) = head else {
        return Err(refuse(tx, tenant_id, None, last.as_ref(), now));
    };
    let size = i64::try_from(head.size()).map_err(Error::internal)?;
    let root = head.root().map_err(Error::internal)?;
    let signer = key.of_log(key_id.as_deref())?;
    if let Some(last) = last {
        if !extends(tx, tenant_id, &head, root, &last)? {
            return Err(refuse(tx, tenant_id, Some((size, root)), Some(&last), now));
        }
        if last.size == size {
            return Ok(Current { checkpoint: last, signer, log_name });
        }
    }
    let note = sign(&signer, &key.origin(&log_name), head.size(), root)?;
    let fresh = CheckpointRow { tenant_id: tenant_id.to_owned(), size, root: root.0.to_vec(), note, signed_at: now };
    // The checkpoint of an empty log is not stored.
    if size > 0 {
        store::insert_checkpoint(tx, &fresh)?;
    }
    Ok(Current { checkpoint: fresh, signer, log_name })
}

/// Records the refusal: the log contradicts its last checkpoint, or its head is damaged.
fn refuse(
    tx: &mut Tx<'_>,
    tenant_id: &str,
    head: Option<(i64, Hash)>,
    last: Option<&CheckpointRow>,
    now: Timestamp,
) -> Error {
    let event = Event::new(EventType::CheckpointRefused, Actor::system("checkpoints"), now);
    let event = event.with(&serde_json::json!({
        "tenant_id": tenant_id, "size": head.map(|(size, _)| size), "root": head.map(|(_, root)| base64(&root.0)),
        "last_size": last.map(|last| last.size), "last_root": last.map(|last| base64(&last.root)),
        "last_signed_at": last.map(|last| last.signed_at),
    }));
    tracing::error!(log.tenant = tenant_id, log.size = head.map(|(size, _)| size), "audit log forked or damaged");
    tx.refuse(Code::LogForked, event)
}

/// Whether the stored log is consistent with the last checkpoint and with its own head.
fn extends(conn: &mut Conn, tenant_id: &str, head: &Frontier, root: Hash, last: &CheckpointRow) -> Result<bool, Error> {
    let signed_root = Hash(<[u8; HASH_SIZE]>::try_from(last.root.as_slice()).map_err(Error::internal)?);
    let signed_size = u64::try_from(last.size).map_err(Error::internal)?;
    if signed_size >= head.size() {
        return Ok(signed_size == head.size() && signed_root == root);
    }
    let proof = tree::prove(conn, tenant_id, |nodes| tlog_tiles::prove_tree(head.size(), signed_size, nodes))?;
    // Missing nodes are a sign of tampering too, not an error.
    Ok(proof.is_ok_and(|proof| tlog_tiles::check_tree(&proof, head.size(), root, signed_size, signed_root).is_ok()))
}

/// The newest signed checkpoint of each log of a database.
pub(crate) struct NewestCheckpoints(Vec<CheckpointRow>);

impl NewestCheckpoints {
    /// Reads them.
    pub(crate) fn of(conn: &mut Conn) -> QueryResult<Self> {
        let mut newest = Vec::new();
        for tenant_id in store::logs(conn)? {
            newest.extend(store::latest_checkpoint(conn, &tenant_id)?);
        }
        Ok(Self(newest))
    }

    /// How many there are.
    pub(crate) const fn count(&self) -> usize {
        self.0.len()
    }

    /// Refuses another database whose logs do not extend them: it is no copy.
    ///
    /// # Errors
    /// `log_forked`, with the log's name.
    pub(crate) fn require_in(&self, conn: &mut Conn) -> Result<(), Error> {
        for last in &self.0 {
            let head = rows::head(conn, &last.tenant_id)?;
            let root = head.root().map_err(Error::internal)?;
            if !extends(conn, &last.tenant_id, &head, root, last)? {
                return Err(Error::new(Code::LogForked).detail(format!("log {}", last.tenant_id)));
            }
        }
        Ok(())
    }
}

/// Signs a checkpoint of a log.
///
/// # Errors
/// `log_forked` when the log does not extend its last checkpoint, and those of [`require_whole`].
pub(super) async fn checkpoint(
    cx: &Context,
    (key, folder): (&Data<LogKey>, &CheckpointFolder),
    tenant_id: String,
    now: Timestamp,
) -> Result<CheckpointRow, Error> {
    let whole = require_whole(cx, folder).await?;
    key.refresh(cx).await?;
    sign_one(cx, (key, whole), tenant_id, now).await
}

/// The same, with the keys as they are known.
async fn sign_one(
    cx: &Context,
    (key, whole): (&Data<LogKey>, Whole),
    tenant_id: String,
    now: Timestamp,
) -> Result<CheckpointRow, Error> {
    let key = key.clone();
    cx.store.write(move |tx| Ok(current(tx, (&key, whole), &tenant_id, now)?.checkpoint)).await
}

/// Tells the logs of a new key, and signs a checkpoint of every log that has grown; returns how many were signed.
///
/// # Errors
/// When the store is unavailable, and those of [`require_whole`].
pub(crate) async fn sign_due(
    cx: &Context,
    (key, folder): (&Data<LogKey>, &CheckpointFolder),
    alarms: &LogAlarms,
    now: Timestamp,
) -> Result<usize, Error> {
    let whole = require_whole(cx, folder).await?;
    key.refresh(cx).await?;
    while key::introduce(cx, key, whole, now).await? > 0 {}
    let every = cx.config.audit.checkpoint_every;
    let lately = now.last(every);
    let grown = cx.store.read(move |conn| Ok(store::logs_without_checkpoint(conn, lately)?)).await?;
    let mut signed = 0;
    for some in grown.chunks(LOGS_A_TIME) {
        // Again: of many logs it takes a while.
        let whole = require_whole(cx, folder).await?;
        for tenant_id in some {
            // A recent refusal is not recorded again before the next interval.
            if alarms.is_young(tenant_id, lately) {
                continue;
            }
            match sign_one(cx, (key, whole), tenant_id.clone(), now).await {
                Ok(_) => signed += 1,
                Err(error) if matches!(error.code(), Code::Unavailable | Code::RestoreRequired) => return Err(error),
                // A log that was tampered with must not block the others.
                Err(_refused) => alarms.raised(tenant_id.clone(), now),
            }
        }
    }
    Ok(signed)
}

/// Time of this process's last refusal to sign, per log.
#[derive(Default)]
pub(crate) struct LogAlarms(Mutex<HashMap<String, Timestamp>>);

impl LogAlarms {
    fn is_young(&self, tenant_id: &str, lately: Stretch) -> bool {
        let raised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get(tenant_id).is_some_and(|at| lately.contains(*at))
    }

    fn raised(&self, tenant_id: String, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant_id, now);
    }
}
