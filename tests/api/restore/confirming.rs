//! After a restore, clients and consultants count again when somebody has confirmed them.

use serde_json::{Value, json};

use super::{confirm, json, ready, run};
use crate::support::{Api, Backup, Database, Settings, World, apply, on_both_databases};

fn ids(list: &Value) -> Vec<String> {
    list["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[apply(on_both_databases)]
async fn only_what_the_restore_took_away_can_be_confirmed(world: &World) {
    let admin = world.admin.clone();
    let (active, disabled) =
        (world.client(None, &["acme"], &["links:read"]).await, world.client(None, &["acme"], &["links:read"]).await);
    let (consultant, suspended) = (world.consultant().await, world.consultant().await);
    json(world, &["client", "disable", &disabled.client_id]).await;
    json(world, &["consultant", "suspend", &suspended, "--reason", "Left the team"]).await;

    json(world, &["restore"]).await;
    let unconfirmed = ids(&json(world, &["client", "confirm"]).await);
    assert_eq!(unconfirmed.len(), 2, "the list, and nothing is changed");
    assert!(!unconfirmed.contains(&disabled.client_id));
    assert_eq!(ids(&json(world, &["consultant", "confirm"]).await), [consultant.as_str()]);
    active.get("/v1/magic-links").await.refused(401, "unauthenticated");

    confirm(world, &[&active, &admin]).await;
    active.get("/v1/magic-links").await.ok();
    confirm(world, &[&active]).await;
    let refused = run(world, &["client", "confirm", &disabled.client_id, "--json"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&refused.stderr).unwrap()["code"], "client_disabled");
    let refused = run(world, &["consultant", "confirm", &suspended, "--json"]).await;
    assert_eq!(serde_json::from_slice::<Value>(&refused.stderr).unwrap()["code"], "consultant_suspended");
    // Whoever is confirmed beside one that is not is named, and so is that one.
    let unknown = "cli_01kaq3v9e8fwmvd2x7n0c5hb1z";
    let some = run(world, &["client", "confirm", &active.client_id, unknown, &admin.client_id]).await;
    let (told, refused) = (String::from_utf8_lossy(&some.stdout), String::from_utf8_lossy(&some.stderr));
    assert_eq!(some.status.code(), Some(1));
    assert!(told.contains(&active.client_id) && told.contains(&admin.client_id), "{told}");
    assert!(refused.contains(unknown) && !refused.contains(&active.client_id), "{refused}");
    assert_eq!(ids(&json(world, &["consultant", "confirm", "--all"]).await), [consultant.as_str()]);
    let state = async |id: &str| admin.get(&format!("/v1/consultants/{id}")).await.ok()["state"].clone();
    assert_eq!((state(&consultant).await, state(&suspended).await), (json!("active"), json!("suspended")));

    let restored = admin.events("&tenant_id=_system&type=log.restored").await;
    assert_eq!((&restored[0]["data"]["clients"], &restored[0]["data"]["consultants"]), (&json!(2), &json!(1)));
    assert_eq!(admin.events("&tenant_id=_system&type=client.confirmed").await.len(), 2);
    assert_eq!(admin.events("&tenant_id=_system&type=consultant.confirmed").await.len(), 1);
}

#[apply(on_both_databases)]
async fn who_is_disabled_or_suspended_after_the_restore_is_not_confirmed_with_all_others(world: &World) {
    let leaked = world.client(None, &["acme"], &["links:read"]).await;
    let (leaves, returns) = (world.consultant().await, world.consultant().await);
    json(world, &["restore"]).await;
    json(world, &["client", "disable", &leaked.client_id]).await;
    json(world, &["consultant", "suspend", &leaves, "--reason", "Left since the backup"]).await;
    json(world, &["consultant", "reinstate", &returns, "--reason", "Is known to be here"]).await;
    let confirmed = ids(&json(world, &["client", "confirm", "--all"]).await);
    assert_eq!(confirmed, [world.admin.client_id.as_str()]);
    assert_eq!(ids(&json(world, &["consultant", "confirm", "--all"]).await), [""; 0]);
    leaked.get("/v1/magic-links").await.refused(401, "unauthenticated");
    let read = world.admin.get(&format!("/v1/consultants/{leaves}")).await.ok();
    assert_eq!((&read["state"], &read["suspend_reason"]), (&json!("suspended"), &json!("Left since the backup")));
    assert_eq!(world.admin.get(&format!("/v1/consultants/{returns}")).await.ok()["state"], "active");
}

#[apply(on_both_databases)]
async fn the_overlap_of_a_rotated_key_ends(world: &World) {
    let old = world.client(None, &["acme"], &["links:read"]).await;
    json(world, &["client", "rotate", &old.client_id, "--overlap-seconds", "3600"]).await;
    old.get("/v1/magic-links").await.ok();
    json(world, &["restore"]).await;
    confirm(world, &[&old]).await;
    old.get("/v1/magic-links").await.refused(401, "unauthenticated");
}

#[apply(on_both_databases)]
async fn a_restore_can_be_repeated(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.open_session(&portal).await;
    let first = json(world, &["restore"]).await;
    confirm(world, &[&world.admin, &portal]).await;
    json(world, &["consultant", "confirm", "--all"]).await;
    let second = json(world, &["restore", "--reason", "Once more, to be sure"]).await;
    assert_eq!((first["revoked_links"].as_i64(), second["revoked_links"].as_i64()), (Some(1), Some(0)));
    assert_ne!(first["origin_suffix"], second["origin_suffix"]);
    assert_eq!(second["clients"].as_array().unwrap().len(), 2, "who was confirmed before has to be again");
    confirm(world, &[&world.admin, &portal]).await;
    json(world, &["consultant", "confirm", "--all"]).await;
    json(world, &["unfreeze"]).await;
    let session = world.open_session(&portal).await;
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);
}

/// A client and a consultant of the backup, whose scopes and address were taken from them after it.
async fn narrowed(world: &World) -> (Api, String) {
    let wide = world.client(Some("cloud"), &["acme"], &["links:issue", "links:read"]).await.patient();
    let consultant = world.consultant().await;
    let renamed = json!({ "name": "Cloud portal" });
    world.admin.patch(&format!("/v1/clients/{}", wide.client_id), &renamed).await.ok();
    let backup = Backup::of(world);
    let admin = world.admin.clone().patient();
    let narrowed = json!({ "scopes": ["links:read"] });
    admin.patch(&format!("/v1/clients/{}", wide.client_id), &narrowed).await.ok();
    let corrected = json!({ "email": "kumar@support.example" });
    admin.patch(&format!("/v1/consultants/{consultant}"), &corrected).await.ok();
    backup.restore(world);
    ready(world).await;
    (wide, consultant)
}

#[apply(on_both_databases)]
async fn lists_show_what_each_may_and_since_when(world: &World) {
    let (wide, consultant) = narrowed(world).await;
    let person = world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok();
    let restored = String::from_utf8(run(world, &["restore"]).await.stdout).unwrap();
    let list = json(world, &["client", "confirm"]).await;
    let list = list["items"].as_array().unwrap();
    let one = list.iter().find(|one| one["id"] == wide.client_id.as_str()).unwrap();
    let (changed, updated) = (one["changed_at"].as_str().unwrap(), person["updated_at"].as_str().unwrap());
    for (list, parts) in [
        ("client", ["cloud", "acme", "links:issue,links:read", changed]),
        ("consultant", [&consultant, person["email"].as_str().unwrap(), updated, "Ravi Kumar"]),
    ] {
        let listed = String::from_utf8(run(world, &[list, "confirm"]).await.stdout).unwrap();
        for text in [&restored, &listed] {
            let mut lines = text.lines();
            assert!(lines.any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {text}");
        }
    }
    // Who was never changed has no such time.
    assert!(list.iter().any(|one| one.get("changed_at").is_none()), "{list:?}");
}

#[apply(on_both_databases)]
async fn what_was_taken_after_the_backup_is_taken_again_before_anybody_counts(world: &World) {
    let (wide, consultant) = narrowed(world).await;
    json(world, &["restore"]).await;
    let id = wide.client_id.as_str();
    let changed = json(world, &["client", "change", id, "--scope", "links:read"]).await;
    assert_eq!((&changed["state"], &changed["scopes"]), (&json!("disabled"), &json!(["links:read"])));
    let rotated = json(world, &["client", "rotate", id]).await;
    assert_eq!(rotated["state"], "disabled");
    let fresh = Api::new(&world.base, rotated["key"].as_str());
    let corrected = json(world, &["consultant", "change", &consultant, "--email", "kumar@support.example"]).await;
    assert_eq!((&corrected["state"], &corrected["email"]), (&json!("suspended"), &json!("kumar@support.example")));
    for key in [&wide, &fresh] {
        key.get("/v1/magic-links").await.refused(401, "unauthenticated");
    }

    json(world, &["client", "confirm", "--all"]).await;
    json(world, &["consultant", "confirm", "--all"]).await;
    json(world, &["unfreeze"]).await;
    wide.get("/v1/magic-links").await.refused(401, "unauthenticated");
    fresh.get("/v1/magic-links").await.ok();
    fresh.post("/v1/magic-links", &Api::issue_request(&consultant)).await.refused(403, "insufficient_scope");
    let person = world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok();
    assert_eq!((&person["state"], &person["email"]), (&json!("active"), &json!("kumar@support.example")));
    for kind in ["client.rotated", "consultant.changed"] {
        let events = world.admin.events(&format!("&tenant_id=_system&type={kind}")).await;
        assert_eq!((events.len(), &events[0]["actor"]["id"]), (1, &json!("command-line")), "{kind}");
    }
    let changes = world.admin.events("&tenant_id=_system&type=client.changed").await;
    assert_eq!(changes[0]["data"]["before"]["scopes"], "links:issue links:read");

    // One that is disabled for good stays as it is.
    json(world, &["client", "disable", id]).await;
    for order in [["client", "change", id, "--name=Again", "--json"].as_slice(), &["client", "rotate", id, "--json"]] {
        let refused = run(world, order).await;
        assert_eq!(serde_json::from_slice::<Value>(&refused.stderr).unwrap()["code"], "client_disabled");
    }
}

#[test]
fn people_are_told_what_comes_next() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let consultant = world.consultant().await;
        let text = String::from_utf8(run(world, &["restore"]).await.stdout).unwrap();
        for part in [
            "restored: 0 links and 0 sessions ended",
            "magic-link client confirm",
            "magic-link consultant confirm",
            "magic-link unfreeze",
            &world.admin.client_id,
            &consultant,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let both = run(world, &["client", "confirm", &world.admin.client_id, "--all"]).await;
        assert_eq!(both.status.code(), Some(2));
        assert_eq!(run(world, &["restore", "--checkpoint", "/nowhere"]).await.status.code(), Some(1));
        assert_eq!(run(world, &["restore", "--reason", "?"]).await.status.code(), Some(1));
    });
}
