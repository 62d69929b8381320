//! Copies of the service on machines whose clocks differ.

use magic_link::clock::Clock;
use serde_json::json;
use time::Duration;

use crate::support::{Api, Database, SecondCopy, Settings, World, apply, code_of, on_both_databases};

/// One grant whose life passes from copy to copy: what one of them did is true for the other at once.
async fn life(world: &World, first: &Api, second: &Api) {
    let link = first.issue(&world.consultant().await).await;
    assert_eq!(second.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");
    let listed = second.get("/v1/magic-links?state=active&page_size=200").await.ok();
    assert!(listed["items"].as_array().unwrap().iter().any(|item| item["id"] == link.as_str()), "{listed}");
    let body = json!({ "token": world.token(&link, 1).await });
    assert_eq!(second.stranger().post("/l/preview", &body).await.ok()["state"], "ready");
    let code = code_of(&first.stranger().post("/l/continue", &body).await.ok());
    let session = second.redeem(&code).await.ok();
    let token = session["access_token"].as_str().unwrap();
    for copy in [first, second] {
        assert_eq!(copy.form("/v1/introspect", &[("token", token)]).await.ok()["active"], true);
    }
    let end = format!("/v1/sessions/{}/end", session["id"].as_str().unwrap());
    first.post(&end, &json!({})).await.ok();
    assert_eq!(second.form("/v1/introspect", &[("token", token)]).await.ok()["active"], false);
}

async fn passes_between_copies(world: &World, clock: Clock) {
    let portal = world.portal("cloud", "acme").await;
    let copy = SecondCopy::start(world, clock);
    let other = portal.at(&copy.base);
    for _ in 0..5 {
        life(world, &portal, &other).await;
        life(world, &other, &portal).await;
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_one_copy_began_has_begun_for_one_that_is_behind(world: &World) {
    // The first signing key has long been born for both.
    world.clock.advance(Duration::hours(1));
    passes_between_copies(world, Clock::manual(world.clock.now().minus(Duration::milliseconds(2_500)))).await;
}

#[test]
fn all_copies_share_the_clock_of_the_database() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        for minutes in [-90, 2, 600] {
            passes_between_copies(world, Clock::wrong_by(Duration::minutes(minutes))).await;
        }
    });
}

#[test]
fn a_machine_whose_clock_is_far_off_is_not_ready_and_says_by_how_much() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        for (seconds, ready) in [(-29, true), (-45, false), (29, true), (45, false)] {
            let copy = SecondCopy::start(world, Clock::wrong_by(Duration::seconds(seconds)));
            let reply = Api::new(&copy.base, None).get("/readyz").await;
            if ready {
                assert_eq!(reply.status, 200, "{reply:?}");
            } else {
                reply.refused(503, "unavailable");
                assert!(reply.body["detail"].as_str().unwrap().starts_with("clock: "), "{reply:?}");
            }
        }
    });
}

#[test]
fn nothing_is_erased_while_the_clock_is_in_doubt_whoever_orders_it() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
        let before = world.clock.now().minus(Duration::days(400));
        let purge = json!({ "before": before, "reason": "The contract has ended" });
        for (seconds, erases) in [(-3_600, false), (3_600, false), (1, true)] {
            let copy = SecondCopy::start(world, Clock::wrong_by(Duration::seconds(seconds)));
            let reply = world.admin.at(&copy.base).post("/v1/audit-log/acme/purges", &purge).await;
            if erases {
                reply.ok();
            } else {
                reply.refused(503, "unavailable");
                assert!(reply.body["detail"].as_str().unwrap().contains("the clock is in doubt"), "{reply:?}");
            }
        }
    });
}
