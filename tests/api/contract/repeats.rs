//! A repeat with the same Idempotency-Key: what is the same request, and what is asked of a repeat.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::examples::operations;
use crate::support::{Api, Reply, SecondCopy, Settings, World, apply, command, on_both_databases};

const LINKS: &str = "/v1/magic-links";

async fn post_text(caller: &Api, path: &str, key: &str, text: String) -> Reply {
    let request = caller.request(Method::POST, path).header("content-type", "application/json");
    caller.send(request.header("idempotency-key", key).body(text)).await
}

#[track_caller]
fn repeats(reply: Reply, first: &Value) {
    assert_eq!(reply.header("idempotency-replayed"), "true", "{reply:?}");
    assert_eq!(reply.ok()["id"], first["id"]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn one_request_is_the_same_however_it_is_spelled(world: &World) {
    let consultant = world.consultant().await;
    let starts = world.clock.now().plus(Duration::hours(2)).to_string();
    let mut request = Api::issue_request(&consultant);
    request["starts_at"] = json!(starts);
    let first = world.admin.post_once(LINKS, "one", &request).await.ok();

    let mut without = request.clone();
    without.as_object_mut().unwrap().remove("access");
    repeats(world.admin.post_once(LINKS, "one", &without).await, &first);
    let mut nulls = without.clone();
    nulls["access"] = Value::Null;
    nulls["requested_by"] = Value::Null;
    nulls["profile"]["email"] = Value::Null;
    repeats(world.admin.post_once(LINKS, "one", &nulls).await, &first);
    let mut offset = request.clone();
    offset["starts_at"] = json!(starts.replace('Z', "+00:00"));
    offset["duration"]["value"] = json!(4.0);
    repeats(world.admin.post_once(LINKS, "one", &offset).await, &first);
    // Members in another order, with other white space and escapes.
    let members = request.as_object().unwrap().iter().rev().map(|(name, value)| format!("\n\t\"{name}\" : {value}"));
    let text = format!("{{{}\r\n}}", members.collect::<Vec<_>>().join(",")).replace("Payroll", "\\u0050ayroll");
    repeats(post_text(&world.admin, LINKS, "one", text).await, &first);

    for (pointer, value) in
        [("/access", json!("read_only")), ("/reason", json!("Another reason")), ("/ticket", json!("SUP-1"))]
    {
        let mut other = request.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        world.admin.post_once(LINKS, "one", &other).await.refused(422, "idempotency_key_reused");
    }
    let twice = request.to_string().replacen('{', "{\"access\":\"full\",", 1);
    post_text(&world.admin, LINKS, "one", twice).await.refused(400, "invalid_body");
    assert_eq!(world.admin.get(LINKS).await.ok()["items"].as_array().unwrap().len(), 1);

    // The parameters of the path belong to the request.
    let hold = json!({ "reason": "Labour court, case 2026-118" });
    world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await.ok();
    world
        .admin
        .post_once("/v1/audit-log/globex/legal-holds", "hold", &hold)
        .await
        .refused(422, "idempotency_key_reused");
    // An empty body has every default.
    let rotated = world
        .admin
        .send(world.admin.request(Method::POST, "/v1/keys/rotate").header("idempotency-key", "key"))
        .await
        .ok();
    let again = world.admin.post_once("/v1/keys/rotate", "key", &json!({ "at_once": false })).await;
    assert_eq!(again.ok()["kid"], rotated["kid"]);
}

/// Blanks around a text are kept by no call, so they make no other request of it.
#[apply(on_both_databases)]
async fn blanks_around_a_text_change_nothing(world: &World) {
    let consultant = world.consultant().await;
    let person = json!({ "id": "emp-7", "name": "Meera Iyer" });
    let mut issue = Api::issue_request(&consultant);
    issue["ticket"] = json!("SUP-1");
    let link = world.admin.issue(&consultant).await;
    let extend = json!({ "duration": { "value": 1, "unit": "hours" }, "reason": "The payroll run takes longer",
        "extended_by": person });
    issue["profile"]["id"] = json!("emp-9");
    for (path, request, texts) in [
        (LINKS.to_owned(), issue, &["/reason", "/ticket", "/profile/name", "/issued_by/name"][..]),
        (format!("{LINKS}/{link}/extend"), extend, &["/reason", "/extended_by/name"]),
        (
            "/v1/revocations".to_owned(),
            json!({ "tenant_id": "acme", "ticket": "SUP-9", "reason": "The ticket was closed", "requested_by": person }),
            &["/reason", "/ticket", "/requested_by/name"],
        ),
        (
            "/v1/consultants".to_owned(),
            json!({ "name": "Anita Desai", "email": "anita@support.example", "requested_by": person }),
            &["/name", "/requested_by/name"],
        ),
        (
            "/v1/clients".to_owned(),
            json!({ "name": "Portal", "scopes": ["links:read"], "tenants": ["acme"] }),
            &["/name"],
        ),
        (
            "/v1/audit-log/acme/legal-holds".to_owned(),
            json!({ "reason": "Labour court, case 2026-118", "requested_by": person }),
            &["/reason", "/requested_by/name"],
        ),
        (
            "/v1/webhook-endpoints".to_owned(),
            json!({ "url": "https://portal.example/hook", "description": "Production", "format": "caep",
                "audience": "https://portal.example" }),
            &["/description", "/audience"],
        ),
    ] {
        let first = world.admin.post_once(&path, "one", &request).await.ok();
        let mut blanks = request.clone();
        for text in texts {
            let text = blanks.pointer_mut(text).unwrap();
            *text = json!(format!("\u{200b} {}\u{a0} ", text.as_str().unwrap()));
        }
        assert_eq!(world.admin.post_once(&path, "one", &blanks).await.ok()["id"], first["id"], "{path}");
        // What is stored is the text without them.
        if path != format!("{LINKS}/{link}/extend") && path != "/v1/consultants" {
            if path == LINKS {
                blanks["profile"]["id"] = json!("emp-10");
            }
            let other = world.admin.post_once(&path, "two", &blanks).await.ok();
            for text in texts.iter().filter(|text| first.pointer(text).is_some()) {
                assert_eq!(other.pointer(text), first.pointer(text), "{path} {text}");
            }
        }
    }
}

#[apply(on_both_databases)]
#[settings(Settings { manual_clock: true, ..Settings::config("limits.mails_per_client_minute = 2") })]
async fn a_repeat_is_answered_whatever_the_limits_the_freeze_and_the_time(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&consultant);
    request["starts_at"] = json!(world.clock.now().plus(Duration::hours(1)).to_string());
    let first = portal.post_once(LINKS, "one", &request).await.ok();
    for _ in 0..5 {
        repeats(portal.post_once(LINKS, "one", &request).await, &first);
    }
    // Repeats have used nothing up.
    let mut other = request.clone();
    other["profile"]["id"] = json!("emp-9");
    portal.post_once(LINKS, "two", &other).await.ok();
    portal.post_once(LINKS, "three", &other).await.refused(429, "rate_limited");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    assert!(command(world).args(["freeze", "--reason", "Somebody issues links"]).output().unwrap().status.success());
    portal.post_once(LINKS, "four", &request).await.refused(409, "issuing_frozen");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    assert!(command(world).arg("unfreeze").output().unwrap().status.success());
    let until = world.clock.now().plus(Duration::hours(1)).to_string();
    let hold = json!({ "reason": "Labour court, case 2026-118", "until": until });
    let held = world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await.ok();
    world.clock.advance(Duration::hours(3));
    portal.post_once(LINKS, "five", &request).await.refused_field("/starts_at");
    repeats(portal.post_once(LINKS, "one", &request).await, &first);
    repeats(world.admin.post_once("/v1/audit-log/acme/legal-holds", "hold", &hold).await, &held);
}

#[apply(on_both_databases)]
#[settings(Settings::config("limits.client_per_minute = 6"))]
async fn a_repeat_needs_the_key_the_scope_and_the_clients_own_limit(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&consultant);
    let first = portal.post_once(LINKS, "one", &request).await.ok();
    for _ in 0..5 {
        repeats(portal.post_once(LINKS, "one", &request).await, &first);
    }
    portal.post_once(LINKS, "one", &request).await.refused(429, "rate_limited");
    // Its reach is part of the row: by hand, because no call narrows it.
    let mut sql = crate::support::Sql::of(world);
    let other = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&consultant);
    let link = other.post_once(LINKS, "one", &request).await.ok();
    assert_ne!(link["id"], first["id"]);
    sql.run(&format!("UPDATE clients SET tenants = 'globex' WHERE id = '{}'", other.client_id)).unwrap();
    let beyond = other.post_once(LINKS, "one", &request).await;
    assert!(matches!(beyond.status.as_u16(), 403 | 404), "{beyond:?}");
    sql.run(&format!("UPDATE clients SET tenants = 'acme', scopes = 'links:read' WHERE id = '{}'", other.client_id))
        .unwrap();
    other.post_once(LINKS, "one", &request).await.refused(403, "insufficient_scope");
    sql.run(&format!("UPDATE clients SET disabled_at = created_at WHERE id = '{}'", other.client_id)).unwrap();
    other.post_once(LINKS, "one", &request).await.refused(401, "unauthenticated");
}

