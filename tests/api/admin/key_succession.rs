//! Whatever operators do with signing keys, one signs now and one will sign, as long as nobody does anything.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Settings, World, apply, command, on_both_databases};

async fn keys(world: &World) -> Vec<Value> {
    world.admin.get("/v1/keys").await.ok()["items"].as_array().unwrap().clone()
}

fn kid_in(keys: &[Value], state: &str) -> Option<String> {
    keys.iter().find(|key| key["state"] == state).map(|key| key["kid"].as_str().unwrap().to_owned())
}

/// One key signs, and one that signs for good is there.
async fn goes_on(world: &World, after: &str) {
    let keys = keys(world).await;
    assert!(kid_in(&keys, "active").is_some(), "{after}: {keys:?}");
    let for_good = |key: &&Value| key.get("expires_at").is_none() && key.get("retired_at").is_none();
    assert_eq!(keys.iter().filter(for_good).count(), 1, "{after}: {keys:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_key_before_signs_for_good_where_the_next_one_never_does(world: &World) {
    let first = kid_in(&keys(world).await, "active").unwrap();
    for verb in ["revoke", "retire"] {
        world.admin.post("/v1/keys/rotate", &json!({})).await.ok();
        let next = kid_in(&keys(world).await, "published").unwrap();
        let body = if verb == "revoke" { json!({ "reason": "Made by mistake" }) } else { json!({}) };
        world.admin.post(&format!("/v1/keys/{next}/{verb}"), &body).await.ok();
        goes_on(world, verb).await;
    }
    world.clock.advance(Duration::days(70));
    goes_on(world, "70 days").await;
    assert_eq!(kid_in(&keys(world).await, "active"), Some(first));
}

#[apply(on_both_databases)]
async fn without_the_master_key_the_next_key_begins_when_the_last_one_is_revoked(world: &World) {
    let first = kid_in(&keys(world).await, "active").unwrap();
    world.admin.post("/v1/keys/rotate", &json!({})).await.ok();
    let next = kid_in(&keys(world).await, "published").unwrap();
    let mut revoke = command(world);
    revoke.env_remove("MAGIC_LINK_MASTER_KEY").args(["key", "revoke", &first, "--reason", "It leaked"]);
    let done = revoke.output().unwrap();
    assert!(done.status.success(), "{done:?}");
    goes_on(world, "the brake").await;
    assert_eq!(kid_in(&keys(world).await, "active"), Some(next));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn no_more_keys_are_published_than_are_described_and_all_of_them_are_listed(world: &World) {
    let rotate = async || {
        world.clock.advance(Duration::seconds(1));
        world.admin.post("/v1/keys/rotate", &json!({})).await
    };
    let first = kid_in(&keys(world).await, "active");
    for _ in 1..100 {
        rotate().await.ok();
    }
    let full = async || {
        let refused = rotate().await;
        refused.refused(429, "rate_limited");
        assert_eq!(world.stranger().get("/.well-known/jwks.json").await.ok()["keys"].as_array().unwrap().len(), 100);
        refused.header("retry-after").parse::<i64>().unwrap()
    };
    full().await;
    // One that is revoked makes room, and takes none in the list from those that are published.
    let newest = keys(world).await[0]["kid"].as_str().unwrap().to_owned();
    let reason = json!({ "reason": "Made by mistake" });
    assert_eq!(world.admin.post(&format!("/v1/keys/{newest}/revoke"), &reason).await.ok()["state"], "expired");
    rotate().await.ok();
    let wait = full().await;
    let listed = keys(world).await;
    assert_eq!((listed.len(), kid_in(&listed, "expired"), kid_in(&listed, "active")), (100, None, first));
    let times: Vec<&str> = listed.iter().map(|key| key["created_at"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|one, next| one > next), "{times:?}");
    // So does the first one that expires.
    world.clock.advance(Duration::seconds(wait));
    rotate().await.ok();
    goes_on(world, "the wait").await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_year_of_any_orders_leaves_a_key_that_signs(world: &World) {
    // The same orders each time: a small generator of numbers (Knuth's).
    let mut state: u64 = 20_261_127;
    let mut number = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let end = world.clock.now().plus(Duration::days(365));
    while world.clock.now() < end {
        let known = keys(world).await;
        let any =
            known[usize::try_from(number(known.len().min(5) as u64)).unwrap()]["kid"].as_str().unwrap().to_owned();
        let (path, body) = match number(6) {
            0 | 1 => ("/v1/keys/rotate".to_owned(), json!({ "at_once": number(2) == 0 })),
            2 | 3 => (format!("/v1/keys/{any}/retire"), json!({})),
            4 => (format!("/v1/keys/{any}/revoke"), json!({ "reason": "Any order" })),
            _ => ("/v1/keys/rotate".to_owned(), json!({})),
        };
        let reply = world.admin.post(&path, &body).await;
        assert!(reply.status.is_success() || reply.body["code"] == "last_signing_key", "{path}: {reply:?}");
        goes_on(world, &path).await;
        let hours = i64::try_from(number(3)).unwrap() * 11 + i64::try_from(number(20)).unwrap() * 12;
        world.clock.advance(Duration::hours(hours));
        goes_on(world, "some hours").await;
    }
}
