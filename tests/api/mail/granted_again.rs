//! What mails say of another grant is what the API does.

use serde_json::{Value, json};
use time::Duration;

use super::ends_soon::advice;
use crate::support::{Api, Settings, Sql, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// As if a mail to the consultant had come back for good.
async fn suppress(world: &World, consultant: &str) {
    let registered = world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok();
    let address = registered["email"].as_str().unwrap();
    let row = format!(
        "INSERT INTO mail_suppressions (id, address, address_key, cause, provider, mail_job_id, created_at) \
         SELECT 'sup_01kaq3v9e8fwmvd2x7n0c5hb7z', '{address}', '{address}', 'bounce', 'mailpit', id, CURRENT_TIMESTAMP \
         FROM mail_jobs LIMIT 1"
    );
    Sql::of(world).run(&row).unwrap();
}

async fn freeze(world: &World, frozen: bool) {
    let order = json!({ "frozen": frozen, "reason": "Suspected break-in at a portal" });
    world.admin.put("/v1/issuing", &order).await.ok();
}

async fn policy(world: &World, rules: &Value) {
    world.admin.put("/v1/tenants/acme/policy", rules).await.ok();
}

#[apply(on_both_databases)]
async fn who_revokes_is_told_to_grant_again_only_where_that_is_possible(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    let portal = world.portal("cloud", "acme").await;
    for (stands, refusal, says) in [
        ("nothing", None, "access can be granted again."),
        ("a bounce", Some((409, "address_suppressed")), "No mail goes to the consultant any more"),
        ("the policy", Some((403, "policy_forbids")), "There is nothing else to do."),
        ("a freeze", Some((409, "issuing_frozen")), "Issuing is frozen at present"),
    ] {
        let consultant = world.consultant().await;
        let link = portal.issue(&consultant).await;
        world.token(&link, 1).await;
        match stands {
            "a bounce" => suppress(world, &consultant).await,
            "the policy" => policy(world, &json!({ "access_allowed": ["read_only"] })).await,
            "a freeze" => freeze(world, true).await,
            _ => {}
        }
        let reason = json!({ "reason": "Suspected break-in at the portal" });
        portal.post(&format!("{LINKS}/{link}/revoke"), &reason).await.ok();
        for part in advice(world, "access_revoked", &link).await {
            assert!(part.contains(says), "{stands}: {part}");
            assert_eq!(part.contains("granted again"), refusal.is_none(), "{stands}: {part}");
        }
        // Nothing leaves to the address of a bounce.
        if stands != "a bounce" {
            for part in advice(world, "access_withdrawn", &link).await {
                assert_eq!(part.contains("ask whoever granted it"), refusal.is_none(), "{stands}: {part}");
            }
        }
        // What the mail says is what the call does.
        let again = portal.post(LINKS, &Api::issue_request(&consultant)).await;
        match refusal {
            Some((status, code)) => again.refused(status, code),
            None => assert_eq!(again.status, 201, "{again:?}"),
        }
        policy(world, &json!({})).await;
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_lapses_while_issuing_is_frozen_is_not_to_be_asked_for_anew(world: &World) {
    let contacts = json!([{ "name": "Meera Iyer", "email": "meera@acme.example" }]);
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME", "contacts": contacts })).await.ok();
    policy(world, &json!({ "approval": { "required_for": "always" } })).await;
    let approval = json!({ "approver": { "id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example" } });
    for is_frozen in [true, false] {
        let request = Api::issue_request(&world.consultant().await);
        let asked = world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
        freeze(world, is_frozen).await;
        if is_frozen {
            let tried = world.admin.post(&format!("{LINKS}/{asked}/approve"), &approval).await;
            tried.refused(409, "issuing_frozen");
        }
        world.clock.advance(Duration::hours(26));
        for part in advice(world, "request_denied", &asked).await {
            assert!(part.contains("was not decided on in time"), "somebody tried: {part}");
            assert!(!part.contains("Nobody decided"), "somebody tried: {part}");
            assert_eq!(part.contains("you can ask anew"), !is_frozen, "{part}");
            assert_eq!(part.contains("Issuing is frozen at present"), is_frozen, "{part}");
        }
        let anew = world.admin.post(LINKS, &request).await;
        if is_frozen {
            anew.refused(409, "issuing_frozen");
            freeze(world, false).await;
        } else {
            assert_eq!(anew.ok()["state"], "pending");
        }
    }
}
