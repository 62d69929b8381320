//! The audit log: complete, checkable by anybody, and kept as long as it must be.

mod after_restore;
mod evidence;
mod legal_holds;
mod log;
mod log_key;
mod personal_data;
mod piles;
mod retention;
mod several_persons;
mod text_columns;
mod times;
mod unknown_tenants;

use serde_json::{Value, json};

use crate::support::{Api, World};

/// A report of acts, numbered from `first` on.
fn acts(world: &World, source: &str, first: i64, number: i64) -> Value {
    let act = |seq| {
        json!({
            "seq": seq, "source": source, "occurred_at": world.clock.now(), "action": "employee.salary.updated",
            "resource_type": "employee", "resource_id": "emp-9", "principal_id": "emp-9",
            "changes": [{ "field": "basic", "before": "50000", "after": "52000" }],
        })
    };
    json!({ "events": (first..first + number).map(act).collect::<Vec<_>>() })
}

/// A visit at the ACME portal with ten reported acts: the portal, and the session.
async fn visit(world: &World) -> (Api, Value) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    portal.post(&path, &acts(world, "portal", 1, 10)).await.ok();
    (portal, session)
}
