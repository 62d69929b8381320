//! Consultants, tenants and clients.

use serde_json::{Value, json};

use crate::support::{Api, Settings, World, apply, on_both_databases};

const CONSULTANTS: &str = "/v1/consultants";
const CLIENTS: &str = "/v1/clients";

fn person(name: &str, email: &str) -> Value {
    json!({ "name": name, "email": email })
}

fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

/// How many clients were made since the administrator.
async fn clients_made(world: &World) -> usize {
    world.admin.events("&type=client.created").await.len() - 1
}

#[apply(on_both_databases)]
async fn a_mailbox_belongs_to_one_consultant(world: &World) {
    let ravi = world.admin.post(CONSULTANTS, &person("Ravi Kumar", "Ravi@support.example")).await.ok();
    let uma = world.admin.post(CONSULTANTS, &person("Uma Devi", "uma@support.example")).await.ok();
    assert_eq!((&ravi["state"], &ravi["email"]), (&json!("active"), &json!("Ravi@support.example")));
    for email in ["Ravi@support.example", "ravi@support.example", "RAVI@SUPPORT.EXAMPLE"] {
        world.admin.post(CONSULTANTS, &person("Another Ravi", email)).await.refused(409, "consultant_exists");
        let change = format!("{CONSULTANTS}/{}", uma["id"].as_str().unwrap());
        world.admin.patch(&change, &json!({ "email": email })).await.refused(409, "consultant_exists");
    }
    let path = format!("{CONSULTANTS}/{}", ravi["id"].as_str().unwrap());
    let suspend = json!({ "reason": "On leave" });
    let suspended = world.admin.post(&format!("{path}/suspend"), &suspend).await.ok();
    assert_eq!((&suspended["state"], &suspended["suspend_reason"]), (&json!("suspended"), &json!("On leave")));
    world.admin.post(CONSULTANTS, &person("Ravi", "ravi@support.example")).await.refused(409, "consultant_exists");
    let all = world.admin.get(CONSULTANTS).await.ok();
    assert_eq!(ids(&all), [uma["id"].as_str().unwrap(), ravi["id"].as_str().unwrap()]);
    for (state, expected) in [("active", &uma), ("suspended", &ravi)] {
        let list = world.admin.get(&format!("{CONSULTANTS}?state={state}")).await.ok();
        assert_eq!(ids(&list), [expected["id"].as_str().unwrap()]);
    }
    world.admin.get(&format!("{CONSULTANTS}/con_01kaq3v9e8fwmvd2x7n0c5hb3z")).await.refused(404, "not_found");
    assert_eq!(world.admin.events("&type=consultant.registered").await.len(), 2);
    assert!(world.admin.events("&type=consultant.changed").await.is_empty());
}

#[apply(on_both_databases)]
async fn a_repeated_registration_is_one_consultant(world: &World) {
    let request = person("Ravi Kumar", "ravi@support.example");
    let first = world.admin.post_once(CONSULTANTS, "one", &request).await.ok();
    let again = world.admin.post_once(CONSULTANTS, "one", &request).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!(again.ok(), first);
    let other = person("Uma Devi", "uma@support.example");
    world.admin.post_once(CONSULTANTS, "one", &other).await.refused(422, "idempotency_key_reused");
    assert_eq!(world.admin.events("&type=consultant.registered").await.len(), 1);
}

