//! What a restore does to an audit log: it goes on under another name, and says what is lost.
//!
//! A backup has forgotten what was recorded after it, and outsiders may hold
//! checkpoints that cover it. The tree that grows on from the backup is another
//! one, so it gets another origin (C2SP `tlog-checkpoint`): the event
//! `log.restored` is the first that only the new name covers. It names the newest
//! checkpoint that was kept outside, and [`super::verify`] accepts that break.

use std::collections::BTreeMap;

use actix_web::web::Data;
use serde::Serialize;
use serde_json::json;
use tlog_tiles::Hash;

use super::key::{KnownKeys, LogKey};
use super::verify::{LogVerifier, origin_of, unverified};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EventType, SYSTEM_LOG, is_tenant_id};
use crate::error::Error;
use crate::journal::tree::{self, base64};
use crate::journal::{Event, rows};
use crate::records::restores::{self, LogRestore};
use crate::store::Tx;

/// Number of logs that one transaction marks as restored.
const LOGS_A_TIME: u8 = 50;

/// A checkpoint that was kept outside: of a log of this service, under any name that the log has had.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OutsideCheckpoint {
    pub tenant_id: String,
    /// Name of the log when it was signed.
    pub log_name: String,
    pub size: u64,
    pub root: Hash,
}

impl OutsideCheckpoint {
    /// Parses a signed note.
    ///
    /// # Errors
    /// The reason why it is no checkpoint of a log of this service.
    pub(crate) fn parse(key: &KnownKeys, bytes: &[u8]) -> Result<Self, String> {
        let foreign = || "is no checkpoint of a log of this service".to_owned();
        let (tenant_id, log_name) = log_of(key, bytes).ok_or_else(foreign)?;
        let mut read = Err(foreign());
        for verifier_key in key.verifier_keys(log_name) {
            let verifier = LogVerifier::new(&verifier_key).map_err(|error| error.to_string())?;
            read = read.or_else(|_of_another_key| verifier.checkpoint(bytes));
        }
        let (size, root) = read?;
        Ok(Self { tenant_id: tenant_id.to_owned(), log_name: log_name.to_owned(), size, root })
    }

    /// A checkpoint of a log of this service by a key that it does not know: to be believed where only the service itself
    /// writes.
    pub(super) fn of_unknown_key(key: &KnownKeys, bytes: &[u8]) -> Option<Self> {
        let (tenant_id, log_name) = log_of(key, bytes)?;
        let any = LogVerifier::new(key.verifier_keys(log_name).first()?).ok()?;
        let (size, root) = any.size_and_root(&unverified(bytes).ok()?).ok()?;
        Some(Self { tenant_id: tenant_id.to_owned(), log_name: log_name.to_owned(), size, root })
    }
}

/// Tenant and name of the log of this service that a checkpoint is of.
fn log_of<'b>(key: &KnownKeys, bytes: &'b [u8]) -> Option<(&'b str, &'b str)> {
    let log_name = key.log_name(origin_of(bytes).ok()?)?;
    let tenant_id = log_name.split('/').next().unwrap_or(log_name);
    (tenant_id == SYSTEM_LOG || is_tenant_id(tenant_id)).then_some((tenant_id, log_name))
}

/// The newest checkpoint of each log that was kept outside.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutsideCheckpoints(BTreeMap<String, OutsideCheckpoint>);

impl OutsideCheckpoints {
    /// Keeps the larger one of two checkpoints of a log.
    ///
    /// # Errors
    /// Where they are of one size and of two trees: only one of them could be named.
    pub(crate) fn add(&mut self, checkpoint: OutsideCheckpoint) -> Result<(), String> {
        match self.0.get(&checkpoint.tenant_id) {
            Some(known) if known.size == checkpoint.size && known.root != checkpoint.root => {
                return Err(format!(
                    "another checkpoint of the same size of the log {} was given, too",
                    known.tenant_id
                ));
            }
            Some(known) if known.size >= checkpoint.size => {}
            _ => drop(self.0.insert(checkpoint.tenant_id.clone(), checkpoint)),
        }
        Ok(())
    }
}

/// A log whose newest checkpoint outside was named.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoredLog {
    /// Tenant of the log.
    tenant_id: String,
    /// Size of the checkpoint.
    checkpoint_size: u64,
    /// Number of events that the checkpoint covers and the backup has forgotten, at least; absent where the log grew
    /// on from the backup beyond the checkpoint, so that nobody can count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_lost: Option<u64>,
}

