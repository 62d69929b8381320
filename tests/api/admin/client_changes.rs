//! A client that is read and changed, by whom, and when it was last seen.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

async fn client_of(world: &World, api: &Api) -> String {
    let list = world.admin.get("/v1/clients").await.ok();
    let named = |client: &&serde_json::Value| client["id"] == api.client_id.as_str();
    let client = list["items"].as_array().unwrap().iter().find(named).unwrap();
    format!("/v1/clients/{}", client["id"].as_str().unwrap())
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_client_is_changed_without_another_key_and_says_when_it_was_used(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let path = client_of(world, &portal).await;
    assert!(world.admin.get(&path).await.ok().get("last_used_at").is_none(), "it never called");
    portal.get("/v1/magic-links").await.ok();
    let used = world.admin.get(&path).await.ok()["last_used_at"].clone();
    assert_eq!(used, json!(world.clock.now()));
    world.clock.advance(Duration::minutes(2));
    portal.get("/v1/magic-links").await.ok();
    assert_eq!(world.admin.get(&path).await.ok()["last_used_at"], json!(world.clock.now()));

    let change = json!({ "name": "ESS", "portal": "ess", "scopes": ["links:read"], "tenants": ["acme", "globex"] });
    let changed = world.admin.patch(&path, &change).await.ok();
    assert_eq!((&changed["name"], &changed["portal"]), (&json!("ESS"), &json!("ess")));
    assert_eq!((&changed["scopes"], &changed["tenants"]), (&json!(["links:read"]), &json!(["acme", "globex"])));
    assert_eq!(world.admin.get(&path).await.ok(), changed);
    portal.get("/v1/magic-links?tenant_id=globex").await.ok();
    portal.get("/v1/sessions").await.ok();
    let issue = Api::issue_request(&world.consultant().await);
    portal.post("/v1/magic-links", &issue).await.refused(403, "insufficient_scope");
    let unbound = world.admin.patch(&path, &json!({ "portal": "" })).await.ok();
    assert!(unbound.get("portal").is_none() && unbound["name"] == "ESS");
    // What it has already, or nothing at all, is no change.
    for none in [json!({}), json!({ "name": "ESS", "portal": "", "scopes": ["links:read"] })] {
        assert_eq!(world.admin.patch(&path, &none).await.ok(), unbound);
    }
    for (wrong, field) in [
        (json!({ "name": "\u{200b}" }), "/name"),
        (json!({ "portal": "none" }), "/portal"),
        (json!({ "tenants": [] }), "/tenants"),
        (json!({ "tenants": ["a b"] }), "/tenants/0"),
        (json!({ "scopes": [] }), "/scopes"),
    ] {
        world.admin.patch(&path, &wrong).await.refused_field(field);
    }
    let events = world.admin.events("&tenant_id=_system&type=client.changed").await;
    assert_eq!((events.len(), &events[0]["data"]["after"]["name"]), (2, &json!("ESS")));
    world.admin.post(&format!("{path}/disable"), &json!({})).await.ok();
    for change in [json!({ "name": "Again" }), json!({})] {
        world.admin.patch(&path, &change).await.refused(409, "client_disabled");
    }
}

#[apply(on_both_databases)]
async fn nobody_changes_a_client_into_what_they_could_not_create(world: &World) {
    let bound = world.client(Some("cloud"), &["acme"], &["admin", "links:read"]).await;
    let weaker = world.client(Some("cloud"), &["acme"], &["links:read"]).await;
    let stronger = world.client(Some("cloud"), &["acme"], &["links:issue"]).await;
    let foreign = world.client(Some("cloud"), &["globex"], &["links:read"]).await;
    let path = |api: &Api| format!("/v1/clients/{}", api.client_id);
    for wrong in [
        json!({ "scopes": ["links:issue"] }),
        json!({ "tenants": ["acme", "globex"] }),
        json!({ "tenants": ["*"] }),
        json!({ "portal": "ess" }),
        json!({ "portal": "" }),
    ] {
        bound.patch(&path(&weaker), &wrong).await.refused(403, "client_not_permitted");
        bound.patch(&path(&bound), &wrong).await.refused(403, "client_not_permitted");
    }
    // Not even to weaken one that stands above.
    bound.patch(&path(&stronger), &json!({ "scopes": ["links:read"] })).await.refused(403, "client_not_permitted");
    for hidden in [path(&foreign), path(&world.admin)] {
        bound.get(&hidden).await.refused(404, "not_found");
        bound.patch(&hidden, &json!({ "name": "Mine" })).await.refused(404, "not_found");
    }
    assert_eq!(bound.patch(&path(&weaker), &json!({ "name": "Reader" })).await.ok()["name"], "Reader");
}

#[apply(on_both_databases)]
async fn bulk_revocations_are_listed_with_what_they_select(world: &World) {
    let (consultant, other) = (world.consultant().await, world.consultant().await);
    world.admin.issue(&consultant).await;
    let portal = world.portal("cloud", "acme").await;
    let order = json!({ "profile_id": "emp-1042", "reason": "Left the company" });
    let own = portal.post("/v1/revocations", &order).await.ok();
    assert_eq!((&own["tenant_ids"], &own["portal"]), (&json!(["acme"]), &json!("cloud")));
    let suspended =
        world.admin.post(&format!("/v1/consultants/{consultant}/suspend"), &json!({ "reason": "On leave" })).await;
    let by_suspension = suspended.ok()["revocation_id"].clone();
    world
        .admin
        .post("/v1/revocations", &json!({ "consultant_id": other, "reason": "Only counted", "dry_run": true }))
        .await
        .ok();

    let list = async |api: &Api, query: &str| {
        api.get(&format!("/v1/revocations{query}")).await.ok()["items"].as_array().unwrap().clone()
    };
    let all = list(&world.admin, "").await;
    assert_eq!((all.len(), &all[0]["consultant_id"], &all[0]["state"]), (3, &json!(other), &json!("dry_run")));
    assert_eq!((&all[1]["id"], &all[1]["consultant_id"]), (&by_suspension, &json!(consultant)));
    assert_eq!((&all[2]["id"], &all[2]["profile_id"]), (&own["id"], &json!("emp-1042")));
    assert_eq!(list(&world.admin, &format!("?consultant_id={consultant}")).await.len(), 1);
    assert_eq!(list(&world.admin, "?state=dry_run").await.len(), 1);
    assert_eq!(list(&world.admin, "?tenant_id=globex").await.len(), 2, "of every tenant");
    assert_eq!(list(&world.admin, "?tenant_id=acme&portal=cloud").await.len(), 3);
    assert_eq!(list(&world.admin, "?portal=ess").await.len(), 2);
    // What reaches more than one tenant is for administrators.
    let seen = list(&portal, "").await;
    assert_eq!((seen.len(), &seen[0]["id"]), (1, &own["id"]));
    assert_eq!(list(&world.portal("ess", "acme").await, "").await.len(), 0);
}

#[apply(on_both_databases)]
async fn a_freeze_is_seen_and_made_from_outside(world: &World) {
    let ready = async || world.stranger().get("/readyz").await.ok()["issuing_frozen"].clone();
    assert_eq!(ready().await, false);
    assert_eq!(world.admin.get("/v1/issuing").await.ok(), json!({ "frozen": false }));
    world.admin.put("/v1/issuing", &json!({ "frozen": true })).await.refused_field("/reason");
    let frozen = world.admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "A key has leaked" })).await.ok();
    assert_eq!((&frozen["frozen"], &frozen["reason"]), (&json!(true), &json!("A key has leaked")));
    assert_eq!((ready().await, world.admin.get("/v1/issuing").await.ok()), (json!(true), frozen));
    let issue = Api::issue_request(&world.consultant().await);
    world.admin.post("/v1/magic-links", &issue).await.refused(409, "issuing_frozen");
    let bound = world.client(None, &["acme"], &["admin"]).await;
    bound.get("/v1/issuing").await.refused(403, "client_not_permitted");
    bound.put("/v1/issuing", &json!({ "frozen": false })).await.refused(403, "client_not_permitted");
    assert_eq!(world.admin.put("/v1/issuing", &json!({ "frozen": false })).await.ok(), json!({ "frozen": false }));
    assert_eq!((ready().await, world.admin.post("/v1/magic-links", &issue).await.status.as_u16()), (json!(false), 201));
    let events = world.admin.events("&tenant_id=_system&type=issuing.frozen").await;
    assert_eq!((events.len(), &events[0]["actor"]["type"]), (1, &json!("client")));
    for (frozen, reason) in [(true, "A rehearsal"), (false, "All clear, INC-77")] {
        world.admin.put("/v1/issuing", &json!({ "frozen": frozen, "reason": reason })).await.ok();
    }
    let ended = world.admin.events("&tenant_id=_system&type=issuing.unfrozen").await;
    let mut reasons: Vec<&Value> = ended.iter().map(|event| &event["data"]["reason"]).collect();
    reasons.sort_by_key(|reason| reason.is_string());
    assert_eq!(reasons, [&Value::Null, &json!("All clear, INC-77")]);
}

