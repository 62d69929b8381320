//! No client decides how long others wait: what a call reads, holds and answers is bounded, in rows and in bytes.

use std::collections::BTreeSet;

use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Database, Settings, Sql, World, apply, eventually, on_both_databases};

fn activity(world: &World, source: &str, seq: i64) -> Value {
    json!({
        "seq": seq, "source": source, "kind": "view", "occurred_at": world.clock.now(),
        "action": "employee.viewed", "resource_type": "employee", "resource_id": "emp-9",
    })
}

#[apply(on_both_databases)]
async fn a_session_takes_reports_of_a_hundred_sources(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let events = format!("{path}/events");
    // A gap in each of them.
    let reports: Vec<Value> = (0..100).map(|number| activity(world, &format!("part-{number:03}"), 2)).collect();
    portal.post(&events, &json!({ "events": reports })).await.ok();
    let one_more = json!({ "events": [activity(world, "part-100", 1)] });
    portal.post(&events, &one_more).await.refused(409, "report_limit_reached");
    let refused = portal.events("&type=session.refused").await;
    assert_eq!(refused[0]["data"]["code"], "report_limit_reached");
    // The sources that are known go on.
    portal.post(&events, &json!({ "events": [activity(world, "part-007", 3)] })).await.ok();
    let ended = portal.post(&format!("{path}/end"), &json!({ "sources": { "unheard-of": 1 } })).await.ok();
    assert_eq!((&ended["state"], ended["sources"].as_array().unwrap().len()), (&json!("ended"), 101));
    for source in ended["sources"].as_array().unwrap() {
        assert_eq!(source["missing"], json!([{ "from": 1, "to": 1 }]), "{source}");
    }
    assert_eq!(portal.get(&path).await.ok(), ended);
    let listed = portal.get("/v1/sessions").await.ok();
    assert_eq!(listed["items"][0]["sources"][0].get("missing"), None, "a list does not look for what is missing");
    assert_eq!(listed["items"][0]["audit_state"], "gaps");
}

#[apply(on_both_databases)]
async fn a_session_takes_a_hundred_thousand_events(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let events = format!("/v1/sessions/{}/events", session["id"].as_str().unwrap());
    portal.post(&events, &json!({ "events": [activity(world, "portal", 1)] })).await.ok();
    // As if it had reported so many.
    Sql::of(world).run("UPDATE session_sources SET event_count = 99999, last_seq = 99999").unwrap();
    let at = world.clock.now();
    let event = |seq: &i64| {
        let mut event = activity(world, "portal", *seq);
        event["occurred_at"] = json!(at);
        event
    };
    let report = |seqs: &[i64]| json!({ "events": seqs.iter().map(event).collect::<Vec<_>>() });
    portal.post(&events, &report(&[100_000, 100_001])).await.refused(409, "report_limit_reached");
    portal.post(&events, &report(&[100_000])).await.ok();
    portal.post(&events, &report(&[100_001])).await.refused(409, "report_limit_reached");
    assert_eq!(portal.post(&events, &report(&[100_000])).await.ok()["repeated"], 1, "a repeat is no more");
}