// Whether this process has met the key, and whether the time is over for a request that is new.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_repeat_needs_the_scopes_that_its_members_ask_for(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({ "emergency": "allowed" })).await.ok();
    let consultant = world.consultant().await;
    let scopes = ["links:issue", "links:request", "links:revoke", "links:emergency", "links:read"];
    let client = world.client(Some("cloud"), &["acme"], &scopes).await;
    let mut urgent = Api::issue_request(&consultant);
    urgent["emergency"] = json!({ "justification": "Salaries are paid in one hour" });
    urgent["starts_at"] = json!(world.clock.now().to_string());
    let mut replacing = Api::issue_request(&consultant);
    replacing["profile"]["id"] = json!("emp-9");
    replacing["replace"] = json!(true);
    replacing["starts_at"] = json!(world.clock.now().plus(Duration::hours(1)).to_string());
    let mut usual = Api::issue_request(&consultant);
    usual["profile"]["id"] = json!("emp-8");
    let requests = [("urgent", &urgent), ("replacing", &replacing), ("usual", &usual)];
    for (key, request) in requests {
        let first = client.post_once(LINKS, key, request).await.ok();
        repeats(client.post_once(LINKS, key, request).await, &first);
    }
    let change = json!({ "scopes": ["links:request", "links:read"] });
    world.admin.patch(&format!("/v1/clients/{}", client.client_id), &change).await.ok();
    let second = SecondCopy::start(world, world.clock.clone());
    for advance in [Duration::ZERO, Duration::hours(3)] {
        world.clock.advance(advance);
        // The first call of a key that a copy has not met, and every later one.
        for copy in [client.at(&second.base), client.at(&second.base), client.at(&world.base)] {
            for (key, request) in requests {
                let reply = copy.post_once(LINKS, key, request).await;
                match key {
                    "usual" => assert_eq!(reply.header("idempotency-replayed"), "true", "{reply:?}"),
                    _ => reply.refused(403, "insufficient_scope"),
                }
            }
        }
    }
}

