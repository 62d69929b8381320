//! `/v1/audit-events`, `/v1/audit-log`

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use actix_web::web::Data;
use actix_web::{HttpResponse, get, post};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::export::{self, ExportFormat, ExportQuery};
use super::folder::CheckpointFolder;
use super::holds::{self, LegalHold, PlaceHold, ReleaseHold};
use super::key::LogKey;
use super::log::{self, AuditLog, ConsistencyProof, ConsistencyQuery, InclusionProof, InclusionQuery};
use super::permit::Eraser;
use super::purge::{self, PurgeLog, PurgedLog};
use super::summary::{self, AccessSummary, SummaryQuery};
use super::{AuditEvent, EventFilter, evidence};
use crate::context::Context;
use crate::domain::{ExternalId, IdempotencyKeyText, LogId, Page, Paging};
use crate::error::Error;
use crate::http::{Body, Caller, Created, IdempotencyHeader, Json, ManageAudit, Path, Query, ReadAudit};
use crate::id::{HoldId, LinkId};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service
        .service(export_audit_events)
        .service(list_audit_events)
        .service(get_audit_log)
        .service(get_checkpoint)
        .service(get_inclusion_proof)
        .service(get_consistency_proof)
        .service(get_verifier_key)
        .service(purge_audit_log)
        .service(place_legal_hold)
        .service(list_legal_holds)
        .service(release_legal_hold)
        .service(list_access_summaries)
        .service(get_evidence);
}

/// List audit events
///
/// Newest first, limited to the client's tenants and portal. The `_system` log is
/// readable only by clients of every tenant. Reading is recorded as `audit.read`.
#[utoipa::path(tag = "Audit", operation_id = "listAuditEvents", params(EventFilter),
    responses((status = 200, body = Page<AuditEvent>, description = "A page of audit events")))]
#[get("/audit-events")]
async fn list_audit_events(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    filter: Query<EventFilter>,
) -> Result<Json<Page<AuditEvent>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner(), cx.clock.now()).await?))
}

/// Export a tenant's audit log
///
/// Streamed in order of `log_index`, limited to the client's portal. `ndjson`
/// without filters is the complete log: it ends with a checkpoint, and
/// `magic-link audit verify` verifies it offline. `csv` and `ocsf` (Open
/// Cybersecurity Schema Framework 1.8) cannot be verified by themselves; each
/// line carries index and leaf hash, which identify the event in the log. A
/// response that is cut off is incomplete. Exporting is recorded as
/// `audit.exported`. The complete log is signed: while the database is behind a
/// checkpoint that was kept outside, it is `503 restore_required`.
#[utoipa::path(tag = "Audit", operation_id = "exportAuditEvents", params(ExportQuery),
    responses((status = 200, content((inline(TextBody) = "application/x-ndjson"), (inline(TextBody) = "text/csv")), description = "The audit log, one event per line; `text/csv` with `format=csv`")))]
#[get("/audit-events/export")]
async fn export_audit_events(
    cx: Data<Context>,
    key: Data<LogKey>,
    folder: Data<CheckpointFolder>,
    caller: Caller<ReadAudit>,
    query: Query<ExportQuery>,
) -> Result<HttpResponse, Error> {
    let query = query.into_inner();
    let (tenant_id, format, now) = (query.tenant_id.clone(), query.format, cx.clock.now());
    let export = export::export(cx, (key, &folder), &caller, query, now).await?;
    let mut response = HttpResponse::Ok();
    let name = format!("attachment; filename=\"{tenant_id}-audit.{format}\"");
    response.insert_header((CONTENT_TYPE, format.media_type())).insert_header((CONTENT_DISPOSITION, name));
    if format != ExportFormat::Ndjson {
        let log = format!("</v1/audit-events/export?format=ndjson&tenant_id={tenant_id}>; rel=\"canonical\"");
        response.insert_header((LINK, log));
    }
    Ok(response.streaming(export.into_stream()))
}

/// Read the state of a tenant's audit log
///
/// Size, last checkpoint, deliveries of checkpoints, retention and legal hold.
#[utoipa::path(tag = "Audit", operation_id = "getAuditLog",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log; `_system` for events without a tenant")),
    responses((status = 200, body = AuditLog, description = "State of the audit log")))]
