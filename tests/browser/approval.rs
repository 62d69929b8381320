//! At a company that wants a second pair of eyes: the first HR admin asks, the second one decides, on the example portal.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::world::World;

/// From now on a second person approves each access to Globex.
fn careful(world: &World) {
    world.store(
        "INSERT INTO tenants (id, name, time_zone, contacts, created_at, updated_at, change_values) VALUES
            ('globex', 'Globex', 'Asia/Kolkata', '[]', datetime('now'), datetime('now'), 'plain');
        INSERT INTO tenant_policies (tenant_id, seq, policy, actor_type, actor_id, created_at) VALUES
            ('globex', 1, '{\"approval\":{\"required_for\":\"always\"}}', 'system', 'test', datetime('now'))",
    );
}

#[test]
fn a_second_person_approves_and_denies_what_the_first_one_asks_for() {
    World::run(async |world, browser| {
        careful(world);
        let ask = async |profile: &str| {
            browser.open(&format!("{}/globex/cloud/admin", world.portal_base)).await;
            browser.until_page("admin").await;
            browser.fill("#reason", "Payroll run for November stops at step 3").await;
            browser.choose("#profile_id", profile).await;
            browser.click("#grant button").await;
            browser.until("document.querySelector('[role=status]')?.innerText.startsWith('A second person')").await;
            browser.find("[data-state=pending]").await.attr("data-link").await.unwrap().expect("its id")
        };
        let is = |link: &str, state: &str| {
            format!("document.querySelector('[data-link={link}]')?.dataset.state === '{state}'")
        };
        let link = ask("Divya Pillai (emp-512)").await;
        let row = browser.text(&format!("[data-link='{link}']")).await;
        assert!(row.contains("for Vikram Shah to decide") && !row.contains("E-mail"), "{row}");
        browser.click(&format!("[data-link='{link}'] .approve")).await;
        browser.until(&is(&link, "active")).await;

        // The consultant comes in, and the admins see that somebody is inside.
        browser.open(&world.mailed_address(&link, 1).await).await;
        browser.until_state("ready").await;
        browser.arrive().await;
        browser.click("#done").await;
        browser.open(&format!("{}/globex/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;

        // To let it last is asked for, too.
        browser.click(&format!("[data-link='{link}'] .extend")).await;
        browser.until(&format!("document.querySelector('[data-link={link}] .deny') !== null")).await;
        assert!(browser.text(&format!("[data-link='{link}']")).await.contains("if Vikram Shah approves"));
        let before = world.read(&link).await["expires_at"].clone();
        browser.click(&format!("[data-link='{link}'] .deny")).await;
        browser.until(&format!("document.querySelector('[data-link={link}] .extend') !== null")).await;
        assert_eq!(world.read(&link).await["expires_at"], before);
        browser.click(&format!("[data-link='{link}'] .extend")).await;
        browser.click(&format!("[data-link='{link}'] .approve")).await;
        browser.until(&format!("document.querySelector('[data-link={link}] .extend') !== null")).await;
        assert_ne!(world.read(&link).await["expires_at"], before);

        let denied = ask("Lena Fernandes (emp-33)").await;
        assert_ne!(denied, link);
        browser.click(&format!("[data-link='{denied}'] .deny")).await;
        browser.until(&is(&denied, "denied")).await;
    });
}

#[test]
fn a_double_click_lets_an_access_last_longer_once() {
    World::run(async |world, browser| {
        let (link, _) = world.link().await;
        let end =
            async || OffsetDateTime::parse(world.read(&link).await["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
        let before = end().await;
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        let key = format!("return document.querySelector('[data-link={link}] [name=request_id]').value");
        let key = browser.script(&key).await;
        let sender = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let extend = format!("{}/acme/cloud/admin/links/{link}/extend", world.portal_base);
        // No script of the page may send it.
        let send = async || {
            let form =
                sender.post(&extend).header("sec-fetch-site", "same-origin").form(&[("request_id", key.as_str())]);
            form.send().await.unwrap().status().as_u16()
        };
        assert_eq!(futures_util::future::join(send(), send()).await, (303, 303), "as a double click sends it");
        assert_eq!(send().await, 303, "and once more");
        assert_eq!(end().await - before, time::Duration::hours(4));
        // The next page is another wish.
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        browser.script(&format!("document.querySelector('[data-link={link}] .extend').click()")).await;
        browser.until("document.querySelector('[role=status]')?.innerText.startsWith('The access lasts longer')").await;
        assert_eq!(end().await - before, time::Duration::hours(8));
    });
}
