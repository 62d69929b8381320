//! Revoking links, and with them their sessions and unsent mails.

use super::{Link, LinkResponse, RevokeLink, check_person, read, store};
use crate::app::App;
use crate::audit::{Actor, Event, EventType};
use crate::clock::Timestamp;
use crate::db::Tx;
use crate::error::Error;
use crate::http::{Caller, Fields, RevokeLinks};
use crate::id::{ClientId, ConsultantId, LinkId};
use crate::mail;
use crate::sessions::{self, EndCause};

/// Revokes a link. One that has ended already stays as it is.
pub(crate) async fn revoke(
    app: &App,
    caller: &Caller<RevokeLinks>,
    id: LinkId,
    request: RevokeLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let mut fields = Fields::default();
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()?;
    let actor = caller.actor(request.requested_by.as_ref());
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    app.db
        .write(move |tx| {
            let Some(link) = store::revoke(tx, &id, &reach, &request.reason, &actor, now)? else {
                let ended = store::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
                return read::view(tx, ended, now);
            };
            let acting = request.acting_session_id.as_deref();
            after_revocation(tx, &link, &request.reason, &actor, client_id.as_ref(), acting, now)?;
            read::view(tx, link, now)
        })
        .await
}

/// Revokes every link of a consultant that has not ended; tells how many there were.
pub(crate) fn revoke_all_of(
    tx: &mut Tx<'_>,
    consultant: &ConsultantId,
    reason: &str,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<usize, Error> {
    let links = store::revoke_all_of(tx, consultant, reason, actor, now)?;
    for link in &links {
        after_revocation(tx, link, reason, actor, client_id, None, now)?;
    }
    Ok(links.len())
}

/// Revokes every link that a client issued and that has not ended; tells how many there were.
pub(crate) fn revoke_all_issued_by(
    tx: &mut Tx<'_>,
    issuer: &ClientId,
    reason: &str,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<usize, Error> {
    let links = store::revoke_all_issued_by(tx, issuer, reason, actor, now)?;
    for link in &links {
        after_revocation(tx, link, reason, actor, client_id, None, now)?;
    }
    Ok(links.len())
}

/// Revokes every link whose unspent token a key signed; tells how many there were.
pub(crate) fn revoke_all_signed_by(
    tx: &mut Tx<'_>,
    kid: &str,
    reason: &str,
    actor: &Actor,
    client_id: Option<&ClientId>,
    now: Timestamp,
) -> Result<usize, Error> {
    let links = store::revoke_all_signed_by(tx, kid, reason, actor, now)?;
    for link in &links {
        after_revocation(tx, link, reason, actor, client_id, None, now)?;
    }
    Ok(links.len())
}

/// What follows from a revocation: no session lives on, no mail leaves, and it is on record.
fn after_revocation(
    tx: &mut Tx<'_>,
    link: &Link,
    reason: &str,
    actor: &Actor,
    client_id: Option<&ClientId>,
    acting_session_id: Option<&str>,
    now: Timestamp,
) -> Result<(), Error> {
    mail::cancel_for_link(tx, &link.id, now)?;
    mail::notices::revoked(tx, link, now)?;
    tx.record(
        Event::new(EventType::LinkRevoked, actor.clone(), now)
            .client(client_id)
            .link(link)
            .with(&serde_json::json!({ "reason": reason, "acting_session_id": acting_session_id })),
    );
    sessions::end_all_of_link(tx, &link.id, EndCause::Revoked, actor, client_id, now)
}
