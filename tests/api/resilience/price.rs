//! What an act of a lone caller costs the database: how many statements, and none of them parsed twice.

use serde_json::{Value, json};

use crate::support::{
    Api, Database, Receiver, Settings, Sql, Statements, World, apply, eventually, mailed, on_both_databases,
};

/// A link's whole life, and the statements of each of its acts.
async fn life(world: &World, portal: &Api, consultant: &str) -> Vec<(&'static str, (usize, usize))> {
    let mut request = Api::issue_request(consultant);
    request["issued_by"].as_object_mut().expect("a person").remove("email");
    let issue = async {
        let link = portal.post_once("/v1/magic-links", consultant, &request).await.ok();
        let link = link["id"].as_str().expect("an id").to_owned();
        let token = world.token(&link, 1).await;
        mailed(portal, &link).await;
        token
    };
    let (issued, token) = Statements::during(world, issue).await;
    let code = world.click(&token).await;
    let redeem = async { portal.post_once("/v1/sessions", consultant, &json!({ "token": code })).await.ok() };
    let (redeemed, session) = Statements::during(world, redeem).await;
    let events: Vec<Value> = (1..=100).map(|seq| viewed(world, seq)).collect();
    let path = format!("/v1/sessions/{}/events", session["id"].as_str().expect("an id"));
    let report = async { portal.post(&path, &json!({ "events": events })).await.ok() };
    let (reported, _) = Statements::during(world, report).await;
    let token = session["access_token"].as_str().expect("a token").to_owned();
    let revoke = async { portal.form("/v1/revoke", &[("token", &token)]).await.ok() };
    let (revoked, _) = Statements::during(world, revoke).await;
    vec![
        ("issue", issued.of("issue", &["INTO \"magic_links\""])),
        ("mail", issued.of("mail", &["UPDATE \"mail_jobs\"", "UPDATE mail_jobs"])),
        ("redeem", redeemed.of("redeem", &["INTO \"sessions\""])),
        ("report", reported.of("report", &["session_sources"])),
        ("revoke", revoked.of("revoke", &["UPDATE \"sessions\""])),
    ]
}

fn viewed(world: &World, seq: i64) -> Value {
    json!({
        "seq": seq, "kind": "view", "occurred_at": world.clock.now(), "action": "employee.opened",
        "resource_type": "employee", "resource_id": "emp-9",
    })
}

#[apply(on_both_databases)]
async fn an_act_costs_a_few_prepared_statements(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    // What a service does once, such as beginning a log, is done with the first life.
    let _first = life(world, &portal, &world.consultant().await).await;
    let found = life(world, &portal, &world.consultant().await).await;
    let most = match world.database {
        Database::Postgres => [("issue", 7), ("mail", 5), ("redeem", 8), ("report", 7), ("revoke", 6)],
        Database::Sqlite => [("issue", 11), ("mail", 8), ("redeem", 11), ("report", 10), ("revoke", 8)],
    };
    eprintln!("{found:?}");
    for ((act, (statements, anew)), (_, most)) in found.into_iter().zip(most) {
        assert!((1..=most).contains(&statements), "{act} sends {statements} statements, more than {most}");
        assert_eq!(anew, 0, "{act} sends statements that are not prepared");
    }
}

