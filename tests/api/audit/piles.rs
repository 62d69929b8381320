//! What one client can pile up has an end, and whether erasing works does not depend on how much there is.

use serde_json::{Value, json};
use time::Duration;

use magic_link::clock::Timestamp;

use crate::support::{
    Api, Database, Process, Settings, Sql, Statements, World, apply, command, eventually, on_both_databases,
};

const HOLDS: &str = "/v1/audit-log/acme/legal-holds";

/// Legal holds on the log of ACME by a client of that tenant.
fn plant_holds(world: &World, count: usize, until: &str) {
    let (numbers, id) = Sql::numbers(world.database, count);
    let insert = format!(
        "INSERT INTO legal_holds (id, tenant_id, reason, until, placed_at, placed_by_type, placed_by_id, placed_tenants)
         SELECT 'hld_' || {id}, 'acme', 'Labour court', '{until}', '2026-01-01 00:00:00', 'client', 'cli_x', 'acme'
         FROM ({numbers}) numbers"
    );
    Sql::of(world).run(&insert).unwrap();
}

/// New ends, and corrections, of a link: by a client, or by the command line.
fn plant_changes(world: &World, link: &str, count: usize, client: Option<&str>) {
    let client = client.map_or_else(|| "NULL".to_owned(), |client| format!("'{client}'"));
    let (numbers, id) = Sql::numbers(world.database, count);
    let insert = format!(
        "INSERT INTO link_extensions (id, magic_link_id, previous_expires_at, expires_at, reason, actor_type, actor_id,
            client_id, created_at)
         SELECT 'ext_' || {id}, '{link}', '2026-01-01 00:00:00', '2026-01-02 00:00:00', 'Nila Bose', 'client', 'cli_x',
            {client}, '2026-01-01 00:00:00' FROM ({numbers}) numbers;
         INSERT INTO link_corrections (id, magic_link_id, previous_reason, reason, actor_type, actor_id, client_id, created_at)
         SELECT 'cor_' || {id}, '{link}', 'Nila Bose', 'Nila Bose', 'client', 'cli_x', {client}, '2026-01-01 00:00:00'
         FROM ({numbers}) numbers"
    );
    Sql::of(world).run(&insert).unwrap();
}

/// Requests to extend a link that a client has withdrawn.
fn plant_requests(world: &World, link: &str, count: usize, client: &str) {
    let (numbers, id) = Sql::numbers(world.database, count);
    let insert = format!(
        "INSERT INTO extension_requests (id, magic_link_id, previous_expires_at, hours, reason, asked_by_id, asked_by_name,
            asked_by_email, client_id, created_at, lapses_at, state)
         SELECT 'ext_' || {id}, '{link}', '2026-01-01 00:00:00', 1, 'Nila Bose', 'emp-12', 'Nila Bose', 'nila@acme.example',
            '{client}', '2026-01-01 00:00:00', '2026-01-01 00:00:00', 'withdrawn' FROM ({numbers}) numbers"
    );
    Sql::of(world).run(&insert).unwrap();
}

async fn purge(world: &World) -> Value {
    let before = world.clock.now().minus(Duration::days(400));
    let request = json!({ "before": before, "reason": "The contract has ended" });
    world.admin.post("/v1/audit-log/acme/purges", &request).await.ok()
}

#[apply(on_both_databases)]
async fn a_client_of_a_tenant_places_a_hundred_holds_and_leaves_room_to_an_operator(world: &World) {
    let keeper = world.client(None, &["acme"], &["audit:manage", "audit:read"]).await;
    let request = json!({ "reason": "Labour court, case 2026-118" });
    // What is over does not count.
    plant_holds(world, 200, "2026-01-02 00:00:00");
    keeper.post(HOLDS, &request).await.ok();
    Sql::of(world).run("DELETE FROM legal_holds").unwrap();
    plant_holds(world, 99, "2999-01-01 00:00:00");
    let last = keeper.post(HOLDS, &request).await.ok();
    keeper.post(HOLDS, &request).await.refused(409, "too_many_legal_holds");
    world.admin.post(HOLDS, &request).await.ok();
    let release = format!("{HOLDS}/{}/release", last["id"].as_str().unwrap());
    keeper.post(&release, &json!({ "reason": "The case was settled" })).await.ok();
    keeper.post(HOLDS, &request).await.ok();
}

