//! The command line over the same store as a running service.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Api, Database, Settings, World, apply, command, mailed, on_both_databases};

fn run(world: &World, arguments: &[&str]) -> Output {
    command(world).args(arguments).output().unwrap()
}

/// The one JSON object that a command prints.
#[track_caller]
fn json(world: &World, arguments: &[&str]) -> Value {
    let output = run(world, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[apply(on_both_databases)]
async fn an_operator_sets_up_and_the_api_sees_it(world: &World) {
    let consultant = json(world, &["consultant", "add", "--name", "Anita Desai", "--email", "anita@support.example"]);
    let id = consultant["id"].as_str().unwrap();
    assert_eq!(world.admin.get(&format!("/v1/consultants/{id}")).await.ok(), consultant);

    let client = json(
        world,
        &[
            "client",
            "create",
            "--name",
            "Cloud",
            "--portal",
            "cloud",
            "--tenant",
            "acme",
            "--scope",
            "links:issue",
            "--scope",
            "links:read",
        ],
    );
    let portal = Api::new(&world.base, client["key"].as_str());
    let link = portal.issue(id).await;
    mailed(&portal, &link).await;
    let listed = json(world, &["link", "list", "--tenant", "acme"]);
    assert_eq!(listed["items"][0]["id"], link.as_str());

    let rotated = json(world, &["client", "rotate", &portal.client_id]);
    portal.get("/v1/magic-links").await.refused(401, "unauthenticated");
    let portal = Api::new(&world.base, rotated["key"].as_str());
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");

    let revoked = json(world, &["link", "revoke", &link, "--reason", "The laptop was stolen"]);
    assert_eq!(revoked["revoked_by"]["id"], "command-line");
    assert_eq!(portal.get(&format!("/v1/magic-links/{link}")).await.ok(), revoked);

    json(world, &["client", "disable", &portal.client_id]);
    portal.get("/v1/magic-links").await.refused(401, "unauthenticated");
}

#[apply(on_both_databases)]
async fn one_command_revokes_everything_and_waits_until_it_is_done(world: &World) {
    let consultant = world.consultant().await;
    for _ in 0..3 {
        world.admin.issue(&consultant).await;
    }
    let order = ["link", "revoke-all", "--tenant", "acme", "--reason", "The contract ended"];
    assert_eq!(json(world, &[order.as_slice(), &["--dry-run"]].concat())["links"], 3);
    let counted = run(world, &[order.as_slice(), &["--dry-run"]].concat());
    let counted = String::from_utf8(counted.stdout).unwrap();
    assert!(counted.starts_with("would be revoked (3 links, 0 sessions): rvk_"), "{counted}");
    let done = json(world, &order);
    assert_eq!((done["state"].as_str(), done["links"].as_i64()), (Some("done"), Some(3)));
    let left = world.admin.get("/v1/magic-links?state=active").await.ok();
    assert_eq!(left["items"], serde_json::json!([]));
    let nothing = run(world, &["link", "revoke-all", "--reason", "Without a selector"]);
    assert_eq!(nothing.status.code(), Some(1));
}

#[apply(on_both_databases)]
async fn suspending_at_the_command_line_revokes_the_links(world: &World) {
    let consultant = world.consultant().await;
    let link = world.admin.issue(&consultant).await;
    let suspended = json(world, &["consultant", "suspend", &consultant, "--reason", "Left the team"]);
    assert_eq!(suspended["state"], "suspended");
    let listed = json(world, &["link", "revocations", "--consultant", &consultant]);
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["links"]), (&suspended["revocation_id"], &1.into()));
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
    assert_eq!(json(world, &["consultant", "reinstate", &consultant, "--reason", "Came back"])["state"], "active");
}

#[apply(on_both_databases)]
async fn a_new_key_is_published_a_day_before_it_signs(world: &World) {
    let before = json(world, &["key", "list"]);
    let fresh = json(world, &["key", "rotate"]);
    assert_eq!(fresh["state"], "published");
    let keys = json(world, &["key", "list"]);
    let states: Vec<&str> =
        keys["items"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["published", "active"]);
    assert_eq!(keys["items"][1]["kid"], before["items"][0]["kid"]);
    assert!(keys["items"][1]["expires_at"].is_string(), "the old key has an end now");
    // A running copy hears of it, and its JWK set has an entity tag.
    assert_eq!(world.stranger().get("/readyz").await.status, 200);
    let set = world.stranger().get("/.well-known/jwks.json").await;
    assert_eq!(set.body["keys"].as_array().unwrap().len(), 2);
    let again = world.stranger().request(reqwest::Method::GET, "/.well-known/jwks.json");
    let again = world.stranger().send(again.header("if-none-match", set.header("etag"))).await;
    assert_eq!(again.status, 304);
}

