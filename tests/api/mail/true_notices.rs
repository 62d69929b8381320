//! Notices say what is true, of this access, and whom to ask.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::{Api, Message, Receiver, Settings, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// The first notice of this kind.
async fn notice(world: &World, kind: &str) -> String {
    let mail = eventually(kind, async || world.mails.notices(kind).await.into_iter().next()).await;
    mail["Text"].as_str().unwrap().to_owned()
}

async fn with_contacts(world: &World) {
    let contacts = json!([{ "name": "Meera Iyer", "email": "meera@acme.example" }]);
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "contacts": contacts })).await.ok();
}

#[apply(on_both_databases)]
async fn a_revocation_says_by_whom_and_why_and_speaks_of_this_access(world: &World) {
    with_contacts(world).await;
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let (link, _other) = (portal.issue(&consultant).await, portal.issue(&consultant).await);
    let by = json!({ "reason": "The ticket was closed", "requested_by": { "id": "emp-8", "name": "Anil Rao" } });
    portal.post(&format!("{LINKS}/{link}/revoke"), &by).await.ok();
    for kind in ["access_revoked", "access_withdrawn"] {
        let text = notice(world, kind).await;
        for fact in ["Revoked by: Anil Rao", "Because: The ticket was closed", "Its link opens"] {
            assert!(text.contains(fact), "{fact}: {text}");
        }
        let asks = text.contains("Whom to ask at ACME: Meera Iyer, meera@acme.example");
        assert_eq!(asks, kind == "access_withdrawn", "{text}");
    }
    assert!(notice(world, "access_withdrawn").await.contains("Other accesses"));
}

// No mail about an access that has not opened speaks of a link that somebody has: none was mailed.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn before_an_access_opens_no_mail_speaks_of_a_link_that_was_mailed(world: &World) {
    with_contacts(world).await;
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["starts_at"] = json!(world.clock.now().plus(Duration::hours(2)));
    request["issued_by"]["email"] = json!("hr@acme.example");
    let link = portal.post(LINKS, &request).await.ok();
    assert_eq!(link["state"], "scheduled");
    let path = format!("{LINKS}/{}", link["id"].as_str().unwrap());
    world.clock.advance(Duration::seconds(61));
    portal.post(&format!("{path}/resend"), &json!({})).await.ok();
    let refused = portal.post(&format!("{path}/resend"), &json!({})).await;
    assert!(!refused.body["title"].as_str().unwrap().contains("link"), "{}", refused.body);
    refused.refused(429, "resend_cool_down");
    let longer = json!({ "duration": { "value": 1, "unit": "hours" }, "reason": "The run takes longer",
        "extended_by": { "id": "emp-8", "name": "Anil Rao" } });
    portal.post(&format!("{path}/extend"), &longer).await.ok();
    portal.post(&format!("{path}/revoke"), &json!({ "reason": "The ticket was closed" })).await.ok();
    for (kind, says) in [
        ("access_announced", "The link comes with another mail"),
        ("link_resent", "Support access was announced to Ravi Kumar again (Cloud)"),
        ("access_changed", "ends at another time"),
        ("access_moved", "The link comes with another mail when the access opens"),
        ("access_revoked", "No link to it was mailed"),
        ("access_withdrawn", "no link to it will be mailed"),
    ] {
        let mail = eventually(kind, async || world.mails.notices(kind).await.into_iter().next()).await;
        let [subject, text, html] =
            ["Subject", "Text", "HTML"].map(|part| mail[part].as_str().unwrap().replace('\n', " "));
        assert!(text.contains(says) && html.contains(says), "{says}: {text}");
        for untrue in
            ["resh access link", "resh link", "Its link opens", "link in your mail", "were sent", "links before it"]
        {
            assert!(!text.contains(untrue) && !html.contains(untrue) && !subject.contains(untrue), "{untrue}: {text}");
        }
    }
}

#[apply(on_both_databases)]
async fn the_mail_with_the_link_says_whom_to_ask(world: &World) {
    with_contacts(world).await;
    let link = world.portal("cloud", "acme").await.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let preview = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(preview["contacts"], json!([{ "name": "Meera Iyer" }]), "no address for whoever finds a link");
    let mail = world.mails.wait_for(&link, 1).await;
    for part in ["Text", "HTML"] {
        let part = mail[part].as_str().unwrap();
        assert!(part.contains("Whom to ask at ACME: Meera Iyer, meera@acme.example"), "{part}");
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_mail_that_is_refused_for_good_is_told_in_the_providers_words(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    receiver.endpoint_of(&portal).await;
    let refusal =
        ResponseTemplate::new(400).set_body_json(json!({ "Error": "no such mailbox at https://evil.example" }));
    world.mails.misbehave_about("\"Tags\":[\"magic_link\"]", refusal);
    let link = portal.issue(&world.consultant().await).await;
    let told = notice(world, "link_bounced").await;
    assert!(told.contains("What came back:") && told.contains("no such mailbox"), "{told}");
    assert!(!told.contains("https://evil.example"), "no link of a stranger: {told}");
    let failed = eventually("the portal is told", async || {
        let messages = receiver.messages().await;
        messages.into_iter().find(|message: &Message| message.kind() == "magic_link.mail_failed")
    })
    .await;
    assert_eq!((&failed.body["data"]["magic_link_id"], &failed.body["subject"]), (&json!(link), &json!(link)));
    assert!(!failed.text.contains("mailbox"), "{}", failed.text);
    let recorded: Vec<Value> = portal.events("&type=magic_link.mail_failed").await;
    assert_eq!(recorded.len(), 1);
}
