//! A session is the access that a spent link token opens: it has an access token for one portal.
//!
//! It never outlives the link's window, and a link has one live session: opening
//! the next ends the one before. The portal reports into it what the consultant
//! viewed, exported and changed, numbered without gaps per source.

mod end;
mod gap;
mod introspect;
mod open;
mod read;
mod report;
pub(crate) mod routes;
mod store;
mod values;
mod violations;

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeInclusive;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{
    Access, AuditState, ConsultantRef, Forbidden, ModuleName, NamedConsultant, Person, PersonRef, Restrictions,
    SessionState, TokenType, trimmed, unless_erased,
};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::journal::activity;
use crate::records::session_sources::{Reports, Source};
use crate::records::sessions::{Session, ends_soon};

pub(crate) use crate::domain::EndCause;

pub(crate) use end::{
    Ending, RevocationRequest, end, end_all, end_all_of_links, end_expired, forget_device, revoke, revoke_token,
};
pub(crate) use gap::{check_reports, schedule_report_checks};
pub(crate) use open::open;
pub(crate) use read::{Usage, incomplete, list, read, usage_of_links, views_of_link};
pub(crate) use report::{PrincipalId, report};

/// Highest sequence number of an activity event: every JSON parser represents it exactly.
const MAX_SEQ: i64 = 1_000_000_000;

/// Largest number of sources that report into a session, and of closing counts: every answer about it names them all.
const MAX_SOURCES: usize = 100;

/// Largest number of activity events of a session: whoever asks what is missing has to read them.
const MAX_EVENTS: i64 = 100_000;

/// How long after its end a session accepts reports.
const REPORTING_TAIL: Duration = Duration::hours(72);

/// Visitor of the portal, as reported by the client.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Visitor {
    /// Network address of the visitor: IPv4 or IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "203.0.113.7")]
    pub address: Option<String>,
    /// `User-Agent` header of the visitor's browser (RFC 9110); what is longer than 500 characters is cut off.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500, example = "Mozilla/5.0")]
    pub user_agent: Option<String>,
}

/// Code or link token to redeem.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl",
    "visitor": {"address": "203.0.113.7", "user_agent": "Mozilla/5.0"}
}))]
pub struct OpenSession {
    /// Authorization code from the callback, or the link token if the portal has its own landing page.
    #[schema(max_length = 4096)]
    pub token: String,
    /// Visitor of the portal; recorded as asserted by the client, not verified.
    pub visitor: Option<Visitor>,
}

/// Session that was just opened, with its access token.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OpenedSession {
    /// Identifier of the session.
    pub id: SessionId,
    /// Identifier of the link that opened the session.
    pub magic_link_id: LinkId,
    /// Portal's identifier of the tenant (customer company).
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Identifier of the portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Profile the consultant acts as.
    pub profile: Person,
    /// Consultant who has access.
    pub consultant: NamedConsultant,
    /// Access level of the consultant.
    pub access: Access,
    /// Portal's words for the only modules that the consultant may enter; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    pub modules: Option<Vec<String>>,
    /// What the consultant must not do, though the profile may; absent where nothing is forbidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, required = false)]
    pub forbidden: Vec<Forbidden>,
    /// Access token of the session (JWT, RFC 9068).
    #[schema(max_length = 4096)]
    pub access_token: String,
    /// Type of the access token: always `Bearer` (RFC 6750).
    pub token_type: TokenType,
    /// When the session was opened (RFC 3339, UTC).
    pub started_at: Timestamp,
    /// When the session and its access token expire (RFC 3339, UTC). There is no leeway.
    pub expires_at: Timestamp,
}

/// Session of a consultant at a portal.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionResponse {
    /// Identifier of the session.
    pub id: SessionId,
    /// State of the session.
    pub state: SessionState,
    /// Identifier of the link that opened the session.
    pub magic_link_id: LinkId,
    /// Portal's identifier of the tenant (customer company).
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// Identifier of the portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// Profile the consultant acts as.
    pub profile: PersonRef,
    /// Identifier of the consultant who has access.
    pub consultant_id: ConsultantId,
    /// Consultant who has access.
    pub consultant: ConsultantRef,
    /// Why access was granted; absent once it is erased.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub reason: Option<String>,
    /// Identifier of the support ticket.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64)]
    pub ticket: Option<String>,
    /// Access level of the consultant.
    pub access: Access,
    /// Portal's words for the only modules that the consultant may enter; absent for all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_items = 20, value_type = Option<Vec<ModuleName>>)]
    pub modules: Option<Vec<String>>,
    /// What the consultant must not do, though the profile may; absent where nothing is forbidden.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 10, required = false)]
    pub forbidden: Vec<Forbidden>,
    /// When the session was opened (RFC 3339, UTC).
    pub started_at: Timestamp,
    /// When the session expires if it is not ended earlier (RFC 3339, UTC).
    pub expires_at: Timestamp,
    /// Whether the session is active and ends within 15 minutes.
    pub ends_soon: bool,
    /// When the session ended (RFC 3339, UTC); absent while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why the session ended; absent while it is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
    /// Completeness of the session's activity reports.
    pub audit_state: AuditState,
    /// Number of activity events received, of all sources.
    #[schema(minimum = 0)]
    pub event_count: i64,
    /// When the newest of the reported activity events happened (RFC 3339, UTC), as the portal states it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_event_at: Option<Timestamp>,
    /// Reports of each source: at most 100 that reported events, and 100 that only a closing count names.
    #[schema(max_items = 200)]
    pub sources: Vec<SourceResponse>,
    /// Visitor of the portal, as asserted by the client.
    pub visitor: Visitor,
    /// When names, addresses, reason and ticket were erased, which are absent since (RFC 3339, UTC): the tenant's retention
    /// is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erased_at: Option<Timestamp>,
}

