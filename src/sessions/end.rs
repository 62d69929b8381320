//! Ending sessions.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{EndCause, EndSession, MOST_ACTS, Session, SessionResponse, introspect, is_source, store};
use crate::app::App;
use crate::audit::{Actor, Event, EventType};
use crate::clock::Timestamp;
use crate::db::Tx;
use crate::error::Error;
use crate::http::{Caller, Fields, RedeemSessions};
use crate::id::{ClientId, LinkId, SessionId};
use crate::mail::notices;

/// How many expired sessions one step puts on record.
const EXPIRED_PER_STEP: i64 = 100;

/// "I am done". Closing counts are also taken for a session that something else has ended.
pub(crate) async fn end(
    app: &App,
    caller: &Caller<RedeemSessions>,
    id: SessionId,
    request: EndSession,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let mut fields = Fields::default();
    for (source, last_seq) in request.sources.iter().flatten() {
        if !is_source(source) {
            fields.refuse("/sources", "malformed", "names have 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if !(0..=MOST_ACTS).contains(last_seq) {
            fields.refuse(format!("/sources/{source}"), "out_of_range", format_args!("must be 0 to {MOST_ACTS}"));
        }
    }
    if request.sources.as_ref().is_some_and(|sources| sources.len() > 100) {
        fields.refuse("/sources", "out_of_range", "must name at most 100 sources");
    }
    fields.finish()?;
    let (reach, client_id, client) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    app.db
        .write(move |tx| {
            let known = store::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
            let actor = Actor::consultant(&known.consultant_id);
            if let Some(ended) = store::end(tx, &id, EndCause::Done, now)? {
                notices::ended(tx, &ended, now)?;
                tx.record(
                    Event::new(EventType::SessionEnded, actor.clone(), now)
                        .client(client_id.as_ref())
                        .session(&ended)
                        .with(&serde_json::json!({ "cause": ended.end_cause })),
                );
            }
            if let Some(sources) = &request.sources
                && store::close(tx, &id, now)?
            {
                notices::closed(tx, &known, now)?;
                for (source, last_seq) in sources {
                    store::ensure_source(tx, &id, source)?;
                    store::close_source(tx, &id, source, *last_seq)?;
                }
                tx.record(
                    Event::new(EventType::SessionClosed, client.clone(), now)
                        .client(client_id.as_ref())
                        .session(&known)
                        .with(&serde_json::json!({ "sources": sources })),
                );
            }
            let session = store::find(tx, &id)?.ok_or_else(Error::not_found)?;
            let sources = store::sources(tx, std::slice::from_ref(&id))?;
            Ok(SessionResponse::of(tx, session, sources, now)?)
        })
        .await
}

/// A token to revoke.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(example = json!({"token": "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl"}))]
pub struct RevocationRequest {
    /// The access token.
    #[schema(max_length = 4096)]
    pub token: String,
}

/// Ends the session behind an access token of the caller's own portal and tenants (RFC 7009).
///
/// What the token was worth is not told: not ours, somebody else's and over long ago look the same.
///
/// # Errors
/// `unavailable` when the store did not take it: the caller must not believe that it did.
pub(crate) async fn revoke_token(
    app: &App,
    caller: &Caller<RedeemSessions>,
    token: &str,
    now: Timestamp,
) -> Result<(), Error> {
    let Some(token) = introspect::verify(app, token, now) else { return Ok(()) };
    end_within(app, caller, token.claims.sid.clone(), now).await.map(drop)
}

/// Ends a session before its time; one that has ended, or that the caller cannot see, is left alone.
async fn end_within<S>(app: &App, caller: &Caller<S>, id: SessionId, now: Timestamp) -> Result<Option<Session>, Error> {
    let (reach, client_id, actor) = (caller.reach.clone(), caller.client_id.clone(), caller.actor(None));
    app.db
        .write(move |tx| {
            let Some(known) = store::find_within(tx, &id, &reach)? else { return Ok(None) };
            let Some(ended) = store::end(tx, &id, EndCause::Revoked, now)? else { return Ok(Some(known)) };
            tx.record(
                Event::new(EventType::SessionEnded, actor.clone(), now)
                    .client(client_id.as_ref())
                    .session(&ended)
                    .with(&serde_json::json!({ "cause": ended.end_cause })),
            );
            Ok(Some(ended))
        })
        .await
}

/// Ends a session at the command line; its link stays as it is.
pub(crate) async fn revoke(
    app: &App,
    caller: &Caller<RedeemSessions>,
    id: SessionId,
    now: Timestamp,
) -> Result<SessionResponse, Error> {
    let session = end_within(app, caller, id.clone(), now).await?.ok_or_else(Error::not_found)?;
    app.db
        .read(move |conn| {
            let sources = store::sources(conn, std::slice::from_ref(&id))?;
            Ok(SessionResponse::of(conn, session, sources, now)?)
        })
        .await
}

/// Ends whatever session of the link is live.
pub(crate) fn end_all_of_link(
    tx: &mut Tx<'_>,
    link: &LinkId,
    cause: EndCause,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<(), Error> {
    for session in store::end_all_of_link(tx, link, cause, now)? {
        // The next visit goes on where this one was.
        if session.end_cause != Some(EndCause::Replaced) {
            notices::ended(tx, &session, now)?;
        }
        let kind = if session.end_cause == Some(EndCause::Replaced) {
            EventType::SessionReplaced
        } else {
            EventType::SessionEnded
        };
        tx.record(
            Event::new(kind, actor.clone(), now)
                .client(client_id)
                .session(&session)
                .with(&serde_json::json!({ "cause": session.end_cause })),
        );
    }
    Ok(())
}

/// Ends every live session whose access token a key signed; tells how many there were.
pub(crate) fn end_all_signed_by(
    tx: &mut Tx<'_>,
    kid: &str,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<usize, Error> {
    let mut number = 0;
    for id in store::signed_by(tx, kid, now)? {
        let Some(session) = store::end(tx, &id, EndCause::Revoked, now)? else { continue };
        number += 1;
        tx.record(
            Event::new(EventType::SessionEnded, actor.clone(), now)
                .client(client_id)
                .session(&session)
                .with(&serde_json::json!({ "cause": session.end_cause, "kid": kid })),
        );
    }
    Ok(number)
}

/// Puts on record that sessions have run out; tells how many.
pub(crate) async fn end_expired(app: &App, now: Timestamp) -> Result<usize, Error> {
    let expired = app.db.read(move |conn| Ok(store::expired(conn, EXPIRED_PER_STEP, now)?)).await?;
    let found = expired.len();
    for id in expired {
        // One by one: a transaction that held many could wait for a revocation that holds others.
        app.db
            .write(move |tx| {
                // Another copy may have been quicker.
                let Some(session) = store::end(tx, &id, EndCause::Expired, now)? else { return Ok(()) };
                notices::ended(tx, &session, now)?;
                let event = Event::new(EventType::SessionEnded, Actor::system("clock"), now).session(&session);
                tx.record(event.with(&serde_json::json!({ "cause": session.end_cause, "ended_at": session.ended_at })));
                Ok(())
            })
            .await?;
    }
    Ok(found)
}
