//! What a notice says of the access by its kind: its heading, the label of the end, and of what is heard later.

use crate::domain::{Notice, Template as Mail};
use crate::error::Code;
use crate::mail::failure::Failure;
use crate::mail::since::Since;
use crate::rules::granting::Again;

/// Where nothing can be advised.
pub(super) const NOTHING: &str = "There is nothing else to do.";

/// The heading of a notice, which is its subject, too.
pub(super) fn heading_of(
    template: Mail,
    (opens_later, was_mailed): (bool, bool),
    failure: Option<&Failure>,
    [who, place, company]: [String; 3],
) -> String {
    match template {
        Mail::AccessIssued => format!("Support access granted to {who} ({place})"),
        Mail::AccessUsed => format!("Support access used by {who} ({place})"),
        Mail::AccessEnded => format!("The support visit by {who} has ended ({place})"),
        Mail::AccessVisits => format!("The support visits of a day by {who} ({place})"),
        Mail::OwnerAccessVisits => format!("The support visits of a day to {place} of {company} as you"),
        // A link is mailed when its access opens: until then there is none to resend.
        Mail::LinkResent if opens_later => format!("Support access was announced to {who} again ({place})"),
        Mail::LinkResent if !was_mailed => format!("A fresh access link is sent to {who} ({place})"),
        Mail::LinkResent => format!("A fresh access link was sent to {who} ({place})"),
        Mail::AccessRevoked => format!("Support access of {who} was revoked ({place})"),
        Mail::AccessWithdrawn => format!("Your access to {company} ({place}) was revoked"),
        Mail::AccessChanged => format!("Support access of {who} ends at another time ({place})"),
        Mail::AccessMoved => format!("Your access to {company} ({place}) ends at another time"),
        Mail::AccessEndsSoon => format!("Support access of {who} ends soon ({place})"),
        Mail::AccessRunsOut => format!("Your access to {company} ({place}) ends soon"),
        Mail::EmergencyIssued => format!("Emergency access granted to {who} ({place})"),
        Mail::OwnerEmergencyIssued => format!("Emergency access to {place} of {company} as you"),
        Mail::PolicyViolation => format!("Support by {who} did what the access does not include ({place})"),
        Mail::AccessAnnounced => format!("You will get access to {company} ({place})"),
        Mail::OwnerAccessUsed => format!("Support opened {place} of {company} as you"),
        Mail::OwnerAccessEnded => format!("The support visit to {place} of {company} as you has ended"),
        Mail::ApprovalRequested => format!("Please decide on support access for {who} ({place})"),
        Mail::RequestDenied => format!("Support access for {who} was not approved ({place})"),
        Mail::ExtensionRequested => format!("Please decide on longer support access for {who} ({place})"),
        Mail::ExtensionDenied => format!("Longer support access for {who} was not approved ({place})"),
        _ => heading_of_failure(failure.unwrap_or(&Failure::default()), &who),
    }
}

/// The heading of a notice about a mail that did not arrive, or was not wanted.
fn heading_of_failure(failure: &Failure, who: &str) -> String {
    // One of several mails, or one that was not needed: the access does not hang on it.
    let is_one_of_many = failure.newer.is_some() || failure.is_used || failure.has_visit;
    match (failure.of_code, failure.is_complaint) {
        (true, true) => format!("A mail with a code for {who} was reported as unwanted"),
        (false, true) => format!("A mail with the access link for {who} was reported as unwanted"),
        (true, false) if is_one_of_many => format!("One mail with a code for {who} could not be delivered"),
        (false, false) if is_one_of_many => format!("One mail with the access link for {who} could not be delivered"),
        (true, false) => format!("A code for {who} could not be delivered"),
        (false, false) => format!("The access link for {who} could not be delivered"),
    }
}

/// Label of the end of an access that a notice is about.
pub(super) fn label_of_end(template: Mail, over: Option<Code>, opens_later: bool) -> &'static str {
    match template {
        Mail::AccessIssued
        | Mail::AccessUsed
        | Mail::LinkResent
        | Mail::OwnerAccessUsed
        | Mail::AccessChanged
        | Mail::AccessMoved
        | Mail::AccessEndsSoon
        | Mail::AccessRunsOut
        | Mail::AccessAnnounced
        | Mail::EmergencyIssued
        | Mail::OwnerEmergencyIssued
        | Mail::ExtensionRequested
        | Mail::ExtensionDenied
        | Mail::PolicyViolation
        | Mail::LinkBounced
            if over.is_none() =>
        {
            "Valid until"
        }
        Mail::ApprovalRequested if opens_later => "If approved before it opens, until",
        Mail::ApprovalRequested => "If approved at once, until",
        Mail::RequestDenied => "Would have been valid until",
        _ => "Was granted until",
    }
}

/// Why an access is not granted again at present, for who granted it or asked for it; `None` if it can be.
pub(super) const fn why_not_again(again: Again) -> Option<&'static str> {
    match again {
        Again::Granted => None,
        Again::Frozen => Some("Issuing is frozen at present: no access is granted meanwhile."),
        Again::Suspended => Some("The consultant is suspended, and is granted no access meanwhile."),
        Again::Suppressed => Some(
            "No mail goes to the consultant any more, and no access is granted until your support contact clears the \
             address.",
        ),
        Again::Refused => Some(NOTHING),
    }
}

/// Of what the recipient of a notice hears later: not of what the tenant has muted, or what has happened by now.
pub(super) fn hears_of(template: Mail, muted: &[Notice], since: Since) -> Option<&'static str> {
    let hears_of_use = !since.is_used && !muted.contains(&Notice::AccessUsed);
    let hears = |notice| !since.is_left && !muted.contains(&notice);
    match template {
        Mail::AccessIssued => match (hears_of_use, hears(Notice::AccessEnded)) {
            (true, true) => Some("when the access is used and when it ends"),
            (true, false) => Some("when the access is used"),
            (false, true) => Some("when it ends"),
            (false, false) => None,
        },
        Mail::OwnerAccessUsed => hears(Notice::OwnerAccessEnded).then_some("when it ends"),
        _ => None,
    }
}
