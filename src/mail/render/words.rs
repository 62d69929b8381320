//! What a notice says of the access by its kind: its heading, the label of the end, and of what is heard later.

use crate::domain::{Notice, Template as Mail};
use crate::error::Code;
use crate::mail::since::Since;

/// The heading of a notice, which is its subject, too.
pub(super) fn heading_of(
    template: Mail,
    (opens_later, of_code, was_mailed): (bool, bool, bool),
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
        _ if of_code => format!("A code for {who} could not be delivered"),
        _ => format!("The access link for {who} could not be delivered"),
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
