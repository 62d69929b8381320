//! Legal holds: placed and released by whom the log is entrusted to, and never by less than who placed them.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

const HOLDS: &str = "/v1/audit-log/acme/legal-holds";

async fn place(caller: &Api) -> Value {
    caller.post(HOLDS, &json!({ "reason": "Labour court, case 2026-118" })).await.ok()
}

async fn release(caller: &Api, hold: &Value) -> crate::support::Reply {
    let path = format!("{HOLDS}/{}/release", hold["id"].as_str().unwrap());
    caller.post(&path, &json!({ "reason": "The case was settled" })).await
}

#[apply(on_both_databases)]
async fn a_hold_is_released_by_who_could_have_placed_it(world: &World) {
    let keeper = async |tenants: &[&str]| world.client(None, tenants, &["audit:manage", "audit:read"]).await;
    let (everywhere, acme, other) = (keeper(&["*"]).await, keeper(&["acme"]).await, keeper(&["acme"]).await);
    let (two, three) = (keeper(&["acme", "globex"]).await, keeper(&["acme", "globex", "initech"]).await);
    let of_operator = place(&world.admin).await;
    let of_two = place(&two).await;
    let of_acme = place(&acme).await;
    for (caller, hold) in [(&acme, &of_operator), (&two, &of_operator), (&three, &of_operator), (&acme, &of_two)] {
        release(caller, hold).await.refused(403, "client_not_permitted");
    }
    let held = world.admin.get(HOLDS).await.ok();
    assert!(held["items"].as_array().unwrap().iter().all(|hold| hold.get("released_at").is_none()), "{held}");
    assert!(world.admin.events("&tenant_id=acme&type=legal_hold.released").await.is_empty());
    for (caller, hold) in [(&other, &of_acme), (&three, &of_two), (&everywhere, &of_operator)] {
        assert!(release(caller, hold).await.ok()["released_at"].is_string());
    }
    assert_eq!(world.admin.get("/v1/audit-log/acme").await.ok()["legal_hold"], false);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_administrator_is_not_thereby_the_keeper_of_the_log(world: &World) {
    let hold = place(&world.admin).await;
    world.clock.advance(Duration::days(500));
    let purge = json!({ "before": world.clock.now().minus(Duration::days(450)), "reason": "The contract has ended" });
    for tenants in [&["acme"][..], &["*"]] {
        let admin = world.client(None, tenants, &["admin", "audit:read", "audit:write"]).await;
        let request = json!({ "reason": "Labour court, case 2026-118" });
        admin.post(HOLDS, &request).await.refused(403, "insufficient_scope");
        release(&admin, &hold).await.refused(403, "insufficient_scope");
        admin.post("/v1/audit-log/acme/purges", &purge).await.refused(403, "insufficient_scope");
    }
    // Nor does a bound administrator make one.
    let bound = world.client(None, &["acme"], &["admin"]).await;
    let request = json!({ "name": "Keeper", "tenants": ["acme"], "scopes": ["audit:manage"] });
    bound.post("/v1/clients", &request).await.refused(403, "client_not_permitted");
    assert_eq!(world.admin.get("/v1/audit-log/acme").await.ok()["legal_hold"], true);
}

#[apply(on_both_databases)]
async fn what_a_hold_says_is_not_for_the_client_of_one_portal(world: &World) {
    let hold = place(&world.admin).await;
    let portal = world.portal("cloud", "acme").await;
    portal.get(HOLDS).await.refused(403, "client_not_permitted");
    assert!(!portal.get("/v1/audit-events?page_size=200").await.text.contains("Labour court"));
    let auditor = world.client(None, &["acme"], &["audit:read"]).await;
    assert_eq!(auditor.get(HOLDS).await.ok()["items"], json!([hold]));
}
