//! Changing a link that was issued: it ends later or earlier, or its reason and ticket are corrected.
//!
//! Each is one guarded statement: a link that has ended is refused, also where another copy of the service has recorded
//! its end already. A transaction of its own, because it locks what the worker of expiries and bulk revocations write.

use time::Duration;

use super::issue::access_exists;
use super::{CorrectLink, ExtendLink, LinkResponse, ShortenLink, approval, read, store};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::context::Context;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Reach, Validator, check_person, refuse_support_session};
use crate::error::{Code, Error};
use crate::http::{Caller, IssueLinks, RevokeLinks};
use crate::id::{ClientId, CorrectionId, ExtensionId, LinkId};
use crate::journal::Event;
use crate::records::link_changes::{self, Correction, Extension};
use crate::records::links::Link;
use crate::records::policies::{self, PolicyRow};
use crate::store::{IdempotencyKey, Tx, Worker, idempotency};
use crate::tenants::rules::Rules;
use crate::{mail, records};

/// How far ahead the end of a shortened link lies at least: clocks differ, and a session is not cut in mid-request.
const NOTICE: Duration = Duration::seconds(60);

/// Who changes a link, and when.
#[derive(Clone)]
struct Change {
    id: LinkId,
    reach: Reach,
    actor: Actor,
    client_id: Option<ClientId>,
    now: Timestamp,
}

impl Change {
    fn of<S>(caller: &Caller<S>, id: LinkId, actor: Actor, now: Timestamp) -> Self {
        Self { id, reach: caller.reach.clone(), actor, client_id: caller.client_id.clone(), now }
    }

    /// The link, locked, if it has not ended. From here on no copy of the service records its end.
    fn lock(&self, tx: &mut Tx<'_>) -> Result<Link, Error> {
        link_changes::hold_expiry_mark(tx)?;
        // No caller waits for a row beyond its reach.
        if records::links::find_within(tx, &self.id, &self.reach)?.is_none() {
            return Err(approval::why_none(
                tx,
                &self.id,
                &self.reach,
                (&self.actor, self.client_id.as_ref()),
                self.now,
            )?);
        }
        let link = records::links::lock(tx, &self.id)?.ok_or_else(Error::not_found)?;
        match link.ended(self.now) {
            Some(code) => Err(self.refuse(tx, &link, code)),
            None => Ok(link),
        }
    }

    fn refuse(&self, tx: &mut Tx<'_>, link: &Link, code: Code) -> Error {
        let refused = Event::link_refused(link, self.actor.clone(), code, self.now);
        tx.refuse(code, refused.client(self.client_id.as_ref()))
    }

    /// Moves the end of a locked link.
    fn move_end(&self, tx: &mut Tx<'_>, link: &Link, to: Timestamp) -> Result<Link, Error> {
        let ends = (link.expires_at, to);
        match link_changes::move_end(tx, &self.id, &self.reach, ends, self.now)? {
            Some(moved) => Ok(moved),
            None => Err(self.why_not(tx, link)?),
        }
    }

    /// Why the guarded statement refused a locked link: its end is on record already, or a bulk revocation was written.
    fn why_not(&self, tx: &mut Tx<'_>, link: &Link) -> Result<Error, Error> {
        let link = records::links::find(tx, &self.id)?.unwrap_or_else(|| link.clone());
        Ok(self.refuse(tx, &link, link.ended(self.now).unwrap_or(Code::LinkExpired)))
    }

    /// Records a new end: the row, and its event.
    fn record(
        &self,
        tx: &mut Tx<'_>,
        kind: EventType,
        link: &Link,
        extension: &Extension,
        more: serde_json::Value,
    ) -> Result<(), Error> {
        link_changes::insert_extension(tx, extension)?;
        mail::notices::end_moved(tx, link, extension, self.now)?;
        tx.wake(Worker::Mail);
        let mut data = serde_json::json!({
            "extension_id": extension.id, "reason": extension.reason, "expires_at": extension.expires_at,
            "previous_expires_at": extension.previous_expires_at,
        });
        if let (Some(data), serde_json::Value::Object(more)) = (data.as_object_mut(), more) {
            data.extend(more);
        }
        tx.record(
            Event::new(kind, self.actor.clone(), self.now).client(self.client_id.as_ref()).link(link).with(&data),
        );
        Ok(())
    }

    /// The row of a new end.
    fn end(&self, id: ExtensionId, reason: &str, (from, to): (Timestamp, Timestamp)) -> Extension {
        Extension {
            id,
            magic_link_id: self.id.clone(),
            previous_expires_at: from,
            expires_at: to,
            reason: reason.to_owned(),
            actor_type: self.actor.kind,
            actor_id: self.actor.id.clone(),
            actor_name: self.actor.name.clone(),
            client_id: self.client_id.clone(),
            created_at: self.now,
        }
    }
}

