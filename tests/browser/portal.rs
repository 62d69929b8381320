//! The example portal: tenants apart, access that ends at once, and the HR admin's form.

use serde_json::json;

use crate::world::World;

#[test]
fn two_tenants_in_two_tabs_do_not_mix() {
    World::run(async |world, browser| {
        let acme = world.issue("acme", ("emp-1042", "Asha Rao")).await;
        let globex = world.issue("globex", ("emp-512", "Divya Pillai")).await;
        for link in [&acme, &globex] {
            if link == &globex {
                browser.new_tab().await;
            }
            browser.open(&world.mailed_address(link, 1).await).await;
            browser.until_state("ready").await;
            browser.arrive().await;
        }
        let tabs = browser.client.windows().await.unwrap();

        // The same id is somebody else there.
        browser.client.switch_to_window(tabs[0].clone()).await.unwrap();
        browser.click("a[href$='/employees/emp-9']").await;
        browser.until_page("employee").await;
        assert_eq!(browser.text("h1").await, "Nikhil Menon");
        browser.fill("#salary", "51000").await;
        browser.click("#save").await;
        browser.until("document.querySelector('#salary')?.defaultValue === '51000'").await;
        browser.client.switch_to_window(tabs[1].clone()).await.unwrap();
        browser.click("a[href$='/employees/emp-9']").await;
        browser.until_page("employee").await;
        assert_eq!(browser.text("h1").await, "Arjun Sethi");
        assert_eq!(browser.script("return document.querySelector('#salary').value").await, "46000");
        assert!(browser.text("#acting-as").await.contains("Divya Pillai"));

        // One ends, the other goes on.
        browser.click("#done").await;
        browser.until_page("goodbye").await;
        browser.client.switch_to_window(tabs[0].clone()).await.unwrap();
        browser.client.refresh().await.unwrap();
        browser.until_page("employee").await;
        assert!(browser.text("#acting-as").await.contains("Asha Rao"));

        for (tenant, changes) in [("acme", 1), ("globex", 0)] {
            let changed = world.cloud.events(&format!("&tenant_id={tenant}&type=data.changed")).await;
            assert_eq!(changed.len(), changes, "{changed:?}");
        }
    });
}

#[test]
fn access_that_is_revoked_ends_with_the_next_click() {
    World::run(async |world, browser| {
        let (link, address) = world.link().await;
        browser.open(&address).await;
        browser.until_state("ready").await;
        browser.arrive().await;
        world.revoke(&link).await;
        browser.click("a[href$='/employees/emp-9']").await;
        browser.until_page("ended").await;
        let trail = world.trail(&link).await;
        assert!(!trail.contains(&"data.viewed".to_owned()), "{trail:?}");
    });
}

// Names and reasons are absent once the retention is over: the list goes on, with a word in their place.
#[test]
fn the_hr_admin_reads_the_list_when_a_link_in_it_is_erased() {
    World::run(async |world, browser| {
        let erased = world.issue("acme", ("emp-1042", "Asha Rao")).await;
        world.mail_is_out(&erased).await;
        world.revoke(&erased).await;
        world.store(&format!(
            "DELETE FROM mail_jobs WHERE magic_link_id = '{erased}';
             UPDATE magic_links SET profile_name = '', profile_email = NULL, reason = '', ticket = NULL,
                 issued_by_name = '', issued_by_email = NULL, revoke_reason = NULL, revoked_by_name = NULL,
                 erased_at = datetime('now') WHERE id = '{erased}';
             INSERT INTO consultants (id, name, email, email_key, created_at, updated_at, suspended_at, erased_at)
                 VALUES ('con_01kaq3v9e8fwmvd2x7n0c5hb3z', '', '', 'con_01kaq3v9e8fwmvd2x7n0c5hb3z',
                     datetime('now'), datetime('now'), datetime('now'), datetime('now'));
             UPDATE magic_links SET consultant_id = 'con_01kaq3v9e8fwmvd2x7n0c5hb3z' WHERE id = '{erased}'"
        ));
        let seen = world.read(&erased).await;
        assert!(seen.get("reason").is_none() && seen["consultant"].get("name").is_none(), "{seen}");
        let kept = world.issue("acme", ("emp-21", "Farah Khan")).await;
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        let row = browser.text(&format!("[data-link='{erased}']")).await;
        assert!(row.contains("(erased) as (erased)") && !row.contains("E-mail"), "{row}");
        assert!(browser.text(&format!("[data-link='{kept}']")).await.contains("Farah Khan"));
        browser.click(&format!("[data-link='{erased}'] a")).await;
        browser.until("document.querySelector('h1')?.innerText === 'What happened'").await;
        assert!(browser.text("main").await.contains("(erased) as (erased)"));
    });
}

