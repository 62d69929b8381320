//! Receivers that speak CAEP: security event tokens that anybody can verify with our public keys.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{Api, Message, Receiver, World, apply, eventually, on_both_databases};

const REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const VERIFICATION: &str = "https://schemas.openid.net/secevent/ssf/event-type/verification";

async fn endpoint(receiver: &Receiver, client: &Api, audience: Option<&str>) -> Value {
    let mut request = json!({ "url": receiver.url(), "format": "caep" });
    if let Some(audience) = audience {
        request["audience"] = audience.into();
    }
    client.post("/v1/webhook-endpoints", &request).await.ok()
}

/// The claims of a token, after its signature was verified with the published keys.
async fn verified(world: &World, message: &Message, audience: &str) -> Value {
    assert_eq!(message.content_type, "application/secevent+jwt");
    let keys: JwkSet = serde_json::from_value(world.stranger().get("/.well-known/jwks.json").await.ok()).unwrap();
    let header = jsonwebtoken::decode_header(&message.text).unwrap();
    assert_eq!((header.typ.as_deref(), header.alg), (Some("secevent+jwt"), Algorithm::ES256));
    let key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_exp = false;
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.set_issuer(&["http://127.0.0.1:8080"]);
    validation.set_audience(&[audience]);
    let claims: Value = jsonwebtoken::decode(&message.text, &key, &validation).unwrap().claims;
    assert_eq!(claims["jti"], message.id.as_str());
    assert!(claims.get("exp").is_none() && claims.get("sub").is_none() && claims["iat"].is_i64(), "{claims}");
    claims
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_session_that_ends_before_its_time_is_told_as_a_security_event(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let hook = endpoint(&receiver, &portal, Some("https://portal.example")).await;
    assert_eq!((&hook["events"], &hook["audience"]), (&json!(["session.ended"]), &json!("https://portal.example")));
    let (one, other) = (world.open_session(&portal).await, world.open_session(&portal).await);
    let path = format!("/v1/magic-links/{}/revoke", one["magic_link_id"].as_str().unwrap());
    let request = json!({ "reason": "The laptop was stolen", "requested_by": { "id": "emp-7", "name": "Meera Iyer" } });
    portal.post(&path, &request).await.ok();
    let revoked = receiver.wait_for(1).await.swap_remove(0);
    let claims = verified(world, &revoked, "https://portal.example").await;
    assert_eq!(
        claims["sub_id"],
        json!({
            "format": "complex",
            "session": { "format": "opaque", "id": one["id"] },
            "user": { "format": "iss_sub", "iss": "http://127.0.0.1:8080", "sub": "emp-1042" },
            "tenant": { "format": "opaque", "id": "acme" },
        })
    );
    let event = &claims["events"][REVOKED];
    assert_eq!((&event["initiating_entity"], &event["reason_admin"]), (&json!("admin"), &json!({ "en": "revoked" })));
    assert_eq!(event["event_timestamp"], claims["iat"]);
    let trail = portal.events("&type=session.ended").await;
    assert_eq!(claims["txn"], trail[0]["id"]);
    assert_eq!(event["sequence"].as_i64(), trail[0]["log_index"].as_i64().map(|index| index + 1));
    for name in ["Ravi", "Meera", "stolen"] {
        assert!(!claims.to_string().contains(name), "{claims}");
    }

    portal
        .post(&format!("/v1/sessions/{}/end", other["id"].as_str().unwrap()), &json!({ "consultant_done": true }))
        .await
        .ok();
    let done = receiver.wait_for(2).await.swap_remove(1);
    let claims = verified(world, &done, "https://portal.example").await;
    assert_eq!(claims["events"][REVOKED]["initiating_entity"], "user");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_session_that_runs_out_was_not_revoked(world: &World) {
    let (receiver, plain) = (Receiver::start().await, Receiver::start().await);
    let portal = world.portal("cloud", "acme").await;
    let hook = endpoint(&receiver, &portal, None).await;
    let request = json!({ "url": plain.url(), "events": ["session.ended"] });
    portal.post("/v1/webhook-endpoints", &request).await.ok();
    world.open_session(&portal).await;
    world.clock.advance(time::Duration::hours(5));
    assert_eq!(plain.wait_for(1).await[0].body["data"]["cause"], "expired");
    let path = format!("/v1/webhook-endpoints/{}/deliveries", hook["id"].as_str().unwrap());
    assert_eq!(portal.get(&path).await.ok(), json!({ "items": [] }));
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_test_is_a_verification_event(world: &World) {
    let receiver = Receiver::start().await;
    let hook = endpoint(&receiver, &world.admin, None).await;
    let id = hook["id"].as_str().unwrap();
    world.admin.post(&format!("/v1/webhook-endpoints/{id}/test"), &json!({})).await.ok();
    let message = receiver.wait_for(1).await.swap_remove(0);
    let claims = verified(world, &message, &receiver.url()).await;
    let event = &claims["events"][VERIFICATION];
    assert_eq!((&event["state"], event.get("sequence")), (&json!(message.id), None));
    assert_eq!(claims["sub_id"], json!({ "format": "opaque", "id": id }));
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn what_a_receiver_refuses_for_good_is_not_sent_again(world: &World) {
    let receiver = Receiver::start().await;
    let hook = endpoint(&receiver, &world.admin, None).await;
    let path = format!("/v1/webhook-endpoints/{}", hook["id"].as_str().unwrap());
    let settled = async |what: &str| {
        world.admin.post(&format!("{path}/test"), &json!({})).await.ok();
        eventually(what, async || {
            let newest = world.admin.get(&format!("{path}/deliveries")).await.ok()["items"][0].clone();
            newest.get("last_error").is_some().then_some(newest)
        })
        .await
    };
    let refusal = json!({ "err": "invalid_key", "description": "The key is not one of yours" });
    receiver.answer(move |_| ResponseTemplate::new(400).set_body_json(&refusal));
    let seen = settled("it is refused").await;
    assert_eq!((&seen["state"], &seen["last_error"]), (&json!("failed"), &json!("400: invalid_key")));
    receiver.answer(|_| ResponseTemplate::new(400).set_body_string("what is that?"));
    let seen = settled("it is not understood").await;
    assert_eq!((&seen["state"], &seen["last_error"]), (&json!("queued"), &json!("400")));
    receiver.answer_with(200);
    let seen = settled("it is taken in the wrong way").await;
    assert_eq!(seen["last_error"], "200, where a security event is taken with 202");
}