/// Lets a link end later; a live session goes on to its own end.
///
/// The whole window stays within the longest that a link may have, so that the keys that signed its tokens are published
/// until its end.
pub(crate) async fn extend(
    cx: &Context,
    caller: &Caller<IssueLinks>,
    id: LinkId,
    request: ExtendLink,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<(LinkResponse, bool), Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let longest = cx.config.links.max_duration;
    let hours = longest.whole_hours();
    let mut fields = Validator::default();
    let by = request.duration.duration().filter(|by| *by <= longest).unwrap_or_else(|| {
        let detail = format!("must be at least one hour and at most {hours} hours");
        fields.error("/duration", "out_of_range", detail);
        Duration::ZERO
    });
    fields.text("/reason", &request.reason, 10, 500);
    check_person(&mut fields, "/extended_by", Some(&request.extended_by));
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(Some(&request.extended_by)), now);
    let fresh = ExtensionId::new(now);
    let config = cx.config.clone();
    cx.store
        .write_large(move |tx| {
            if idempotency::once(tx, idempotency.as_ref(), &fresh, now)?.is_some() {
                let known = records::links::find_within(tx, &change.id, &change.reach)?.ok_or_else(Error::not_found)?;
                return Ok((read::view(tx, known, now)?, true));
            }
            if store::freeze_state(tx)?.0.is_some() {
                return Err(Code::IssuingFrozen.into());
            }
            let link = change.lock(tx)?;
            let latest = link.starts_at.plus(longest);
            let to = link.expires_at.checked_add(by).filter(|to| *to <= latest).ok_or_else(|| {
                let detail = format!("the whole window may last {hours} hours, until {latest}");
                Error::new(Code::ValidationFailed).field("/duration", "too_long", detail)
            })?;
            rules_of(tx, &config, &link.tenant_id)?.require_total(to.since(link.starts_at))?;
            let moved = change.move_end(tx, &link, to)?;
            // A copy whose clock is ahead may have taken the link for over, and its access for free.
            if !records::open_grants::take(tx, &moved, now)? {
                return Err(access_exists(tx, &moved, &change.actor, change.client_id.as_ref(), now)?);
            }
            let extension = change.end(fresh.clone(), &request.reason, (link.expires_at, to));
            change.record(tx, EventType::LinkExtended, &moved, &extension, serde_json::Value::Null)?;
            Ok((read::view(tx, moved, now)?, false))
        })
        .await
}

/// The rules in force for a tenant.
fn rules_of(conn: &mut Conn, config: &Config, tenant_id: &str) -> Result<Rules, Error> {
    let row = policies::newest(conn, tenant_id)?;
    let policy = row.as_ref().map(PolicyRow::policy).transpose()?.unwrap_or_default();
    Ok(Rules::of(&policy, config))
}

/// Lets a link end earlier, and its live session with it. One that ends then already is not changed.
pub(crate) async fn shorten(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    id: LinkId,
    request: ShortenLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let to = request.expires_at;
    let mut fields = Validator::default();
    if to < now.plus(NOTICE) {
        let detail =
            format!("must lie at least {} seconds ahead; revoke the link to end it now", NOTICE.whole_seconds());
        fields.error("/expires_at", "too_soon", detail);
    }
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    cx.store
        .write_large(move |tx| {
            let link = change.lock(tx)?;
            let wrong =
                |code, detail: String| Err(Error::new(Code::ValidationFailed).field("/expires_at", code, detail));
            if to > link.expires_at {
                return wrong("too_late", format!("must not lie after the present end, {}", link.expires_at));
            }
            if to <= link.starts_at {
                return wrong("too_soon", format!("must lie after the beginning, {}", link.starts_at));
            }
            if to == link.expires_at {
                return read::view(tx, link, now);
            }
            let moved = change.move_end(tx, &link, to)?;
            let session = link_changes::cut_session(tx, &link.id, to)?;
            let extension = change.end(ExtensionId::new(now), &request.reason, (link.expires_at, to));
            let more = serde_json::json!({
                "session_id": session, "acting_session_id": request.acting_session_id,
            });
            change.record(tx, EventType::LinkShortened, &moved, &extension, more)?;
            read::view(tx, moved, now)
        })
        .await
}

/// Corrects reason and ticket of a link, and of its live session.
pub(crate) async fn correct(
    cx: &Context,
    caller: &Caller<IssueLinks>,
    id: LinkId,
    request: CorrectLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Validator::default();
    fields.optional_text("/reason", request.reason.as_deref(), 10, 500);
    fields.optional_text("/ticket", request.ticket.as_deref().filter(|ticket| !ticket.is_empty()), 1, 64);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    let config = cx.config.clone();
    cx.store
        .write_large(move |tx| {
            if request.ticket.is_some() {
                link_changes::hold_bulk_revocations(tx)?;
            }
            let link = change.lock(tx)?;
            let reason = request.reason.as_deref().unwrap_or(&link.reason);
            let ticket = match request.ticket.as_deref() {
                Some(ticket) => Some(ticket).filter(|ticket| !ticket.is_empty()),
                None => link.ticket.as_deref(),
            };
            if (reason, ticket) == (&link.reason, link.ticket.as_deref()) {
                return read::view(tx, link, now);
            }
            if ticket.is_none() && link.ticket.is_some() {
                rules_of(tx, &config, &link.tenant_id)?.require_ticket(None)?;
            }
            let words = (reason, ticket);
            let corrected = link_changes::correct(tx, &link.id, &change.reach, words, link.expires_at, now)?;
            let Some(corrected) = corrected else { return Err(change.why_not(tx, &link)?) };
            link_changes::correct_session(tx, &corrected)?;
            let correction = Correction {
                id: CorrectionId::new(now),
                magic_link_id: link.id.clone(),
                previous_reason: link.reason.clone(),
                previous_ticket: link.ticket.clone(),
                reason: corrected.reason.clone(),
                ticket: corrected.ticket.clone(),
                actor_type: change.actor.kind,
                actor_id: change.actor.id.clone(),
                actor_name: change.actor.name.clone(),
                client_id: change.client_id.clone(),
                created_at: now,
            };
            link_changes::insert_correction(tx, &correction)?;
            let event = Event::new(EventType::LinkCorrected, change.actor.clone(), now);
            tx.record(event.client(change.client_id.as_ref()).link(&corrected).with(&serde_json::json!({
                "correction_id": correction.id, "previous_reason": correction.previous_reason,
                "previous_ticket": correction.previous_ticket,
            })));
            read::view(tx, corrected, now)
        })
        .await
}
