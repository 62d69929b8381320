//! What a client can obtain or bring about: never more than its own scopes, tenants and portal.

use serde_json::{Value, json};

use crate::support::{Api, Sql, World, apply, eventually, on_both_databases};

const CLIENTS: &str = "/v1/clients";
const CONSULTANTS: &str = "/v1/consultants";
const REVOCATIONS: &str = "/v1/revocations";
const THIRTY_DAYS: i64 = 30 * 86_400;

fn rotate_path(client: &Api) -> String {
    format!("{CLIENTS}/{}/rotate", client.client_id)
}

fn id_of(thing: &Value) -> &str {
    thing["id"].as_str().expect("an id")
}

#[apply(on_both_databases)]
async fn nobody_rotates_to_a_key_that_they_could_not_create(world: &World) {
    let bound = world.client(None, &["acme"], &["admin", "links:read"]).await;
    let stronger = world.client(Some("cloud"), &["acme"], &["links:issue"]).await;
    let other_admin = world.client(None, &["acme"], &["admin", "sessions:redeem"]).await;
    let equal = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let overlap = json!({ "overlap_seconds": THIRTY_DAYS });
    let request =
        json!({ "name": "Another", "portal": "cloud", "tenants": ["acme"], "scopes": ["links:read", "links:issue"] });
    bound.post(CLIENTS, &request).await.refused(403, "client_not_permitted");
    for client in [&stronger, &other_admin] {
        let reply = bound.post(&rotate_path(client), &overlap).await;
        reply.refused(403, "client_not_permitted");
        assert!(!reply.text.contains("mlsk_"), "{}", reply.text);
    }
    assert!(world.admin.events("&type=client.rotated").await.is_empty());
    let refused = world.admin.events("&tenant_id=_system&type=access.refused").await;
    assert_eq!(refused.iter().filter(|event| event["client_id"] == bound.client_id.as_str()).count(), 3);
    // The key that was to be replaced is still the only one.
    stronger.post("/v1/magic-links", &json!({})).await.refused(400, "invalid_body");

    // What they could create they may rotate, their own key too; an operator may rotate any.
    for client in [&equal, &bound] {
        let key = bound.post(&rotate_path(client), &overlap).await.ok()["key"].as_str().unwrap().to_owned();
        assert_eq!(Api::new(&world.base, Some(&key)).get("/v1/magic-links").await.status, 200);
    }
    assert!(world.admin.post(&rotate_path(&stronger), &overlap).await.ok()["key"].is_string());
    assert_eq!(world.admin.events("&type=client.rotated").await.len(), 3);
}

#[apply(on_both_databases)]
async fn the_secret_of_a_stronger_clients_endpoint_is_not_rotated_into_view(world: &World) {
    let bound = world.client(None, &["acme"], &["admin", "webhooks:manage"]).await;
    let portal = world.portal("cloud", "acme").await;
    let equal = world.client(Some("cloud"), &["acme"], &["webhooks:manage"]).await;
    let endpoint = json!({ "url": "https://portal.example/hook" });
    let of = async |client: &Api| id_of(&client.post("/v1/webhook-endpoints", &endpoint).await.ok()).to_owned();
    let [of_portal, of_equal, own] = [of(&portal).await, of(&equal).await, of(&bound).await];
    let rotate = async |caller: &Api, id: &str| {
        let at_once = json!({ "overlap_seconds": 0 });
        caller.post(&format!("/v1/webhook-endpoints/{id}/rotate-secret"), &at_once).await
    };
    let refused = rotate(&bound, &of_portal).await;
    refused.refused(403, "client_not_permitted");
    assert!(!refused.text.contains("whsec_"), "{}", refused.text);
    for id in [&of_equal, &own] {
        assert!(rotate(&bound, id).await.ok()["secret"].is_string());
    }
    for caller in [&portal, &world.admin] {
        assert!(rotate(caller, &of_portal).await.ok()["secret"].is_string());
    }
    assert_eq!(world.admin.events("&type=webhook_endpoint.rotated").await.len(), 4);
}

