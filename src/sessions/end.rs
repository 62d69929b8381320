//! Ending sessions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use utoipa::ToSchema;

use super::read::view;
use super::report::refuse;
use super::{EndSession, MAX_SEQ, MAX_SOURCES, RevokeSession, SessionResponse};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{Actor, EndCause, EventType, Reach, Validator, check_person, is_source};
use crate::error::{Code, Error};
use crate::http::{Caller, RedeemSessions, RevokeLinks};
use crate::id::{ClientId, LinkId, SessionId};
use crate::journal::Event;
use crate::mail::notices;
use crate::records;
use crate::records::links::Link;
use crate::records::session_sources::Source;
use crate::records::sessions::{Ended, Session};
use crate::store::{Tx, Worker};

/// Largest number of expired sessions that one step records.
const EXPIRED_PER_STEP: i64 = 100;

/// Largest number of sources that have reported into a session or were closed: as many as report, and as many that had
/// nothing to report, or could not.
const MAX_NAMED_SOURCES: usize = 2 * MAX_SOURCES;

/// Largest number of closing counts that share their transaction with other write jobs.
const MAX_SHARED_SOURCES: usize = 10;

/// Ends a session: because the consultant is done only where the client says so. Closing counts are accepted also for a
/// session that has already ended.
pub(crate) async fn end(
    cx: &Context,
    caller: &Caller<RedeemSessions>,
    id: SessionId,
    request: EndSession,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let mut fields = Validator::default();
    for (source, last_seq) in request.sources.iter().flatten() {
        if !is_source(source) {
            fields.error("/sources", "malformed", "names have 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if !(0..=MAX_SEQ).contains(last_seq) {
            fields.error(format!("/sources/{source}"), "out_of_range", format_args!("must be 0 to {MAX_SEQ}"));
        }
    }
    let named = request.sources.as_ref().map_or(0, BTreeMap::len);
    if named > MAX_SOURCES {
        fields.error("/sources", "out_of_range", format_args!("must name at most {MAX_SOURCES} sources"));
    }
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    if request.consultant_done && request.requested_by.is_some() {
        fields.error("/requested_by", "contradiction", "must be absent where the consultant ended the session");
    }
    fields.finish()?;
    let (reach, client_id, client) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    let ender = caller.actor(request.requested_by.as_ref());
    let asked = id.clone();
    let work = move |tx: &mut Tx<'_>| {
        let known = records::sessions::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
        let (actor, cause) = if request.consultant_done {
            (Actor::consultant(&known.consultant_id), EndCause::Done)
        } else {
            (ender.clone(), EndCause::Revoked)
        };
        let ending = Ending::new(&actor, client_id.as_ref(), now);
        if request.requested_by.is_some() {
            revoke_active(tx, &id, &reach, &ending)?;
        } else if let Some(ended) = records::sessions::end(tx, &id, &reach, cause, now)? {
            record_end(tx, &ended, &ending)?;
        }
        if let Some(counts) = &request.sources {
            close(tx, &known, counts, (&reach, &client, client_id.as_ref()), now)?;
        }
        Ok(())
    };
    if named > MAX_SHARED_SOURCES {
        cx.store.write_large(work).await?;
    } else {
        cx.store.write(work).await?;
    }
    // Not in the transaction, which others may share: the answer reads what was reported.
    read_again(cx, asked, now).await
}

/// Takes closing counts. Each source has its own, from whoever reports for it; of two for one source the higher counts, so
/// that none hides what is missing.
fn close(
    tx: &mut Tx<'_>,
    known: &Session,
    counts: &BTreeMap<String, i64>,
    (reach, client, client_id): (&Reach, &Actor, Option<&ClientId>),
    now: Timestamp,
) -> Result<(), Error> {
    let id = &known.id;
    records::sessions::lock_within(tx, id, reach)?.ok_or_else(Error::not_found)?;
    let is_first = records::sessions::close(tx, id, now)?;
    if is_first {
        notices::closed(tx, known, now)?;
        tx.wake(Worker::Mail);
    }
    let counted = records::session_sources::of_session(tx, id)?;
    let mut names: BTreeSet<&str> = counted.iter().map(|source| source.name.as_str()).collect();
    let mut told = BTreeMap::new();
    for (name, last_seq) in counts {
        names.insert(name);
        match counted.iter().find(|source| source.name == *name) {
            Some(source) if source.closing_seq.is_some_and(|told| told >= *last_seq) => continue,
            Some(_) => drop(records::session_sources::close(tx, id, name, *last_seq)?),
            None => {
                let closing_seq = Some(*last_seq);
                records::session_sources::insert(tx, &Source { closing_seq, ..Source::new(id, name) })?;
            }
        }
        told.insert(name, last_seq);
    }
    if names.len() > MAX_NAMED_SOURCES {
        return Err(refuse(tx, known, client, client_id, Code::ReportLimitReached, now));
    }
    if is_first || !told.is_empty() {
        let event = Event::new(EventType::SessionClosed, client.clone(), now).client(client_id).session(known);
        tx.record(event.with(&serde_json::json!({ "sources": told })));
    }
    Ok(())
}

