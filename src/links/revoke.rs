//! Revoking links, and with them their sessions and unsent mails.

use super::{LinkResponse, RevokeLink, approval, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Validator, check_person};
use crate::error::Error;
use crate::http::{Caller, RevokeLinks};
use crate::id::LinkId;
use crate::journal::Event;
use crate::records::links::{Link, Revoking, Selector};
use crate::sessions::{self, Ending};
use crate::store::{Tx, Worker};
use crate::{mail, records};

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
    let actor = caller.actor(request.requested_by.as_ref());
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    cx.store
        .write(move |tx| {
            let revoking = Revoking {
                acting_session_id: request.acting_session_id.as_deref(),
                ..Revoking::new(&request.reason, &actor, client_id.as_ref(), now)
            };
            let Some(link) = records::links::revoke(tx, &id, &reach, &revoking)? else {
                let (by, words) = ((&actor, client_id.as_ref()), (request.reason.as_str(), revoking.acting_session_id));
                approval::revoked(tx, &id, &reach, by, words, now)?;
                return read::one_within(tx, &id, &reach, now)?.ok_or_else(Error::not_found);
            };
            follow_up(tx, std::slice::from_ref(&link), &revoking)?;
            read::view(tx, link, now)
        })
        .await
}

/// Revokes the selected links that have not ended; returns the numbers of revoked links and ended sessions.
pub(crate) fn revoke_where(
    tx: &mut Tx<'_>,
    selector: Selector<'_>,
    revoking: &Revoking<'_>,
) -> Result<(usize, usize), Error> {
    let links = records::links::revoke_where(tx, selector, revoking)?;
    follow_up(tx, &links, revoking).map(|sessions| (links.len(), sessions))
}

/// Ends the sessions of revoked links, cancels their mails, and records the revocations. Returns how many sessions
/// ended.
fn follow_up(tx: &mut Tx<'_>, links: &[Link], revoking: &Revoking<'_>) -> Result<usize, Error> {
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
    let ending = Ending {
        actor: revoking.actor,
        client_id: revoking.client_id,
        at: revoking.at,
        now: revoking.now,
        reason: None,
        acting_session_id: revoking.acting_session_id,
    };
    sessions::end_all_of_links(tx, links, sessions::EndCause::Revoked, &ending)
}
