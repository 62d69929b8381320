//! How messages arrive: in order, again and again until they are taken or given up, and nowhere but where they may go.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::Mutex;

use serde_json::{Value, json};
use wiremock::ResponseTemplate;

use crate::support::{
    Api, Database, Message, Process, Receiver, Settings, Sql, World, apply, eventually, on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

pub(super) fn path_of(endpoint: &Value) -> String {
    format!("/v1/webhook-endpoints/{}", endpoint["id"].as_str().unwrap())
}

/// Sends a test.
pub(super) async fn test(client: &Api, endpoint: &Value) -> Value {
    let queued = client.post(&format!("{}/test", path_of(endpoint)), &json!({})).await;
    assert_eq!(queued.status, 202, "{queued:?}");
    queued.body
}

/// The newest messages to an endpoint.
pub(super) async fn deliveries(client: &Api, endpoint: &Value) -> Vec<Value> {
    client.get(&format!("{}/deliveries", path_of(endpoint))).await.ok()["items"].as_array().unwrap().clone()
}

/// Waits until the newest message was tried so often and is not under way any more.
pub(super) async fn tried(client: &Api, endpoint: &Value, attempts: i64) -> Value {
    eventually(&format!("attempt {attempts}"), async || {
        let newest = deliveries(client, endpoint).await.into_iter().next()?;
        let done =
            newest["attempts"] == attempts && (newest.get("last_error").is_some() || newest["state"] != "queued");
        // While it is under way, it is due.
        let waits = newest["next_attempt_at"].as_str() > newest["last_attempt_at"].as_str();
        (done && (waits || newest["state"] != "queued")).then_some(newest)
    })
    .await
}

fn time_of(value: &Value) -> time::OffsetDateTime {
    time::OffsetDateTime::parse(value.as_str().unwrap(), &time::format_description::well_known::Rfc3339).unwrap()
}

async fn register(operator: &Api) -> String {
    let request = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    operator.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

/// What a receiver is told by several copies of the service about links that are issued and opened, by link, once
/// everything is settled.
async fn told_of(world: &World, receiver: &Receiver, links: usize) -> BTreeMap<String, Vec<String>> {
    let copies = if world.database == Database::Postgres { 2 } else { 1 };
    let start = |_| Process::start_with(world, &[Receiver::ENVIRONMENT], Stdio::inherit());
    let copies: Vec<Process> = (0..copies).map(start).collect();
    let operator = world.admin.at(&copies[0].base);
    receiver.endpoint_of(&operator).await;
    let consultant = register(&operator).await;
    for _ in 0..links {
        let link = operator.issue(&consultant).await;
        let token = json!({ "token": world.token(&link, 1).await });
        world.stranger().at(&copies[0].base).post("/l/continue", &token).await.ok();
    }
    let mut sql = Sql::of(world);
    // First the events: their messages are written when they are gone.
    for waiting in ["FROM webhook_events", "FROM webhook_deliveries WHERE finished_at IS NULL"] {
        eventually("all are settled", async || (sql.count(waiting) == 0).then_some(())).await;
    }
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in receiver.messages().await {
        let link = message.body["data"]["magic_link_id"].as_str().unwrap().to_owned();
        told.entry(link).or_default().push(message.kind().to_owned());
    }
    told
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn attempts_follow_the_schedule_and_come_to_an_end(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(500);
    let endpoint = receiver.endpoint_of(&world.admin).await;
    test(&world.admin, &endpoint).await;
    let minutes = |minutes| time::Duration::minutes(minutes);
    let schedule =
        [time::Duration::seconds(5), minutes(5), minutes(30), minutes(120), minutes(300), minutes(600), minutes(600)];
    for (attempt, wait) in (1..).zip(schedule) {
        let seen = tried(&world.admin, &endpoint, attempt).await;
        assert_eq!((&seen["state"], &seen["last_error"]), (&json!("queued"), &json!("500")));
        let planned = time_of(&seen["next_attempt_at"]) - time_of(&seen["last_attempt_at"]);
        assert!(wait <= planned && planned <= wait * 1.2, "{planned} after attempt {attempt}");
        world.clock.advance(wait * 1.2);
    }
    let last = tried(&world.admin, &endpoint, 8).await;
    assert_eq!((&last["state"], &last["last_error"]), (&json!("failed"), &json!("500")));
    assert!(last.get("next_attempt_at").is_none() && last["finished_at"].is_string());
    let ids: Vec<String> = receiver.messages().await.into_iter().map(|message| message.id).collect();
    assert_eq!(ids, vec![last["id"].as_str().unwrap().to_owned(); 8], "always the same message");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_follows_waits_until_what_came_before_is_settled(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let consultant = world.consultant().await;
    receiver.answer_with(500);
    let held = portal.issue(&consultant).await;
    tried(&portal, &endpoint, 1).await;
    world.click(&world.token(&held, 1).await).await;
    // Another link has nothing to do with it.
    receiver.answer_with(202);
    let other = portal.issue(&consultant).await;
    eventually("the other one goes ahead", async || {
        let list = deliveries(&portal, &endpoint).await;
        (list[0]["magic_link_id"] == other.as_str() && list[0]["state"] == "delivered").then_some(())
    })
    .await;
    let list = deliveries(&portal, &endpoint).await;
    assert_eq!((&list[1]["type"], &list[1]["attempts"]), (&json!("magic_link.opened"), &json!(0)));
    world.clock.advance(time::Duration::seconds(6));
    let messages = receiver.wait_for(4).await;
    let told: Vec<(&str, &Value)> =
        messages.iter().map(|one| (one.kind(), &one.body["data"]["magic_link_id"])).collect();
    let (held, other) = (json!(held), json!(other));
    assert_eq!(
        told,
        [
            ("magic_link.issued", &held),
            ("magic_link.issued", &other),
            ("magic_link.issued", &held),
            ("magic_link.opened", &held),
        ]
    );
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_message_that_is_given_up_holds_nothing_back(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    // Whatever says "issued" is not to this receiver's taste.
    receiver.answer(|request| {
        let issued = String::from_utf8_lossy(&request.body).contains("magic_link.issued");
        ResponseTemplate::new(if issued { 400 } else { 202 })
    });
    let link = portal.issue(&world.consultant().await).await;
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    let list = eventually("both are settled", async || {
        let list = deliveries(&portal, &endpoint).await;
        world.clock.advance(time::Duration::minutes(30));
        (list.len() == 2 && list.iter().all(|one| one["state"] != "queued")).then_some(list)
    })
    .await;
    let states: Vec<(&Value, &Value)> = list.iter().map(|one| (&one["type"], &one["state"])).collect();
    assert_eq!(
        states,
        [(&json!("magic_link.revoked"), &json!("delivered")), (&json!("magic_link.issued"), &json!("failed")),]
    );
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_receiver_that_is_gone_is_left_alone(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(410);
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let path = path_of(&endpoint);
    let consultant = world.consultant().await;
    portal.issue(&consultant).await;
    let off = eventually("it is switched off", async || {
        let seen = portal.get(&path).await.ok();
        (seen["state"] == "disabled").then_some(seen)
    })
    .await;
    assert_eq!(off["disable_cause"], "gone");
    assert_eq!(deliveries(&portal, &endpoint).await[0]["last_error"], "410: the receiver wants no more");
    let events = world.admin.events("&tenant_id=_system&type=webhook_endpoint.disabled").await;
    assert_eq!((events.len(), &events[0]["data"]["webhook_endpoint_id"]), (1, &endpoint["id"]));
    portal.issue(&consultant).await;
    assert_eq!(deliveries(&portal, &endpoint).await.len(), 1, "nothing more is written");
    portal.post(&format!("{path}/test"), &json!({})).await.refused(409, "webhook_endpoint_disabled");

    receiver.answer_with(204);
    let on = portal.patch(&path, &json!({ "state": "active" })).await.ok();
    assert_eq!((&on["state"], on.get("disable_cause")), (&json!("active"), None));
    portal.issue(&consultant).await;
    receiver.wait_for(2).await;
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_message_whose_worker_died_is_sent_again_as_the_same(world: &World) {
    let receiver = Receiver::start().await;
    let environment = [Receiver::ENVIRONMENT];
    let process = Process::start_with(world, &environment, Stdio::inherit());
    let operator = world.admin.at(&process.base);
    let endpoint = receiver.endpoint_of(&operator).await;
    receiver.dawdle(60);
    operator.issue(&register(&operator).await).await;
    let first = receiver.wait_for(1).await.swap_remove(0);
    process.kill();
    receiver.answer_with(202);
    // The lease would end by itself in half a minute.
    Sql::of(world).run("UPDATE webhook_deliveries SET lease_until = NULL WHERE finished_at IS NULL").unwrap();
    let next = Process::start_with(world, &environment, Stdio::inherit());
    let operator = world.admin.at(&next.base);
    let settled = tried(&operator, &endpoint, 2).await;
    let second = receiver.wait_for(2).await.swap_remove(1);
    assert_eq!((&second.id, &second.text), (&first.id, &first.text));
    assert_eq!((&settled["state"], &settled["id"]), (&json!("delivered"), &json!(first.id)));
    assert!(second.is_signed_with(endpoint["secret"].as_str().unwrap()));
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn several_copies_send_each_message_once(world: &World) {
    let receiver = Receiver::start().await;
    let told = told_of(world, &receiver, 40).await;
    let messages: usize = told.values().map(Vec::len).sum();
    assert_eq!((messages, told.len()), (80, 40), "each once");
    assert!(told.values().all(|kinds| *kinds == ["magic_link.issued", "magic_link.opened"]), "{told:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn several_copies_keep_the_order_where_messages_fail(world: &World) {
    let receiver = Receiver::start().await;
    // Whatever it sees for the first time it does not take.
    let seen = Mutex::new(BTreeSet::new());
    receiver.answer(move |request| {
        let fresh = seen.lock().unwrap().insert(request.headers["webhook-id"].to_str().unwrap().to_owned());
        let issued = String::from_utf8_lossy(&request.body).contains("magic_link.issued");
        ResponseTemplate::new(if fresh && issued { 503 } else { 202 })
    });
    let told = told_of(world, &receiver, 20).await;
    let expected = ["magic_link.issued", "magic_link.issued", "magic_link.opened"];
    assert!(told.len() == 20 && told.values().all(|kinds| *kinds == expected), "{told:?}");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn one_that_takes_its_time_keeps_no_other_waiting(world: &World) {
    let (slow, fast) = (Receiver::start().await, Receiver::start().await);
    slow.dawdle(8);
    let (slow_one, fast_one) = (slow.endpoint_of(&world.admin).await, fast.endpoint_of(&world.admin).await);
    for _ in 0..20 {
        test(&world.admin, &slow_one).await;
    }
    slow.wait_for(1).await;
    for _ in 0..20 {
        test(&world.admin, &fast_one).await;
    }
    fast.wait_for(20).await;
    let slow_states = deliveries(&world.admin, &slow_one).await;
    assert!(slow_states.iter().all(|one| one["state"] == "queued"), "{slow_states:?}");
    assert!(slow.messages().await.len() <= 4, "a few at a time");
    assert_eq!(world.admin.send(world.admin.request(reqwest::Method::DELETE, &path_of(&slow_one))).await.status, 204);
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn both_secrets_sign_while_one_follows_the_other(world: &World) {
    let receiver = Receiver::start().await;
    let endpoint = receiver.endpoint_of(&world.admin).await;
    let rotate = format!("{}/rotate-secret", path_of(&endpoint));
    let rotated = world.admin.post(&rotate, &json!({ "overlap_seconds": 3600 })).await.ok();
    let (old, new) = (endpoint["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    assert_ne!(old, new);
    test(&world.admin, &endpoint).await;
    let message = receiver.wait_for(1).await.swap_remove(0);
    assert!(message.signatures.len() == 2 && message.is_signed_with(old) && message.is_signed_with(new));
    // The answer was lost: what the receiver has signs as long as was told.
    world.admin.post(&rotate, &json!({ "overlap_seconds": 60 })).await.refused(409, "overlap_running");
    let rotated = world.admin.post(&rotate, &json!({ "newest_lost": true })).await.ok();
    let new = rotated["secret"].as_str().unwrap();
    test(&world.admin, &endpoint).await;
    let message = receiver.wait_for(2).await.swap_remove(1);
    assert!(message.signatures.len() == 2 && message.is_signed_with(old) && message.is_signed_with(new));
    world.clock.advance(time::Duration::hours(1));
    test(&world.admin, &endpoint).await;
    let message = receiver.wait_for(3).await.swap_remove(2);
    assert!(message.signatures.len() == 1 && message.is_signed_with(new));
    assert_eq!(message.kind(), "webhook_endpoint.test");
    assert_eq!(message.body["subject"], endpoint["id"]);
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn of_rotations_of_a_secret_at_once_one_begins_an_overlap(world: &World) {
    let receiver = Receiver::start().await;
    let endpoint = receiver.endpoint_of(&world.admin).await;
    let rotated = world.admin.rotated_once(&format!("{}/rotate-secret", path_of(&endpoint))).await;
    let (old, new) = (endpoint["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    test(&world.admin, &endpoint).await;
    let message = receiver.wait_for(1).await.swap_remove(0);
    assert!(message.is_signed_with(old) && message.is_signed_with(new), "as was told");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_redirect_is_not_followed(world: &World) {
    let (receiver, elsewhere) = (Receiver::start().await, Receiver::start().await);
    let target = elsewhere.url();
    receiver.answer(move |_| ResponseTemplate::new(307).insert_header("location", target.as_str()));
    let endpoint = receiver.endpoint_of(&world.admin).await;
    test(&world.admin, &endpoint).await;
    assert_eq!(tried(&world.admin, &endpoint, 1).await["last_error"], "307: redirects are not followed");
    assert!(elsewhere.messages().await.is_empty());
}

#[apply(on_both_databases)]
async fn a_name_that_leads_inside_is_not_called(world: &World) {
    let receiver = Receiver::start().await;
    // What the name leads to is known when it is called, and not before.
    let url = receiver.url().replace("http://127.0.0.1", "https://localhost");
    let endpoint = world.admin.post("/v1/webhook-endpoints", &json!({ "url": url })).await.ok();
    test(&world.admin, &endpoint).await;
    let seen = tried(&world.admin, &endpoint, 1).await;
    assert_eq!(seen["last_error"], "the name leads to an address that is not public");
    assert!(receiver.messages().await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn an_address_that_was_open_once_is_not_called_any_more(world: &World) {
    let receiver = Receiver::start().await;
    let open = Process::start_with(world, &[Receiver::ENVIRONMENT], Stdio::inherit());
    let endpoint = receiver.endpoint_of(&world.admin.at(&open.base)).await;
    open.kill();
    let closed = Process::start(world);
    let operator = world.admin.at(&closed.base);
    test(&operator, &endpoint).await;
    let error = tried(&operator, &endpoint, 1).await["last_error"].as_str().unwrap().to_owned();
    assert_eq!(error, "the address must begin with https://");
    assert!(receiver.messages().await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn an_endless_answer_is_not_read(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer(|_| ResponseTemplate::new(400).set_body_bytes(vec![b' '; 8 * 1024 * 1024]));
    let request = json!({ "url": receiver.url(), "format": "caep" });
    let endpoint = world.admin.post("/v1/webhook-endpoints", &request).await.ok();
    test(&world.admin, &endpoint).await;
    assert_eq!(tried(&world.admin, &endpoint, 1).await["last_error"], "400");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn old_messages_are_forgotten(world: &World) {
    let receiver = Receiver::start().await;
    let (kept, deleted) = (receiver.endpoint_of(&world.admin).await, receiver.endpoint_of(&world.admin).await);
    for endpoint in [&kept, &deleted] {
        test(&world.admin, endpoint).await;
        tried(&world.admin, endpoint, 1).await;
    }
    world.admin.send(world.admin.request(reqwest::Method::DELETE, &path_of(&deleted))).await;
    world.clock.advance(time::Duration::minutes(1));
    let mut sql = Sql::of(world);
    let of = |endpoint: &Value| {
        format!("FROM webhook_deliveries WHERE endpoint_id = '{}'", endpoint["id"].as_str().unwrap())
    };
    eventually("those of the deleted one are gone", async || (sql.count(&of(&deleted)) == 0).then_some(())).await;
    assert_eq!(sql.count(&of(&kept)), 1);
    world.clock.advance(time::Duration::days(31));
    // Upkeep may have been under way: it comes again.
    eventually("old ones are gone", async || (sql.count(&of(&kept)) == 0).then_some(())).await;
    eventually("so is the deleted endpoint", async || (sql.count("FROM webhook_endpoints") == 1).then_some(())).await;
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_ends_an_access_overtakes_and_its_sequence_says_so(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    receiver.answer(|request| {
        let issued = String::from_utf8_lossy(&request.body).contains("magic_link.issued");
        ResponseTemplate::new(if issued { 503 } else { 202 })
    });
    let link = portal.issue(&world.consultant().await).await;
    tried(&portal, &endpoint, 1).await;
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    let messages = receiver.wait_for(2).await;
    assert_eq!((messages[0].kind(), messages[1].kind()), ("magic_link.issued", "magic_link.revoked"));
    receiver.answer_with(202);
    world.clock.advance(time::Duration::seconds(6));
    let messages = receiver.wait_for(3).await;
    assert_eq!(messages[2].kind(), "magic_link.issued", "late, and older");
    let sequence = |at: usize| messages[at].body["sequence"].as_str().unwrap();
    assert!(sequence(2) < sequence(1) && sequence(0) == sequence(2), "{messages:?}");
    let tested = test(&portal, &endpoint).await;
    let last = receiver.wait_for(4).await.swap_remove(3);
    assert_eq!((&json!(last.id), last.body.get("sequence")), (&tested["id"], None));
}

// Of one revocation the session's end is the second message; it does not wait for more than the first attempt of the first.
#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_overtakes_keeps_its_order_unless_an_attempt_fails(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    for fails in [false, true] {
        let receiver = Receiver::start().await;
        let endpoint = receiver.endpoint_of(&portal).await;
        let session = world.open_session(&portal).await;
        eventually("all is told", async || {
            let list = deliveries(&portal, &endpoint).await;
            let is_told = |one: &Value| one["state"] == "delivered";
            (list.iter().all(is_told) && list.iter().any(|one| one["type"] == "session.opened")).then_some(())
        })
        .await;
        let before = receiver.messages().await.len();
        receiver.answer(move |request| {
            let revoked = String::from_utf8_lossy(&request.body).contains("magic_link.revoked");
            let slow = if revoked { std::time::Duration::from_secs(2) } else { std::time::Duration::ZERO };
            ResponseTemplate::new(if revoked && fails { 503 } else { 202 }).set_delay(slow)
        });
        let link = format!("{LINKS}/{}", session["magic_link_id"].as_str().unwrap());
        portal.post(&format!("{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
        receiver.wait_for(before + 1).await;
        let under_way = deliveries(&portal, &endpoint).await;
        let attempts = |kind: &str| under_way.iter().find(|one| one["type"] == kind).unwrap()["attempts"].clone();
        assert_eq!([attempts("magic_link.revoked"), attempts("session.ended")], [1, 0]);
        let told = receiver.wait_for(before + 2).await;
        let kinds: Vec<&str> = told[before..].iter().map(Message::kind).collect();
        assert_eq!(kinds, ["magic_link.revoked", "session.ended"], "{fails}");
        portal.send(portal.request(reqwest::Method::DELETE, &path_of(&endpoint))).await;
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_receiver_that_asks_for_time_gets_it(world: &World) {
    let receiver = Receiver::start().await;
    let endpoint = receiver.endpoint_of(&world.admin).await;
    let until = (world.clock.now().plus(time::Duration::hours(3))).to_utc();
    let date = until.format(&time::format_description::well_known::Rfc2822).unwrap().replace("+0000", "GMT");
    for (attempt, status, asked, wait) in [
        (1, 429, "120".to_owned(), time::Duration::minutes(2)),
        (2, 503, date, time::Duration::hours(3)),
        (3, 500, "999999999".to_owned(), time::Duration::hours(24)),
    ] {
        receiver.answer(move |_| ResponseTemplate::new(status).insert_header("retry-after", asked.as_str()));
        if attempt == 1 {
            test(&world.admin, &endpoint).await;
        }
        let seen = tried(&world.admin, &endpoint, attempt).await;
        let planned = time_of(&seen["next_attempt_at"]) - time_of(&seen["last_attempt_at"]);
        let least = wait - time::Duration::minutes(5);
        assert!(least <= planned && planned <= wait * 1.2, "{planned} after attempt {attempt}");
        world.clock.advance(planned);
    }
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn what_was_given_up_is_sent_again(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    let endpoint = receiver.endpoint_of(&portal).await;
    let path = path_of(&endpoint);
    receiver.answer_with(500);
    portal.issue(&world.consultant().await).await;
    test(&portal, &endpoint).await;
    let retry = async |body: Value| portal.post(&format!("{path}/retry"), &body).await;
    let list = eventually("both are tried", async || {
        let list = deliveries(&portal, &endpoint).await;
        (list.len() == 2 && list.iter().all(|one| one.get("last_error").is_some())).then_some(list)
    })
    .await;
    // As after the last attempt.
    let given_up = "UPDATE webhook_deliveries SET state = 'failed', finished_at = created_at WHERE finished_at IS NULL";
    Sql::of(world).run(given_up).unwrap();
    receiver.answer_with(202);
    let one = retry(json!({ "message_id": list[0]["id"] })).await;
    assert_eq!((one.status.as_u16(), &one.body["queued"]), (202, &json!(1)));
    eventually("it is delivered", async || {
        (deliveries(&portal, &endpoint).await[0]["state"] == "delivered").then_some(())
    })
    .await;
    retry(json!({ "message_id": list[0]["id"] })).await.refused(404, "not_found");
    assert_eq!(retry(json!({})).await.body["queued"], 1, "the other one");
    eventually("it is delivered", async || {
        (deliveries(&portal, &endpoint).await[1]["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(retry(json!({})).await.body["queued"], 0);
    let events = world.admin.events("&tenant_id=_system&type=webhook_endpoint.retried").await;
    assert_eq!((events.len(), &events[0]["data"]["messages"]), (2, &json!(1)));
    portal.patch(&path, &json!({ "state": "disabled" })).await.ok();
    retry(json!({})).await.refused(409, "webhook_endpoint_disabled");
}
