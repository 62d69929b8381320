//! Requests to extend links that end before anybody has decided: they are withdrawn with the link.

use crate::domain::EventType;
use crate::error::Error;
use crate::id::LinkId;
use crate::journal::Event;
use crate::records::extension_requests as requests;
use crate::records::link_ends::Revoking;
use crate::records::link_requests::Decision;
use crate::records::links::Link;
use crate::store::Tx;

/// Withdraws what waits for links that end early, in the caller's transaction; returns how many requests.
pub(super) fn withdraw_with(tx: &mut Tx<'_>, links: &[Link], revoking: &Revoking<'_>) -> Result<usize, Error> {
    let ids: Vec<&LinkId> = links.iter().map(|link| &link.id).collect();
    let decision = Decision {
        client_id: revoking.client_id.cloned(),
        revocation_id: revoking.revocation_id.cloned(),
        ..Decision::new(revoking.actor.clone(), Some(revoking.reason.to_owned()))
    };
    let withdrawn = requests::withdraw(tx, &ids, &decision, revoking.at)?;
    for request in &withdrawn {
        let Some(link) = links.iter().find(|link| link.id == request.magic_link_id) else { continue };
        let event = Event::new(EventType::ExtensionWithdrawn, revoking.actor.clone(), revoking.now).at(revoking.at);
        tx.record(event.client(revoking.client_id).link(link).with(&serde_json::json!({
            "extension_id": request.id, "reason": revoking.reason, "revocation_id": revoking.revocation_id,
            "acting_session_id": revoking.acting_session_id,
        })));
    }
    Ok(withdrawn.len())
}
