//! The example portal lets nobody in whom somebody else has sent.

use serde_json::json;

use crate::browser::{Browser, OTHER_NAME};
use crate::world::World;

/// The address to which the landing page of a link would send its visitor.
async fn callback(world: &World, address: &str) -> String {
    let token = address.split_once('#').unwrap().1;
    let reply = crate::actors::Api::new(&world.base, None).post("/l/continue", &json!({ "token": token })).await.ok();
    reply["redirect_url"].as_str().unwrap().to_owned()
}

/// What a page of another site does: it sends the browser that looks at it to the portal.
async fn lured_to(browser: &Browser, world: &World, address: &str) {
    browser.open(&world.base.replace("127.0.0.1", OTHER_NAME)).await;
    browser.script(&format!("location.assign({})", json!(address))).await;
}

#[test]
fn a_link_of_somebody_else_ends_no_session_and_starts_none() {
    World::run(async |world, browser| {
        let (mine, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.arrive().await;

        // The attacker's code, in the visitor's browser.
        let foreign = world.issue("acme", ("emp-21", "Farah Khan")).await;
        let foreign_callback = callback(world, &world.mailed_address(&foreign, 1).await).await;
        lured_to(browser, world, &foreign_callback).await;
        browser.until_page("arrival").await;
        assert_eq!(browser.client.current_url().await.unwrap().query(), None, "the code is not left in the address");
        assert!(browser.text("main").await.contains("You are Ravi Kumar (support), and would act as Farah Khan"));
        browser.open(&format!("{}/acme/cloud/", world.portal_base)).await;
        browser.until_page("home").await;
        assert!(browser.text("#acting-as").await.contains("Asha Rao"), "the visitor's own session goes on");
        assert!(!world.trail(&mine).await.contains(&"session.ended".to_owned()));

        // A form of another site answers nothing, and neither does one that was shown for another link.
        lured_to(browser, world, &format!("{}/acme/cloud/arrival", world.portal_base)).await;
        browser.until_page("arrival").await;
        let question = browser.script("return document.querySelector('[name=question]').value").await;
        browser.open(&world.base.replace("127.0.0.1", OTHER_NAME)).await;
        let post = format!(
            "const form = document.createElement('form'); form.method = 'post'; form.action = '{}/acme/cloud/arrival';
             for (const [name, value] of [['question', {question}], ['answer', 'yes']]) {{
               const field = document.createElement('input'); field.name = name; field.value = value; form.append(field);
             }}
             document.body.append(form); form.submit()",
            world.portal_base
        );
        // The start page of the service lets no form out, so this one is written where nothing is forbidden.
        browser.client.goto("about:blank").await.unwrap();
        browser.script(&post).await;
        browser.until_page("refused").await;
        browser.open(&format!("{}/acme/cloud/", world.portal_base)).await;
        browser.until_page("home").await;
        assert!(browser.text("#acting-as").await.contains("Asha Rao"));

        // Who says no is not let in, and the access that was opened ends.
        browser.open(&format!("{}/acme/cloud/arrival", world.portal_base)).await;
        browser.until_page("arrival").await;
        browser.click("#decline").await;
        browser.until_page("refused").await;
        assert!(world.trail(&foreign).await.contains(&"session.ended".to_owned()));
        browser.open(&format!("{}/acme/cloud/", world.portal_base)).await;
        browser.until_page("home").await;
        assert!(browser.text("#acting-as").await.contains("Asha Rao"));
    });
}

#[test]
fn an_answer_is_to_the_question_that_was_shown() {
    World::run(async |world, browser| {
        let (mine, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.click("#continue").await;
        browser.until_page("arrival").await;
        let asked = browser.client.window().await.unwrap();

        // Another link comes in between.
        let foreign = world.issue("acme", ("emp-21", "Farah Khan")).await;
        let foreign_callback = callback(world, &world.mailed_address(&foreign, 1).await).await;
        browser.new_tab().await;
        browser.open(&foreign_callback).await;
        browser.until_page("arrival").await;
        browser.client.switch_to_window(asked).await.unwrap();
        browser.click("#arrive").await;
        browser.until_page("refused").await;
        browser.open(&format!("{}/acme/cloud/", world.portal_base)).await;
        browser.until("document.body.dataset.page !== 'home'").await;
        for link in [&mine, &foreign] {
            assert!(!world.trail(link).await.contains(&"data.viewed".to_owned()));
        }
    });
}

#[test]
fn a_double_click_lets_the_visitor_in_once() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.click("#continue").await;
        browser.until_page("arrival").await;
        browser.script("const button = document.querySelector('#arrive'); button.click(); button.click()").await;
        browser.until_page("home").await;
        assert!(browser.text("#acting-as").await.contains("Asha Rao"));
        let opened =
            world.trail(&link).await.into_iter().filter(|kind| kind.starts_with("session.")).collect::<Vec<_>>();
        assert_eq!(opened, ["session.opened"]);
    });
}
