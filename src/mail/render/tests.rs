//! E-mails with hostile input.

mod carried;
pub(in crate::mail) mod hostile;
mod notices;
mod requests;
mod truths;
mod violations;

use std::sync::LazyLock;

use time::macros::datetime;

use super::*;
use crate::clock::Clock;
use crate::domain::{AuditState, EndCause, Forbidden, Reentry, Restrictions, Template, ViolationCause};
use crate::id::{ConsultantId, ExtensionId, LinkId};
use crate::mail::since::{Mailed, Since};
use crate::mail::summary::{Violations, Visits};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";

fn link(reason: &str, name: &str) -> Link {
    let at = Timestamp::from_utc(datetime!(2026-11-23 03:30 UTC));
    Link {
        id: "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z".parse::<LinkId>().unwrap(),
        tenant_id: "acme".to_owned(),
        portal: "cloud".to_owned(),
        consultant_id: ConsultantId::new(at),
        profile_id: "emp-1042".to_owned(),
        profile_name: name.to_owned(),
        profile_email: None,
        reason: reason.to_owned(),
        ticket: Some("SUP-48213".to_owned()),
        access: Access::Full,
        starts_at: at,
        expires_at: Timestamp::from_utc(datetime!(2026-11-23 13:00 UTC)),
        issued_by_id: "emp-7".to_owned(),
        issued_by_name: name.to_owned(),
        issued_by_email: Some("hr@acme.example".to_owned()),
        client_id: None,
        created_at: at,
        generation: 1,
        resent_at: None,
        spent_at: None,
        revoked_at: None,
        revoke_reason: None,
        revoked_by_type: None,
        revoked_by_id: None,
        revoked_by_name: None,
        issued_after: None,
        visit: 0,
        reentry: Reentry::Mail,
        replaced_by: None,
        session_hours: None,
        restrictions: None,
        erased_at: None,
    }
}

fn consultant() -> Consultant {
    Consultant::for_tests("Ravi Kumar", "ravi@support.example", Clock::System.now())
}

fn tenant(name: &str) -> TenantView {
    TenantView { name: name.to_owned(), time_zone: "Asia/Kolkata".to_owned(), contacts: Vec::new(), muted: Vec::new() }
}

/// Loaded once: that takes longer than rendering an e-mail.
static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    Config::from_toml(
        "product_name = 'Magic Link'\nmail.report_to = 'security@support.example'\n[portals.cloud]\nname = 'Cloud'\n\
         audience = 'a'\ncallback_url = 'https://cloud.example/cb'\nmanage_url = 'https://cloud.example/{tenant_id}/support'",
    )
    .unwrap()
});

/// A notice with this input in every name and in the reason.
fn notice_of(template: Template, words: &str) -> Email {
    notice_after(time::Duration::ZERO, template, words)
}

/// A notice that is written so long after the access began.
fn notice_after(wait: time::Duration, template: Template, words: &str) -> Email {
    let since = Since { link_mail: Mailed::Left, ..Since::default() };
    notice_since(since, wait, template, words, |_| {})
}

/// A notice that is written so long after the access began, when this had become of it, and of its link.
fn notice_since(
    since: Since,
    wait: time::Duration,
    template: Template,
    words: &str,
    become_of: impl FnOnce(&mut Link),
) -> Email {
    notice_failed(&Failure::default(), since, wait, template, words, become_of)
}

