//! Names, addresses and reasons end with the retention, wherever they stand; what is live, and what is held, does not.

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::Duration;

use super::text_columns::{End, end_of, texts};
use crate::support::{Api, Auditor, Database, Settings, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";
const HOLDS: &str = "/v1/audit-log/acme/legal-holds";

/// Suppressed addresses.
const IN_FORCE: &str = "sup_01kaq3v9e8fwmvd2x7n0c5hb3z";
const CLEARED: &str = "sup_01kaq3v9e8fwmvd2x7n0c5hb4z";

/// What was said of people, in words that stand nowhere else.
pub(super) const SAID: [&str; 17] = [
    "Asha Rao",
    "asha.rao@",
    "Meera Iyer",
    "hr@acme",
    "Payroll run",
    "SUP-48",
    "Ravi Kumar",
    "@support.example",
    "203.0.113.7",
    "Netscape",
    "Vikram Shah",
    "vikram.shah@",
    "Nila Bose",
    "Salaries",
    "nothing else was touched",
    "Labour court",
    "came back",
];

/// Where in the database one of the words stands, and is not to be kept.
pub(super) fn places(world: &World, words: &[&str]) -> Vec<String> {
    let mut sql = Sql::of(world);
    let texts = texts(world).into_iter().filter(|column| !matches!(end_of(column), Some(End::Kept(_))));
    let found = texts.filter(|column| {
        let (table, name) = column.split_once(' ').unwrap();
        let rows = sql.texts(&format!("SELECT {name} AS text FROM {table} WHERE {name} IS NOT NULL"));
        // What the log holds since: who read it lately, and what was erased.
        table != "audit_payloads" && rows.iter().any(|text| words.iter().any(|word| text.contains(word)))
    });
    found.collect()
}

fn id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap()
}

fn nila() -> Value {
    json!({ "id": "emp-12", "name": "Nila Bose" })
}

fn vikram() -> Value {
    json!({ "id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example" })
}

fn request(consultant: &str, hours: i64) -> Value {
    let mut request = Api::issue_request(consultant);
    request["profile"]["email"] = json!("asha.rao@acme.example");
    request["duration"]["value"] = json!(hours);
    request
}

