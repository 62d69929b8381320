//! A visit of many days with one mail: the browser that the consultant chose to have remembered opens the link again.

use serde_json::{Value, json};
use time::Duration;

use crate::support::device::{Device, careful, mailed_code, reentry_request, send, shown};
use crate::support::{Sql, World, apply, code_of, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// A link for two weeks: its id and its token.
async fn link(world: &World) -> (String, String) {
    let link = world.admin.post(LINKS, &reentry_request(&world.consultant().await)).await.ok();
    assert_eq!((&link["reentry"], link.get("device")), (&json!("device"), None));
    let link = link["id"].as_str().unwrap().to_owned();
    let token = world.token(&link, 1).await;
    (link, token)
}

/// A link whose first visit has begun in a browser that is remembered, and that visit's session.
async fn visited(world: &World, device: &Device) -> (String, String, Value) {
    let (link, token) = link(world).await;
    let codes = world.mails.notices("step_up_code").await.len();
    let code = device.first_code(world, &token, codes + 1).await;
    let session = world.admin.redeem(&code).await.ok();
    (link, token, session)
}

async fn read(world: &World, link: &str) -> Value {
    world.admin.get(&format!("{LINKS}/{link}")).await.ok()
}

async fn trail(world: &World, link: &str) -> Vec<Value> {
    world.admin.events(&format!("&magic_link_id={link}")).await
}

/// The events of one type, and what they say.
fn told<'a>(trail: &'a [Value], kind: &str) -> Vec<&'a Value> {
    trail.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn ten_days_take_one_mail_with_a_link_and_one_with_a_code(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token, first) = visited(world, &device).await;
    assert_eq!(read(world, &link).await["device"]["thumbprint"], json!(device.thumbprint()));
    let mut sessions = vec![first];
    for day in 2..=10 {
        world.clock.advance(Duration::days(1));
        let seen = shown(&page, &token).await;
        assert_eq!((&seen["state"], &seen["device"]["is_remembered"]), (&json!("spent"), &json!(true)), "day {day}");
        let code = code_of(&device.reenter(&page, &token).await.ok());
        let session = world.admin.redeem(&code).await.ok();
        assert!(world.admin.is_active(session["access_token"].as_str().unwrap()).await, "day {day}");
        sessions.push(session);
    }
    let before = &sessions[8]["access_token"];
    assert!(!world.admin.is_active(before.as_str().unwrap()).await, "one visit at a time");
    assert_eq!(world.mails.about(&link).await.len(), 1);
    assert_eq!(world.mails.notices("step_up_code").await.len(), 1);
    // On record: which device, and each of its visits.
    let trail = trail(world, &link).await;
    let thumbprint = json!(device.thumbprint());
    assert_eq!(told(&trail, "magic_link.device_remembered"), [&json!({ "device": thumbprint, "generation": 1 })]);
    let again = told(&trail, "magic_link.reentered");
    assert_eq!(again.len(), 9);
    assert_eq!(again[0], &json!({ "device": thumbprint, "generation": 1, "visit": 2 }));
    let opened = told(&trail, "session.opened");
    assert!(opened.iter().all(|data| data["device"] == thumbprint), "{opened:?}");
    assert_eq!(
        opened.iter().map(|data| data["visit"].as_i64().unwrap()).collect::<Vec<_>>(),
        (1..=10).collect::<Vec<_>>()
    );
    let pack = world.admin.get(&format!("{LINKS}/{link}/evidence")).await.ok();
    assert_eq!(pack["evidence"]["link"]["device"]["thumbprint"], thumbprint);
    assert_eq!(pack["evidence"]["sessions"].as_array().unwrap().len(), 10);
    // The window ends it all.
    world.clock.advance(Duration::days(5));
    send(&page, "/l/reenter", &token, "eyJ.eyJ.A").await.refused(410, "link_expired");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn after_a_thousand_visits_it_takes_another_mail(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token, _) = visited(world, &device).await;
    let changes = json!({ "events": (1..=100).map(|number| json!({
        "seq": 1, "source": format!("part-{number}"), "kind": "view", "occurred_at": world.clock.now(),
        "action": "employee.viewed", "resource_type": "employee", "resource_id": "emp-9",
    })).collect::<Vec<_>>() });
    let sessions = world.admin.get(&format!("/v1/sessions?magic_link_id={link}")).await.ok();
    let events = format!("/v1/sessions/{}/events", sessions["items"][0]["id"].as_str().unwrap());
    world.admin.post(&events, &changes).await.ok();
    Sql::of(world).run("UPDATE magic_links SET visit = 999").unwrap();
    let code = code_of(&device.reenter(&page, &token).await.ok());
    world.admin.redeem(&code).await.ok();
    assert_eq!(read(world, &link).await["event_count"], 100, "of all visits and sources");
    let seen = shown(&page, &token).await;
    assert_eq!((&seen["state"], seen.get("device"), &seen["can_resend"]), (&json!("spent"), None, &json!(true)));
    send(&page, "/l/reenter", &token, "eyJ.eyJ.A").await.refused(403, "device_unknown");
    world.clock.advance(Duration::minutes(2));
    page.post("/l/resend", &json!({ "token": token })).await.ok();
    let fresh = world.token(&link, 2).await;
    assert_eq!(shown(&page, &fresh).await["state"], "ready");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_proof_and_a_code_open_one_visit_each(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token, _) = visited(world, &device).await;
    let seen = shown(&page, &token).await;
    let proof = device.proof("/l/reenter", &seen);
    let code = code_of(&send(&page, "/l/reenter", &token, &proof).await.ok());
    send(&page, "/l/reenter", &token, &proof).await.refused(403, "proof_invalid");
    // The nonce was used, whoever signs it again.
    send(&page, "/l/reenter", &token, &device.proof("/l/reenter", &seen)).await.refused(403, "proof_invalid");
    let other = code_of(&device.reenter(&page, &token).await.ok());
    world.admin.redeem(&code).await.ok();
    for used in [&code, &other] {
        world.admin.redeem(used).await.refused(410, "link_spent");
    }
    // A repeat gets its session again, and the key of a repeat belongs to its visit.
    let code = code_of(&device.reenter(&page, &token).await.ok());
    let redeem =
        async |code: &str| world.admin.post_once("/v1/sessions", "third-visit", &json!({ "token": code })).await;
    let session = redeem(&code).await.ok();
    let repeated = redeem(&code).await.ok();
    assert_eq!(repeated["id"], session["id"]);
    let next = code_of(&device.reenter(&page, &token).await.ok());
    redeem(&next).await.refused(422, "idempotency_key_reused");
    let trail = trail(world, &link).await;
    let refused: Vec<&Value> = told(&trail, "magic_link.refused").into_iter().map(|data| &data["code"]).collect();
    assert_eq!(refused, ["proof_invalid", "proof_invalid", "link_spent", "link_spent"]);
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_of_another_visit_or_too_old_opens_nothing(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (_, token, session) = visited(world, &device).await;
    let code = code_of(&device.reenter(&page, &token).await.ok());
    world.clock.advance(Duration::seconds(61));
    world.admin.redeem(&code).await.refused(410, "token_expired");
    assert!(world.admin.is_active(session["access_token"].as_str().unwrap()).await, "the visit goes on");
    // So is a nonce.
    let proof = device.proof("/l/reenter", &shown(&page, &token).await);
    world.clock.advance(Duration::seconds(60));
    send(&page, "/l/reenter", &token, &proof).await.refused(403, "proof_invalid");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_copied_link_without_the_key_opens_nothing(world: &World) {
    let (device, thief, page) = (Device::new(), Device::new(), world.stranger());
    let (link, token, session) = visited(world, &device).await;
    page.post("/l/continue", &json!({ "token": token })).await.refused(410, "link_spent");
    thief.reenter(&page, &token).await.refused(403, "device_unknown");
    let seen = shown(&page, &token).await;
    let claims = |name: &str, value: Value| {
        let challenge = &seen["device"];
        let mut claims = json!({
            "htm": "POST", "htu": "http://127.0.0.1:8080/l/reenter", "nonce": challenge["nonce"],
            "magic_link_id": challenge["magic_link_id"], "gen": challenge["generation"], "visit": challenge["visit"],
        });
        claims[name] = value;
        claims
    };
    let nonce = seen["device"]["nonce"].as_str().unwrap();
    for wrong in [
        claims("htu", json!("http://127.0.0.1:8080/l/forget")),
        claims("htu", json!("https://elsewhere.example/l/reenter")),
        claims("htm", json!("GET")),
        claims("visit", json!(0)),
        claims("visit", json!(2)),
        claims("gen", json!(2)),
        claims("magic_link_id", json!("mlk_01kaq3v9e8fwmvd2x7n0c5hb1z")),
        claims("nonce", json!("")),
        claims("nonce", json!(format!("9{nonce}"))),
        claims("nonce", json!(format!("{nonce}A"))),
    ] {
        send(&page, "/l/reenter", &token, &device.sign(&wrong)).await.refused(403, "proof_invalid");
    }
    for wrong in ["", "x", "a.b.c", &token, &"A".repeat(2048)] {
        send(&page, "/l/reenter", &token, wrong).await.refused(403, "proof_invalid");
    }
    // A proof for one link says nothing about another one of the same browser.
    let (_, other) = self::link(world).await;
    let code = device.first_code(world, &other, 2).await;
    world.admin.redeem(&code).await.ok();
    let proof = device.proof("/l/reenter", &shown(&page, &other).await);
    send(&page, "/l/reenter", &token, &proof).await.refused(403, "proof_invalid");
    assert!(world.admin.is_active(session["access_token"].as_str().unwrap()).await);
    assert_eq!(told(&trail(world, &link).await, "session.opened").len(), 1);
    device.reenter(&page, &token).await.ok();
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn nothing_is_remembered_before_the_right_code_is_redeemed(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token) = link(world).await;
    let asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
    let right = mailed_code(world, 1).await;
    let wrong = format!("{:06}", (right.parse::<u32>().unwrap() + 1) % 1_000_000);
    device.verify(&page, &token, &asked, &wrong).await.refused(403, "step_up_code_wrong");
    // A proof that does not hold costs no attempt.
    let body = |proof: &str| json!({ "token": token, "id": asked["id"], "page_secret": asked["page_secret"], "code": right, "proof": proof });
    for wrong in ["x", &device.proof("/l/reenter", &shown(&page, &token).await)] {
        page.post("/l/verify", &body(wrong)).await.refused(403, "proof_invalid");
    }
    device.reenter(&page, &token).await.refused(403, "device_unknown");
    let code = code_of(&device.verify(&page, &token, &asked, &right).await.ok());
    assert!(read(world, &link).await.get("device").is_none());
    device.reenter(&page, &token).await.refused(403, "device_unknown");
    world.admin.redeem(&code).await.ok();
    device.reenter(&page, &token).await.ok();
    assert!(read(world, &link).await.get("device").is_some());
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn who_does_not_choose_it_gets_a_mail_as_ever(world: &World) {
    let page = world.stranger();
    let (link, token) = link(world).await;
    let asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
    let body = json!({ "token": token, "id": asked["id"], "code": mailed_code(world, 1).await });
    world.admin.redeem(&code_of(&page.post("/l/verify", &body).await.ok())).await.ok();
    let seen = shown(&page, &token).await;
    assert_eq!((&seen["state"], seen.get("device"), &seen["can_resend"]), (&json!("spent"), None, &json!(true)));
    Device::new().reenter(&page, &token).await.refused(403, "device_unknown");
    assert!(told(&trail(world, &link).await, "magic_link.device_remembered").is_empty());
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_fresh_mail_moves_the_access_to_where_it_is_opened(world: &World) {
    let (old, new, page) = (Device::new(), Device::new(), world.stranger());
    let (link, token, session) = visited(world, &old).await;
    let held = code_of(&old.reenter(&page, &token).await.ok());
    world.clock.advance(Duration::seconds(40));
    page.post("/l/resend", &json!({ "token": token })).await.refused(429, "resend_cool_down");
    world.clock.advance(Duration::minutes(5));
    assert_eq!(page.post("/l/resend", &json!({ "token": token })).await.status, 202);
    world.admin.redeem(&held).await.refused(410, "link_superseded");
    old.reenter(&page, &token).await.refused(410, "link_superseded");
    let fresh = world.token(&link, 2).await;
    old.reenter(&page, &fresh).await.refused(403, "device_unknown");
    let code = new.first_code(world, &fresh, 2).await;
    let moved = world.admin.redeem(&code).await.ok();
    assert!(!world.admin.is_active(session["access_token"].as_str().unwrap()).await);
    assert!(world.admin.is_active(moved["access_token"].as_str().unwrap()).await);
    old.reenter(&page, &fresh).await.refused(403, "device_unknown");
    new.reenter(&page, &fresh).await.ok();
    assert_eq!(read(world, &link).await["device"]["thumbprint"], json!(new.thumbprint()));
    let trail = trail(world, &link).await;
    let forgotten = json!({ "device": old.thumbprint(), "cause": "resent" });
    assert_eq!(told(&trail, "magic_link.device_forgotten"), [&forgotten]);
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_revoked_visit_ends_the_device_with_it_and_mails_nothing(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token, session) = visited(world, &device).await;
    let held = code_of(&device.reenter(&page, &token).await.ok());
    let path = format!("/v1/sessions/{}/revoke", session["id"].as_str().unwrap());
    let asked = json!({ "reason": "Nobody knows this visitor" });
    assert_eq!(world.admin.post(&path, &asked).await.ok()["end_cause"], "revoked");
    world.admin.redeem(&held).await.refused(410, "link_superseded");
    device.reenter(&page, &token).await.refused(410, "link_superseded");
    assert_eq!(read(world, &link).await["state"], "active");
    assert_eq!(world.mails.about(&link).await.len(), 1);
    let forgotten = json!({ "device": device.thumbprint(), "cause": "session_revoked" });
    let told_of = trail(world, &link).await;
    assert_eq!(told(&told_of, "magic_link.device_forgotten"), [&forgotten]);
    // The way is a mail, also from the page that was left.
    let seen = shown(&page, &token).await;
    assert_eq!((&seen["state"], seen.get("device"), &seen["can_resend"]), (&json!("spent"), None, &json!(true)));
    world.clock.advance(Duration::minutes(5));
    assert_eq!(page.post("/l/resend", &json!({ "token": token })).await.status, 202);
    let fresh = world.token(&link, 2).await;
    let code = device.first_code(world, &fresh, 2).await;
    world.admin.redeem(&code).await.ok();
    // A visit of an older mail takes nothing from the newest.
    world.admin.post(&path, &asked).await.ok();
    device.reenter(&page, &fresh).await.ok();
}

// What its consultant ends, or its portal when nobody is there any more, goes on later; what somebody else ends does not.
#[apply(on_both_databases)]
#[settings(careful())]
async fn who_ends_a_visit_decides_whether_its_device_is_kept(world: &World) {
    let by = json!({ "requested_by": { "id": "emp-7", "name": "Meera Iyer" } });
    for (end, keeps) in [
        (Some(json!({ "consultant_done": true, "sources": {} })), true),
        (Some(json!({ "sources": {} })), true),
        (Some(by), false),
        (None, false),
    ] {
        let (device, page) = (Device::new(), world.stranger());
        let (link, token, session) = visited(world, &device).await;
        let access = session["access_token"].as_str().unwrap();
        let reply = match &end {
            Some(body) => {
                world.admin.post(&format!("/v1/sessions/{}/end", session["id"].as_str().unwrap()), body).await
            }
            None => world.admin.form("/v1/revoke", &[("token", access)]).await,
        };
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(!world.admin.is_active(access).await);
        assert_eq!(read(world, &link).await.get("device").is_some(), keeps, "{end:?}");
        let forgotten = json!({ "device": device.thumbprint(), "cause": "session_revoked" });
        let told_of = trail(world, &link).await;
        assert_eq!(told(&told_of, "magic_link.device_forgotten").contains(&&forgotten), !keeps, "{end:?}");
        assert_eq!(told(&told_of, "session.ended").len(), 1, "{end:?}");
        if keeps {
            device.reenter(&page, &token).await.ok();
        } else {
            device.reenter(&page, &token).await.refused(410, "link_superseded");
        }
        // Whoever says so again changes nothing.
        world.admin.form("/v1/revoke", &[("token", access)]).await.ok();
        assert_eq!(trail(world, &link).await.iter().filter(|event| event["type"] == "session.ended").count(), 1);
    }
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_visit_that_is_over_is_revoked_with_its_device_and_what_followed(world: &World) {
    let asked = json!({ "reason": "The laptop was stolen" });
    for has_followed in [false, true] {
        let (device, page) = (Device::new(), world.stranger());
        let (link, token, first) = visited(world, &device).await;
        let path = format!("/v1/sessions/{}", first["id"].as_str().unwrap());
        let followed = if has_followed {
            let code = code_of(&device.reenter(&page, &token).await.ok());
            Some(world.admin.redeem(&code).await.ok())
        } else {
            world.admin.post(&format!("{path}/end"), &json!({ "sources": {} })).await.ok();
            None
        };
        let before = world.admin.get(&path).await.ok();
        let revoked = world.admin.post(&format!("{path}/revoke"), &asked).await.ok();
        assert_eq!((&revoked["end_cause"], &revoked["ended_at"]), (&before["end_cause"], &before["ended_at"]));
        device.reenter(&page, &token).await.refused(410, "link_superseded");
        assert!(read(world, &link).await.get("device").is_none());
        if let Some(followed) = followed {
            assert!(!world.admin.is_active(followed["access_token"].as_str().unwrap()).await);
            let ended = world.admin.get(&format!("/v1/sessions/{}", followed["id"].as_str().unwrap())).await.ok();
            assert_eq!(ended["end_cause"], "revoked");
        }
    }
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_revoked_signing_key_takes_remembered_links_between_two_visits(world: &World) {
    for fresh_links in [false, true] {
        let (device, page) = (Device::new(), world.stranger());
        let (link, token, session) = visited(world, &device).await;
        let path = format!("/v1/sessions/{}/end", session["id"].as_str().unwrap());
        world.admin.post(&path, &json!({ "sources": {} })).await.ok();
        let keys = world.admin.get("/v1/keys").await.ok();
        let signs = keys["items"].as_array().unwrap().iter().find(|key| key["state"] == "active").unwrap();
        let path = format!("/v1/keys/{}/revoke", signs["kid"].as_str().unwrap());
        let reason = json!({ "reason": "The key may be in the wrong hands", "fresh_links": fresh_links });
        world.admin.post(&path, &reason).await.ok();
        send(&page, "/l/reenter", &token, "eyJ.eyJ.A").await.refused(410, "signing_key_revoked");
        if fresh_links {
            let fresh = world.token(&link, 2).await;
            world.clock.advance(Duration::minutes(1));
            let code = device.first_code(world, &fresh, 3).await;
            world.admin.redeem(&code).await.ok();
        } else {
            eventually("it is revoked", async || (read(world, &link).await["state"] == "revoked").then_some(())).await;
        }
    }
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_choice_can_be_undone_where_it_was_made(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (link, token, session) = visited(world, &device).await;
    let held = code_of(&device.reenter(&page, &token).await.ok());
    let seen = shown(&page, &token).await;
    send(&page, "/l/forget", &token, &Device::new().proof("/l/forget", &seen)).await.refused(403, "device_unknown");
    let proof = device.proof("/l/forget", &seen);
    assert_eq!(send(&page, "/l/forget", &token, &proof).await.status, 204);
    send(&page, "/l/forget", &token, &proof).await.refused(410, "link_superseded");
    world.admin.redeem(&held).await.refused(410, "link_superseded");
    device.reenter(&page, &token).await.refused(410, "link_superseded");
    let seen = shown(&page, &token).await;
    assert_eq!((&seen["state"], seen.get("device"), &seen["can_resend"]), (&json!("spent"), None, &json!(true)));
    assert!(world.admin.is_active(session["access_token"].as_str().unwrap()).await, "the visit goes on");
    assert!(read(world, &link).await.get("device").is_none());
    let forgotten = json!({ "device": device.thumbprint(), "cause": "consultant" });
    assert_eq!(told(&trail(world, &link).await, "magic_link.device_forgotten"), [&forgotten]);
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn what_ends_an_access_ends_its_device(world: &World) {
    let page = world.stranger();
    for (number, end) in ["link", "bulk", "consultant", "another"].into_iter().enumerate() {
        let device = Device::new();
        let consultant = world.consultant().await;
        let mut request = reentry_request(&consultant);
        let link = world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
        let token = world.token(&link, 1).await;
        let first = device.first_code(world, &token, number + 1).await;
        world.admin.redeem(&first).await.ok();
        let held = code_of(&device.reenter(&page, &token).await.ok());
        let proof = device.proof("/l/reenter", &shown(&page, &token).await);
        let reason = "The work is done";
        let (path, body) = match end {
            "link" => (format!("{LINKS}/{link}/revoke"), json!({ "reason": reason })),
            "bulk" => ("/v1/revocations".to_owned(), json!({ "consultant_id": consultant, "reason": reason })),
            "consultant" => (format!("/v1/consultants/{consultant}/suspend"), json!({ "reason": reason })),
            _ => {
                request["replace"] = json!(true);
                (LINKS.to_owned(), request)
            }
        };
        let (code, state) =
            if end == "another" { ("link_replaced", "superseded") } else { ("link_revoked", "revoked") };
        world.admin.post(&path, &body).await.ok();
        send(&page, "/l/reenter", &token, &proof).await.refused(410, code);
        send(&page, "/l/forget", &token, &device.proof("/l/forget", &json!({}))).await.refused(410, code);
        world.admin.redeem(&held).await.refused(410, code);
        assert_eq!(shown(&page, &token).await["state"], state, "{end}");
    }
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_freeze_stops_new_links_and_no_visit(world: &World) {
    let (device, page) = (Device::new(), world.stranger());
    let (_, token, _) = visited(world, &device).await;
    world.admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "An incident" })).await.ok();
    let code = code_of(&device.reenter(&page, &token).await.ok());
    world.admin.redeem(&code).await.ok();
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn only_a_portal_with_a_code_and_our_page_takes_it(world: &World) {
    let consultant = world.consultant().await;
    for portal in ["ess", "own"] {
        let mut request = reentry_request(&consultant);
        request["portal"] = json!(portal);
        world.admin.post(LINKS, &request).await.refused_field("/reentry");
        request["reentry"] = json!("mail");
        assert_eq!(world.admin.post(LINKS, &request).await.ok()["reentry"], "mail");
    }
    // One who was not granted it gets it by no proof.
    let (device, page) = (Device::new(), world.stranger());
    let link = world.admin.issue(&consultant).await;
    let token = world.token(&link, 1).await;
    let asked = page.post("/l/continue", &json!({ "token": token })).await.ok()["step_up"].clone();
    let seen = shown(&page, &token).await;
    assert!(seen.get("device").is_none());
    let code = mailed_code(world, 1).await;
    let body = json!({ "token": token, "id": asked["id"], "code": code, "proof": device.proof("/l/verify", &seen) });
    page.post("/l/verify", &body).await.refused(403, "proof_invalid");
    device.reenter(&page, &token).await.refused(403, "device_unknown");
}
