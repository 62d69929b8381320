//! What belongs to no tenant and no portal is for operators: a client that is bound to some has no part in it.

use serde_json::json;

use crate::support::{World, apply, on_both_databases};

#[apply(on_both_databases)]
async fn a_bound_client_has_no_part_in_what_belongs_to_the_vendor(world: &World) {
    let bound = world.client(Some("cloud"), &["acme"], &["admin", "consultants:write"]).await;
    let consultant = world.consultant().await;
    let (reason, none) = (json!({ "reason": "Left the support team" }), json!({}));
    let key = world.admin.get("/v1/keys").await.ok()["items"][0]["kid"].as_str().unwrap().to_owned();
    for (path, body) in [
        (format!("/v1/consultants/{consultant}/suspend"), &reason),
        (format!("/v1/consultants/{consultant}/reinstate"), &reason),
        (format!("/v1/keys/{key}/retire"), &none),
        (format!("/v1/keys/{key}/revoke"), &reason),
        ("/v1/mail-suppressions/sup_01kaq3v9e8fwmvd2x7n0c5hb9z/clear".to_owned(), &reason),
    ] {
        bound.post(&path, body).await.refused(403, "client_not_permitted");
    }
    bound.get("/v1/mail-suppressions").await.refused(403, "client_not_permitted");
    let name = json!({ "name": "Ravi S. Kumar" });
    bound.patch(&format!("/v1/consultants/{consultant}"), &name).await.refused(403, "client_not_permitted");
    assert_eq!(world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok()["name"], "Ravi Kumar");
}
