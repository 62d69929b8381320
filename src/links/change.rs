//! Changing a link that was issued: it ends later or earlier, or its reason and ticket are corrected.
//!
//! Each is one guarded statement: a link that has ended is refused, also where another copy of the service has recorded
//! its end already. A transaction of its own, because it locks what the worker of expiries and bulk revocations write.

use time::Duration;

use super::changing::{Change, Extending, rules_of};
use super::{CorrectLink, ExtendLink, LinkResponse, ShortenLink, extensions, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Person, Reach, Scope, Validator, check_person, refuse_support_session};
use crate::error::{Code, Error};
use crate::http::{AskForLinks, Caller, IssueLinks, RevokeLinks};
use crate::id::{CorrectionId, ExtensionId, LinkId};
use crate::journal::Event;
use crate::records;
use crate::records::link_changes::{self, Correction};
use crate::rules::extending;
use crate::store::{IdempotencyKey, Tx, idempotency};

/// How far ahead the end of a shortened link lies at least: clocks differ, and a session is not cut in mid-request.
const NOTICE: Duration = Duration::seconds(60);

/// Lets a link end later; a live session goes on to its own end.
///
/// The whole window stays within the longest that a link may have, so that the keys that signed its tokens are published
/// until its end.
pub(crate) async fn extend(
    cx: &Context,
    caller: &Caller<AskForLinks>,
    id: LinkId,
    request: ExtendLink,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
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
    let by_whom = Person { id: request.extended_by.id.clone(), name: request.extended_by.name.clone() };
    check_person(&mut fields, "/extended_by", Some(&by_whom));
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(Some(&by_whom)), now);
    let (asked_by, reason) = (request.extended_by, request.reason);
    let wanted = Extending { id: ExtensionId::new(now), by: asked_by, reason, signed: None };
    let (config, may_issue) = (cx.config.clone(), caller.has(Scope::IssueLinks));
    cx.store
        .write_large(move |tx| {
            let known = |tx: &mut Tx<'_>, _: &ExtensionId, reach: &Reach| read::view_within(tx, &change.id, reach, now);
            if let Some(link) = idempotency::once(tx, idempotency.as_ref(), &wanted.id, now, known)? {
                return Ok(link);
            }
            if records::freeze::is_on(tx)? {
                return Err(Code::IssuingFrozen.into());
            }
            let link = change.lock(tx)?;
            let (to, rules) = match extending::later_end(tx, &config, &link, by) {
                Err(refusal) if refusal.code() == Code::EmergencyAccess => {
                    return Err(change.refuse(tx, &link, refusal));
                }
                allowed => allowed?,
            };
            extensions::require_none(tx, &change, &link)?;
            if !may_issue || rules.wants_approval(link.access, to.since(link.starts_at)) {
                return extensions::ask(tx, &change, &link, &wanted, (by, config.limits.mails_per_recipient_hour));
            }
            change.extend(tx, &link, &wanted, to, serde_json::Value::Null)
        })
        .await
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
            records::extension_requests::lapse_with(tx, &link.id, to)?;
            let extension = change.end(ExtensionId::new(now), &request.reason, (link.expires_at, to));
            let more = serde_json::json!({
                "session_id": session, "acting_session_id": request.acting_session_id,
            });
            change.record(tx, EventType::LinkShortened, &moved, &extension, more, None)?;
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
            // Read as it is: blanks alone are no empty text, which removes the ticket.
            let ticket = match request.ticket.as_deref().map(str::trim) {
                Some(ticket) => Some(ticket).filter(|ticket| !ticket.is_empty()),
                None => link.ticket.as_deref(),
            };
            if (reason, ticket) == (&link.reason, link.ticket.as_deref()) {
                return read::view(tx, link, now);
            }
            if ticket.is_none() && link.ticket.is_some() {
                rules_of(tx, &config, &link.tenant_id)?.require_ticket(None)?;
            }
            change.require_room(tx, &link, link_changes::takes_another_correction)?;
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
