//! One order that revokes many links: in force when it is answered, done when every link is on record.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{Api, Database, Process, SecondCopy, Settings, Sql, World, apply, eventually, on_both_databases};

/// More than are carried out before the answer.
const MANY: usize = 150;

/// How many links the largest order of this run hits: a few in `make check`, `MANY_LINKS` in `make soak`.
fn many_links() -> usize {
    std::env::var("MANY_LINKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_500)
}

/// Asks for the order until it is done.
async fn done(caller: &Api, order: &Value) -> Value {
    let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
    eventually("the order is carried out", async || {
        let order = caller.get(&path).await.ok();
        (order["state"] == "done").then_some(order)
    })
    .await
}

async fn state_of(caller: &Api, link: &str) -> String {
    caller.get(&format!("/v1/magic-links/{link}")).await.ok()["state"].as_str().unwrap().to_owned()
}

/// Puts links of a tenant into the store as if they had been issued long ago.
fn plant(world: &World, consultant: &str, tenant: &str, number: usize) {
    Sql::of(world).run(&planted(world.database, consultant, tenant, number)).unwrap();
}

fn planted(database: Database, consultant: &str, tenant: &str, number: usize) -> String {
    let (numbers, id) = Sql::numbers(database, number);
    format!(
        "INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access,
            starts_at, expires_at, issued_by_id, issued_by_name, created_at, generation)
         SELECT 'mlk_' || {id}, '{tenant}', 'cloud', '{consultant}', 'emp-1042', 'Asha Rao', 'Planted by a test',
            'full', '2026-01-01 00:00:00.000000', '2099-01-01 00:00:00.000000', 'emp-7', 'Meera Iyer',
            '2026-01-01 00:00:00.000000', 1 FROM ({numbers}) numbers"
    )
}

/// Lets nobody carry orders out, as if the copy that took the next one were busy with it.
fn hold_back(world: &World) {
    let mut sql = Sql::of(world);
    sql.run("UPDATE revocations SET lease_until = '2099-01-01 00:00:00.000000', done_at = NULL").unwrap();
}

fn let_go(world: &World) {
    Sql::of(world).run("UPDATE revocations SET lease_until = NULL").unwrap();
}

