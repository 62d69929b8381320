//! Reading sessions.

use std::collections::HashMap;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::domain::{AuditState, EndCause, SessionState};
use super::{Session, SessionResponse, Source, store};
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::domain::{Page, Paging, check_filters};
use crate::http::{Caller, ReadLinks};
use crate::id::{ConsultantId, LinkId, SessionId};
use crate::revocations;

/// Which sessions are wanted.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SessionFilter {
    /// Only this tenant.
    #[param(max_length = 64, example = "acme")]
    pub tenant_id: Option<String>,
    /// Only this portal.
    #[param(max_length = 32)]
    pub portal: Option<String>,
    /// Only sessions of this link.
    pub magic_link_id: Option<LinkId>,
    /// Only this consultant.
    pub consultant_id: Option<ConsultantId>,
    /// Only sessions in this state.
    #[param(inline)]
    pub state: Option<SessionState>,
    /// Only sessions whose reports are whole, have gaps, or were never closed.
    #[param(inline)]
    pub audit_state: Option<AuditState>,
    /// Items a page, 50 unless told; more than 200 is cut to 200.
    #[param(minimum = 1, maximum = 200)]
    pub page_size: Option<u32>,
    /// `next_cursor` of the page before.
    #[param(max_length = 200)]
    pub cursor: Option<String>,
}

/// A page of the sessions that the caller may see.
pub(crate) async fn list(
    app: &App,
    caller: &Caller<ReadLinks>,
    mut filter: SessionFilter,
    now: Timestamp,
) -> Result<Page<SessionResponse>, Error> {
    check_filters([&filter.tenant_id, &filter.portal])?;
    let paging = Paging { page_size: filter.page_size.take(), cursor: filter.cursor.take() };
    let window = paging.open(app.tokens.master_key(), &filter)?;
    let (reach, asked) = (caller.reach.clone(), window.clone());
    let views = app
        .db
        .read(move |conn| {
            let mut sessions = store::list(conn, &filter, &reach, &asked, now)?;
            obey(conn, &mut sessions)?;
            let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
            let mut sources = by_session(store::sources(conn, &ids)?);
            let view = |session: Session| {
                let sources = sources.remove(&session.id).unwrap_or_default();
                Ok(SessionResponse::of(conn, session, sources, now)?)
            };
            sessions.into_iter().map(view).collect::<Result<Vec<_>, Error>>()
        })
        .await?;
    Ok(window.page(app.tokens.master_key(), views, |view| view.id.as_str(), |view| view))
}

/// One session.
pub(crate) async fn read(
    app: &App,
    caller: &Caller<ReadLinks>,
    id: SessionId,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let reach = caller.reach.clone();
    app.db
        .read(move |conn| {
            let mut session = store::find_within(conn, &id, &reach)?.ok_or_else(Error::not_found)?;
            obey(conn, std::slice::from_mut(&mut session))?;
            let sources = store::sources(conn, &[id])?;
            Ok(SessionResponse::of(conn, session, sources, now)?)
        })
        .await
}

/// Shows sessions as an order left them that is still being carried out.
pub(super) fn obey(conn: &mut Conn, sessions: &mut [Session]) -> Result<(), Error> {
    let open = sessions.iter().filter(|session| session.ended_at.is_none());
    let links: Vec<LinkId> = open.map(|session| session.magic_link_id.clone()).collect();
    if links.is_empty() {
        return Ok(());
    }
    let orders = revocations::in_force(conn, &links)?;
    for session in sessions.iter_mut().filter(|session| session.ended_at.is_none()) {
        let order = orders.get(&session.magic_link_id);
        if let Some(order) = order.filter(|order| session.expires_at > order.created_at) {
            session.ended_at = Some(order.created_at);
            session.end_cause = Some(EndCause::Revoked);
        }
    }
    Ok(())
}

/// How long ago a session may have been opened to be counted: it lived for four weeks at most, and took reports for three days.
const COUNTED: time::Duration = time::Duration::days(31);

/// How many sessions of the last 31 days have gaps in their reports, and how many were never closed.
pub(crate) fn incomplete(conn: &mut Conn, now: Timestamp) -> diesel::QueryResult<(i64, i64)> {
    let since = now.minus(COUNTED);
    let gaps = store::count_in_state(conn, AuditState::Gaps, since, now)?;
    Ok((gaps, store::count_in_state(conn, AuditState::Unclosed, since, now)?))
}

/// Every session of a link as callers see it, oldest first.
pub(crate) fn views_of_link(conn: &mut Conn, link: &LinkId, now: Timestamp) -> Result<Vec<SessionResponse>, Error> {
    let mut sessions = store::of_links(conn, std::slice::from_ref(link))?;
    sessions.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    let views = sessions.into_iter().map(|session| {
        let sources = store::sources(conn, std::slice::from_ref(&session.id))?;
        Ok(SessionResponse::of(conn, session, sources, now)?)
    });
    views.collect()
}

/// The worst audit state among the sessions of each link.
pub(crate) fn worst_audit_states(
    conn: &mut Conn,
    links: &[LinkId],
    now: Timestamp,
) -> Result<HashMap<LinkId, AuditState>, Error> {
    let sessions = store::of_links(conn, links)?;
    let ids: Vec<SessionId> = sessions.iter().map(|session| session.id.clone()).collect();
    let sources = if ids.is_empty() { HashMap::new() } else { by_session(store::sources(conn, &ids)?) };
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
