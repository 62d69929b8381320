//! Opening, repeating, replacing and ending sessions.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use magic_link::clock::Timestamp;

use crate::support::{Api, Process, Settings, World, apply, code_of, eventually, on_both_databases};

const SESSIONS: &str = "/v1/sessions";

/// What a token claims.
fn claims(token: &Value) -> Value {
    let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

fn path_of(session: &Value) -> String {
    format!("{SESSIONS}/{}", session["id"].as_str().unwrap())
}

// Ids sort by time of creation, and so do the lists: no id is made for a time to come. In a process of its own: the tests
// beside it move their clocks.
#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn what_is_created_after_a_session_ended_sorts_by_its_time(world: &World) {
    let process = Process::start(world);
    let admin = world.admin.at(&process.base);
    let consultant = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
    let consultant = admin.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned();
    let open = async || {
        let mut request = Api::issue_request(&consultant);
        request["replace"] = json!(true);
        let link = admin.post("/v1/magic-links", &request).await.ok();
        let token = world.mails.token(link["id"].as_str().unwrap(), 1).await;
        let answer = admin.stranger().post("/l/continue", &json!({ "token": token })).await.ok();
        (link, admin.redeem(&code_of(&answer)).await.ok())
    };
    let (_link, session) = open().await;
    admin.post(&format!("{}/end", path_of(&session)), &json!({})).await.ok();
    let (link, session) = open().await;
    for (created, at) in [(&link, "created_at"), (&session, "started_at")] {
        let id: Timestamp = created_of(created["id"].as_str().unwrap());
        let at: Timestamp = serde_json::from_value(created[at].clone()).unwrap();
        assert!(id.since(at).abs() < Duration::SECOND, "{created}: {id}");
    }
}

