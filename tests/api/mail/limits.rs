//! Nobody can flood a mailbox: limits on mailed links that the caller sees.

use serde_json::json;
use time::Duration;

use crate::support::{Api, Reply, Settings, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// With these limits and a clock that the test moves.
fn limited(limits: &str) -> Settings {
    Settings { config: limits.to_owned(), ..Settings::manual_clock() }
}

/// The seconds after which a refused call may be repeated.
fn wait(reply: &Reply, code: &str) -> i64 {
    reply.refused(429, code);
    reply.header("retry-after").parse().expect("seconds")
}

#[apply(on_both_databases)]
#[settings(limited("limits.fresh_links_per_recipient_hour = 5"))]
async fn a_link_is_mailed_afresh_further_and_further_apart(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let resend = async |link: &str| portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await;
    for expected in [60, 120, 240, 480, 960] {
        let seconds = wait(&resend(&link).await, "resend_cool_down");
        assert!((expected..=expected + 1).contains(&seconds), "{seconds} for {expected}");
        world.clock.advance(Duration::seconds(expected));
        assert_eq!(resend(&link).await.status, 202, "after {expected} seconds");
    }
    world.clock.advance(Duration::minutes(29));
    assert!(wait(&resend(&link).await, "resend_cool_down") > 1, "five within the hour");
    world.clock.advance(Duration::hours(1));
    assert_eq!(resend(&link).await.status, 202);
    assert_eq!(world.admin.events("&type=magic_link.resent").await.len(), 6);
}

#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_tenant_day = 3"))]
async fn a_tenant_has_so_many_links_a_day(world: &World) {
    for tenant in ["acme", "globex"] {
        world.admin.put(&format!("/v1/tenants/{tenant}"), &json!({ "name": tenant })).await.ok();
    }
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let issue = async |tenant: &str| {
        let mut request = Api::issue_request(&consultant);
        request["tenant_id"] = json!(tenant);
        world.admin.post(LINKS, &request).await
    };
    for _ in 0..3 {
        portal.issue(&consultant).await;
    }
    let until_midnight = 86_400 - world.clock.now().unix_seconds() % 86_400;
    assert_eq!(wait(&issue("acme").await, "rate_limited"), until_midnight);
    assert_eq!(issue("globex").await.status, 201);
    assert_eq!(world.admin.get(&format!("{LINKS}?tenant_id=acme")).await.ok()["items"].as_array().unwrap().len(), 3);
    world.clock.advance(Duration::seconds(until_midnight));
    assert_eq!(issue("acme").await.status, 201);
}

#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_client_minute = 4"))]
async fn a_client_has_so_many_links_a_minute(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let other = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    for _ in 0..4 {
        portal.issue(&consultant).await;
    }
    let refused = portal.post(LINKS, &Api::issue_request(&consultant)).await;
    assert!((1..=60).contains(&wait(&refused, "rate_limited")), "{refused:?}");
    other.issue(&consultant).await;
    assert_eq!(world.admin.events("&type=magic_link.issued").await.len(), 5);
}
