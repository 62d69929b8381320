//! Reading about a tenant that nobody knows makes nothing of it.

use serde_json::json;

use crate::support::{Sql, World, apply, on_both_databases};

#[apply(on_both_databases)]
async fn reading_about_an_unknown_tenant_begins_no_log(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    world.admin.get("/v1/audit-events?tenant_id=nobody").await.ok();
    world.admin.get("/v1/access-summaries/emp-9?tenant_id=nobody").await.ok();
    for format in ["ndjson", "csv", "ocsf"] {
        let path = format!("/v1/audit-events/export?tenant_id=nobody&format={format}");
        assert_eq!(world.admin.get(&path).await.status, 200);
    }
    let log = world.admin.get("/v1/audit-log/nobody").await.ok();
    assert_eq!((&log["size"], &log["checkpoint_size"]), (&json!(0), &json!(0)));
    for part in ["checkpoint", "verifier-key", "legal-holds"] {
        assert_eq!(world.admin.get(&format!("/v1/audit-log/nobody/{part}")).await.status, 200);
    }
    let purge = json!({ "before": "2020-01-01T00:00:00Z", "reason": "The retention period is over" });
    assert_eq!(world.admin.post("/v1/audit-log/nobody/purges", &purge).await.ok()["erased"], 0);
    assert_eq!(Sql::of(world).texts("SELECT tenant_id AS text FROM audit_logs WHERE tenant_id = 'nobody'").len(), 0);

    // It is on record, with what was asked for.
    let read = world.admin.events("&tenant_id=_system&type=audit.read").await;
    let asked = read.iter().filter(|event| event["data"]["tenant_id"] == "nobody").count();
    assert_eq!(asked, 2, "{read:?}");
    let exported = world.admin.events("&tenant_id=_system&type=audit.exported").await;
    assert_eq!(exported.iter().filter(|event| event["data"]["tenant_id"] == "nobody").count(), 3);
    // Readings of a known tenant stay with it.
    world.admin.get("/v1/audit-events?tenant_id=acme").await.ok();
    assert_eq!(world.admin.event_types("&tenant_id=acme").await, ["tenant.saved", "audit.read"]);
}
