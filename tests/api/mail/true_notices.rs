//! Notices say what is true, of this access, and whom to ask.

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{Message, Receiver, World, apply, eventually, on_both_databases};

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

#[apply(on_both_databases)]
async fn the_mail_with_the_link_says_whom_to_ask(world: &World) {
    with_contacts(world).await;
    let link = world.portal("cloud", "acme").await.issue(&world.consultant().await).await;
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