async fn read_again(cx: &Context, id: SessionId, now: Timestamp) -> Result<SessionResponse, Error> {
    cx.store
        .read(move |conn| {
            let session = records::sessions::find(conn, &id)?.ok_or_else(Error::not_found)?;
            view(conn, session, now)
        })
        .await
}

/// Token revocation request (RFC 7009).
#[derive(ToSchema)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
#[expect(dead_code, reason = "only its schema is used")]
pub struct RevocationRequest {
    /// Access token whose session is to end. Any other text ends none.
    #[schema(max_length = 65536, examples("eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"))]
    token: String,
    /// Ignored: every token is an access token.
    #[schema(max_length = 65536, examples("access_token"))]
    token_type_hint: Option<String>,
    /// Identifier of the client, with `client_secret`; instead of the `Authorization` header.
    #[schema(max_length = 64, examples("cli_01kaq3v9e8fwmvd2x7n0c5hb4z"))]
    client_id: Option<String>,
    /// API key of the client (`client_secret_post`); not beside an `Authorization` header.
    #[schema(
        max_length = 128,
        examples("mlsk_01kaq3v9e8fwmvd2x7n0c5hb4z_0123456789012345678901234567890123456789012")
    )]
    client_secret: Option<String>,
}

/// Ends the session behind an access token of the caller's own portal and tenants (RFC 7009).
///
/// The result does not depend on the token's validity: an unknown token, one of another client and one of an ended
/// session are not distinguished.
///
/// # Errors
/// `unavailable` when the store did not commit the revocation: the caller must not assume that it did.
pub(crate) async fn revoke_token(
    cx: &Context,
    caller: &Caller<RedeemSessions>,
    token: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(token) = cx.tokens.verify_access(token, now) else { return Ok(()) };
    let (id, actor) = (token.sid.clone(), caller.actor(None));
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    cx.store.write(move |tx| revoke_active(tx, &id, &reach, &Ending::new(&actor, client_id.as_ref(), now))).await
}

/// Revokes a session that is active. Whoever revokes it trusts no device that may follow it.
fn revoke_active(tx: &mut Tx<'_>, id: &SessionId, reach: &Reach, ending: &Ending<'_>) -> Result<(), Error> {
    // In almost all cases there is no device, and one statement is all.
    if let Some(over) = records::sessions::end_without_device(tx, id, reach, EndCause::Revoked, ending.now)? {
        return record_end(tx, &over, ending);
    }
    match records::sessions::find_within(tx, id, reach)? {
        Some(known) if known.holds(ending.now) => end_with_device(tx, &known, reach, ending),
        _ => Ok(()),
    }
}

/// Revokes a session; its link is not revoked, but a device that is remembered for it is forgotten, and the visit that has
/// followed on it ends. A session that has already ended keeps its end.
pub(crate) async fn revoke(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    id: SessionId,
    request: RevokeSession,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()?;
    let (actor, reason) = (caller.actor(request.requested_by.as_ref()), request.reason);
    let (reach, client_id, asked) = (caller.reach.clone(), caller.client_id.clone(), id.clone());
    cx.store
        .write(move |tx| {
            let known = records::sessions::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
            let ending = Ending {
                reason: Some(&reason),
                acting_session_id: request.acting_session_id.as_deref(),
                ..Ending::new(&actor, client_id.as_ref(), now)
            };
            end_with_device(tx, &known, &reach, &ending)
        })
        .await?;
    read_again(cx, asked, now).await
}

/// Ends a session, if it is active, with the device that may follow it, and with the visit that has.
fn end_with_device(tx: &mut Tx<'_>, known: &Session, reach: &Reach, ending: &Ending<'_>) -> Result<(), Error> {
    // The link before the session, as everybody locks them.
    records::links::lock(tx, &known.magic_link_id)?;
    if let Some(over) = records::sessions::end(tx, &known.id, reach, EndCause::Revoked, ending.now)? {
        record_end(tx, &over, ending)?;
    }
    // Whoever it was comes back with a mail only, also where they are back already.
    match records::devices::void_generation(tx, &known.magic_link_id, known.generation)? {
        Some(link) => {
            end_all_of_links(tx, std::slice::from_ref(&link), EndCause::Revoked, ending)?;
            forget_device(tx, &link, ending.actor, ending.client_id, "session_revoked", ending.now)
        }
        None => Ok(()),
    }
}

