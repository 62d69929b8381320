//! Every state of the landing page says what happened and what to do next.

use crate::browser::Browser;
use crate::world::World;

#[test]
fn a_revoked_link_says_that_access_was_withdrawn() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        world.revoke(&link).await;
        browser.open(&address).await;
        browser.until_state("revoked").await;
        assert_eq!(browser.text("#heading").await, "This access was withdrawn");
        offers(browser, &[]).await;
    });
}

#[test]
fn a_link_that_is_revoked_while_its_page_is_open_says_so_on_the_click() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        world.revoke(&link).await;
        browser.click("#continue").await;
        browser.until_state("revoked").await;
    });
}

#[test]
fn an_expired_link_says_that_access_has_ended() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        world.store(&format!(
            "UPDATE magic_links SET starts_at = '2026-01-01 00:00:00', expires_at = '2026-01-01 04:00:00' \
             WHERE id = '{link}'"
        ));
        browser.open(&address).await;
        browser.until_state("expired").await;
        assert!(browser.text("#facts").await.contains("1 Jan 2026, 9:30 am IST"));
        offers(browser, &[]).await;
    });
}

#[test]
fn a_link_before_its_window_says_when_it_opens() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        world.store(&format!(
            "UPDATE magic_links SET starts_at = '2126-11-23 03:30:00', expires_at = '2126-11-23 07:30:00' \
             WHERE id = '{link}'"
        ));
        browser.open(&address).await;
        browser.until_state("not_yet").await;
        assert!(browser.text("#facts").await.contains("23 Nov 2126, 9:00 am IST (UTC+05:30)"));
        offers(browser, &["retry"]).await;
    });
}

#[test]
fn a_link_that_a_newer_mail_replaced_says_so() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        world.cloud.post(&format!("/v1/magic-links/{link}/resend"), &serde_json::json!({})).await.ok();
        world.mailed_address(&link, 2).await;
        world.mail_is_out(&link).await;
        browser.open(&address).await;
        browser.until_state("superseded").await;
        assert!(browser.text("#facts").await.contains("Newest mail"), "when it went out");
        offers(browser, &[]).await;
        world.store("UPDATE mail_jobs SET state = 'failed' WHERE generation = 2");
        browser.open(&address).await;
        browser.until_state("superseded").await;
        offers(browser, &["resend"]).await;
    });
}

#[test]
fn a_link_of_a_revoked_key_says_where_to_find_another_one() {
    World::run(async |world, browser| {
        let (_, address) = world.link().await;
        world
            .store("UPDATE signing_keys SET expires_at = created_at, retired_at = created_at, revoked_at = created_at");
        browser.open(&address).await;
        browser.until_state("withdrawn").await;
        assert!(browser.text("#next").await.contains("newer mail"));
        offers(browser, &[]).await;
    });
}

#[test]
fn what_is_no_link_of_ours_says_so() {
    World::run(async |world, browser| {
        browser.open(&format!("{}/l#garbage", world.base)).await;
        browser.until_state("invalid").await;
        assert_eq!(browser.text("#heading").await, "This is not a link of ours");
        offers(browser, &["paste-submit"]).await;
    });
}

#[test]
fn a_link_that_a_gateway_cut_can_be_pasted() {
    World::run(async |world, browser| {
        let (_, address) = world.link().await;
        browser.open(&format!("{}/l", world.base)).await;
        browser.until_state("paste").await;
        offers(browser, &["paste-submit"]).await;
        browser.click("#paste-submit").await;
        assert_eq!(browser.text("#paste-error").await, "Paste your link first.");
        browser.fill("#paste-input", &format!("{}/l", world.base)).await;
        browser.click("#paste-submit").await;
        assert_eq!(
            browser.text("#paste-error").await,
            "This link ends before its # sign. Copy the whole link from your mail."
        );
        browser.fill("#paste-input", &address).await;
        browser.click("#paste-submit").await;
        browser.until_state("ready").await;
        browser.arrive().await;
    });
}

#[test]
fn an_outage_uses_nothing_up_and_can_be_tried_again() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        world.stop_service();
        browser.click("#continue").await;
        browser.until_state("offline").await;
        assert!(browser.text("#lead").await.contains("Your link has not been used."));
        world.restart_service();
        browser.click("#retry").await;
        browser.until_state("ready").await;
        assert!(world.read(&link).await.get("spent_at").is_none());
        browser.arrive().await;
    });
}

/// Asserts which buttons can be seen.
async fn offers(browser: &Browser, buttons: &[&str]) {
    let script = "return [...document.querySelectorAll('button')].filter((b) => b.checkVisibility()).map((b) => b.id)";
    assert_eq!(browser.script(script).await, serde_json::json!(buttons));
}
