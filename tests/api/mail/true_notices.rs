//! Notices say what is true, of this access, and whom to ask.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::{
    Api, Message, Receiver, Settings, Sql, World, apply, eventually, hold_mails, mailed, on_both_databases,
    release_mails,
};

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
    // Of a link that had not left, nothing speaks.
    mailed(&portal, &link).await;
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
    // What is not out by then does not leave.
    for kind in ["access_announced", "link_resent", "access_moved"] {
        notice(world, kind).await;
    }
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

#[apply(on_both_databases)]
async fn nobody_is_promised_a_notice_that_the_tenant_has_muted(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!("hr@acme.example");
    request["profile"]["email"] = json!("asha@acme.example");
    let cases = [
        (json!([]), Some("when the access is used and when it ends."), true),
        (json!(["access_used"]), Some("when it ends."), true),
        (json!(["access_ended", "owner_access_ended"]), Some("when the access is used."), false),
        (json!(["access_used", "access_ended", "owner_access_ended"]), None, false),
    ];
    for (number, (muted, admin, owner)) in cases.into_iter().enumerate() {
        world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "muted_notices": muted })).await.ok();
        request["profile"]["id"] = json!(format!("emp-{number}"));
        let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
        portal.redeem(&world.click(&world.token(&link, 1).await).await).await.ok();
        let promised = async |kind: &str| {
            let text = eventually(kind, async || {
                let mails = world.mails.notices(kind).await.into_iter();
                mails.filter_map(|mail| mail["Text"].as_str().map(ToOwned::to_owned)).find(|text| text.contains(&link))
            });
            let text = text.await.split_whitespace().collect::<Vec<_>>().join(" ");
            text.split_once("You will hear again ").map(|(_, rest)| rest.to_owned())
        };
        let (to_admin, to_owner) = (promised("access_issued").await, promised("owner_access_used").await);
        assert_eq!(to_admin.is_some(), admin.is_some(), "{muted}: {to_admin:?}");
        let is_so = |words: &str| to_admin.as_ref().is_some_and(|promise| promise.starts_with(words));
        assert!(admin.is_none_or(is_so), "{muted}: {to_admin:?}");
        assert_eq!(to_owner.is_some_and(|promise| promise.starts_with("when it ends.")), owner, "{muted}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_decides_on_an_access_that_opens_later_reads_when(world: &World) {
    with_contacts(world).await;
    let policy = json!({ "approval": { "required_for": "always" } });
    world.admin.put("/v1/tenants/acme/policy", &policy).await.ok();
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!("hr@acme.example");
    request["starts_at"] = json!(world.clock.now().plus(Duration::hours(30)));
    let asked = world.admin.post(LINKS, &request).await.ok();
    assert_eq!(asked["state"], "pending", "{asked}");
    let text = notice(world, "approval_requested").await;
    for fact in ["Opens: ", "Length: 4 hours, from then on", "If approved before it opens, until: "] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
    assert!(!text.contains("at once"), "{text}");
}

