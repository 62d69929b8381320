//! Ending access from every side: by token, at the command line, with the client; and issuing no more.

use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, World, apply, command, on_both_databases};

fn cli(world: &World, arguments: &[&str]) -> Value {
    let output = command(world).args(arguments).arg("--json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[apply(on_both_databases)]
async fn a_token_is_revoked_by_its_own_portal_and_nobody_hears_more(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    let others = [world.portal("ess", "acme").await, world.portal("cloud", "globex").await];
    for (caller, token) in [(&others[0], token), (&others[1], token), (&portal, "garbage"), (&portal, "")] {
        let reply = caller.form("/v1/revoke", &[("token", token)]).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, ""));
    }
    assert!(portal.is_active(token).await, "nobody else can end it");
    for _ in 0..2 {
        assert_eq!(
            portal.form("/v1/revoke", &[("token", token), ("token_type_hint", "access_token")]).await.status,
            200
        );
        assert!(!portal.is_active(token).await);
    }
    let seen = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!(seen["end_cause"], "revoked");
    let trail = portal.events("&type=session.ended").await;
    assert_eq!((trail.len(), &trail[0]["actor"]["id"]), (1, &json!(portal.client_id)));
}

#[apply(on_both_databases)]
async fn whoever_asks_for_it_gets_a_signed_introspection(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    let ask = async |token: &str| {
        let request = portal.request(Method::POST, "/v1/introspect").form(&[("token", token)]);
        portal.send(request.header("accept", "application/token-introspection+jwt")).await
    };
    let reply = ask(token).await;
    assert_eq!(reply.header("content-type"), "application/token-introspection+jwt");
    for (accept, kind) in [
        ("application/token-introspection+jwt;q=0, application/json", "application/json"),
        ("application/token-introspection+jwt;q=0.1, application/json", "application/json"),
        ("application/json;q=0.5, Application/Token-Introspection+JWT", "application/token-introspection+jwt"),
        ("application/json, application/token-introspection+jwt, application/problem+json", "application/json"),
        ("*/*", "application/json"),
        ("application/token-introspection+jwt;q=0.1, */*", "application/json"),
        ("application/token-introspection+jwt;q=0, */*;q=0", "application/json"),
        ("application/*;q=0.9, application/token-introspection+jwt;q=0.2", "application/json"),
        ("application/token-introspection+jwt;q=0.5, application/*;q=0.4, */*", "application/token-introspection+jwt"),
        (
            "application/token-introspection+jwt;q=0.5, application/json;q=0.1, */*",
            "application/token-introspection+jwt",
        ),
        ("application/token-introspection+jwt, */*", "application/token-introspection+jwt"),
        ("application/token-introspection+jwt;q=0.5, text/*", "application/token-introspection+jwt"),
    ] {
        let request = portal.request(Method::POST, "/v1/introspect").form(&[("token", "x")]);
        let reply = portal.send(request.header("accept", accept)).await;
        assert_eq!(reply.header("content-type"), kind, "{accept}");
    }
    let header = jsonwebtoken::decode_header(&reply.text).unwrap();
    assert_eq!(header.typ.as_deref(), Some("token-introspection+jwt"));
    let set: jsonwebtoken::jwk::JwkSet =
        serde_json::from_value(world.stranger().get("/.well-known/jwks.json").await.ok()).unwrap();
    let key = DecodingKey::from_jwk(set.find(header.kid.as_deref().unwrap()).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.set_audience(&[&portal.client_id]);
    validation.set_issuer(&["http://127.0.0.1:8080"]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.validate_exp = false;
    let claims = jsonwebtoken::decode::<Value>(&reply.text, &key, &validation).unwrap().claims;
    let plain = portal.form("/v1/introspect", &[("token", token)]).await.ok();
    assert_eq!(claims["token_introspection"], plain);
    assert!(claims.get("exp").is_none() && claims.get("sub").is_none());
    // It is an answer and no token.
    assert!(!portal.is_active(&reply.text).await);
    let claims = jsonwebtoken::decode::<Value>(&ask("garbage").await.text, &key, &validation).unwrap().claims;
    assert_eq!(claims["token_introspection"], json!({ "active": false }));
}

#[apply(on_both_databases)]
async fn operators_list_and_end_sessions_at_the_command_line(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (id, token) = (session["id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let listed = cli(world, &["session", "list", "--tenant", "acme", "--state", "active"]);
    assert_eq!((&listed["items"][0]["id"], listed["items"].as_array().unwrap().len()), (&session["id"], 1));
    assert!(portal.is_active(token).await);
    let ended = cli(world, &["session", "revoke", id]);
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("revoked")));
    assert!(!portal.is_active(token).await);
    assert_eq!(portal.get(&format!("/v1/sessions/{id}")).await.ok(), ended);
    let link = portal.get(&format!("/v1/magic-links/{}", session["magic_link_id"].as_str().unwrap())).await.ok();
    assert_eq!(link["state"], "active", "the link stays as it is");
}

#[apply(on_both_databases)]
async fn what_a_disabled_client_issued_goes_with_it_if_that_is_asked_for(world: &World) {
    let (one, other) = (world.portal("cloud", "acme").await, world.portal("cloud", "acme").await);
    let consultant = world.consultant().await;
    let kept = other.issue(&consultant).await;
    let session = world.open_session(&one).await;
    let link = session["magic_link_id"].as_str().unwrap();
    let state = async |link: &str| other.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone();
    let disable = format!("/v1/clients/{}/disable", one.client_id);
    world.admin.post(&disable, &json!({})).await.ok();
    assert_eq!(state(link).await, "active", "only if that is asked for");
    let disabled = cli(world, &["client", "disable", &one.client_id, "--revoke-links"]);
    assert_eq!(disabled["state"], "disabled");
    assert_eq!(state(link).await, "revoked");
    assert!(!other.is_active(session["access_token"].as_str().unwrap()).await);
    assert_eq!(state(&kept).await, "active", "another client's");
    let trail = world.admin.events("&tenant_id=_system&type=client.disabled").await;
    // Two processes, two clocks: the order is not what matters.
    let mut revoked: Vec<_> = trail.iter().map(|event| event["data"]["revoked_links"].as_i64().unwrap()).collect();
    revoked.sort_unstable();
    assert_eq!(revoked, [0, 1]);
    world.admin.post(&disable, &json!({ "revoke_links": true })).await.ok();
    assert_eq!(world.admin.events("&tenant_id=_system&type=client.disabled").await.len(), 2, "nothing was left");
}

#[apply(on_both_databases)]
async fn while_issuing_is_frozen_nothing_is_issued_and_everything_else_goes_on(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let request = Api::issue_request(&consultant);
    let before = portal.post_once("/v1/magic-links", "before", &request).await.ok();
    let frozen = cli(world, &["freeze", "--reason", "Somebody issues links in our name"]);
    assert_eq!(frozen["frozen"], true);
    assert_eq!(cli(world, &["freeze", "--reason", "Once more"])["reason"], frozen["reason"], "again changes nothing");
    portal.post("/v1/magic-links", &request).await.refused(409, "issuing_frozen");
    // What was issued before can still be asked for, and used.
    let replay = portal.post_once("/v1/magic-links", "before", &request).await.ok();
    assert_eq!(replay["id"], before["id"]);
    let code = world.click(&world.token(before["id"].as_str().unwrap(), 1).await).await;
    portal.redeem(&code).await.ok();
    assert_eq!(cli(world, &["unfreeze"])["frozen"], false);
    portal.issue(&consultant).await;
    let kinds: Vec<String> = world.admin.event_types("&tenant_id=_system").await;
    let own: Vec<&String> = kinds.iter().filter(|kind| kind.starts_with("issuing.")).collect();
    assert_eq!(own, ["issuing.frozen", "issuing.unfrozen"]);
}
