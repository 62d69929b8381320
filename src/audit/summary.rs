//! Access summary of one person's data: the information that section 11 of the
//! Digital Personal Data Protection Act, 2023 entitles the person to.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{log, store};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Access, Cursor, EventType, LogId, Page, Paging, PersonRef, unless_erased};
use crate::error::Error;
use crate::http::{Caller, ReadAudit};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::journal::{Event, rows};
use crate::records;

/// Tenant and paging of an access summary.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SummaryQuery {
    /// Tenant of the person.
    #[param(value_type = LogId, example = "acme")]
    pub tenant_id: String,
    /// Items per page, 50 by default; a value above 200 counts as 200.
    #[param(minimum = 1, default = 50)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<Cursor>)]
    pub cursor: Option<String>,
}

/// One session in which a person's data was accessed, or in which the consultant acted as that person.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AccessSummary {
    /// Session in which the data was accessed.
    pub session_id: SessionId,
    /// Link the session was opened with.
    pub magic_link_id: LinkId,
    /// Portal the data was accessed in.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Consultant who accessed the data.
    pub consultant: ConsultantName,
    /// Profile the consultant acted as.
    pub profile: PersonRef,
    /// Access the link granted.
    pub access: Access,
    /// Why access was granted; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// Support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// When the person's data was first accessed in the session (RFC 3339, UTC); its start, if nothing was reported.
    pub first_at: Timestamp,
    /// When the person's data was last accessed in the session (RFC 3339, UTC); its start, if nothing was reported.
    pub last_at: Timestamp,
    /// Number of views of the person's data.
    #[schema(minimum = 0)]
    pub views: i64,
    /// Number of exports of the person's data.
    #[schema(minimum = 0)]
    pub exports: i64,
    /// Number of changes to the person's data, as reported: one that was taken back is two.
    #[schema(minimum = 0)]
    pub changes: i64,
}

/// A consultant's id and name.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ConsultantName {
    /// Consultant id.
    pub id: ConsultantId,
    /// Consultant's name; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 100)]
    pub name: Option<String>,
}

/// A page of the sessions that accessed a person's data or acted as the person, newest first. The query is recorded too.
pub(crate) async fn summary(
    cx: &Context,
    caller: &Caller<ReadAudit>,
    principal_id: String,
    query: SummaryQuery,
    now: Timestamp,
) -> Result<Page<AccessSummary>, Error> {
    log::check(caller, &query.tenant_id)?;
    let paging = Paging { page_size: query.page_size, cursor: query.cursor };
    let page = paging.open(cx.tokens.master_key(), ("access-summary", &query.tenant_id, &principal_id))?;
    let (asked, portal, tenant_id) = (page.clone(), caller.reach.portal.clone(), query.tenant_id);
    let event = Event::new(EventType::AuditRead, caller.actor(None), now)
        .client(caller.client_id.as_ref())
        .with(&serde_json::json!({ "what": "access_summary", "tenant_id": tenant_id, "principal_id": principal_id }));
    let (items, log) = cx
        .store
        .read_large(move |conn| {
            let portal = portal.as_deref();
            let mut ids = store::sessions_touching(conn, &tenant_id, portal, &principal_id, &asked)?;
            // Whoever acted as the person could see all of it, whatever was reported.
            ids.extend(records::sessions::opened_as(conn, &tenant_id, portal, &principal_id, &asked)?);
            ids.sort_unstable_by(|one, other| other.as_str().cmp(one.as_str()));
            ids.dedup();
            ids.truncate(usize::try_from(asked.limit).unwrap_or(usize::MAX));
            let mut touches: HashMap<SessionId, Vec<store::Touches>> = HashMap::new();
            for touch in store::touches(conn, &tenant_id, &principal_id, &ids)? {
                if let Some(session) = touch.session_id.clone() {
                    touches.entry(session).or_default().push(touch);
                }
            }
            let mut items = Vec::with_capacity(ids.len());
            for id in ids {
                let session = records::sessions::find(conn, &id)?
                    .ok_or_else(|| Error::internal("events without their session"))?;
                let consultant = records::consultants::find(conn, &session.consultant_id)?
                    .ok_or_else(|| Error::internal("a session without its consultant"))?;
                let its_own = touches.remove(&id).unwrap_or_default();
                let count = |kind| its_own.iter().filter(|touch| touch.kind == kind).map(|touch| touch.number).sum();
                let first_at = its_own.iter().filter_map(|touch| touch.times().0).min();
                let last_at = its_own.iter().filter_map(|touch| touch.times().1).max();
                items.push(AccessSummary {
                    session_id: id,
                    magic_link_id: session.magic_link_id,
                    portal: session.portal,
                    consultant: ConsultantName { id: consultant.id, name: unless_erased(consultant.name) },
                    profile: PersonRef::of(session.profile_id, session.profile_name),
                    access: session.access,
                    reason: unless_erased(session.reason),
                    ticket: session.ticket,
                    first_at: first_at.unwrap_or(session.started_at),
                    last_at: last_at.unwrap_or(session.started_at),
                    views: count(EventType::DataViewed),
                    exports: count(EventType::DataExported),
                    changes: count(EventType::DataChanged),
                });
            }
            Ok((items, rows::log_of_reading(conn, &tenant_id)?.to_owned()))
        })
        .await?;
    cx.store.record(vec![event.tenant(&log)]).await?;
    Ok(page.answer(cx.tokens.master_key(), items, |item| item.session_id.as_str(), |item| item))
}
