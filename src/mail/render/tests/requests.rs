//! Mails about a request for a link, and about a tenant's policy.

use super::notices::notice_of;
use super::*;
use crate::domain::Template;

#[test]
fn who_is_to_decide_reads_what_on_and_who_asked_reads_how_it_ended() {
    let all = [Template::ApprovalRequested, Template::RequestDenied].map(|template| {
        let email = notice_of(template, "Asha & Söhne");
        format!("== {template}: {}\n{}", email.subject, email.text)
    });
    insta::assert_snapshot!(all.join("\n"), @"");
}

#[test]
fn the_contacts_of_a_tenant_read_what_its_policy_allows_now() {
    let change = PolicyChange {
        tenant_name: "Asha & Söhne".to_owned(),
        time_zone: "Asia/Kolkata".to_owned(),
        recipient_name: "Meera Iyer".to_owned(),
        by: "https://evil.example".to_owned(),
        at: link("", "").starts_at,
        differences: vec![("Longest access", "24 hours".to_owned(), "48 hours".to_owned())],
    };
    let email = policy_loosened(&CONFIG, &change, "meera@acme.example").unwrap();
    assert!(!email.html.contains("https://evil.example"), "nothing becomes a link");
    insta::assert_snapshot!(format!("{}\n{}", email.subject, email.text), @"");
}