#[apply(on_both_databases)]
async fn suspensions_say_how_much_they_ended_and_sessions_whose_they_are(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (id, consultant) = (session["id"].as_str().unwrap(), session["consultant"]["id"].as_str().unwrap());
    let said = |arguments: &[&str]| String::from_utf8(run(world, arguments).stdout).unwrap();
    let listed = said(&["session", "list"]);
    assert!(listed.contains("CONSULTANT") && listed.contains(consultant), "{listed}");
    json(world, &["session", "revoke", id, "--reason", "The laptop was stolen"]);
    let ended = world.admin.events("&type=session.ended").await;
    assert_eq!(ended[0]["data"]["end_reason"], "The laptop was stolen");
    let other = world.admin.issue(consultant).await;
    let suspended = said(&["consultant", "suspend", consultant, "--reason", "Left the team"]);
    assert_eq!(suspended, format!("suspended (2 links, 0 sessions): {consultant}\n"));
    assert_eq!(world.admin.get(&format!("/v1/magic-links/{other}")).await.ok()["state"], "revoked");
}

#[apply(on_both_databases)]
async fn the_revocation_of_a_key_says_how_much_it_ended(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.open_session(&portal).await;
    let consultant = world.consultant().await;
    for flag in [None, Some("--fresh-links")] {
        let link = portal.issue(&consultant).await;
        mailed(&portal, &link).await;
        let keys = json(world, &["key", "list"]);
        let kid = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap()["kid"].clone();
        let kid = kid.as_str().unwrap();
        let order = ["key", "revoke", kid, "--reason", "A backup was lost"];
        let output = run(world, &[&order[..], flag.as_slice()].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let counts = match flag {
            None => "1 link, 1 session, 0 fresh links",
            Some(_) => "0 links, 0 sessions, 1 fresh link",
        };
        assert_eq!(said, format!("revoked ({counts}): {kid}\n"));
    }
}

#[test]
fn exit_codes_tell_refused_from_wrong_usage() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let code = |arguments: &[&str]| run(world, arguments).status.code();
        assert_eq!(code(&["migrate"]), Some(0));
        assert_eq!(code(&["migrate"]), Some(0));
        assert_eq!(code(&["link", "revoke", "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z", "--reason", "nobody has it"]), Some(1));
        assert_eq!(code(&["link", "revoke", "not-an-id", "--reason", "typo"]), Some(2));
        assert_eq!(code(&["client", "create", "--name", "No tenant"]), Some(2));
        for list in ["link", "consultant", "client", "session", "mail"] {
            assert_eq!(code(&[list, "list", "--page-size", "0"]), Some(2), "{list}: the API refuses it, too");
        }
        assert_eq!(code(&["--config", "/nowhere.toml", "migrate"]), Some(1));

        let refused = run(world, &["link", "revoke", "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z", "--reason", "gone", "--json"]);
        let problem: Value = serde_json::from_slice(&refused.stderr).unwrap();
        assert_eq!(problem["code"], "not_found");
    });
}

#[test]
fn no_command_repeats_a_part_of_the_databases_password() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let says_nothing = |command: &mut Command, address: &str| {
            let output = command.output().unwrap();
            let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            let said = out + &err;
            assert!(!said.contains("Sek") && !said.contains("xyz"), "{command:?}\n{address}\n{said}");
            (output.status.success(), said)
        };
        // Percent-encoded as it should be: nobody answers there, and the address as it is shown has no password.
        for (password, is_taken) in [
            ("Sek%25%2F%3F%40%20xyz", true),
            ("Sek%xyz", false),
            ("Sek%00xyz", false),
            ("Sek xyz", false),
            ("Sek@xyz", false),
            ("Sek/xyz", false),
            ("Sek?xyz=1", false),
        ] {
            let address = format!("postgres://u:{password}@127.0.0.1:1/db?sslmode=disable");
            for arguments in [
                "config check",
                "serve",
                "migrate",
                "migrate --check",
                "migrate --grant-to app",
                "link list",
                "consultant list",
                "mail list",
                "key rotate",
                "freeze --reason Rehearsal",
                "backup none.db",
                "demo",
            ] {
                let mut command = command(world);
                command.args(arguments.split(' ')).env("MAGIC_LINK_DATABASE_URL", &address);
                let (is_done, said) = says_nothing(&mut command, &address);
                assert_eq!(is_done, is_taken && arguments == "config check", "{arguments}: {said}");
                let is_named = said.contains("database_url: user and password must be percent-encoded");
                assert_eq!(is_named, !is_taken, "{arguments}: {said}");
            }
            let nothing = format!("sqlite://u:{password}@127.0.0.1/db");
            for (from, to) in [("sqlite://none.db", &address), (&nothing, &address), (&address, &address)] {
                let mut command = command(world);
                command.args(["copy", "--from", from, "--to", to]);
                assert!(!says_nothing(&mut command, &address).0);
            }
        }
    });
}