/// The same, where it is about a mail that did not arrive, or was not wanted.
fn notice_failed(
    failure: &Failure,
    since: Since,
    wait: time::Duration,
    template: Template,
    words: &str,
    become_of: impl FnOnce(&mut Link),
) -> Email {
    let mut link = link(words, words);
    become_of(&mut link);
    link.ticket = Some(words.chars().take(20).collect());
    if matches!(template, Template::AccessRevoked | Template::AccessWithdrawn) {
        link.revoke_reason = Some(words.to_owned());
        link.revoked_by_name = Some(words.to_owned());
    }
    let forbidden = || vec![Forbidden::Export, Forbidden::BankAccount];
    let is_beyond = template == Template::PolicyViolation;
    if is_beyond {
        link.restrictions = Restrictions::of(Some(vec!["payroll".to_owned(), "core.hr".to_owned()]), forbidden());
    }
    let violations = is_beyond.then(|| Violations {
        count: 3,
        causes: [ViolationCause::Forbidden, ViolationCause::ReadOnly].into(),
        categories: forbidden().into_iter().collect(),
    });
    let consultant = Consultant::for_tests(words, "ravi@support.example", link.starts_at);
    let summary = Summary {
        started_at: link.starts_at,
        ended_at: link.expires_at,
        cause: EndCause::Done,
        views: 3,
        exports: 1,
        changes: 2,
        violations: violations.unwrap_or_default(),
        audit_state: AuditState::Gaps,
    };
    let ended = is_beyond || matches!(template, Template::AccessEnded | Template::OwnerAccessEnded);
    let visits = matches!(template, Template::AccessVisits | Template::OwnerAccessVisits);
    let changed = matches!(template, Template::AccessChanged | Template::AccessMoved);
    let extension = Extension {
        id: ExtensionId::new(link.starts_at),
        magic_link_id: link.id.clone(),
        previous_expires_at: link.expires_at.minus(time::Duration::hours(4)),
        expires_at: link.expires_at,
        reason: words.to_owned(),
        actor_type: crate::domain::ActorType::PortalUser,
        actor_id: "emp-8".to_owned(),
        actor_name: Some(words.to_owned()),
        client_id: None,
        created_at: link.starts_at,
    };
    let request = requests::wish_of(template, &link, words);
    let failure = Failure { words: Some(words.to_owned()), ..failure.clone() };
    let facts = Facts {
        link: &link,
        tenant: &tenant(words),
        consultant: &consultant,
        recipient: "hr@acme.example",
        at: link.starts_at,
        now: link.starts_at.plus(wait),
        summary: ended.then_some(&summary),
        visits: &Visits { told: if visits { vec![summary.clone()] } else { Vec::new() }, more: 0 },
        extension: changed.then_some(&extension),
        failure: (template == Template::LinkBounced).then_some(&failure),
        justification: matches!(template, Template::EmergencyIssued | Template::OwnerEmergencyIssued).then_some(words),
        request: request.as_ref(),
        since,
    };
    notice(&CONFIG, template, &facts).unwrap()
}

fn mail(reason: &str, name: &str) -> Email {
    let link = link(reason, name);
    let config = Config::from_toml("public_url = 'http://127.0.0.1:9'").unwrap();
    let tenant = tenant("ACME");
    let now = link.starts_at;
    magic_link(&config, &link, &tenant, &consultant(), "ravi@support.example", TOKEN, link.expires_at, now).unwrap()
}

#[test]
fn the_mail_says_who_where_why_and_until_when() {
    insta::assert_snapshot!(mail("Payroll run stops", "Asha Rao").text, @r#"
    Temporary access to the Cloud portal of ACME

    Hello Ravi Kumar,

    Asha Rao of ACME asks you to look into the Cloud portal as Asha Rao.

    Why: Payroll run stops (SUP-48213)
    Access level: Full: look and change
    Valid until: Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30) (23 Nov 2026, 13:00 UTC)

    Open your access here; nothing happens until you continue on that page:

    http://127.0.0.1:9/l#eyJhbGciOiJFUzI1NiJ9.e30.c2ln

    The link leads to 127.0.0.1.

    The link works once, until Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30).
    A visit lasts at most 8 hours.
    To get a fresh one while the access lasts, open the same link and press
    "E-mail me a fresh link". It is sent to your registered address only.

    Every action during this access is recorded under your name and kept for
    at least a year. Please do not forward this mail.

    Not expecting this? Leave the link unopened and report it to your security contact, with the reference below.

    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    "#);
}

#[test]
fn the_subject_is_factual() {
    assert_eq!(mail("Payroll run stops", "Asha Rao").subject, "Temporary support access to ACME (Cloud) – SUP-48213");
}