/// Forgets the device of a link, if one is remembered, and records it. The caller has raised the link's generation, which
/// decides every race with a visit.
pub(crate) fn forget_device(
    tx: &mut Tx<'_>,
    link: &Link,
    actor: &Actor,
    client_id: Option<&ClientId>,
    cause: &str,
    now: Timestamp,
) -> Result<(), Error> {
    if let Some(thumbprint) = records::devices::forget(tx, &link.id, now)? {
        let data = serde_json::json!({ "device": thumbprint, "cause": cause });
        tx.record(Event::new(EventType::DeviceForgotten, actor.clone(), now).client(client_id).link(link).with(&data));
    }
    Ok(())
}

/// Who ends sessions, and when they end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ending<'a> {
    pub actor: &'a Actor,
    pub client_id: Option<&'a ClientId>,
    /// Time at which the sessions end: earlier than `now` while a bulk revocation is carried out.
    pub at: Timestamp,
    pub now: Timestamp,
    /// Why, where it was said.
    pub reason: Option<&'a str>,
    /// The support session that the caller acted in.
    pub acting_session_id: Option<&'a str>,
}

impl<'a> Ending<'a> {
    /// Ends sessions at `now`.
    pub(crate) const fn new(actor: &'a Actor, client_id: Option<&'a ClientId>, now: Timestamp) -> Self {
        Self { actor, client_id, at: now, now, reason: None, acting_session_id: None }
    }
}

/// Ends every live session of the links; returns how many it ended.
pub(crate) fn end_all_of_links(
    tx: &mut Tx<'_>,
    links: &[Link],
    cause: EndCause,
    ending: &Ending<'_>,
) -> Result<usize, Error> {
    let ended = records::sessions::end_all_of_links(tx, links, cause, ending.at)?;
    let by_id: HashMap<&LinkId, &Link> = links.iter().map(|link| (&link.id, link)).collect();
    let mut number = 0;
    for session in ended {
        number += usize::from(session.end_cause == Some(cause));
        let link = by_id.get(&session.magic_link_id).ok_or_else(|| Error::internal("a session without its link"))?;
        let (issuer_email, owner_email) = (link.issued_by_email.clone(), link.profile_email.clone());
        record_end(tx, &Ended { session, issuer_email, owner_email }, ending)?;
    }
    Ok(number)
}

/// Ends those of these sessions that are active; returns the links of those that it ended.
pub(crate) fn end_all(tx: &mut Tx<'_>, ids: &[SessionId], ending: &Ending<'_>) -> Result<Vec<LinkId>, Error> {
    let mut links = Vec::new();
    for id in ids {
        let ended = records::sessions::end(tx, id, &Reach::everything(), EndCause::Revoked, ending.at)?;
        let Some(ended) = ended else { continue };
        record_end(tx, &ended, ending)?;
        links.push(ended.session.magic_link_id);
    }
    Ok(links)
}

/// Records the end of a session and queues its notices.
fn record_end(tx: &mut Tx<'_>, ended: &Ended, ending: &Ending<'_>) -> Result<(), Error> {
    let session = &ended.session;
    let replaced = session.end_cause == Some(EndCause::Replaced);
    // A replaced session continues in the next one, so no notice of its end is sent.
    if !replaced && notices::ended(tx, ended, ending.now)? {
        tx.wake(Worker::Mail);
    }
    let kind = if replaced { EventType::SessionReplaced } else { EventType::SessionEnded };
    // An expired session ended when it expired, by itself, and not when or by whom that was detected.
    let at = session.ended_at.unwrap_or(ending.at);
    let (actor, client_id) = match session.end_cause {
        Some(EndCause::Expired) => (Actor::system("clock"), None),
        _ => (ending.actor.clone(), ending.client_id),
    };
    tx.record(Event::new(kind, actor, ending.now).at(at).client(client_id).session(session).with(&serde_json::json!({
        "cause": session.end_cause, "ended_at": session.ended_at, "end_reason": ending.reason,
        "acting_session_id": ending.acting_session_id,
    })));
    Ok(())
}

/// Records the end of expired sessions; returns how many were due.
pub(crate) async fn end_expired(cx: &Context, now: Timestamp) -> Result<usize, Error> {
    let expired = cx.store.read(move |conn| Ok(records::sessions::expired(conn, EXPIRED_PER_STEP, now)?)).await?;
    let found = expired.len();
    for id in expired {
        // One transaction each: one that locks many could wait for a revocation that locks others.
        cx.store
            .write(move |tx| {
                // Another instance may have recorded it already.
                let ended = records::sessions::end(tx, &id, &Reach::everything(), EndCause::Expired, now)?;
                let Some(ended) = ended else { return Ok(()) };
                record_end(tx, &ended, &Ending::new(&Actor::system("clock"), None, now))
            })
            .await?;
    }
    Ok(found)
}
