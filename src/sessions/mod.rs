//! A session is what a spent link token buys: an access token for one portal.
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

use std::collections::BTreeMap;

use diesel::prelude::*;
use serde::{Deserialize, Serialize};
use time::Duration;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{Access, AuditState, ConsultantRef, Person, SessionState, TokenType};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::journal::activity;
use crate::records::sessions::{Session, Source};

pub(crate) use crate::domain::EndCause;

pub(crate) use end::{
    Ending, RevocationRequest, end, end_all_of_links, end_all_signed_by, end_expired, revoke, revoke_token,
};
pub(crate) use gap::{check_reports, schedule_report_checks};
pub(crate) use open::open;
pub(crate) use read::{incomplete, list, read, views_of_link, worst_audit_states};
pub(crate) use report::report;

/// The highest number of an act: any JSON reader takes it for the whole number that it is.
const MAX_SEQ: i64 = 1_000_000_000;

/// How long after its end a session takes reports.
const REPORTING_TAIL: Duration = Duration::hours(72);

/// Who visits, as the portal sees them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Visitor {
    /// Their network address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 64, example = "203.0.113.7")]
    pub address: Option<String>,
    /// Their browser.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500, example = "Mozilla/5.0")]
    pub user_agent: Option<String>,
}

/// A code or link token to redeem.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl",
    "visitor": {"address": "203.0.113.7", "user_agent": "Mozilla/5.0"}
}))]
pub struct OpenSession {
    /// The code from the callback, or the link token where the portal has its own landing page.
    #[schema(max_length = 4096)]
    pub token: String,
    /// Who visits; recorded as the client asserts it.
    pub visitor: Option<Visitor>,
}

/// A session that was just opened.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OpenedSession {
    /// Its id.
    pub id: SessionId,
    /// Its link.
    pub magic_link_id: LinkId,
    /// The customer company.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// The portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// As whom.
    pub profile: Person,
    /// Who acts.
    pub consultant: ConsultantRef,
    /// How much they may do.
    pub access: Access,
    /// The session's token (RFC 9068).
    #[schema(max_length = 4096)]
    pub access_token: String,
    /// `Bearer`.
    pub token_type: TokenType,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When it ends by itself; there is no grace.
    pub expires_at: Timestamp,
}

/// A session as callers see it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SessionResponse {
    /// Its id.
    pub id: SessionId,
    /// Whether it holds.
    pub state: SessionState,
    /// Its link.
    pub magic_link_id: LinkId,
    /// The customer company.
    #[schema(max_length = 64)]
    pub tenant_id: String,
    /// The portal.
    #[schema(max_length = 32)]
    pub portal: String,
    /// As whom.
    pub profile: Person,
    /// Who acts.
    pub consultant_id: ConsultantId,
    /// How much they may do.
    pub access: Access,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_cause: Option<EndCause>,
    /// Whether every act has been reported.
    pub audit_state: AuditState,
    /// What each source has reported.
    #[schema(max_items = 100)]
    pub sources: Vec<SourceResponse>,
    /// Who visits.
    pub visitor: Visitor,
}

/// What one source of a session has reported.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceResponse {
    /// The source.
    #[schema(max_length = 64)]
    pub source: String,
    /// How many acts have arrived.
    pub event_count: i64,
    /// The highest number that has arrived.
    pub last_seq: i64,
    /// The highest number there is, as the portal said at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closing_seq: Option<i64>,
    /// Which numbers have not arrived; the first hundred ranges.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 100, required = false)]
    pub missing: Vec<SeqRange>,
}

/// Numbers that have not arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct SeqRange {
    /// The first one.
    #[schema(minimum = 1)]
    pub from: i64,
    /// The last one.
    #[schema(minimum = 1)]
    pub to: i64,
}

impl SourceResponse {
    fn of(conn: &mut Conn, source: Source) -> QueryResult<Self> {
        let missing = if source.is_gapless() {
            Vec::new()
        } else {
            let last = source.last_seq.max(source.closing_seq.unwrap_or(0));
            activity::missing_numbers(conn, &source.session_id, &source.name, last)?
        };
        Ok(Self {
            source: source.name,
            event_count: source.event_count,
            last_seq: source.last_seq,
            closing_seq: source.closing_seq,
            missing: missing.into_iter().map(|range| SeqRange { from: *range.start(), to: *range.end() }).collect(),
        })
    }
}

impl SessionResponse {
    fn of(conn: &mut Conn, session: Session, sources: Vec<Source>, now: Timestamp) -> QueryResult<Self> {
        let end = session.end(now);
        let audit_state = session.audit_state(&sources, now);
        Ok(Self {
            state: if session.holds(now) { SessionState::Active } else { SessionState::Ended },
            audit_state,
            end_cause: session.end_cause.or_else(|| end.map(|_| EndCause::Expired)),
            ended_at: end,
            sources: sources.into_iter().map(|source| SourceResponse::of(conn, source)).collect::<Result<_, _>>()?,
            profile: Person { id: session.profile_id, name: session.profile_name },
            visitor: Visitor { address: session.visitor_address, user_agent: session.visitor_user_agent },
            id: session.id,
            magic_link_id: session.magic_link_id,
            tenant_id: session.tenant_id,
            portal: session.portal,
            consultant_id: session.consultant_id,
            access: session.access,
            started_at: session.started_at,
            expires_at: session.expires_at,
        })
    }
}

/// How a session is ended.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"sources": {"portal": 2}}))]
pub struct EndSession {
    /// The last number of each source: the closing counts that tell whether anything is missing.
    pub sources: Option<BTreeMap<String, i64>>,
}
