//! The database in another place: a backup while the service runs, and the move from SQLite to PostgreSQL.

use std::path::Path;
use std::process::{Output, Stdio};

use futures_util::future::{join, join_all};
use serde_json::json;

use super::output;
use crate::support::{
    Api, Auditor, Database, Process, Settings, Sql, World, code_of, command, eventually, folder, for_a_service, grant,
};

async fn back_up(world: &World, file: &Path) -> Output {
    let mut command = command(world);
    command.arg("backup").arg(file);
    output(command).await
}

#[cfg(unix)]
#[test]
fn a_backup_has_whatever_was_acknowledged_before_it() {
    use std::os::unix::fs::PermissionsExt;
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let file = folder("backed-up").join("magic-link.backup.db");
        let consultant = world.consultant().await;
        let issue = async |number: usize| {
            let mut request = Api::issue_request(&consultant);
            request["profile"]["id"] = format!("emp-{number}").into();
            world.admin.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned()
        };
        // Of a write-ahead log, too: a copy of the file would miss what is there only.
        let before = join_all((0..40).map(&issue)).await;
        let newest = Auditor::of("acme", &world.admin).await.checkpoint(&world.admin).await;
        let (done, _beside) = join(back_up(world, &file), join_all((40..80).map(&issue))).await;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success() && said.contains("audit logs extend"), "{done:?}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        let kept = std::fs::read(&file).unwrap();
        let again = back_up(world, &file).await;
        assert!(!again.status.success() && std::fs::read(&file).unwrap() == kept, "a backup is not replaced");
        let url = format!("sqlite://{}", file.display());
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &url)], Stdio::inherit());
        let admin = world.admin.at(&process.base);
        for link in &before {
            assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "active");
        }
        let auditor = Auditor::of("acme", &admin).await;
        let checkpoint = auditor.checkpoint(&admin).await;
        auditor.accepts(&auditor.export(&admin).await, &[&checkpoint, &newest]);
    });
}

#[cfg(unix)]
#[test]
fn a_backup_is_in_the_file_that_was_named_and_nowhere_else() {
    use std::ffi::{OsStr, OsString};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        // The first is no text; to SQLite the others might be parameters, a database in memory, and another file.
        let names = [b"caf\xe9.db".as_slice(), b"a b%20?c#d&mode=memory.db", b":memory:", b"file:other.db"];
        for (number, name) in names.into_iter().enumerate() {
            let (name, folder) = (OsStr::from_bytes(name), folder(&format!("named-{number}")));
            let mut command = command(world);
            command.current_dir(&folder).arg("backup").arg(name);
            let done = output(command).await;
            assert!(done.status.success(), "{done:?}");
            let made: Vec<OsString> =
                std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().file_name()).collect();
            assert_eq!(made, [name]);
            let backup = folder.join(name).metadata().unwrap();
            assert_eq!(backup.permissions().mode() & 0o777, 0o600, "{name:?}");
            // None of the names can stand in the address of a database.
            let copy = folder.join("copy.db");
            std::fs::copy(folder.join(name), &copy).unwrap();
            let mut sql = Sql::open(&format!("sqlite://{}", copy.display()));
            assert_eq!(sql.count("FROM clients"), Sql::of(world).count("FROM clients"));
        }
    });
}

#[test]
fn a_backup_of_a_damaged_file_is_none() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        let mut sql = Sql::of(world);
        sql.run("PRAGMA foreign_keys = OFF").unwrap();
        let orphan = "INSERT INTO revocation_tenants (revocation_id, tenant_id) VALUES ('rvk_none', 'acme')";
        sql.run(orphan).unwrap();
        let file = folder("damaged").join("backup.db");
        let done = back_up(world, &file).await;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success() && said.contains("the backup is damaged: revocation_tenants"), "{said}");
        assert!(!file.exists());
    });
}

