//! Reviewing what was granted in an emergency.

use super::decisions::{ReviewLink, is_among};
use super::{LinkResponse, read};
use crate::clock::Timestamp;
use crate::context::Context;
use crate::domain::{EventType, Reach, Validator, check_person, refuse_support_session};
use crate::error::{Code, Error};
use crate::http::{ApproveLinks, Caller};
use crate::id::LinkId;
use crate::journal::Event;
use crate::records;
use crate::records::link_reviews::Found;
use crate::store::{IdempotencyKey, Tx, idempotency};

/// Reviews an emergency link, once, after it has ended.
pub(crate) async fn review(
    cx: &Context,
    caller: &Caller<ApproveLinks>,
    id: LinkId,
    request: ReviewLink,
    idempotency: Option<IdempotencyKey>,
    now: Timestamp,
) -> Result<LinkResponse, Error> {
    refuse_support_session(request.acting_session_id.as_deref())?;
    let mut fields = Validator::default();
    check_person(&mut fields, "/reviewer", Some(&request.reviewer));
    fields.text("/comment", &request.comment, 3, 1_000);
    fields.finish()?;
    let actor = caller.actor(Some(&request.reviewer));
    let (reach, client_id) = (caller.reach.clone(), caller.client_id.clone());
    cx.store
        .write(move |tx| {
            let link = records::links::find_within(tx, &id, &reach)?.ok_or_else(Error::not_found)?;
            let known = |tx: &mut Tx<'_>, id: &LinkId, reach: &Reach| read::view_within(tx, id, reach, now);
            if let Some(reviewed) = idempotency::once(tx, idempotency.as_ref(), &link.id, now, known)? {
                return Ok(reviewed);
            }
            // Locked, as who erases it does.
            let link = records::links::lock(tx, &link.id)?.ok_or_else(Error::not_found)?;
            let due = records::link_reviews::find(tx, &link.id)?.ok_or_else(Error::not_found)?;
            let mut others = vec![(link.issued_by_id.as_str(), None), (link.consultant_id.as_str(), None)];
            others.extend(due.requested_by_id.as_deref().map(|sender| (sender, None)));
            let refused = if link.ended(now).is_none() {
                Some(Code::ReviewTooEarly)
            } else if is_among((&request.reviewer.id, None), &others) {
                Some(Code::OwnRequest)
            } else {
                None
            };
            // What is erased takes no more words: those of a review that comes so late are in the audit log alone.
            let kept = link.erased_at.is_none();
            let found = Found {
                reviewed_at: Some(now),
                reviewer_id: Some(&request.reviewer.id),
                reviewer_name: Some(request.reviewer.name.as_str()).filter(|_| kept),
                finding: Some(request.finding),
                comment: Some(request.comment.trim()).filter(|_| kept),
                client_id: client_id.as_ref(),
            };
            let reviewed = match refused {
                Some(code) => Err(code),
                None => records::link_reviews::complete(tx, &link.id, &found)?.ok_or(Code::AlreadyDecided),
            };
            if let Err(code) = reviewed {
                let refused = Event::link_refused(&link, actor.clone(), code, now).client(client_id.as_ref());
                return Err(tx.refuse(code, refused));
            }
            let event = Event::new(EventType::EmergencyReviewed, actor.clone(), now);
            tx.record(event.client(client_id.as_ref()).link(&link).with(&serde_json::json!({
                "finding": request.finding, "comment": request.comment.trim(),
            })));
            read::view(tx, link, now)
        })
        .await
}