/// Two tenants have more due mails than are sent together, beside many that left: what left is not read.
#[apply(on_both_databases)]
async fn a_queue_of_mails_is_found_by_what_is_open(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    world.token(&link, 1).await;
    let (numbers, number) = Sql::numbers(world.database, 60);
    let queued = format!(
        "INSERT INTO mail_jobs (id, template, dedup_key, consultant_id, tenant_id, portal, magic_link_id, recipient, state,
         attempts, unknown_attempts, retry_round, next_attempt_at, created_at)
         SELECT 'mjb_' || {number}, 'access_issued', 'queued ' || {number}, consultant_id,
         CASE WHEN i > 30 THEN tenant_id ELSE 'globex' END, portal, magic_link_id, 'meera' || {number} || '@acme.example',
         'queued', 0, 0, 0, created_at, created_at
         FROM mail_jobs, ({numbers}) AS n WHERE template = 'magic_link'"
    );
    let sent = async {
        Sql::of(world).run(&queued).expect("rows like the service's");
        eventually("all have left", async || {
            (Sql::of(world).count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(())
        })
        .await;
    };
    let (statements, ()) = Statements::during(world, sent).await;
    let mut sql = Sql::of(world);
    let mut plans = |words: &[&str], types: &[&str]| -> Vec<String> {
        let found = statements.texts(words);
        assert!(!found.is_empty(), "no statement says {words:?}");
        found
            .into_iter()
            .flat_map(|statement| sql.plan(statement, types))
            .filter(|step| step.contains("mail_jobs"))
            .collect()
    };
    match world.database {
        Database::Sqlite => {
            for step in plans(&["WITH RECURSIVE waiting"], &[]) {
                assert!(step.contains("INDEX mail_jobs_open_"), "{step}");
            }
        }
        Database::Postgres => {
            let of_claim = [
                "text[]",
                "text",
                "text",
                "text",
                "text",
                "timestamp",
                "integer",
                "text",
                "text",
                "timestamp",
                "timestamp",
                "timestamp",
            ];
            let of_settling = ["text", "text", "timestamp", "text[]", "timestamp[]", "text[]"];
            let claims = plans(&["WITH free AS"], &of_claim);
            let settled = plans(&["UPDATE mail_jobs SET provider"], &of_settling);
            for step in claims.into_iter().chain(settled) {
                assert!(!step.contains("mail_jobs_open") && !step.contains("Seq Scan"), "{step}");
            }
        }
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn what_follows_from_an_act_is_prepared_too(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let receiver = Receiver::start().await;
    receiver.endpoint_of(&portal).await;
    let consultant = world.consultant().await;
    let acts = async {
        let link = portal.issue(&consultant).await;
        world.token(&link, 1).await;
        let reason = json!({ "reason": "The work is done" });
        portal.post(&format!("/v1/magic-links/{link}/revoke"), &reason).await.ok();
        eventually("both are told", async || {
            let told = ["access_revoked", "access_withdrawn"].map(|kind| world.mails.notices(kind));
            let [admin, consultant] = told;
            (admin.await.len() == 1 && consultant.await.len() == 1).then_some(())
        })
        .await;
    };
    let (sent, ()) = Statements::during(world, acts).await;
    for table in ["mail_jobs", "webhook_events"] {
        let (number, anew) = sent.that_say(&[&format!("INTO \"{table}\"")]);
        assert!(number >= 2, "{table}: {number}");
        assert_eq!(anew, [""; 0]);
    }
}

/// Somebody looks at the past for long (a backup does), and PostgreSQL keeps every version of what changes meanwhile.
#[test]
fn rows_that_change_often_are_found_beside_their_old_versions() {
    const PAGES: &str = "SELECT sum(heap_blks_hit + heap_blks_read)::text AS text FROM pg_statio_user_tables \
         WHERE relname IN ('audit_logs', 'access_epoch')";
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let life = async || {
            let link = portal.issue(&consultant).await;
            let reason = json!({ "reason": "The work is done" });
            portal.post(&format!("/v1/magic-links/{link}/revoke"), &reason).await.ok();
        };
        life().await;
        let mut looks_back = Sql::of(world);
        looks_back.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM audit_logs").unwrap();
        // By a connection that ends, and with it what is counted of its own reading.
        let mut changes = Sql::of(world);
        changes.run(
            // As if the log had grown so many times.
            "CREATE PROCEDURE change(times integer) LANGUAGE plpgsql AS $$ BEGIN SET session_replication_role = replica;
             UPDATE audit_logs SET size = size - times WHERE tenant_id = 'acme'; FOR i IN 1..times LOOP
             UPDATE audit_logs SET size = size + 1 WHERE tenant_id = 'acme';
             UPDATE access_epoch SET epoch = epoch + 1; COMMIT; END LOOP; RESET session_replication_role; END $$",
        )
        .unwrap();
        changes.run("CALL change(12000)").unwrap();
        changes.run("ANALYZE audit_logs; ANALYZE access_epoch").unwrap();
        drop(changes);
        let mut sql = Sql::of(world);
        // Every connection tells of what it read at its next idle moment, at most once a second.
        let mut pages = async || {
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            life().await;
            tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
            sql.texts(PAGES).concat().parse::<u32>().expect("a number")
        };
        let before = pages().await;
        for _ in 0..10 {
            life().await;
        }
        let after = pages().await;
        // Eleven links, and twenty-two acts, with what the workers do beside them.
        assert!(after - before < 11 * 400, "{} pages were read", after - before);
    });
}
