//! Notices that waited for the provider, about what was changed again meanwhile: the last one that leaves says what is so.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::links::changing::extension;
use crate::support::{Api, Settings, Sql, World, apply, eventually, hold_mails, on_both_databases, release_mails};

const LINKS: &str = "/v1/magic-links";

async fn with_contacts(world: &World) {
    let contacts = json!([{ "name": "Meera Iyer", "email": "meera@acme.example" }]);
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "contacts": contacts })).await.ok();
}

/// No mail leaves until [`goes_on`]; what was on its way has left.
async fn stops(world: &World) {
    let open = "FROM mail_jobs WHERE finished_at IS NULL AND state = 'sending'";
    eventually("nothing is on its way", async || (Sql::of(world).count(open) == 0).then_some(())).await;
    world.mails.misbehave(ResponseTemplate::new(503));
}

/// Mails leave again; returns the words of those of the kinds that left since, when none of them waits.
async fn goes_on(world: &World, kinds: &[&str]) -> Vec<(String, String)> {
    hold_mails(world).await;
    let before = world.mails.everything().await.len();
    world.mails.behave();
    release_mails(world);
    let named = kinds.iter().map(|kind| format!("'{kind}'")).collect::<Vec<_>>().join(", ");
    let waits = format!("FROM mail_jobs WHERE finished_at IS NULL AND template IN ({named})");
    eventually("none of them waits", async || {
        world.clock.advance(Duration::minutes(1));
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        (Sql::of(world).count(&waits) == 0).then_some(())
    })
    .await;
    let mails = world.mails.everything().await.into_iter().skip(before);
    let mails = mails.filter(|mail| kinds.iter().any(|kind| mail["Tags"][0] == *kind));
    let words =
        |mail: &Value, part: &str| mail[part].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    mails
        .map(|mail| {
            (mail["Tags"][0].as_str().unwrap().to_owned(), words(&mail, "Subject") + ": " + &words(&mail, "Text"))
        })
        .collect()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn of_several_new_ends_the_one_that_holds_is_told(world: &World) {
    with_contacts(world).await;
    let portal = world.portal("cloud", "acme").await;
    for is_longer_last in [false, true] {
        let mut request = Api::issue_request(&world.consultant().await);
        request["issued_by"]["email"] = json!("hr@acme.example");
        request["duration"] = json!({ "value": 10, "unit": "hours" });
        let link = portal.post(LINKS, &request).await.ok();
        let id = link["id"].as_str().unwrap().to_owned();
        world.token(&id, 1).await;
        stops(world).await;
        let path = |what: &str| format!("{LINKS}/{id}/{what}");
        let ends = json!({ "expires_at": world.clock.now().plus(Duration::hours(6)), "reason": "Too long after all" });
        for is_longer in [!is_longer_last, is_longer_last] {
            let (what, body) = if is_longer { ("extend", extension(5)) } else { ("shorten", ends.clone()) };
            portal.post(&path(what), &body).await.ok();
        }
        let told = goes_on(world, &["access_changed", "access_moved"]).await;
        let shown = portal.get(&format!("{LINKS}/{id}")).await.ok();
        let end = shown["expires_at"].as_str().unwrap();
        let hour = &end[11..16];
        for kind in ["access_changed", "access_moved"] {
            let told: Vec<&String> = told.iter().filter(|(one, _)| one == kind).map(|(_, text)| text).collect();
            assert_eq!(told.len(), 1, "{kind}: {told:?}");
            let valid = told[0].split_once("Valid until: ").unwrap().1;
            assert!(valid.split_once("UTC)").unwrap().0.contains(&format!("{hour} ")), "{kind}, {end}: {valid}");
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_address_that_was_changed_back_hears_that_it_is_the_registered_one(world: &World) {
    let registered = json!({ "name": "Nina Rao", "email": "nina@support.example" });
    let consultant = world.admin.post("/v1/consultants", &registered).await.ok();
    let path = format!("/v1/consultants/{}", consultant["id"].as_str().unwrap());
    stops(world).await;
    for email in ["nima@support.example", "Nina@support.example"] {
        world.admin.patch(&path, &json!({ "email": email })).await.ok();
    }
    let told = goes_on(world, &["address_changed"]).await;
    assert_eq!(told.len(), 2, "{told:?}");
    // Whoever is given an address for a moment gets its links: that is told all the same.
    let (back, left): (Vec<_>, Vec<_>) = told.iter().partition(|(_, text)| text.contains(", and changed back"));
    let (back, left) = (&back[0].1, &left[0].1);
    assert!(back.contains("They are sent to this one again. Registered address: nina"), "{told:?}");
    assert!(!back.contains("no longer") && !back.contains("New address"), "{told:?}");
    assert!(left.contains("are no longer sent to this address. Old address: nima"), "{told:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn rules_that_were_tightened_again_are_not_called_looser(world: &World) {
    with_contacts(world).await;
    let rule = |required: &str, weeks: i64| json!({ "approval": { "required_for": required }, "max_duration": { "value": weeks, "unit": "weeks" } });
    let policy = "/v1/tenants/acme/policy";
    world.admin.put(policy, &rule("always", 1)).await.ok();
    stops(world).await;
    world.admin.put(policy, &rule("none", 1)).await.ok();
    world.admin.put(policy, &rule("always", 1)).await.ok();
    // Whoever loosens the rules for a moment is told of all the same.
    let told = goes_on(world, &["policy_loosened"]).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let text = &told[0].1;
    assert!(!text.contains("allow more than before") && !text.contains("allows more than before"), "{text}");
    assert!(text.contains("allowed more than before for a while"), "{text}");
    assert!(text.contains("Access that waits for an approval: none (before: every one, by now: every one)"), "{text}");

    stops(world).await;
    world.admin.put(policy, &rule("none", 2)).await.ok();
    world.admin.put(policy, &rule("none", 1)).await.ok();
    let told = goes_on(world, &["policy_loosened"]).await;
    assert_eq!(told.len(), 1, "{told:?}");
    let text = &told[0].1;
    assert!(text.contains("allow more than before"), "{text}");
    assert!(text.contains("Access that waits for an approval: none (before: every one)"), "{text}");
    assert!(text.contains(", by now: "), "{text}");
}
