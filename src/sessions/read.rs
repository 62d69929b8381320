//! Reading sessions.

use std::collections::HashMap;

use super::{Missing, SessionResponse, missing};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{AuditState, ConsultantRef, Page, Paging};
use crate::error::Error;
use crate::http::{Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::records;
use crate::records::session_lists::SessionFilter;
use crate::records::session_sources::Source;
use crate::records::sessions::Session;

/// A page of the sessions within the caller's reach.
pub(crate) async fn list(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    mut filter: SessionFilter,
    now: Timestamp,
) -> Result<Page<SessionResponse>, Error> {
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let page = paging.open(cx.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), page.clone());
    let views = cx
        .store
        .read(move |conn| {
            let sessions = records::session_lists::list(conn, &filter, &reach, &asked, now)?;
            let ids: Vec<SessionId> = sessions.rows.iter().map(|session| session.id.clone()).collect();
            let mut sources = by_session(records::session_sources::of_sessions(conn, &ids)?);
            let consultants = consultants_of(conn, &sessions.rows)?;
            let view = |session: Session| {
                let sources = sources.remove(&session.id).unwrap_or_default();
                let consultant = consultant_of(&consultants, &session)?;
                // Without the missing numbers: to find them, the events of every session would be read.
                Ok(SessionResponse::of(session, consultant, sources, Missing::new(), now))
            };
            sessions.try_map(|sessions| sessions.into_iter().map(view).collect())
        })
        .await?;
    Ok(page.answer(cx.tokens.master_key(), views, |view| view.id.as_str(), |view| view))
}

/// One session.
pub(crate) async fn read(
    cx: &Context,
    caller: &Caller<ReadLinks>,
    id: SessionId,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let reach = caller.reach.clone();
    cx.store
        .read(move |conn| {
            let session = records::sessions::find_within(conn, &id, &reach)?.ok_or_else(Error::not_found)?;
            view(conn, session, now)
        })
        .await
}

/// Age up to which sessions are counted: four weeks, the longest life of a session, and three days of reporting.
const COUNTED: time::Duration = time::Duration::days(31);

/// Number of sessions of the last 31 days with gaps in their reports, and number of those never closed.
pub(crate) fn incomplete(conn: &mut Conn, now: Timestamp) -> diesel::QueryResult<(i64, i64)> {
    let since = now.minus(COUNTED);
    let gaps = records::sessions::count_in_state(conn, AuditState::Gaps, since, now)?;
    Ok((gaps, records::sessions::count_in_state(conn, AuditState::Unclosed, since, now)?))
}

/// A session as returned by the API, with what its sources have not reported.
pub(super) fn view(conn: &mut Conn, session: Session, now: Timestamp) -> Result<SessionResponse, Error> {
    let sources = records::session_sources::of_sessions(conn, std::slice::from_ref(&session.id))?;
    let missing = missing(conn, &session.id, &sources)?;
    let consultant = consultant_of(&consultants_of(conn, std::slice::from_ref(&session))?, &session)?;
    Ok(SessionResponse::of(session, consultant, sources, missing, now))
}

/// The consultants of sessions.
fn consultants_of(conn: &mut Conn, sessions: &[Session]) -> Result<HashMap<ConsultantId, ConsultantRef>, Error> {
    let ids: Vec<ConsultantId> = sessions.iter().map(|session| session.consultant_id.clone()).collect();
    Ok(records::links::consultants(conn, &ids)?)
}

fn consultant_of(
    consultants: &HashMap<ConsultantId, ConsultantRef>,
    session: &Session,
) -> Result<ConsultantRef, Error> {
    let consultant = consultants.get(&session.consultant_id).cloned();
    consultant.ok_or_else(|| Error::internal("a session without its consultant"))
}

/// Largest number of sessions of a link in one answer.
const MAX_SESSIONS: usize = 1_000;

/// Every session of a link, as returned by the API, oldest first; `None` if there are too many for one answer.
pub(crate) fn views_of_link(
    conn: &mut Conn,
    link: &LinkId,
    now: Timestamp,
) -> Result<Option<Vec<SessionResponse>>, Error> {
    let mut sessions = records::sessions::of_links(conn, std::slice::from_ref(link))?;
    if sessions.len() > MAX_SESSIONS {
        return Ok(None);
    }
    sessions.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    sessions.into_iter().map(|session| view(conn, session, now)).collect::<Result<_, _>>().map(Some)
}

/// What the sessions of a link tell about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// The worst audit state among them.
    pub audit_state: AuditState,
    /// When the first and the newest of them were opened.
    pub first_used_at: Timestamp,
    pub last_used_at: Timestamp,
    /// Whether one of them is active.
    pub in_use: bool,
    /// Number of activity events that they reported.
    pub event_count: i64,
}

/// What the sessions of each link tell about it; nothing where none was opened.
pub(crate) fn usage_of_links(
    conn: &mut Conn,
    links: &[LinkId],
    now: Timestamp,
) -> Result<HashMap<LinkId, Usage>, Error> {
    let sessions = records::sessions::of_links(conn, links)?;
    let reports = if sessions.is_empty() { HashMap::new() } else { records::session_sources::of_links(conn, links)? };
    let mut usages = HashMap::new();
    for session in sessions {
        let reports = reports.get(&session.id).copied().unwrap_or_default();
        let own = Usage {
            audit_state: session.audit_state(reports, now),
            first_used_at: session.started_at,
            last_used_at: session.started_at,
            in_use: session.holds(now),
            event_count: reports.event_count,
        };
        usages.entry(session.magic_link_id).and_modify(|usage: &mut Usage| usage.add(own)).or_insert(own);
    }
    Ok(usages)
}

impl Usage {
    /// Adds another session.
    fn add(&mut self, other: Self) {
        self.audit_state = self.audit_state.max(other.audit_state);
        self.first_used_at = self.first_used_at.min(other.first_used_at);
        self.last_used_at = self.last_used_at.max(other.last_used_at);
        self.in_use |= other.in_use;
        self.event_count += other.event_count;
    }
}

fn by_session(sources: Vec<Source>) -> HashMap<SessionId, Vec<Source>> {
    let mut map: HashMap<SessionId, Vec<Source>> = HashMap::new();
    for source in sources {
        map.entry(source.session_id.clone()).or_default().push(source);
    }
    map
}