// The provider is out of order for hours: what is read afterwards speaks of what has become of the access, and no mail says
// that a link was mailed which never left.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_waited_for_the_provider_is_true_when_it_is_read(world: &World) {
    with_contacts(world).await;
    world.admin.put("/v1/tenants/acme/policy", &json!({ "emergency": "allowed" })).await.ok();
    let portal = world.client(Some("cloud"), &["acme"], &OUTAGE_SCOPES).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!("hr@acme.example");
    request["profile"]["email"] = json!("asha@acme.example");
    let issue = async |profile: &str, emergency: bool| {
        let mut request = request.clone();
        request["profile"]["id"] = json!(profile);
        if emergency {
            request["duration"] = json!({ "value": 2, "unit": "hours" });
            request["emergency"] = json!({ "justification": "Salaries are paid in one hour" });
        }
        portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
    };
    let act =
        async |link: &str, what: &str, body: Value| portal.post(&format!("{LINKS}/{link}/{what}"), &body).await.ok();
    let longer = json!({ "duration": { "value": 1, "unit": "hours" }, "reason": "The run takes longer",
        "extended_by": { "id": "emp-8", "name": "Anil Rao", "email": "anil@acme.example" } });
    let why = json!({ "reason": "The ticket was closed" });
    let used = issue("emp-0", false).await;
    let token = world.token(&used, 1).await;
    notice(world, "access_issued").await;

    world.mails.misbehave(ResponseTemplate::new(503));
    let session = portal.redeem(&world.click(&token).await).await.ok();
    act(&used, "extend", longer.clone()).await;
    act(&used, "revoke", why.clone()).await;
    assert!(!portal.is_active(session["access_token"].as_str().unwrap()).await);
    let never = issue("emp-1", false).await;
    world.clock.advance(Duration::seconds(61));
    act(&never, "extend", longer).await;
    act(&never, "resend", json!({})).await;
    act(&never, "revoke", why.clone()).await;
    let urgent = issue("emp-2", true).await;
    act(&urgent, "revoke", why).await;
    let review =
        json!({ "reviewer": { "id": "emp-12", "name": "Nila Bose" }, "finding": "justified", "comment": "It is fine" });
    act(&urgent, "review", review).await;
    // As if no link had been on its way at the very moment of its end: that one may have left.
    let never_left = "UPDATE mail_jobs SET lease_until = NULL, unknown_attempts = 0 WHERE state = 'cancelled'";
    Sql::of(world).run(never_left).unwrap();
    // And none was written before all that.
    hold_mails(world).await;
    world.clock.advance(Duration::minutes(5));
    world.mails.behave();
    release_mails(world);
    let marker = issue("emp-3", false).await;
    // The worker's step is real, and a mail that has waited for days is given up.
    let later = async || {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        world.clock.advance(Duration::minutes(1));
    };
    let told = async |kind: &str, link: &str, says: &str| {
        let mail = eventually(kind, async || {
            later().await;
            let words = |mail: &Value| mail["Text"].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            let mails = world.mails.notices(kind).await.into_iter().filter(|mail| is_of_end(mail, link));
            mails.map(|mail| words(&mail)).find(|text| text.contains(says))
        });
        mail.await
    };
    for (kind, link, says) in [
        ("access_issued", &never, "No link to it was mailed. "),
        ("access_revoked", &never, "No link to it was mailed. "),
        ("access_withdrawn", &never, "no link to it was mailed."),
        ("access_revoked", &used, "Its link opens nothing any more"),
        ("owner_access_used", &used, "it has ended by now, and nobody was given your password."),
        ("emergency_issued", &urgent, "No link to it was mailed. "),
        ("emergency_issued", &urgent, "It was reviewed."),
        ("owner_emergency_issued", &urgent, "It has ended by now. No link to it was mailed."),
    ] {
        // Written after the end; the review is later still.
        let text = told(kind, link, says).await;
        for untrue in ["was mailed to", "is mailed", "may act", "by itself", "hear again", "has to review"] {
            let is_before = untrue == "has to review" && !says.contains("reviewed");
            assert!(is_before || !text.contains(untrue), "{kind}: {untrue}: {text}");
        }
    }
    world.token(&marker, 1).await;
    // Everything that waited has left, or never will.
    let open = format!(
        "FROM mail_jobs WHERE finished_at IS NULL AND magic_link_id IN ('{used}', '{never}', '{urgent}') \
        AND template NOT LIKE '%visits' AND template NOT LIKE '%ended'"
    );
    eventually("nothing waits", async || {
        later().await;
        (Sql::of(world).count(&open) == 0).then_some(())
    })
    .await;
    for kind in ["access_moved", "link_resent"] {
        for mail in world.mails.notices(kind).await {
            assert!(!is_of_end(&mail, &used) && !is_of_end(&mail, &never), "{mail}");
        }
    }
}

/// Whether a mail about a link was written when that had ended. One that was on its way before is another matter.
fn is_of_end(mail: &Value, link: &str) -> bool {
    let text = mail["Text"].as_str().unwrap();
    text.contains(link) && text.contains("Was granted until")
}

const OUTAGE_SCOPES: [&str; 7] = [
    "links:issue",
    "links:emergency",
    "links:approve",
    "links:read",
    "links:revoke",
    "sessions:redeem",
    "sessions:introspect",
];
