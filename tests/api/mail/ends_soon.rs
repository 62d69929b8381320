//! What is told about the beginning and the end of an access: early enough, once, and only while it is true.

use serde_json::{Value, json};
use time::Duration;

use crate::links::changing::extension;
use crate::support::{Api, Settings, World, apply, eventually, mails_have_left, on_both_databases};

const LINKS: &str = "/v1/magic-links";

async fn issue(world: &World, portal: &Api, (value, unit): (i64, &str)) -> Value {
    let mut request = Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": value, "unit": unit });
    portal.post(LINKS, &request).await.ok()
}

/// The notices of an end that were sent, by kind and link, once the worker has looked at the present moment.
async fn told(world: &World, portal: &Api) -> Vec<(String, String)> {
    // A link that expires now is recorded by the same step, before the announcements.
    let marker = issue(world, portal, (1, "hours")).await;
    let marker = marker["id"].as_str().unwrap().to_owned();
    portal.post(&format!("{LINKS}/{marker}/revoke"), &json!({ "reason": "A marker" })).await.ok();
    mails_have_left(portal).await;
    let mut told = Vec::new();
    for kind in ["access_ends_soon", "access_runs_out"] {
        for mail in world.mails.notices(kind).await {
            let text = mail["Text"].as_str().unwrap();
            let link = text.split("Reference ").nth(1).unwrap().split_whitespace().next().unwrap();
            told.push((kind.to_owned(), link.to_owned()));
        }
    }
    told
}

