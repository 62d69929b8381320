//! What must not use a link up: scanners that open it, run its scripts, and even click by script.

use reqwest::Method;

use crate::actors::Api;
use crate::world::World;

#[test]
fn a_page_that_is_opened_and_not_clicked_leaves_the_link_unspent() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        let stranger = Api::new(&world.base, None);
        for _ in 0..10 {
            assert!(stranger.get("/l").await.status.is_success());
        }
        assert!(stranger.send(stranger.request(Method::HEAD, "/l")).await.status.is_success());

        for _ in 0..3 {
            browser.open(&address).await;
            browser.until_state("ready").await;
        }
        assert!(world.read(&link).await.get("spent_at").is_none());
        assert_eq!(world.trail(&link).await, ["magic_link.issued", "magic_link.mailed"]);

        browser.arrive().await;
        assert!(world.read(&link).await["spent_at"].is_string());
    });
}

#[test]
fn a_click_by_a_script_does_nothing() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        // A click that counts calls fetch before it returns.
        let asked = browser.script(
            "const asked = []; const real = window.fetch;
             window.fetch = (path, ...rest) => { asked.push(path); return real(path, ...rest); };
             const button = document.getElementById('continue');
             button.click();
             button.dispatchEvent(new MouseEvent('click', { bubbles: true }));
             button.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true }));
             return asked;",
        );
        assert_eq!(asked.await, serde_json::json!([]));
        assert_eq!(world.trail(&link).await, ["magic_link.issued", "magic_link.mailed"]);

        browser.arrive().await;
    });
}
