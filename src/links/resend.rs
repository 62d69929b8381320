//! Mailing a fresh token: the next generation voids every token and code before it.

use crate::domain::check_person;
use super::{Link, LinkResponse, ResendLink, read, store};
use crate::app::App;
use crate::audit::Event;
use crate::domain::{Actor, EventType};
use crate::domain::Reach;
use crate::clock::Timestamp;
use crate::consultants;
use crate::db::Tx;
use crate::error::{Code, Error};
use crate::domain::Fields;
use crate::http::{Caller, IssueLinks};
use crate::id::{ClientId, LinkId};
use crate::mail;
use crate::domain::refuse_support_session;

/// Has a fresh link mailed to the registered address.
pub(crate) async fn resend(
    app: &App,
    caller: &Caller<IssueLinks>,
    id: LinkId,
    request: ResendLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    consultants::refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Fields::default();
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.finish()?;
    let actor = caller.actor(request.requested_by.as_ref());
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    app.mail_limits.count(app, caller.client_id.as_ref(), None, now).await?;
    let limits = app.mail_limits.fresh();
    let outcome = app
        .db
        .write(move |tx| match next_generation(tx, &id, &reach, limits, &actor, client_id.as_ref(), now)? {
            Ok(link) => Ok(Ok(read::view(tx, link, now)?)),
            Err(refusal) => Ok(Err(refusal)),
        })
        .await?;
    app.mail_wake.notify_one();
    outcome
}

/// Raises the generation and queues its mail, or says why not; a refusal is recorded too.
///
/// The outer error undoes the transaction, the inner one is an outcome of it.
pub(super) fn next_generation(
    tx: &mut Tx<'_>,
    id: &LinkId,
    reach: &Reach,
    limits: mail::Fresh,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<Result<Link, Error>, Error> {
    let known = match still_open(tx, id, reach, actor, client_id, now)? {
        Ok(known) => known,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mailed_at = known.resent_at.unwrap_or(known.created_at);
    let cool_down = match mail::fresh_link(tx, limits, &known.consultant_id, mailed_at, now)? {
        Ok(cool_down) => cool_down,
        Err(too_early) => return Ok(Err(too_early)),
    };
    let Some(link) = store::raise_generation(tx, id, reach, now.minus(cool_down), now)? else {
        // Somebody was quicker: with a revocation, or with a fresh link of their own.
        if let Err(refusal) = still_open(tx, id, reach, actor, client_id, now)? {
            return Ok(Err(refusal));
        }
        let wait = cool_down.whole_seconds() + 1;
        return Ok(Err(Error::new(Code::ResendCoolDown).retry_after(wait.unsigned_abs())));
    };
    let consultant = consultants::find(tx, &link.consultant_id)?.ok_or_else(Error::not_found)?;
    mail::require_open_address(tx, &consultant.email)?;
    mail::cancel_for_links(tx, std::slice::from_ref(&link), now)?;
    mail::enqueue_link(tx, &link, now)?;
    mail::notices::resent(tx, &link, now)?;
    tx.record(
        Event::new(EventType::LinkResent, actor.clone(), now)
            .client(client_id)
            .link(&link)
            .with(&serde_json::json!({ "generation": link.generation })),
    );
    Ok(Ok(link))
}

/// The link, unless it has ended: then the refusal, which is on record.
fn still_open(
    tx: &mut Tx<'_>,
    id: &LinkId,
    reach: &Reach,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<Result<Link, Error>, Error> {
    let mut link = store::find_within(tx, id, reach)?.ok_or_else(Error::not_found)?;
    read::obey(tx, std::slice::from_mut(&mut link))?;
    match link.why_not(link.generation, now) {
        Some(code @ (Code::LinkRevoked | Code::LinkExpired)) => {
            tx.record(Event::link_refused(&link, actor.clone(), code, now).client(client_id));
            Ok(Err(Error::new(code).recorded()))
        }
        _ => Ok(Ok(link)),
    }
}
