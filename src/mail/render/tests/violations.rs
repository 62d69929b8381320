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
