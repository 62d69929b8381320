//! A grant that leaves something out says so wherever it is shown, to people and to machines.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::Duration;

use crate::support::device::{Device, careful, reentry_request};
use crate::support::{Api, Settings, World, apply, code_of, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// A request for a grant without exports, changes of bank accounts, and every module but two.
fn restricted(consultant: &str) -> Value {
    let mut request = Api::issue_request(consultant);
    request["modules"] = json!(["payroll", "leave.requests"]);
    request["forbidden"] = json!(["export", "bank_account"]);
    request
}

/// Finds that both members are those of [`restricted`].
#[track_caller]
fn is_restricted(shown: &Value) {
    assert_eq!(shown["modules"], json!(["payroll", "leave.requests"]), "{shown}");
    assert_eq!(shown["forbidden"], json!(["export", "bank_account"]), "{shown}");
}

/// Finds that there is neither member.
#[track_caller]
fn is_unrestricted(shown: &Value) {
    assert_eq!((shown.get("modules"), shown.get("forbidden")), (None, None), "{shown}");
}

/// The claims of a token.
fn claims(token: &Value) -> Value {
    let claims = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

/// What introspection says of a token, and what its signed form says.
async fn introspected(portal: &Api, token: &Value) -> [Value; 2] {
    let form = [("token", token.as_str().unwrap())];
    let signed = portal.request(reqwest::Method::POST, "/v1/introspect").form(&form);
    let signed = portal.send(signed.header("accept", "application/token-introspection+jwt")).await;
    let signed = claims(&json!(signed.text))["token_introspection"].clone();
    [portal.form("/v1/introspect", &form).await.ok(), signed]
}

#[apply(on_both_databases)]
async fn a_grant_says_everywhere_what_it_leaves_out(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.post(LINKS, &restricted(&world.consultant().await)).await.ok();
    is_restricted(&link);
    let id = link["id"].as_str().unwrap();
    is_restricted(&portal.get(&format!("{LINKS}/{id}")).await.ok());
    is_restricted(&portal.get(LINKS).await.ok()["items"][0]);
    // The consultant reads it in the mail and on the page, the admin in the notice.
    let mail = world.mails.wait_for(id, 1).await;
    let notice = eventually("a notice", async || world.mails.notices("access_issued").await.into_iter().next()).await;
    for mail in [mail, notice] {
        let text = mail["Text"].as_str().unwrap();
        assert!(text.contains("\nOnly in: payroll, leave.\u{2060}requests\n"), "{text}");
        assert!(text.contains("\nNot included: exporting data; changing bank accounts\n"), "{text}");
        assert!(mail["HTML"].as_str().unwrap().contains("exporting data; changing bank accounts"), "{mail}");
    }
    let token = world.token(id, 1).await;
    is_restricted(&world.stranger().post("/l/preview", &json!({ "token": token })).await.ok());
    // The portal has it with the session, in the token, and whenever it asks.
    let opened = portal.redeem(&world.click(&token).await).await.ok();
    is_restricted(&opened);
    is_restricted(&claims(&opened["access_token"]));
    for introspected in introspected(&portal, &opened["access_token"]).await {
        assert_eq!(introspected["active"], true);
        is_restricted(&introspected);
    }
    let session = opened["id"].as_str().unwrap();
    is_restricted(&portal.get(&format!("/v1/sessions/{session}")).await.ok());
    is_restricted(&portal.get(&format!("/v1/sessions?magic_link_id={id}")).await.ok()["items"][0]);
    // It is on record, and in the evidence.
    for kind in ["magic_link.issued", "session.opened"] {
        is_restricted(&portal.events(&format!("&type={kind}")).await[0]["data"]);
    }
    let evidence = portal.get(&format!("{LINKS}/{id}/evidence")).await.ok()["evidence"].clone();
    is_restricted(&evidence["link"]);
    is_restricted(&evidence["sessions"][0]);
}

#[apply(on_both_databases)]
async fn a_grant_that_leaves_nothing_out_says_nothing_of_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    let link = portal.post_once(LINKS, "one", &request).await.ok();
    is_unrestricted(&link);
    // The same request, spelled in another way.
    request["modules"] = Value::Null;
    request["forbidden"] = json!([]);
    assert_eq!(portal.post_once(LINKS, "one", &request).await.ok()["id"], link["id"]);
    request["forbidden"] = json!(["export"]);
    portal.post_once(LINKS, "one", &request).await.refused(422, "idempotency_key_reused");
    let id = link["id"].as_str().unwrap();
    let mail = world.mails.wait_for(id, 1).await;
    assert!(!mail["Text"].as_str().unwrap().contains("ncluded"), "{mail}");
    let token = world.token(id, 1).await;
    is_unrestricted(&world.stranger().post("/l/preview", &json!({ "token": token })).await.ok());
    let opened = portal.redeem(&world.click(&token).await).await.ok();
    is_unrestricted(&opened);
    is_unrestricted(&claims(&opened["access_token"]));
    for introspected in introspected(&portal, &opened["access_token"]).await {
        is_unrestricted(&introspected);
    }
    for kind in ["magic_link.issued", "session.opened"] {
        is_unrestricted(&portal.events(&format!("&type={kind}")).await[0]["data"]);
    }
}

#[apply(on_both_databases)]
async fn words_that_no_portal_could_keep_to_are_refused(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let with = |member: &str, value: Value| {
        let mut request = Api::issue_request(&consultant);
        request[member] = value;
        request
    };
    let many: Vec<String> = (0..21).map(|number| format!("module-{number}")).collect();
    for (member, value, pointer) in [
        ("modules", json!([]), "/modules"),
        ("modules", json!(many), "/modules"),
        ("modules", json!(["payroll", "leave", "payroll"]), "/modules/2"),
        ("forbidden", json!(["export", "export"]), "/forbidden/1"),
    ] {
        portal.post(LINKS, &with(member, value)).await.refused_field(pointer);
    }
    for (member, value) in [
        ("modules", json!("payroll")),
        ("modules", json!({ "payroll": true })),
        ("modules", json!([1])),
        ("modules", json!([null])),
        ("modules", json!([""])),
        ("modules", json!(["two words"])),
        ("modules", json!([".payroll"])),
        ("modules", json!(["payroll\n"])),
        ("modules", json!(["x".repeat(49)])),
        ("forbidden", json!("export")),
        ("forbidden", json!(["exports"])),
        ("forbidden", json!(["Export"])),
        ("forbidden", json!([""])),
        ("forbidden", json!([null])),
        ("forbidden", json!([{ "export": null }])),
        ("forbidden", json!(vec!["export"; 11])),
    ] {
        portal.post(LINKS, &with(member, value.clone())).await.refused(400, "invalid_body");
    }
    assert_eq!(portal.get(LINKS).await.ok()["items"], json!([]), "nothing is half done");
    // As many as there may be, each as long as it may be: the token still holds them.
    let many: Vec<String> = (10..30).map(|number| format!("{number}{}", "x".repeat(46))).collect();
    let mut request = with("modules", json!(many));
    request["forbidden"] = json!([
        "export",
        "delete",
        "credentials",
        "mfa",
        "contact_details",
        "bank_account",
        "roles",
        "api_keys",
        "send_mail",
        "consent",
    ]);
    let link = portal.post(LINKS, &request).await.ok();
    let code = world.click(&world.token(link["id"].as_str().unwrap(), 1).await).await;
    let opened = portal.redeem(&code).await.ok();
    assert_eq!((&opened["modules"], &opened["forbidden"]), (&request["modules"], &request["forbidden"]));
    let seen = portal.form("/v1/introspect", &[("token", opened["access_token"].as_str().unwrap())]).await.ok();
    assert_eq!((&seen["modules"], &seen["forbidden"]), (&request["modules"], &request["forbidden"]));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_is_left_out_stays_out_whatever_becomes_of_the_link(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.post(LINKS, &restricted(&world.consultant().await)).await.ok();
    let path = format!("{LINKS}/{}", link["id"].as_str().unwrap());
    let by = json!({ "id": "emp-7", "name": "Meera Iyer" });
    let longer = json!({
        "duration": { "value": 4, "unit": "hours" }, "reason": "The payroll run is repeated", "extended_by": by,
    });
    is_restricted(&portal.post(&format!("{path}/extend"), &longer).await.ok());
    let corrected = json!({ "reason": "Payroll run for December stops" });
    is_restricted(&portal.patch(&path, &corrected).await.ok());
    world.clock.advance(Duration::minutes(10));
    is_restricted(&portal.post(&format!("{path}/resend"), &json!({})).await.ok());
    let code = world.click(&world.token(link["id"].as_str().unwrap(), 2).await).await;
    let opened = portal.post_once("/v1/sessions", "one", &json!({ "token": code })).await.ok();
    is_restricted(&opened);
    let again = portal.post_once("/v1/sessions", "one", &json!({ "token": code })).await.ok();
    assert_eq!(claims(&again["access_token"]), claims(&opened["access_token"]), "a repeat says the same");
    let end = json!({ "expires_at": world.clock.now().plus(Duration::hours(1)), "reason": "It takes less time" });
    is_restricted(&portal.post(&format!("{path}/shorten"), &end).await.ok());
    for introspected in introspected(&portal, &opened["access_token"]).await {
        is_restricted(&introspected);
    }
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_next_visit_on_a_remembered_device_leaves_out_the_same(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let mut request = reentry_request(&world.consultant().await);
    request["modules"] = json!(["payroll", "leave.requests"]);
    request["forbidden"] = json!(["export", "bank_account"]);
    let link = world.admin.post(LINKS, &request).await.ok();
    let token = world.token(link["id"].as_str().unwrap(), 1).await;
    let code = device.first_code(world, &token, 1).await;
    is_restricted(&world.admin.redeem(&code).await.ok());
    world.clock.advance(Duration::days(1));
    let code = code_of(&device.reenter(&page, &token).await.ok());
    let opened = world.admin.redeem(&code).await.ok();
    is_restricted(&opened);
    is_restricted(&claims(&opened["access_token"]));
}