#[apply(on_both_databases)]
async fn a_bulk_revocation_is_judged_by_the_tenants_that_it_reaches(world: &World) {
    let consultant = world.consultant().await;
    let link = world.admin.issue(&consultant).await;
    let everywhere = world.client(None, &["*"], &["links:revoke"]).await;
    let two = world.client(Some("cloud"), &["acme", "globex"], &["links:revoke"]).await;
    let one = world.client(None, &["acme"], &["links:revoke"]).await;
    let operator = world.client(None, &["*"], &["links:revoke", "admin"]).await;
    let wide = [
        json!({ "portal": "cloud" }),
        json!({ "consultant_id": consultant }),
        json!({ "profile_id": "emp-1042" }),
        json!({ "issued_by_id": "emp-7", "portal": "cloud" }),
        json!({ "everything": true }),
    ];
    let order = async |caller: &Api, selectors: &Value, dry_run: bool| {
        let mut order = selectors.clone();
        order["reason"] = "The work is done".into();
        order["dry_run"] = dry_run.into();
        caller.post(REVOCATIONS, &order).await
    };
    for selectors in &wide {
        for dry_run in [true, false] {
            for caller in [&everywhere, &two] {
                order(caller, selectors, dry_run).await.refused(403, "insufficient_scope");
            }
            // The same words reach one tenant only, from a client that has no other.
            if dry_run && selectors.get("everything").is_none() {
                assert_eq!(order(&one, selectors, dry_run).await.ok()["links"], 1, "{selectors}");
            }
        }
    }
    assert!(world.admin.events("&type=magic_link.revoked").await.is_empty());
    let counted = order(&operator, &wide[0], true).await.ok();
    assert_eq!(counted["links"], 1);
    // What a client could not have ordered it does not read either: the counts tell of other tenants.
    let path = format!("{REVOCATIONS}/{}", id_of(&counted));
    for caller in [&everywhere, &two, &one] {
        caller.get(&path).await.refused(404, "not_found");
    }
    assert_eq!(operator.get(&path).await.ok(), counted);
    let own = order(&everywhere, &json!({ "tenant_id": "acme", "portal": "cloud" }), false).await.ok();
    assert_eq!(own["links"], 1);
    assert_eq!(everywhere.get(&format!("{REVOCATIONS}/{}", id_of(&own))).await.status, 200);
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
}

#[apply(on_both_databases)]
async fn who_may_not_revoke_links_does_not_revoke_them_with_their_client(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&consultant).await;
    let disable = format!("{CLIENTS}/{}/disable", portal.client_id);
    let admin = world.client(None, &["acme"], &["admin"]).await;
    admin.post(&disable, &json!({ "revoke_links": true })).await.refused(403, "insufficient_scope");
    let state = async || world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone();
    assert_eq!((portal.get("/v1/magic-links").await.status.as_u16(), state().await), (200, json!("active")));
    admin.post(&disable, &json!({})).await.ok();
    assert_eq!(state().await, "active");
    let both = world.client(None, &["acme"], &["admin", "links:revoke"]).await;
    both.post(&disable, &json!({ "revoke_links": true })).await.ok();
    assert_eq!(state().await, "revoked");
}

#[apply(on_both_databases)]
async fn what_the_operators_receiver_answers_is_for_operators(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let log = "/v1/audit-log/acme";
    assert_eq!(world.admin.get(&format!("{log}/checkpoint")).await.status, 200);
    Sql::of(world)
        .run(
            "INSERT INTO checkpoint_deliveries (tenant_id, channel, size, attempts, next_attempt_at, last_error) \
             VALUES ('acme', 'webhook', 1, 1, '2099-01-01 00:00:00', '403 of the archive')",
        )
        .unwrap();
    let seen = world.admin.get(log).await.ok();
    assert_eq!(seen["deliveries"][0]["last_error"], "403 of the archive");
    for auditor in
        [world.client(None, &["acme"], &["audit:read"]).await, world.client(None, &["*"], &["audit:read"]).await]
    {
        let seen = auditor.get(log).await.ok();
        assert_eq!((&seen["deliveries"][0]["size"], seen["deliveries"][0].get("last_error")), (&json!(1), None));
    }
}

/// The answers in which a tenant's portal and auditor might read what an operator wrote.
async fn whatever_a_tenant_reads(world: &World, portal: &Api, consultant: &str, link: &str) -> String {
    let auditor = world.client(None, &["acme"], &["audit:read"]).await;
    let mut seen = String::new();
    for (reader, path) in [
        (portal, CONSULTANTS.to_owned()),
        (portal, format!("{CONSULTANTS}/{consultant}")),
        (portal, format!("{CONSULTANTS}?state=suspended")),
        (portal, "/v1/magic-links".to_owned()),
        (portal, format!("/v1/magic-links/{link}")),
        (portal, "/v1/sessions".to_owned()),
        (portal, "/v1/mail-deliveries".to_owned()),
        (portal, format!("/v1/magic-links/{link}/evidence")),
        (&auditor, "/v1/audit-events?page_size=200".to_owned()),
        (&auditor, "/v1/audit-events/export?tenant_id=acme".to_owned()),
    ] {
        let reply = reader.get(&path).await;
        assert_eq!(reply.status, 200, "{path}");
        seen += &reply.text;
    }
    seen
}