#[test]
fn the_hr_admin_grants_access_looks_at_the_record_and_revokes() {
    World::run(async |world, browser| {
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        assert_eq!(browser.text("#consultant_id").await.trim(), "Ravi Kumar");
        browser.fill("#reason", "Payroll run for November stops at step 3").await;
        browser.fill("#duration_value", "2").await;
        browser.choose("[name=duration_unit]", "days").await;
        browser.choose("#profile_id", "Farah Khan (emp-21)").await;
        browser.choose("#access", "Read only: may look").await;
        browser.fill("#ticket", "SUP-48213").await;
        browser.click("#grant button").await;
        browser.until("document.querySelector('[role=status]')?.innerText.startsWith('Access was granted.')").await;

        let link = browser.find("[data-link]").await.attr("data-link").await.unwrap().expect("its id");
        let read = world.read(&link).await;
        assert_eq!(read["profile"], json!({ "id": "emp-21", "name": "Farah Khan" }));
        assert_eq!((&read["access"], &read["ticket"]), (&json!("read_only"), &json!("SUP-48213")));
        assert_eq!(read["issued_by"]["name"], "Meera Iyer");

        // The consultant looks, and can change nothing.
        browser.open(&world.mailed_address(&link, 1).await).await;
        browser.until_state("ready").await;
        browser.arrive().await;
        browser.click("a[href$='/leave-policy']").await;
        browser.until_page("leave-policy").await;
        assert!(browser.text("#acting-as").await.contains("Read only"));
        assert!(!browser.find("#save").await.is_enabled().await.unwrap());

        // No grant from a grant.
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        browser.fill("#reason", "One more, please, from inside").await;
        browser.click("#grant button").await;
        browser.until("document.querySelector('[role=alert]')?.innerText.includes('inside a support session')").await;

        browser.click(&format!("[data-link='{link}'] a")).await;
        browser.until("document.querySelector('h1')?.innerText === 'What happened'").await;
        let record = browser.text("main").await;
        for kind in ["magic_link.issued", "session.opened", "data.viewed"] {
            assert!(record.contains(kind), "{kind} is missing in {record}");
        }
        assert!(record.contains("leave_policy.viewed"), "{record}");
        browser.click(".where a").await;
        browser.until("document.querySelector('h1')?.innerText === 'Grant support access'").await;
        browser.click(&format!("[data-link='{link}'] .revoke")).await;
        browser.until(&format!("document.querySelector('[data-link={link}]')?.dataset.state === 'revoked'")).await;
    });
}

#[test]
fn what_a_grant_leaves_out_is_said_and_kept_to() {
    World::run(async |world, browser| {
        browser.open(&format!("{}/acme/cloud/admin", world.portal_base)).await;
        browser.until_page("admin").await;
        browser.fill("#reason", "Payroll run for November stops at step 3").await;
        browser.choose("#profile_id", "Asha Rao (emp-1042)").await;
        browser.choose("#module", "Employees only").await;
        browser.choose("#forbidden", "Changing bank accounts").await;
        browser.click("#grant button").await;
        browser.until("document.querySelector('[role=status]')?.innerText.startsWith('Access was granted.')").await;
        let row = browser.text("[data-link]").await;
        assert!(row.contains("Only in: employees") && row.contains("Not included: bank account"), "{row}");
        let link = browser.find("[data-link]").await.attr("data-link").await.unwrap().expect("its id");

        // The consultant reads it before they continue.
        browser.open(&world.mailed_address(&link, 1).await).await;
        browser.until_state("ready").await;
        let facts = browser.text("#facts").await;
        assert!(facts.contains("Only in") && facts.contains("employees"), "{facts}");
        assert!(facts.contains("Not included") && facts.contains("changing bank accounts"), "{facts}");
        browser.arrive().await;
        let banner = browser.text("#acting-as").await;
        assert!(banner.contains("Only in: employees") && banner.contains("Not included: bank account"), "{banner}");
        assert!(!browser.text("main").await.contains("Leave policy"), "what is not granted is not offered");

        // A salary may be changed, and a bank account may not, whatever the page shows.
        browser.click("a[href$='/employees/emp-9']").await;
        browser.until_page("employee").await;
        assert_eq!(browser.script("return document.querySelector('#bank_account').readOnly").await, true);
        browser.fill("#salary", "51000").await;
        browser.click("#save").await;
        browser.until("document.querySelector('#salary')?.defaultValue === '51000'").await;
        browser.script("document.querySelector('#bank_account').readOnly = false").await;
        browser.fill("#bank_account", "1234 5678").await;
        browser.click("#save").await;
        browser.until_page("refused").await;
        assert_eq!(browser.text("h1").await, "This access does not include that");
        browser.open(&format!("{}/acme/cloud/leave-policy", world.portal_base)).await;
        browser.until_page("refused").await;
        let trail = world.trail(&link).await;
        assert_eq!(trail.iter().filter(|kind| *kind == "data.changed").count(), 1, "{trail:?}");
        assert!(!trail.contains(&"magic_link.policy_violation".to_owned()), "{trail:?}");
    });
}