#[get("/audit-log/{tenant_id}")]
async fn get_audit_log(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<Json<AuditLog>, Error> {
    Ok(Json(log::state(&cx, &key, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Read the checkpoint of an audit log
///
/// The log's current size and root, signed (C2SP `tlog-checkpoint`). Keep it where
/// this service and its operators cannot change it: any later export can be
/// verified against it. Events after the last checkpoint that was kept outside
/// are not protected. While the database is behind a checkpoint that was kept
/// outside, nothing is signed: `503 restore_required`.
#[utoipa::path(tag = "Audit", operation_id = "getCheckpoint",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log; `_system` for events without a tenant")),
    responses((status = 200, body = inline(TextBody), content_type = "text/plain", description = "The checkpoint, a signed note (C2SP `signed-note`)")))]
#[get("/audit-log/{tenant_id}/checkpoint")]
async fn get_checkpoint(
    cx: Data<Context>,
    key: Data<LogKey>,
    folder: Data<CheckpointFolder>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(text(log::checkpoint(&cx, (&key, &folder), &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Prove that an event is in the audit log
///
/// Inclusion proof (RFC 6962, section 2.1.1).
#[utoipa::path(tag = "Audit", operation_id = "getInclusionProof",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log"), InclusionQuery),
    responses((status = 200, body = InclusionProof, description = "The inclusion proof")))]
#[get("/audit-log/{tenant_id}/proofs/inclusion")]
async fn get_inclusion_proof(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
    query: Query<InclusionQuery>,
) -> Result<Json<InclusionProof>, Error> {
    Ok(Json(log::inclusion(&cx, &caller, id.into_inner(), query.into_inner()).await?))
}

/// Prove that the audit log is append-only
///
/// Consistency proof between two tree sizes (RFC 6962, section 2.1.2).
#[utoipa::path(tag = "Audit", operation_id = "getConsistencyProof",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log"), ConsistencyQuery),
    responses((status = 200, body = ConsistencyProof, description = "The consistency proof")))]
#[get("/audit-log/{tenant_id}/proofs/consistency")]
async fn get_consistency_proof(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
    query: Query<ConsistencyQuery>,
) -> Result<Json<ConsistencyProof>, Error> {
    Ok(Json(log::consistency(&cx, &caller, id.into_inner(), query.into_inner()).await?))
}

/// Read the verifier key of an audit log
///
/// A C2SP `vkey` (log origin, key id, Ed25519 public key) that verifies the log's
/// checkpoints. Keep it with the first checkpoint.
#[utoipa::path(tag = "Audit", operation_id = "getVerifierKey",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log")),
    responses((status = 200, body = inline(TextBody), content_type = "text/plain", description = "The verifier key (C2SP `vkey`)")))]
#[get("/audit-log/{tenant_id}/verifier-key")]
async fn get_verifier_key(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(text(log::verifier_key(&cx, &key, &caller, id.into_inner()).await? + "\n"))
}

/// Erase event payloads
///
/// Deletes names, reasons, data and salts of events recorded before a given time,
/// and what is said of people by links, requests and sessions of links whose window
/// ended before it; their mails are removed. Leaves are kept, and every proof stays
/// valid. Refused with `409
/// retention_not_over` before the tenant's `retention_days` have passed and with
/// `409 legal_hold` while a hold is in force; both are recorded. The service also
/// erases what is past its retention by itself, once an hour. A restored backup has
/// forgotten later holds: after `magic-link restore` every log is held until issuing
/// is unfrozen, and before it this is `503 restore_required`. It is 503 as well while the
/// clock of the service is in doubt, or somebody changes what is left: repeat it then.
#[utoipa::path(tag = "Audit", operation_id = "purgeAuditLog", request_body = PurgeLog,
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log")),
    responses((status = 200, body = PurgedLog, description = "Number of erased payloads")))]
#[post("/audit-log/{tenant_id}/purges")]
async fn purge_audit_log(
    cx: Data<Context>,
    folder: Data<CheckpointFolder>,
    caller: Caller<ManageAudit>,
    id: Path<String>,
    body: Body<PurgeLog>,
) -> Result<Json<PurgedLog>, Error> {
    let eraser = Eraser { cx: &cx, folder: &folder, now: cx.clock.now(), clock_is_right: false };
    Ok(Json(purge::purge(eraser, &caller, id.into_inner(), body.value).await?))
}

/// Place a legal hold
///
/// No payload of the tenant's audit log is erased while the hold is in force. Needs a
/// client that is bound to no portal.
#[utoipa::path(tag = "Audit", operation_id = "placeLegalHold", request_body = PlaceHold,
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log"),
        ("Idempotency-Key" = Option<IdempotencyKeyText>, Header, description = "Key that makes a retry safe for 24 hours")),
    responses((status = 201, body = LegalHold, description = "The legal hold was placed")))]
#[post("/audit-log/{tenant_id}/legal-holds")]
async fn place_legal_hold(
    cx: Data<Context>,
    caller: Caller<ManageAudit>,
    id: Path<String>,
    idempotency: IdempotencyHeader,
    body: Body<PlaceHold>,
) -> Result<Created<LegalHold>, Error> {
    let key = idempotency.scoped(&caller, &body)?;
    let value = holds::place(&cx, &caller, id.into_inner(), body.value, key, cx.clock.now()).await?;
    Ok(Created { location: None, value })
}

