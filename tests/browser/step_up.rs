//! A portal that wants a code: the page asks for it, and the link stays unspent until it is right.

use crate::browser::Browser;
use crate::world::World;

/// Opens a link and presses the button: the link, its address, and the code that was mailed.
pub async fn asked_for_a_code(world: &World, browser: &Browser) -> (String, String, String) {
    let (link, address) = world.link().await;
    browser.open(&address).await;
    browser.until_state("ready").await;
    browser.click("#continue").await;
    browser.until_state("code").await;
    let code = world.mailed_code(1).await;
    (link, address, code)
}

#[test]
fn five_wrong_codes_leave_the_link_unspent_and_the_right_one_enters_the_portal() {
    World::run_careful(async |world, browser| {
        let (link, _, code) = asked_for_a_code(world, browser).await;
        let other = format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000);

        browser.fill("#code-input", "12").await;
        browser.click("#code-submit").await;
        assert_eq!(browser.text("#code-error").await, "The code has six digits.");
        for attempt in 1..=5 {
            browser.fill("#code-input", &other).await;
            browser.click("#code-submit").await;
            browser.until("document.querySelector('#code-input').value === ''").await;
            assert!(browser.text("#code-error").await.starts_with("This is not the code."));
            assert_eq!(
                world.trail(&link).await.iter().filter(|kind| *kind == "magic_link.code_refused").count(),
                attempt
            );
        }
        browser.fill("#code-input", &code).await;
        browser.click("#code-submit").await;
        browser.until_state("code_void").await;
        assert!(world.read(&link).await.get("spent_at").is_none(), "the link is unspent");

        // Time passes: another code may be asked for.
        world.store("UPDATE step_ups SET created_at = datetime('now', '-5 minutes')");
        browser.click("#retry").await;
        browser.until_state("ready").await;
        browser.click("#continue").await;
        browser.until_state("code").await;
        let fresh = world.mailed_code(2).await;
        // With a blank, and in the digits that their keyboard writes: full-width ones, and those of Devanagari.
        let digit =
            |zero: char| move |digit: char| char::from_u32(u32::from(zero) + digit.to_digit(10).unwrap()).unwrap();
        let written: String = fresh[..3]
            .chars()
            .map(digit('\u{ff10}'))
            .chain([' '])
            .chain(fresh[3..].chars().map(digit('\u{966}')))
            .collect();
        browser.fill("#code-input", &written).await;
        browser.click("#code-submit").await;
        browser.confirm().await;
        assert!(browser.text("#acting-as").await.contains("Ravi Kumar (support) is acting as Asha Rao"));
        assert!(world.read(&link).await.get("spent_at").is_some());
    });
}

#[test]
fn a_page_that_was_left_asks_for_the_mailed_code_when_the_link_is_opened_again() {
    World::run_careful(async |world, browser| {
        let (link, address, code) = asked_for_a_code(world, browser).await;
        // The mail program's own browser is closed to read the mail.
        browser.open("about:blank").await;
        browser.open(&address).await;
        browser.until_state("code_open").await;
        browser.click("#continue").await;
        browser.until_state("code_cooling").await;
        assert_eq!(browser.text("#heading").await, "A code was asked for a moment ago");
        browser.click("#retry").await;
        browser.until_state("code_open").await;
        browser.fill("#code-input", &code).await;
        browser.click("#code-submit").await;
        browser.confirm().await;
        assert!(world.read(&link).await.get("spent_at").is_some());
    });
}
