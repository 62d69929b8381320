//! What a restore does to an audit log: it goes on under another name, and says what is lost.
//!
//! A backup has forgotten what was recorded after it, and outsiders may hold
//! checkpoints that cover it. The tree that grows on from the backup is another
//! one, so it gets another origin (C2SP `tlog-checkpoint`): the event
//! `log.restored` is the first that only the new name covers. It names the newest
//! checkpoint of each name that was kept outside, and [`super::verify`] accepts that
//! break. The trees of two names are two: sizes of both tell nothing of each other.

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
use crate::records::restores::{self, LogRestore, NamedCheckpoint};
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

/// The newest checkpoint of each name of each log that was kept outside, by tenant.
#[derive(Debug, Clone, Default)]
pub(crate) struct OutsideCheckpoints(BTreeMap<String, Vec<OutsideCheckpoint>>);

impl OutsideCheckpoints {
    /// Keeps the larger one of two checkpoints of one name.
    ///
    /// # Errors
    /// Where they are of one size and of two trees: only one of them could be named.
    pub(crate) fn add(&mut self, checkpoint: OutsideCheckpoint) -> Result<(), String> {
        let of_log = self.0.entry(checkpoint.tenant_id.clone()).or_default();
        match of_log.iter_mut().find(|known| known.log_name == checkpoint.log_name) {
            Some(known) if known.size == checkpoint.size && known.root != checkpoint.root => {
                return Err(format!(
                    "another checkpoint of the same size of the log {} was given, too",
                    known.log_name
                ));
            }
            Some(known) if known.size >= checkpoint.size => {}
            Some(known) => *known = checkpoint,
            None => of_log.push(checkpoint),
        }
        Ok(())
    }

    /// Those of a log: first the one of the name that the database has, else the largest.
    fn of_log(&self, tenant_id: &str, log_name: &str) -> Vec<&OutsideCheckpoint> {
        let mut of_log: Vec<_> = self.0.get(tenant_id).into_iter().flatten().collect();
        of_log.sort_by_key(|one| (one.log_name != log_name, std::cmp::Reverse(one.size)));
        of_log
    }
}

/// A log of which a checkpoint outside was named.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RestoredLog {
    /// Tenant of the log.
    tenant_id: String,
    /// Origin of the checkpoint, where it is not the one that the log has in the backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint_origin: Option<String>,
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
    /// Lets a log go on under its new name, from the event that this records; `others` become part of its data.
    pub(crate) fn record(
        &self,
        tx: &mut Tx<'_>,
        key: &LogKey,
        tenant_id: &str,
        others: &serde_json::Value,
    ) -> Result<Vec<RestoredLog>, Error> {
        let rows::LogHead { name: log_name, head, .. } = rows::named_head(tx, tenant_id)?;
        let size = head.map_or(0, |head| head.size());
        let outside = self.checkpoints.of_log(tenant_id, &log_name);
        let lost = outside.iter().map(|one| events_lost(tx, one, (&log_name, size)));
        let lost = lost.collect::<Result<Vec<Option<u64>>, Error>>()?;
        restores::insert(tx, &self.row(tenant_id, &outside)?)?;
        let named = |one: &OutsideCheckpoint| json!({ "origin": key.origin(&one.log_name), "size": one.size, "root": base64(&one.root.0) });
        let more = outside.iter().zip(&lost).skip(1).map(|(one, lost)| {
            let mut named = named(one);
            if let (Some(lost), Some(named)) = (lost, named.as_object_mut()) {
                named.insert("events_lost".to_owned(), json!(lost));
            }
            named
        });
        let more: Vec<serde_json::Value> = more.collect();
        let mut data = json!({
            "origin": key.origin(&format!("{tenant_id}/{}", self.suffix)), "previous_origin": key.origin(&log_name),
            "checkpoint": outside.first().map(|one| named(one)),
            "events_lost": lost.first().copied().flatten(),
            "more_checkpoints": (!more.is_empty()).then_some(more),
        });
        if let (Some(data), Some(others)) = (data.as_object_mut(), others.as_object()) {
            data.extend(others.clone());
        }
        tx.record(Event::new(EventType::LogRestored, self.actor.clone(), self.now).tenant(tenant_id).with(&data));
        let restored = outside.into_iter().zip(lost).map(|(one, events_lost)| RestoredLog {
            tenant_id: tenant_id.to_owned(),
            checkpoint_origin: (one.log_name != log_name).then(|| key.origin(&one.log_name)),
            checkpoint_size: one.size,
            events_lost,
        });
        Ok(restored.collect())
    }

    /// What is stored of the restore of a log.
    fn row(&self, tenant_id: &str, outside: &[&OutsideCheckpoint]) -> Result<LogRestore, Error> {
        let named = outside.iter().map(|one| {
            let size = i64::try_from(one.size).map_err(Error::internal)?;
            Ok(NamedCheckpoint { log_name: one.log_name.clone(), size, root: base64(&one.root.0) })
        });
        let named = named.collect::<Result<Vec<_>, Error>>()?;
        Ok(LogRestore {
            tenant_id: tenant_id.to_owned(),
            suffix: self.suffix.clone(),
            restored_at: self.now,
            checkpoint_size: named.first().map(|first| first.size),
            checkpoint_root: outside.first().map(|first| first.root.0.to_vec()),
            checkpoints: Some(serde_json::to_string(&named).map_err(Error::internal)?),
        })
    }

    /// Does so for every log but those for which it was done, in ranges, and for those that only a checkpoint outside knows: their tenants
    /// are younger than the backup, and each of their logs begins under its new name.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(crate) async fn record_all(
        &self,
        cx: &Context,
        key: &Data<LogKey>,
        done: &[String],
    ) -> Result<(usize, Vec<RestoredLog>), Error> {
        let (mut logs, mut named) = (0, Vec::new());
        let mut younger = self.checkpoints.0.clone();
        younger.retain(|tenant_id, _| !done.contains(tenant_id));
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

/// Number of events that a checkpoint covers and a log, under its name and of a size, has forgotten, as far as anybody can
/// tell: a tree that grew on from the backup under another name has at least as many more as it is larger.
fn events_lost(
    tx: &mut Tx<'_>,
    outside: &OutsideCheckpoint,
    (log_name, size): (&str, u64),
) -> Result<Option<u64>, Error> {
    if outside.size > size {
        return Ok(Some(outside.size - size));
    }
    Ok((outside.log_name == log_name && holds(tx, outside)?).then_some(0))
}

/// Whether the stored log begins with the tree of a checkpoint, which is not larger.
fn holds(tx: &mut Tx<'_>, outside: &OutsideCheckpoint) -> Result<bool, Error> {
    if outside.size == 0 {
        return Ok(true);
    }
    let root = tree::prove(tx, &outside.tenant_id, |nodes| tlog_tiles::tree_hash(outside.size, nodes))?;
    Ok(root.is_ok_and(|root| root == outside.root))
}
