//! The outbox: outages, second providers, and mails of unknown fate.

use std::collections::BTreeSet;
use std::ops::Range;
use std::process::Stdio;

use serde_json::{Value, json};
use wiremock::matchers::any;
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::support::{
    Api, Database, Process, Settings, Sink, Sql, Taking, World, apply, eventually, generation_of, link_of,
    on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

/// As many links as are issued while the provider is away.
const LINKS_ISSUED: usize = 1_000;

/// Those whose window is over before the provider is back.
const EXPIRED: Range<usize> = 0..10;

/// Those that are revoked while it is away, and while the queue drains.
const REVOKED: Range<usize> = 100..110;
const REVOKED_LATE: Range<usize> = 900..910;

/// Those that are sent afresh before their mail has left.
const SUPERSEDED: Range<usize> = 200..205;
const SUPERSEDED_LATE: Range<usize> = 950..955;

/// Those whose first mail the provider takes without saying so.
const SILENT: Range<usize> = 500..510;

async fn delivery(caller: &Api, link: &str) -> Value {
    caller.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone()
}

/// Waits until the mail of a link is in this state.
async fn in_state(caller: &Api, link: &str, state: &str) -> Value {
    eventually(state, async || {
        let seen = delivery(caller, link).await;
        (seen["state"] == state).then_some(seen)
    })
    .await
}

/// Issues for so many hours.
async fn issue(portal: &Api, consultant: &str, hours: i64) -> String {
    let mut request = Api::issue_request(consultant);
    request["duration"]["value"] = json!(hours);
    portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
}

async fn revoke(portal: &Api, links: &[String]) {
    for link in links {
        portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    }
}

async fn send_afresh(portal: &Api, links: &[String]) {
    for link in links {
        assert_eq!(portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.status, 202);
    }
}

async fn register(operator: &Api) -> String {
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_hour_without_a_provider_loses_nothing_and_sends_nothing_too_late(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let mut links = Vec::new();
    for number in 0..LINKS_ISSUED {
        let hours = if EXPIRED.contains(&number) { 1 } else { 4 };
        // Who gets a fresh link later on is somebody of their own: a recipient gets them one by one.
        let afresh = SUPERSEDED.contains(&number) || SUPERSEDED_LATE.contains(&number);
        let other = if afresh { Some(world.consultant().await) } else { None };
        links.push(issue(&portal, other.as_ref().unwrap_or(&consultant), hours).await);
        world.clock.advance(time::Duration::milliseconds(3_500));
    }
    revoke(&portal, &links[REVOKED]).await;
    send_afresh(&portal, &links[SUPERSEDED]).await;
    world.clock.advance(time::Duration::minutes(5));
    let before = world.mails.all().await.len();
    assert!(before < 60, "{before} attempts in an hour at a provider that is away");

    world.mails.behave();
    world.mails.take_silently(&links[SILENT]);
    let mut sql = Sql::of(world);
    let accepted = "FROM mail_jobs WHERE template = 'magic_link' AND state = 'accepted'";
    eventually("the queue drains", async || {
        world.clock.advance(time::Duration::seconds(1));
        (sql.count(accepted) > 100).then_some(())
    })
    .await;
    revoke(&portal, &links[REVOKED_LATE]).await;
    send_afresh(&portal, &links[SUPERSEDED_LATE]).await;
    eventually("every mail is settled", async || {
        world.clock.advance(time::Duration::seconds(1));
        (sql.count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(())
    })
    .await;

    let chosen = |ranges: &[Range<usize>]| -> BTreeSet<&String> {
        ranges.iter().flat_map(|range| &links[range.clone()]).collect()
    };
    let dead = chosen(&[EXPIRED, REVOKED, REVOKED_LATE]);
    let superseded = chosen(&[SUPERSEDED, SUPERSEDED_LATE]);
    let silent = chosen(&[SILENT]);
    let mut sent: Vec<Value> = world.mails.all().await.split_off(before);
    // The last probe at the provider that was away may have been under way when they were counted.
    let probed = sent.len() - (LINKS_ISSUED - dead.len() + silent.len());
    assert!(probed <= 1, "{} mails: each once, those without an answer twice, and none of a dead link", sent.len());
    sent.drain(..probed);
    let mut order: Vec<String> = Vec::new();
    for mail in &sent {
        let link = link_of(mail);
        assert!(!dead.contains(&link), "a mail of a dead link");
        assert_eq!(generation_of(mail), if superseded.contains(&link) { 2 } else { 1 });
        if order.contains(&link) {
            assert!(silent.contains(&link), "a duplicate, and the provider had said that it took the first");
        } else {
            order.push(link);
        }
    }
    assert_eq!(order.len(), LINKS_ISSUED - dead.len(), "nothing is lost");
    // In order, but for the sixteen that are sent at the same time.
    let live = links.iter().filter(|link| !dead.contains(link) && !superseded.contains(link));
    let place = |link: &String| order.iter().position(|sent| sent == link).unwrap();
    for (expected, link) in live.enumerate() {
        assert!(place(link).abs_diff(expected) < 32, "{link} was number {expected} and came as {}", place(link));
    }
    assert_eq!(sql.count(accepted), order.len());
    let cancelled = "FROM mail_jobs WHERE template = 'magic_link' AND state = 'cancelled'";
    assert_eq!(sql.count(cancelled), dead.len() + superseded.len());
    assert_eq!(sql.count("FROM audit_events WHERE event_type = 'magic_link.mailed'"), order.len());
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_second_provider_carries_the_mail_while_the_first_fails(world: &World) {
    let second = MockServer::start().await;
    let taken = ResponseTemplate::new(202).insert_header("x-message-id", "8XxLkGGgS2a0gF5u");
    Mock::given(any()).respond_with(taken).mount(&second).await;
    world.mails.misbehave(ResponseTemplate::new(500));
    let fallback = [
        ("MAGIC_LINK_MAIL__FALLBACK_PROVIDER", "sendgrid"),
        ("MAGIC_LINK_MAIL__SENDGRID_URL", &second.uri()),
        ("MAGIC_LINK_MAIL__SENDGRID_API_KEY", "SG.key"),
    ];
    let process = Process::start_with(world, &fallback, Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let consultant = register(&operator).await;
    let mut links = Vec::new();
    for _ in 0..14 {
        links.push(operator.issue(&consultant).await);
    }
    for link in &links {
        let seen = in_state(&operator, link, "accepted").await;
        assert_eq!(seen["provider"], "sendgrid", "{seen}");
    }
    let carried = second.received_requests().await.unwrap();
    let links = carried.iter().filter(|request| String::from_utf8_lossy(&request.body).contains("/l#eyJ"));
    assert_eq!(links.count(), 14, "each once");
    let mailed = operator.events("&type=magic_link.mailed").await;
    assert!(mailed.iter().all(|event| event["data"]["message_id"] == "8XxLkGGgS2a0gF5u"), "{mailed:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_mail_of_unknown_fate_is_sent_once_more_and_then_a_person_decides(world: &World) {
    let sink = Sink::start(Taking::Silently);
    let process = Process::start_with(world, &[("MAGIC_LINK_MAIL__MAILPIT_URL", sink.url())], Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let consultant = register(&operator).await;
    let link = operator.issue(&consultant).await;
    let seen = in_state(&operator, &link, "unknown").await;
    assert!(seen["last_error"].as_str().unwrap().starts_with("no answer, and the provider may have taken"), "{seen}");
    let ended = eventually("it is left at that", async || {
        let seen = delivery(&operator, &link).await;
        seen.get("at").is_some().then_some(seen)
    })
    .await;
    assert_eq!((&ended["state"], &ended["attempts"]), (&json!("unknown"), &json!(2)));
    assert_eq!(sink.mails().len(), 2);
    let types = operator.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(types, ["magic_link.issued", "magic_link.mail_failed"]);

    let list = operator.get("/v1/mail-deliveries?state=unknown&tenant_id=acme&template=magic_link").await.ok();
    let job = list["items"][0]["id"].as_str().unwrap();
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["magic_link_id"]), (1, &json!(link)));
    sink.take(Taking::Yes);
    let retry = format!("/v1/mail-deliveries/{job}/retry");
    let queued = operator.post(&retry, &json!({})).await;
    assert_eq!((queued.status.as_u16(), &queued.body["attempts"]), (202, &json!(0)));
    in_state(&operator, &link, "accepted").await;
    operator.post(&retry, &json!({})).await.refused(409, "mail_not_retryable");
    let types = operator.event_types("&type=mail.retried").await;
    assert_eq!(types.len(), 1);
    let generations: BTreeSet<i64> = sink.mails().iter().map(generation_of).collect();
    assert_eq!(generations, BTreeSet::from([1]), "whichever arrives, it is the same grant");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_failed_mail_of_a_dead_link_is_not_sent_again(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.mails.misbehave(ResponseTemplate::new(422));
    let link = portal.issue(&world.consultant().await).await;
    in_state(&portal, &link, "failed").await;
    let list = world.admin.get(&format!("/v1/mail-deliveries?magic_link_id={link}&template=magic_link")).await.ok();
    let retry = format!("/v1/mail-deliveries/{}/retry", list["items"][0]["id"].as_str().unwrap());
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    world.mails.behave();
    world.admin.post(&retry, &json!({})).await.refused(409, "mail_not_retryable");
    assert!(world.admin.events("&type=mail.retried").await.is_empty());
}

// No lease ends by this clock: a mail that left stays known as such, or is known as on its way for ever.
#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn what_became_of_a_mail_is_stored_when_the_database_takes_it_again(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"].as_object_mut().unwrap().remove("email");
    let when = "BEFORE UPDATE ON mail_jobs";
    let (refuse, take) = match world.database {
        Database::Sqlite => (
            format!(
                "CREATE TRIGGER refuse {when} WHEN NEW.state IN ('accepted', 'queued') \
                 BEGIN SELECT RAISE(ABORT, 'not now'); END"
            ),
            "PRAGMA busy_timeout = 10000; DROP TRIGGER refuse",
        ),
        Database::Postgres => (
            format!(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
                 CREATE TRIGGER refuse {when} FOR EACH ROW WHEN (NEW.state IN ('accepted', 'queued')) \
                 EXECUTE FUNCTION refuse()"
            ),
            "DROP TRIGGER refuse ON mail_jobs",
        ),
    };
    for (answer, state) in [(200, "accepted"), (503, "queued")] {
        if answer == 503 {
            world.mails.misbehave(ResponseTemplate::new(answer));
        }
        Sql::of(world).run(&refuse).unwrap();
        request["profile"]["id"] = json!(state);
        let link = portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
        world.token(&link, 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(delivery(&portal, &link).await["state"], "sending");
        Sql::of(world).run(take).unwrap();
        let seen = in_state(&portal, &link, state).await;
        assert_eq!(seen["attempts"], 1);
        let mailed = portal.event_types(&format!("&magic_link_id={link}&type=magic_link.mailed")).await;
        assert_eq!(mailed.len(), usize::from(state == "accepted"));
        if world.database == Database::Postgres {
            Sql::of(world).run("DROP FUNCTION refuse()").unwrap();
        }
    }
}