#[apply(on_both_databases)]
async fn an_order_revokes_what_it_names_and_nothing_else(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (first, second) = (world.consultant().await, world.consultant().await);
    let session = world.open_session(&portal).await;
    let (visited, token) = (session["magic_link_id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let hit = portal.issue(&first).await;
    let spared = portal.issue(&second).await;
    let visitor = session["consultant"]["id"].as_str().unwrap();

    let order = json!({ "tenant_id": "acme", "consultant_id": first, "reason": "Left the support team" });
    let mut dry = order.clone();
    dry["dry_run"] = true.into();
    let counted = portal.post("/v1/revocations", &dry).await;
    assert_eq!(counted.status, 202);
    let counted = counted.ok();
    assert_eq!((&counted["state"], &counted["links"], &counted["sessions"]), (&json!("dry_run"), &json!(1), &json!(0)));
    assert_eq!(state_of(&portal, &hit).await, "active");

    let given = done(&portal, &portal.post_once("/v1/revocations", "once", &order).await.ok()).await;
    assert_eq!((&given["state"], &given["links"], &given["sessions"]), (&json!("done"), &json!(1), &json!(0)));
    assert_eq!(portal.post_once("/v1/revocations", "once", &order).await.ok(), given, "a repeat is the same order");
    let revoked = portal.get(&format!("/v1/magic-links/{hit}")).await.ok();
    assert_eq!((&revoked["state"], &revoked["revoke_reason"]), (&json!("revoked"), &order["reason"]));
    assert_eq!(revoked["revoked_at"], given["created_at"]);
    assert_eq!(state_of(&portal, &spared).await, "active");
    assert!(portal.is_active(token).await);

    let given =
        portal.post("/v1/revocations", &json!({ "consultant_id": visitor, "reason": "The work is done" })).await;
    assert_eq!(done(&portal, &given.ok()).await["sessions"], 1);
    assert!(!portal.is_active(token).await);
    let trail = portal.event_types(&format!("&magic_link_id={visited}")).await;
    let ends: Vec<&String> = trail.iter().filter(|kind| kind.ends_with("revoked") || kind.ends_with("ended")).collect();
    assert_eq!(ends, ["magic_link.revoked", "session.ended"]);
    let acts = portal.events("&type=revocation.ordered").await;
    assert_eq!(
        acts.iter().map(|act| act["data"]["dry_run"].as_bool().unwrap()).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert_eq!(acts[1]["reason"], "Left the support team");
    // The last one named no tenant, but its client has only one.
    assert_eq!(world.admin.events("&tenant_id=_system&type=revocation.ordered").await.len(), 0);
    assert_eq!(acts[1]["data"]["links"], 1);
}

#[apply(on_both_databases)]
async fn an_order_says_what_it_is_for(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let give = async |caller: &Api, order: Value| caller.post("/v1/revocations", &order).await;
    give(&portal, json!({ "reason": "The work is done" })).await.refused_field("/everything");
    let both = json!({ "reason": "The work is done", "everything": true, "tenant_id": "acme" });
    give(&portal, both).await.refused_field("/everything");
    give(&portal, json!({ "tenant_id": "acme", "reason": "x" })).await.refused_field("/reason");
    give(&portal, json!({ "tenant_id": "a b", "reason": "The work is done" })).await.refused_field("/tenant_id");
    let everything = json!({ "everything": true, "reason": "The work is done" });
    give(&portal, everything.clone()).await.refused(403, "insufficient_scope");
    for beyond in [json!({ "tenant_id": "globex" }), json!({ "portal": "ess" })] {
        let mut order = beyond;
        order["reason"] = "The work is done".into();
        give(&portal, order).await.refused(403, "client_not_permitted");
    }
    // An administrator who is bound to a tenant has everything of that tenant, and no more.
    let consultant = world.consultant().await;
    let own = portal.issue(&consultant).await;
    let mut foreign = Api::issue_request(&consultant);
    foreign["tenant_id"] = "globex".into();
    let foreign = world.admin.post("/v1/magic-links", &foreign).await.ok()["id"].as_str().unwrap().to_owned();
    let bound = world.client(None, &["acme"], &["admin", "links:revoke"]).await;
    let given = done(&bound, &give(&bound, everything.clone()).await.ok()).await;
    assert_eq!(given["links"], 1);
    assert_eq!([state_of(&world.admin, &own).await, state_of(&world.admin, &foreign).await], ["revoked", "active"]);
    let path = format!("/v1/revocations/{}", given["id"].as_str().unwrap());
    portal.get(&path).await.refused(404, "not_found");
    assert_eq!(world.admin.get(&path).await.ok(), given);
    assert_eq!(give(&world.admin, everything).await.ok()["links"], 1);
    assert_eq!(state_of(&world.admin, &foreign).await, "revoked");
}

#[apply(on_both_databases)]
#[settings(Settings::config("links.resend_cool_down_seconds = 0"))]
async fn an_order_is_in_force_while_it_is_being_carried_out(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let access_token = session["access_token"].as_str().unwrap();
    let redeemed = portal.issue(&world.consultant().await).await;
    let redemption = json!({ "token": world.click(&world.token(&redeemed, 1).await).await });
    let opened = portal.post_once("/v1/sessions", "once", &redemption).await.ok();
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    assert!(portal.is_active(access_token).await);
    // Nothing matches this one yet; then it is opened wide, as a copy of the service that died would leave it.
    let order = json!({ "profile_id": "nobody", "reason": "A laptop was stolen" });
    let order = portal.post("/v1/revocations", &order).await.ok();
    hold_back(world);
    Sql::of(world).run("UPDATE revocations SET profile_id = NULL").unwrap();
    Sql::of(world).run("UPDATE access_epoch SET epoch = epoch + 1").unwrap();

    assert!(!portal.is_active(access_token).await);
    portal.redeem(&code).await.refused(410, "link_revoked");
    portal.post_once("/v1/sessions", "once", &redemption).await.refused(410, "session_ended");
    let seen = portal.get(&format!("/v1/sessions/{}", opened["id"].as_str().unwrap())).await.ok();
    assert_eq!((&seen["state"], &seen["end_cause"]), (&json!("ended"), &json!("revoked")));
    assert_eq!(portal.get("/v1/sessions?state=active").await.ok()["items"], json!([]));
    let again = portal.post(&format!("/v1/magic-links/{link}/revoke"), &json!({ "reason": "Once more" })).await.ok();
    assert_eq!(again["revoke_reason"], "A laptop was stolen", "what has ended stays as it is");
    let path = format!("/v1/magic-links/{link}");
    portal.post(&format!("{path}/resend"), &json!({})).await.refused(410, "link_revoked");
    let seen = portal.get(&path).await.ok();
    assert_eq!((&seen["state"], &seen["revoke_reason"]), (&json!("revoked"), &json!("A laptop was stolen")));
    assert_eq!(portal.get("/v1/magic-links?state=active").await.ok()["items"], json!([]));
    assert_eq!(portal.get("/v1/magic-links?state=revoked").await.ok()["items"].as_array().unwrap().len(), 3);
    let page = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(page["state"], "revoked");
    world.stranger().post("/l/continue", &json!({ "token": token })).await.refused(410, "link_revoked");

    // What is issued later is not concerned, now and when the order is done.
    let later = world.open_session(&portal).await;
    let later_token = later["access_token"].as_str().unwrap();
    assert!(portal.is_active(later_token).await);
    let_go(world);
    let order = done(&portal, &order).await;
    assert_eq!((&order["links"], &order["sessions"]), (&json!(3), &json!(2)));
    assert!(portal.is_active(later_token).await && !portal.is_active(access_token).await);
    assert_eq!(portal.get(&path).await.ok()["revoked_at"], order["created_at"]);
    let events = portal.events(&format!("&magic_link_id={link}&type=magic_link.revoked")).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["occurred_at"], order["created_at"]);
    assert_eq!(events[0]["data"]["revocation_id"], order["id"]);
}

#[apply(on_both_databases)]
async fn a_pending_bulk_revocation_is_the_one_truth_about_its_links_and_sessions(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (id, link) = (session["id"].as_str().unwrap(), session["magic_link_id"].as_str().unwrap());
    let order = json!({ "profile_id": "nobody", "reason": "A laptop was stolen" });
    let order = portal.post("/v1/revocations", &order).await.ok();
    hold_back(world);
    Sql::of(world).run("UPDATE revocations SET profile_id = NULL").unwrap();
    Sql::of(world).run("UPDATE access_epoch SET epoch = epoch + 1").unwrap();

    // What anybody else does meanwhile ends nothing a second time, and gives it no other cause.
    let done_by_visitor = portal.post(&format!("/v1/sessions/{id}/end"), &json!({ "sources": { "portal": 0 } })).await;
    let ended = done_by_visitor.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("revoked")));
    assert_eq!(ended["ended_at"], order["created_at"]);
    let consultant = session["consultant"]["id"].as_str().unwrap();
    let suspend = json!({ "reason": "Left the support team" });
    world.admin.post(&format!("/v1/consultants/{consultant}/suspend"), &suspend).await.ok();
    portal.form("/v1/revoke", &[("token", session["access_token"].as_str().unwrap())]).await.ok();

    let truth = async |what: &str| {
        let evidence = world.admin.get(&format!("/v1/magic-links/{link}/evidence")).await.ok();
        let (packed, visit) = (&evidence["evidence"]["link"], &evidence["evidence"]["sessions"][0]);
        assert_eq!((&packed["state"], &packed["revoke_reason"]), (&json!("revoked"), &order["reason"]), "{what}");
        assert_eq!((&visit["state"], &visit["end_cause"]), (&json!("ended"), &json!("revoked")), "{what}");
        let read = portal.get(&format!("/v1/sessions/{id}")).await.ok();
        assert_eq!((&read["end_cause"], &read["ended_at"]), (&json!("revoked"), &order["created_at"]), "{what}");
        assert_eq!(portal.get("/v1/sessions?state=ended").await.ok()["items"][0]["id"], id, "{what}");
        assert_eq!(portal.get("/v1/sessions?state=active").await.ok()["items"], json!([]), "{what}");
        let listed = &portal.get("/v1/magic-links?state=revoked").await.ok()["items"][0];
        assert_eq!((&listed["id"], &listed["revoked_at"]), (&json!(link), &order["created_at"]), "{what}");
    };
    truth("pending").await;
    let_go(world);
    assert_eq!(done(&portal, &order).await["sessions"], 1);
    truth("done").await;
    for kind in ["magic_link.revoked", "session.ended"] {
        let events = portal.events(&format!("&magic_link_id={link}&type={kind}")).await;
        assert_eq!((events.len(), &events[0]["occurred_at"]), (1, &order["created_at"]), "{kind}");
    }
}

