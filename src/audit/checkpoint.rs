//! Checkpoints: a log's size and root, signed (C2SP `tlog-checkpoint`).
//!
//! A checkpoint is signed on a schedule and whenever somebody asks. It always
//! extends the last one: where the stored log does not, somebody tampered with
//! it or restored an old copy, and the service refuses to sign and raises the alarm.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use actix_web::web::Data;
use signed_note::Note;
use tlog_tiles::{Checkpoint, HASH_SIZE, Hash};

use super::key::LogKey;
use super::store::{self, CheckpointRow};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType};
use crate::error::{Code, Error};
use crate::journal::tree::{self, base64};
use crate::journal::{Event, Frontier, rows};
use crate::store::Tx;

/// Writes and signs a checkpoint.
pub(super) fn sign(key: &LogKey, tenant_id: &str, size: u64, root: Hash) -> Result<String, Error> {
    let text = Checkpoint::new(&key.origin(tenant_id), size, root, "").map_err(Error::internal)?.to_bytes();
    sign_text(key, tenant_id, &text)
}

/// Signs any text as a note of the log. It ends with a line break.
pub(super) fn sign_text(key: &LogKey, tenant_id: &str, text: &[u8]) -> Result<String, Error> {
    let mut note = Note::new(text, &[]).map_err(Error::internal)?;
    note.add_sigs(&[&key.signer(tenant_id)?]).map_err(Error::internal)?;
    String::from_utf8(note.to_bytes()).map_err(Error::internal)
}

/// The checkpoint of a log as it is now; signs one if the last one is older.
///
/// # Errors
/// `log_forked`, which is recorded.
pub(super) fn current(tx: &mut Tx<'_>, key: &LogKey, tenant_id: &str, now: Timestamp) -> Result<CheckpointRow, Error> {
    // In this order: what is signed meanwhile must not look like more than there is.
    let last = store::latest_checkpoint(tx, tenant_id)?;
    let Some(head) = rows::head_as_stored(tx, tenant_id)? else {
        return Err(refuse(tx, tenant_id, None, last.as_ref(), now));
    };
    let size = i64::try_from(head.size()).map_err(Error::internal)?;
    let root = head.root().map_err(Error::internal)?;
    if let Some(last) = last {
        if !extends(tx, tenant_id, &head, root, &last)? {
            return Err(refuse(tx, tenant_id, Some((size, root)), Some(&last), now));
        }
        if last.size == size {
            return Ok(last);
        }
    }
    let note = sign(key, tenant_id, head.size(), root)?;
    let fresh = CheckpointRow { tenant_id: tenant_id.to_owned(), size, root: root.0.to_vec(), note, signed_at: now };
    // Of an empty log there is nothing to remember.
    if size > 0 {
        store::insert_checkpoint(tx, &fresh)?;
    }
    Ok(fresh)
}

/// Raises the alarm: the log is not what was signed, or its head is damaged.
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
    tracing::error!(log.tenant = tenant_id, log.size = head.map(|(size, _)| size), "a log has forked or is damaged");
    tx.refuse(Code::LogForked, event)
}

/// Whether the log as it is stored still begins with what was signed, and ends with what its head says.
fn extends(tx: &mut Tx<'_>, tenant_id: &str, head: &Frontier, root: Hash, last: &CheckpointRow) -> Result<bool, Error> {
    let signed_root = Hash(<[u8; HASH_SIZE]>::try_from(last.root.as_slice()).map_err(Error::internal)?);
    let signed_size = u64::try_from(last.size).map_err(Error::internal)?;
    if signed_size >= head.size() {
        return Ok(signed_size == head.size() && signed_root == root);
    }
    let proof = tree::prove(tx, tenant_id, |nodes| tlog_tiles::prove_tree(head.size(), signed_size, nodes))?;
    // Nodes that are missing are just what is looked for here.
    Ok(proof.is_ok_and(|proof| tlog_tiles::check_tree(&proof, head.size(), root, signed_size, signed_root).is_ok()))
}

/// Signs a checkpoint of a log.
///
/// # Errors
/// `log_forked` when the log does not extend its last checkpoint.
pub(super) async fn checkpoint(
    cx: &Context,
    key: &Data<LogKey>,
    tenant_id: String,
    now: Timestamp,
) -> Result<CheckpointRow, Error> {
    let key = key.clone();
    cx.store.write(move |tx| current(tx, &key, &tenant_id, now)).await
}

/// Signs a checkpoint of every log that has grown; tells how many were signed.
pub(crate) async fn sign_due(
    cx: &Context,
    key: &Data<LogKey>,
    alarms: &LogAlarms,
    now: Timestamp,
) -> Result<usize, Error> {
    let every = cx.config.audit.checkpoint_every;
    let before = now.minus(every);
    let grown = cx.store.read(move |conn| Ok(store::logs_without_checkpoint(conn, before)?)).await?;
    let mut signed = 0;
    for tenant_id in grown {
        // An alarm that was raised need not be raised again at once.
        if alarms.is_young(&tenant_id, before) {
            continue;
        }
        match checkpoint(cx, key, tenant_id.clone(), now).await {
            Ok(_) => signed += 1,
            Err(error) if error.code() == Code::Unavailable => return Err(error),
            // One log that was tampered with must not keep the others from theirs.
            Err(_refused) => alarms.raised(tenant_id, now),
        }
    }
    Ok(signed)
}

/// When this process last refused to sign for a log.
#[derive(Default)]
pub(crate) struct LogAlarms(Mutex<HashMap<String, Timestamp>>);

impl LogAlarms {
    fn is_young(&self, tenant_id: &str, before: Timestamp) -> bool {
        let raised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        raised.get(tenant_id).is_some_and(|at| *at > before)
    }

    fn raised(&self, tenant_id: String, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant_id, now);
    }
}
