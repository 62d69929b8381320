//! Who is told what about an access, and who is not.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// Issues with an address of the profile's owner.
async fn issue(world: &World, portal: &Api) -> String {
    let mut request = Api::issue_request(&world.consultant().await);
    request["profile"]["email"] = json!("asha.rao@acme.example");
    let link = portal.post(LINKS, &request).await.ok();
    assert_eq!(link["profile"]["email"], "asha.rao@acme.example");
    link["id"].as_str().unwrap().to_owned()
}

/// Waits until there are so many notices of this kind, and returns the newest.
async fn notice(world: &World, kind: &str, count: usize) -> Value {
    eventually(kind, async || {
        let mut notices = world.mails.notices(kind).await;
        assert!(notices.len() <= count, "too many: {kind}");
        (notices.len() == count).then(|| notices.pop().unwrap())
    })
    .await
}

fn to(mail: &Value) -> &str {
    mail["To"][0]["Email"].as_str().unwrap()
}

fn text(mail: &Value) -> &str {
    mail["Text"].as_str().unwrap()
}

fn with_portal_page() -> Settings {
    let portal = "[portals.cloud]\nname = 'Cloud'\naudience = 'https://cloud.example'\ncallback_url = 'https://cloud.example/{tenant_id}/cb'\n\
        manage_url = 'https://cloud.example/{tenant_id}/support-access'\n[portals.ess]\naudience = 'https://ess.example'\n\
        callback_url = 'https://ess.example/cb'";
    Settings { tables: portal.to_owned(), ..Settings::manual_clock() }
}

