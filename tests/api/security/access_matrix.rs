//! Route by client: who may not call, and what does not exist for whom.
//!
//! The table in `rows.rs` is checked against the API description: a route that is not
//! in it fails the first test.

mod order;
mod rows;

use std::collections::BTreeSet;

use magic_link::domain::Scope;
use serde_json::{Value, json};

use self::rows::{MATRIX, PUBLIC, Row, Subject};
use crate::support::{Api, Reply, World, apply, on_both_databases};

/// Every scope there is.
fn scopes() -> Vec<&'static str> {
    Scope::ALL.iter().map(|scope| scope.as_str()).collect()
}

/// An id of the right kind that never existed.
fn nobodys(path: &str) -> &'static str {
    match path.split('/').nth(2) {
        Some("magic-links") => "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z",
        Some("revocations") => "rvk_01kaq3v9e8fwmvd2x7n0c5hbaz",
        Some("sessions") => "ses_01kaq3v9e8fwmvd2x7n0c5hb2z",
        Some("consultants") => "con_01kaq3v9e8fwmvd2x7n0c5hb3z",
        Some("mail-deliveries") => "mjb_01kaq3v9e8fwmvd2x7n0c5hb6z",
        Some("mail-suppressions") => "sup_01kaq3v9e8fwmvd2x7n0c5hb7z",
        Some("webhook-endpoints") => "whe_01kaq3v9e8fwmvd2x7n0c5hc1z",
        Some("clients") => "cli_01kaq3v9e8fwmvd2x7n0c5hb4z",
        _ => "initech",
    }
}

async fn call(api: &Api, (_, method, path, _, _, body): &Row, id: &str) -> Reply {
    let kind = if body.starts_with("token=") { "application/x-www-form-urlencoded" } else { "application/json" };
    // A hold stands within a tenant, which is what the call is about.
    let path = path.replace("{tenant_id}/legal-holds/{id}", "{tenant_id}/legal-holds/hld_01kaq3v9e8fwmvd2x7n0c5hb7z");
    let path = path.replace("{extension_id}", "ext_01kaq3v9e8fwmvd2x7n0c5hb7z");
    let path = ["{id}", "{tenant_id}", "{principal_id}"].iter().fold(path, |path, name| path.replace(name, id));
    if let Some(query) = body.strip_prefix('?') {
        return api.get(&format!("{path}?{query}")).await;
    }
    let request = api.request(method.clone(), &path);
    api.send(if body.is_empty() { request } else { request.header("content-type", kind).body(*body) }).await
}

/// The body without what names the call itself.
fn essence(reply: &Reply) -> (u16, Value) {
    let mut body = reply.body.clone();
    for own in ["instance", "trace_id"] {
        body.as_object_mut().expect("an object").remove(own);
    }
    (reply.status.as_u16(), body)
}

async fn refusals(world: &World) -> Vec<Value> {
    world.admin.events("&tenant_id=_system&type=access.refused").await
}

/// A client of another portal, and one of another tenant, with every scope there is.
async fn foreigners(world: &World) -> [Api; 2] {
    let scopes = scopes();
    [world.client(Some("ess"), &["acme"], &scopes).await, world.client(Some("cloud"), &["globex"], &scopes).await]
}

#[apply(on_both_databases)]
async fn every_route_is_in_the_matrix(world: &World) {
    let description = world.stranger().get("/openapi.json").await.ok();
    let (mut keyed, mut public) = (BTreeSet::new(), BTreeSet::new());
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap().to_owned();
            if operation["security"] == json!([{}]) {
                public.insert(id);
            } else {
                keyed.insert((id, method.to_uppercase(), path.clone(), operation["security"].to_string()));
            }
        }
    }
    let security = |scopes: &str| {
        let each = scopes.split(" or ").map(|scope| json!({ "bearer": [scope] }));
        each.collect::<Value>().to_string()
    };
    let known = MATRIX.iter().map(|(id, method, path, scopes, ..)| {
        ((*id).to_owned(), method.to_string(), (*path).to_owned(), security(scopes))
    });
    assert_eq!(keyed, known.collect(), "a route that needs a key belongs into MATRIX");
    assert_eq!(public, PUBLIC.iter().map(|id| (*id).to_owned()).collect(), "a route for everybody belongs into PUBLIC");
    assert_eq!(description["security"], json!([{ "bearer": [] }]));
    let schemes: Vec<_> = description["components"]["securitySchemes"].as_object().unwrap().keys().collect();
    assert_eq!(schemes, ["bearer"], "a generator takes the first of two for the only one");
}