#[apply(on_both_databases)]
async fn a_link_that_is_being_issued_beside_an_order_is_waited_for(world: &World) {
    // SQLite has one writer: there is no beside.
    if world.database == Database::Sqlite {
        return;
    }
    let consultant = world.consultant().await;
    let mut beside = Sql::of(world);
    beside.run("BEGIN").unwrap();
    beside.run(&planted(world.database, &consultant, "acme", 1)).unwrap();
    let order = world.admin.post("/v1/revocations", &json!({ "tenant_id": "acme", "reason": "Too late" })).await.ok();
    assert_eq!((&order["state"], &order["links"]), (&json!("running"), &json!(0)));
    let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
    // The worker has looked at it, and knows what it waits for.
    let watermark = "FROM revocations WHERE xid_watermark IS NOT NULL";
    eventually("the worker waits", async || (Sql::of(world).count(watermark) == 1).then_some(())).await;
    assert_eq!(world.admin.get(&path).await.ok()["state"], "running");
    beside.run("COMMIT").unwrap();
    assert_eq!(done(&world.admin, &order).await["links"], 1);
    assert_eq!(Sql::of(world).count("FROM magic_links WHERE revoked_at IS NULL"), 0);
}

// Whoever is numbered beside others waits, and loses nothing: here each act has a transaction of its own, as at a distance.
#[apply(on_both_databases)]
#[settings(Settings::config("database_batch = 1"))]
async fn orders_that_are_given_at_once_are_all_taken(world: &World) {
    // SQLite has one writer: nothing is at once.
    if world.database == Database::Sqlite {
        return;
    }
    let copy = SecondCopy::start_with(world, world.clock.clone(), &Settings::config("database_batch = 1"));
    let other = world.admin.at(&copy.base);
    let give = async |number: usize| {
        let order = json!({ "profile_id": format!("emp-{number}"), "reason": "Not any more" });
        let caller = if number.is_multiple_of(2) { &world.admin } else { &other };
        caller.post("/v1/revocations", &order).await.ok()["id"].clone()
    };
    for round in 0..4 {
        let orders: Vec<_> = (0..24).map(|number| give(100 * round + number)).collect();
        futures_util::future::join_all(orders).await;
    }
    assert_eq!(Sql::of(world).count("FROM (SELECT DISTINCT seq FROM revocations) AS numbers"), 96);
}