// By one client: what it does costs nobody else anything, and what takes access away is not refused.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_client_makes_a_hundred_changes_of_a_kind_and_leaves_room_to_others(world: &World) {
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    let scopes = json!(["links:issue", "links:read", "links:revoke", "links:request"]);
    let portal = json!({ "name": "Portal", "portal": "cloud", "tenants": ["acme"], "scopes": scopes });
    let client = admin.post("/v1/clients", &portal).await.ok();
    let (id, portal) = (client["id"].as_str().unwrap(), Api::new(&process.base, client["key"].as_str()));
    let meera = json!({ "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" });
    let extend = json!({
        "duration": { "value": 1, "unit": "hours" }, "reason": "The payroll run again", "extended_by": meera,
    });
    let policy = json!({
        "approval": { "required_for": "none", "longer_than": { "value": 4, "unit": "hours" } },
    });
    let tenant = json!({ "name": "ACME", "contacts": [{ "name": "Vikram Shah", "email": "vikram@acme.example" }] });
    admin.put("/v1/tenants/acme", &tenant).await.ok();
    let person = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let ravi = admin.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
    let link = portal.issue(&ravi).await;
    let path = format!("/v1/magic-links/{link}");
    let sooner = |by: Duration, end: Timestamp| json!({ "expires_at": end.minus(by), "reason": "It is done sooner" });
    let end =
        async || -> Timestamp { serde_json::from_value(admin.get(&path).await.ok()["expires_at"].clone()).unwrap() };

    // Corrections, and ends that are moved back.
    plant_changes(world, &link, 100, Some(id));
    portal.patch(&path, &json!({ "reason": "One more reason" })).await.refused(409, "change_limit_reached");
    portal.post(&format!("{path}/extend"), &extend).await.refused(409, "change_limit_reached");
    admin.patch(&path, &json!({ "reason": "The reason of somebody else" })).await.ok();
    // What changes nothing is no change.
    portal.patch(&path, &json!({ "reason": "The reason of somebody else" })).await.ok();
    admin.post(&format!("{path}/extend"), &extend).await.ok();
    // Nor does the number of steps keep anybody from ending it sooner: after a hundred they are a minute long.
    let turned = "UPDATE link_extensions SET expires_at = '2025-12-31 00:00:00' WHERE client_id IS NOT NULL AND reason = 'Nila Bose'";
    Sql::of(world).run(turned).unwrap();
    let shorten = format!("{path}/shorten");
    let second = sooner(Duration::SECOND, end().await);
    portal.post(&shorten, &second).await.refused(409, "change_limit_reached");
    admin.post(&shorten, &second).await.ok();
    portal.post(&shorten, &sooner(Duration::MINUTE, end().await)).await.ok();

    // Requests, of which all were withdrawn.
    admin.put("/v1/tenants/acme/policy", &policy).await.ok();
    plant_requests(world, &link, 100, id);
    let extend = json!({
        "duration": { "value": 3, "unit": "hours" }, "reason": "The payroll run again", "extended_by": meera,
    });
    portal.post(&format!("{path}/extend"), &extend).await.refused(409, "change_limit_reached");
    let asked = admin.post(&format!("{path}/extend"), &extend).await.ok();
    let extension = asked["extension"]["id"].as_str().unwrap();
    // Who decides has a room of their own, too.
    let approval = json!({ "approver": { "id": "emp-3", "name": "Vikram Shah", "email": "vikram@acme.example" } });
    let admin_id = &*world.admin.client_id;
    plant_more_ends(world, &link, admin_id);
    let approve = format!("{path}/extensions/{extension}/approve");
    admin.post(&approve, &approval).await.refused(409, "change_limit_reached");
    portal.post(&format!("{path}/revoke"), &json!({ "reason": "No longer needed" })).await.ok();
}

/// A hundred later ends by another client.
fn plant_more_ends(world: &World, link: &str, client: &str) {
    let (numbers, id) = Sql::numbers(world.database, 100);
    let insert = format!(
        "INSERT INTO link_extensions (id, magic_link_id, previous_expires_at, expires_at, reason, actor_type, actor_id,
            client_id, created_at)
         SELECT 'ext_1' || substr({id}, 2), '{link}', '2026-01-01 00:00:00', '2026-01-02 00:00:00', 'Nila', 'client', 'cli_x',
            '{client}', '2026-01-01 00:00:00' FROM ({numbers}) numbers"
    );
    Sql::of(world).run(&insert).unwrap();
}