#[apply(on_both_databases)]
async fn a_new_address_needs_an_admin_revokes_the_links_and_tells_the_old_one(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (link, access) = (session["magic_link_id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let id = session["consultant"]["id"].as_str().unwrap();
    let old = session["consultant"]["email"].as_str().unwrap();
    let path = format!("{CONSULTANTS}/{id}");
    let clerk = world.client(None, &["*"], &["consultants:read", "consultants:write"]).await;
    clerk.patch(&path, &json!({ "email": "eve@evil.example" })).await.refused(403, "insufficient_scope");
    clerk.patch(&path, &person("Eve", "eve@evil.example")).await.refused(403, "insufficient_scope");
    world.admin.patch(&path, &json!({ "colour": "red" })).await.refused(400, "invalid_body");
    assert_eq!(clerk.get(&path).await.ok()["email"], old);
    assert!(world.admin.events("&type=consultant.changed").await.is_empty());

    // A name may be mended, and so may nothing at all.
    assert_eq!(clerk.patch(&path, &json!({ "name": "Ravi S. Kumar" })).await.ok()["name"], "Ravi S. Kumar");
    for nothing in [json!({}), json!({ "name": "Ravi S. Kumar" })] {
        assert_eq!(clerk.patch(&path, &nothing).await.ok()["name"], "Ravi S. Kumar");
    }
    assert_eq!(world.admin.events("&type=consultant.changed").await.len(), 1, "what changes nothing is no change");
    assert!(portal.is_active(access).await);

    let changed = world.admin.patch(&path, &json!({ "email": "ravi.new@support.example" })).await.ok();
    assert_eq!(changed["email"], "ravi.new@support.example");
    assert!(!portal.is_active(access).await);
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
    let told = {
        let started = std::time::Instant::now();
        loop {
            if let Some(mail) = world.mails.notices("address_changed").await.pop() {
                break mail;
            }
            assert!(started.elapsed().as_secs() < 30, "the old address is not told");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    assert_eq!(told["To"][0]["Email"], old);
    assert!(!told.to_string().contains("eyJ"), "no token");
    let events = world.admin.events("&type=consultant.changed").await;
    assert_eq!(events.len(), 2);
    assert_eq!(
        (&events[1]["data"]["before"]["email"], &events[1]["data"]["after"]["email"]),
        (&json!(old), &changed["email"])
    );
    // Fresh links go to the new address.
    let fresh = portal.issue(id).await;
    assert_eq!(world.mails.wait_for(&fresh, 1).await["To"][0]["Email"], "ravi.new@support.example");
}

#[apply(on_both_databases)]
async fn a_tenant_is_registered_replaced_and_listed_by_id(world: &World) {
    for id in ["globex", "acme", "initech"] {
        let saved = world.admin.put(&format!("/v1/tenants/{id}"), &json!({ "name": id })).await.ok();
        assert_eq!((&saved["time_zone"], &saved["contacts"]), (&json!("Asia/Kolkata"), &json!([])));
    }
    let contacts = json!([{ "name": "Meera Iyer", "email": "hr@acme.example" }]);
    let better = json!({ "name": "ACME Ltd", "time_zone": "Asia/Tokyo", "contacts": contacts });
    let saved = world.admin.put("/v1/tenants/acme", &better).await.ok();
    assert_eq!((&saved["name"], &saved["contacts"]), (&json!("ACME Ltd"), &contacts));
    assert_eq!(world.admin.get("/v1/tenants/acme").await.ok(), saved);
    let first = world.admin.get("/v1/tenants?page_size=2").await.ok();
    let next = format!("/v1/tenants?page_size=2&cursor={}", first["next_cursor"].as_str().unwrap());
    let second = world.admin.get(&next).await.ok();
    assert_eq!((ids(&first), ids(&second)), (vec!["acme", "globex"], vec!["initech"]));
    assert!(second.get("next_cursor").is_none());

    for (path, body, pointer) in [
        ("acme", json!({ "name": "" }), "/name"),
        ("acme", json!({ "name": "ACME", "time_zone": "Mars/Base" }), "/time_zone"),
        ("acme", json!({ "name": "ACME", "contacts": vec![contacts[0].clone(); 11] }), "/contacts"),
    ] {
        world.admin.put(&format!("/v1/tenants/{path}"), &body).await.refused_field(pointer);
    }
    for no_id in ["_system", "-x", "a%2Fb"] {
        let reply = world.admin.put(&format!("/v1/tenants/{no_id}"), &json!({ "name": "X" })).await;
        reply.refused(400, "invalid_id");
    }
    let array = json!({ "name": "ACME", "contacts": [["Meera", "hr@acme.example"]] });
    world.admin.put("/v1/tenants/acme", &array).await.refused(400, "invalid_body");
    world.admin.get("/v1/tenants/umbrella").await.refused(404, "not_found");
    assert_eq!(world.admin.get("/v1/tenants/acme").await.ok(), saved);
    assert_eq!(world.admin.events("&type=tenant.saved").await.len(), 4);
}

#[apply(on_both_databases)]
async fn a_key_is_shown_once(world: &World) {
    let request =
        json!({ "name": "Cloud", "portal": "cloud", "tenants": ["acme"], "scopes": ["links:read", "links:read"] });
    let made = world.admin.post_once(CLIENTS, "one", &request).await.ok();
    let key = made["key"].as_str().unwrap();
    assert_eq!(made["scopes"], json!(["links:read"]));
    let again = world.admin.post_once(CLIENTS, "one", &request).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.body["id"], again.body.get("key")), (&made["id"], None));
    assert_eq!(
        Api::new(&world.base, Some(key)).get("/v1/magic-links").await.status,
        200,
        "a repeat does not change it"
    );
    let secret = key.rsplit('_').next().unwrap();
    for path in [CLIENTS, "/v1/audit-events?page_size=200"] {
        assert!(!world.admin.get(path).await.text.contains(secret), "{path}");
    }
    assert_eq!(clients_made(world).await, 1);
}

#[apply(on_both_databases)]
async fn a_client_is_described_rightly_or_not_made(world: &World) {
    let right = json!({ "name": "Cloud", "portal": "cloud", "tenants": ["acme"], "scopes": ["links:read"] });
    let with = |member: &str, value: Value| {
        let mut request = right.clone();
        request[member] = value;
        request
    };
    for (body, pointer) in [
        (with("name", json!("")), "/name"),
        (with("portal", json!("nowhere")), "/portal"),
        (with("tenants", json!([])), "/tenants"),
        (with("tenants", json!(["acme", "acme globex"])), "/tenants/1"),
        (with("tenants", json!(["_system"])), "/tenants/0"),
        (with("tenants", json!(vec!["acme"; 101])), "/tenants"),
        (with("scopes", json!([])), "/scopes"),
    ] {
        world.admin.post(CLIENTS, &body).await.refused_field(pointer);
    }
    for body in [
        with("scopes", json!(["everything"])),
        with("scopes", json!([{ "admin": null }])),
        with("scopes", json!("admin")),
        with("tenants", json!("*")),
        with("key", json!("mlsk_of_my_own")),
        json!([]),
    ] {
        world.admin.post(CLIENTS, &body).await.refused(400, "invalid_body");
    }
    let list = world.admin.get(CLIENTS).await.ok();
    assert_eq!(ids(&list).len(), 1, "only the administrator");
    assert_eq!(clients_made(world).await, 0);
}

#[apply(on_both_databases)]
async fn nobody_makes_a_client_that_reaches_further_than_themselves(world: &World) {
    let bound = world.client(Some("cloud"), &["acme", "globex"], &["admin", "links:read"]).await;
    let request = |portal: Option<&str>, tenants: &[&str]| {
        let mut request = json!({ "name": "Another", "tenants": tenants, "scopes": ["links:read"] });
        if let Some(portal) = portal {
            request["portal"] = portal.into();
        }
        request
    };
    for (portal, tenants) in [
        (Some("cloud"), &["*"][..]),
        (Some("cloud"), &["acme", "initech"]),
        (Some("cloud"), &["acme", "*"]),
        (Some("ess"), &["acme"]),
        (None, &["acme"]),
        (None, &["*"]),
    ] {
        bound.post(CLIENTS, &request(portal, tenants)).await.refused(403, "client_not_permitted");
    }
    assert_eq!(clients_made(world).await, 1);
    let made = bound.post(CLIENTS, &request(Some("cloud"), &["globex"])).await.ok();
    let list = bound.get(CLIENTS).await.ok();
    assert_eq!(ids(&list), [made["id"].as_str().unwrap(), bound.client_id.as_str()]);
    let path = format!("{CLIENTS}/{}", world.admin.client_id);
    bound.post(&format!("{path}/disable"), &json!({})).await.refused(404, "not_found");
    bound.post(&format!("{path}/rotate"), &json!({})).await.refused(404, "not_found");
    assert_eq!(world.admin.get(CLIENTS).await.status, 200);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_list_of_clients_is_walked_like_any_other(world: &World) {
    for _ in 0..4 {
        world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    }
    let all = world.admin.get(CLIENTS).await.ok();
    let (mut walked, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.admin.get(&format!("{CLIENTS}?page_size=2{cursor}")).await.ok();
        walked.extend(page["items"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(json!(walked), all["items"]);
    assert_eq!(walked.len(), 5);
}

#[apply(on_both_databases)]
async fn a_client_of_one_portal_mutes_nobody(world: &World) {
    let contacts = json!([{ "name": "Meera Iyer", "email": "hr@acme.example" }]);
    let acme = json!({ "name": "ACME", "contacts": contacts });
    world.admin.put("/v1/tenants/acme", &acme).await.ok();
    let cloud = world.client(Some("cloud"), &["acme"], &["tenants:write"]).await;
    for (member, value) in [("muted_notices", json!(["access_issued"])), ("contacts", json!([]))] {
        let mut request = acme.clone();
        request[member] = value;
        cloud.put("/v1/tenants/acme", &request).await.refused(403, "client_not_permitted");
    }
    // What it does not change it may say.
    cloud.put("/v1/tenants/acme", &acme).await.ok();
    let both = world.client(None, &["acme"], &["tenants:write"]).await;
    both.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();

    // Nor by registering a tenant that the other portal uses under the defaults.
    let ess = world.client(Some("ess"), &["globex"], &["tenants:write"]).await;
    for (member, value) in [
        ("muted_notices", json!(["access_issued"])),
        ("contacts", contacts),
        ("change_values", json!("plain")),
        ("retention_days", json!(400)),
    ] {
        let code = if member == "retention_days" { "insufficient_scope" } else { "client_not_permitted" };
        let request = json!({ "name": "Globex", member: value });
        ess.put("/v1/tenants/globex", &request).await.refused(403, code);
    }
    ess.put("/v1/tenants/globex", &json!({ "name": "Globex" })).await.ok();
}

#[apply(on_both_databases)]
async fn a_consultant_is_found_by_a_part_of_the_name_or_the_address(world: &World) {
    let mut ids = Vec::new();
    for (name, email) in [
        ("Ravi Kumar", "ravi@support.example"),
        ("Ümit Öztürk", "umit@support.example"),
        ("Anita Desai", "Anita.Kumar@help.example"),
    ] {
        let consultant = world.admin.post("/v1/consultants", &json!({ "name": name, "email": email })).await.ok();
        ids.push(consultant["id"].as_str().unwrap().to_owned());
    }
    world.admin.post(&format!("/v1/consultants/{}/suspend", ids[0]), &json!({ "reason": "Left the team" })).await.ok();
    for (query, expected) in [
        ("search=KUMAR", &[2, 0][..]),
        ("search=kumar&state=active", &[2]),
        ("search=%C3%B6ZT%C3%9CRK", &[1]),
        ("search=ravi+kumar", &[0]),
        ("search=help.example", &[2]),
        ("search=support.example", &[1, 0]),
        ("search=%25", &[]),
        ("search=_", &[]),
        ("", &[2, 1, 0]),
    ] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.admin.get(&format!("/v1/consultants?page_size=1&{query}{cursor}")).await.ok();
            found.extend(page["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(found, expected.iter().map(|at| ids[*at].clone()).collect::<Vec<_>>(), "{query}");
    }
}