#[apply(on_both_databases)]
async fn no_route_answers_without_a_key(world: &World) {
    let wrong =
        Api::new(&world.base, Some("mlsk_01kaq3v9e8fwmvd2x7n0c5hb4z_0123456789012345678901234567890123456789012"));
    for row in MATRIX {
        for api in [&world.stranger(), &wrong] {
            let reply = call(api, row, nobodys(row.2)).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (401, "unauthenticated"), "{}", row.0);
            assert!(reply.header("www-authenticate").starts_with("Bearer"), "{}: {reply:?}", row.0);
        }
    }
    assert!(refusals(world).await.is_empty(), "strangers do not fill the log");
}

#[apply(on_both_databases)]
async fn every_route_needs_its_own_scope_and_no_other(world: &World) {
    for row in MATRIX {
        let (operation, .., scope, _, _) = row;
        let enough: Vec<&str> = scope.split(" or ").collect();
        let others: Vec<&str> = scopes().into_iter().filter(|other| !enough.contains(other)).collect();
        let reply = call(&world.client(None, &["*"], &others).await, row, nobodys(row.2)).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (403, "insufficient_scope"), "{operation}: {reply:?}");
        assert!(reply.body["detail"].as_str().unwrap().ends_with(scope), "{operation}: {reply:?}");
        for one in enough {
            let reply = call(&world.client(None, &["*"], &[one]).await, row, nobodys(row.2)).await;
            assert!(!matches!(reply.status.as_u16(), 401 | 403 | 500..), "{operation}: {reply:?}");
        }
    }
    let recorded = |event: &Value| {
        let text = |name: &str| event["data"][name].as_str().unwrap().to_owned();
        (text("method"), text("route"), text("code"))
    };
    let recorded: BTreeSet<_> = refusals(world).await.iter().map(recorded).collect();
    for (operation, method, route, ..) in MATRIX {
        let refused = (method.to_string(), (*route).to_owned(), "insufficient_scope".to_owned());
        assert!(recorded.contains(&refused), "{operation}: its refusal is not in the audit log");
    }
}

#[apply(on_both_databases)]
async fn what_is_foreign_does_not_exist(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let tenant = world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd" })).await.ok();
    let session = world.open_session(&portal).await;
    let session_id = session["id"].as_str().unwrap();
    let link_id = session["magic_link_id"].as_str().unwrap();
    let [link_path, session_path] = [format!("/v1/magic-links/{link_id}"), format!("/v1/sessions/{session_id}")];
    let mail_path = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link_id}");
    let job = world.admin.get(&mail_path).await.ok()["items"][0]["id"].as_str().unwrap().to_owned();
    let order = json!({ "tenant_id": "acme", "reason": "Asked, and not done", "dry_run": true });
    let order = portal.post("/v1/revocations", &order).await.ok()["id"].as_str().unwrap().to_owned();
    let hook = portal.post("/v1/webhook-endpoints", &json!({ "url": "https://portal.example/hook" })).await.ok();
    let hook = hook["id"].as_str().unwrap().to_owned();
    let things = async || (world.admin.get(&link_path).await.ok(), world.admin.get(&session_path).await.ok());
    let before = things().await;
    let mails = world.mails.all().await.len();

    for (foreigner, other_tenant) in foreigners(world).await.iter().zip([false, true]) {
        for row in MATRIX {
            let id = match row.4 {
                Subject::Link => link_id,
                Subject::Session => session_id,
                Subject::Client => &portal.client_id,
                Subject::Mail => &job,
                Subject::Revocation => &order,
                Subject::Webhook => &hook,
                // A tenant is the same at every portal.
                Subject::Tenant if other_tenant => "acme",
                _ => continue,
            };
            let written = refusals(world).await.len();
            let foreign = call(foreigner, row, id).await;
            let unknown = call(foreigner, row, nobodys(row.2)).await;
            assert_eq!((foreign.status.as_u16(), foreign.code()), (404, "not_found"), "{}: {foreign:?}", row.0);
            assert_eq!(essence(&foreign), essence(&unknown), "{}", row.0);
            let names = |reply: &Reply| reply.headers.keys().map(ToString::to_string).collect::<BTreeSet<_>>();
            assert_eq!(names(&foreign), names(&unknown), "{}", row.0);

            let events = refusals(world).await;
            assert_eq!(events.len(), written + 2, "{}: each refusal is on record", row.0);
            for (event, id) in events[written..].iter().zip([id, nobodys(row.2)]) {
                assert_eq!(event["client_id"], foreigner.client_id.as_str(), "{event}");
                assert_eq!(event["actor"]["id"], foreigner.client_id.as_str(), "{event}");
                assert_eq!(event["data"]["subject"], id, "{event}");
                assert_eq!(event["data"]["code"], "not_found", "{event}");
                assert_eq!(event["data"]["method"], row.1.as_str(), "{event}");
            }
        }
    }
    assert_eq!(things().await, before, "nothing has changed");
    assert_eq!(world.admin.get("/v1/tenants/acme").await.ok(), tenant);
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
    assert_eq!(world.mails.all().await.len(), mails);
    let own_log = portal.event_types("").await;
    assert!(
        !own_log.iter().any(|kind| kind == "access.refused"),
        "strangers' names are not for the portal: {own_log:?}"
    );
}