#[test]
fn who_writes_into_another_database_of_the_server_holds_no_order_back() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let mut elsewhere = Sql::control(world);
        elsewhere.run("BEGIN; SELECT pg_current_xact_id()").unwrap();
        world.admin.issue(&world.consultant().await).await;
        let order = json!({ "tenant_id": "acme", "reason": "The contract ended" });
        let order = world.admin.post("/v1/revocations", &order).await.ok();
        assert_eq!((&order["state"], &order["links"]), (&json!("done"), &json!(1)));
        elsewhere.run("COMMIT").unwrap();
    });
}

#[test]
fn an_order_that_was_moved_to_a_younger_server_is_carried_out() {
    World::run(Database::Postgres, &Settings::no_service(), async |world| {
        let first = Process::start(world);
        let operator = world.admin.at(&first.base);
        let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
        plant(world, &consultant, "acme", 10 * MANY);
        let order = operator.post("/v1/revocations", &json!({ "tenant_id": "acme", "reason": "It ended" })).await.ok();
        first.kill();
        let mut sql = Sql::of(world);
        // As a dump of a server that has seen far more transactions has it.
        let moved = "UPDATE revocations SET done_at = NULL, lease_until = NULL, xid_watermark = 9000000000000000";
        sql.run(moved).unwrap();
        let second = Process::start(world);
        done(&world.admin.at(&second.base), &order).await;
        assert_eq!(sql.count("FROM magic_links WHERE revoked_at IS NULL"), 0);
        assert_eq!(sql.count("FROM revocations WHERE xid_watermark < 9000000000000000"), 1);
    });
}

