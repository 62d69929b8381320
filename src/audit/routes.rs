//! `/v1/audit-events`, `/v1/audit-log`

use actix_web::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use actix_web::web::{Data, Path, Query};
use actix_web::{HttpResponse, get, post};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

use super::export::{self, ExportFormat, ExportQuery};
use super::holds::{self, LegalHold, PlaceHold, ReleaseHold};
use super::key::LogKey;
use super::log::{self, AuditLog, ConsistencyProof, ConsistencyQuery, InclusionProof, InclusionQuery};
use super::purge::{self, PurgeLog, PurgedLog};
use super::summary::{self, AccessSummary, SummaryQuery};
use super::{AuditEvent, EventFilter, evidence};
use crate::context::Context;
use crate::domain::{Page, Paging};
use crate::error::Error;
use crate::http::{Admin, Body, Caller, Created, IdempotencyHeader, Json, ReadAudit, ReadProblems, WriteProblems};
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

/// Query the audit trail
///
/// Newest first, cut to the client's tenants and portal. The `_system` log is
/// for clients that reach every tenant. Reading the trail is an event, too:
/// `audit.read`.
#[utoipa::path(tag = "Audit", operation_id = "listAuditEvents", params(EventFilter),
    responses((status = 200, body = Page<AuditEvent>, description = "A page of events"), ReadProblems))]
#[get("/audit-events")]
async fn list_audit_events(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    filter: Query<EventFilter>,
) -> Result<Json<Page<AuditEvent>>, Error> {
    Ok(Json(super::list(&cx, &caller, filter.into_inner(), cx.clock.now()).await?))
}

/// Export a tenant's log
///
/// In order of `log_index`, cut to the client's portal, streamed. `ndjson` without
/// filters is the whole log: it ends with a checkpoint, and
/// `magic-link audit verify` checks it offline. `csv` and `ocsf` (Open
/// Cybersecurity Schema Framework 1.8) are views of it that cannot be verified by
/// themselves; each line carries index and leaf hash, so that it can be found
/// again in the log. An answer that breaks off is not whole. Exporting is an
/// event, too: `audit.exported`.
#[utoipa::path(tag = "Audit", operation_id = "exportAuditEvents", params(ExportQuery),
    responses((status = 200, body = inline(TextBody), content_type = "application/x-ndjson", description = "The log, line by line; `text/csv` with `format=csv`"), ReadProblems))]
#[get("/audit-events/export")]
async fn export_audit_events(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    query: Query<ExportQuery>,
) -> Result<HttpResponse, Error> {
    let query = query.into_inner();
    let (tenant_id, format, now) = (query.tenant_id.clone(), query.format, cx.clock.now());
    let export = export::export(cx, key, &caller, query, now).await?;
    let mut response = HttpResponse::Ok();
    let name = format!("attachment; filename=\"{tenant_id}-audit.{format}\"");
    response.insert_header((CONTENT_TYPE, format.media_type())).insert_header((CONTENT_DISPOSITION, name));
    if format != ExportFormat::Ndjson {
        let log = format!("</v1/audit-events/export?format=ndjson&tenant_id={tenant_id}>; rel=\"canonical\"");
        response.insert_header((LINK, log));
    }
    Ok(response.streaming(export.into_stream()))
}

/// Read how a tenant's log stands
///
/// Its size, what the last checkpoint covers, and for how long what is kept.
#[utoipa::path(tag = "Audit", operation_id = "getAuditLog",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log; `_system` for what belongs to no tenant")),
    responses((status = 200, body = AuditLog, description = "The log"), ReadProblems))]
#[get("/audit-log/{tenant_id}")]
async fn get_audit_log(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<Json<AuditLog>, Error> {
    Ok(Json(log::state(&cx, &key, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Read a log's checkpoint
///
/// Its size and root, signed (C2SP `tlog-checkpoint`), as of now. Keep it where
/// this service and its operators cannot reach it: any export can be checked
/// against it later. Events after the last checkpoint that was kept outside are
/// not protected.
#[utoipa::path(tag = "Audit", operation_id = "getCheckpoint",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log; `_system` for what belongs to no tenant")),
    responses((status = 200, body = inline(TextBody), content_type = "text/plain", description = "A signed note"), ReadProblems))]
#[get("/audit-log/{tenant_id}/checkpoint")]
async fn get_checkpoint(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(text(log::checkpoint(&cx, &key, &caller, id.into_inner(), cx.clock.now()).await?))
}

/// Prove that an event is in the log
///
/// RFC 6962, section 2.1.1.
#[utoipa::path(tag = "Audit", operation_id = "getInclusionProof",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log"), InclusionQuery),
    responses((status = 200, body = InclusionProof, description = "The audit path"), ReadProblems))]
#[get("/audit-log/{tenant_id}/proofs/inclusion")]
async fn get_inclusion_proof(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
    query: Query<InclusionQuery>,
) -> Result<Json<InclusionProof>, Error> {
    Ok(Json(log::inclusion(&cx, &caller, id.into_inner(), query.into_inner()).await?))
}

/// Prove that the log only grew
///
/// RFC 6962, section 2.1.2.
#[utoipa::path(tag = "Audit", operation_id = "getConsistencyProof",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log"), ConsistencyQuery),
    responses((status = 200, body = ConsistencyProof, description = "The proof"), ReadProblems))]
#[get("/audit-log/{tenant_id}/proofs/consistency")]
async fn get_consistency_proof(
    cx: Data<Context>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
    query: Query<ConsistencyQuery>,
) -> Result<Json<ConsistencyProof>, Error> {
    Ok(Json(log::consistency(&cx, &caller, id.into_inner(), query.into_inner()).await?))
}

