//! A report gap is an ended session whose activity reports are incomplete.
//!
//! Each session is checked when its closing grace is over and when late reports arrive. A gap is recorded once for each
//! session and audit state.

use std::collections::BTreeSet;

use diesel::prelude::*;

use super::store;
use crate::clock::Timestamp;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, AuditState, EventType};
use crate::error::Error;
use crate::id::{ReportCheckId, SessionId};
use crate::journal::{Appended, AppendedEvent, Event};
use crate::records;
use crate::records::session_sources::Reports;
use crate::records::sessions::CLOSING_GRACE;
use crate::store::{Tx, Wakes};

/// Largest number of checks that one step carries out.
const CHECKS_PER_STEP: i64 = 100;

/// A scheduled check of a session's reports.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Insertable)]
#[diesel(table_name = crate::db::schema::report_checks)]
pub(super) struct ReportCheck {
    pub id: ReportCheckId,
    pub session_id: SessionId,
    pub due_at: Timestamp,
}

/// Schedules checks for the sessions of the recorded events. It inserts rows and locks none.
pub(crate) fn schedule_report_checks(
    conn: &mut Conn,
    recorded: &Appended<'_>,
    _wakes: &mut Wakes,
) -> Result<(), Error> {
    let mut due = BTreeSet::new();
    for AppendedEvent { event, .. } in &recorded.events {
        let at = match event.kind() {
            EventType::SessionEnded | EventType::SessionReplaced => event.recorded_at.plus(CLOSING_GRACE),
            // Closing counts can reveal gaps in reports that looked complete.
            EventType::SessionClosed => event.recorded_at,
            _ if event.late => event.recorded_at,
            _ => continue,
        };
        due.extend(event.session_id.as_ref().map(|session| (at, session.as_str(), event.recorded_at)));
    }
    let check = |(due_at, session, now): (Timestamp, &str, Timestamp)| {
        let session_id = session.parse().map_err(Error::internal)?;
        Ok(ReportCheck { id: ReportCheckId::new(now), session_id, due_at })
    };
    let checks = due.into_iter().map(check).collect::<Result<Vec<_>, Error>>()?;
    Ok(store::insert_checks(conn, &checks)?)
}

/// Carries out the checks that are due; returns how many there were.
///
/// # Errors
/// When the store is unavailable.
pub(crate) async fn check_reports(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    let due = cx.store.read(move |conn| Ok(store::due_checks(conn, CHECKS_PER_STEP, now)?)).await?;
    if due.is_empty() {
        return Ok(0);
    }
    let found = due.len();
    cx.store
        .write_large(move |tx| {
            for check in &due {
                // Another instance may have taken it already.
                if store::take_check(tx, &check.id)? {
                    record_gap(tx, &check.session_id, now)?;
                }
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

fn record_gap(tx: &mut Tx<'_>, id: &SessionId, now: Timestamp) -> Result<(), Error> {
    let session = records::sessions::find(tx, id)?.ok_or_else(|| Error::internal("a check without its session"))?;
    // The portal may send closing counts until the grace is over; another check is scheduled for then.
    if session.end(now).is_none_or(|end| end.plus(CLOSING_GRACE) > now) {
        return Ok(());
    }
    let sources = records::session_sources::of_sessions(tx, std::slice::from_ref(id))?;
    let state = session.audit_state(Reports::of(&sources), now);
    if state != AuditState::Complete && store::note_gap(tx, id, state, now)? {
        let event = Event::new(EventType::ReportsIncomplete, Actor::system("clock"), now).session(&session);
        tx.record(event.with(&serde_json::json!({ "audit_state": state })));
    }
    Ok(())
}
