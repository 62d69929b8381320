//! Break-glass: an access that waits for no approval. It is short, everybody concerned is told, and it is reviewed
//! afterwards.
//!
//! An emergency skips the approval alone: the tenant's policy has to allow it, a portal's step-up stays, and so does every
//! other rule.

use time::Duration;

use super::decisions::{Emergency, EmergencyResponse};
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::domain::{Actor, EventType, Reentry, Validator};
use crate::error::{Code, Error};
use crate::journal::Event;
use crate::records::link_reviews::Review;
use crate::records::links::Link;
use crate::store::Tx;
use crate::{mail, records};

/// Longest window of an emergency link.
const LONGEST: Duration = Duration::hours(4);

/// How long after it was issued an emergency link is to be reviewed.
const REVIEWED_WITHIN: Duration = Duration::hours(72);

/// Checks what an emergency adds to a request: it begins at once, is short, and its visits begin with a mail.
pub(super) fn check(
    fields: &mut Validator,
    emergency: &Emergency,
    length: Option<Duration>,
    starts_later: bool,
    reentry: Reentry,
) {
    fields.text("/emergency/justification", &emergency.justification, 10, 500);
    if length.is_none_or(|length| length > LONGEST) {
        let detail = format_args!("an emergency lasts {} hours at most", LONGEST.whole_hours());
        fields.error("/duration", "out_of_range", detail);
    }
    if starts_later {
        fields.error("/starts_at", "not_possible", "an emergency begins at once");
    }
    if reentry == Reentry::Device {
        fields.error("/reentry", "not_possible", "an emergency is never without the portal's step-up");
    }
}

/// The review that is due of an emergency link.
fn due(link: &Link, justification: &str, requested_by: Option<&str>, now: Timestamp) -> Review {
    Review {
        magic_link_id: link.id.clone(),
        tenant_id: link.tenant_id.clone(),
        portal: link.portal.clone(),
        profile_id: link.profile_id.clone(),
        justification: justification.trim().to_owned(),
        created_at: now,
        review_due_at: now.plus(REVIEWED_WITHIN),
        reviewed_at: None,
        reviewer_id: None,
        reviewer_name: None,
        finding: None,
        comment: None,
        client_id: None,
        requested_by_id: requested_by.map(ToOwned::to_owned),
    }
}

/// Makes the review of a link due that was just issued, and tells everybody concerned.
pub(super) fn declare(
    tx: &mut Tx<'_>,
    link: &Link,
    justification: &str,
    actor: &Actor,
    now: Timestamp,
) -> Result<EmergencyResponse, Error> {
    let review = due(link, justification, Some(actor.id.as_str()), now);
    if !records::link_reviews::insert(tx, &review)? {
        return Err(review_due(tx, link, actor, now)?);
    }
    mail::notices::emergency(tx, link, now)?;
    let event = Event::new(EventType::EmergencyIssued, actor.clone(), now).client(link.client_id.as_ref()).link(link);
    tx.record(event.with(&serde_json::json!({
        "justification": review.justification, "review_due_at": review.review_due_at, "expires_at": link.expires_at,
    })));
    Ok(EmergencyResponse::of(review, now))
}

/// The emergency of a link that is not issued yet, unless another one for the profile waits for its review.
pub(super) fn draft(
    conn: &mut Conn,
    link: &Link,
    justification: &str,
    now: Timestamp,
) -> Result<EmergencyResponse, Error> {
    match records::link_reviews::open_for(conn, &link.tenant_id, &link.portal, &link.profile_id)? {
        Some(other) => Err(Error::new(Code::ReviewDue).magic_link(other.to_string())),
        None => Ok(EmergencyResponse::of(due(link, justification, None, now), now)),
    }
}

/// The refusal of a second emergency for a profile, which names the first.
fn review_due(tx: &mut Tx<'_>, link: &Link, actor: &Actor, now: Timestamp) -> Result<Error, Error> {
    let open = records::link_reviews::open_for(tx, &link.tenant_id, &link.portal, &link.profile_id)?;
    let Some(other) = open.map(|id| records::links::find(tx, &id)).transpose()?.flatten() else {
        return Ok(Code::ReviewDue.into());
    };
    let refused = Event::link_refused(&other, actor.clone(), Code::ReviewDue, now).client(link.client_id.as_ref());
    Ok(tx.refuse(Error::new(Code::ReviewDue).magic_link(other.id.to_string()), refused))
}