#[apply(on_both_databases)]
async fn why_a_consultant_was_suspended_is_for_operators(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (link, consultant) = (session["magic_link_id"].as_str().unwrap(), id_of(&session["consultant"]));
    let path = format!("{CONSULTANTS}/{consultant}");
    let why = json!({ "reason": "Copied payslips at Globex", "requested_by": { "id": "emp-99", "name": "Gita Nair" } });
    let operator = world.client(None, &["*"], &["consultants:read", "consultants:write"]).await;
    let suspended = operator.post(&format!("{path}/suspend"), &why).await.ok();
    assert_eq!(suspended["suspend_reason"], "Copied payslips at Globex");

    let seen = whatever_a_tenant_reads(world, &portal, consultant, link).await;
    assert!(seen.contains("the consultant was suspended"), "{seen}");
    // A person of one customer is not named to another one as who revoked.
    for secret in ["payslips", "Globex", "Gita", "emp-99", "suspend_reason"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    // A reader of every tenant is no operator, and neither is the back end of a portal of every tenant.
    let scopes = ["consultants:read", "consultants:write", "admin"];
    let reader = world.client(None, &["*"], &["consultants:read"]).await;
    for other in
        [reader, world.client(Some("cloud"), &["*"], &scopes).await, world.client(None, &["acme"], &scopes).await]
    {
        let seen = other.get(&path).await.ok();
        assert_eq!((&seen["state"], seen.get("suspend_reason")), (&json!("suspended"), None));
        assert!(!other.get(CONSULTANTS).await.text.contains("payslips"));
    }
    for reader in [&operator, &world.admin] {
        assert_eq!(reader.get(&path).await.ok()["suspend_reason"], "Copied payslips at Globex");
        assert_eq!(reader.get(CONSULTANTS).await.ok()["items"][0]["suspend_reason"], "Copied payslips at Globex");
    }
    let on_record = world.admin.events("&tenant_id=_system&type=consultant.suspended").await;
    assert_eq!(
        (&on_record[0]["data"]["reason"], &on_record[0]["actor"]["name"]),
        (&json!("Copied payslips at Globex"), &json!("Gita Nair"))
    );
}

#[apply(on_both_databases)]
async fn a_tenant_is_told_what_was_revoked_and_not_what_operators_wrote_about_others(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (link, consultant) = (session["magic_link_id"].as_str().unwrap(), id_of(&session["consultant"]));
    // A key that Globex lost.
    let kid = world.admin.get("/v1/keys").await.ok()["items"][0]["kid"].as_str().unwrap().to_owned();
    let unspent = portal.issue(consultant).await;
    world.token(&unspent, 1).await;
    let why = json!({ "reason": "Found in the rubbish of Globex" });
    assert_eq!(world.admin.post(&format!("/v1/keys/{kid}/revoke"), &why).await.ok()["revoked_links"], 1);
    // A client with a name that operators gave it.
    let request = json!({ "name": "Pilot of Globex and ACME", "portal": "cloud", "tenants": ["acme", "globex"],
        "scopes": ["links:issue"] });
    let shared = world.admin.post(CLIENTS, &request).await.ok();
    let pilot = Api::new(&world.base, shared["key"].as_str());
    let piloted = pilot.issue(consultant).await;
    let path = format!("{CLIENTS}/{}/disable", pilot.client_id);
    world.admin.post(&path, &json!({ "revoke_links": true })).await.ok();
    // A person of Globex asks for an end that reaches ACME, too.
    let order = json!({ "portal": "cloud", "reason": "The portal is being repaired",
        "requested_by": { "id": "emp-99", "name": "Gita Nair" } });
    let another = portal.issue(consultant).await;
    world.admin.post(REVOCATIONS, &order).await.ok();

    let seen = whatever_a_tenant_reads(world, &portal, consultant, link).await;
    for secret in ["rubbish", "Globex", "globex", "Gita", "emp-99"] {
        assert!(!seen.contains(secret), "{secret} in {seen}");
    }
    for (link, reason) in [
        (&unspent, "the signing key was revoked"),
        (&piloted, "the client that issued the link was disabled"),
        (&another, "The portal is being repaired"),
    ] {
        let link = portal.get(&format!("/v1/magic-links/{link}")).await.ok();
        assert_eq!((&link["revoke_reason"], &link["revoked_by"]["type"]), (&json!(reason), &json!("client")));
    }
    let ordered = world.admin.events("&tenant_id=_system&type=revocation.ordered").await;
    assert_eq!(ordered[0]["actor"]["name"], "Gita Nair", "whom the operators' log names");
}

#[apply(on_both_databases)]
async fn only_operators_write_into_the_directory_that_every_tenant_reads(world: &World) {
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@elsewhere.example" });
    let scopes = ["consultants:read", "consultants:write", "admin"];
    for (portal, tenants) in [(None, &["acme"][..]), (Some("cloud"), &["*"]), (Some("cloud"), &["acme"])] {
        let bound = world.client(portal, tenants, &scopes).await;
        bound.post(CONSULTANTS, &request).await.refused(403, "client_not_permitted");
    }
    assert_eq!(world.admin.get(CONSULTANTS).await.ok()["items"], json!([]));
}

#[apply(on_both_databases)]
async fn how_long_the_log_is_kept_is_not_for_whoever_names_a_tenant(world: &World) {
    let tenant = "/v1/tenants/acme";
    let keep = |days: i32| json!({ "name": "ACME", "retention_days": days });
    world.admin.put(tenant, &keep(3_650)).await.ok();
    let namer = world.client(None, &["acme"], &["tenants:write", "tenants:read", "admin"]).await;
    let of_portal = world.client(Some("cloud"), &["acme"], &["tenants:write", "tenants:read", "audit:manage"]).await;
    namer.put(tenant, &keep(366)).await.refused(403, "insufficient_scope");
    of_portal.put(tenant, &keep(366)).await.refused(403, "client_not_permitted");
    namer.put("/v1/tenants/globex", &keep(366)).await.refused(404, "not_found");
    // What changes nothing about it is theirs.
    for caller in [&namer, &of_portal] {
        caller.put(tenant, &keep(3_650)).await.ok();
        assert_eq!(caller.put(tenant, &json!({ "name": "ACME Ltd" })).await.ok()["retention_days"], 3_650);
    }
    // Nor does who is bound to one portal decide how the values of the others are stored.
    let plain = |tenant: &str| (format!("/v1/tenants/{tenant}"), json!({ "name": "ACME", "change_values": "plain" }));
    let everywhere = world.client(Some("cloud"), &["*"], &["tenants:write"]).await;
    for (caller, tenant) in [(&of_portal, "acme"), (&everywhere, "acme"), (&everywhere, "umbrella")] {
        let (path, settings) = plain(tenant);
        caller.put(&path, &settings).await.refused(403, "client_not_permitted");
    }
    assert_eq!(namer.put(tenant, &plain("acme").1).await.ok()["change_values"], "plain");
    let keeper = world.client(None, &["acme"], &["tenants:write", "audit:manage"]).await;
    assert_eq!(keeper.put(tenant, &keep(400)).await.ok()["retention_days"], 400);
}

// The client issued them while it reached further than whoever disables it.
#[apply(on_both_databases)]
async fn to_disable_a_client_ends_no_links_beyond_the_callers_reach(world: &World) {
    let narrowed = world.client(None, &["acme", "globex"], &["links:issue", "links:read"]).await;
    let issue = async |tenant: &str, portal: &str| {
        let mut request = Api::issue_request(&world.consultant().await);
        (request["tenant_id"], request["portal"]) = (json!(tenant), json!(portal));
        id_of(&narrowed.post("/v1/magic-links", &request).await.ok()).to_owned()
    };
    let (foreign, elsewhere, own) =
        (issue("globex", "cloud").await, issue("acme", "ess").await, issue("acme", "cloud").await);
    let change = json!({ "tenants": ["acme"], "portal": "cloud", "scopes": ["links:read"] });
    world.admin.patch(&format!("{CLIENTS}/{}", narrowed.client_id), &change).await.ok();
    let bound = world.client(Some("cloud"), &["acme"], &["admin", "links:revoke", "links:read"]).await;
    for beyond in [&foreign, &elsewhere] {
        bound.get(&format!("/v1/magic-links/{beyond}")).await.refused(404, "not_found");
    }
    let order = json!({ "revoke_links": true });
    let disabled = bound.post(&format!("{CLIENTS}/{}/disable", narrowed.client_id), &order).await.ok();
    let state = async |link: &str| world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone();
    assert_eq!(state(&own).await, "revoked");
    for beyond in [&foreign, &elsewhere] {
        assert_eq!(state(beyond).await, "active");
    }
    let ordered = format!("{REVOCATIONS}/{}", disabled["revocation_id"].as_str().unwrap());
    assert_eq!(bound.get(&ordered).await.ok()["links"], 1);
    // An operator ends what is left of them.
    world.admin.post(&format!("{CLIENTS}/{}/disable", narrowed.client_id), &order).await.ok();
    for beyond in [&foreign, &elsewhere] {
        eventually("it ends", async || (state(beyond).await == "revoked").then_some(())).await;
    }
}