#[test]
fn times_carry_their_zone_and_offset() {
    let at = Timestamp::from_utc(datetime!(2026-11-23 13:00 UTC));
    assert_eq!(local(at, &zone("Asia/Kolkata")), "Mon, 23 Nov 2026, 6:30 pm IST (UTC+05:30)");
    assert_eq!(local(at, &zone("America/New_York")), "Mon, 23 Nov 2026, 8:00 am EST (UTC-05:00)");
    assert_eq!(utc(at), "23 Nov 2026, 13:00 UTC");
    // Real zone data: summer time, half and quarter hours, and a zone whose own clock is at another day.
    let summer = Timestamp::from_utc(datetime!(2026-07-01 13:00 UTC));
    assert_eq!(local(summer, &zone("Europe/London")), "Wed, 1 Jul 2026, 2:00 pm BST (UTC+01:00)");
    assert_eq!(local(at, &zone("Europe/London")), "Mon, 23 Nov 2026, 1:00 pm GMT (UTC+00:00)");
    assert_eq!(local(summer, &zone("America/St_Johns")), "Wed, 1 Jul 2026, 10:30 am NDT (UTC-02:30)");
    assert_eq!(local(at, &zone("Asia/Kathmandu")), "Mon, 23 Nov 2026, 6:45 pm +0545 (UTC+05:45)");
    assert_eq!(local(at, &zone("Pacific/Kiritimati")), "Tue, 24 Nov 2026, 3:00 am +14 (UTC+14:00)");
}

#[test]
fn plain_words_stay_as_they_are() {
    assert_eq!(inert("Payroll stops at step 3."), "Payroll stops at step 3.");
    assert_eq!(inert("a.b"), "a.\u{2060}b");
    assert_eq!(inert("वेतन की गणना रुक जाती है"), "वेतन की गणना रुक जाती है");
    assert_eq!(inert("محمد"), "\u{2068}محمد\u{2069}");
    assert_eq!(inert("one\r\ntwo\u{202e}three"), "one  two three");
}

#[test]
fn the_old_address_is_told_without_a_link() {
    let config = Config::from_toml("").unwrap();
    let change = AddressChange {
        consultant: &consultant(),
        old_address: "old@support.example",
        changed_at: Clock::System.now(),
    };
    let mail = address_changed(&config, &change).unwrap();
    assert_eq!(mail.to.address, "old@support.example");
    assert!(!mail.html.contains("<a ") && !mail.html.contains("ravi@"), "{}", mail.html);
}

#[test]
fn the_mail_with_the_code_holds_the_code_and_no_link() {
    let link = link("Payroll run stops", "<b>Asha");
    let config = Config::from_toml("").unwrap();
    let until = Timestamp::from_utc(datetime!(2026-11-23 03:40 UTC));
    let mail =
        step_up_code(&config, &link, &tenant("ACME"), &consultant(), "ravi@support.example", "042137", until).unwrap();
    assert!(
        !mail.subject.contains("042137") && !mail.html.contains("<a ") && !mail.html.contains("<b>"),
        "{}",
        mail.html
    );
    assert!(mail.html.contains(">042137<"));
    insta::assert_snapshot!(mail.text, @r#"
    Your code for the Cloud portal of ACME

    Hello Ravi Kumar,

    Somebody pressed the button on the page of your access link, to open the
    Cloud portal of ACME as <b>Asha.
    If it was you, type this code there:

    042137

    It counts until Mon, 23 Nov 2026, 9:10 am IST (UTC+05:30) (23 Nov 2026, 03:40 UTC),
    on the page of your access link, and nowhere else. Tell it to nobody: nobody of
    ours will ever ask for it.

    Was it not you? Type it nowhere, and report it to your security contact, with the reference below.

    This mail holds no link, on purpose.
    Reference mlk_01kaq3v9e8fwmvd2x7n0c5hb1z
    Sent automatically by Magic Link.
    "#);
}
