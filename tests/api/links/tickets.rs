//! Access hangs on a ticket: what closes the ticket ends the access, by one call.

use serde_json::{Value, json};

use crate::support::{Api, World, apply, eventually, on_both_databases};

/// Issues a link with a ticket.
async fn issue(world: &World, caller: &Api, tenant: &str, ticket: Option<&str>) -> String {
    let mut request = Api::issue_request(&world.consultant().await);
    request["tenant_id"] = tenant.into();
    request["ticket"] = ticket.map_or(Value::Null, Into::into);
    let link = caller.post("/v1/magic-links", &request).await.ok();
    assert_eq!(link.get("ticket").and_then(Value::as_str), ticket.map(str::trim));
    link["id"].as_str().unwrap().to_owned()
}

async fn state(world: &World, link: &str) -> Value {
    world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].clone()
}

#[apply(on_both_databases)]
async fn a_closed_ticket_ends_the_access_that_it_stands_for_and_no_other(world: &World) {
    let desk = world.client(Some("cloud"), &["acme"], &["links:issue", "links:read", "links:revoke"]).await;
    let closed = issue(world, &desk, "acme", Some("  SUP-48213 ")).await;
    let mut others = Vec::new();
    for ticket in [Some("SUP-4821"), Some("sup-48213"), Some("SUP-482130"), None] {
        others.push(issue(world, &desk, "acme", ticket).await);
    }
    others.push(issue(world, &world.admin, "globex", Some("SUP-48213")).await);

    let order = json!({ "ticket": " SUP-48213 ", "reason": "The ticket was closed" });
    let dry = json!({ "ticket": "SUP-48213", "reason": "Only asked", "dry_run": true });
    assert_eq!(desk.post("/v1/revocations", &dry).await.ok()["links"], 1);
    let revocation = desk.post("/v1/revocations", &order).await.ok();
    assert_eq!((&revocation["ticket"], &revocation["tenant_ids"]), (&json!("SUP-48213"), &json!(["acme"])));
    assert_eq!(state(world, &closed).await, "revoked");
    eventually("it is carried out", async || {
        let path = format!("/v1/revocations/{}", revocation["id"].as_str().unwrap());
        let read = desk.get(&path).await.ok();
        (read["state"] == "done").then(|| assert_eq!(read["links"], 1))
    })
    .await;
    for other in &others {
        assert_eq!(state(world, other).await, "active");
    }
    let ordered = world.admin.events("&type=revocation.ordered&tenant_id=acme").await;
    assert_eq!(ordered.last().unwrap()["data"]["ticket"], "SUP-48213");
}

#[apply(on_both_databases)]
async fn a_ticket_is_never_empty_and_always_one_tenants(world: &World) {
    let link = issue(world, &world.admin, "acme", Some("SUP-1")).await;
    let desk = world.client(None, &["acme", "globex"], &["links:revoke"]).await;
    for caller in [&world.admin, &desk] {
        let order = json!({ "ticket": "SUP-1", "reason": "The ticket was closed" });
        caller.post("/v1/revocations", &order).await.refused_field("/tenant_id");
        for ticket in ["", "  ", &"x".repeat(65)] {
            let order = json!({ "tenant_id": "acme", "ticket": ticket, "reason": "The ticket was closed" });
            caller.post("/v1/revocations", &order).await.refused_field("/ticket");
        }
    }
    assert_eq!(state(world, &link).await, "active");
    let order = json!({ "tenant_id": "acme", "ticket": "SUP-1", "reason": "The ticket was closed" });
    desk.post("/v1/revocations", &order).await.ok();
    assert_eq!(state(world, &link).await, "revoked");
}
