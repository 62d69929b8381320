//! Revoking links, and with them their sessions and unsent mails.

use super::changing::Change;
use super::{LinkResponse, RevokeLink, approval, read, withdrawing};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Validator, check_person};
use crate::error::Error;
use crate::http::{Caller, RevokeLinks};
use crate::id::LinkId;
use crate::journal::Event;
use crate::mail;
use crate::records::link_ends::{self, Revoking, Selector};
use crate::records::links::Link;
use crate::sessions::{self, Ending};
use crate::store::{Tx, Worker};

/// Revokes a link. One that has already ended is not changed.
pub(crate) async fn revoke(
    cx: &Context,
    caller: &Caller<RevokeLinks>,
    id: LinkId,
    request: RevokeLink,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    let mut fields = Validator::default();
    fields.text("/reason", &request.reason, 3, 500);
    check_person(&mut fields, "/requested_by", request.requested_by.as_ref());
    fields.optional_text("/acting_session_id", request.acting_session_id.as_deref(), 1, 64);
    fields.finish()?;
    let change = Change::of(caller, id, caller.actor(request.requested_by.as_ref()), now);
    cx.store
        .write(move |tx| {
            let (id, reach, acting) = (&change.id, &change.reach, request.acting_session_id.as_deref());
            let revoking = Revoking {
                acting_session_id: acting,
                ..Revoking::new(&request.reason, &change.actor, change.client_id.as_ref(), now)
            };
            let mut revoked = link_ends::revoke(tx, id, reach, &revoking)?;
            if revoked.is_none() && !approval::revoked(tx, &change, &request.reason, acting)? {
                // A request that does not wait may have been approved since the link was looked for.
                revoked = link_ends::revoke(tx, id, reach, &revoking)?;
            }
            let Some(link) = revoked else {
                return read::one_within(tx, id, reach, now)?.ok_or_else(Error::not_found);
            };
            follow_up(tx, std::slice::from_ref(&link), &revoking)?;
            read::view(tx, link, now)
        })
        .await
}

/// What a revocation of several links has ended.
pub(crate) struct Revoked {
    pub links: usize,
    pub sessions: usize,
    /// Requests for extensions of the links that were withdrawn.
    pub requests: usize,
}

/// Revokes the selected links that have not ended.
pub(crate) fn revoke_where(tx: &mut Tx<'_>, selector: Selector<'_>, revoking: &Revoking<'_>) -> Result<Revoked, Error> {
    let links = link_ends::revoke_where(tx, selector, revoking)?;
    follow_up(tx, &links, revoking)
}

/// Ends the sessions of revoked links, cancels their mails, withdraws what waits for them, and records the revocations.
fn follow_up(tx: &mut Tx<'_>, links: &[Link], revoking: &Revoking<'_>) -> Result<Revoked, Error> {
    mail::cancel_for_links(tx, links, revoking.now)?;
    mail::notices::revoked(tx, links, revoking.now)?;
    tx.wake(Worker::Mail);
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
    let requests = withdrawing::withdraw_with(tx, links, revoking)?;
    let ending = Ending {
        actor: revoking.actor,
        client_id: revoking.client_id,
        at: revoking.at,
        now: revoking.now,
        reason: None,
        acting_session_id: revoking.acting_session_id,
    };
    let sessions = sessions::end_all_of_links(tx, links, sessions::EndCause::Revoked, &ending)?;
    Ok(Revoked { links: links.len(), sessions, requests })
}
