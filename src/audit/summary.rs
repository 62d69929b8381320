//! Who looked at or changed one person's data: the answer that section 11 of the
//! Digital Personal Data Protection Act, 2023 entitles them to.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{log, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Access, EventType, Page, Paging, Person, is_external_id};
use crate::error::{Code, Error};
use crate::http::{Caller, ReadAudit};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::journal::Event;
use crate::records;

/// Whose log is asked.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SummaryQuery {
    /// The person's company.
    #[param(max_length = 64, example = "acme")]
    pub tenant_id: String,
    /// Items a page, 50 unless told; more than 200 is cut to 200.
    #[param(minimum = 1, maximum = 200)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// One session in which a person's data was touched.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccessSummary {
    /// The session.
    pub session_id: SessionId,
    /// Its link.
    pub magic_link_id: LinkId,
    /// The portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Who acted.
    pub consultant: ConsultantName,
    /// As whom.
    pub profile: Person,
    /// How much they might do.
    pub access: Access,
    /// Why the access was granted.
    #[schema(max_length = 500)]
    pub reason: String,
    /// The support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// When the person's data was first touched.
    pub first_at: Timestamp,
    /// When it was last touched.
    pub last_at: Timestamp,
    /// How often it was looked at.
    #[schema(minimum = 0)]
    pub views: i64,
    /// How often it was taken out.
    #[schema(minimum = 0)]
    pub exports: i64,
    /// How often it was changed.
    #[schema(minimum = 0)]
    pub changes: i64,
}

/// A consultant by name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsultantName {
    /// Their id.
    pub id: ConsultantId,
    /// Their name.
    #[schema(max_length = 100)]
    pub name: String,
}

/// A page of the sessions that touched a person's data, newest first. Asking is an event too.
pub(crate) async fn summary(
    cx: &Context,
    caller: &Caller<ReadAudit>,
    principal_id: String,
    query: SummaryQuery,
    now: Timestamp,
) -> Result<Page<AccessSummary>, Error> {
    log::check(caller, &query.tenant_id)?;
    if !is_external_id(&principal_id) {
        return Err(Error::new(Code::InvalidId).detail("a person's id has 1 to 128 printable ASCII characters"));
    }
    let paging = Paging { page_size: query.page_size, cursor: query.cursor };
    let page = paging.open(cx.tokens.master_key(), ("access-summary", &query.tenant_id, &principal_id))?;
    let (asked, portal, tenant_id) = (page.clone(), caller.reach.portal.clone(), query.tenant_id);
    let event = Event::new(EventType::AuditRead, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .tenant(&tenant_id)
        .with(&serde_json::json!({ "what": "access_summary", "principal_id": principal_id }));
    let items = cx
        .store
        .read(move |conn| {
            let portal = portal.as_deref();
            let ids = store::sessions_touching(conn, &tenant_id, portal, &principal_id, &asked)?;
            let mut touches: HashMap<SessionId, Vec<store::Touches>> = HashMap::new();
            for touch in store::touches(conn, &tenant_id, &principal_id, &ids)? {
                if let Some(session) = touch.0.clone() {
                    touches.entry(session).or_default().push(touch);
                }
            }
            let mut items = Vec::with_capacity(ids.len());
            for id in ids {
                let session =
                    records::sessions::find(conn, &id)?.ok_or_else(|| Error::internal("acts without their session"))?;
                let consultant = records::consultants::find(conn, &session.consultant_id)?
                    .ok_or_else(|| Error::internal("a session without its consultant"))?;
                let its_own = touches.remove(&id).unwrap_or_default();
                let count = |kind| its_own.iter().filter(|touch| touch.1 == kind).map(|touch| touch.2).sum();
                let first_at = its_own.iter().filter_map(|touch| touch.3).min();
                let last_at = its_own.iter().filter_map(|touch| touch.4).max();
                items.push(AccessSummary {
                    session_id: id,
                    magic_link_id: session.magic_link_id,
                    portal: session.portal,
                    consultant: ConsultantName { id: consultant.id, name: consultant.name },
                    profile: Person { id: session.profile_id, name: session.profile_name },
                    access: session.access,
                    reason: session.reason,
                    ticket: session.ticket,
                    first_at: first_at.unwrap_or(session.started_at),
                    last_at: last_at.unwrap_or(session.started_at),
                    views: count(EventType::DataViewed),
                    exports: count(EventType::DataExported),
                    changes: count(EventType::DataChanged),
                });
            }
            Ok(items)
        })
        .await?;
    cx.store.record(vec![event]).await?;
    Ok(page.answer(cx.tokens.master_key(), items, |item| item.session_id.as_str(), |item| item))
}
