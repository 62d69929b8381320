//! `/v1/audit-events`

use actix_web::get;
use actix_web::web::{Data, Query};
use utoipa_actix_web::service_config::ServiceConfig;

use super::{AuditEvent, EventFilter};
use crate::app::App;
use crate::error::Error;
use crate::http::{Caller, Json, Page, ReadAudit, ReadProblems};

pub(crate) fn configure(service: &mut ServiceConfig) {
    service.service(list_audit_events);
}

/// Query the audit trail
///
/// Newest first, cut to the client's tenants and portal. The `_system` log is
/// for clients that reach every tenant.
#[utoipa::path(tag = "Audit", operation_id = "listAuditEvents", params(EventFilter),
    responses((status = 200, body = Page<AuditEvent>, description = "A page of events"), ReadProblems))]
#[get("/audit-events")]
async fn list_audit_events(
    app: Data<App>,
    caller: Caller<ReadAudit>,
    filter: Query<EventFilter>,
) -> Result<Json<Page<AuditEvent>>, Error> {
    Ok(Json(super::list(&app, &caller, filter.into_inner()).await?))
}
