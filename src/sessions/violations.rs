//! What is done in a session beyond what it allows: it is taken, marked, recorded as such once a report, and told.

use std::collections::BTreeSet;

use crate::clock::Timestamp;
use crate::domain::{Access, ActivityKind, Actor, EventType, Forbidden, Restrictions, ViolationCause};
use crate::error::Error;
use crate::id::ClientId;
use crate::journal::Event;
use crate::mail::notices;
use crate::records;
use crate::records::sessions::Session;
use crate::store::{Tx, Worker};

/// The violations in one report.
#[derive(Default)]
pub(super) struct Violations {
    count: i64,
    causes: BTreeSet<ViolationCause>,
    categories: BTreeSet<Forbidden>,
}

impl Violations {
    /// Judges an activity event, and counts it if the session does not allow it; whether that is so.
    pub(super) fn judge(
        &mut self,
        session: &Session,
        kind: ActivityKind,
        category: Option<Forbidden>,
        is_after_end: bool,
    ) -> bool {
        let forbidden = session.restrictions.as_ref().map_or(&[][..], Restrictions::forbidden);
        let is_export = (kind == ActivityKind::Export).then_some(Forbidden::Export);
        let done: Vec<Forbidden> =
            category.into_iter().chain(is_export).filter(|one| forbidden.contains(one)).collect();
        let beyond_access = kind == ActivityKind::Change && session.access == Access::ReadOnly;
        let causes = [
            (!done.is_empty()).then_some(ViolationCause::Forbidden),
            beyond_access.then_some(ViolationCause::ReadOnly),
            is_after_end.then_some(ViolationCause::AfterEnd),
        ];
        self.causes.extend(causes.iter().flatten());
        self.categories.extend(done);
        let is_violation = causes.iter().any(Option::is_some);
        self.count += i64::from(is_violation);
        is_violation
    }

    /// Records that there were some, and notifies the admin and the tenant's contacts.
    pub(super) fn tell(
        &self,
        tx: &mut Tx<'_>,
        session: &Session,
        client_id: Option<&ClientId>,
        now: Timestamp,
    ) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        let actor = Actor::consultant(&session.consultant_id);
        let event = Event::new(EventType::PolicyViolation, actor, now).client(client_id).session(session);
        tx.record(event.with(&serde_json::json!({
            "violations": self.count, "causes": self.causes,
            "categories": (!self.categories.is_empty()).then_some(&self.categories),
        })));
        let Some(link) = records::links::find(tx, &session.magic_link_id)? else { return Ok(()) };
        notices::beyond_access(tx, &link, session, now)?;
        tx.wake(Worker::Mail);
        Ok(())
    }
}
