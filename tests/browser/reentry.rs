//! A visit of many days: the browser that was remembered opens the same link each day, and no other browser does.

use serde_json::json;
use time::Duration;

use crate::actors::Api;
use crate::browser::Browser;
use crate::world::World;

/// A link for two weeks that a remembered browser opens again: its id and its address.
async fn link(world: &World) -> (String, String) {
    let mut request = Api::issue_request(&world.consultant_id);
    request["duration"] = json!({ "value": 2, "unit": "weeks" });
    request["reentry"] = json!("device");
    let id = world.cloud.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let address = world.mailed_address(&id, 1).await;
    (id, address)
}

/// From the mail into the portal, with the mailed code number `count`, and remembered if so chosen.
async fn first_visit(world: &World, browser: &Browser, address: &str, count: usize, remember: bool) {
    browser.open(address).await;
    browser.until_state("ready").await;
    browser.click("#continue").await;
    browser.until_state("code").await;
    let code = world.mailed_code(count).await;
    browser.until("document.querySelector('#remember').checkVisibility()").await;
    assert_eq!(browser.script("return document.querySelector('#remember-input').checked").await, json!(false));
    if remember {
        browser.click("#remember-input").await;
    }
    browser.fill("#code-input", &code).await;
    browser.click("#code-submit").await;
    browser.confirm().await;
}

async fn visits(world: &World, link: &str) -> usize {
    world.trail(link).await.iter().filter(|kind| *kind == "session.opened").count()
}

/// The mails of each kind so far.
async fn mails(world: &World, template: &str) -> usize {
    let mails = Api::new(&world.base, None).get("/dev/mailbox.json").await.ok();
    mails.as_array().unwrap().iter().filter(|mail| mail["template"] == template).count()
}

/// What was kept in the browser is gone, as in another one.
async fn another_browser(browser: &Browser) {
    browser.script("indexedDB.deleteDatabase('magic-link')").await;
}

#[test]
fn ten_days_take_one_mail_and_the_copied_link_gets_nowhere() {
    World::run_in_time(async |world, browser| {
        let (link, address) = link(world).await;
        first_visit(world, browser, &address, 1, true).await;
        for day in 2..=10 {
            // The window is closed in the evening, and opened the next day.
            browser.open("about:blank").await;
            world.clock.advance(Duration::days(1));
            browser.open(&address).await;
            browser.until_state("again").await;
            let lead = browser.text("#lead").await;
            assert_eq!(lead, "This browser is remembered for this access, so no mail is needed.");
            assert!(browser.text("#facts").await.contains("Open the same link in this browser for the next one."));
            browser.arrive().await;
            assert_eq!(visits(world, &link).await, day);
        }
        assert_eq!((mails(world, "magic_link").await, mails(world, "step_up_code").await), (1, 1));

        // The portal says a quarter of an hour before that the visit ends.
        assert_eq!(browser.script("return document.querySelector('#ends-soon')").await, json!(null));
        world.clock.advance(Duration::minutes(8 * 60 - 10));
        browser.client.refresh().await.unwrap();
        assert_eq!(
            browser.text("#ends-soon").await,
            "Ends soon: save your work; your link says how the next visit begins"
        );

        // A copy of the link in another browser.
        browser.open(&format!("{}/l", world.base)).await;
        another_browser(browser).await;
        browser.open(&address).await;
        browser.until_state("elsewhere").await;
        assert_eq!(browser.text("#heading").await, "This access is remembered in another browser");
        assert_eq!(offered(browser).await, json!(["resend"]));
        assert_eq!(visits(world, &link).await, 10);

        // A fresh mail moves the access there.
        browser.click("#resend").await;
        browser.until_state("resent").await;
        let fresh = world.mailed_address(&link, 2).await;
        first_visit(world, browser, &fresh, 2, true).await;
        browser.open(&fresh).await;
        browser.until_state("again").await;
        browser.open(&address).await;
        browser.until_state("superseded").await;
        assert_eq!(mails(world, "magic_link").await, 2);
        let trail = world.trail(&link).await;
        assert_eq!(trail.iter().filter(|kind| *kind == "magic_link.device_forgotten").count(), 1);
    });
}

#[test]
fn the_browser_is_forgotten_on_its_page_and_then_takes_a_mail() {
    World::run_careful(async |world, browser| {
        let (link, address) = link(world).await;
        first_visit(world, browser, &address, 1, true).await;
        browser.open(&address).await;
        browser.until_state("again").await;
        assert_eq!(offered(browser).await, json!(["continue", "forget"]));
        // A script's click neither enters nor forgets.
        browser.script("for (const id of ['continue', 'forget']) document.getElementById(id).click()").await;
        browser.click("#forget").await;
        browser.until_state("forgotten").await;
        assert_eq!(offered(browser).await, json!(["resend"]));
        browser.open(&address).await;
        browser.until_state("spent").await;
        assert_eq!(visits(world, &link).await, 1);
        let kept = "return indexedDB.databases().then((all) => all.map((one) => one.name))";
        assert_eq!(browser.script(kept).await, json!(["magic-link"]));
        assert!(world.trail(&link).await.iter().any(|kind| kind == "magic_link.device_forgotten"));
    });
}

#[test]
fn who_does_not_choose_it_or_whose_browser_cannot_gets_a_mail() {
    World::run_careful(async |world, browser| {
        let (_, address) = link(world).await;
        first_visit(world, browser, &address, 1, false).await;
        browser.open(&address).await;
        browser.until_state("spent").await;
        assert_eq!(offered(browser).await, json!(["resend"]));

        // As in a window that keeps nothing.
        let without = "Object.defineProperty(window, 'indexedDB', { value: undefined })";
        let script = browser.before_each_page(without).await;
        let (_, address) = link(world).await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.click("#continue").await;
        browser.until_state("code").await;
        let code = world.mailed_code(2).await;
        assert_eq!(browser.script("return document.querySelector('#remember').checkVisibility()").await, json!(false));
        browser.fill("#code-input", &code).await;
        browser.click("#code-submit").await;
        browser.confirm().await;
        browser.forget(&script).await;
    });
}

#[test]
fn a_browser_that_never_says_what_it_kept_gets_a_mail() {
    World::run_careful(async |world, browser| {
        let never = "IDBFactory.prototype.open = function () { return {}; }";
        let (_, address) = link(world).await;
        first_visit(world, browser, &address, 1, true).await;

        // It stops while the page is open.
        for button in ["#continue", "#forget"] {
            browser.open(&address).await;
            browser.until_state("again").await;
            browser.script(never).await;
            browser.click(button).await;
            browser.until_state("elsewhere").await;
            assert_eq!(offered(browser).await, json!(["resend"]));
        }
        // It says nothing from the start.
        let script = browser.before_each_page(never).await;
        browser.open(&address).await;
        browser.until_state("elsewhere").await;
        browser.forget(&script).await;

        // It stops before it is remembered: the code alone opens the portal.
        let (_, address) = link(world).await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.click("#continue").await;
        browser.until_state("code").await;
        let code = world.mailed_code(2).await;
        browser.until("document.querySelector('#remember').checkVisibility()").await;
        browser.click("#remember-input").await;
        browser.script(never).await;
        browser.fill("#code-input", &code).await;
        browser.click("#code-submit").await;
        browser.confirm().await;
        browser.open(&address).await;
        browser.until_state("spent").await;
    });
}

/// The buttons that can be seen.
async fn offered(browser: &Browser) -> serde_json::Value {
    let script = "return [...document.querySelectorAll('button')].filter((b) => b.checkVisibility()).map((b) => b.id)";
    browser.script(script).await
}
