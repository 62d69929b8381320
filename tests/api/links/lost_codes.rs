//! Codes whose mail is lost: nobody got them, so they hold nothing back, and whoever granted the access hears of it.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::device::{careful, mailed_code};
use crate::support::{Message, Receiver, Settings, World, apply, eventually, on_both_databases};

/// A portal that wants codes, with a place for messages, and a clock that stands still.
fn told() -> Settings {
    Settings { config: Receiver::allowed().config, ..careful() }
}

async fn preview(world: &World, token: &str) -> Value {
    world.stranger().post("/l/preview", &json!({ "token": token })).await.ok()
}

/// Lets every mail with a code be refused for good.
fn refuse_codes(world: &World) {
    let refusal = ResponseTemplate::new(400).set_body_json(json!({ "Error": "mailbox disabled" }));
    world.mails.misbehave_about("\"Tags\":[\"step_up_code\"]", refusal);
}

/// Presses the button, and waits until the mail with this code, the `count`th for the link, has failed.
async fn press_in_vain(world: &World, link: &str, token: &str, count: usize) -> Value {
    let answer = world.stranger().post("/l/continue", &json!({ "token": token })).await.ok();
    eventually("the mail has failed", async || {
        let query = format!("/v1/mail-deliveries?template=step_up_code&state=failed&magic_link_id={link}");
        (world.admin.get(&query).await.ok()["items"].as_array().unwrap().len() == count).then_some(())
    })
    .await;
    answer["step_up"].clone()
}

#[apply(on_both_databases)]
#[settings(told())]
async fn a_code_that_could_not_be_mailed_is_told_and_holds_no_other_back(world: &World) {
    let receiver = Receiver::start().await;
    receiver.endpoint_of(&world.portal("cloud", "acme").await).await;
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    assert_eq!(preview(world, &token).await["code_not_delivered"], false);
    refuse_codes(world);
    // More than an hour has codes, one right after the other.
    for count in 1..=7 {
        press_in_vain(world, &link, &token, count).await;
        let shown = preview(world, &token).await;
        assert_eq!((&shown["state"], shown.get("step_up")), (&json!("ready"), None), "{shown}");
        assert_eq!(shown["code_not_delivered"], true);
    }
    // Who granted the access hears of it, and so does the portal.
    let events = world.admin.events(&format!("&type=magic_link.mail_failed&magic_link_id={link}")).await;
    assert_eq!(events.len(), 7);
    assert!(events.iter().all(|event| event["data"]["template"] == "step_up_code"), "{events:?}");
    let notice = eventually("the admin is told", async || world.mails.notices("link_bounced").await.pop()).await;
    let text = notice["Text"].as_str().unwrap();
    assert!(text.contains("A mail with a code") && text.contains("mailbox disabled"), "{text}");
    assert!(notice["Subject"].as_str().unwrap().starts_with("A code for "), "{notice}");
    let failed = eventually("the portal is told", async || {
        let messages = receiver.messages().await;
        messages.into_iter().find(|message: &Message| message.kind() == "magic_link.mail_failed")
    })
    .await;
    assert_eq!(failed.body["data"]["magic_link_id"], json!(link));

    world.mails.behave();
    let asked = world.stranger().post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
    let code = mailed_code(world, 8).await;
    let shown = eventually("the mail is out", async || {
        let shown = preview(world, &token).await;
        shown["step_up"]["mailed_at"].is_string().then_some(shown)
    })
    .await;
    assert_eq!((&shown["step_up"]["id"], &shown["code_not_delivered"]), (&asked["id"], &json!(false)));
    let again = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    again.refused(429, "resend_cool_down");
    let body = json!({ "token": token, "id": asked["id"], "code": code });
    world.stranger().post("/l/verify", &body).await.ok();
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_that_waits_was_not_mailed(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    world.mails.misbehave_about("\"Tags\":[\"step_up_code\"]", ResponseTemplate::new(503));
    let asked = world.stranger().post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
    mailed_code(world, 1).await;
    let shown = preview(world, &token).await;
    assert_eq!((&shown["step_up"]["id"], shown["step_up"].get("mailed_at")), (&asked["id"], None), "{shown}");
    assert_eq!(shown["code_not_delivered"], false);
    // It may still come: another one waits its turn.
    let again = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    again.refused(429, "resend_cool_down");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn no_lost_mail_gives_more_attempts(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    refuse_codes(world);
    let asked = press_in_vain(world, &link, &token, 1).await;
    let right = mailed_code(world, 1).await;
    let guess = if right == "000000" { "000001" } else { "000000" };
    let body = json!({ "token": token, "id": asked["id"], "page_secret": asked["page_secret"], "code": guess });
    world.stranger().post("/l/verify", &body).await.refused(403, "step_up_code_wrong");
    let again = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    again.refused(429, "resend_cool_down");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn mails_with_codes_are_bounded_whatever_becomes_of_them(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    refuse_codes(world);
    for count in 1..=20 {
        press_in_vain(world, &link, &token, count).await;
    }
    let again = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    again.refused(429, "resend_cool_down");
    assert!(again.header("retry-after").parse::<u64>().unwrap() > 3_000, "{again:?}");
}
