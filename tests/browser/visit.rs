//! A whole visit: from the mail to the goodbye, by mouse and by keyboard.

use fantoccini::key::Key;

use crate::browser::Browser;
use crate::world::World;

#[test]
fn a_consultant_comes_from_the_mail_edits_leaves_and_comes_again_with_a_fresh_link() {
    World::run(async |world, browser| {
        let link = world.issue("acme", ("emp-1042", "Asha Rao")).await;
        let address = world.mailed_address(&link, 1).await;

        // The button of the mail, in its frame without scripts.
        browser.open(&format!("{}/dev/mailbox", world.base)).await;
        browser.find("details[open] iframe").await.enter_frame().await.expect("the mail's frame");
        browser.click("a.button").await;
        browser.client.switch_to_window(browser.client.window().await.unwrap()).await.unwrap();

        // The page says what it is, and that it leaves nothing in the address.
        browser.until_state("ready").await;
        assert_eq!(browser.text("#heading").await, "Temporary access to the Cloud portal of acme");
        assert_eq!(browser.text("#continue").await, "Continue to the Cloud portal as Asha Rao");
        let facts = browser.text("#facts").await;
        for fact in ["Payroll run for November stops at step 3", "SUP-48213", "Asha Rao", "IST (UTC+05:30)", "UTC"] {
            assert!(facts.contains(fact), "{fact} is missing in {facts}");
        }
        assert_eq!(browser.client.current_url().await.unwrap().as_str(), format!("{}/l", world.base));

        browser.arrive().await;
        let banner = browser.text("#acting-as").await;
        assert!(banner.contains("Ravi Kumar (support) is acting as Asha Rao"), "{banner}");
        assert_eq!(browser.client.current_url().await.unwrap().query(), None, "the code is not left in the address");

        edit_both_pages(browser).await;
        browser.click("#done").await;
        browser.until_page("goodbye").await;

        let events = world.cloud.events(&format!("&magic_link_id={link}&type=data.changed")).await;
        let changed: Vec<_> = events.iter().map(|event| event["data"]["action"].as_str().unwrap()).collect();
        assert_eq!(changed, ["employee.salary.updated", "leave_policy.updated"]);
        assert_eq!(
            events[0]["data"]["changes"][0]["before"], "*****",
            "values are masked unless the tenant says otherwise"
        );
        assert_eq!(events[0]["data"]["changes"][0]["after"], "*****");
        assert_eq!(events[0]["principal_id"], "emp-9");
        assert_eq!(
            world.trail(&link).await,
            [
                "magic_link.issued",
                "magic_link.mailed",
                "magic_link.continued",
                "session.opened",
                "data.viewed",
                "data.changed",
                "data.viewed",
                "data.viewed",
                "data.changed",
                "data.viewed",
                "session.ended",
                "session.closed",
            ]
        );
        assert_eq!(world.read(&link).await["audit_state"], "complete");

        // The same link was used up; a fresh one comes by mail only.
        browser.open(&address).await;
        browser.until_state("spent").await;
        browser.click("#resend").await;
        browser.until_state("resent").await;
        let fresh = world.mailed_address(&link, 2).await;
        assert_ne!(fresh, address);
        browser.open(&address).await;
        browser.until_state("superseded").await;
        browser.open(&fresh).await;
        browser.until_state("ready").await;
        browser.arrive().await;
    });
}

async fn edit_both_pages(browser: &Browser) {
    browser.click("a[href$='/employees/emp-9']").await;
    browser.until_page("employee").await;
    browser.fill("#salary", "52000").await;
    browser.click("#save").await;
    browser
        .until("document.readyState === 'complete' && document.querySelector('#salary')?.defaultValue === '52000'")
        .await;
    browser.click(".where a").await;
    browser.until_page("home").await;
    browser.click("a[href$='/leave-policy']").await;
    browser.until_page("leave-policy").await;
    browser.fill("#days_per_year", "26").await;
    browser.click("#save").await;
    browser
        .until("document.readyState === 'complete' && document.querySelector('#days_per_year')?.defaultValue === '26'")
        .await;
}

#[test]
fn the_keyboard_alone_reaches_the_portal_and_ends_the_visit() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        assert_eq!(focus(browser).await, "heading", "what is new is read aloud");
        browser.press(Key::Tab).await;
        assert_eq!(focus(browser).await, "continue");
        browser.press(Key::Enter).await;
        browser.until_page("arrival").await;
        browser.press(Key::Tab).await;
        assert_eq!(focus(browser).await, "arrive");
        browser.press(Key::Enter).await;
        browser.until_page("home").await;
        browser.press(Key::Tab).await;
        assert_eq!(focus(browser).await, "done", "the way out comes first");
        browser.press(Key::Enter).await;
        browser.until_page("goodbye").await;
        assert!(world.read(&link).await["spent_at"].is_string());
    });
}

async fn focus(browser: &Browser) -> String {
    browser.script("return document.activeElement.id").await.as_str().unwrap().to_owned()
}