/// Read what verifies a log's checkpoints
///
/// A C2SP `vkey`: the log's name, a key id, and an Ed25519 public key. Keep it
/// with the first checkpoint.
#[utoipa::path(tag = "Audit", operation_id = "getVerifierKey",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log")),
    responses((status = 200, body = inline(TextBody), content_type = "text/plain", description = "The key"), ReadProblems))]
#[get("/audit-log/{tenant_id}/verifier-key")]
async fn get_verifier_key(
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<String>,
) -> Result<HttpResponse, Error> {
    Ok(text(log::verifier_key(&key, &caller, &id)? + "\n"))
}

/// Erase payloads before their time comes by itself
///
/// Names, reasons, values and salts of events that were recorded before a moment.
/// What the log commits to stays, and every proof still holds. `409
/// retention_not_over` where the tenant's `retention_days` have not passed, `409
/// legal_hold` while a hold stands; both are recorded. The service does the same
/// by itself once an hour for what is older than the retention.
#[utoipa::path(tag = "Audit", operation_id = "purgeAuditLog", request_body = PurgeLog,
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log")),
    responses((status = 200, body = PurgedLog, description = "What was erased"), WriteProblems))]
#[post("/audit-log/{tenant_id}/purges")]
async fn purge_audit_log(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<String>,
    body: Body<PurgeLog>,
) -> Result<Json<PurgedLog>, Error> {
    Ok(Json(purge::purge(&cx, &caller, id.into_inner(), body.value, cx.clock.now()).await?))
}

/// Place a legal hold
///
/// Nothing of the tenant's log is erased while it stands.
#[utoipa::path(tag = "Audit", operation_id = "placeLegalHold", request_body = PlaceHold,
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log"),
        ("Idempotency-Key" = Option<String>, Header, max_length = 128, description = "Makes a repeat safe for 24 hours")),
    responses((status = 201, body = LegalHold, description = "The hold"), WriteProblems))]
#[post("/audit-log/{tenant_id}/legal-holds")]
async fn place_legal_hold(
    cx: Data<Context>,
    caller: Caller<Admin>,
    id: Path<String>,
    idempotency: IdempotencyHeader,
    body: Body<PlaceHold>,
) -> Result<Created<LegalHold>, Error> {
    // The tenant stands in the path, so it belongs to what was asked for.
    let asked = || format!("{id} {}", body.fingerprint());
    let key = idempotency.scoped(&caller, "POST /v1/audit-log/{tenant_id}/legal-holds", asked);
    let (value, replayed) = holds::place(&cx, &caller, id.into_inner(), body.value, key, cx.clock.now()).await?;
    Ok(Created { value, replayed })
}

/// List legal holds
#[utoipa::path(tag = "Audit", operation_id = "listLegalHolds",
    params(("tenant_id" = String, Path, max_length = 64, example = "acme", description = "Whose log"), Paging),
    responses((status = 200, body = Page<LegalHold>, description = "A page of holds, newest first"), ReadProblems))]
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
/// Releasing it again changes nothing.
#[utoipa::path(tag = "Audit", operation_id = "releaseLegalHold", request_body = ReleaseHold,
    params(("tenant_id" = String, Path, max_length = 64, example = "globex", description = "Whose log"),
        ("id" = HoldId, Path, description = "The hold")),
    responses((status = 200, body = LegalHold, description = "The hold"), WriteProblems))]
#[post("/audit-log/{tenant_id}/legal-holds/{id}/release")]
async fn release_legal_hold(
    cx: Data<Context>,
    caller: Caller<Admin>,
    path: Path<(String, HoldId)>,
    body: Body<ReleaseHold>,
) -> Result<Json<LegalHold>, Error> {
    let (tenant_id, id) = path.into_inner();
    Ok(Json(holds::release(&cx, &caller, tenant_id, id, body.value, cx.clock.now()).await?))
}

/// Summarise who touched a person's data
///
/// Each session in which a consultant looked at, took out or changed the person's
/// data: who, as whom, why, when, and how often. Newest session first. It answers
/// what section 11 of the Digital Personal Data Protection Act, 2023 lets a person
/// ask. It is as whole as the portals' reports; see `audit_state` of the sessions.
#[utoipa::path(tag = "Audit", operation_id = "listAccessSummaries",
    params(("principal_id" = String, Path, max_length = 128, example = "emp-9", description = "The person, by the portal's own id"), SummaryQuery),
    responses((status = 200, body = Page<AccessSummary>, description = "A page of sessions"), ReadProblems))]
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

/// Pack the evidence about a link
///
/// One signed document: the link, its mails, sessions, events, refusals and
/// revocation, an inclusion proof for each event, and the log's checkpoint.
/// `magic-link audit verify` checks it offline with the log's verifier key. Keep
/// the answer byte for byte.
#[utoipa::path(tag = "Audit", operation_id = "getEvidence",
    params(("id" = LinkId, Path, description = "The link")),
    responses((status = 200, body = inline(TextBody), content_type = "application/json", description = "The evidence, in canonical form (RFC 8785)"), ReadProblems))]
#[get("/magic-links/{id}/evidence")]
async fn get_evidence(
    cx: Data<Context>,
    key: Data<LogKey>,
    caller: Caller<ReadAudit>,
    id: Path<LinkId>,
) -> Result<HttpResponse, Error> {
    let pack = evidence::pack(&cx, &key, &caller, id.into_inner(), cx.clock.now()).await?;
    Ok(HttpResponse::Ok().content_type("application/json").body(pack))
}

/// What is no JSON for a generator to take apart.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it stands for a body in the API description")]
struct TextBody(String);

fn text(body: String) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(body)
}