#[test]
fn from_sqlite_to_postgresql_everything_moves_and_goes_on() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let (sqlite, key) = Database::Sqlite.copy().expect("SQLite is there");
        assert_ne!(sqlite.url, world.database_url);
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &sqlite.url)], Stdio::inherit());
        let admin = Api::new(&process.base, Some(key));
        let request = json!({ "name": "रवि 'Ravi' O\\'Kumar", "email": "ravi@support.example" });
        let consultant = admin.post("/v1/consultants", &request).await.ok();
        let consultant_id = consultant["id"].as_str().unwrap().to_owned();
        let consultant_id = consultant_id.as_str();
        let issue = async |admin: &Api, profile: &str| {
            let mut request = Api::issue_request(consultant_id);
            request["profile"]["id"] = profile.into();
            let link = admin.post("/v1/magic-links", &request).await.ok();
            link["id"].as_str().unwrap().to_owned()
        };
        let open = async |admin: &Api, link: &str| {
            let token = world.mails.token(link, 1).await;
            let answer = admin.stranger().post("/l/continue", &json!({ "token": token })).await.ok();
            admin.redeem(&code_of(&answer)).await.ok()
        };
        let first = issue(&admin, "emp-1").await;
        let session = open(&admin, &first).await;
        let change = json!({ "seq": 1, "source": "portal", "kind": "change", "occurred_at": session["started_at"],
            "action": "employee.salary.updated", "resource_type": "employee", "resource_id": "emp-9",
            "changes": [{ "field": "basic", "before": "50000", "after": "52000" }] });
        // The smallest time of a library, told in local time.
        let mut undated = change.clone();
        (undated["seq"], undated["occurred_at"]) = (2.into(), "0001-01-01T00:00:00+05:30".into());
        let events = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
        admin.post(&events, &json!({ "events": [change, undated] })).await.ok();
        let unspent = issue(&admin, "emp-2").await;
        world.mails.wait_for(&unspent, 1).await;
        let revoked = issue(&admin, "emp-3").await;
        admin.post(&format!("/v1/magic-links/{revoked}/revoke"), &json!({ "reason": "No longer needed" })).await.ok();
        let auditor = Auditor::of("acme", &admin).await;
        let newest = auditor.checkpoint(&admin).await;
        // And one that versions before took as it was, which no calendar of PostgreSQL's spells like this.
        let undated = "UPDATE consultants SET created_at = '0000-02-29 18:30:00.500'";
        Sql::open(&sqlite.url).run(undated).unwrap();
        let consultant = admin.get(&format!("/v1/consultants/{consultant_id}")).await.ok();
        assert_eq!(consultant["created_at"], "0000-02-29T18:30:00.5Z");
        process.ask_to_stop();
        assert!(process.stopped().await.success());

        let (mut control, name) = (Sql::control(world), format!("{}_moved", Sql::name(world)));
        control.run(&format!("CREATE DATABASE {name} TEMPLATE template0")).unwrap();
        let moved = world.database_url.replace(&format!("/{}?", Sql::name(world)), &format!("/{name}?"));
        let copy = async |from: &str, to: &str| {
            let mut command = command(world);
            command.args(["copy", "--from", from, "--to", to]);
            let done = output(command).await;
            let [out, err] = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            (done.status.success(), out + &err)
        };
        // A table of somebody else's is in the way, and nothing is made beside it.
        Sql::open(&moved).run("CREATE TABLE payroll (id int)").unwrap();
        let (is_done, said) = copy(&sqlite.url, &moved).await;
        assert!(!is_done && said.contains("payroll"), "{said}");
        assert_eq!(Sql::open(&moved).count("FROM pg_tables WHERE schemaname = 'public'"), 1);
        Sql::open(&moved).run("DROP TABLE payroll").unwrap();
        let (is_done, said) = copy(&sqlite.url, &moved).await;
        assert!(is_done && said.contains("compared row by row") && said.contains("3 magic_links"), "{said}");
        let (is_done, said) = copy(&sqlite.url, &moved).await;
        assert!(!is_done && said.contains("must be empty"), "{said}");
        assert!(!copy(&moved, &sqlite.url).await.0 && !copy(&sqlite.url, &sqlite.url).await.0);
        grant(&moved);
        // The triggers are those that the migrations make, and fire whenever those do.
        let triggers = "SELECT tgname || tgenabled::text AS text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
        assert_eq!(Sql::open(&moved).texts(triggers), Sql::of(world).texts(triggers));

        let service = for_a_service(&moved);
        let process = Process::start_with(world, &[("MAGIC_LINK_DATABASE_URL", &service)], Stdio::inherit());
        let admin = admin.at(&process.base);
        assert_eq!(Api::new(&process.base, None).get("/readyz").await.status, 200);
        let kept = admin.get(&format!("/v1/consultants/{consultant_id}")).await.ok();
        assert_eq!(kept, consultant);
        assert!(admin.is_active(session["access_token"].as_str().unwrap()).await, "sessions live");
        let opened = open(&admin, &unspent).await;
        assert_eq!(opened["profile"]["id"], "emp-2", "links open");
        assert_eq!(admin.get(&format!("/v1/magic-links/{revoked}")).await.ok()["state"], "revoked");
        let checkpoint = auditor.checkpoint(&admin).await;
        auditor.accepts(&auditor.export(&admin).await, &[&checkpoint, &newest]);

        // And everything goes on: what is numbered, what is guarded by triggers, what workers do.
        let later = issue(&admin, "emp-4").await;
        world.mails.wait_for(&later, 1).await;
        let order = admin.post("/v1/revocations", &json!({ "tenant_id": "acme", "reason": "It ended" })).await.ok();
        let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
        eventually("it is done", async || (admin.get(&path).await.ok()["state"] == "done").then_some(())).await;
        assert!(!admin.is_active(session["access_token"].as_str().unwrap()).await);
        let mut sql = Sql::open(&moved);
        let error = sql.run("UPDATE audit_events SET actor_id = 'nobody'").unwrap_err().to_string();
        assert!(error.contains("cannot be changed"), "the triggers are back: {error}");
        drop((process, sql));
        control.run(&format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
    });
}