#[test]
fn people_get_tables() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let consultant = world.consultant().await;
        let text = String::from_utf8(run(world, &["consultant", "list"]).stdout).unwrap();
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("ID "), "{text}");
        assert!(lines.any(|line| line.starts_with(&consultant) && line.contains("Ravi Kumar")), "{text}");
    });
}

#[test]
fn a_store_is_not_opened_with_another_master_key() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let other = "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgISE=";
        let output = command(world).args(["key", "rotate"]).env("MAGIC_LINK_MASTER_KEY", other).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("sealed under another master key"), "{text}");
    });
}

#[test]
fn the_configuration_in_force_is_shown_without_a_secret() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let place = crate::support::folder("credentials");
        let credentials = [("master_key", crate::support::MASTER_KEY), ("mail.resend_api_key", "re_hidden\n")];
        for (name, text) in credentials {
            std::fs::write(place.join(name), text).unwrap();
        }
        let check = |changes: &[(&str, &str)]| {
            let mut command = command(world);
            command.env_remove("MAGIC_LINK_MASTER_KEY").env("CREDENTIALS_DIRECTORY", &place);
            command.envs(changes.iter().copied()).args(["config", "check"]);
            let output = command.output().unwrap();
            let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            (output.status.code(), out, err)
        };
        let resend = [
            ("MAGIC_LINK_MAIL__PROVIDER", "resend"),
            ("MAGIC_LINK_MAIL__FROM", "links@hr.in"),
            ("MAGIC_LINK_MAIL__RESEND_TRACKING_IS_OFF", "true"),
        ];
        let (code, shown, said) = check(&resend);
        assert_eq!(code, Some(0), "{said}");
        for line in [
            "links.session_hours = 8",
            "mail.provider = resend",
            &format!("mail.resend_api_key = (in {}/mail.resend_api_key)", place.display()),
            &format!("master_key = (in {}/master_key)", place.display()),
            "portals.cloud.name = Cloud",
        ] {
            assert!(shown.lines().any(|one| one == line), "{line} is missing in {shown}");
        }
        assert!(!shown.contains("hidden") && !shown.contains(crate::support::MASTER_KEY), "{shown}");
        let wrong = [resend.as_slice(), &[("MAGIC_LINK_MASTER_KEY", "bm90LTMyLWJ5dGVz")]].concat();
        let (code, _, said) = check(&wrong);
        assert!(code == Some(1) && said.contains("the master key must be"), "{said}");
        assert!(!said.contains("bm90LTMyLWJ5dGVz"), "{said}");
    });
}

#[cfg(target_os = "linux")]
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn output_that_cannot_be_written_stops_no_service_and_is_a_failure_of_help(world: &World) {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::process::Stdio;

    use crate::support::{Process, eventually};

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    // The test hears of the port beforehand.
    let full = format!("echo '{{\"port\": {port}}}'; exec > /dev/full");
    let process = Process::start_limited(world, &[("MAGIC_LINK_LISTEN", &listen)], &full);
    eventually("it listens", async || TcpStream::connect(&listen).ok()).await;
    assert_eq!(Api::new(&process.base, None).get("/readyz").await.status, 200);
    process.ask_to_stop();
    assert!(process.stopped().await.success());

    for arguments in [["--help"].as_slice(), &["--version"], &["link", "list", "--help"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = command(world).args(arguments).stdout(Stdio::from(full)).status().unwrap();
        assert_eq!(ended.code(), Some(1), "{arguments:?}");
        assert_eq!(command(world).args(arguments).output().unwrap().status.code(), Some(0), "{arguments:?}");
    }
    assert_eq!(command(world).arg("--unknown").output().unwrap().status.code(), Some(2));
}

#[apply(on_both_databases)]
async fn a_tenant_that_nobody_knows_is_mistyped(world: &World) {
    world.admin.put("/v1/tenants/acme", &serde_json::json!({ "name": "ACME" })).await.ok();
    for arguments in [
        &["audit", "hold", "--tenant", "acmee", "--reason", "Labour court, case 2026-118"][..],
        &["audit", "holds", "--tenant", "acmee"],
        &["audit", "checkpoint", "--tenant", "acmee"],
        &["audit", "export", "--tenant", "acmee"],
    ] {
        let output = run(world, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("`acmee` is not registered"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(world.admin.get("/v1/audit-log/acmee").await.ok()["legal_hold"], false);
    let held = json(world, &["audit", "hold", "--tenant", "acme", "--reason", "Labour court, case 2026-118"]);
    assert_eq!(held["tenant_id"], "acme");
}
