//! The notice that a session did what it does not allow.

use super::*;

#[test]
fn it_says_what_was_done_and_what_the_access_is_limited_to() {
    let mail = notice_of(Template::PolicyViolation, "Asha");
    assert_eq!(mail.subject, "Support by Asha did what the access does not include (Cloud)");
    for line in [
        "Access level: Full: look and change",
        "Only in: payroll, core.\u{2060}hr",
        "Not included: exporting data; changing bank accounts",
        "Visit opened: Mon, 23 Nov 2026, 9:00 am IST (UTC+05:30)",
        "Beyond the access so far: 3 (not included: exporting data, changing bank accounts; changes, though \
         the access is read only)",
        "Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)",
    ] {
        assert!(mail.text.contains(&format!("\n{line}\n")), "{line}: {}", mail.text);
        // The time in UTC stands on a line of its own there.
        let shown = line.split_once(": ").unwrap().1.split(" (23 Nov").next().unwrap();
        assert!(mail.html.contains(shown), "{line}: {}", mail.html);
    }
}

#[test]
fn no_notice_speaks_of_an_access_that_has_ended_as_of_one_that_goes_on() {
    for template in [
        Template::PolicyViolation,
        Template::AccessIssued,
        Template::AccessUsed,
        Template::AccessChanged,
        Template::EmergencyIssued,
    ] {
        let (during, after) = (notice_of(template, "Asha"), notice_after(time::Duration::days(30), template, "Asha"));
        for (during, after) in [(during.text, after.text), (during.html, after.html)] {
            let [during, after] = [during, after].map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
            assert!(during.contains("at any time") && during.contains("Valid until"), "{template}: {during}");
            assert!(!after.contains("at any time") && !after.contains("Valid until"), "{template}: {after}");
            assert!(after.contains("has ended") && after.contains("Was granted until"), "{template}: {after}");
        }
    }
}

/// What is said of an access that goes on.
const PROMISES: [&str; 15] = [
    "at any time",
    "Valid until",
    "by itself",
    "may act",
    "hear again",
    "is mailed",
    "was mailed to",
    "with another mail",
    "mails you",
    "again.",
    "extend it",
    "end the access",
    "more time",
    "another code",
    "has to review",
];

/// How an access ended, how long before the notice leaves, and what that makes of the link.
type End = (&'static str, time::Duration, fn(&mut Link));

#[test]
fn no_notice_that_leaves_after_the_end_promises_anything() {
    let ends: [End; 3] = [
        ("expired", time::Duration::days(30), |_| {}),
        ("revoked", time::Duration::HOUR, |link| link.revoked_at = Some(link.starts_at)),
        ("replaced", time::Duration::HOUR, |link| {
            link.revoked_at = Some(link.starts_at);
            link.replaced_by = Some(link.id.clone());
        }),
    ];
    // Requests are judged by their own state, and codes and links are cancelled.
    let of_requests = [Template::ApprovalRequested, Template::RequestDenied];
    let no_notices = [
        Template::MagicLink,
        Template::StepUpCode,
        Template::AddressChanged,
        Template::PolicyLoosened,
        Template::ApprovalKeyChanged,
        Template::ContactsChanged,
    ];
    let mut read = 0;
    for (end, wait, become_of) in ends {
        for link_mail in [Mailed::Waits, Mailed::Left, Mailed::Lost] {
            for template in Template::ALL.iter().filter(|one| !of_requests.contains(one) && !no_notices.contains(one)) {
                let since = Since { link_mail, is_reviewed: true, is_used: true, is_left: true, ..Since::default() };
                let mut over = None;
                let mail = notice_since(since, wait, *template, "Asha", |link| {
                    become_of(link);
                    over = link.ended(link.starts_at.plus(wait));
                });
                assert!(over.is_some(), "{end}");
                if since.outlives(*template, over).is_some() {
                    continue;
                }
                for words in [mail.text, mail.html] {
                    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
                    let words = words.replace("can be granted again.", "");
                    for promise in PROMISES {
                        // What was mailed is told where it was.
                        let is_told = promise == "was mailed to" && link_mail == Mailed::Left;
                        assert!(is_told || !words.contains(promise), "{template}, {end}, {promise}: {words}");
                    }
                    let says_none = words.contains("o link to it was mailed");
                    assert!(!says_none || link_mail != Mailed::Left, "{template}, {end}: {words}");
                    read += 1;
                }
            }
        }
    }
    assert!(read > 200, "{read} parts");
}

#[test]
fn a_notice_tells_of_a_mail_with_a_link_only_what_is_so() {
    for template in [Template::AccessIssued, Template::EmergencyIssued, Template::LinkResent] {
        for (link_mail, was, is) in [(Mailed::Left, true, false), (Mailed::Waits, false, true)] {
            let since = Since { link_mail, ..Since::default() };
            let mail = notice_since(since, time::Duration::ZERO, template, "Asha", |_| {});
            for part in [mail.text, mail.html] {
                let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                let says = |words: [&str; 2]| words.iter().any(|words| part.contains(words));
                assert_eq!(says(["was mailed", "was sent"]), was, "{template}: {part}");
                assert_eq!(says(["is mailed", "is sent"]), is, "{template}: {part}");
            }
        }
    }
    let promised = |since: Since, template| {
        let mail = notice_since(since, time::Duration::ZERO, template, "Asha", |_| {});
        let text = mail.text.split_whitespace().collect::<Vec<_>>().join(" ");
        text.split_once("You will hear again ").map(|(_, rest)| rest.split_once('.').unwrap().0.to_owned())
    };
    let (used, left) =
        (Since { is_used: true, ..Since::default() }, Since { is_used: true, is_left: true, ..Since::default() });
    assert_eq!(promised(used, Template::AccessIssued).as_deref(), Some("when it ends"));
    assert_eq!(promised(used, Template::OwnerAccessUsed).as_deref(), Some("when it ends"));
    assert_eq!((promised(left, Template::AccessIssued), promised(left, Template::OwnerAccessUsed)), (None, None));
}
