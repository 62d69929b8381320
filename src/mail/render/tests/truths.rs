//! What a notice says depends on what has become of its access: on each fact that is named for its template, and on no other.

use super::*;
use crate::domain::Actor;
use crate::mail::since::{Fact, facts_of};
use crate::records::link_requests::Decision;
use crate::rules::granting::Again;

/// Templates that are rendered from an access, and no request.
fn notices() -> impl Iterator<Item = Template> {
    let others = [Fact::Generation, Fact::Address, Fact::Rules, Fact::Request];
    Template::ALL.iter().copied().filter(move |one| !facts_of(*one).iter().any(|fact| others.contains(fact)))
}

/// Text and HTML, or why the notice does not leave.
fn written(template: Template, failure: &Failure, since: Since, is_over: bool) -> String {
    let wait = time::Duration::hours(if is_over { 72 } else { 0 });
    let mut over = None;
    let mail = notice_failed(failure, since, wait, template, "Asha", |link| {
        over = link.ended(link.starts_at.plus(wait));
    });
    since
        .outlives(template, over)
        .map_or_else(|| format!("{} {} {}", mail.subject, mail.text, mail.html), ToOwned::to_owned)
}

#[test]
fn each_notice_depends_on_the_facts_that_are_named_for_it_and_on_no_other() {
    let none = Since::default();
    let usual = [
        none,
        Since { link_mail: Mailed::Left, ..none },
        Since { is_used: true, ..none },
        Since { more_time: MoreTime::GrantAgain, ..none },
    ];
    for template in notices() {
        let named = facts_of(template);
        let depends = |fact: Fact, change: fn(Since) -> Vec<Since>| {
            let differs = usual.iter().any(|before| {
                [false, true].into_iter().any(|is_over| {
                    let written = |since| written(template, &Failure::default(), since, is_over);
                    change(*before).into_iter().any(|after| written(after) != written(*before))
                })
            });
            assert_eq!(differs, named.contains(&fact), "{template}, {fact:?}");
        };
        depends(Fact::LinkMail, |before| {
            [Mailed::Waits, Mailed::Left, Mailed::Lost].map(|link_mail| Since { link_mail, ..before }).to_vec()
        });
        depends(Fact::Review, |before| vec![Since { is_reviewed: true, ..before }]);
        depends(Fact::Visit, |before| {
            vec![Since { is_used: true, ..before }, Since { is_used: true, is_left: true, ..before }]
        });
        depends(Fact::NewestEnd, |before| vec![Since { is_moved: true, ..before }]);
        depends(Fact::MoreTime, |before| {
            [MoreTime::Asked, MoreTime::GrantAgain, MoreTime::Nothing]
                .map(|more_time| Since { more_time, ..before })
                .to_vec()
        });
        depends(Fact::Again, |before| AGAIN.map(|again| Since { again, ..before }).to_vec());
        let of_end = usual.iter().any(|since| {
            let written = |is_over| written(template, &Failure::default(), *since, is_over);
            written(false) != written(true)
        });
        // What was revoked has ended already.
        let has_ended = matches!(template, Template::AccessRevoked | Template::AccessWithdrawn);
        assert_eq!(of_end, named.contains(&Fact::End) || has_ended, "{template}");
        let failure = Failure { is_complaint: true, ..Failure::default() };
        let of_failure =
            written(template, &failure, none, false) != written(template, &Failure::default(), none, false);
        assert_eq!(of_failure, named.contains(&Fact::Failure), "{template}");
    }
}

/// Every way in which a mail with a link or a code fails, and what became of the access since.
#[test]
fn a_notice_about_a_mail_that_failed_says_what_is_so() {
    let (yes_no, newest) = ([false, true], [None, Some(Mailed::Waits), Some(Mailed::Left), Some(Mailed::Lost)]);
    let mut read = 0;
    for number in 0..64 {
        let bit = |at: u32| yes_no[(number >> at) & 1];
        for newer in newest {
            let failure = Failure {
                of_code: bit(0),
                is_complaint: bit(1),
                is_used: bit(2),
                has_visit: bit(3),
                is_stopped: bit(4),
                newer,
                ..Failure::default()
            };
            let is_over = bit(5);
            let wait = time::Duration::hours(if is_over { 72 } else { 0 });
            let mail = notice_failed(&failure, Since::default(), wait, Template::LinkBounced, "Asha", |_| {});
            let case = format!("{failure:?}, {is_over}: {}: {}", mail.subject, mail.text);
            let hangs_on_it = !failure.is_used && !failure.has_visit && newer.is_none();
            let nobody = [mail.subject.starts_with("The access link"), mail.subject.starts_with("A code for")];
            assert!(!nobody.contains(&true) || (hangs_on_it && !failure.is_complaint), "{case}");
            assert_eq!(mail.subject.contains("unwanted"), failure.is_complaint, "{case}");
            for part in [mail.text, mail.html] {
                let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                let says = |words: &str| part.contains(words);
                assert_eq!(says("Valid until"), !is_over, "{case}");
                assert_eq!(says("has ended by now"), is_over, "{case}");
                assert!(!says("visit is open") || (failure.has_visit && !is_over), "{case}");
                assert!(!says("has no access") || !(failure.is_used || failure.is_complaint || is_over), "{case}");
                assert!(!says("cannot open") || !(failure.is_used || failure.is_complaint || is_over), "{case}");
                assert!(!says("sent again") || !(failure.is_stopped || is_over || newer.is_some()), "{case}");
                assert!(!says("ask for another code") || !(failure.is_stopped || is_over), "{case}");
                assert_eq!(says("No mail goes to that address"), failure.is_stopped, "{case}");
                assert_eq!(says("the newest one"), newer.is_some(), "{case}");
                read += 1;
            }
        }
    }
    assert_eq!(read, 512);
}

