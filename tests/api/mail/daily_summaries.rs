//! Of a link that is used day by day its admin and the profile's owner hear once a day.

use serde_json::json;
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, mails_have_left, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// Opens the portal with the newest of so many mails, and says that the work is done.
async fn visit(world: &World, portal: &Api, link: &str, mails: usize) {
    let session = portal.redeem(&world.click(&world.token(link, mails).await).await).await.ok();
    let done = json!({ "consultant_done": true, "sources": {} });
    portal.post(&format!("/v1/sessions/{}/end", session["id"].as_str().unwrap()), &done).await.ok();
}

/// Waits for so many notices of this kind; how many visits the newest tells of.
async fn visits_told(world: &World, kind: &str, count: usize) -> usize {
    let newest = eventually(kind, async || {
        let mut notices = world.mails.notices(kind).await;
        (notices.len() == count).then(|| notices.pop().unwrap())
    })
    .await;
    newest["Text"].as_str().unwrap().matches("Opened: ").count()
}

#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::config("links.resend_cool_down_seconds = 0") })]
async fn visits_after_the_first_one_are_told_once_a_day(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": 5, "unit": "days" });
    request["profile"]["email"] = json!("asha.rao@acme.example");
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    // A resend would cancel a mail that has not left.
    world.token(&link, 1).await;
    // The next midnight is what a day ends with.
    let rest = 86_400 - world.clock.now().unix_seconds().rem_euclid(86_400);
    world.clock.advance(Duration::seconds(rest + 60));
    portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.ok();
    visit(world, &portal, &link, 2).await;
    assert_eq!(
        (visits_told(world, "access_ended", 1).await, visits_told(world, "owner_access_ended", 1).await),
        (1, 1)
    );
    for (day, visits) in [(1, 2), (2, 1)] {
        for _ in 0..visits {
            world.clock.advance(Duration::minutes(5));
            let mails = world.mails.about(&link).await.len() + 1;
            portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.ok();
            visit(world, &portal, &link, mails).await;
        }
        for kind in ["access_visits", "owner_access_visits"] {
            assert_eq!(world.mails.notices(kind).await.len(), day - 1, "not before the day is over");
        }
        world.clock.advance(Duration::days(1) + Duration::minutes(15));
        for kind in ["access_visits", "owner_access_visits"] {
            assert_eq!(visits_told(world, kind, day).await, visits, "day {day}");
        }
    }
    for kind in ["access_ended", "owner_access_ended", "access_used", "owner_access_used"] {
        assert_eq!(world.mails.notices(kind).await.len(), 1, "{kind}");
    }
}

/// Lets time pass until the next day has begun.
fn to_the_next_day(world: &World) {
    let rest = 86_400 - world.clock.now().unix_seconds().rem_euclid(86_400);
    world.clock.advance(Duration::seconds(rest + 60));
}

/// A link for days, whose first visit was told of by itself.
async fn visited(world: &World, portal: &Api) -> String {
    let mut request = Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": 5, "unit": "days" });
    let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    visit(world, portal, &link, 1).await;
    visits_told(world, "access_ended", 1).await;
    link
}

/// Has another mail sent.
async fn another_mail(world: &World, portal: &Api, link: &str) -> usize {
    world.clock.advance(Duration::seconds(1));
    let mails = world.mails.about(link).await.len() + 1;
    portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.ok();
    mails
}

/// Waits until no mail is due.
async fn settled(portal: &Api, ended: usize) {
    eventually("every end is on record", async || {
        (portal.events("&type=session.ended").await.len() == ended).then_some(())
    })
    .await;
    mails_have_left(portal).await;
}

fn many() -> Settings {
    let lines = "limits.mails_per_recipient_hour = 1000\nlinks.resend_cool_down_seconds = 0";
    Settings { manual_clock: true, ..Settings::config(lines) }
}

#[apply(on_both_databases)]
#[settings(many())]
async fn a_day_with_many_visits_says_how_many_it_leaves_out(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = visited(world, &portal).await;
    to_the_next_day(world);
    for _ in 0..23 {
        let mails = another_mail(world, &portal, &link).await;
        visit(world, &portal, &link, mails).await;
    }
    world.clock.advance(Duration::days(1) + Duration::minutes(15));
    assert_eq!(visits_told(world, "access_visits", 1).await, 20);
    let told = world.mails.notices("access_visits").await;
    assert!(told[0]["Text"].as_str().unwrap().contains("More visits on that day: 3"), "{}", told[0]["Text"]);
}

#[apply(on_both_databases)]
#[settings(many())]
async fn a_visit_whose_end_is_found_out_late_is_told_once(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = visited(world, &portal).await;
    to_the_next_day(world);
    let mails = another_mail(world, &portal, &link).await;
    visit(world, &portal, &link, mails).await;
    let mails = another_mail(world, &portal, &link).await;
    portal.redeem(&world.click(&world.token(&link, mails).await).await).await.ok();
    // It runs out in the day, and nobody looks before the next one.
    world.clock.advance(Duration::days(1) + Duration::minutes(16));
    settled(&portal, 3).await;
    assert_eq!(visits_told(world, "access_visits", 1).await, 2);
    assert_eq!(visits_told(world, "access_ended", 1).await, 1);
}

#[apply(on_both_databases)]
#[settings(many())]
async fn a_tenant_that_moves_to_another_time_zone_hears_of_each_visit_once(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let zone = async |zone: &str| {
        world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "time_zone": zone })).await.ok()
    };
    zone("UTC").await;
    let link = visited(world, &portal).await;
    to_the_next_day(world);
    let mails = another_mail(world, &portal, &link).await;
    visit(world, &portal, &link, mails).await;
    // The evening in UTC is the next day in India.
    zone("Asia/Kolkata").await;
    for hours in [19, 6] {
        world.clock.advance(Duration::hours(hours));
        let mails = another_mail(world, &portal, &link).await;
        visit(world, &portal, &link, mails).await;
    }
    world.clock.advance(Duration::days(1));
    settled(&portal, 4).await;
    let mut told = 0;
    for mail in world.mails.notices("access_visits").await {
        told += mail["Text"].as_str().unwrap().matches("Opened: ").count();
    }
    assert_eq!(told, 3, "the first one was told by itself");
}