/// A restore that is being carried out.
#[derive(Clone)]
pub(crate) struct Restoration {
    /// What is added to the name of each log.
    pub suffix: String,
    pub checkpoints: OutsideCheckpoints,
    pub actor: Actor,
    pub now: Timestamp,
}

impl Restoration {
    /// Lets a log go on under its new name, from the event that this records; `more` becomes part of its data.
    pub(crate) fn record(
        &self,
        tx: &mut Tx<'_>,
        key: &LogKey,
        tenant_id: &str,
        more: &serde_json::Value,
    ) -> Result<Option<RestoredLog>, Error> {
        let rows::LogHead { name: log_name, head, .. } = rows::named_head(tx, tenant_id)?;
        let size = head.map_or(0, |head| head.size());
        let outside = self.checkpoints.0.get(tenant_id);
        let events_lost = match outside {
            Some(outside) if outside.size > size => Some(outside.size - size),
            Some(outside) if outside.log_name == log_name && holds(tx, outside)? => Some(0),
            _ => None,
        };
        let root = outside.map(|outside| outside.root.0.to_vec());
        let restore = LogRestore {
            tenant_id: tenant_id.to_owned(),
            suffix: self.suffix.clone(),
            restored_at: self.now,
            checkpoint_size: outside.map(|outside| i64::try_from(outside.size)).transpose().map_err(Error::internal)?,
            checkpoint_root: root,
        };
        restores::insert(tx, &restore)?;
        let mut data = json!({
            "origin": key.origin(&format!("{tenant_id}/{}", self.suffix)), "previous_origin": key.origin(&log_name),
            "checkpoint": outside.map(|outside| json!({
                "origin": key.origin(&outside.log_name), "size": outside.size, "root": base64(&outside.root.0),
            })),
            "events_lost": events_lost,
        });
        if let (Some(data), Some(more)) = (data.as_object_mut(), more.as_object()) {
            data.extend(more.clone());
        }
        tx.record(Event::new(EventType::LogRestored, self.actor.clone(), self.now).tenant(tenant_id).with(&data));
        Ok(outside.map(|outside| RestoredLog {
            tenant_id: tenant_id.to_owned(),
            checkpoint_size: outside.size,
            events_lost,
        }))
    }

    /// Does so for every log but `_system`, in ranges, and for those that only a checkpoint outside knows: their tenants
    /// are younger than the backup, and each of their logs begins under its new name.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(crate) async fn record_all(
        &self,
        cx: &Context,
        key: &Data<LogKey>,
    ) -> Result<(usize, Vec<RestoredLog>), Error> {
        let (mut logs, mut named) = (0, Vec::new());
        let mut younger = self.checkpoints.0.clone();
        younger.remove(SYSTEM_LOG);
        let mut after: Option<String> = None;
        loop {
            let (suffix, from) = (self.suffix.clone(), after.clone());
            let range = cx
                .store
                .read(move |conn| Ok(restores::logs_without(conn, &suffix, from.as_deref(), LOGS_A_TIME.into())?))
                .await?;
            let Some(last) = range.last().cloned() else { break };
            logs += range.len();
            for tenant_id in &range {
                younger.remove(tenant_id);
            }
            named.extend(self.record_some(cx, key, range).await?);
            after = Some(last);
        }
        let younger: Vec<String> = younger.into_keys().collect();
        logs += younger.len();
        for some in younger.chunks(LOGS_A_TIME.into()) {
            named.extend(self.record_some(cx, key, some.to_vec()).await?);
        }
        Ok((logs, named))
    }

    async fn record_some(
        &self,
        cx: &Context,
        key: &Data<LogKey>,
        tenants: Vec<String>,
    ) -> Result<Vec<RestoredLog>, Error> {
        let (this, key) = (self.clone(), key.clone());
        let recorded = cx.store.write_large(move |tx| {
            let recorded = tenants.iter().map(|id| this.record(tx, &key, id, &serde_json::Value::Null));
            recorded.collect::<Result<Vec<_>, _>>()
        });
        Ok(recorded.await?.into_iter().flatten().collect())
    }
}

/// Whether the stored log begins with the tree of a checkpoint, which is not larger.
fn holds(tx: &mut Tx<'_>, outside: &OutsideCheckpoint) -> Result<bool, Error> {
    if outside.size == 0 {
        return Ok(true);
    }
    let root = tree::prove(tx, &outside.tenant_id, |nodes| tlog_tiles::tree_hash(outside.size, nodes))?;
    Ok(root.is_ok_and(|root| root == outside.root))
}
