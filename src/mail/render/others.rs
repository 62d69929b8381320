//! Mails that are about no visit: a changed address, a changed policy or approval key, a one-time code.

use askama::Template;

use super::{Email, inert, local, masked, parts, utc, zone};
use crate::clock::Timestamp;
use crate::config::Config;
use crate::error::Error;
use crate::mail::policy::{Changed, Difference, RulesChange};
use crate::records::consultants::Consultant;
use crate::records::links::Link;
use crate::records::tenants::TenantView;

/// The change of a consultant's address.
pub(in crate::mail) struct AddressChange<'a> {
    pub consultant: &'a Consultant,
    pub old_address: &'a str,
    pub changed_at: Timestamp,
}

struct AddressMail {
    product: String,
    consultant_name: String,
    old_email: String,
    new_email: String,
    changed_at: String,
    changed_at_utc: String,
    /// Whether the old address is the registered one again.
    is_back: bool,
    report_to: Option<String>,
}

/// The notice to the old address. It holds no link.
pub(in crate::mail) fn address_changed(config: &Config, change: &AddressChange<'_>) -> Result<Email, Error> {
    let is_back = change.old_address.to_lowercase() == change.consultant.email_key;
    let mail = AddressMail {
        product: config.product_name.clone(),
        consultant_name: inert(&change.consultant.name),
        old_email: inert(change.old_address),
        new_email: inert(&masked(&change.consultant.email)),
        changed_at: local(change.changed_at, &zone(&config.default_time_zone)),
        changed_at_utc: utc(change.changed_at),
        is_back,
        report_to: config.mail.report_to.clone(),
    };
    let parts = parts!(&mail, AddressMail, "address_changed.txt", "address_changed.html");
    let back = if is_back { ", and changed back" } else { "" };
    let subject = format!("Your {} address was changed{back}", config.product_name);
    Ok(Email::new(&change.consultant.name, change.old_address, &subject, parts))
}

/// Fields of the mail about a policy, or about an approval key.
struct RulesMail {
    product: String,
    heading: String,
    recipient_name: String,
    tenant_name: String,
    by: String,
    at: String,
    at_utc: String,
    /// What was done: the change was made, or cancelled.
    done: &'static str,
    ordered_by: Option<String>,
    /// When it takes effect, where that is later.
    effective: Option<(String, String)>,
    /// What it is about, what it was or was to be, and what it is.
    differences: Vec<Difference>,
    instead_of: &'static str,
    what: Changed,
    /// Whether it was changed again since.
    is_changed_again: bool,
    report_to: Option<String>,
}

/// The mail about a policy that allows more than before, or about an approval key. It holds no link.
pub(in crate::mail) fn rules_changed(config: &Config, change: &RulesChange, recipient: &str) -> Result<Email, Error> {
    let (before, after) = match change.what {
        Changed::Policy => ("The rules for support access at ", " allow more than before"),
        Changed::PolicyForAWhile => ("The rules for support access at ", " allowed more than before for a while"),
        Changed::KeyKept if change.is_changed_again() => {
            ("An order to change the key that signs approvals at ", " was cancelled")
        }
        Changed::KeyOfThePast(_) => ("The key that signs approvals at ", " was changed more than once"),
        Changed::KeyRegistered => ("Support access at ", " is approved by signature from now on"),
        Changed::KeyReplaced | Changed::KeyReplacedByOrder => ("The key that signs approvals at ", " was replaced"),
        Changed::KeyRemoved | Changed::KeyRemovedByOrder => ("The key that signs approvals at ", " was removed"),
        Changed::KeyToBeReplaced(_) => ("The key that signs approvals at ", " is to be replaced"),
        Changed::KeyToBeRemoved(_) => ("The key that signs approvals at ", " is to be removed"),
        Changed::KeyKept => ("The key that signs approvals at ", " is kept"),
        Changed::NoContact => ("You are not a contact of ", " any more"),
        Changed::NoContactForAWhile => ("You were not a contact of ", " for a while"),
    };
    let is_kept = change.what == Changed::KeyKept;
    let (done, instead_of) = if is_kept { ("Cancelled", "was to be") } else { ("Changed", "before") };
    let zone = zone(&change.time_zone);
    let mail = RulesMail {
        product: config.product_name.clone(),
        heading: format!("{before}{}{after}", inert(&change.tenant_name)),
        recipient_name: inert(&change.recipient_name),
        tenant_name: inert(&change.tenant_name),
        by: inert(&change.by),
        at: local(change.at, &zone),
        at_utc: utc(change.at),
        done,
        ordered_by: change.ordered_by.as_deref().map(inert),
        effective: match change.what {
            Changed::KeyToBeReplaced(at) | Changed::KeyToBeRemoved(at) => Some((local(at, &zone), utc(at))),
            _ => None,
        },
        differences: change.differences.clone(),
        instead_of,
        what: change.what,
        is_changed_again: change.is_changed_again(),
        report_to: config.mail.report_to.clone(),
    };
    let parts = parts!(&mail, RulesMail, "rules_changed.txt", "rules_changed.html");
    let subject = format!("{before}{}{after}", change.tenant_name);
    Ok(Email::new(&change.recipient_name, recipient, &subject, parts))
}

/// Fields of the e-mail with a one-time code.
struct CodeMail {
    product: String,
    code: String,
    consultant_name: String,
    tenant_name: String,
    portal_name: String,
    profile_name: String,
    expires_at: String,
    expires_at_utc: String,
    reference: String,
    report_to: Option<String>,
}

/// The e-mail with a one-time code. It holds no link: the landing page is open already.
pub(in crate::mail) fn step_up_code(
    config: &Config,
    link: &Link,
    tenant: &TenantView,
    consultant: &Consultant,
    recipient: &str,
    code: &str,
    until: Timestamp,
) -> Result<Email, Error> {
    let portal_name = config.portals.get(&link.portal).map_or(&link.portal, |portal| &portal.name);
    let mail = CodeMail {
        product: config.product_name.clone(),
        code: code.to_owned(),
        consultant_name: inert(&consultant.name),
        tenant_name: inert(&tenant.name),
        portal_name: inert(portal_name),
        profile_name: inert(&link.profile_name),
        expires_at: local(until, &zone(&tenant.time_zone)),
        expires_at_utc: utc(until),
        reference: link.id.to_string(),
        report_to: config.mail.report_to.clone(),
    };
    let parts = parts!(&mail, CodeMail, "step_up_code.txt", "step_up_code.html");
    // The code is not in the subject, which a locked screen shows.
    let subject = format!("Your code for the {portal_name} portal of {}", tenant.name);
    Ok(Email::new(&consultant.name, recipient, &subject, parts))
}