// A repeat tells what its client may read now: not of a thing that was moved out of its reach, or is gone. For every call
// that takes a key.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_repeat_tells_nothing_that_its_client_may_not_read_any_more(world: &World) {
    let rules = json!({ "emergency": "allowed",
        "approval": { "required_for": "none", "longer_than": { "value": 6, "unit": "hours" } } });
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &rules).await.ok();
    let scopes = [
        "links:issue",
        "links:emergency",
        "links:approve",
        "links:read",
        "links:revoke",
        "sessions:redeem",
        "admin",
        "audit:manage",
        "webhooks:manage",
        "consultants:write",
        "consultants:read",
    ];
    let client = world.client(None, &["acme", "globex"], &scopes).await;
    let consultant = world.consultant().await;
    let of = |profile: &str, hours: i64| {
        let mut request = Api::issue_request(&consultant);
        request["profile"]["id"] = json!(profile);
        request["duration"]["value"] = json!(hours);
        request
    };
    let id = |thing: &Value| thing["id"].as_str().unwrap().to_owned();
    let used = id(&client.post(LINKS, &of("emp-1", 4)).await.ok());
    let code = world.click(&world.token(&used, 1).await).await;
    let asked = id(&client.post(LINKS, &of("emp-2", 8)).await.ok());
    let mut urgent = of("emp-3", 2);
    urgent["emergency"] = json!({ "justification": "Salaries are paid in one hour" });
    let urgent = id(&client.post(LINKS, &urgent).await.ok());
    client.post(&format!("{LINKS}/{urgent}/revoke"), &json!({ "reason": "The work is done" })).await.ok();

    let person = |id: &str, name: &str| json!({ "id": id, "name": name, "email": format!("{id}@acme.example") });
    let nila = json!({ "id": "emp-12", "name": "Nila Bose" });
    let creators = [
        (LINKS.to_owned(), LINKS, of("emp-4", 4)),
        (
            format!("{LINKS}/{used}/extend"),
            "/v1/magic-links/{id}/extend",
            json!({ "duration": { "value": 1, "unit": "hours" }, "reason": "The payroll run takes longer",
                "extended_by": { "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" } }),
        ),
        (
            format!("{LINKS}/{asked}/approve"),
            "/v1/magic-links/{id}/approve",
            json!({ "approver": person("emp-3", "Vikram Shah") }),
        ),
        (
            format!("{LINKS}/{urgent}/review"),
            "/v1/magic-links/{id}/review",
            json!({ "reviewer": nila, "finding": "justified", "comment": "nothing else was touched" }),
        ),
        ("/v1/sessions".to_owned(), "/v1/sessions", json!({ "token": code })),
        (
            "/v1/revocations".to_owned(),
            "/v1/revocations",
            json!({ "consultant_id": consultant, "reason": "The ticket was closed", "dry_run": true }),
        ),
        (
            "/v1/clients".to_owned(),
            "/v1/clients",
            json!({ "name": "Portal", "scopes": ["links:read"], "tenants": ["globex"] }),
        ),
        (
            "/v1/audit-log/acme/legal-holds".to_owned(),
            "/v1/audit-log/{tenant_id}/legal-holds",
            json!({ "reason": "Labour court, case 2026-118" }),
        ),
        ("/v1/webhook-endpoints".to_owned(), "/v1/webhook-endpoints", json!({ "url": "https://portal.example/hook" })),
        // These have no reach: operators make them.
        (
            "/v1/consultants".to_owned(),
            "/v1/consultants",
            json!({ "name": "Anita Desai", "email": "anita@support.example" }),
        ),
        ("/v1/keys/rotate".to_owned(), "/v1/keys/rotate", json!({})),
    ];
    let with_key =
        operations().filter(|one| one.parameters("header").any(|header| header["name"] == "Idempotency-Key"));
    let mut described: Vec<&str> = with_key.map(|one| one.path).collect();
    let mut tried: Vec<&str> = creators.iter().map(|(_, route, _)| *route).collect();
    described.sort_unstable();
    tried.sort_unstable();
    assert_eq!(tried, described, "every call that takes a key");

    let is_of_operators = |route: &str| ["/v1/consultants", "/v1/keys/rotate"].contains(&route);
    let caller = |route: &str| if is_of_operators(route) { &world.admin } else { &client };
    let mut made = Vec::new();
    for (path, route, body) in &creators {
        let first = caller(route).post_once(path, "one", body).await.ok();
        repeats_as(caller(route).post_once(path, "one", body).await, &first);
        made.push(first);
    }
    // The client loses a tenant; what it made is another customer's, or gone.
    let of_route = |name: &str| id(&made[creators.iter().position(|(_, route, _)| *route == name).unwrap()]);
    let change = json!({ "name": "Secret merger", "tenants": ["initech"], "scopes": ["admin"] });
    world.admin.patch(&format!("/v1/clients/{}", of_route("/v1/clients")), &change).await.ok();
    let endpoint = format!("/v1/webhook-endpoints/{}", of_route("/v1/webhook-endpoints"));
    let deleted = world.admin.send(world.admin.request(Method::DELETE, &endpoint)).await;
    assert!(deleted.status.is_success(), "{deleted:?}");
    world.admin.patch(&format!("/v1/clients/{}", client.client_id), &json!({ "tenants": ["globex"] })).await.ok();
    for ((path, route, body), first) in creators.iter().zip(&made) {
        let again = caller(route).post_once(path, "one", body).await;
        match *route {
            _ if is_of_operators(route) => repeats_as(again, first),
            "/v1/audit-log/{tenant_id}/legal-holds" => {
                assert!([403, 404].contains(&again.status.as_u16()), "{again:?}");
            }
            _ => {
                again.refused(404, "not_found");
                assert!(!again.text.contains("merger"), "{again:?}");
            }
        }
        if let "/v1/clients" | "/v1/revocations" | "/v1/webhook-endpoints" = *route {
            let detail = again_detail(caller(route), path, body).await;
            assert!(detail.contains("the first request with this Idempotency-Key"), "{route}: {detail}");
            let read = caller(route).get(&format!("{path}/{}", id(first))).await;
            read.refused(404, "not_found");
        }
    }
}

async fn again_detail(caller: &Api, path: &str, body: &Value) -> String {
    caller.post_once(path, "one", body).await.body["detail"].as_str().unwrap_or_default().to_owned()
}

#[track_caller]
fn repeats_as(reply: Reply, first: &Value) {
    assert_eq!(reply.header("idempotency-replayed"), "true", "{reply:?}");
    let again = reply.ok();
    assert_eq!((&again["id"], &again["kid"]), (&first["id"], &first["kid"]));
}
