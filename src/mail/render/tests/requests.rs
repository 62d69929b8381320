//! Mails about what waits for a decision, and about a tenant's policy.

use super::*;
use crate::mail::policy::PolicyChange;
use crate::records::extension_requests::ExtensionRequest;
use crate::records::link_requests::{LinkRequest, RequestState};

/// What was asked for, with this input, if the notice is about a request.
pub(super) fn wish_of(template: Template, link: &Link, words: &str) -> Option<Wish> {
    let request = LinkRequest::new(link, "hr@acme.example".to_owned(), None, false, link.expires_at);
    match template {
        Template::ApprovalRequested | Template::RequestDenied => Some(Wish::Link(Box::new(request))),
        Template::ExtensionRequested | Template::ExtensionDenied => Some(Wish::Extension(Box::new(
            ExtensionRequest {
                id: ExtensionId::new(link.starts_at),
                magic_link_id: link.id.clone(),
                previous_expires_at: link.expires_at,
                hours: 2,
                reason: words.to_owned(),
                asked_by_id: "emp-8".to_owned(),
                asked_by_name: words.to_owned(),
                asked_by_email: "hr@acme.example".to_owned(),
                client_id: None,
                created_at: link.starts_at,
                lapses_at: link.expires_at,
                state: RequestState::Pending,
                decided_at: None,
                decision: None,
            }
            .denied(words),
        ))),
        _ => None,
    }
}

/// A change of a policy with this input in every name.
pub(super) fn policy_change(words: &str) -> PolicyChange {
    PolicyChange {
        tenant_name: words.to_owned(),
        time_zone: "Asia/Kolkata".to_owned(),
        recipient_name: words.to_owned(),
        by: words.to_owned(),
        at: link(words, words).starts_at,
        differences: vec![("Longest access", "24 hours".to_owned(), "48 hours".to_owned())],
    }
}

#[test]
fn who_is_to_decide_reads_what_on_and_who_asked_reads_how_it_ended() {
    let all =
        [Template::ApprovalRequested, Template::RequestDenied, Template::ExtensionRequested, Template::ExtensionDenied]
            .map(|template| {
                let email = notice_of(template, "Asha & Söhne");
                format!("== {template}: {}\n{}", email.subject, email.text)
            });
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn the_contacts_of_a_tenant_read_what_its_policy_allows_now() {
    let email = policy_loosened(&CONFIG, &policy_change("Asha & Söhne"), "meera@acme.example").unwrap();
    insta::assert_snapshot!(format!("{}\n{}", email.subject, email.text), @"");
}