#[apply(on_both_databases)]
async fn foreign_lists_are_empty(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd" })).await.ok();
    let session = world.open_session(&portal).await;
    let link = session["magic_link_id"].as_str().unwrap();
    for (foreigner, other_tenant) in foreigners(world).await.iter().zip([false, true]) {
        for row in MATRIX.iter().filter(|row| row.4 == Subject::List) {
            if row.0 == "listTenants" && !other_tenant {
                continue;
            }
            let mut queries = vec![""];
            if row.0 == "listMailDeliveries" {
                queries.push("?tenant_id=acme");
            } else if !matches!(row.0, "listTenants" | "listWebhookEndpoints") {
                queries.extend(["?tenant_id=acme", "?portal=cloud", "?tenant_id=acme&portal=cloud"]);
            }
            for query in queries {
                let list = foreigner.get(&format!("{}{query}", row.2)).await.ok();
                assert_eq!(list, json!({ "items": [] }), "{}{query}", row.0);
            }
        }
        for path in ["/v1/sessions", "/v1/audit-events"] {
            assert_eq!(foreigner.get(&format!("{path}?magic_link_id={link}")).await.ok(), json!({ "items": [] }));
        }
        assert_eq!(foreigner.get("/v1/audit-events?tenant_id=_system").await.ok(), json!({ "items": [] }));
        let clients = foreigner.get("/v1/clients").await.ok();
        let ids: Vec<&Value> = clients["items"].as_array().unwrap().iter().map(|client| &client["id"]).collect();
        assert_eq!(ids, [foreigner.client_id.as_str()], "only itself lies within its reach");
    }
}

#[apply(on_both_databases)]
async fn a_foreign_code_is_refused_and_stays_good(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let path = format!("/v1/magic-links/{link}");
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    for foreigner in foreigners(world).await {
        for token in [&code, &token] {
            let reply = foreigner.redeem(token).await;
            reply.refused(404, "not_found");
            for secret in ["acme", "emp-1042", "Asha", link.as_str()] {
                assert!(!reply.text.contains(secret), "{}", reply.text);
            }
        }
        let refused = world.admin.events("&tenant_id=_system&type=magic_link.refused").await;
        assert_eq!(refused.last().unwrap()["client_id"], foreigner.client_id.as_str());
    }
    assert_eq!(world.admin.events("&tenant_id=_system&type=magic_link.refused").await.len(), 4);
    assert!(world.admin.get(&path).await.ok().get("spent_at").is_none(), "unspent");
    assert!(world.admin.events("&type=session.opened").await.is_empty());
    let session = portal.redeem(&code).await.ok();
    assert_eq!(session["magic_link_id"], link.as_str());
    // Spent or not is nobody else's business.
    for foreigner in foreigners(world).await {
        foreigner.redeem(&code).await.refused(404, "not_found");
    }
    portal.redeem(&code).await.refused(410, "link_spent");
}

#[apply(on_both_databases)]
async fn a_foreign_access_token_is_inactive_and_nothing_more(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    for foreigner in foreigners(world).await {
        let reply = foreigner.form("/v1/introspect", &[("token", token)]).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "{\"active\":false}"));
    }
    let nobody = world.stranger().form("/v1/introspect", &[("token", token)]).await;
    nobody.refused(401, "unauthenticated");
    assert!(portal.is_active(token).await);
}