/// Everything that people say about an access: asked for, approved, denied, corrected, extended, used, revoked, reviewed.
/// Returns the consultant and the links.
pub(super) async fn told(world: &World) -> (String, Vec<String>) {
    let admin = &world.admin;
    let acme =
        json!({ "name": "ACME Ltd", "contacts": [{ "name": "Vikram Shah", "email": "vikram.shah@acme.example" }] });
    admin.put("/v1/tenants/acme", &acme).await.ok();
    let rules = json!({
        "emergency": "allowed", "requested_by": nila(),
        "approval": { "required_for": "none", "longer_than": { "value": 6, "unit": "hours" } },
    });
    admin.put("/v1/tenants/acme/policy", &rules).await.ok();
    let consultant = world.consultant().await;
    let act =
        async |link: &str, what: &str, body: Value| admin.post(&format!("{LINKS}/{link}/{what}"), &body).await.ok();

    // Used, corrected, extended, and asked to last longer still.
    let used = admin.post(LINKS, &request(&consultant, 4)).await.ok();
    let code = world.click(&world.token(id(&used), 1).await).await;
    let visitor = json!({ "address": "203.0.113.7", "user_agent": "Netscape 4" });
    let session = admin.post("/v1/sessions", &json!({ "token": code, "visitor": visitor })).await.ok();
    let events = super::acts(world, "portal", 1, 3);
    admin.post(&format!("/v1/sessions/{}/events", id(&session)), &events).await.ok();
    let correction = json!({ "reason": "Payroll run stops at step 4", "ticket": "SUP-48214", "requested_by": nila() });
    admin.patch(&format!("{LINKS}/{}", id(&used)), &correction).await.ok();
    let longer = |hours: i64| {
        let meera = json!({ "id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example" });
        json!({ "duration": { "value": hours, "unit": "hours" }, "reason": "Payroll run again", "extended_by": meera })
    };
    act(id(&used), "extend", longer(1)).await;
    let asked = act(id(&used), "extend", longer(4)).await;
    let denial = json!({ "approver": vikram(), "reason": "Payroll run has ended" });
    let extension = asked["extension"]["id"].as_str().unwrap();
    act(id(&used), &format!("extensions/{extension}/deny"), denial.clone()).await;
    act(id(&used), "revoke", json!({ "reason": "Payroll run is done", "requested_by": nila() })).await;

    // Asked for: denied, and approved.
    let denied = admin.post(LINKS, &request(&consultant, 8)).await.ok();
    act(id(&denied), "deny", denial).await;
    let approved = admin.post(LINKS, &request(&consultant, 9)).await.ok();
    let approval = json!({ "approver": vikram(), "comment": "Payroll run has to go on" });
    act(id(&approved), "approve", approval).await;

    // In an emergency, and reviewed.
    let mut urgent = request(&consultant, 2);
    urgent["emergency"] = json!({ "justification": "Salaries are paid in one hour" });
    let urgent = admin.post(LINKS, &urgent).await.ok();
    act(id(&urgent), "revoke", json!({ "reason": "Payroll run is done" })).await;
    let review = json!({ "reviewer": nila(), "finding": "justified", "comment": "nothing else was touched" });
    act(id(&urgent), "review", review).await;

    // Decisions of others.
    let hold = json!({ "reason": "Labour court, case 2026-118", "requested_by": nila() });
    let hold = admin.post(HOLDS, &hold).await.ok();
    let release = json!({ "reason": "Labour court has decided", "requested_by": nila() });
    admin.post(&format!("{HOLDS}/{}/release", id(&hold)), &release).await.ok();
    let ticket = json!({ "tenant_id": "acme", "ticket": "SUP-48999", "reason": "Payroll run was cancelled", "requested_by": nila() });
    admin.post("/v1/revocations", &ticket).await.ok();
    let suspension = json!({ "reason": "Ravi Kumar has left", "requested_by": nila() });
    admin.post(&format!("/v1/consultants/{consultant}/suspend"), &suspension).await.ok();
    let cause = "'bounce', 'ses', 'mjb_01kaq3v9e8fwmvd2x7n0c5hb3z', '2026-01-01 00:00:00'";
    Sql::of(world)
        .run(&format!(
            "INSERT INTO mail_suppressions (id, address, address_key, cause, provider, mail_job_id, created_at) \
             SELECT '{IN_FORCE}', email, email_key, {cause} FROM consultants WHERE id = '{consultant}'; \
             INSERT INTO mail_suppressions (id, address, address_key, cause, provider, mail_job_id, created_at, cleared_at, clear_reason) \
             VALUES ('{CLEARED}', 'Hr@acme.example', 'hr@acme.example', {cause}, '2026-01-01 00:00:00', 'it came back')"
        ))
        .unwrap();
    (consultant, [used, denied, approved, urgent].iter().map(|link| id(link).to_owned()).collect())
}

async fn purge(world: &World) -> Value {
    let before = world.clock.now().minus(Duration::days(400));
    let request = json!({ "before": before, "reason": "The contract has ended", "requested_by": nila() });
    world.admin.post("/v1/audit-log/acme/purges", &request).await.ok()
}

/// Waits until no mail and no session is open: what is open is not over.
async fn settled(world: &World) {
    let open = [
        "FROM mail_jobs WHERE finished_at IS NULL",
        "FROM sessions WHERE ended_at IS NULL AND expires_at < started_at",
    ];
    let done = async || open.iter().all(|rows| Sql::of(world).count(rows) == 0).then_some(());
    eventually("everything is settled", done).await;
}

/// How many links, requests, sessions and mails the log says were erased, by an order or by the hourly run.
async fn on_record(world: &World) -> [u64; 4] {
    let erasures = world.admin.events("&tenant_id=acme&type=personal_data.erased").await;
    let sum = |name: &str| erasures.iter().map(|one| one["data"][name].as_u64().unwrap()).sum();
    ["links", "requests", "sessions", "mails"].map(sum)
}

