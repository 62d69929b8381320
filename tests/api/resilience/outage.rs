//! What the service stands on goes away, and comes back.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{Api, Database, Settings, Sql, World, apply, eventually, on_both_databases};

/// How long an answer may take while something is out of order.
const PROMPTLY: Duration = Duration::from_secs(2);

/// What became of the newest mail of a link.
async fn delivery(caller: &Api, link: &str) -> Value {
    caller.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"].clone()
}

/// Waits until the mail of a link has been tried so often and waits for its next turn.
async fn tried(caller: &Api, link: &str, attempts: i64) -> Value {
    eventually("the mail is tried", async || {
        let seen = delivery(caller, link).await;
        (seen["state"] == "queued" && seen["attempts"] == attempts).then_some(seen)
    })
    .await
}

/// Waits until a provider has taken the mail of a link.
async fn accepted(caller: &Api, link: &str) -> Value {
    eventually("the mail is taken", async || {
        let seen = delivery(caller, link).await;
        (seen["state"] == "accepted").then_some(seen)
    })
    .await
}

/// A refusal that says when to come back, given promptly.
async fn unavailable(caller: &Api, request: reqwest::RequestBuilder) {
    let started = Instant::now();
    let reply = caller.clone().impatient().send(request).await;
    assert!(started.elapsed() < PROMPTLY, "took {:?}", started.elapsed());
    reply.refused(503, "unavailable");
    assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds > 0), "{reply:?}");
}

fn hours(number: i64) -> time::Duration {
    time::Duration::hours(number)
}

/// PostgreSQL lets nobody in, and throws out who is there.
pub(super) fn close_the_database(control: &mut Sql, name: &str) {
    control.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")).unwrap();
    throw_everybody_out(control, name);
}

fn throw_everybody_out(control: &mut Sql, name: &str) {
    control.run(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")).unwrap();
}

#[test]
fn one_connection_that_died_warns_of_all_others() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let list = async || world.admin.get("/v1/magic-links").await.status;
        // Every connection of the pool is opened.
        join_all((0..40).map(|_| list())).await;
        throw_everybody_out(&mut Sql::control(world), &Sql::name(world));
        eventually("a call succeeds", async || (list().await == 200).then_some(())).await;
        let after = join_all((0..40).map(|_| list())).await;
        assert!(after.iter().all(|status| *status == 200), "{after:?}");
    });
}

#[test]
fn without_its_database_the_service_lets_nobody_in_and_comes_back_by_itself() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let session = world.open_session(&portal).await;
        let access_token = session["access_token"].as_str().unwrap();
        let (mut control, name) = (Sql::control(world), Sql::name(world));

        close_the_database(&mut control, &name);
        for _ in 0..3 {
            let introspect = portal.request(Method::POST, "/v1/introspect").form(&[("token", access_token)]);
            unavailable(&portal, introspect).await;
            let issue = portal.request(Method::POST, "/v1/magic-links").json(&Api::issue_request(&consultant));
            unavailable(&portal, issue).await;
            let redeem = portal.request(Method::POST, "/v1/sessions").json(&json!({ "token": code }));
            unavailable(&portal, redeem).await;
            unavailable(&portal, portal.request(Method::GET, "/v1/audit-events")).await;
            unavailable(&portal, portal.request(Method::GET, "/readyz")).await;
            // Alive, and not to be restarted for it.
            assert_eq!(portal.get("/healthz").await.status, 200);
        }
        // A crowd does not make it slower.
        let crowd = (0..40).map(|_| {
            unavailable(&portal, portal.request(Method::POST, "/v1/introspect").form(&[("token", access_token)]))
        });
        join_all(crowd).await;

        control.run(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")).unwrap();
        eventually("the service is ready again", async || (portal.get("/readyz").await.status == 200).then_some(()))
            .await;
        eventually("introspection answers", async || {
            let reply = portal.form("/v1/introspect", &[("token", access_token)]).await;
            (reply.status == 200).then(|| assert_eq!(reply.body["active"], true))
        })
        .await;
        eventually("the code is taken", async || (portal.redeem(&code).await.status == 201).then_some(())).await;
        let request = Api::issue_request(&consultant);
        let issue = async || {
            let reply = portal.post_once("/v1/magic-links", "after-the-outage", &request).await;
            (reply.status == 201).then_some(reply)
        };
        let link = eventually("a link can be issued", issue).await.ok();
        world.mails.wait_for(link["id"].as_str().unwrap(), 1).await;
    });
}