/// Reports of one source of a session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceResponse {
    /// Name of the source: the part of the portal that reports.
    #[schema(max_length = 64)]
    pub source: String,
    /// Number of activity events received.
    pub event_count: i64,
    /// Highest sequence number received.
    pub last_seq: i64,
    /// Closing count: the last sequence number, as stated by the portal when it ended the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closing_seq: Option<i64>,
    /// Missing sequence numbers: the first 100 ranges, and about 200 of the whole session in order of source. Absent in
    /// lists.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100, required = false)]
    pub missing: Vec<SeqRange>,
}

/// Range of missing sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SeqRange {
    /// First missing sequence number of the range.
    #[schema(minimum = 1)]
    pub from: i64,
    /// Last missing sequence number of the range, inclusive.
    #[schema(minimum = 1)]
    pub to: i64,
}

/// Missing sequence numbers by source.
type Missing = HashMap<String, Vec<RangeInclusive<i64>>>;

/// The missing sequence numbers of a session.
fn missing(conn: &mut Conn, session: &SessionId, sources: &[Source]) -> QueryResult<Missing> {
    let last = |source: &Source| source.last_seq.max(source.closing_seq.unwrap_or(0));
    let incomplete = sources.iter().filter(|source| !source.is_gapless());
    let last_numbers: BTreeMap<&str, i64> = incomplete.map(|source| (source.name.as_str(), last(source))).collect();
    if last_numbers.is_empty() {
        return Ok(Missing::new());
    }
    activity::missing_numbers(conn, session, &last_numbers)
}

impl SourceResponse {
    fn of(source: Source, missing: &mut Missing) -> Self {
        let missing = missing.remove(&source.name).unwrap_or_default().into_iter();
        Self {
            missing: missing.map(|range| SeqRange { from: *range.start(), to: *range.end() }).collect(),
            source: source.name,
            event_count: source.event_count,
            last_seq: source.last_seq,
            closing_seq: source.closing_seq,
        }
    }
}

impl SessionResponse {
    fn of(
        session: Session,
        consultant: ConsultantRef,
        sources: Vec<Source>,
        mut missing: Missing,
        now: Timestamp,
    ) -> Self {
        let end = session.end(now);
        let audit_state = session.audit_state(Reports::of(&sources), now);
        let (modules, forbidden) = Restrictions::shown(session.restrictions.as_ref());
        Self {
            ends_soon: session.holds(now) && ends_soon(session.expires_at, now),
            state: if session.holds(now) { SessionState::Active } else { SessionState::Ended },
            audit_state,
            end_cause: session.end_cause.or_else(|| end.map(|_| EndCause::Expired)),
            ended_at: end,
            event_count: sources.iter().map(|source| source.event_count).sum(),
            last_event_at: sources.iter().filter_map(|source| source.last_event_at).max(),
            consultant,
            reason: unless_erased(session.reason),
            ticket: session.ticket,
            sources: sources.into_iter().map(|source| SourceResponse::of(source, &mut missing)).collect(),
            profile: PersonRef::of(session.profile_id, session.profile_name),
            visitor: Visitor { address: session.visitor_address, user_agent: session.visitor_user_agent },
            id: session.id,
            magic_link_id: session.magic_link_id,
            tenant_id: session.tenant_id,
            portal: session.portal,
            consultant_id: session.consultant_id,
            access: session.access,
            modules,
            forbidden,
            started_at: session.started_at,
            expires_at: session.expires_at,
            erased_at: session.erased_at,
        }
    }
}

/// Request to revoke a session.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Nobody knows this visitor", "requested_by": {"id": "emp-7", "name": "Meera Iyer"}}))]
pub struct RevokeSession {
    /// Why the session is revoked.
    #[schema(min_length = 3, max_length = 500)]
    #[serde(deserialize_with = "trimmed")]
    pub reason: String,
    /// Person at the portal who requested this; recorded as asserted by the client, not verified.
    pub requested_by: Option<Person>,
    /// Identifier of the support session the caller acts in, if any; recorded.
    #[schema(max_length = 64)]
    pub acting_session_id: Option<String>,
}

/// Request to end a session.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"consultant_done": true, "sources": {"portal": 2}}))]
pub struct EndSession {
    /// Closing counts: the last sequence number of each source by its name, 0 for none. They show whether reports are
    /// missing. Several clients may each close their own sources, also later; of two counts for one source the higher
    /// one stays. A source that has reported and is never closed leaves the session `unclosed`.
    pub sources: Option<BTreeMap<String, i64>>,
    /// Whether the consultant said that they are done; recorded as asserted by the client, not verified. Without it the
    /// session was ended by the client, or by `requested_by`.
    #[serde(default)]
    #[schema(default = false)]
    pub consultant_done: bool,
    /// Person at the portal who requested this, if it was not the consultant; recorded as asserted by the client, not
    /// verified.
    pub requested_by: Option<Person>,
}
