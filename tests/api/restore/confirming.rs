//! After a restore, clients and consultants count again when somebody has confirmed them.

use serde_json::{Value, json};

use super::{confirm, json, run};
use crate::support::{Database, Settings, World, apply, on_both_databases};

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
    let unknown = run(world, &["client", "confirm", "cli_01kaq3v9e8fwmvd2x7n0c5hb1z"]).await;
    assert_eq!(unknown.status.code(), Some(1));
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
