//! Callers without a right key.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Reply, Settings, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// Calls with this Authorization header.
async fn with_header(world: &World, header: &str) -> Reply {
    let stranger = world.stranger();
    stranger.send(stranger.request(Method::GET, LINKS).header("authorization", header)).await
}

#[track_caller]
fn assert_unauthenticated(reply: &Reply) {
    reply.refused(401, "unauthenticated");
    let challenges: Vec<_> = reply.headers.get_all("www-authenticate").iter().collect();
    assert!(challenges.iter().any(|challenge| challenge.to_str().unwrap().starts_with("Bearer ")), "{challenges:?}");
    assert!(reply.body.get("detail").is_none(), "never why: {}", reply.text);
}

#[apply(on_both_databases)]
async fn only_the_whole_key_opens(world: &World) {
    let client = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let other = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let (key, other_key) = (client.key(), other.key());
    assert_eq!(with_header(world, &format!("Bearer {key}")).await.status, 200);
    assert_eq!(with_header(world, &format!("bearer {key}")).await.status, 200);

    let mut wrong: Vec<String> = [1, 5, 10, 31, 32, key.len() - 1].map(|cut| key.split_at(cut).0.to_owned()).to_vec();
    wrong.extend([1, 5, key.len() - 43].map(|cut| key.split_at(cut).1.to_owned()));
    let (front, _) = key.rsplit_once('_').unwrap();
    let (_, other_secret) = other_key.rsplit_once('_').unwrap();
    wrong.push(format!("{front}_{other_secret}"));
    wrong.push(format!("{front}_"));
    wrong.push(format!("{key}x"));
    wrong.push(key.to_uppercase());
    wrong.push(format!("{key},{key}"));
    wrong.push(client.client_id.clone());
    for key in wrong {
        assert_unauthenticated(&with_header(world, &format!("Bearer {key}")).await);
    }
    let raw = format!("Token {key}");
    for header in ["Bearer", "Bearer ", key, raw.as_str(), "Basic", "Basic !", "Basic Og=="] {
        assert_unauthenticated(&with_header(world, header).await);
    }
    let stranger = world.stranger();
    let twice = stranger.request(Method::GET, LINKS).bearer_auth(key).bearer_auth(key);
    assert_unauthenticated(&stranger.send(twice).await);
    let in_the_query = stranger.get(&format!("{LINKS}?api_key={key}")).await;
    assert!(in_the_query.status.is_client_error() && !in_the_query.text.contains(key));
}

#[apply(on_both_databases)]
async fn basic_takes_the_clients_own_id_with_its_own_key(world: &World) {
    let client = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let other = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let stranger = world.stranger();
    let basic = async |id: &str, key: Option<&str>| {
        stranger.send(stranger.request(Method::GET, LINKS).basic_auth(id, key)).await
    };
    assert_eq!(basic(&client.client_id, Some(client.key())).await.status, 200);
    for (id, key) in [
        (client.client_id.as_str(), Some(other.key())),
        (other.client_id.as_str(), Some(client.key())),
        ("", Some(client.key())),
        (client.key(), None),
        (client.client_id.as_str(), None),
        ("cli_01kaq3v9e8fwmvd2x7n0c5hb4z", Some(client.key())),
    ] {
        assert_unauthenticated(&basic(id, key).await);
    }
}

#[apply(on_both_databases)]
async fn what_the_service_signs_is_no_api_key(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    let session = portal.redeem(&code).await.ok();
    for token in [token.as_str(), code.as_str(), session["access_token"].as_str().unwrap()] {
        assert_unauthenticated(&with_header(world, &format!("Bearer {token}")).await);
    }
}

