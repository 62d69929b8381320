//! Revoking links, and with them their sessions and unsent mails.

use crate::domain::check_person;
use super::{Link, LinkResponse, RevokeLink, read, store};
use crate::app::App;
use crate::audit::Event;
use crate::domain::{Actor, EventType};
use crate::clock::Timestamp;
use crate::db::Tx;
use crate::error::Error;
use crate::domain::Fields;
use crate::http::{Caller, RevokeLinks};
use crate::id::{ClientId, ConsultantId, LinkId, RevocationId};
use crate::mail;
use crate::sessions::{self, Ending};
use crate::domain::EndCause;

/// Why and by whom links are revoked, and from when on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Revoking<'a> {
    pub reason: &'a str,
    pub actor: &'a Actor,
    pub client_id: Option<&'a ClientId>,
    /// The support session that the caller acted in.
    pub acting_session_id: Option<&'a str>,
    /// The order that it carries out.
    pub revocation_id: Option<&'a RevocationId>,
    /// From when on the links are revoked: earlier than `now` where an order is carried out.
    pub at: Timestamp,
    pub now: Timestamp,
}

impl<'a> Revoking<'a> {
    /// From this moment on.
    pub(crate) const fn new(
        reason: &'a str,
        actor: &'a Actor,
        client_id: Option<&'a ClientId>,
        now: Timestamp,
    ) -> Self {
        Self { reason, actor, client_id, acting_session_id: None, revocation_id: None, at: now, now }
    }
}

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
            let revoking = Revoking {
                acting_session_id: request.acting_session_id.as_deref(),
                ..Revoking::new(&request.reason, &actor, client_id.as_ref(), now)
            };
            let Some(link) = store::revoke(tx, &id, &reach, &revoking)? else {
                let ended = store::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
                return read::view(tx, ended, now);
            };
            follow_up(tx, std::slice::from_ref(&link), &revoking)?;
            read::view(tx, link, now)
        })
        .await
}

/// Revokes every link of a consultant that has not ended; tells how many there were.
pub(crate) fn revoke_all_of(
    tx: &mut Tx<'_>,
    consultant: &ConsultantId,
    revoking: &Revoking<'_>,
) -> Result<usize, Error> {
    let links = store::revoke_all_of(tx, consultant, revoking)?;
    follow_up(tx, &links, revoking).map(|_sessions| links.len())
}

/// Revokes every link that a client issued and that has not ended; tells how many there were.
pub(crate) fn revoke_all_issued_by(
    tx: &mut Tx<'_>,
    issuer: &ClientId,
    revoking: &Revoking<'_>,
) -> Result<usize, Error> {
    let links = store::revoke_all_issued_by(tx, issuer, revoking)?;
    follow_up(tx, &links, revoking).map(|_sessions| links.len())
}

/// Revokes every link whose unspent token a key signed; tells how many there were.
pub(crate) fn revoke_all_signed_by(tx: &mut Tx<'_>, kid: &str, revoking: &Revoking<'_>) -> Result<usize, Error> {
    let links = store::revoke_all_signed_by(tx, kid, revoking)?;
    follow_up(tx, &links, revoking).map(|_sessions| links.len())
}

/// Revokes those of some links that have not ended; tells how many there were, and how many sessions ended.
pub(crate) fn revoke_these(tx: &mut Tx<'_>, ids: &[LinkId], revoking: &Revoking<'_>) -> Result<(usize, usize), Error> {
    let links = store::revoke_these(tx, ids, revoking)?;
    follow_up(tx, &links, revoking).map(|sessions| (links.len(), sessions))
}

/// What follows from a revocation: no session lives on, no mail leaves, and it is on record. Tells how many sessions
/// ended.
fn follow_up(tx: &mut Tx<'_>, links: &[Link], revoking: &Revoking<'_>) -> Result<usize, Error> {
    mail::cancel_for_links(tx, links, revoking.now)?;
    mail::notices::revoked(tx, links, revoking.now)?;
    for link in links {
        tx.record(
            Event::new(EventType::LinkRevoked, revoking.actor.clone(), revoking.now)
                .at(revoking.at)
                .client(revoking.client_id)
                .link(link)
                .with(&serde_json::json!({
                    "reason": revoking.reason, "acting_session_id": revoking.acting_session_id,
                    "revocation_id": revoking.revocation_id,
                })),
        );
    }
    let ending = Ending { actor: revoking.actor, client_id: revoking.client_id, at: revoking.at, now: revoking.now };
    sessions::end_all_of_links(tx, links, sessions::EndCause::Revoked, &ending)
}
