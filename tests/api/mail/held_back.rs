//! `mail.only_to`: to whom no mail leaves, nobody is promised one.

use serde_json::json;
use time::Duration;

use crate::support::device::careful;
use crate::support::{SecondCopy, Settings, World, apply, eventually, mails_have_left, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// A service that mails to this domain only, or to everybody.
fn staging(only_to: Option<&str>) -> Settings {
    let config = only_to.map(|domain| format!("mail.only_to = '{domain}'")).unwrap_or_default();
    Settings { config, no_service: true, ..careful() }
}

#[apply(on_both_databases)]
#[settings(staging(None))]
async fn no_fresh_link_and_no_code_is_promised_to_whom_no_mail_leaves(world: &World) {
    let copy = SecondCopy::start_with(world, world.clock.clone(), &staging(None));
    let operator = world.admin.at(&copy.base);
    let consultant = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned();
    let link = operator.issue(&consultant).await;
    let token = json!({ "token": world.token(&link, 1).await });
    mails_have_left(&operator).await;
    drop(copy);

    world.clock.advance(Duration::minutes(5));
    let copy = SecondCopy::start_with(world, world.clock.clone(), &staging(Some("acme.example")));
    let operator = world.admin.at(&copy.base);
    let page = operator.stranger();
    let resend = format!("{LINKS}/{link}/resend");
    assert_eq!(page.post("/l/preview", &token).await.ok()["can_resend"], false);
    for refused in [
        page.post("/l/resend", &token).await,
        page.post("/l/continue", &token).await,
        operator.post(&resend, &json!({})).await,
    ] {
        refused.refused(409, "address_suppressed");
        assert!(refused.body["detail"].as_str().unwrap().contains("mail.only_to"), "{refused:?}");
    }
    // Nothing was done, and nobody hears that anything is sent.
    let shown = page.post("/l/preview", &token).await.ok();
    assert_eq!((&shown["state"], &shown["code_not_delivered"]), (&json!("ready"), &json!(false)), "{shown}");
    for kind in ["link_resent", "step_up_code"] {
        let mails = operator.get(&format!("/v1/mail-deliveries?template={kind}")).await.ok();
        assert_eq!(mails["items"], json!([]), "{kind}");
    }
    for kind in ["magic_link.resent", "magic_link.code_sent"] {
        assert!(operator.events(&format!("&type={kind}")).await.is_empty(), "{kind}");
    }

    // Issuing goes on: the mail alone is held back, and the admin hears of that.
    let other = operator.issue(&consultant).await;
    let kept = eventually("the mail is held back", async || {
        let delivery = operator.get(&format!("{LINKS}/{other}")).await.ok()["delivery"].clone();
        (delivery["state"] == "cancelled").then_some(delivery)
    })
    .await;
    assert_eq!(kept["last_error"], "mail.only_to keeps mail to this address from leaving");
    let told = eventually("the admin is told", async || {
        let mails = world.mails.notices("access_issued").await.into_iter();
        mails.map(|mail| mail["Text"].as_str().unwrap().to_owned()).find(|text| text.contains(&other))
    })
    .await;
    assert!(told.contains("No link to it was mailed."), "{told}");
    assert!(world.mails.about(&other).await.is_empty());
    drop(copy);

    // To whom mail leaves everything is sent.
    let copy = SecondCopy::start_with(world, world.clock.clone(), &staging(Some("support.example")));
    let page = world.admin.at(&copy.base).stranger();
    assert_eq!(page.post("/l/preview", &token).await.ok()["can_resend"], true);
    assert_eq!(page.post("/l/resend", &token).await.ok(), json!({ "state": "queued" }));
    world.token(&link, 2).await;
}
