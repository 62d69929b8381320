//! What is over, or waits for an approval, is changed by no call, and each call says why.

use serde_json::{Value, json};
use time::Duration;

use super::approvals::{acme, act, approval, id, vikram};
use crate::support::device::{Device, careful, reentry_request, send, shown};
use crate::support::{Api, Settings, Sql, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

fn denial() -> Value {
    json!({ "approver": vikram(), "reason": "Enough is enough" })
}

/// Every call that changes a link, or decides on an extension of it.
async fn refuses_each_change(world: &World, link: &str, status: u16, code: &str) {
    let meera = json!({ "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" });
    let reason = "The payroll run has to be repeated";
    let longer = json!({ "duration": { "value": 1, "unit": "hours" }, "reason": reason, "extended_by": meera });
    let shorter = json!({ "expires_at": world.clock.now().plus(Duration::minutes(30)), "reason": reason });
    let extension = |what: &str| format!("extensions/ext_01kaq3v9e8fwmvd2x7n0c5hb1z/{what}");
    for (what, body) in [
        ("resend".to_owned(), json!({})),
        ("extend".to_owned(), longer),
        ("shorten".to_owned(), shorter),
        (extension("approve"), approval()),
        (extension("deny"), denial()),
        (extension("withdraw"), json!({})),
    ] {
        act(&world.admin, link, &what, &body).await.refused(status, code);
    }
    let correction = json!({ "ticket": "SUP-48231" });
    world.admin.patch(&format!("{LINKS}/{link}"), &correction).await.refused(status, code);
}

async fn refuses_each_decision(world: &World, link: &str, status: u16, code: &str) {
    for (what, body) in [("approve", approval()), ("deny", denial()), ("withdraw", json!({}))] {
        act(&world.admin, link, what, &body).await.refused(status, code);
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_link_that_waits_or_is_over_says_so_to_every_change(world: &World) {
    acme(world, &json!({ "required_for": "always" })).await;
    let consultant = world.consultant().await;
    let asked = async || id(&world.admin.post(LINKS, &Api::issue_request(&consultant)).await.ok()).to_owned();
    let waiting = asked().await;
    refuses_each_change(world, &waiting, 409, "approval_required").await;
    let denied = asked().await;
    act(&world.admin, &denied, "deny", &denial()).await.ok();
    refuses_each_change(world, &denied, 409, "already_decided").await;
    refuses_each_decision(world, &denied, 409, "already_decided").await;
    world.clock.advance(Duration::hours(25));
    refuses_each_change(world, &waiting, 410, "lapsed").await;
    refuses_each_decision(world, &waiting, 410, "lapsed").await;

    world.admin.put("/v1/tenants/acme/policy", &json!({})).await.ok();
    let mut request = Api::issue_request(&consultant);
    let replaced = id(&world.admin.post(LINKS, &request).await.ok()).to_owned();
    request["replace"] = json!(true);
    let expired = id(&world.admin.post(LINKS, &request).await.ok()).to_owned();
    refuses_each_change(world, &replaced, 410, "link_replaced").await;
    let revoked = world.admin.issue(&consultant).await;
    act(&world.admin, &revoked, "revoke", &json!({ "reason": "The work is done" })).await.ok();
    refuses_each_change(world, &revoked, 410, "link_revoked").await;
    world.clock.advance(Duration::hours(5));
    refuses_each_change(world, &expired, 410, "link_expired").await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_approval_is_judged_by_what_holds_when_it_is_given(world: &World) {
    let portal = acme(world, &json!({ "required_for": "always" })).await;
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let asked = portal.post(LINKS, &request).await.ok();
    // Meanwhile somebody was given the same access without being asked.
    world.admin.put("/v1/tenants/acme/policy", &json!({})).await.ok();
    let given = world.admin.post(LINKS, &request).await.ok();
    let refused = act(&world.admin, id(&asked), "approve", &approval()).await;
    refused.refused(409, "access_exists");
    assert_eq!(refused.body["magic_link_id"], given["id"]);
    // Or the client that asked is gone.
    act(&world.admin, id(&given), "revoke", &json!({ "reason": "The work is done" })).await.ok();
    let client = format!("/v1/clients/{}/disable", portal.client_id);
    world.admin.post(&client, &json!({})).await.ok();
    act(&world.admin, id(&asked), "approve", &approval()).await.refused(409, "client_disabled");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_approved_extension_is_judged_by_what_holds_when_it_is_approved(world: &World) {
    let hour = json!({ "value": 1, "unit": "hours" });
    let rule = json!({ "required_for": "none", "longer_than": { "value": 4, "unit": "hours" } });
    acme(world, &rule).await;
    let link = world.admin.issue(&world.consultant().await).await;
    let longer = json!({ "duration": hour, "reason": "The payroll run has to be repeated",
        "extended_by": { "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" } });
    let asked = act(&world.admin, &link, "extend", &longer).await.ok();
    let approve = format!("extensions/{}/approve", asked["extension"]["id"].as_str().unwrap());
    let freeze = json!({ "frozen": true, "reason": "Something is odd" });
    world.admin.put("/v1/issuing", &freeze).await.ok();
    act(&world.admin, &link, &approve, &approval()).await.refused(409, "issuing_frozen");
    world.admin.put("/v1/issuing", &json!({ "frozen": false })).await.ok();
    let hours = json!({ "value": 4, "unit": "hours" });
    let policy = json!({ "max_duration": hours, "extend": { "max_total": hours } });
    world.admin.put("/v1/tenants/acme/policy", &policy).await.ok();
    act(&world.admin, &link, &approve, &approval()).await.refused(403, "policy_forbids");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_page_says_of_every_link_why_it_opens_no_more(world: &World) {
    let (page, device) = (world.stranger(), Device::new());
    let issue = async || {
        let link = world.admin.post(LINKS, &reentry_request(&world.consultant().await)).await.ok();
        let token = world.token(id(&link), 1).await;
        (id(&link).to_owned(), token)
    };
    let refuses = async |token: &str, code: &str| {
        let shown = shown(&page, token).await;
        for path in ["/l/reenter", "/l/forget"] {
            send(&page, path, token, &device.proof(path, &shown)).await.refused(410, code);
        }
        let verify = json!({ "token": token, "id": "stp_01kaq3v9e8fwmvd2x7n0c5hb8z", "code": "042137" });
        page.post("/l/verify", &verify).await.refused(410, code);
        page.post("/l/continue", &json!({ "token": token })).await.refused(410, code);
        page.post("/l/resend", &json!({ "token": token })).await.refused(410, code);
    };
    let (link, token) = issue().await;
    act(&world.admin, &link, "revoke", &json!({ "reason": "The work is done" })).await.ok();
    refuses(&token, "link_revoked").await;

    // Whoever has the link, but another key, is told nothing of the device.
    let (_, remembered) = issue().await;
    let codes = world.mails.notices("step_up_code").await.len();
    let code = device.first_code(world, &remembered, codes + 1).await;
    world.admin.redeem(&code).await.ok();
    let unsigned = device.proof("/l/elsewhere", &shown(&page, &remembered).await);
    send(&page, "/l/forget", &remembered, &unsigned).await.refused(403, "proof_invalid");
    let verify = json!({ "token": remembered, "id": "stp_01kaq3v9e8fwmvd2x7n0c5hb8z", "code": "042137" });
    page.post("/l/verify", &verify).await.refused(410, "link_spent");

    world.clock.advance(Duration::days(15));
    refuses(&remembered, "link_expired").await;
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_portal_with_a_page_of_its_own_is_told_that_a_link_is_early_or_over(world: &World) {
    let mut request = Api::issue_request(&world.consultant().await);
    request["portal"] = json!("own");
    request["starts_at"] = json!(world.clock.now().plus(Duration::days(1)));
    let link = id(&world.admin.post(LINKS, &request).await.ok()).to_owned();
    world.clock.advance(Duration::days(1));
    let token = world.token(&link, 1).await;
    world.clock.advance(Duration::minutes(2) - Duration::days(1));
    world.admin.redeem(&token).await.refused(409, "link_not_yet_valid");
    world.clock.advance(Duration::days(1) + Duration::hours(4));
    world.admin.redeem(&token).await.refused(410, "link_expired");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn nothing_is_mailed_to_an_address_whose_mail_came_back(world: &World) {
    let consultant = world.consultant().await;
    let link = world.admin.issue(&consultant).await;
    let token = json!({ "token": world.token(&link, 1).await });
    let address = world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok()["email"].clone();
    let address = address.as_str().unwrap();
    let row = format!(
        "INSERT INTO mail_suppressions (id, address, address_key, cause, provider, mail_job_id, created_at) \
         SELECT 'sup_01kaq3v9e8fwmvd2x7n0c5hb7z', '{address}', '{address}', 'bounce', 'mailpit', id, CURRENT_TIMESTAMP \
         FROM mail_jobs LIMIT 1"
    );
    Sql::of(world).run(&row).unwrap();
    world.clock.advance(Duration::minutes(5));
    let page = world.stranger();
    page.post("/l/continue", &token).await.refused(409, "address_suppressed");
    page.post("/l/resend", &token).await.refused(409, "address_suppressed");
    act(&world.admin, &link, "resend", &json!({})).await.refused(409, "address_suppressed");
}