// More keys than one range removes: on the way nothing else is done, and a run does not end there.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn one_run_erases_links_that_were_mailed_many_times(world: &World) {
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    for number in 0..3 {
        let person = json!({ "name": "Ravi Kumar", "email": format!("ravi.{number}@support.example") });
        let ravi = admin.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
        admin.issue(&ravi).await;
    }
    let open = "FROM mail_jobs WHERE finished_at IS NULL";
    eventually("all mails are sent", async || (Sql::of(world).count(open) == 0).then_some(())).await;
    process.kill();
    let (numbers, _) = Sql::numbers(world.database, 700);
    Sql::of(world)
        .run(&format!(
            "UPDATE magic_links SET starts_at = '2020-01-01 00:00:00', expires_at = '2020-01-02 00:00:00'; \
             INSERT INTO link_keys (kid, magic_link_id, generation) SELECT 'x', id, 2 + i FROM magic_links, ({numbers}) numbers"
        ))
        .unwrap();
    let keys = Sql::of(world).count("FROM link_keys");
    let done = command(world).args(["maintain", "--json"]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["links"], &done["keys"]), (&json!(3), &json!(keys)));
    assert_eq!(Sql::of(world).count("FROM link_keys"), 0);
    assert_eq!(Sql::of(world).count("FROM magic_links WHERE reason <> ''"), 0);
    // What was removed is on record, in ranges.
    let process = Process::start(world);
    let events = world.admin.at(&process.base).events("&tenant_id=acme&type=personal_data.erased").await;
    let removed: Vec<u64> = events.iter().map(|event| event["data"]["keys"].as_u64().unwrap()).collect();
    assert!(removed.iter().all(|keys| *keys <= 500), "{removed:?}");
    assert_eq!(removed.iter().sum::<u64>(), u64::try_from(keys).unwrap());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn whatever_was_piled_up_is_erased_in_ranges(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    world.mails.wait_for(&link, 1).await;
    // More than a statement of SQLite has variables.
    plant_holds(world, 33_500, "2026-01-02 00:00:00");
    plant_changes(world, &link, 1_200, None);
    let (numbers, _) = Sql::numbers(world.database, 1_200);
    let generations = format!(
        "INSERT INTO link_devices (magic_link_id, generation, thumbprint, proofs, remembered_at, forgotten_at)
         SELECT '{link}', 2 + i, 'x', 0, '2026-01-01 00:00:00', '2026-01-01 00:00:00' FROM ({numbers}) numbers"
    );
    Sql::of(world).run(&generations).unwrap();
    world.clock.advance(Duration::days(500));
    eventually("all of it is erased", async || {
        purge(world).await;
        let left = [
            "FROM legal_holds WHERE reason <> ''",
            "FROM link_corrections WHERE reason <> '' OR previous_reason <> ''",
            "FROM link_extensions WHERE reason <> ''",
            "FROM link_devices",
            "FROM magic_links WHERE reason <> ''",
        ];
        left.iter().all(|rows| Sql::of(world).count(rows) == 0).then_some(())
    })
    .await;
    let events = world.admin.events("&tenant_id=acme&type=personal_data.erased").await;
    let decisions: Vec<i64> = events.iter().map(|event| event["data"]["decisions"].as_i64().unwrap()).collect();
    assert!(decisions.iter().all(|decisions| (0..=1_500).contains(decisions)), "{decisions:?}");
    assert!(decisions.iter().sum::<i64>() >= 35_900, "{decisions:?}");
}

// Those of all links that are kept are as many: they are not read.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_keys_of_an_erased_link_are_found_by_the_link(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    world.mails.wait_for(&link, 1).await;
    let erased = async {
        world.clock.advance(Duration::days(500));
        eventually("it is erased", async || {
            purge(world).await;
            (Sql::of(world).count("FROM magic_links WHERE reason <> ''") == 0).then_some(())
        })
        .await;
    };
    let (statements, ()) = Statements::during(world, erased).await;
    for verb in ["SELECT", "DELETE"] {
        let found = statements.texts(&["link_keys", "magic_link_id", verb]);
        assert!(!found.is_empty(), "nothing says {verb}");
        for statement in found {
            let plan = Sql::of(world).plan(statement, &["text[]", "bigint"]).join("\n");
            assert!(plan.contains("link_keys_by_link"), "{statement}\n{plan}");
        }
    }
}

// The service leaves it to the command, which would find nothing where a worker had been first.
#[apply(on_both_databases)]
#[settings(Settings { config: "audit.erase_in_service = false".into(), ..Settings::default() })]
async fn the_command_says_what_it_could_not_erase(world: &World) {
    let maintain = || {
        let done = command(world).args(["maintain"]).output().unwrap();
        (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    world.admin.put("/v1/tenants/globex", &json!({ "name": "Globex" })).await.ok();
    plant_holds(world, 3, "2020-01-02 00:00:00");
    let refuse = match world.database {
        Database::Sqlite => {
            "CREATE TRIGGER no_room BEFORE UPDATE ON legal_holds BEGIN SELECT RAISE(ABORT, 'no room'); END"
        }
        Database::Postgres => {
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no room'; END $$; \
             CREATE TRIGGER no_room BEFORE UPDATE ON legal_holds FOR EACH ROW EXECUTE FUNCTION no_room()"
        }
    };
    Sql::of(world).run(refuse).unwrap();
    let (code, said) = maintain();
    assert!(code == Some(1) && said.contains("1 audit logs (acme)"), "{code:?} {said}");
    let only = if world.database == Database::Sqlite { "" } else { " ON legal_holds" };
    Sql::of(world).run(&format!("DROP TRIGGER no_room{only}")).unwrap();
    let (code, said) = maintain();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(Sql::of(world).count("FROM legal_holds WHERE reason <> ''"), 0);
}
