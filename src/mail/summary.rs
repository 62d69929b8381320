//! The summary of a session for the notices of its end.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::day::Day;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{AuditState, EndCause, EventType, Forbidden, ViolationCause};
use crate::error::Error;
use crate::id::{LinkId, SessionId};
use crate::journal::activity;
use crate::records;
use crate::records::session_sources::Reports;

/// Counts and times of a session.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub started_at: Timestamp,
    pub ended_at: Timestamp,
    pub cause: EndCause,
    pub views: i64,
    pub exports: i64,
    pub changes: i64,
    pub violations: Violations,
    pub audit_state: AuditState,
}

/// What was done in a session beyond what it allows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Violations {
    pub count: i64,
    pub causes: BTreeSet<ViolationCause>,
    pub categories: BTreeSet<Forbidden>,
}

/// What the audit log holds of the violations in one report.
#[derive(Deserialize)]
struct Recorded {
    data: Details,
}

#[derive(Deserialize)]
struct Details {
    causes: BTreeSet<ViolationCause>,
    #[serde(default)]
    categories: BTreeSet<Forbidden>,
}

fn violations(conn: &mut Conn, id: &SessionId, count: i64) -> Result<Violations, Error> {
    let mut violations = Violations { count, ..Violations::default() };
    if count > 0 {
        for payload in activity::violations_of(conn, id)? {
            let Recorded { data } = serde_json::from_str(&payload).map_err(Error::internal)?;
            violations.causes.extend(data.causes);
            violations.categories.extend(data.categories);
        }
    }
    Ok(violations)
}

/// Summarises a session from the activity events reported so far.
pub(crate) fn summary(conn: &mut Conn, id: &SessionId, now: Timestamp) -> Result<Summary, Error> {
    let session = records::sessions::find(conn, id)?.ok_or_else(|| Error::internal("a summary without its session"))?;
    let sources = records::session_sources::of_sessions(conn, std::slice::from_ref(id))?;
    let acts = activity::events_by_type(conn, id)?;
    let number = |kind| acts.iter().filter(|(found, ..)| *found == kind).map(|(_, _, number)| number).sum::<i64>();
    let beyond = acts.iter().filter(|(_, beyond, _)| *beyond).map(|(_, _, number)| number).sum::<i64>();
    Ok(Summary {
        started_at: session.started_at,
        ended_at: session.end(now).unwrap_or(now),
        cause: session.end_cause.unwrap_or(EndCause::Expired),
        views: number(EventType::DataViewed),
        exports: number(EventType::DataExported),
        changes: number(EventType::DataChanged),
        violations: violations(conn, id, beyond)?,
        audit_state: session.audit_state(Reports::of(&sources), now),
    })
}

/// Largest number of sessions that the summary of a day tells of.
const MAX_VISITS: usize = 20;

/// The visits of a day.
#[derive(Debug, Default)]
pub(super) struct Visits {
    /// Those that the summary of the day tells of.
    pub told: Vec<Summary>,
    /// Number of the others.
    pub more: usize,
}

/// Summarises the sessions of a link that ended on a day, without its first one, which had a summary of its own, and
/// without those that the summary of an earlier day tells of, which was another day in another time zone.
pub(super) fn of_day(
    conn: &mut Conn,
    link: &LinkId,
    day: Day,
    earlier: &[Day],
    now: Timestamp,
) -> Result<Visits, Error> {
    let mut sessions = records::sessions::of_links(conn, std::slice::from_ref(link))?;
    sessions.sort_by(|one, other| one.id.as_str().cmp(other.id.as_str()));
    let is_of_day = |end| day.holds(end) && !earlier.iter().any(|day| day.holds(end));
    let mut of_day = sessions.iter().skip(1).filter(|session| session.end(now).is_some_and(is_of_day));
    let told = of_day.by_ref().take(MAX_VISITS).map(|session| summary(conn, &session.id, now));
    Ok(Visits { told: told.collect::<Result<_, _>>()?, more: of_day.count() })
}