/// The time in an id: the first 48 of its 128 bits, in digits of five.
fn created_of(id: &str) -> Timestamp {
    let digits = id.split_once('_').unwrap().1.chars();
    let value = |digit| "0123456789abcdefghjkmnpqrstvwxyz".find(digit).unwrap() as u128;
    let bits = digits.fold(0_u128, |bits, digit| (bits << 5) | value(digit));
    Timestamp::from_utc(OffsetDateTime::from_unix_timestamp_nanos(((bits >> 80) * 1_000_000).cast_signed()).unwrap())
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_lost_answer_can_be_asked_for_while_the_session_lives(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let (code, other_code) = (world.click(&token).await, world.click(&token).await);
    let redeem = async |api: &Api, key: &str, code: &str| api.post_once(SESSIONS, key, &json!({ "token": code })).await;
    let first = redeem(&portal, "one", &code).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    let first = first.ok();
    let same = |again: &Value| {
        for member in ["id", "magic_link_id", "profile", "consultant", "started_at", "expires_at"] {
            assert_eq!(again[member], first[member]);
        }
        for claim in ["jti", "iat", "exp", "sid", "sub", "act"] {
            assert_eq!(claims(&again["access_token"])[claim], claims(&first["access_token"])[claim]);
        }
    };
    // Also with the code of another click, and long after the code's minute.
    for (step, code) in [(0, &code), (1, &other_code), (600, &code)] {
        world.clock.advance(Duration::seconds(step));
        let again = redeem(&portal, "one", code).await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
        let again = again.ok();
        same(&again);
        assert!(portal.is_active(again["access_token"].as_str().unwrap()).await);
    }
    assert_eq!(portal.event_types("&type=session.opened").await.len(), 1);

    // Another key, another client, another link: no repeat.
    redeem(&portal, "two", &code).await.refused(410, "link_spent");
    redeem(&world.portal("cloud", "acme").await, "one", &code).await.refused(410, "link_spent");
    let other = portal.issue(&world.consultant().await).await;
    let other = world.click(&world.token(&other, 1).await).await;
    redeem(&portal, "one", &other).await.refused(422, "idempotency_key_reused");
    assert_eq!(redeem(&portal, "three", &other).await.status, 201);

    portal.post(&format!("{}/end", path_of(&first)), &json!({})).await.ok();
    redeem(&portal, "one", &code).await.refused(410, "session_ended");
    let refused = portal.events("&type=session.refused").await;
    assert_eq!((refused.len(), &refused[0]["session_id"]), (1, &first["id"]));
    assert_eq!(refused[0]["data"]["code"], "session_ended");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_next_session_of_a_link_replaces_the_one_before(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let first = world.open_session(&portal).await;
    let link = first["magic_link_id"].as_str().unwrap();
    let other = world.open_session(&portal).await;
    world.clock.advance(Duration::minutes(2));
    portal.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
    assert!(portal.is_active(first["access_token"].as_str().unwrap()).await, "until the fresh link is used");
    let code = world.click(&world.token(link, 2).await).await;
    let second = portal.redeem(&code).await.ok();
    assert_ne!(second["id"], first["id"]);
    let active = async |session: &Value| portal.is_active(session["access_token"].as_str().unwrap()).await;
    assert_eq!((active(&first).await, active(&second).await), (false, true));
    assert!(active(&other).await, "another link's session is not touched");
    let replaced = portal.get(&path_of(&first)).await.ok();
    assert_eq!((&replaced["state"], &replaced["end_cause"]), (&json!("ended"), &json!("replaced")));
    let events = portal.events("&type=session.replaced").await;
    assert_eq!((events.len(), &events[0]["session_id"]), (1, &first["id"]));
    let live = portal.get(&format!("{SESSIONS}?magic_link_id={link}&state=active")).await.ok();
    assert_eq!(live["items"].as_array().unwrap().len(), 1);
    assert_eq!(live["items"][0]["id"], second["id"]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_ends_to_the_microsecond(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let access = session["access_token"].as_str().unwrap();
    assert_eq!(session["expires_at"], json!(world.clock.now().plus(Duration::hours(4))), "the link's own end");
    world.clock.advance(Duration::hours(4) - Duration::microseconds(1));
    assert!(portal.is_active(access).await);
    world.clock.advance(Duration::microseconds(1));
    let answer = portal.form("/v1/introspect", &[("token", access)]).await;
    assert_eq!(answer.text, "{\"active\":false}", "no grace");
    let ended = portal.get(&path_of(&session)).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("expired")));
    assert_eq!(ended["ended_at"], session["expires_at"]);
    // "I am done" comes too late to be the cause, but is no failure.
    world.clock.advance(Duration::minutes(1));
    let done = portal.post(&format!("{}/end", path_of(&session)), &json!({ "sources": { "portal": 0 } })).await.ok();
    assert_eq!((&done["end_cause"], &done["ended_at"]), (&json!("expired"), &session["expires_at"]));
    let events = portal.events("&type=session.ended").await;
    assert_eq!((events.len(), &events[0]["data"]["cause"]), (1, &json!("expired")));
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_outlives_neither_its_own_life_nor_its_links(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    for (hours, into, lives) in [(24, 0, 8), (24, 20, 4), (8, 0, 8), (1, 0, 1)] {
        let mut request = Api::issue_request(&consultant);
        request["duration"] = json!({ "value": hours, "unit": "hours" });
        let link = portal.post("/v1/magic-links", &request).await.ok();
        let token = world.token(link["id"].as_str().unwrap(), 1).await;
        world.clock.advance(Duration::hours(into));
        let code = world.click(&token).await;
        let session = portal.redeem(&code).await.ok();
        assert_eq!(session["started_at"], json!(world.clock.now()));
        assert_eq!(session["expires_at"], json!(world.clock.now().plus(Duration::hours(lives))));
    }
}

#[apply(on_both_databases)]
async fn a_suspended_consultants_sessions_end_at_once(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (session, other) = (world.open_session(&portal).await, world.open_session(&portal).await);
    let consultant = session["consultant"]["id"].as_str().unwrap();
    let waiting = portal.issue(consultant).await;
    let token = world.token(&waiting, 1).await;
    let code = world.click(&token).await;
    let path = format!("/v1/consultants/{consultant}");
    world.admin.post(&format!("{path}/suspend"), &json!({ "reason": "Left the company" })).await.ok();
    let active = async |session: &Value| portal.is_active(session["access_token"].as_str().unwrap()).await;
    assert_eq!((active(&session).await, active(&other).await), (false, true));
    assert_eq!(portal.get(&path_of(&session)).await.ok()["end_cause"], "revoked");
    portal.redeem(&code).await.refused(410, "link_revoked");

    let suspended = world.admin.events("&type=consultant.suspended").await;
    assert_eq!((suspended.len(), &suspended[0]["data"]["revoked_links"]), (1, &json!(2)));
    eventually("both ends are on record", async || {
        (portal.event_types("&type=magic_link.revoked").await.len() == 2).then_some(())
    })
    .await;
    // Again changes nothing, and whoever comes back comes back without the old links.
    world.admin.post(&format!("{path}/suspend"), &json!({ "reason": "Once more" })).await.ok();
    assert_eq!(world.admin.get(&path).await.ok()["suspend_reason"], "Left the company");
    world.admin.post(&format!("{path}/reinstate"), &json!({ "reason": "Back again" })).await.ok();
    assert!(!active(&session).await);
    portal.redeem(&code).await.refused(410, "link_revoked");
    assert_eq!(world.admin.events("&type=consultant.suspended").await.len(), 1);
    assert_eq!(world.admin.events("&type=consultant.reinstated").await.len(), 1);
}

#[apply(on_both_databases)]
async fn done_is_said_with_the_closing_counts(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let end = format!("{}/end", path_of(&session));
    for (body, status, code) in [
        (json!({ "sources": { "portal": -1 } }), 422, "validation_failed"),
        (json!({ "sources": { "two words": 1 } }), 422, "validation_failed"),
        (json!({ "sources": { "": 1 } }), 422, "validation_failed"),
        (
            json!({ "sources": (0..101).map(|n| (format!("s{n}"), 0)).collect::<std::collections::BTreeMap<_, _>>() }),
            422,
            "validation_failed",
        ),
        (json!({ "sources": ["portal"] }), 400, "invalid_body"),
        (json!({ "sources": { "portal": "1" } }), 400, "invalid_body"),
        (json!([]), 400, "invalid_body"),
        (json!({ "source": {} }), 400, "invalid_body"),
    ] {
        portal.post(&end, &body).await.refused(status, code);
    }
    let twice = portal.request(reqwest::Method::POST, &end).header("content-type", "application/json");
    let twice = portal.send(twice.body("{\"sources\":{\"portal\":1,\"portal\":0}}")).await;
    twice.refused(400, "invalid_body");
    assert_eq!(portal.get(&path_of(&session)).await.ok()["state"], "active");

    let ended =
        portal.post(&end, &json!({ "consultant_done": true, "sources": { "portal": 0, "batch": 0 } })).await.ok();
    assert_eq!((&ended["audit_state"], &ended["end_cause"]), (&json!("complete"), &json!("done")));
    assert_eq!(ended["sources"][0], json!({ "source": "batch", "event_count": 0, "last_seq": 0, "closing_seq": 0 }));
    // Neither a repeat nor a lower count changes anything.
    assert_eq!(portal.post(&end, &json!({ "sources": { "portal": 0 } })).await.ok(), ended);
    assert_eq!(portal.event_types("&type=session.closed").await.len(), 1);
    assert_eq!(portal.event_types("&type=session.ended").await.len(), 1);
}

#[apply(on_both_databases)]
async fn closing_counts_are_taken_after_a_revocation_too(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let revoke = format!("/v1/magic-links/{}/revoke", session["magic_link_id"].as_str().unwrap());
    portal.post(&revoke, &json!({ "reason": "Enough of this" })).await.ok();
    let closed = portal.post(&format!("{}/end", path_of(&session)), &json!({ "sources": { "portal": 2 } })).await.ok();
    assert_eq!((&closed["end_cause"], &closed["audit_state"]), (&json!("revoked"), &json!("gaps")));
    assert_eq!(closed["sources"][0]["closing_seq"], 2);
    assert_eq!(portal.event_types("&type=session.ended").await.len(), 1);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_session_that_is_never_closed_says_so(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let link = format!("/v1/magic-links/{}", session["magic_link_id"].as_str().unwrap());
    let end = format!("{}/end", path_of(&session));
    let states = async || {
        let session = portal.get(&path_of(&session)).await.ok()["audit_state"].clone();
        assert_eq!(portal.get(&link).await.ok()["audit_state"], session, "the link shows the worst of its sessions");
        session
    };
    portal.post(&end, &json!({})).await.ok();
    assert_eq!(states().await, "complete");
    world.clock.advance(Duration::minutes(15) - Duration::microseconds(1));
    assert_eq!(states().await, "complete");
    world.clock.advance(Duration::microseconds(1));
    assert_eq!(states().await, "unclosed");
    portal.post(&end, &json!({ "sources": { "portal": 1 } })).await.ok();
    assert_eq!(states().await, "gaps");
    let act = json!({ "events": [{
        "seq": 1, "kind": "view", "occurred_at": world.clock.now(), "action": "payslip.viewed",
        "resource_type": "payslip", "resource_id": "p-1",
    }] });
    assert_eq!(portal.post(&format!("{}/events", path_of(&session)), &act).await.ok()["audit_state"], "complete");
    assert_eq!(states().await, "complete");
}

#[apply(on_both_databases)]
async fn what_the_visitor_shows_is_checked_and_kept(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let code = world.click(&world.token(&link, 1).await).await;
    for (visitor, status, code_of) in [
        (json!({ "address": "x".repeat(65) }), 422, "validation_failed"),
        (json!(["203.0.113.7", "Mozilla/5.0"]), 400, "invalid_body"),
        (json!({ "colour": "red" }), 400, "invalid_body"),
    ] {
        let body = json!({ "token": code, "visitor": visitor });
        portal.post(SESSIONS, &body).await.refused(status, code_of);
    }
    assert!(
        portal.get(&format!("/v1/magic-links/{link}")).await.ok().get("spent_at").is_none(),
        "not spent by a wrong call"
    );
    let visitor = json!({ "address": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11)" });
    let session = portal.post(SESSIONS, &json!({ "token": code, "visitor": visitor })).await.ok();
    assert_eq!(portal.get(&path_of(&session)).await.ok()["visitor"], visitor);
    let opened = &portal.events("&type=session.opened").await[0];
    assert_eq!((&opened["address"], &opened["user_agent"]), (&visitor["address"], &visitor["user_agent"]));
}

#[apply(on_both_databases)]
async fn what_a_browser_says_of_itself_keeps_nobody_out(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let (long, cut) = ("Ñ".repeat(2_000), "Ñ".repeat(500));
    for (said, kept) in [
        ("", None),
        ("\t", None),
        ("Mozil\u{202E}la\u{7}", Some("Mozil la")),
        ("Ñandú/1.0", Some("Ñandú/1.0")),
        (&long, Some(cut.as_str())),
    ] {
        let link = portal.issue(&world.consultant().await).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let visitor = json!({ "address": "", "user_agent": said });
        portal.post("/v1/sessions", &json!({ "token": code, "visitor": visitor })).await.ok();
        let opened = portal.events(&format!("&type=session.opened&magic_link_id={link}")).await;
        let told = opened[0].get("user_agent").and_then(Value::as_str);
        assert_eq!((told, opened[0].get("address")), (kept, None), "{said:?}");
    }
}
