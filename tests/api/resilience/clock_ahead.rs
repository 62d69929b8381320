//! A clock that was ahead for a while, and was set right: what it put off does not wait until that time has come.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::device::careful;
use crate::support::{
    Api, Database, Receiver, Settings, Sql, World, apply, eventually, folder, on_both_databases, stored,
};

const LEAD: Duration = Duration::days(3);

/// Access that outlasts the lead.
async fn issue(portal: &Api, consultant: &str) -> String {
    let mut request = Api::issue_request(consultant);
    request["duration"] = json!({ "value": 2, "unit": "weeks" });
    portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

async fn delivery(portal: &Api, link: &str, wished: impl Fn(&Value) -> bool) -> Value {
    eventually("the mail", async || {
        let delivery = portal.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone();
        wished(&delivery).then_some(delivery)
    })
    .await
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_mail_that_was_tried_or_leased_then_leaves(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let [tried, leased, begins_later] =
        [issue(&portal, &consultant).await, issue(&portal, &consultant).await, issue(&portal, &consultant).await];
    for link in [&tried, &leased, &begins_later] {
        delivery(&portal, link, |seen| seen["state"] == "queued" && seen["attempts"] == 1).await;
    }
    world.clock.advance(LEAD);
    delivery(&portal, &tried, |seen| seen["state"] == "queued" && seen["attempts"] == 2).await;
    let (ahead, later) = (stored(world.clock.now()), stored(world.clock.now().plus(Duration::HOUR)));
    Sql::of(world)
        .run(&format!(
            "UPDATE mail_jobs SET lease_until = '{ahead}' WHERE magic_link_id = '{leased}'; \
             UPDATE magic_links SET starts_at = '{later}' WHERE id = '{begins_later}'; \
             UPDATE mail_jobs SET next_attempt_at = '{later}' WHERE magic_link_id = '{begins_later}'"
        ))
        .unwrap();
    // Its notices are queued then.
    let over = issue(&portal, &consultant).await;
    portal.post(&format!("/v1/magic-links/{over}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    world.clock.advance(-LEAD);
    world.mails.behave();
    for link in [&tried, &leased] {
        delivery(&portal, link, |seen| {
            world.clock.advance(Duration::seconds(1));
            seen["state"] == "accepted"
        })
        .await;
    }
    let notices = "FROM mail_jobs WHERE finished_at IS NULL AND template <> 'magic_link'";
    eventually("every notice leaves", async || {
        // One that the provider refused a moment ago waits a little.
        world.clock.advance(Duration::seconds(1));
        (Sql::of(world).count(notices) == 0).then_some(())
    })
    .await;
    let waits = portal.get(&format!("/v1/magic-links/{begins_later}")).await.ok()["delivery"].clone();
    assert_eq!(waits["state"], "queued", "its access has not begun: {waits}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_fresh_link_waits_for_none_that_was_mailed_then(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let link = issue(&portal, &consultant).await;
    let resend = format!("/v1/magic-links/{link}/resend");
    world.token(&link, 1).await;
    world.clock.advance(LEAD);
    for count in 2..=4 {
        portal.post(&resend, &json!({})).await.ok();
        world.token(&link, count).await;
        world.clock.advance(Duration::minutes(10));
    }
    world.clock.advance(-LEAD - Duration::minutes(29));
    portal.post(&resend, &json!({})).await.ok();
    world.token(&link, 5).await;
    portal.post(&resend, &json!({})).await.refused(429, "resend_cool_down");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_waits_for_none_that_was_mailed_then(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(&portal, &world.consultant().await).await;
    let body = json!({ "token": world.token(&link, 1).await });
    let page = world.stranger();
    world.clock.advance(Duration::hours(5));
    page.post("/l/continue", &body).await.ok();
    world.clock.advance(-Duration::hours(5));
    page.post("/l/continue", &body).await.ok();
    page.post("/l/continue", &body).await.refused(429, "resend_cool_down");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_message_that_was_tried_then_arrives(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    receiver.endpoint_of(&portal).await;
    receiver.answer_with(500);
    let consultant = world.consultant().await;
    issue(&portal, &consultant).await;
    receiver.wait_for(1).await;
    let waits = "FROM webhook_deliveries WHERE finished_at IS NULL";
    let under_way = format!("{waits} AND lease_until IS NOT NULL");
    let is_settled = async || (Sql::of(world).count(&under_way) == 0).then_some(());
    eventually("the attempt is over", is_settled).await;
    world.clock.advance(LEAD);
    issue(&portal, &consultant).await;
    receiver.wait_for(3).await;
    eventually("the attempts are over", is_settled).await;
    world.clock.advance(-LEAD);
    receiver.answer_with(202);
    eventually("all arrive", async || (Sql::of(world).count(waits) == 0).then_some(())).await;
}

fn checkpoints_go_on(database: Database) {
    let outside = folder(&format!("ahead-{database:?}"));
    let config = format!("audit.checkpoint_folder = '{}'", outside.display());
    World::run(database, &Settings { config, ..Settings::manual_clock() }, async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let size = || -> usize {
            let kept = std::fs::read_to_string(outside.join("acme.checkpoint")).unwrap_or_default();
            kept.lines().nth(1).and_then(|line| line.parse().ok()).unwrap_or(0)
        };
        world.clock.advance(LEAD);
        issue(&portal, &consultant).await;
        eventually("one is kept", async || (size() > 0).then_some(())).await;
        world.clock.advance(-LEAD);
        let before = size();
        issue(&portal, &consultant).await;
        eventually("the next one is kept", async || (size() > before).then_some(())).await;
    });
}

#[test]
fn checkpoints_are_signed_and_kept_on_sqlite() {
    checkpoints_go_on(Database::Sqlite);
}

#[test]
fn checkpoints_are_signed_and_kept_on_postgres() {
    checkpoints_go_on(Database::Postgres);
}