/// Where an answer holds a text that says nothing.
fn empty_texts(value: &Value, at: &str) -> Vec<String> {
    match value {
        Value::String(text) if text.is_empty() => vec![at.to_owned()],
        Value::Array(items) => {
            items.iter().enumerate().flat_map(|(index, item)| empty_texts(item, &format!("{at}/{index}"))).collect()
        }
        Value::Object(members) => {
            members.iter().flat_map(|(name, value)| empty_texts(value, &format!("{at}/{name}"))).collect()
        }
        _ => Vec::new(),
    }
}

async fn link_of(world: &World, link: &str) -> Value {
    world.admin.get(&format!("{LINKS}/{link}")).await.ok()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_was_said_of_people_ends_with_the_retention_and_the_rest_stays(world: &World) {
    let (consultant, links) = told(world).await;
    let token = world.token(&links[0], 1).await;
    let before = link_of(world, &links[0]).await;
    assert!(before.get("erased_at").is_none() && before["revoked_by"]["name"] == "Nila Bose", "{before}");
    assert!(before["delivery"]["state"].is_string(), "{before}");
    // What was denied never had a mail.
    assert_eq!(link_of(world, &links[1]).await.get("delivery"), None);
    let portal = world.portal("cloud", "acme").await;
    portal.get(LINKS).await.ok();
    let called = format!("/v1/clients/{}", portal.client_id);
    assert_eq!(world.admin.get(&called).await.ok()["last_used_from"], "127.0.0.1");
    for word in SAID {
        assert!(!places(world, &[word]).is_empty(), "nobody said {word}");
    }
    // What follows from them is sent and recorded in its time: it is kept from then on.
    world.clock.advance(Duration::days(2));
    let open = ["mail_jobs WHERE finished_at IS NULL", "report_checks", "sessions WHERE ended_at IS NULL"];
    let over = async || open.iter().all(|rows| Sql::of(world).count(&format!("FROM {rows}")) == 0).then_some(());
    eventually("all of it is over", over).await;
    // They are removed by ids, which do not go back in a process, whatever the clocks of the other tests in it.
    Sql::of(world).run("UPDATE mail_jobs SET id = 'mjb_00' || substr(id, 7) WHERE magic_link_id IS NULL").unwrap();

    world.clock.advance(Duration::days(402));
    let gone = async || {
        let mut erased = 0;
        for link in &links {
            erased += usize::from(link_of(world, link).await.get("erased_at").is_some());
        }
        let person = world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok();
        let is_done = erased == links.len() && person.get("erased_at").is_some() && places(world, &SAID).is_empty();
        if !is_done {
            // The next run.
            world.clock.advance(Duration::hours(1));
        }
        is_done.then_some(person)
    };
    let person = eventually("everything is erased", gone).await;

    // The link is what it was, without the words.
    let after = link_of(world, &links[0]).await;
    for same in ["id", "state", "tenant_id", "portal", "access", "starts_at", "expires_at", "revoked_at", "event_count"]
    {
        assert_eq!(after[same], before[same], "{same}");
    }
    assert_eq!(after["profile"], json!({ "id": before["profile"]["id"] }));
    assert_eq!(after["issued_by"], json!({ "id": "emp-7" }));
    assert_eq!(after["consultant"], json!({ "id": consultant }));
    assert_eq!(after["revoked_by"], json!({ "type": "portal_user", "id": "emp-12" }));
    for gone in ["reason", "ticket", "revoke_reason"] {
        assert!(after.get(gone).is_none(), "{gone}: {after}");
    }
    let denied = link_of(world, &links[1]).await;
    assert_eq!((&denied["state"], denied["approval"].get("decided_by")), (&json!("denied"), None), "{denied}");
    let urgent = link_of(world, &links[3]).await;
    assert_eq!(urgent["emergency"]["review"]["reviewer"], json!({ "id": "emp-12" }), "{urgent}");

    // Nothing stands for what is gone: no state of a mail, no address from memory, and no empty text.
    for link in &links {
        assert_eq!(link_of(world, link).await.get("delivery"), None, "{link}");
    }
    for state in ["queued", "accepted"] {
        let found = world.admin.get(&format!("{LINKS}?delivery_state={state}")).await.ok();
        assert_eq!(found["items"], json!([]), "{state}");
    }
    let client = world.admin.get(&called).await.ok();
    assert!(client["last_used_at"].is_string() && client.get("last_used_from").is_none(), "{client}");
    let mut about: Vec<String> = links.iter().map(|link| format!("{LINKS}/{link}")).collect();
    about.extend(links.iter().map(|link| format!("{LINKS}/{link}/evidence")));
    about.push(format!("/v1/consultants/{consultant}"));
    about.extend(
        [
            LINKS,
            "/v1/sessions",
            "/v1/access-summaries/emp-9?tenant_id=acme",
            "/v1/revocations",
            HOLDS,
            "/v1/clients",
            "/v1/tenants/acme",
            "/v1/tenants/acme/policy",
            "/v1/consultants",
            "/v1/mail-deliveries",
            "/v1/mail-suppressions",
            "/v1/audit-events?tenant_id=acme&page_size=200",
        ]
        .map(ToOwned::to_owned),
    );
    for path in about {
        let answer = world.admin.get(&path).await;
        // Evidence cannot be had of what never became a link.
        assert!(answer.status.is_success() || path.ends_with("evidence"), "{answer:?}");
        assert_eq!(empty_texts(&answer.body, ""), Vec::<String>::new(), "{path}: {}", answer.body);
    }

    // Lists find it by its ids, and nobody finds the person.
    let listed = world.admin.get(&format!("{LINKS}?consultant_id={consultant}&tenant_id=acme")).await.ok();
    assert_eq!(listed["items"].as_array().unwrap().len(), links.len());
    let sessions = world.admin.get(&format!("/v1/sessions?consultant_id={consultant}")).await.ok();
    let session = &sessions["items"][0];
    assert_eq!((&session["visitor"], session.get("reason")), (&json!({}), None), "{session}");
    assert!(session["erased_at"].is_string() && session["event_count"] == 3, "{session}");
    let summary = world.admin.get("/v1/access-summaries/emp-9?tenant_id=acme").await.ok();
    assert_eq!(
        (&summary["items"][0]["changes"], &summary["items"][0]["consultant"]),
        (&json!(3), &json!({ "id": consultant }))
    );
    assert_eq!(person.get("name").or(person.get("email")), None, "{person}");
    let directory = world.admin.get("/v1/consultants?page_size=200").await.ok();
    assert!(directory["items"].as_array().unwrap().iter().all(|one| id(one) != consultant), "{directory}");
    let mails = world.admin.get(&format!("/v1/mail-deliveries?magic_link_id={}", links[0])).await.ok();
    assert_eq!(mails["items"], json!([]));
    assert_eq!(world.admin.get("/v1/mail-suppressions").await.ok()["items"], json!([]));

    // Nothing comes back, and nobody gets in.
    let reason = json!({ "reason": "Back again" });
    for what in ["reinstate", "suspend"] {
        let refused = world.admin.post(&format!("/v1/consultants/{consultant}/{what}"), &reason).await;
        assert_eq!(refused.status, 404, "{what}: {refused:?}");
    }
    let change = json!({ "name": "Ravi" });
    world.admin.patch(&format!("/v1/consultants/{consultant}"), &change).await.refused(404, "not_found");
    let again = world.admin.post(LINKS, &request(&consultant, 4)).await;
    assert!(!again.status.is_success(), "{again:?}");
    world.stranger().post("/l/preview", &json!({ "token": token })).await.refused(400, "token_invalid");
    world.stranger().post("/l/continue", &json!({ "token": token })).await.refused(410, "link_revoked");

    // The evidence still proves what it shows, and the log is whole.
    let auditor = Auditor::of("acme", &world.admin).await;
    for link in [&links[0], &links[2], &links[3]] {
        let pack = world.admin.get(&format!("{LINKS}/{link}/evidence")).await;
        assert_eq!(pack.status, 200, "{pack:?}");
        auditor.accepts(&pack.text, &[]);
        assert!(!SAID.iter().any(|word| pack.text.contains(word)), "{}", pack.text);
    }
    auditor.audit(&world.admin).await;
    Auditor::of("_system", &world.admin).await.audit(&world.admin).await;

    // It is on record, once; another run finds nothing to do.
    let first = on_record(world).await;
    assert_eq!(first[..3], [3, 2, 1]);
    let purged = purge(world).await;
    assert_eq!((&purged["erased_records"], &purged["removed_mails"]), (&json!(0), &json!(0)));
    assert_eq!(on_record(world).await, first);
    let people = world.admin.events("&tenant_id=_system&type=consultant.erased").await;
    assert_eq!((people.len(), &people[0]["consultant_id"]), (1, &json!(consultant)));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_legal_hold_keeps_what_was_said_of_people(world: &World) {
    let (consultant, links) = told(world).await;
    let hold = world.admin.post(HOLDS, &json!({ "reason": "Tribunal, case 2026-9" })).await.ok();
    world.clock.advance(Duration::days(500));
    let before = world.clock.now().minus(Duration::days(450));
    let request = json!({ "before": before, "reason": "The contract has ended" });
    world.admin.post("/v1/audit-log/acme/purges", &request).await.refused(409, "legal_hold");
    // What belongs to no tenant is not held, and shows that the run has been: the cleared address.
    let ran = async || {
        world.clock.advance(Duration::hours(1));
        (Sql::of(world).count(&format!("FROM mail_suppressions WHERE id = '{CLEARED}'")) == 0).then_some(())
    };
    eventually("a run", ran).await;
    let log = world.admin.get("/v1/audit-log/acme").await.ok();
    assert_eq!((&log["legal_hold"], log.get("retained_since")), (&json!(true), None));
    for link in &links {
        let link = link_of(world, link).await;
        assert!(link["reason"].is_string() && link["profile"]["name"] == "Asha Rao", "{link}");
        assert_eq!(link["consultant"]["name"], "Ravi Kumar");
    }
    assert!(world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok().get("erased_at").is_none());
    assert!(world.admin.events("&tenant_id=acme&type=personal_data.erased").await.is_empty());
    let kept = Sql::of(world).count(&format!("FROM mail_suppressions WHERE id = '{IN_FORCE}'"));
    assert_eq!(kept, 1, "the consultant still has the address");
    settled(world).await;

    world.admin.post(&format!("{HOLDS}/{}/release", id(&hold)), &json!({ "reason": "It is settled" })).await.ok();
    purge(world).await;
    let erased = on_record(world).await;
    assert!(erased[..3] == [3, 2, 1] && erased[3] > 4, "{erased:?}");
    assert!(link_of(world, &links[0]).await["erased_at"].is_string());
    let log = world.admin.get("/v1/audit-log/acme").await.ok();
    assert_eq!(log["retained_since"], json!(world.clock.now().minus(Duration::days(400))));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_is_live_or_not_yet_over_stays(world: &World) {
    let consultant = world.consultant().await;
    let portal = world.portal("cloud", "acme").await;
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd" })).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({ "emergency": "allowed" })).await.ok();
    let old = portal.issue(&consultant).await;
    let mut urgent = request(&consultant, 2);
    urgent["emergency"] = json!({ "justification": "Salaries are paid in one hour" });
    let unreviewed = world.admin.post(LINKS, &urgent).await.ok();
    world.clock.advance(Duration::days(20));
    let next = portal.issue(&consultant).await;
    world.clock.advance(Duration::days(80));
    let younger = portal.issue(&consultant).await;
    world.clock.advance(Duration::days(302));
    let session = world.open_session(&portal).await;
    let live = portal.issue(&consultant).await;
    assert!(portal.is_active(session["access_token"].as_str().unwrap()).await);

    let done = async || {
        purge(world).await;
        let erased = [&old, id(&unreviewed)].map(async |link| link_of(world, link).await.get("erased_at").is_some());
        join_all(erased).await.into_iter().all(|one| one).then_some(())
    };
    eventually("the old ones are erased", done).await;
    for link in [&next, &younger, &live, session["magic_link_id"].as_str().unwrap()] {
        let link = link_of(world, link).await;
        assert!(link.get("erased_at").is_none() && link["reason"].is_string(), "{link}");
        assert_eq!(link["consultant"]["name"], "Ravi Kumar", "they are in use");
    }
    let text = portal.form("/v1/introspect", &[("token", session["access_token"].as_str().unwrap())]).await.ok();
    assert_eq!((&text["active"], &text["profile_name"]), (&json!(true), &json!("Asha Rao")));

    // A review that comes so late is given, and its words are in the log alone.
    let review = json!({ "reviewer": nila(), "finding": "justified", "comment": "nothing else was touched" });
    let reviewed = world.admin.post(&format!("{LINKS}/{}/review", id(&unreviewed)), &review).await.ok();
    let found = &reviewed["emergency"]["review"];
    assert_eq!((&found["reviewer"], &found["finding"]), (&json!({ "id": "emp-12" }), &json!("justified")), "{found}");
    assert_eq!((found.get("comment"), reviewed["emergency"].get("justification")), (None, None), "{reviewed}");
    assert_eq!(places(world, &["Nila Bose", "nothing else was touched"]), [] as [&str; 0]);
    let event = world.admin.events("&tenant_id=acme&type=magic_link.reviewed").await;
    assert_eq!(event[0]["data"]["comment"], "nothing else was touched", "{event:?}");

    // The tenant keeps things for a year only: the next one goes. What is cached of others stays: no epoch is raised.
    settled(world).await;
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd", "retention_days": 366 })).await.ok();
    let epoch = || Sql::of(world).texts("SELECT CAST(epoch AS TEXT) AS text FROM access_epoch");
    let before = epoch();
    let request = json!({ "before": world.clock.now().minus(Duration::days(380)), "reason": "A year is enough" });
    world.admin.post("/v1/audit-log/acme/purges", &request).await.ok();
    assert_eq!(epoch(), before);
    assert!(link_of(world, &next).await["erased_at"].is_string());
}

#[apply(on_both_databases)]
#[settings(Settings::config("audit.erase_in_service = false"))]
async fn where_the_service_does_not_erase_a_command_does(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    world.token(&link, 1).await;
    let refused = json!({ "before": "2020-01-01T00:00:00Z", "reason": "The contract has ended" });
    world.admin.post("/v1/audit-log/acme/purges", &refused).await.refused(409, "erasure_by_command");
    let mut sql = Sql::of(world);
    sql.run("UPDATE magic_links SET starts_at = '2020-01-01 00:00:00', expires_at = '2020-01-02 00:00:00'").unwrap();
    let sent = async || (sql.count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(());
    eventually("its mails are sent", sent).await;

    let mut command = crate::support::command(world);
    if world.database == Database::Postgres {
        let role = "janitor_of_the_tests";
        let make = format!("DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$");
        Sql::control(world).run(&make).unwrap();
        for arguments in [
            &["migrate", "--grant-to", crate::support::ROLE, "--no-erasing"] as &[&str],
            &["migrate", "--grant-to", role],
        ] {
            let mut grant = crate::support::command(world);
            grant.env("MAGIC_LINK_DATABASE_URL", &world.database_url);
            let done = grant.args(arguments).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        let mut service = Sql::open(&crate::support::for_a_service(&world.database_url));
        for denied in ["DELETE FROM audit_payloads", "DELETE FROM mail_jobs", "DELETE FROM mail_suppressions"] {
            let error = service.run(denied).unwrap_err().to_string();
            assert!(error.contains("permission denied"), "{denied}: {error}");
        }
        let refused = crate::support::command(world).arg("maintain").output().unwrap();
        assert!(
            !refused.status.success() || !String::from_utf8_lossy(&refused.stdout).contains("1 links"),
            "{refused:?}"
        );
        command.env(
            "MAGIC_LINK_DATABASE_URL",
            world.database_url.replace("postgres://postgres@", &format!("postgres://{role}@")),
        );
    }
    assert!(link_of(world, &link).await["reason"].is_string());
    let done = command.args(["maintain", "--json"]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let ended: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&ended["links"], &ended["payloads"]), (&json!(1), &json!(0)), "{ended}");
    assert!(ended["mails"].as_u64().unwrap() > 0, "{ended}");
    assert!(link_of(world, &link).await["erased_at"].is_string());
}
