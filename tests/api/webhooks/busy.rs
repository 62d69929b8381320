//! Receivers that ask for time: nothing else is posted to them until it is over.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use super::delivery::{deliveries, path_of, test, tried};
use crate::support::{Message, Receiver, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

fn busy(status: u16) -> ResponseTemplate {
    ResponseTemplate::new(status).insert_header("retry-after", "120")
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn one_that_is_busy_hears_only_of_what_ends_an_access(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    for status in [429, 503] {
        let receiver = Receiver::start().await;
        receiver.answer(move |_| busy(status));
        let endpoint = receiver.endpoint_of(&portal).await;
        let first = portal.issue(&consultant).await;
        let refused = tried(&portal, &endpoint, 1).await;
        let (second, third) = (portal.issue(&consultant).await, portal.issue(&consultant).await);
        test(&portal, &endpoint).await;
        // Of two messages that are due the older one is sent first.
        for (revoked, told) in [(&second, 2), (&third, 3)] {
            portal.post(&format!("{LINKS}/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
            receiver.wait_for(told).await;
        }
        let told = receiver.messages().await;
        let kinds: Vec<&str> = told.iter().map(Message::kind).collect();
        assert_eq!(kinds, ["magic_link.issued", "magic_link.revoked", "magic_link.revoked"], "{status}");
        let list = deliveries(&portal, &endpoint).await;
        let held: Vec<&Value> = list.iter().filter(|one| one["attempts"] == 0).collect();
        assert_eq!(held.len(), 3, "{list:?}");
        for one in held {
            assert!(one["next_attempt_at"].as_str() >= refused["next_attempt_at"].as_str(), "{one}");
        }
        receiver.answer_with(202);
        world.clock.advance(Duration::seconds(121));
        let list = eventually("all is delivered", async || {
            let list = deliveries(&portal, &endpoint).await;
            list.iter().all(|one| one["state"] == "delivered").then_some(list)
        })
        .await;
        let attempts: Vec<&Value> = list.iter().map(|one| &one["attempts"]).collect();
        assert_eq!(attempts, [2, 2, 1, 1, 1, 2], "what was held back has lost no attempt");
        portal.post(&format!("{LINKS}/{first}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
        receiver.wait_for(9).await;
        portal.send(portal.request(reqwest::Method::DELETE, &path_of(&endpoint))).await;
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn another_receiver_and_an_endpoint_that_is_switched_on_are_called_at_once(world: &World) {
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    receiver.answer(|_| busy(429));
    let endpoint = receiver.endpoint_of(&world.admin).await;
    test(&world.admin, &endpoint).await;
    tried(&world.admin, &endpoint, 1).await;
    test(&world.admin, &endpoint).await;
    world.admin.patch(&path_of(&endpoint), &json!({ "url": other.url() })).await.ok();
    other.wait_for(1).await;

    other.answer(|_| busy(503));
    test(&world.admin, &endpoint).await;
    tried(&world.admin, &endpoint, 1).await;
    for state in ["disabled", "active"] {
        world.admin.patch(&path_of(&endpoint), &json!({ "state": state })).await.ok();
    }
    test(&world.admin, &endpoint).await;
    other.wait_for(3).await;
    assert_eq!(receiver.messages().await.len(), 1);
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_is_refused_by_itself_holds_no_other_back_nor_does_a_clock_that_was_ahead(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| busy(500));
    let endpoint = receiver.endpoint_of(&world.admin).await;
    test(&world.admin, &endpoint).await;
    tried(&world.admin, &endpoint, 1).await;
    receiver.answer_with(202);
    test(&world.admin, &endpoint).await;
    receiver.wait_for(2).await;
    let ahead = "UPDATE webhook_endpoints SET held_until = '2999-01-01 00:00:00.000000'";
    Sql::of(world).run(ahead).unwrap();
    test(&world.admin, &endpoint).await;
    receiver.wait_for(3).await;
}