#[test]
fn what_was_acknowledged_before_a_connection_broke_is_there() {
    World::run(Database::Postgres, &Settings::default(), async |world| {
        let portal = world.portal("cloud", "acme").await;
        let consultant = world.consultant().await;
        let (mut control, name) = (Sql::control(world), Sql::name(world));
        let mut acknowledged = Vec::new();
        for round in 0..10 {
            let keys: Vec<(String, Value)> =
                (0..8).map(|number| (format!("{round}-{number}"), Api::issue_request(&consultant))).collect();
            let issues = join_all(keys.iter().map(|(key, request)| portal.post_once("/v1/magic-links", key, request)));
            let interrupt = async {
                tokio::task::yield_now().await;
                throw_everybody_out(&mut control, &name);
            };
            let (replies, ()) = futures_util::future::join(issues, interrupt).await;
            for ((key, request), reply) in keys.iter().zip(replies) {
                if reply.status == 201 {
                    acknowledged.push(reply.ok());
                } else {
                    reply.refused(503, "unavailable");
                    // The outcome is unknown to the caller, and the same key makes it known.
                    let again = async || {
                        let reply = portal.post_once("/v1/magic-links", key, request).await;
                        (reply.status == 201).then_some(reply)
                    };
                    acknowledged.push(eventually("the repeat is answered", again).await.ok());
                }
            }
        }
        let mut sql = Sql::of(world);
        for link in &acknowledged {
            assert_eq!(sql.count(&format!("FROM magic_links WHERE id = '{}'", link["id"].as_str().unwrap())), 1);
        }
        assert_eq!(sql.count("FROM magic_links"), 80, "one a key, however often it was asked for");
        assert_eq!(sql.count("FROM mail_jobs WHERE template = 'magic_link'"), 80);
        assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.issued'"), 80);
    });
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_provider_that_fails_delays_the_mail_and_nothing_else(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let answers = [
        (ResponseTemplate::new(500), "500 Internal Server Error"),
        (ResponseTemplate::new(429).insert_header("retry-after", "120"), "the provider asks to wait 120 s"),
        (ResponseTemplate::new(200).set_body_string("<html>Welcome</html>"), "200 without an ID: <html>Welcome</html>"),
        (ResponseTemplate::new(302).insert_header("location", "http://localhost/"), "302 Found"),
        (ResponseTemplate::new(401), "the provider refuses us; check address and credentials: 401 Unauthorized"),
    ];
    for (answer, error) in answers {
        world.mails.misbehave(answer);
        let started = Instant::now();
        let link = portal.issue(&consultant).await;
        assert!(started.elapsed() < PROMPTLY, "the caller waited for the provider");
        let seen = tried(&portal, &link, 1).await;
        assert_eq!((&seen["last_error"], &seen["provider"]), (&json!(error), &json!("mailpit")));
        world.clock.advance(time::Duration::seconds(150));
        tried(&portal, &link, 2).await;
        world.mails.behave();
        world.clock.advance(time::Duration::seconds(150));
        let seen = accepted(&portal, &link).await;
        assert_eq!((&seen["attempts"], &seen["last_error"]), (&json!(3), &Value::Null), "{error}");
        let types = portal.event_types(&format!("&magic_link_id={link}")).await;
        assert_eq!(types, ["magic_link.issued", "magic_link.mailed"], "{error}");
        world.click(&world.token(&link, 3).await).await;
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_provider_that_asks_for_time_gets_it(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let busy = ResponseTemplate::new(429).insert_header("retry-after", "120");
    world.mails.misbehave(busy);
    let early = portal.issue(&consultant).await;
    tried(&portal, &early, 1).await;
    world.mails.behave();
    world.clock.advance(time::Duration::seconds(110));
    // A later mail passes, so the worker has looked; the early one still waits.
    accepted(&portal, &portal.issue(&consultant).await).await;
    assert_eq!(tried(&portal, &early, 1).await["state"], "queued");
    world.clock.advance(time::Duration::seconds(20));
    assert_eq!(accepted(&portal, &early).await["attempts"], 2);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_provider_that_refuses_the_mail_for_good_is_not_asked_again(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.mails.misbehave(ResponseTemplate::new(422));
    let link = portal.issue(&world.consultant().await).await;
    let seen = eventually("the mail is given up", async || {
        let seen = delivery(&portal, &link).await;
        (seen["state"] == "failed").then_some(seen)
    })
    .await;
    assert_eq!((&seen["attempts"], &seen["last_error"]), (&json!(1), &json!("422 Unprocessable Entity")), "{seen}");
    let types = portal.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(types, ["magic_link.issued", "magic_link.mail_failed"]);
    world.mails.behave();
    // The customer can have it sent again.
    world.clock.advance(time::Duration::seconds(61));
    let sent = portal.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    accepted(&portal, &link).await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_dead_links_mail_is_never_sent(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let mut links = Vec::new();
    for _ in 0..4 {
        // Without an admin to tell: so many failures in a row would keep the provider from being asked.
        let mut request = Api::issue_request(&consultant);
        request["issued_by"].as_object_mut().unwrap().remove("email");
        let link = portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
        tried(&portal, &link, 1).await;
        links.push(link);
    }
    let [revoked, superseded, suspended, expired] = &links[..] else { panic!("four links") };

    let reason = json!({ "reason": "The work is done" });
    let answer = portal.post(&format!("/v1/magic-links/{revoked}/revoke"), &reason).await.ok();
    assert_eq!(answer["delivery"]["state"], "cancelled");
    // A jump past the cool-down makes the waiting ones due: they are tried again and fail again.
    world.clock.advance(time::Duration::seconds(61));
    for link in [superseded, suspended, expired] {
        tried(&portal, link, 2).await;
    }
    portal.post(&format!("/v1/magic-links/{superseded}/resend"), &json!({})).await.ok();
    tried(&portal, superseded, 1).await;
    let first = format!("SELECT state AS text FROM mail_jobs WHERE magic_link_id = '{superseded}' AND generation = 1");
    assert_eq!(Sql::of(world).texts(&first), ["cancelled"]);

    // The window of the others ends while their mails wait.
    let before = world.mails.all().await.len();
    world.mails.behave();
    world.clock.advance(hours(5));
    for link in [revoked, superseded, suspended, expired] {
        eventually("the mail is cancelled", async || {
            (delivery(&portal, link).await["state"] == "cancelled").then_some(())
        })
        .await;
    }
    // A mail that was due later has passed, and nothing else.
    let fresh = portal.issue(&consultant).await;
    accepted(&portal, &fresh).await;
    assert_eq!(world.mails.all().await.len(), before + 1);
    assert_eq!(Sql::of(world).count("FROM mail_jobs WHERE template = 'magic_link' AND finished_at IS NULL"), 0);
}

#[apply(on_both_databases)]
async fn an_act_that_cannot_be_put_on_record_does_not_happen(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let link = portal.issue(&consultant).await;
    let code = world.click(&world.token(&link, 1).await).await;
    let session = world.open_session(&portal).await;
    let (id, access_token) = (session["id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let mut sql = Sql::of(world);
    let (break_it, mend_it) = match world.database {
        Database::Sqlite => (
            "CREATE TRIGGER full BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no room'); END",
            "DROP TRIGGER full",
        ),
        Database::Postgres => (
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RAISE EXCEPTION 'no room'; END $$; \
             CREATE TRIGGER \"full\" BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION no_room()",
            "DROP TRIGGER \"full\" ON audit_events",
        ),
    };
    let state = |sql: &mut Sql| {
        ["magic_links", "mail_jobs", "sessions", "idempotency_keys", "consultants", "clients", "audit_events"]
            .map(|table| sql.count(&format!("FROM {table}")))
    };
    accepted(&portal, &link).await;
    let before = state(&mut sql);
    sql.run(break_it).unwrap();
    let act = json!({
        "seq": 1, "kind": "view", "occurred_at": world.clock.now(), "action": "employee.viewed",
        "resource_type": "employee", "resource_id": "emp-9",
    });
    let because = json!({ "reason": "The work is done" });
    let calls = [
        (&portal, "/v1/magic-links".to_owned(), Api::issue_request(&consultant)),
        (&portal, "/v1/sessions".to_owned(), json!({ "token": code })),
        (&portal, format!("/v1/magic-links/{link}/revoke"), because.clone()),
        (&portal, format!("/v1/sessions/{id}/end"), json!({})),
        (&portal, format!("/v1/sessions/{id}/events"), json!({ "events": [act] })),
        (&world.admin, format!("/v1/consultants/{consultant}/suspend"), because),
        (&world.admin, "/v1/clients".to_owned(), json!({ "name": "X", "tenants": ["acme"], "scopes": ["links:read"] })),
    ];
    for (caller, path, body) in &calls {
        let reply = caller.send(caller.request(Method::POST, path).header("idempotency-key", "k").json(body)).await;
        assert!(reply.status.is_server_error(), "{path}: {reply:?}");
        assert!(!reply.text.contains("no room"), "the cause is for operators: {reply:?}");
    }
    assert_eq!(state(&mut sql), before);
    assert!(portal.is_active(access_token).await, "the session was not ended");
    sql.run(mend_it).unwrap();
    for (caller, path, body) in &calls {
        let repeat = async || {
            let reply = caller.post_once(path, "k", body).await;
            reply.status.is_success().then_some(())
        };
        eventually(path, repeat).await;
    }
}

#[apply(on_both_databases)]
async fn a_mail_that_cannot_be_put_on_record_does_not_hold_the_stop(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let slowly = ResponseTemplate::new(200).set_body_json(json!({ "ID": "taken" })).set_delay(Duration::from_secs(3));
    world.mails.misbehave(slowly);
    let link = portal.issue(&consultant).await;
    world.mails.wait_for(&link, 1).await;
    // The provider is about to say that it took the mail, and the log is damaged meanwhile. The world's end sees whether the
    // service stops by itself.
    let head = "UPDATE audit_logs SET frontier = (SELECT salt FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 0), \
        size = 7 WHERE tenant_id = 'acme'";
    Sql::of(world).run(head).unwrap();
}

#[apply(on_both_databases)]
async fn a_mail_that_cannot_be_put_on_record_sends_no_other_twice(world: &World) {
    let damaged = world.portal("cloud", "acme").await;
    let sound = world.portal("cloud", "globex").await;
    let delay = Duration::from_secs(4);
    let slowly = ResponseTemplate::new(200).set_body_json(json!({ "ID": "taken" })).set_delay(delay);
    world.mails.misbehave(slowly);
    // The first keep the worker busy; the others leave and come back together.
    let first = damaged.issue(&world.consultant().await).await;
    world.mails.wait_for(&first, 1).await;
    let issue = async |portal: &Api, tenant: &str| {
        let mut request = Api::issue_request(&world.consultant().await);
        request["tenant_id"] = json!(tenant);
        portal.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned()
    };
    let links = join_all((0..3).flat_map(|_| [issue(&damaged, "acme"), issue(&sound, "globex")])).await;
    for link in &links {
        world.mails.wait_for(link, 1).await;
    }
    let head = "UPDATE audit_logs SET frontier = (SELECT salt FROM audit_payloads WHERE tenant_id = 'acme' AND log_index = 0), \
        size = 1023 WHERE tenant_id = 'acme'";
    // Nothing is settled until all have come back.
    let mut sql = Sql::of(world);
    sql.run(&format!("BEGIN; {head}")).unwrap();
    tokio::time::sleep(delay).await;
    sql.run("COMMIT").unwrap();
    for link in links.iter().skip(1).step_by(2) {
        accepted(&sound, link).await;
        assert_eq!(world.mails.about(link).await.len(), 1, "sent again after its lease");
    }
}