/// Everything that can stand in the way of another grant.
const AGAIN: [Again; 5] = [Again::Granted, Again::Frozen, Again::Suspended, Again::Suppressed, Again::Refused];

/// What advises to grant an access again, or to ask for one, in any mail.
const ADVICE: [&str; 5] = [
    "can be granted again",
    "can ask anew",
    "ask whoever granted it for another",
    "If there is more to do",
    "if there is more to do",
];

/// A notice about this link, or about the request for it, that is written so long after it began.
fn notice_about(template: Template, link: &Link, request: Option<&Wish>, since: Since, hours: i64) -> Email {
    let facts = Facts {
        link,
        tenant: &tenant("ACME"),
        consultant: &consultant(),
        recipient: "hr@acme.example",
        at: link.starts_at,
        now: link.starts_at.plus(time::Duration::hours(hours)),
        summary: None,
        visits: &Visits { told: Vec::new(), more: 0 },
        extension: None,
        failure: None,
        justification: None,
        request,
        since,
    };
    notice(&CONFIG, template, &facts).unwrap()
}

#[test]
fn nobody_is_told_to_grant_or_ask_again_what_would_be_refused() {
    let link = link("Payroll run stops", "Asha");
    let mut advising = 0;
    for template in Template::ALL.iter().copied() {
        let named = facts_of(template);
        if [Fact::Generation, Fact::Address, Fact::Rules].iter().any(|fact| named.contains(fact)) {
            continue;
        }
        let request = requests::wish_of(template, &link, "Asha");
        for again in AGAIN {
            for (hours, link_mail) in [(0, Mailed::Left), (0, Mailed::Lost), (72, Mailed::Left)] {
                let since = Since { again, link_mail, more_time: MoreTime::GrantAgain, ..Since::default() };
                let mail = notice_about(template, &link, request.as_ref(), since, hours);
                for part in [mail.text, mail.html] {
                    let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
                    let advises = ADVICE.iter().any(|words| part.contains(words));
                    let may = named.contains(&Fact::Again) && again == Again::Granted;
                    assert_eq!(advises, may, "{template}, {again:?}: {part}");
                    assert!(!part.contains("Nobody decided"), "somebody may have tried: {part}");
                    let is_empty = part.contains("<p style=\"margin:0 0 16px;\"></p>");
                    assert!(!is_empty || !named.contains(&Fact::Again), "{template}, {again:?}: {part}");
                    advising += usize::from(advises);
                }
            }
        }
    }
    // Revoked, withdrawn, denied, and both about the end: three moments, two parts.
    assert_eq!(advising, 5 * 3 * 2);
}

#[test]
fn what_stands_in_the_way_of_another_grant_is_said_to_who_would_grant_it() {
    let reasons = [
        (Again::Frozen, "Issuing is frozen at present"),
        (Again::Suspended, "The consultant is suspended"),
        (Again::Suppressed, "No mail goes to the consultant any more"),
        (Again::Refused, "There is nothing else to do."),
    ];
    for template in [Template::AccessRevoked, Template::RequestDenied] {
        for again in AGAIN {
            let mail = written(template, &Failure::default(), Since { again, ..Since::default() }, true);
            for (reason, words) in reasons {
                let is_so = reason == again;
                // Who may ask anew reads nothing else.
                let is_usual = reason == Again::Refused && template == Template::RequestDenied;
                assert!(mail.contains(words) == is_so || (is_usual && again == Again::Granted), "{again:?}: {mail}");
            }
        }
    }
}

#[test]
fn after_a_denial_nobody_hears_of_asking_anew() {
    let link = link("Payroll run stops", "Asha");
    let Some(Wish::Link(mut asked)) = requests::wish_of(Template::RequestDenied, &link, "Asha") else {
        panic!("it is about a link")
    };
    let decision = Decision::new(Actor::portal_user("emp-3", "Vikram Shah"), Some("Not needed".to_owned()));
    asked.decision = serde_json::to_string(&decision).ok();
    let request = Wish::Link(asked);
    for again in AGAIN {
        let since = Since { again, ..Since::default() };
        let text = notice_about(Template::RequestDenied, &link, Some(&request), since, 0).text;
        assert!(text.contains("was denied. Nobody got access by it.\n"), "{again:?}: {text}");
        assert!(text.contains("There is nothing else to do."), "{again:?}: {text}");
    }
}
