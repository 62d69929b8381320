//! Copies of the service on machines whose clocks differ.

use magic_link::clock::{Clock, Timestamp};
use serde_json::json;
use time::Duration;

use crate::support::{
    Api, Database, SecondCopy, Settings, Sql, World, apply, code_of, command, eventually, on_both_databases,
};

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

#[apply(on_both_databases)]
#[settings(Settings { clock_behind: Duration::days(430), ..Settings::manual_clock() })]
async fn a_clock_that_jumps_a_year_ahead_erases_nothing(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let issue = async || world.admin.post_once("/v1/magic-links", "once", &request).await.ok();
    let issued = issue().await;
    let link = format!("/v1/magic-links/{}", issued["id"].as_str().unwrap());
    world.admin.post(&format!("{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    let delays = async || world.admin.events("&tenant_id=_system&type=retention.delayed").await.len();
    let maintain = |options: &[&str]| command(world).arg("maintain").args(options).output().unwrap();
    let purge =
        |now: Timestamp| json!({ "before": now.minus(Duration::days(401)), "reason": "The contract has ended" });

    let seen = "FROM service_state WHERE time_seen_at IS NOT NULL";
    eventually("an hourly run", async || (Sql::of(world).count(seen) == 1).then_some(())).await;

    // The machine of a second copy, and of the command line, is a year ahead of all that is known. It stays so for a while.
    for _ in 0..2 {
        let copy = SecondCopy::start(world, Clock::System);
        eventually("the run is put off", async || (delays().await == 1).then_some(())).await;
        let reply = world.admin.at(&copy.base).post("/v1/audit-log/acme/purges", &purge(Clock::System.now())).await;
        reply.refused(503, "unavailable");
        assert!(reply.body["detail"].as_str().unwrap().contains("the clock has jumped"), "{reply:?}");
        let refused = maintain(&[]);
        assert!(
            !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--clock-is-right"),
            "{refused:?}"
        );
    }
    assert_eq!(world.admin.get(&link).await.ok()["reason"], issued["reason"]);
    assert_eq!(issue().await["id"], issued["id"], "what was said with the key is remembered");

    // A year has passed, in which the service ran.
    world.clock.advance(Duration::days(427));
    let seen = "FROM service_state WHERE time_jumped_at IS NULL";
    eventually("an hourly run", async || (Sql::of(world).count(seen) == 1).then_some(())).await;
    let done = maintain(&[]);
    assert!(done.status.success(), "{done:?}");
    assert!(world.admin.get(&link).await.ok()["erased_at"].is_string());
    assert_eq!(delays().await, 1);
}

#[apply(on_both_databases)]
#[settings(Settings { clock_behind: Duration::days(430), ..Settings::manual_clock() })]
async fn an_operator_says_that_the_clock_is_right_after_a_year_of_silence(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let link = world.admin.issue(&world.consultant().await).await;
    world.admin.post(&format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    let seen = "FROM service_state WHERE time_seen_at IS NOT NULL";
    eventually("an hourly run", async || (Sql::of(world).count(seen) == 1).then_some(())).await;
    assert!(!command(world).arg("maintain").output().unwrap().status.success());
    let done = command(world).args(["maintain", "--clock-is-right"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["erased_at"].is_string());
}

#[apply(on_both_databases)]
#[settings(Settings { config: "audit.erase_in_service = false".into(), ..Settings::manual_clock() })]
async fn a_service_that_leaves_erasing_to_a_command_looks_at_the_time_all_the_same(world: &World) {
    let mut sql = Sql::of(world);
    let mut seen =
        || sql.texts("SELECT CAST(time_seen_at AS TEXT) AS text FROM service_state WHERE time_seen_at IS NOT NULL");
    let first = eventually("a look", async || seen().pop()).await;
    world.clock.advance(Duration::hours(2));
    eventually("another one", async || seen().pop().filter(|later| *later > first)).await;
}
