//! Portals that verify by themselves: signature by the JWK set, and the bit of the session in its status list.

use std::collections::BTreeSet;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::ZlibDecoder;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Value, json};

use crate::support::{Api, Process, Reply, Settings, Sql, World, apply, on_both_databases};

/// A verifier who has read the draft and nothing of ours.
struct Verifier<'w> {
    world: &'w World,
    stranger: Api,
}

impl<'w> Verifier<'w> {
    fn new(world: &'w World, base: &str) -> Self {
        Self { world, stranger: world.stranger().at(base) }
    }

    /// The claims of a token whose signature holds.
    async fn verified(&self, token: &str, kind: &str) -> Value {
        let header = decode_header(token).unwrap();
        assert_eq!(header.typ.as_deref(), Some(kind));
        let set: JwkSet = serde_json::from_value(self.stranger.get("/.well-known/jwks.json").await.ok()).unwrap();
        let key = DecodingKey::from_jwk(set.find(&header.kid.unwrap()).expect("a published key")).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_aud = false;
        validation.validate_exp = false;
        decode::<Value>(token, &key, &validation).unwrap().claims
    }

    /// Where the access token says its status is.
    async fn place(&self, access_token: &str) -> (String, usize) {
        let claims = self.verified(access_token, "at+jwt").await;
        let place = &claims["status"]["status_list"];
        (place["uri"].as_str().unwrap().to_owned(), usize::try_from(place["idx"].as_u64().unwrap()).unwrap())
    }

    async fn fetch(&self, uri: &str) -> Reply {
        let path = uri.strip_prefix("http://127.0.0.1:8080").expect("an address below the issuer");
        self.stranger.get(path).await
    }

    /// The bit that the list has for the token.
    async fn is_over(&self, access_token: &str) -> bool {
        let (uri, place) = self.place(access_token).await;
        let reply = self.fetch(&uri).await;
        assert_eq!(reply.header("content-type"), "application/statuslist+jwt");
        let list = self.verified(&reply.text, "statuslist+jwt").await;
        assert_eq!((list["sub"].as_str(), &list["ttl"]), (Some(uri.as_str()), &json!(60)));
        let now = self.world.clock.now().unix_seconds();
        assert!(list["iat"].as_i64().unwrap() <= now && now < list["exp"].as_i64().unwrap());
        assert_eq!(list["status_list"]["bits"], 1);
        let compressed = URL_SAFE_NO_PAD.decode(list["status_list"]["lst"].as_str().unwrap()).unwrap();
        let mut bytes = Vec::new();
        ZlibDecoder::new(compressed.as_slice()).read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 65_536 / 8);
        bytes[place / 8] >> (place % 8) & 1 == 1
    }
}

