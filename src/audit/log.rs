//! A tenant's audit log as seen with the scope `audit:read`: state, checkpoint, proofs, verifier key.

use actix_web::web::Data;
use serde::{Deserialize, Serialize};
use tlog_tiles::HashReader;
use utoipa::{IntoParams, ToSchema};

use super::folder::CheckpointFolder;
use super::key::LogKey;
use super::permit::retention_end;
use super::{CheckpointChannel, checkpoint as checkpoints, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::SYSTEM_LOG;
use crate::error::{Code, Error};
use crate::http::Caller;
use crate::journal::rows;
use crate::journal::tree::{self, TreeHash};
use crate::{records, tenants};

/// The event and the tree size of an inclusion proof.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct InclusionQuery {
    /// `log_index` of the event.
    #[param(minimum = 0, example = 0)]
    pub index: i64,
    /// Number of events in the tree: the size in a checkpoint.
    #[param(minimum = 1, example = 1)]
    pub size: i64,
}

/// The two tree sizes of a consistency proof.
#[derive(Debug, Clone, Copy, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ConsistencyQuery {
    /// Tree size in the older checkpoint.
    #[param(minimum = 1, example = 1)]
    pub from: i64,
    /// Tree size in the newer checkpoint.
    #[param(minimum = 1, example = 1)]
    pub to: i64,
}

/// Proof that an event is in the tree (RFC 6962, section 2.1.1).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct InclusionProof {
    /// Index of the event in the log, from 0.
    #[schema(minimum = 0)]
    pub log_index: i64,
    /// Number of events in the tree.
    #[schema(minimum = 1)]
    pub tree_size: i64,
    /// Leaf hash of the event (SHA-256, base64).
    pub leaf_hash: TreeHash,
    /// Root hash of the tree (SHA-256, base64).
    pub root_hash: TreeHash,
    /// Audit path from the leaf to the root (SHA-256 hashes, base64).
    #[schema(max_items = 64)]
    pub hashes: Vec<TreeHash>,
}

/// Proof that the newer tree begins with the older one (RFC 6962, section 2.1.2).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsistencyProof {
    /// Number of events in the older tree.
    #[schema(minimum = 1)]
    pub from_size: i64,
    /// Number of events in the newer tree.
    #[schema(minimum = 1)]
    pub to_size: i64,
    /// Root hash of the older tree (SHA-256, base64).
    pub from_root: TreeHash,
    /// Root hash of the newer tree (SHA-256, base64).
    pub to_root: TreeHash,
    /// Consistency proof (SHA-256 hashes, base64).
    #[schema(max_items = 64)]
    pub hashes: Vec<TreeHash>,
}

/// Delivery state of a log's checkpoints at an external receiver.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct CheckpointDelivery {
    /// Channel the checkpoints are delivered through.
    pub channel: CheckpointChannel,
    /// Number of events covered by the newest checkpoint that was delivered.
    #[schema(minimum = 0)]
    pub size: i64,
    /// When that checkpoint was delivered (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// Why the last delivery attempt failed; absent after a success. The receiver is the operators', and so is this: only
    /// for clients of every tenant and portal with the scope `admin` or `consultants:write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub last_error: Option<String>,
}

/// State of a tenant's audit log.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AuditLog {
    /// Tenant of the log; `_system` for events without a tenant.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Origin of the log: its name in checkpoints (C2SP `tlog-checkpoint`).
    #[schema(max_length = 300)]
    pub origin: String,
    /// Number of events in the log.
    #[schema(minimum = 0)]
    pub size: i64,
    /// Number of events covered by the last checkpoint; 0 without one.
    #[schema(minimum = 0)]
    pub checkpoint_size: i64,
    /// When the last checkpoint was signed (RFC 3339, UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_signed_at: Option<Timestamp>,
    /// Checkpoints delivered to external receivers: only events they cover are protected from an operator who controls
    /// both the database and the signing key.
    #[schema(max_items = 10)]
    pub deliveries: Vec<CheckpointDelivery>,
    /// Retention period in days: of payloads from their recording on, and of what links, requests and sessions say of people
    /// from the end of the link's window on.
    #[schema(minimum = 366)]
    pub retention_days: i64,
    /// Whether a legal hold is in force.
    pub legal_hold: bool,
    /// What was recorded, or ended, before this time is past its retention (RFC 3339, UTC): it is erased within the hour.
    /// Absent while a legal hold is in force, which keeps everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retained_since: Option<Timestamp>,
    /// Payloads of events below this index are erased, except those of `audit.purged`,
    /// `log.restored` and `log.key_changed`
    /// events.
    #[schema(minimum = 0)]
    pub erased_to_index: i64,
}

/// State of a tenant's audit log.
pub(crate) async fn state<S>(
    cx: &Context,
    key: &LogKey,
    caller: &Caller<S>,
    tenant_id: String,
    now: Timestamp,
) -> Result<AuditLog, Error> {
    check(caller, &tenant_id)?;
    let default = cx.config.audit.retention;
    let is_operator = caller.authority().is_operator();
    let (log_name, log) = cx
        .store
        .read(move |conn| {
            let checkpoint = store::latest_checkpoint(conn, &tenant_id)?;
            let retention =
                records::tenants::retention_days(conn, &tenant_id)?.map_or_else(|| default.whole_days(), i64::from);
            let retained_since = retention_end(conn, &tenant_id, default, now)?;
            let deliveries = store::deliveries(conn, &tenant_id)?.into_iter().map(|row| CheckpointDelivery {
                channel: row.channel,
                size: row.size,
                delivered_at: row.delivered_at,
                last_error: row.last_error.filter(|_| is_operator),
            });
            let log = AuditLog {
                origin: String::new(),
                deliveries: deliveries.collect(),
                size: i64::try_from(rows::head(conn, &tenant_id)?.size()).map_err(Error::internal)?,
                checkpoint_size: checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size),
                checkpoint_signed_at: checkpoint.map(|checkpoint| checkpoint.signed_at),
                retention_days: retention,
                legal_hold: retained_since.is_none(),
                retained_since,
                erased_to_index: store::erased_to(conn, &tenant_id)?,
                tenant_id: tenant_id.clone(),
            };
            Ok((rows::named_head(conn, &tenant_id)?.name, log))
        })
        .await?;
    Ok(AuditLog { origin: key.origin(&log_name), ..log })
}

