//! Resending mails a fresh token: the next generation invalidates every earlier token and code of the link.

use super::changing::Change;
use super::{LinkResponse, ResendLink, read};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::context::Context;
use crate::domain::{Actor, EventType, Reentry, Validator, check_person, refuse_support_session};
use crate::error::{Code, Error};
use crate::http::{Caller, IssueLinks};
use crate::id::{ClientId, LinkId};
use crate::journal::Event;
use crate::records::links::Link;
use crate::store::{Tx, Worker};
use crate::{mail, records, sessions};

/// Queues a mail with a fresh link to the registered address.
pub(crate) async fn resend(
    cx: &Context,
    limits: &mail::Limits,
    caller: &Caller<IssueLinks>,
    id: LinkId,
    request: ResendLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Validator::default();
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    cx.tokens.signing_kid(now)?;
    limits.count_client(caller.client_id.as_ref())?;
    let (config, fresh) = (cx.config.clone(), limits.fresh());
    cx.store
        .write(move |tx| {
            let link = next_generation(tx, &config, &change, fresh)?;
            read::view(tx, link, now)
        })
        .await
}

/// Raises the generation and queues its mail. A refusal because the link has ended is recorded.
pub(super) fn next_generation(
    tx: &mut Tx<'_>,
    config: &Config,
    change: &Change,
    limits: mail::Fresh,
) -> Result<Link, Error> {
    let now = change.now;
    let known = still_open(tx, change)?;
    // A recipient's links are counted, of whichever link they are: one transaction at a time.
    records::consultants::lock_for_change(tx, &known.consultant_id)?;
    let cool_down = mail::fresh_link(tx, limits, &known, now)?;
    let Some(link) = records::links::raise_generation(tx, &change.id, &change.reach, now.last(cool_down), now)? else {
        // A concurrent revocation or resend was first.
        still_open(tx, change)?;
        let wait = cool_down.whole_seconds() + 1;
        return Err(Error::new(Code::ResendCoolDown).retry_after(wait.unsigned_abs()));
    };
    let consultant = records::consultants::find(tx, &link.consultant_id)?.ok_or_else(Error::not_found)?;
    mail::require_open_address(tx, config, &consultant.email)?;
    let event = change.event(EventType::LinkResent, &link);
    mail_again(tx, &link, event.with(&serde_json::json!({ "generation": link.generation })), now)?;
    Ok(link)
}

/// Raises the generation of a link whose newest token was of a key that is revoked, or whose session was, and queues its
/// mail; `false` if the link has ended, or a newer mail is under way.
///
/// No cool-down and no limit applies: an operator ordered it, once.
pub(crate) fn renew(
    tx: &mut Tx<'_>,
    id: &LinkId,
    (kid, had_session): (&str, bool),
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<bool, Error> {
    let Some(link) = records::links::renew(tx, id, (kid, had_session), now)? else { return Ok(false) };
    let event = Event::new(EventType::LinkResent, actor.clone(), now).client(client_id).link(&link);
    let data = serde_json::json!({ "generation": link.generation, "revoked_kid": kid });
    mail_again(tx, &link, event.with(&data), now)?;
    Ok(true)
}

/// Queues the mail of a link's new generation instead of older ones, and records it.
fn mail_again(tx: &mut Tx<'_>, link: &Link, event: Event, now: Timestamp) -> Result<(), Error> {
    mail::cancel_for_links(tx, std::slice::from_ref(link), now)?;
    mail::enqueue_link(tx, link, now)?;
    if !link.has_begun(now) {
        mail::notices::announced(tx, link, now)?;
    }
    mail::notices::resent(tx, link, now)?;
    tx.wake(Worker::Mail);
    if link.reentry == Reentry::Device {
        // Whoever opens the fresh mail may have their browser remembered instead.
        sessions::forget_device(tx, link, &event.actor, event.client_id.as_ref(), "resent", now)?;
    }
    tx.record(event);
    Ok(())
}

/// The link, unless it has ended.
fn still_open(tx: &mut Tx<'_>, change: &Change) -> Result<Link, Error> {
    match records::links::find_within(tx, &change.id, &change.reach)? {
        Some(link) => change.require_open(tx, link),
        None => Err(change.why_none(tx)?),
    }
}