#[apply(on_both_databases)]
#[settings(with_portal_page())]
async fn everybody_hears_what_concerns_them_and_nobody_gets_a_token(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(world, &portal).await;
    let issued = notice(world, "access_issued", 1).await;
    assert_eq!(to(&issued), "hr@acme.example");
    assert!(text(&issued).contains("https://cloud.example/acme/support-access"), "{issued}");

    let code = world.click(&world.token(&link, 1).await).await;
    let session = portal.redeem(&code).await.ok();
    assert_eq!(to(&notice(world, "access_used", 1).await), "hr@acme.example");
    let owner = notice(world, "owner_access_used", 1).await;
    assert_eq!(to(&owner), "asha.rao@acme.example");
    assert!(!text(&owner).contains("https://"), "the admin's page is the admin's: {owner}");

    let at = world.clock.now();
    let act = |seq: i64, kind: &str| {
        json!({
            "seq": seq, "kind": kind, "occurred_at": at, "action": "employee.seen", "resource_type": "employee", "resource_id": "emp-9",
        })
    };
    let acts = json!({ "events": [act(1, "change"), act(2, "change"), act(3, "view"), act(5, "export")] });
    let session_path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    portal.post(&format!("{session_path}/events"), &acts).await.ok();
    portal.post(&format!("{session_path}/end"), &json!({ "sources": { "portal": 5 } })).await.ok();
    for (kind, recipient) in [("access_ended", "hr@acme.example"), ("owner_access_ended", "asha.rao@acme.example")] {
        let ended = notice(world, kind, 1).await;
        assert_eq!(to(&ended), recipient);
        assert!(text(&ended).contains("changes: 2, exports: 1, views: 1"), "{ended}");
        assert!(text(&ended).contains("has gaps"), "{ended}");
    }

    // A second visit with a fresh link: no second first use.
    world.clock.advance(Duration::seconds(61));
    portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.ok();
    assert_eq!(to(&notice(world, "link_resent", 1).await), "hr@acme.example");
    let code = world.click(&world.token(&link, 2).await).await;
    portal.redeem(&code).await.ok();
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    assert_eq!(to(&notice(world, "access_revoked", 1).await), "hr@acme.example");
    assert!(to(&notice(world, "access_withdrawn", 1).await).starts_with("ravi."));
    // Visits after the first one are told together, when the day is over.
    world.clock.advance(Duration::hours(25));
    for kind in ["access_visits", "owner_access_visits"] {
        assert!(text(&notice(world, kind, 1).await).contains("because it was revoked"));
    }
    notice(world, "access_ended", 1).await;
    assert_eq!(
        (world.mails.notices("access_used").await.len(), world.mails.notices("owner_access_used").await.len()),
        (1, 1)
    );

    for mail in world.mails.everything().await {
        let whole = mail.to_string();
        assert_eq!(whole.contains("eyJ"), mail["Tags"][0] == "magic_link", "{whole}");
        assert!(!whole.contains("session_id") && !whole.contains("ses_"), "{whole}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_tenant_can_switch_notices_off_and_the_consultant_cannot(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let settings = json!({ "name": "ACME", "muted_notices": ["access_issued", "owner_access_used"] });
    let saved = world.admin.put("/v1/tenants/acme", &settings).await.ok();
    assert_eq!(saved["muted_notices"], settings["muted_notices"]);
    let wrong = json!({ "name": "ACME", "muted_notices": ["magic_link"] });
    world.admin.put("/v1/tenants/acme", &wrong).await.refused(400, "invalid_body");
    let link = issue(world, &portal).await;
    let code = world.click(&world.token(&link, 1).await).await;
    portal.redeem(&code).await.ok();
    notice(world, "access_used", 1).await;
    for kind in ["access_issued", "owner_access_used"] {
        let query = format!("/v1/mail-deliveries?template={kind}&state=cancelled");
        let withheld =
            eventually(kind, async || portal.get(&query).await.ok()["items"].as_array().unwrap().first().cloned())
                .await;
        assert_eq!(withheld["last_error"], "the tenant has switched this notice off");
        assert_eq!(withheld["attempts"], 0);
        assert!(world.mails.notices(kind).await.is_empty());
    }
}

#[apply(on_both_databases)]
#[settings(Settings::config("mail.only_to = 'support.example'"))]
async fn a_staging_system_writes_to_nobody_else(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(world, &portal).await;
    world.token(&link, 1).await;
    let query = "/v1/mail-deliveries?template=access_issued&state=cancelled";
    let kept = eventually("the notice is kept", async || {
        portal.get(query).await.ok()["items"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(kept["last_error"], "mail.only_to keeps mail to this address from leaving");
    assert!(world.mails.everything().await.iter().all(|mail| to(mail).ends_with("@support.example")));
}

/// Blanks around an address are left away, as around any other text: they shall not keep a notice from anybody.
#[apply(on_both_databases)]
async fn blanks_around_an_address_lose_no_notice(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = json!({ "name": "Ravi Kumar", "email": "\u{a0}ravi@support.example " });
    let consultant = world.admin.post("/v1/consultants", &consultant).await.ok();
    assert_eq!(consultant["email"], "ravi@support.example");
    let mut request = Api::issue_request(consultant["id"].as_str().unwrap());
    request["issued_by"]["email"] = json!(" meera@acme.example\u{2009}");
    request["profile"]["email"] = json!(" asha.rao@acme.example\t\r\n");
    let link = portal.post(LINKS, &request).await.ok();
    assert_eq!(
        (&link["issued_by"]["email"], &link["profile"]["email"]),
        (&json!("meera@acme.example"), &json!("asha.rao@acme.example"))
    );
    assert_eq!(to(&notice(world, "access_issued", 1).await), "meera@acme.example");
}

#[apply(on_both_databases)]
async fn without_an_address_nobody_is_written_to(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"].as_object_mut().unwrap().remove("email");
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let code = world.click(&world.token(&link, 1).await).await;
    portal.redeem(&code).await.ok();
    let mails = portal.get(&format!("/v1/mail-deliveries?magic_link_id={link}")).await.ok();
    assert_eq!(mails["items"].as_array().unwrap().len(), 1, "{mails}");
    request["profile"] = json!({ "id": "emp-9", "name": "Asha Rao", "email": "asha@acme.example, eve@evil.example" });
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let issued = portal.events(&format!("&magic_link_id={link}&type=magic_link.issued")).await;
    assert!(issued[0]["data"]["profile_email_refused"].is_string(), "{issued:?}");
    world.token(&link, 1).await;
    assert!(world.mails.everything().await.iter().all(|mail| to(mail).ends_with("@support.example")));
}

#[apply(on_both_databases)]
async fn the_evidence_of_a_link_lists_every_mail_about_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(world, &portal).await;
    let code = world.click(&world.token(&link, 1).await).await;
    portal.redeem(&code).await.ok();
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    notice(world, "access_withdrawn", 1).await;
    let evidence = world.admin.get(&format!("{LINKS}/{link}/evidence")).await.ok();
    let mails = evidence["evidence"]["mails"].as_array().unwrap();
    let templates: std::collections::BTreeSet<_> =
        mails.iter().map(|mail| mail["template"].as_str().unwrap()).collect();
    for template in
        ["magic_link", "access_issued", "access_used", "owner_access_used", "access_revoked", "access_withdrawn"]
    {
        assert!(templates.contains(template), "{template}: {templates:?}");
    }
    let listed = world.admin.get(&format!("/v1/mail-deliveries?magic_link_id={link}")).await.ok();
    assert_eq!(mails.len(), listed["items"].as_array().unwrap().len());
}
