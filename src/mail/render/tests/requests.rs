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
    insta::assert_snapshot!(all.join("\n"), @r#"
    == approval_requested: Please decide on support access for Asha & Söhne (Cloud)
    Please decide on support access for Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    Asha & Söhne asks for temporary support access at Asha & Söhne. It
    gives nothing until somebody else approves it in the portal.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Asked for by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Length: 9 hours, from the approval on
    Decide until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)
    If approved at once, until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    Without a decision the request lapses by itself.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == request_denied: Support access for Asha & Söhne was not approved (Cloud)
    Support access for Asha & Söhne was not approved (Cloud)

    Hello Asha & Söhne,

    Nobody decided in time on the support access that you asked for. Nobody
    got access; you can ask anew.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Asked for by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Would have been valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    There is nothing else to do.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == extension_requested: Please decide on longer support access for Asha & Söhne (Cloud)
    Please decide on longer support access for Asha & Söhne (Cloud)

    Hello Asha & Söhne,

    Somebody asks for longer support access at Asha & Söhne. The access
    ends as it was granted unless somebody else approves it in the portal.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Asked for by: Asha & Söhne
    Because: Asha & Söhne
    Longer by: 2 hours
    Decide until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    Without a decision the request lapses by itself.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    == extension_denied: Longer support access for Asha & Söhne was not approved (Cloud)
    Longer support access for Asha & Söhne was not approved (Cloud)

    Hello Asha & Söhne,

    The longer support access that you asked for was denied. It ends as it was
    granted.

    Support consultant: Asha & Söhne
    Access to: the Cloud portal of Asha & Söhne, as Asha & Söhne
    Granted by: Asha & Söhne
    Why: Asha & Söhne (Asha & Söhne)
    Access level: Full: look and change
    Denied by: Asha & Söhne
    Because: Asha & Söhne
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    There is nothing else to do.

    See it in the portal, which asks you to sign in: https://cloud.example/acme/support

    Not expecting this? Report it to security@support.example, with the reference below.

    This mail holds no access link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    "#);
}

#[test]
fn the_contacts_of_a_tenant_read_what_its_policy_allows_now() {
    let email = policy_loosened(&CONFIG, &policy_change("Asha & Söhne"), "meera@acme.example").unwrap();
    insta::assert_snapshot!(format!("{}\n{}", email.subject, email.text), @r#"
    The rules for support access at Asha & Söhne allow more than before
    The rules for support access at Asha & Söhne allow more than before

    Hello Asha & Söhne,

    The policy of Asha & Söhne says what support consultants may be
    granted. It was changed, and allows more than before, or asks for less.
    Access that exists already stays as it is.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Longest access: 48 hours (before: 24 hours)

    Was this not agreed with you? Report it at once to security@support.example.
    If it was, there is nothing to do.

    This mail holds no link, on purpose.
    Sent automatically by Magic Link.
    "#);
}
