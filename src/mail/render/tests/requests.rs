//! Mails about what waits for a decision, and about a tenant's policy.

use super::*;
use crate::mail::policy::{Changed, Difference, RulesChange};
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

fn difference(label: &'static str, before: &str, after: &str, by_now: Option<&str>) -> Difference {
    let [before, after] = [before, after].map(ToOwned::to_owned);
    Difference { label, before, after, by_now: by_now.map(ToOwned::to_owned) }
}

/// A change of what binds grants, with this input in every name.
pub(super) fn rules_change(words: &str, what: Changed) -> RulesChange {
    RulesChange {
        what,
        tenant_name: words.to_owned(),
        time_zone: "Asia/Kolkata".to_owned(),
        recipient_name: words.to_owned(),
        by: words.to_owned(),
        at: link(words, words).starts_at,
        ordered_by: None,
        differences: vec![difference("Longest access", "24 hours", "48 hours", None)],
        is_void: false,
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

    The support access that you asked for was not decided on in time. Nobody
    got access by it; you can ask anew.

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
    ends at the time below unless somebody else approves it in the portal.

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

    The longer support access that you asked for was denied. It ends at the
    time below.

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
    let email = rules_changed(&CONFIG, &rules_change("Asha & Söhne", Changed::Policy), "meera@acme.example").unwrap();
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

// What was changed again is told in the past, with what is so by now.
#[test]
fn what_was_changed_again_is_told_as_past() {
    let by_order = ", as an operator has ordered, which the key before has not signed";
    for (what, label, subject, says, untrue) in [
        (
            Changed::PolicyForAWhile,
            "Longest access",
            "allowed more than before for a while",
            "does so no longer",
            "allows",
        ),
        (
            Changed::KeyOfThePast(by_order),
            "Key",
            "changed more than once",
            "has not signed. It was changed again",
            "counts only",
        ),
        (Changed::KeyKept, "Key", "was cancelled", "The key was changed again since", "stays as it is"),
    ] {
        let differences = vec![difference(label, "the first", "the second", Some("the third"))];
        let change = RulesChange { differences, ..rules_change("Asha", what) };
        let email = rules_changed(&CONFIG, &change, "meera@acme.example").unwrap();
        assert!(email.subject.contains(subject), "{}", email.subject);
        for part in [email.text, email.html] {
            let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(part.contains(says) && part.to_lowercase().contains("by now: the third"), "{part}");
            assert!(!part.contains(untrue), "{untrue}: {part}");
        }
    }
}

#[test]
fn the_contacts_of_a_tenant_read_what_became_of_the_key_that_signs_approvals() {
    let at = link("", "").expires_at;
    let all = [
        Changed::KeyRegistered,
        Changed::KeyReplaced,
        Changed::KeyRemoved,
        Changed::KeyToBeReplaced(at),
        Changed::KeyToBeRemoved(at),
        Changed::KeyKept,
    ];
    let all = all.map(|what| {
        let differences = vec![difference("Key", "none", "8rGvOiZmD4", None)];
        let ordered_by = (what == Changed::KeyKept).then(|| "Ines Roth".to_owned());
        let change = RulesChange { ordered_by, differences, ..rules_change("Asha & Söhne", what) };
        let email = rules_changed(&CONFIG, &change, "meera@acme.example").unwrap();
        format!("== {}\n{}", email.subject, email.text.split("Was this not").next().unwrap())
    });
    insta::assert_snapshot!(all.join("\n"), @r#"
    == Support access at Asha & Söhne is approved by signature from now on
    Support access at Asha & Söhne is approved by signature from now on

    Hello Asha & Söhne,

    From now on an approval of support access at Asha & Söhne counts
    only if somebody there has signed it with the key below.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Key: 8rGvOiZmD4 (before: none)


    == The key that signs approvals at Asha & Söhne was replaced
    The key that signs approvals at Asha & Söhne was replaced

    Hello Asha & Söhne,

    An approval of support access at Asha & Söhne counts only if it is
    signed. The key for that was replaced, and the key before has signed the
    change.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Key: 8rGvOiZmD4 (before: none)


    == The key that signs approvals at Asha & Söhne was removed
    The key that signs approvals at Asha & Söhne was removed

    Hello Asha & Söhne,

    An approval of support access at Asha & Söhne had to be signed. It
    has not any more: the key for that was removed, and has signed that itself.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Key: 8rGvOiZmD4 (before: none)


    == The key that signs approvals at Asha & Söhne is to be replaced
    The key that signs approvals at Asha & Söhne is to be replaced

    Hello Asha & Söhne,

    An approval of support access at Asha & Söhne counts only if it is
    signed. An operator has ordered another key for that, which the key before
    has not signed. Until it takes effect the change can be cancelled.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Takes effect: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)
    Key: 8rGvOiZmD4 (before: none)


    == The key that signs approvals at Asha & Söhne is to be removed
    The key that signs approvals at Asha & Söhne is to be removed

    Hello Asha & Söhne,

    An approval of support access at Asha & Söhne counts only if it is
    signed. An operator has ordered to remove the key for that, which the key
    has not signed. Until it takes effect the change can be cancelled.

    Changed by: Asha & Söhne
    Changed: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Takes effect: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)
    Key: 8rGvOiZmD4 (before: none)


    == The key that signs approvals at Asha & Söhne is kept
    The key that signs approvals at Asha & Söhne is kept

    Hello Asha & Söhne,

    An operator had ordered to change the key that signs approvals of support
    access at Asha & Söhne. That was cancelled: the key stays as it is.

    Ordered by: Ines Roth
    Cancelled by: Asha & Söhne
    Cancelled: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30) (23 Nov 2026, 03:30 UTC)
    Key: 8rGvOiZmD4 (was to be: none)
    "#);
}