#[apply(on_both_databases)]
async fn another_spelling_of_an_address_takes_nothing_away(world: &World) {
    let request = json!({ "name": " Ravi Kumar ", "email": "ravi@support.example" });
    let consultant = world.admin.post("/v1/consultants", &request).await.ok();
    assert_eq!(consultant["name"], "Ravi Kumar");
    let path = format!("/v1/consultants/{}", consultant["id"].as_str().unwrap());
    let link = world.admin.issue(consultant["id"].as_str().unwrap()).await;
    let spelled = world.admin.patch(&path, &json!({ "email": "Ravi@Support.example" })).await.ok();
    assert_eq!((&spelled["email"], spelled.get("revocation_id")), (&json!("Ravi@Support.example"), None));
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");
    let changed = world.admin.patch(&path, &json!({ "email": "ravi.k@support.example" })).await.ok();
    assert!(changed["revocation_id"].is_string());
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
}

#[apply(on_both_databases)]
async fn addresses_of_every_alphabet_are_taken_or_say_why_and_a_notice_blocks_no_grant(world: &World) {
    let register =
        async |email: &str| world.admin.post("/v1/consultants", &json!({ "name": "Ravi Kumar", "email": email })).await;
    let taken = register("ravi@b\u{fc}cher.example").await.ok();
    assert_eq!(taken["email"], "ravi@xn--bcher-kva.example");
    register("ravi@xn--bcher-kva.example").await.refused(409, "consultant_exists");
    let refused = register("r\u{e4}vi@support.example").await;
    refused.refused_field("/email");
    assert!(refused.text.contains("before the @"), "{refused:?}");
    for name in ["\u{200b}", "\u{2800}", "\u{3164}\u{ad}", " \u{2060} "] {
        world
            .admin
            .post("/v1/consultants", &json!({ "name": name, "email": "x@support.example" }))
            .await
            .refused_field("/name");
    }
    let mut request = Api::issue_request(taken["id"].as_str().unwrap());
    request["issued_by"]["email"] = json!("m\u{e9}era@acme.example");
    request["profile"]["email"] = json!("asha@\u{909}\u{926}\u{93e}\u{939}\u{930}\u{923}.example");
    request["profile"]["name"] = json!("  Asha Rao ");
    let link = world.admin.post("/v1/magic-links", &request).await.ok();
    assert_eq!((link["issued_by"].get("email"), &link["profile"]["name"]), (None, &json!("Asha Rao")));
    assert!(link["profile"]["email"].as_str().unwrap().starts_with("asha@xn--"), "{link}");
    let issued = world.admin.events("&type=magic_link.issued").await;
    assert!(issued[0]["data"]["issuer_email_refused"].as_str().unwrap().contains("before the @"), "{issued:?}");
}
