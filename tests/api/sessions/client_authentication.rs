//! How clients authenticate at introspection and revocation, the way that OAuth's libraries do it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Reply, World, apply, on_both_databases};

const ENDPOINTS: [&str; 2] = ["/v1/introspect", "/v1/revoke"];

/// Every character as an escape.
fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat()
}

async fn basic(stranger: &Api, path: &str, pair: &str) -> Reply {
    let request = stranger.request(Method::POST, path).form(&[("token", "x")]);
    stranger.send(request.header("authorization", format!("Basic {}", STANDARD.encode(pair)))).await
}

#[apply(on_both_databases)]
async fn basic_credentials_are_decoded_once_after_the_first_colon(world: &World) {
    let (client, stranger) = (world.portal("cloud", "acme").await, world.stranger());
    let (id, key) = (client.client_id.as_str(), client.key());
    for path in ENDPOINTS {
        for pair in
            [format!("{id}:{key}"), format!("{}:{}", escaped(id), escaped(key)), format!("{id}:{}", escaped(key))]
        {
            assert_eq!(basic(&stranger, path, &pair).await.status, 200, "{path} {pair}");
        }
        for pair in [
            format!("{id}:{}", escaped(&escaped(key))),
            format!("{id}%3A{key}"),
            format!("{id}::{key}"),
            format!("{id}:{key}%00"),
            format!("{id}:{key}+"),
            format!("{id}:{key}&x=y"),
        ] {
            let reply = basic(&stranger, path, &pair).await;
            reply.refused(401, "unauthenticated");
            assert_eq!(reply.body["error"], "invalid_client", "{pair}");
        }
    }
    // The same everywhere else.
    let pair = STANDARD.encode(format!("{}:{}", escaped(id), escaped(key)));
    let request = stranger.request(Method::GET, "/v1/magic-links").header("authorization", format!("Basic {pair}"));
    assert_eq!(stranger.send(request).await.status, 200);
}

#[apply(on_both_databases)]
async fn a_client_may_send_its_key_in_the_form_of_these_two_endpoints_only(world: &World) {
    let (client, stranger) = (world.portal("cloud", "acme").await, world.stranger());
    let session = world.open_session(&client).await;
    let token = session["access_token"].as_str().unwrap();
    let credentials = [("client_id", client.client_id.as_str()), ("client_secret", client.key())];
    let form = [("token", token), credentials[0], credentials[1]];
    assert_eq!(stranger.form("/v1/introspect", &form).await.ok()["active"], true);
    assert_eq!(stranger.form("/v1/revoke", &form).await.status, 200);
    assert_eq!(stranger.form("/v1/introspect", &form).await.ok()["active"], false);

    // Nowhere else, and in no other way.
    stranger
        .post("/v1/sessions", &json!({ "client_id": client.client_id, "client_secret": client.key() }))
        .await
        .refused(401, "unauthenticated");
    stranger.form("/v1/sessions", &form).await.refused(401, "unauthenticated");
    let query = format!("client_id={}&client_secret={}", client.client_id, client.key());
    for path in ENDPOINTS {
        let reply = stranger.form(&format!("{path}?{query}"), &[("token", token)]).await;
        reply.refused(400, "invalid_query");
        assert_eq!(reply.body["error"], "invalid_request");
        assert!(!reply.text.contains(client.key()));
        let body = json!({ "token": token, "client_id": client.client_id, "client_secret": client.key() });
        stranger.post(path, &body).await.refused(401, "unauthenticated");
        let other = world.portal("cloud", "acme").await;
        for (id, secret) in [
            (client.client_id.as_str(), other.key()),
            (other.client_id.as_str(), client.key()),
            (client.client_id.as_str(), "x"),
        ] {
            let reply = stranger.form(path, &[("token", token), ("client_id", id), ("client_secret", secret)]).await;
            reply.refused(401, "unauthenticated");
            assert_eq!(reply.body["error"], "invalid_client");
        }
    }
}

