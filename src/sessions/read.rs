//! Reading sessions.

use std::collections::HashMap;

use super::{Missing, SessionResponse, missing};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{AuditState, Page, Paging};
use crate::error::Error;
use crate::http::{Caller, ReadLinks};
use crate::id::{LinkId, SessionId};
use crate::records;
use crate::records::sessions::{Session, SessionFilter, Source};

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
            let sessions = records::sessions::list(conn, &filter, &reach, &asked, now)?;
            let ids: Vec<SessionId> = sessions.rows.iter().map(|session| session.id.clone()).collect();
            let mut sources = by_session(records::sessions::sources(conn, &ids)?);
            let view = |session: Session| {
                let sources = sources.remove(&session.id).unwrap_or_default();
                // Without the missing numbers: to find them, the events of every session would be read.
                SessionResponse::of(session, sources, Missing::new(), now)
            };
            sessions.try_map(|sessions| Ok(sessions.into_iter().map(view).collect()))
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
    let sources = records::sessions::sources(conn, std::slice::from_ref(&session.id))?;
    let missing = missing(conn, &session.id, &sources)?;
    Ok(SessionResponse::of(session, sources, missing, now))
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

/// The worst audit state among the sessions of each link.
pub(crate) fn worst_audit_states(
    conn: &mut Conn,
    links: &[LinkId],
    now: Timestamp,
) -> Result<HashMap<LinkId, AuditState>, Error> {
    let sessions = records::sessions::of_links(conn, links)?;
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    let sources = if ids.is_empty() { HashMap::new() } else { by_session(records::sessions::sources(conn, &ids)?) };
    let mut worst = HashMap::new();
    for session in sessions {
        let state = session.audit_state(sources.get(&session.id).map_or(&[], Vec::as_slice), now);
        let entry = worst.entry(session.magic_link_id).or_insert(state);
        *entry = state.max(*entry);
    }
    Ok(worst)
}

fn by_session(sources: Vec<Source>) -> HashMap<SessionId, Vec<Source>> {
    let mut map: HashMap<SessionId, Vec<Source>> = HashMap::new();
    for source in sources {
        map.entry(source.session_id.clone()).or_default().push(source);
    }
    map
}