/// Waits until both are told of the end of a link.
async fn both_told(world: &World, portal: &Api, link: &Value) {
    eventually("both are told", async || {
        let told = told(world, portal).await;
        (told.iter().filter(|(_, about)| link["id"] == about.as_str()).count() == 2).then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_end_of_an_access_is_told_shortly_before_and_of_a_long_one_a_day_before(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (short, long) = (issue(world, &portal, (4, "hours")).await, issue(world, &portal, (3, "days")).await);
    world.clock.advance(Duration::hours(4) - Duration::minutes(15));
    both_told(world, &portal, &short).await;
    let to: Vec<Value> = world.mails.notices("access_ends_soon").await;
    assert_eq!(to[0]["To"][0]["Email"], "hr@acme.example");
    assert_eq!(told(world, &portal).await.len(), 2, "the long one has time");
    world.clock.advance(Duration::days(2) - Duration::hours(4) + Duration::minutes(15));
    both_told(world, &portal, &long).await;
    world.clock.advance(Duration::days(1) - Duration::minutes(5));
    assert_eq!(told(world, &portal).await.len(), 4, "once each");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_end_that_was_moved_is_told_again_and_one_that_was_brought_forward_is_not(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (moved, revoked) = (issue(world, &portal, (2, "hours")).await, issue(world, &portal, (2, "hours")).await);
    let path = |link: &Value, what: &str| format!("{LINKS}/{}/{what}", link["id"].as_str().unwrap());
    portal.post(&path(&revoked, "revoke"), &json!({ "reason": "The work is done" })).await.ok();
    world.clock.advance(Duration::minutes(106));
    both_told(world, &portal, &moved).await;
    portal.post(&path(&moved, "extend"), &extension(1)).await.ok();
    world.clock.advance(Duration::hours(1));
    eventually("the new end is told, too", async || (told(world, &portal).await.len() == 4).then_some(())).await;
    let told = told(world, &portal).await;
    assert!(told.iter().all(|(_, link)| moved["id"] == link.as_str()), "{told:?}");
}

// The day before has begun when the end is moved: nothing but the quarter of an hour is left to tell it.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_window_that_becomes_long_shortly_before_its_end_is_told_of_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (becomes, stays) = (issue(world, &portal, (47, "hours")).await, issue(world, &portal, (3, "days")).await);
    world.clock.advance(Duration::hours(46));
    portal.post(&format!("{LINKS}/{}/extend", becomes["id"].as_str().unwrap()), &extension(2)).await.ok();
    assert_eq!(told(world, &portal).await, [], "its end is three hours away");
    world.clock.advance(Duration::hours(2) + Duration::minutes(50));
    both_told(world, &portal, &becomes).await;
    both_told(world, &portal, &stays).await;
    world.clock.advance(Duration::hours(23));
    assert_eq!(told(world, &portal).await.len(), 4, "once each");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_scheduled_link_that_is_mailed_again_is_announced_again_and_arrives_when_it_opens(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["starts_at"] = json!(world.clock.now().plus(Duration::days(2)));
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let announced = async |count: usize| {
        eventually("it is announced", async || {
            (world.mails.notices("access_announced").await.len() == count).then_some(())
        })
        .await;
    };
    announced(1).await;
    world.clock.advance(Duration::hours(3));
    let answer = portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.ok();
    assert_eq!(answer["delivery"]["state"], "queued");
    announced(2).await;
    let told = eventually("the admin", async || world.mails.notices("link_resent").await.into_iter().next()).await;
    assert!(told["Text"].as_str().unwrap().contains("when the access opens"), "{told}");
    assert!(world.mails.about(&link).await.is_empty(), "not before");
    world.clock.advance(Duration::days(2) - Duration::hours(3));
    let token = world.token(&link, 1).await;
    portal.redeem(&world.click(&token).await).await.ok();
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_scheduled_access_is_announced_at_once_and_its_link_arrives_when_it_opens(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["starts_at"] = json!(world.clock.now().plus(Duration::days(2)));
    let link = portal.post(LINKS, &request).await.ok();
    let id = link["id"].as_str().unwrap();
    let announced =
        eventually("it is announced", async || world.mails.notices("access_announced").await.into_iter().next()).await;
    assert!(announced["To"][0]["Email"].as_str().unwrap().starts_with("ravi."), "{announced}");
    let issued =
        eventually("the admin is told", async || world.mails.notices("access_issued").await.into_iter().next()).await;
    assert!(issued["Text"].as_str().unwrap().contains("when the access opens"), "{issued}");
    assert!(announced["Text"].as_str().unwrap().contains("Opens: ") && !announced.to_string().contains("eyJ"));
    world.clock.advance(Duration::days(2) - Duration::seconds(1));
    let other = portal.issue(&world.consultant().await).await;
    world.mails.wait_for(&other, 1).await;
    assert!(world.mails.about(id).await.is_empty(), "not before");
    world.clock.advance(Duration::seconds(1));
    let token = world.token(id, 1).await;
    portal.redeem(&world.click(&token).await).await.ok();
}

/// What a link's notice of its end advises, in one line.
pub(super) async fn advice(world: &World, kind: &str, link: &str) -> [String; 2] {
    let mail = eventually(kind, async || {
        let mails = world.mails.notices(kind).await;
        mails.into_iter().find(|mail| mail["Text"].as_str().unwrap().contains(link))
    });
    let mail = mail.await;
    ["Text", "HTML"].map(|part| mail[part].as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" "))
}

// What is advised is what the API does: of each access that cannot be extended it says so.
#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::config("links.max_duration_hours = 72") })]
async fn nobody_is_told_to_extend_what_cannot_be_extended(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let rules = json!({ "emergency": "allowed" });
    let policy = "/v1/tenants/acme/policy";
    world.admin.put(policy, &rules).await.ok();
    let scopes = ["links:issue", "links:emergency", "links:read", "links:revoke"];
    let portal = world.client(Some("cloud"), &["acme"], &scopes).await;
    let of_length = async |hours: i64, more: Value| {
        let mut request = Api::issue_request(&world.consultant().await);
        request["duration"] = json!({ "value": hours, "unit": "hours" });
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
    };
    let urgent = json!({ "emergency": { "justification": "Salaries are paid in one hour" },
        "profile": { "id": "emp-2", "name": "Asha Rao" } });
    let none = json!({});
    // Each ends at the same time: a quarter of an hour after what is looked at.
    let whole = of_length(72, json!({ "profile": { "id": "emp-3", "name": "Asha Rao" } })).await;
    world.clock.advance(Duration::hours(68));
    let urgent = of_length(4, urgent).await;
    let usual = of_length(4, none).await;
    let read_only = json!({ "access": "read_only", "profile": { "id": "emp-4", "name": "Asha Rao" } });
    let narrowed = of_length(4, read_only).await;
    // By now the policy would not let the usual one be issued as it is.
    let rules = json!({ "emergency": "allowed", "access_allowed": ["read_only"] });
    for (moment, links) in [
        (Duration::hours(3) + Duration::minutes(46), vec![(&urgent, false), (&usual, false), (&narrowed, true)]),
        (Duration::ZERO, vec![(&whole, false)]),
    ] {
        world.admin.put(policy, &rules).await.ok();
        world.clock.advance(moment);
        for (link, may_be_extended) in links {
            for part in advice(world, "access_ends_soon", link).await {
                assert_eq!(part.contains("extend it in the portal before it has ended"), may_be_extended, "{part}");
                assert_eq!(part.contains("cannot be extended"), !may_be_extended, "{part}");
            }
            for part in advice(world, "access_runs_out", link).await {
                assert_eq!(part.contains("ask whoever granted it before it has ended"), may_be_extended, "{part}");
                assert_eq!(part.contains("cannot be extended"), !may_be_extended, "{part}");
            }
            let extended = portal.post(&format!("{LINKS}/{link}/extend"), &extension(1)).await;
            assert_eq!(extended.status.is_success(), may_be_extended, "{extended:?}");
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn while_nothing_is_granted_nobody_is_told_to_extend_or_to_grant(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(world, &portal, (4, "hours")).await;
    let freeze = json!({ "frozen": true, "reason": "Somebody issues links" });
    world.admin.put("/v1/issuing", &freeze).await.ok();
    world.clock.advance(Duration::hours(4) - Duration::minutes(14));
    for (kind, end) in [("access_ends_soon", "It ends by itself."), ("access_runs_out", "ends with it.")] {
        for part in advice(world, kind, link["id"].as_str().unwrap()).await {
            assert!(part.contains(end), "{part}");
            for advised in ["extend", "more time", "granted again"] {
                assert!(!part.contains(advised), "{kind}: {advised}: {part}");
            }
        }
    }
}