#[apply(on_both_databases)]
async fn a_disabled_client_is_shut_out_for_good(world: &World) {
    let client = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let path = format!("/v1/clients/{}", client.client_id);
    assert_eq!(client.get(LINKS).await.status, 200);
    let disabled = world.admin.post(&format!("{path}/disable"), &json!({})).await.ok();
    assert_eq!(disabled["state"], "disabled");
    assert!(disabled.get("key").is_none());
    assert_unauthenticated(&client.get(LINKS).await);
    assert_unauthenticated(&client.post(LINKS, &Api::issue_request(&consultant)).await);
    // Again changes nothing; a new key does not bring it back.
    let again = world.admin.post(&format!("{path}/disable"), &json!({})).await.ok();
    assert_eq!(again, disabled);
    world.admin.post(&format!("{path}/rotate"), &json!({})).await.refused(409, "client_disabled");
    assert_eq!(world.admin.events("&type=client.disabled").await.len(), 1);
    assert!(world.admin.events("&type=client.rotated").await.is_empty(), "what was refused did not happen");
    assert!(world.admin.events("&type=magic_link.issued").await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_old_key_lives_as_long_as_the_overlap_and_no_longer(world: &World) {
    let client = world.client(None, &["*"], &["links:read"]).await;
    let rotate = format!("/v1/clients/{}/rotate", client.client_id);
    for overlap in [json!(-1), json!(2_592_001), json!(i64::MAX), json!(i64::MIN)] {
        world.admin.post(&rotate, &json!({ "overlap_seconds": overlap })).await.refused_field("/overlap_seconds");
    }
    let rotated = world.admin.post(&rotate, &json!({ "overlap_seconds": 3600 })).await.ok();
    let second = Api::new(&world.base, Some(rotated["key"].as_str().unwrap()));
    assert_ne!(second.key(), client.key());
    world.clock.advance(Duration::seconds(3599));
    assert_eq!((client.get(LINKS).await.status.as_u16(), second.get(LINKS).await.status.as_u16()), (200, 200));
    world.clock.advance(Duration::seconds(1));
    assert_unauthenticated(&client.get(LINKS).await);
    assert_eq!(second.get(LINKS).await.status, 200);

    // Nobody cuts off the key that somebody was told of, but who says so.
    let of = |reply: Value| Api::new(&world.base, Some(reply["key"].as_str().unwrap()));
    let lost = world.admin.post(&rotate, &json!({ "overlap_seconds": 3600 })).await.ok();
    let told = lost["previous_key_expires_at"].clone();
    world.clock.advance(Duration::seconds(600));
    world.admin.post(&rotate, &json!({ "overlap_seconds": 60 })).await.refused(409, "overlap_running");
    let both = json!({ "newest_lost": true, "overlap_seconds": 0 });
    world.admin.post(&rotate, &both).await.refused_field("/overlap_seconds");
    let again = world.admin.post(&rotate, &json!({ "newest_lost": true })).await.ok();
    assert_eq!(again["previous_key_expires_at"], told);
    assert_unauthenticated(&of(lost).get(LINKS).await);
    world.clock.advance(Duration::seconds(2999));
    assert_eq!(
        (second.get(LINKS).await.status.as_u16(), of(again.clone()).get(LINKS).await.status.as_u16()),
        (200, 200)
    );
    world.clock.advance(Duration::seconds(1));
    assert_unauthenticated(&second.get(LINKS).await);
    let second = of(again);

    // Without an overlap the old key ends at once, and the one before it does not come back.
    let rotated = world.admin.post(&rotate, &json!({})).await.ok();
    let third = Api::new(&world.base, Some(rotated["key"].as_str().unwrap()));
    assert_unauthenticated(&second.get(LINKS).await);
    assert_unauthenticated(&client.get(LINKS).await);
    assert_eq!(third.get(LINKS).await.status, 200);
    assert_eq!(world.admin.events("&type=client.rotated").await.len(), 4);
    let trail = serde_json::to_string(&world.admin.events("").await).unwrap();
    for key in [client.key(), second.key(), third.key()] {
        assert!(!trail.contains(key), "no key is in the trail");
    }
}

#[apply(on_both_databases)]
async fn a_client_that_lacks_the_scope_is_told_which(world: &World) {
    let client = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let consultant = world.consultant().await;
    let reply = client.post(LINKS, &Api::issue_request(&consultant)).await;
    reply.refused(403, "insufficient_scope");
    assert!(reply.text.contains("links:issue"));
    let refusals = world.admin.events("&tenant_id=_system&type=access.refused").await;
    assert_eq!(refusals.len(), 1);
    assert_eq!(refusals[0]["client_id"], client.client_id.as_str());
    assert_eq!(refusals[0]["data"]["code"], "insufficient_scope");
    assert_eq!(world.admin.get(LINKS).await.ok()["items"], json!([]));
    assert!(world.admin.events("&type=magic_link.issued").await.is_empty());
}

#[apply(on_both_databases)]
async fn of_rotations_at_once_one_begins_an_overlap(world: &World) {
    let client = world.client(None, &["*"], &["links:read"]).await;
    world.admin.rotated_once(&format!("/v1/clients/{}/rotate", client.client_id)).await;
    assert_eq!(world.admin.events("&type=client.rotated").await.len(), 1);
    assert_eq!(client.get(LINKS).await.status, 200, "as was told");
}