#[apply(on_both_databases)]
async fn a_page_of_large_events_ends_early(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (id, link) = (session["id"].as_str().unwrap(), session["magic_link_id"].as_str().unwrap());
    let path = format!("/v1/sessions/{id}/events");
    let large = |seq: i64, values: usize| {
        let mut event = activity(world, "portal", seq);
        event["kind"] = "change".into();
        event["changes"] = json!(vec![json!({ "field": "notes", "after": "x".repeat(4_000) }); values]);
        event
    };
    portal.post(&path, &json!({ "events": [large(1, 15), large(2, 17)] })).await.refused_field("/events/1");
    for first in 0..10 {
        let events: Vec<Value> = (1..=15).map(|number| large(first * 15 + number, 15)).collect();
        portal.post(&path, &json!({ "events": events })).await.ok();
    }
    let (mut seen, mut pages, mut cursor) = (BTreeSet::new(), 0, String::new());
    loop {
        let query = format!("/v1/audit-events?session_id={id}&type=data.changed&page_size=200{cursor}");
        let page = portal.get(&query).await;
        assert!(page.text.len() < 9 * 1024 * 1024, "{} bytes", page.text.len());
        let page = page.ok();
        pages += 1;
        for event in page["items"].as_array().unwrap() {
            assert!(seen.insert(event["seq"].as_i64().unwrap()), "twice");
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!((seen.len(), pages), (150, 2), "not all of them at once");
    portal.get(&format!("/v1/magic-links/{link}/evidence")).await.refused(422, "evidence_too_large");
    let export = portal.get(&format!("/v1/audit-events/export?tenant_id=acme&session_id={id}")).await;
    assert_eq!(export.text.lines().filter(|line| line.contains("data.changed")).count(), 150);
}

#[apply(on_both_databases)]
async fn a_link_with_very_many_mails_is_too_large_for_a_pack(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    world.token(&link, 1).await;
    let pack = format!("/v1/magic-links/{link}/evidence");
    assert_eq!(portal.get(&pack).await.status, 200);
    // Two there are: the link's, and the notice for whoever issued it.
    let (numbers, id) = Sql::numbers(world.database, 9_999);
    let rest = "consultant_id, tenant_id, portal, magic_link_id, generation, session_id, recipient, state, attempts,
        unknown_attempts, retry_round, next_attempt_at, created_at, finished_at";
    let planted = format!(
        "INSERT INTO mail_jobs (id, template, dedup_key, {rest}) SELECT 'mjb_' || {id}, template, {id}, {}
         FROM ({numbers}) numbers, mail_jobs WHERE template = 'magic_link'",
        rest.replace("state", "'cancelled'").replace("finished_at", "created_at")
    );
    Sql::of(world).run(&planted).unwrap();
    portal.get(&pack).await.refused(422, "evidence_too_large");
    Sql::of(world).run("DELETE FROM mail_jobs WHERE dedup_key = '00000000000000000000000007'").unwrap();
    assert_eq!(portal.get(&pack).await.status, 200);
}

#[apply(on_both_databases)]
async fn an_act_that_ends_many_links_does_so_in_ranges(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    Sql::of(world).note_appends();
    let acts = ["suspend", "another address", "disable"];
    for (number, act) in acts.into_iter().enumerate() {
        let consultant = world.consultant().await;
        let link = portal.issue(&consultant).await;
        let issuer = world.portal("cloud", "acme").await;
        let (numbers, id) = Sql::numbers(world.database, 150);
        let planted = format!(
            "INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access,
                starts_at, expires_at, issued_by_id, issued_by_name, created_at, generation, client_id)
             SELECT 'mlk_{number}' || substr({id}, 2), tenant_id, portal, consultant_id, profile_id, profile_name, reason,
                access, starts_at, expires_at, issued_by_id, issued_by_name, created_at, 1, '{}'
             FROM ({numbers}) numbers, magic_links WHERE id = '{link}'",
            issuer.client_id
        );
        Sql::of(world).run(&planted).unwrap();
        let consultants = format!("/v1/consultants/{consultant}");
        let (hit, kind) = match act {
            "suspend" => {
                world.admin.post(&format!("{consultants}/suspend"), &json!({ "reason": "Left the team" })).await.ok();
                (151, "consultant.suspended")
            }
            "another address" => {
                let address = json!({ "email": format!("moved-{number}@support.example") });
                world.admin.patch(&consultants, &address).await.ok();
                (151, "consultant.changed")
            }
            _ => {
                let disable = format!("/v1/clients/{}/disable", issuer.client_id);
                world.admin.post(&disable, &json!({ "revoke_links": true })).await.ok();
                (150, "client.disabled")
            }
        };
        // In force at once, whether or not each of them is on record yet.
        let revoked =
            portal.get(&format!("/v1/magic-links?consultant_id={consultant}&state=revoked&page_size=200")).await;
        assert_eq!(revoked.ok()["items"].as_array().unwrap().len(), hit, "{act}");
        let event = &world.admin.events(&format!("&type={kind}&tenant_id=_system")).await[0];
        let order = event["data"]["revocation_id"].as_str().unwrap_or_else(|| panic!("{act}: {event}"));
        let path = format!("/v1/revocations/{order}");
        let done = eventually("all are on record", async || {
            let order = world.admin.get(&path).await.ok();
            (order["state"] == "done").then_some(order)
        });
        assert_eq!(done.await["links"], hit, "{act}");
        let recorded = Sql::of(world).count(&format!(
            "FROM audit_events WHERE event_type = 'magic_link.revoked' AND consultant_id = '{consultant}'"
        ));
        assert_eq!(recorded, hit, "{act}: each once");
        assert_eq!(Sql::of(world).largest_append("acme"), 100, "{act}: a range at a time");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn expired_idempotency_keys_are_deleted_in_ranges(world: &World) {
    let request = Api::issue_request(&world.consultant().await);
    world.admin.post_once("/v1/magic-links", "one", &request).await.ok();
    let (numbers, id) = Sql::numbers(world.database, 1_500);
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "INSERT INTO idempotency_keys (client_id, route, idempotency_key, fingerprint, resource_id, created_at)
         SELECT client_id, route, {id}, fingerprint, resource_id, created_at FROM ({numbers}) numbers, idempotency_keys"
    ))
    .unwrap();
    // Each a little younger than the one before it, and the first range is all that can be deleted.
    let (age, gate, on) = match world.database {
        Database::Sqlite => (
            "strftime('%Y-%m-%d %H:%M:%S', created_at, '+' || CAST(idempotency_key AS INTEGER) || ' seconds') || '.5'",
            "CREATE TRIGGER gate BEFORE DELETE ON idempotency_keys WHEN OLD.idempotency_key = printf('%026d', 1200)
             BEGIN SELECT RAISE(ABORT, 'not yet'); END",
            "",
        ),
        Database::Postgres => (
            "created_at + CAST(idempotency_key AS INTEGER) * INTERVAL '1 second'",
            "CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not yet'; END $$;
             CREATE TRIGGER gate BEFORE DELETE ON idempotency_keys FOR EACH ROW
                WHEN (OLD.idempotency_key = lpad('1200', 26, '0')) EXECUTE FUNCTION gate()",
            " ON idempotency_keys",
        ),
    };
    sql.run(&format!("UPDATE idempotency_keys SET created_at = {age} WHERE idempotency_key <> 'one'; {gate}")).unwrap();
    world.clock.advance(Duration::hours(26));
    eventually("a range is deleted", async || {
        let left = sql.count("FROM idempotency_keys");
        assert!(left >= 501, "more than one range");
        (left == 501).then_some(())
    })
    .await;
    sql.run(&format!("DROP TRIGGER gate{on}")).unwrap();
    eventually("the others are, too", async || {
        world.clock.advance(Duration::seconds(16));
        (sql.count("FROM idempotency_keys") == 0).then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
async fn a_list_that_finds_little_says_where_to_go_on(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let link = portal.issue(&consultant).await;
    let bound = world.client(None, &["globex"], &["admin", "webhooks:manage"]).await;
    portal.post("/v1/webhook-endpoints", &json!({ "url": "https://portal.example/hook" })).await.ok();
    let (numbers, id) = Sql::numbers(world.database, 21_000);
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "INSERT INTO clients (id, name, tenants, scopes, key_sha256, created_at)
         SELECT 'cli_' || {id}, 'Planted', 'acme', 'links:read', 'none', created_at
         FROM ({numbers}) numbers, clients WHERE clients.id = '{}' AND i < 3000;
         INSERT INTO webhook_endpoints (id, client_id, url, events, format, sealed_secret, created_at, updated_at, heard_since)
         SELECT 'whe_' || {id}, client_id, url, events, format, sealed_secret, created_at, updated_at, heard_since
         FROM ({numbers}) numbers, webhook_endpoints WHERE i < 3000;
         INSERT INTO magic_links (id, tenant_id, portal, consultant_id, profile_id, profile_name, reason, access,
            starts_at, expires_at, issued_by_id, issued_by_name, created_at, generation)
         SELECT 'mlk_' || {id}, tenant_id, 'ess', consultant_id, profile_id, profile_name, reason,
            access, starts_at, expires_at, issued_by_id, issued_by_name, created_at, 1
         FROM ({numbers}) numbers, magic_links WHERE id = '{link}';
         INSERT INTO audit_events (id, tenant_id, log_index, event_type, occurred_at, recorded_at,
            actor_type, actor_id, client_id, portal, magic_link_id, session_id, consultant_id, profile_id, principal_id,
            source, seq, late, policy_violation, trace_id, payload_commitment, hashes)
         SELECT 'evt_' || {id}, tenant_id, 1000 + i, event_type, occurred_at, recorded_at,
            actor_type, actor_id, client_id, portal, magic_link_id, session_id, consultant_id, profile_id, principal_id,
            source, seq, late, policy_violation, trace_id, payload_commitment, hashes
         FROM ({numbers}) numbers, audit_events WHERE event_type = 'magic_link.issued';
         INSERT INTO audit_event_principals (principal_id, event_id)
         SELECT 'emp-77', 'evt_' || {id} FROM ({numbers}) numbers",
        portal.client_id,
    ))
    .unwrap();
    let lists = [
        (&bound, "/v1/clients?page_size=50", 1),
        (&bound, "/v1/webhook-endpoints?page_size=50", 0),
        (&world.admin, "/v1/magic-links?tenant_id=acme&portal=cloud", 1),
        (&world.admin, "/v1/magic-links?tenant_id=acme&state=scheduled", 0),
        (&world.admin, "/v1/magic-links?tenant_id=acme&state=scheduled,revoked&expires_before=2020-01-01T00:00:00Z", 0),
        (&world.admin, "/v1/magic-links?issued_by_id=nobody", 0),
        (&world.admin, "/v1/magic-links?delivery_state=bounced", 0),
        (&world.admin, "/v1/magic-links?audit_state=gaps", 0),
        (&world.admin, "/v1/magic-links?in_use=true", 0),
        (&portal, "/v1/magic-links?page_size=200", 1),
        (&world.admin, "/v1/audit-events?tenant_id=acme&policy_violation=true", 0),
        (&world.admin, "/v1/audit-events?tenant_id=acme&type=session.ended&occurred_to=2020-01-01T00:00:00Z", 0),
        (&world.admin, "/v1/audit-events?tenant_id=globex&principal_id=emp-77", 0),
    ];
    for (caller, path, expected) in lists {
        let (mut found, mut pages, mut cursor) = (0, 0, String::new());
        loop {
            let page = caller.get(&format!("{path}{cursor}")).await.ok();
            found += page["items"].as_array().unwrap().len();
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((found, pages), (expected, 2), "{path}");
    }
}

#[test]
fn packs_of_evidence_that_hang_leave_room_for_everybody_else() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let session = world.open_session(&portal).await;
        let evidence = format!("/v1/magic-links/{}/evidence", session["magic_link_id"].as_str().unwrap());
        let mut sql = Sql::of(world);
        sql.run("BEGIN; LOCK TABLE audit_erasures IN ACCESS EXCLUSIVE MODE").unwrap();
        let packs = join_all((0..20).map(|_| portal.get(&evidence)));
        let others = async {
            let waiting = format!(
                "FROM pg_stat_activity WHERE datname = '{}' AND wait_event_type = 'Lock' AND query LIKE '%audit_erasures%'",
                Sql::name(world)
            );
            let mut control = Sql::control(world);
            eventually("all packs are on record, and some hang", async || {
                let recorded = sql.count("FROM audit_events WHERE event_type = 'audit.read'");
                (recorded == 20 && control.count(&waiting) > 0).then_some(())
            })
            .await;
            for _ in 0..5 {
                portal.get("/v1/sessions").await.ok();
                portal.get("/readyz").await.ok();
                portal.get("/v1/audit-events").await.ok();
            }
            sql.run("ROLLBACK").unwrap();
        };
        let (packs, ()) = join(packs, others).await;
        let (made, refused): (Vec<_>, Vec<_>) = packs.into_iter().partition(|reply| reply.status == 200);
        assert!(!made.is_empty());
        for reply in refused {
            reply.refused(503, "unavailable");
        }
    });
}