/// Refuses a log outside the caller's reach.
pub(super) fn check<S>(caller: &Caller<S>, tenant_id: &str) -> Result<(), Error> {
    let is_a_log = tenant_id == SYSTEM_LOG || tenants::is_tenant_id(tenant_id);
    if is_a_log && caller.reach.covers_tenant(tenant_id) { Ok(()) } else { Err(Error::not_found()) }
}

/// Refuses a client that is bound to one portal: the log covers every portal of the tenant.
pub(super) fn check_whole<S>(caller: &Caller<S>, tenant_id: &str) -> Result<(), Error> {
    check(caller, tenant_id)?;
    if caller.reach.portal.is_none() { Ok(()) } else { Err(Code::ClientNotPermitted.into()) }
}

/// Refuses a tenant that was never registered and has no log: at the command line it is mistyped, and a hold on nothing
/// would be taken for one on the log that was meant.
pub(crate) async fn require_known(cx: &Context, tenant_id: &str) -> Result<(), Error> {
    let id = tenant_id.to_owned();
    let known = cx.store.read(move |conn| {
        Ok(id == SYSTEM_LOG || rows::has_begun(conn, &id)? || records::tenants::find(conn, &id)?.is_some())
    });
    if known.await? {
        return Ok(());
    }
    let detail = format!("`{tenant_id}` is not registered as a tenant, and nothing is on record of it");
    Err(Error::not_found().detail(detail))
}

/// The log's checkpoint as a signed note; signs a new one if the log has grown.
pub(crate) async fn checkpoint<S>(
    cx: &Context,
    keys: (&Data<LogKey>, &CheckpointFolder),
    caller: &Caller<S>,
    tenant_id: String,
    now: Timestamp,
) -> Result<String, Error> {
    check(caller, &tenant_id)?;
    Ok(checkpoints::checkpoint(cx, keys, tenant_id, now).await?.note)
}

/// The key that verifies the log's checkpoints (C2SP `vkey`).
pub(crate) async fn verifier_key<S>(
    cx: &Context,
    key: &LogKey,
    caller: &Caller<S>,
    tenant_id: String,
) -> Result<String, Error> {
    check(caller, &tenant_id)?;
    key.refresh(cx).await?;
    let log = cx.store.read(move |conn| Ok(rows::named_head(conn, &tenant_id)?)).await?;
    Ok(key.verifier_key(&*key.of_log(log.key_id.as_deref())?, &log.name))
}

/// Proves that an event is in the log.
pub(crate) async fn inclusion<S>(
    cx: &Context,
    caller: &Caller<S>,
    tenant_id: String,
    query: InclusionQuery,
) -> Result<InclusionProof, Error> {
    check(caller, &tenant_id)?;
    let InclusionQuery { index, size } = query;
    let (Ok(number), Ok(tree_size)) = (u64::try_from(index), u64::try_from(size)) else { return Err(out_of_log()) };
    cx.store
        .read(move |conn| {
            if number >= tree_size || tree_size > rows::head(conn, &tenant_id)?.size() {
                return Err(out_of_log());
            }
            let proven = tree::prove(conn, &tenant_id, |nodes| {
                let leaf = nodes.read_hashes(&[tlog_tiles::stored_hash_index(0, number)])?;
                let leaf = leaf.first().copied().ok_or(tlog_tiles::Error::IndexesNotInTree)?;
                let proof = tlog_tiles::prove_record(tree_size, number, nodes)?;
                Ok((leaf, proof, tlog_tiles::tree_hash(tree_size, nodes)?))
            })?;
            let (leaf, proof, root) = proven.map_err(Error::internal)?;
            Ok(InclusionProof {
                log_index: index,
                tree_size: size,
                leaf_hash: leaf.into(),
                root_hash: root.into(),
                hashes: tree::shown(proof),
            })
        })
        .await
}

/// Proves that the log only grew between two sizes.
pub(crate) async fn consistency<S>(
    cx: &Context,
    caller: &Caller<S>,
    tenant_id: String,
    query: ConsistencyQuery,
) -> Result<ConsistencyProof, Error> {
    check(caller, &tenant_id)?;
    let ConsistencyQuery { from, to } = query;
    let (Ok(older), Ok(newer)) = (u64::try_from(from), u64::try_from(to)) else { return Err(out_of_log()) };
    cx.store
        .read(move |conn| {
            if older == 0 || older > newer || newer > rows::head(conn, &tenant_id)?.size() {
                return Err(out_of_log());
            }
            let proven = tree::prove(conn, &tenant_id, |nodes| {
                let proof = tlog_tiles::prove_tree(newer, older, nodes)?;
                Ok((proof, tlog_tiles::tree_hash(older, nodes)?, tlog_tiles::tree_hash(newer, nodes)?))
            })?;
            let (proof, from_root, to_root) = proven.map_err(Error::internal)?;
            Ok(ConsistencyProof {
                from_size: from,
                to_size: to,
                from_root: from_root.into(),
                to_root: to_root.into(),
                hashes: tree::shown(proof),
            })
        })
        .await
}

fn out_of_log() -> Error {
    Error::new(Code::InvalidQuery).detail("the log has no such event or size")
}