#[apply(on_both_databases)]
async fn a_session_that_ends_by_any_cause_shows(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let verifier = Verifier::new(world, &world.base);
    let mut sessions = Vec::new();
    for _ in 0..7 {
        sessions.push(world.open_session(&portal).await);
    }
    let token = |number: usize| sessions[number]["access_token"].as_str().unwrap().to_owned();
    let link = |number: usize| sessions[number]["magic_link_id"].as_str().unwrap().to_owned();
    for number in 0..7 {
        assert!(!verifier.is_over(&token(number)).await, "{number}");
    }
    let end = format!("/v1/sessions/{}/end", sessions[0]["id"].as_str().unwrap());
    portal.post(&end, &json!({})).await.ok();
    let reason = json!({ "reason": "The work is done" });
    portal.post(&format!("/v1/magic-links/{}/revoke", link(1)), &reason).await.ok();
    portal.form("/v1/revoke", &[("token", &token(2))]).await;
    let consultant = sessions[3]["consultant"]["id"].as_str().unwrap();
    world.admin.post(&format!("/v1/consultants/{consultant}/suspend"), &reason).await.ok();
    let consultant = sessions[4]["consultant"]["id"].as_str().unwrap();
    let order = json!({ "consultant_id": consultant, "reason": "A laptop was stolen" });
    portal.post("/v1/revocations", &order).await.ok();
    // Replaced by the next visit.
    Sql::of(world).run("UPDATE magic_links SET resent_at = NULL, created_at = '2026-01-01 00:00:00.000000'").unwrap();
    portal.post(&format!("/v1/magic-links/{}/resend", link(5)), &json!({})).await.ok();
    let code = world.click(&world.token(&link(5), 2).await).await;
    let next = portal.redeem(&code).await.ok();
    for number in 0..6 {
        assert!(verifier.is_over(&token(number)).await, "{number}");
    }
    assert!(!verifier.is_over(&token(6)).await);
    assert!(!verifier.is_over(next["access_token"].as_str().unwrap()).await);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_whose_end_was_moved_forward_is_over_from_then_on(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (cut, other) = (world.open_session(&portal).await, world.open_session(&portal).await);
    let token = |session: &Value| session["access_token"].as_str().unwrap().to_owned();
    let verifier = Verifier::new(world, &world.base);
    let link = cut["magic_link_id"].as_str().unwrap();
    let end = world.clock.now().plus(time::Duration::seconds(90));
    let shorten = json!({ "expires_at": end, "reason": "The work was done sooner" });
    portal.post(&format!("/v1/magic-links/{link}/shorten"), &shorten).await.ok();
    world.clock.advance(time::Duration::seconds(80));
    // Signed a moment before: its age alone would let it be given out for another minute.
    assert!(!verifier.is_over(&token(&cut)).await);
    world.clock.advance(time::Duration::seconds(10));
    let seen = portal.form("/v1/introspect", &[("token", &token(&cut))]).await.ok();
    assert_eq!(seen["active"], false);
    // Whether or not a worker has recorded the end by now.
    assert!(verifier.is_over(&token(&cut)).await);
    assert!(!verifier.is_over(&token(&other)).await);
}

#[apply(on_both_databases)]
async fn what_is_taken_away_by_hand_shows(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let verifier = Verifier::new(world, &world.base);
    for statement in [
        "UPDATE magic_links SET revoked_at = '2026-11-22 10:00:00.000000'",
        "UPDATE consultants SET suspended_at = '2026-11-22 10:00:00.000000'",
    ] {
        let session = world.open_session(&portal).await;
        let token = session["access_token"].as_str().unwrap();
        assert!(!verifier.is_over(token).await, "{statement}");
        Sql::of(world).run(statement).unwrap();
        assert!(verifier.is_over(token).await, "{statement}");
    }
}

#[apply(on_both_databases)]
async fn an_order_shows_before_it_is_carried_out(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    let verifier = Verifier::new(world, &world.base);
    assert!(!verifier.is_over(token).await);
    portal.post("/v1/revocations", &json!({ "profile_id": "nobody", "reason": "A laptop was stolen" })).await.ok();
    Sql::of(world)
        .run(
            "UPDATE revocations SET profile_id = NULL, lease_until = '2099-01-01 00:00:00.000000', done_at = NULL; \
             UPDATE access_epoch SET epoch = epoch + 1",
        )
        .unwrap();
    assert!(verifier.is_over(token).await);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn every_copy_tells_of_a_revocation_at_once(world: &World) {
    let copies = [Process::start(world), Process::start(world)];
    let admin = world.admin.at(&copies[0].base);
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = admin.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
    let link = admin.issue(&consultant).await;
    let token = world.token(&link, 1).await;
    let answer = world.stranger().at(&copies[0].base).post("/l/continue", &json!({ "token": token })).await.ok();
    let session = admin.redeem(&crate::support::code_of(&answer)).await.ok();
    let token = session["access_token"].as_str().unwrap();
    for copy in &copies {
        assert!(!Verifier::new(world, &copy.base).is_over(token).await);
    }
    admin.post(&format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "The work is done" })).await.ok();
    for copy in &copies {
        assert!(Verifier::new(world, &copy.base).is_over(token).await);
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_list_that_has_not_changed_is_not_sent_again(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (first, second) = (world.open_session(&portal).await, world.open_session(&portal).await);
    let verifier = Verifier::new(world, &world.base);
    let (uri, _) = verifier.place(first["access_token"].as_str().unwrap()).await;
    let addresses = world.stranger().get("/v1/status-lists").await.ok();
    assert_eq!(addresses, json!({ "status_lists": [uri] }));
    let discovery = world.stranger().get("/.well-known/oauth-authorization-server").await.ok();
    assert_eq!(discovery["status_list_aggregation_endpoint"], "http://127.0.0.1:8080/v1/status-lists");
    let list = verifier.fetch(&uri).await;
    assert_eq!(list.header("cache-control"), "no-cache");
    let path = uri.strip_prefix("http://127.0.0.1:8080").unwrap();
    let ask = async |tag: &str| {
        let request = world.stranger().request(reqwest::Method::GET, path).header("if-none-match", tag);
        world.stranger().send(request).await
    };
    let tag = list.header("etag").to_owned();
    assert_eq!(ask(&tag).await.status, 304);
    // Something else of the service changed, but nothing in this list.
    world.admin.post("/v1/clients", &json!({ "name": "x", "tenants": ["acme"], "scopes": ["links:read"] })).await.ok();
    Sql::of(world).run("UPDATE access_epoch SET epoch = epoch + 1").unwrap();
    assert_eq!(ask(&tag).await.status, 304);
    world.clock.advance(time::Duration::seconds(59));
    assert_eq!(ask(&tag).await.status, 304);
    world.clock.advance(time::Duration::seconds(1));
    let later = ask(&tag).await;
    assert_eq!(later.status, 200, "signed again in time");
    let end = format!("/v1/sessions/{}/end", second["id"].as_str().unwrap());
    portal.post(&end, &json!({})).await.ok();
    assert_eq!(ask(later.header("etag")).await.status, 200);
    world.stranger().get("/v1/status-lists/2").await.refused(404, "not_found");
    world.stranger().get("/v1/status-lists/x").await.refused(400, "invalid_id");
}

#[apply(on_both_databases)]
async fn places_are_drawn_and_a_full_list_is_followed_by_the_next(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let verifier = Verifier::new(world, &world.base);
    let mut places = BTreeSet::from([verifier.place(session["access_token"].as_str().unwrap()).await]);
    for _ in 0..3 {
        let session = world.open_session(&portal).await;
        places.insert(verifier.place(session["access_token"].as_str().unwrap()).await);
    }
    assert_eq!(places.len(), 4);
    assert_eq!(places.iter().map(|(uri, _)| uri).collect::<BTreeSet<_>>().len(), 1);
    let numbers: Vec<usize> = places.iter().map(|(_, place)| *place).collect();
    assert!(numbers.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 1), "{numbers:?} are not drawn");
    // Every place of the first list is taken.
    fill(world, session["id"].as_str().unwrap()).await;
    let session = world.open_session(&portal).await;
    let (uri, _) = verifier.place(session["access_token"].as_str().unwrap()).await;
    assert!(uri.ends_with("/v1/status-lists/2"), "{uri}");
    let both = world.stranger().get("/v1/status-lists").await.ok();
    assert_eq!(both["status_lists"].as_array().unwrap().len(), 2);
    assert!(!verifier.is_over(session["access_token"].as_str().unwrap()).await);
}

/// Puts a session on every place of the first list that is free, like the one that there is.
async fn fill(world: &World, like: &str) {
    let columns = "generation, tenant_id, portal, consultant_id, profile_id, profile_name, access, reason, started_at,
        expires_at, kid, status_list";
    let (numbers, id) = Sql::numbers(world.database, 65_536);
    let [of_link, of_session] = [
        "tenant_id, portal, consultant_id, profile_id, profile_name, reason, access, starts_at, expires_at, issued_by_id,
         issued_by_name, created_at, generation",
        columns,
    ];
    let (mut sql, statements) = (
        Sql::of(world),
        format!(
            "INSERT INTO magic_links (id, {of_link}) SELECT 'mlk_' || {id}, {of_link} FROM magic_links, ({numbers}) numbers
                WHERE id = (SELECT magic_link_id FROM sessions WHERE id = '{like}');
             INSERT INTO sessions (id, magic_link_id, {of_session}, status_index)
                SELECT 'ses_' || {id}, 'mlk_' || {id}, {of_session}, i FROM sessions, ({numbers}) numbers
                WHERE id = '{like}' AND i NOT IN (SELECT status_index FROM sessions)"
        ),
    );
    // It takes a while, in which connections to the service go idle and are closed.
    tokio::task::spawn_blocking(move || sql.run(&statements)).await.unwrap().unwrap();
}