#[apply(on_both_databases)]
async fn credentials_in_two_places_or_twice_are_no_valid_request(world: &World) {
    let (client, stranger) = (world.portal("cloud", "acme").await, world.stranger());
    let (id, key) = (client.client_id.as_str(), client.key());
    let assert_invalid = |reply: &Reply| {
        reply.refused(400, "invalid_request");
        assert_eq!(reply.body["error"], "invalid_request", "{reply:?}");
        assert!(!reply.text.contains(key) && !reply.text.contains("hidden"), "{reply:?}");
    };
    for path in ENDPOINTS {
        let both = [("token", "hidden"), ("client_id", id), ("client_secret", key)];
        assert_invalid(&client.form(path, &both).await);
        let request = stranger.request(Method::POST, path).basic_auth(id, Some(key)).form(&both);
        assert_invalid(&stranger.send(request).await);
        let request =
            stranger.request(Method::POST, path).bearer_auth(key).bearer_auth(key).form(&[("token", "hidden")]);
        assert_invalid(&stranger.send(request).await);
        for twice in [
            [("client_id", id), ("client_secret", key), ("client_secret", key)],
            [("client_id", id), ("client_secret", key), ("client_id", id)],
            [("client_id", id), ("client_secret", key), ("client_secret", "hidden")],
        ] {
            assert_invalid(&stranger.form(path, &twice).await);
        }
        // Nor is any other parameter taken twice; who is not authenticated hears of neither.
        for name in ["token_type_hint", "colour", "token"] {
            let twice = [("token", "hidden"), (name, "hidden"), (name, "x")];
            let reply = client.form(path, &twice).await;
            reply.refused(400, "invalid_body");
            assert!(reply.body["error"] == "invalid_request" && !reply.text.contains("hidden"), "{reply:?}");
            stranger.form(path, &twice).await.refused(401, "unauthenticated");
        }
        assert_invalid(&stranger.form(path, &[("client_secret", key), ("token", "hidden")]).await);
        assert_invalid(&client.form(path, &[("client_id", "cli_hidden"), ("token", "x")]).await);
        // A client may name itself beside its header, and what is empty was left out.
        for named in [("client_id", id), ("client_secret", ""), ("client_id", "")] {
            assert_eq!(client.form(path, &[("token", "x"), named]).await.status, 200);
        }
    }
}

#[apply(on_both_databases)]
async fn errors_carry_the_code_of_oauth_and_never_what_was_sent(world: &World) {
    let (client, reader) = (world.portal("cloud", "acme").await, world.client(None, &["acme"], &["links:read"]).await);
    for path in ENDPOINTS {
        for (reply, status, error) in [
            (world.stranger().form(path, &[("token", "hidden")]).await, 401, "invalid_client"),
            (reader.form(path, &[("token", "hidden")]).await, 403, "insufficient_scope"),
            (client.form(path, &[("hidden", "hidden")]).await, 400, "invalid_request"),
            (client.form(path, &[("token", "hidden"), ("token", "hidden")]).await, 400, "invalid_request"),
            (client.post(path, &json!({ "token": "hidden" })).await, 415, "invalid_request"),
            (client.get(path).await, 405, "invalid_request"),
        ] {
            assert_eq!((reply.status.as_u16(), &reply.body["error"]), (status, &json!(error)), "{path}: {reply:?}");
            assert!(!reply.text.contains("hidden"), "{reply:?}");
        }
    }
    assert!(client.get("/v1/clients").await.body.get("error").is_none(), "elsewhere there is no such member");
    for path in ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"] {
        let discovery = world.stranger().get(path).await.ok();
        let methods = json!(["client_secret_basic", "client_secret_post"]);
        assert_eq!(discovery["introspection_endpoint_auth_methods_supported"], methods);
        assert_eq!(discovery["revocation_endpoint_auth_methods_supported"], methods);
        assert_eq!(discovery["introspection_signing_alg_values_supported"], json!(["ES256"]));
        assert_eq!(discovery["grant_types_supported"], json!([]));
    }
}
