//! A thousand hostile names and reasons: an e-mail with them has the same structure as a harmless one.

#[path = "words.rs"]
mod words;

use std::collections::BTreeSet;

use super::requests::rules_change;
use super::*;
use crate::domain::is_unsafe_char;
use crate::mail::policy::Changed;

pub(in crate::mail) use words::words;

/// Number of cases.
pub(in crate::mail) const CASES: usize = 1_000;

/// Harmless input.
pub(in crate::mail) const HARMLESS: &str = "Asha Rao";

/// An e-mail of a template with this input in every user-controlled field.
pub(in crate::mail) fn letter_of(template: Template, words: &str) -> Email {
    let link = Link { ticket: Some(words.to_owned()), ..link(words, words) };
    let consultant = Consultant::for_tests(words, "ravi@support.example", link.starts_at);
    let (tenant, to) = (tenant(words), "ravi@support.example");
    match template {
        Template::MagicLink => {
            magic_link(&CONFIG, &link, &tenant, &consultant, to, TOKEN, link.expires_at, link.created_at).unwrap()
        }
        Template::StepUpCode => {
            step_up_code(&CONFIG, &link, &tenant, &consultant, to, "042137", link.expires_at).unwrap()
        }
        Template::AddressChanged => {
            let change = AddressChange { consultant: &consultant, old_address: to, changed_at: link.created_at };
            address_changed(&CONFIG, &change).unwrap()
        }
        Template::PolicyLoosened => rules_changed(&CONFIG, &rules_change(words, Changed::Policy), to).unwrap(),
        Template::ContactsChanged => rules_changed(&CONFIG, &rules_change(words, Changed::NoContact), to).unwrap(),
        Template::ApprovalKeyChanged => {
            let change = rules_change(words, Changed::KeyToBeRemoved(link.expires_at));
            rules_changed(&CONFIG, &change, to).unwrap()
        }
        notice => notice_of(notice, words),
    }
}

/// Every tag with its attributes, in order.
fn tags(html: &str) -> Vec<&str> {
    html.split('<').skip(1).map(|rest| rest.split_once('>').expect("a tag that ends").0).collect()
}

/// The text of a page as a reader sees it.
fn without_tags(html: &str) -> String {
    html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text)).collect::<Vec<_>>().join(" ")
}

/// Text that mail programs turn into links.
fn links(text: &str) -> BTreeSet<&str> {
    let is_link = |token: &&str| {
        let mut last = [' '; 2];
        token.chars().any(|next| {
            let [first, middle] = last;
            last = [middle, next];
            let joined = matches!(middle, '.' | '@' | ':') && first.is_alphanumeric();
            (joined || (first, middle) == ('/', '/')) && next.is_alphanumeric()
        })
    };
    text.split_whitespace().filter(is_link).collect()
}

#[test]
fn a_thousand_hostile_words_bring_no_tag_no_link_and_no_line_into_any_mail() {
    for &template in Template::ALL {
        let harmless = letter_of(template, HARMLESS);
        let own = without_tags(&harmless.html);
        for number in 0..CASES {
            let words = words(number);
            let email = letter_of(template, &words);
            let case = || format!("{template}, {words:?}\n{}\n{}", email.text, email.html);
            assert_eq!(email.to.address, harmless.to.address, "{}", case());
            assert!(!email.to.name.chars().chain(email.subject.chars()).any(is_unsafe_char), "{}", case());
            assert_eq!(tags(&email.html), tags(&harmless.html), "{}", case());
            assert_eq!(email.text.lines().count(), harmless.text.lines().count(), "{}", case());
            assert_eq!(links(&email.text), links(&harmless.text), "{}", case());
            assert_eq!(links(&without_tags(&email.html)), links(&own), "{}", case());
        }
    }
}

#[test]
fn a_thousand_hostile_words_are_a_thousand() {
    let all: BTreeSet<String> = (0..CASES).map(words).collect();
    assert_eq!(all.len(), CASES);
}

#[test]
fn the_only_link_is_ours() {
    let link = letter_of(Template::MagicLink, "evil.example");
    let hrefs: Vec<&str> = tags(&link.html).into_iter().filter(|tag| tag.contains("href")).collect();
    assert!(
        matches!(hrefs[..], [tag] if tag.contains(&format!("href=\"http://127.0.0.1:8080/l#{TOKEN}\""))),
        "{hrefs:?}"
    );
    for template in
        [Template::StepUpCode, Template::AddressChanged, Template::OwnerAccessUsed, Template::AccessWithdrawn]
    {
        assert!(!letter_of(template, "evil.example").html.contains("href"), "{template}");
    }
}