/// List legal holds
///
/// Needs a client that is bound to no portal: reasons concern the whole tenant.
#[utoipa::path(tag = "Audit", operation_id = "listLegalHolds",
    params(("tenant_id" = LogId, Path, example = "acme", description = "Tenant of the audit log"), Paging),
    responses((status = 200, body = Page<LegalHold>, description = "A page of legal holds, newest first")))]
#[get("/audit-log/{tenant_id}/legal-holds")]
async fn list_legal_holds(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
    paging: Query<Paging>,
) -> Result<Json<Page<LegalHold>>, Error> {
    Ok(Json(holds::list(&cx, &caller, id.into_inner(), paging.into_inner()).await?))
}

/// Release a legal hold
///
/// Only for a client whose tenants include all those of the client that placed the
/// hold: what an operator of every tenant placed, only such an operator releases.
/// Releasing a released hold changes nothing. While the database is behind a
/// checkpoint that was kept outside, nothing is released: `503 restore_required`.
#[utoipa::path(tag = "Audit", operation_id = "releaseLegalHold", request_body = ReleaseHold,
    params(("tenant_id" = LogId, Path, example = "globex", description = "Tenant of the audit log"),
        ("id" = HoldId, Path, description = "Legal hold id")),
    responses((status = 200, body = LegalHold, description = "The released legal hold")))]
#[post("/audit-log/{tenant_id}/legal-holds/{id}/release")]
async fn release_legal_hold(
    cx: Data<Context>,
    folder: Data<CheckpointFolder>,
    caller: Caller<ManageAudit>,
    path: Path<(String, HoldId)>,
    body: Body<ReleaseHold>,
) -> Result<Json<LegalHold>, Error> {
    let (tenant_id, id) = path.into_inner();
    Ok(Json(holds::release(&cx, &folder, &caller, tenant_id, id, body.value, cx.clock.now()).await?))
}

/// Summarise access to a person's data
///
/// Each session in which a consultant viewed, exported or changed the person's
/// data: consultant, profile, reason, times and counts. Newest session first. It
/// supports requests under section 11 of the Digital Personal Data Protection Act,
/// 2023. It is only as complete as the portals' reports; see `audit_state` of the
/// sessions. A client that is bound to a portal gets that portal's sessions only:
/// who answers the person asks with one that is bound to none.
#[utoipa::path(tag = "Audit", operation_id = "listAccessSummaries",
    params(("principal_id" = ExternalId, Path, example = "emp-9", description = "Person whose data was accessed (the portal's own id)"), SummaryQuery),
    responses((status = 200, body = Page<AccessSummary>, description = "A page of sessions, newest first: of every portal, or of the client's own if it is bound to one")))]
#[get("/access-summaries/{principal_id}")]
async fn list_access_summaries(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    principal: Path<String>,
    query: Query<SummaryQuery>,
) -> Result<Json<Page<AccessSummary>>, Error> {
    let now = cx.clock.now();
    Ok(Json(summary::summary(&cx, &caller, principal.into_inner(), query.into_inner(), now).await?))
}

/// Read the evidence pack of a link
///
/// One signed document: the link, its e-mails, sessions, events, refusals and
/// revocation, an inclusion proof for each event, and the log's checkpoint.
/// `magic-link audit verify` verifies it offline with the log's verifier key.
/// Store the response unchanged, byte for byte. While the database is behind a
/// checkpoint that was kept outside, nothing is signed: `503 restore_required`.
#[utoipa::path(tag = "Audit", operation_id = "getEvidence",
    params(("id" = LinkId, Path, description = "Link id")),
    responses((status = 200, body = EvidencePack, description = "The evidence pack, canonical JSON (RFC 8785)")))]
#[get("/magic-links/{id}/evidence")]
async fn get_evidence(
    cx: Data<Context>,
    key: Data<LogKey>,
    folder: Data<CheckpointFolder>,
    caller: Caller<ReadAudit>,
    id: Path<LinkId>,
) -> Result<HttpResponse, Error> {
    let pack = evidence::pack(&cx, (&key, &folder), &caller, id.into_inner(), cx.clock.now()).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(pack))
}

/// The signed evidence about a link. The signature is over the bytes of `evidence`, so only the pack as it was answered
/// can be verified.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it stands for a body in the API description")]
struct EvidencePack {
    /// Link, e-mails, sessions, events, refusals and revocation, with the proofs and the checkpoint.
    #[schema(value_type = Object)]
    evidence: serde_json::Value,
    /// Signature lines of a signed note (C2SP `signed-note`) over origin, purpose and SHA-256 of the evidence.
    #[schema(max_length = 1000)]
    signature: String,
}

/// A response body that generators treat as opaque text.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands for a body in the API description")]
struct TextBody(String);

fn text(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(body)
}
