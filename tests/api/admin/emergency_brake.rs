//! The command line in an emergency: it lists, revokes and freezes without the master key.

use std::process::Output;

use serde_json::Value;

use crate::support::{Database, Settings, Sql, World, apply, command, eventually, folder, on_both_databases};

const WRONG: &str = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgISE=";

/// A command where the master key is lost, another one, or not even configured.
fn run(world: &World, key: Option<(&str, &str)>, arguments: &[&str]) -> Output {
    let mut command = command(world);
    command.env_remove("MAGIC_LINK_MASTER_KEY").envs(key).args(arguments).arg("--json");
    command.output().unwrap()
}

#[apply(on_both_databases)]
async fn the_brake_needs_no_master_key(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let lost = Some(("MAGIC_LINK_MASTER_KEY_FILE", "/nowhere/master.key"));
    for key in [lost, Some(("MAGIC_LINK_MASTER_KEY", WRONG)), None] {
        let brake = |arguments: &[&str]| -> Value {
            let output = run(world, key, arguments);
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice(&output.stdout).unwrap()
        };
        let (first, second) = (world.open_session(&portal).await, world.open_session(&portal).await);
        let third = world.open_session(&portal).await;
        let id = |thing: &Value, name: &str| thing[name].as_str().unwrap().to_owned();

        assert!(brake(&["link", "list"])["items"].as_array().unwrap().len() >= 3);
        let page = brake(&["session", "list", "--page-size", "1"]);
        let next = brake(&["session", "list", "--page-size", "1", "--cursor", page["next_cursor"].as_str().unwrap()]);
        assert_ne!(page["items"][0]["id"], next["items"][0]["id"], "pages follow each other");
        for list in [["client", "list"], ["consultant", "list"], ["key", "list"], ["mail", "list"], ["webhook", "list"]]
        {
            assert!(brake(&list)["items"].is_array(), "{list:?}");
        }

        let reason = ["--reason", "The master key is lost"];
        let link = id(&first, "magic_link_id");
        assert_eq!(brake(&[&["link", "revoke", &link], &reason[..]].concat())["state"], "revoked");
        assert!(!portal.is_active(&id(&first, "access_token")).await);
        assert_eq!(brake(&["session", "revoke", &id(&second, "id")])["state"], "ended");
        assert!(!portal.is_active(&id(&second, "access_token")).await);
        let all = ["link", "revoke-all", "--tenant", "acme"];
        assert_eq!(brake(&[&all[..], &reason[..]].concat())["state"], "done");
        assert!(!portal.is_active(&id(&third, "access_token")).await);

        assert_eq!(brake(&[&["freeze"], &reason[..]].concat())["frozen"], true);
        assert_eq!(brake(&["unfreeze"])["frozen"], false);
        let consultant = world.consultant().await;
        let suspended = brake(&[&["consultant", "suspend", &consultant], &reason[..]].concat());
        assert_eq!(suspended["state"], "suspended");
        let client = world.portal("ess", "acme").await;
        brake(&["client", "disable", &client.client_id]);
        client.get("/v1/magic-links").await.refused(401, "unauthenticated");
        let recorded = world.admin.events(&format!("&magic_link_id={link}&type=magic_link.revoked")).await;
        assert_eq!(recorded[0]["actor"]["id"], "command-line");

        // What has to be sealed says why it cannot be.
        let rotation = run(world, key, &["key", "rotate"]);
        assert_eq!(rotation.status.code(), Some(1), "{}", String::from_utf8_lossy(&rotation.stdout));
    }
}

#[apply(on_both_databases)]
async fn the_last_signing_key_is_revoked_without_the_master_key(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let keys = world.admin.get("/v1/keys").await.ok();
    let kid = keys["items"][0]["kid"].as_str().unwrap();
    let output = run(world, Some(("MAGIC_LINK_MASTER_KEY", WRONG)), &["key", "revoke", kid, "--reason", "It leaked"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let revoked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((revoked["ended_sessions"].as_i64(), revoked.get("replaced_by")), (Some(1), None));
    assert!(!portal.is_active(session["access_token"].as_str().unwrap()).await);
    // The service, which has the master key, makes the next one.
    eventually("another key signs", async || {
        let keys = world.admin.get("/v1/keys").await.ok();
        keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").cloned()
    })
    .await;
    let next = world.open_session(&portal).await;
    assert!(portal.is_active(next["access_token"].as_str().unwrap()).await);
}

/// The address of a database in which nobody has made anything.
fn empty_database(world: &World) -> String {
    match world.database {
        Database::Sqlite => format!("sqlite://{}", folder("nowhere").join("none.db").display()),
        Database::Postgres => {
            let name = format!("{}_none", Sql::name(world));
            Sql::control(world).run(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
            world.database_url.replace(&format!("/{}?", Sql::name(world)), &format!("/{name}?"))
        }
    }
}

// Another folder, or a typing error in the address: nobody may believe that the brake is on.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn no_brake_is_put_on_where_there_is_no_database(world: &World) {
    let address = empty_database(world);
    let run =
        |arguments: &[&str]| command(world).args(arguments).env("MAGIC_LINK_DATABASE_URL", &address).output().unwrap();
    for arguments in [
        &["freeze", "--reason", "Rehearsal"][..],
        &["unfreeze"],
        &["link", "revoke-all", "--everything", "--reason", "A laptop was stolen"],
        &["restore"],
        &["link", "list"],
        &["key", "rotate"],
        &["maintain"],
        &["audit", "export", "--tenant", "acme"],
    ] {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("there is no database of a service at"), "{arguments:?}: {said}");
    }
    if let Some(file) = address.strip_prefix("sqlite://") {
        assert!(!std::path::Path::new(file).exists(), "nothing was made");
    }
    // Those of a first set-up make it.
    let added = run(&["consultant", "add", "--name", "Ravi Kumar", "--email", "ravi@support.example"]);
    assert!(added.status.success(), "{added:?}");
    assert!(run(&["freeze", "--reason", "Rehearsal"]).status.success());
}