#[apply(on_both_databases)]
async fn no_mail_leaves_for_a_link_that_an_order_hits(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.mails.misbehave(ResponseTemplate::new(500));
    let link = portal.issue(&world.consultant().await).await;
    world.mails.wait_for(&link, 1).await;
    let order = json!({ "profile_id": "nobody", "reason": "A laptop was stolen" });
    portal.post("/v1/revocations", &order).await.ok();
    hold_back(world);
    Sql::of(world).run("UPDATE revocations SET profile_id = NULL").unwrap();
    let tried = world.mails.about(&link).await.len();
    world.mails.behave();
    let path = format!("/v1/mail-deliveries?template=magic_link&magic_link_id={link}");
    eventually("the mail is cancelled", async || {
        let jobs = portal.get(&path).await.ok();
        (jobs["items"][0]["state"] == "cancelled").then_some(())
    })
    .await;
    assert_eq!(world.mails.about(&link).await.len(), tried);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn an_order_goes_on_where_the_copy_that_took_it_died(world: &World) {
    let first = Process::start(world);
    let operator = world.admin.at(&first.base);
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned();
    plant(world, &consultant, "acme", 10 * MANY);
    let order = operator.post("/v1/revocations", &json!({ "tenant_id": "acme", "reason": "The contract ended" })).await;
    let order = order.ok();
    assert_eq!((&order["state"], &order["links"]), (&json!("running"), &json!(10 * MANY)));
    let mut sql = Sql::of(world);
    let revoked = "FROM magic_links WHERE revoked_at IS NOT NULL";
    eventually("a range is done", async || (sql.count(revoked) > 0).then_some(())).await;
    first.kill();
    let_go(world);
    let second = Process::start(world);
    let order = done(&world.admin.at(&second.base), &order).await;
    assert_eq!(order["links"], 10 * MANY);
    assert_eq!(sql.count(revoked), 10 * MANY);
    let per_link = "FROM (SELECT magic_link_id FROM audit_events WHERE event_type = 'magic_link.revoked' \
        GROUP BY magic_link_id HAVING count(*) = 1) told";
    assert_eq!(sql.count(per_link), 10 * MANY, "each link is on record once");
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'revocation.ordered'"), 1);
}

#[apply(on_both_databases)]
async fn a_large_order_leaves_room_for_everybody_else(world: &World) {
    let number = many_links();
    let consultant = world.consultant().await;
    plant(world, &consultant, "globex", number);
    let portal = world.portal("cloud", "acme").await;
    let order = json!({ "tenant_id": "globex", "reason": "The contract ended" });
    let started = std::time::Instant::now();
    let order = world.admin.post("/v1/revocations", &order).await.ok();
    let answered = started.elapsed();
    assert_eq!(order["links"], number);
    // Another tenant's work goes on meanwhile; how long each act takes is told, and not asserted.
    let mut longest = std::time::Duration::ZERO;
    let path = format!("/v1/revocations/{}", order["id"].as_str().unwrap());
    loop {
        let asked = std::time::Instant::now();
        portal.issue(&consultant).await;
        longest = longest.max(asked.elapsed());
        if world.admin.get(&path).await.ok()["state"] == "done" {
            break;
        }
    }
    eprintln!(
        "{:?}: an order for {number} links was answered after {answered:?} and done after {:?}; \
         the slowest issue of another tenant beside it took {longest:?}",
        world.database,
        started.elapsed()
    );
    let mut sql = Sql::of(world);
    let kept: BTreeMap<&str, usize> = ["globex", "acme"]
        .map(|tenant| {
            (tenant, sql.count(&format!("FROM magic_links WHERE tenant_id = '{tenant}' AND revoked_at IS NULL")))
        })
        .into();
    assert_eq!(kept["globex"], 0);
    assert!(kept["acme"] > 0);
    let told = "FROM audit_events WHERE event_type = 'magic_link.revoked' AND tenant_id = 'globex'";
    assert_eq!(sql.count(told), number);
}

#[apply(on_both_databases)]
async fn a_customers_client_has_so_many_orders_pending_and_no_more(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let order = json!({ "issued_by_id": "emp-7", "reason": "An admin's account was taken over" });
    for _ in 0..20 {
        portal.post("/v1/revocations", &order).await.ok();
    }
    hold_back(world);
    let refused = portal.post("/v1/revocations", &order).await;
    refused.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "5");
    assert_eq!(Sql::of(world).count("FROM revocations"), 20);
    // Another client, a rehearsal and the operators go on.
    world.portal("cloud", "globex").await.post("/v1/revocations", &order).await.ok();
    let rehearsal = json!({ "issued_by_id": "emp-7", "reason": "To see what would end", "dry_run": true });
    portal.post("/v1/revocations", &rehearsal).await.ok();
    let everything = json!({ "everything": true, "reason": "A key has leaked" });
    done(&world.admin, &world.admin.post("/v1/revocations", &everything).await.ok()).await;
    let_go(world);
    eventually("there is room again", async || {
        portal.post("/v1/revocations", &order).await.status.is_success().then_some(())
    })
    .await;
}
