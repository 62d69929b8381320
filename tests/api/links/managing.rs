//! Issuing, listing, reading and revoking links.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// Walks through a list, a few items a page.
async fn walk(api: &Api, query: &str, page_size: usize) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{LINKS}?page_size={page_size}{query}{cursor}")).await.ok();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= page_size);
        ids.extend(items.iter().map(|link| link["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

async fn state(world: &World, link: &str) -> Value {
    world.admin.get(&format!("{LINKS}/{link}")).await.ok()["state"].clone()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_repeated_issue_is_one_link_and_one_mail(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post_once(LINKS, "8e03978e", &request).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (201, ""));
    let first = first.ok();
    let id = first["id"].as_str().unwrap();
    world.mails.wait_for(id, 1).await;
    for key in ["8e03978e", "\"8e03978e\""] {
        let again = portal.post_once(LINKS, key, &request).await;
        assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
        let again = again.ok();
        for member in ["id", "reason", "starts_at", "expires_at", "created_at", "profile", "issued_by"] {
            assert_eq!(again[member], first[member]);
        }
    }
    assert_eq!(portal.event_types("&type=magic_link.issued").await.len(), 1);
    assert_eq!(walk(&portal, "", 10).await, [id]);

    // A refusal is not remembered: the same key serves the mended request.
    let mut other = request.clone();
    other["profile"]["id"] = "emp-9".into();
    let mut wrong = other.clone();
    wrong["reason"] = "short".into();
    portal.post_once(LINKS, "mended", &wrong).await.refused_field("/reason");
    let mended = portal.post_once(LINKS, "mended", &other).await;
    assert_eq!((mended.status.as_u16(), mended.header("idempotency-replayed")), (201, ""));
    // Now, because a window that is over is mailed no more.
    world.mails.wait_for(mended.ok()["id"].as_str().unwrap(), 1).await;

    // After a day the key is fresh again.
    world.clock.advance(Duration::hours(24));
    let next_day = portal.post_once(LINKS, "8e03978e", &request).await;
    assert_eq!((next_day.status.as_u16(), next_day.header("idempotency-replayed")), (201, ""));
    let next_day = next_day.ok();
    world.mails.wait_for(next_day["id"].as_str().unwrap(), 1).await;
    assert_eq!(world.mails.about(id).await.len(), 1);
    assert_eq!(world.mails.all().await.len(), 3);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_repeat_is_answered_though_its_start_has_passed(world: &World) {
    let mut request = Api::issue_request(&world.consultant().await);
    request["starts_at"] = json!(world.clock.now().plus(Duration::minutes(1)));
    let first = world.admin.post_once(LINKS, "one", &request).await.ok();
    world.clock.advance(Duration::hours(1));
    let again = world.admin.post_once(LINKS, "one", &request).await;
    assert_eq!((again.status.as_u16(), again.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&again.body["id"], &again.body["state"]), (&first["id"], &json!("active")));
    world.admin.post_once(LINKS, "two", &request).await.refused_field("/starts_at");
    assert_eq!(world.admin.events("&type=magic_link.issued").await.len(), 1);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_list_is_walked_newest_first_and_each_link_is_met_once(world: &World) {
    let consultant = world.consultant().await;
    let mut issued = Vec::new();
    for _ in 0..7 {
        // Two in the same microsecond, then two a second later.
        if issued.len() % 2 == 0 {
            world.clock.advance(Duration::seconds(1));
        }
        issued.push(world.admin.issue(&consultant).await);
    }
    issued.reverse();
    for page_size in [1, 2, 3, 7, 200] {
        assert_eq!(walk(&world.admin, "", page_size).await, issued, "{page_size} a page");
    }

    // What is issued meanwhile does not push anything onto two pages.
    let first = world.admin.get(&format!("{LINKS}?page_size=3")).await.ok();
    world.admin.issue(&consultant).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.admin.get(&format!("{LINKS}?page_size=3&cursor={cursor}")).await.ok();
    let ids: Vec<_> = second["items"].as_array().unwrap().iter().map(|link| link["id"].as_str().unwrap()).collect();
    assert_eq!(ids, issued[3..6]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_list_is_cut_by_each_filter(world: &World) {
    let (ravi, uma) = (world.consultant().await, world.consultant().await);
    let issue = async |consultant: &str, tenant: &str, portal: &str, profile: &str| {
        world.clock.advance(Duration::hours(1));
        let mut request = Api::issue_request(consultant);
        request["tenant_id"] = tenant.into();
        request["portal"] = portal.into();
        request["profile"]["id"] = profile.into();
        let link = world.admin.post(LINKS, &request).await.ok();
        (link["id"].as_str().unwrap().to_owned(), link["created_at"].as_str().unwrap().to_owned())
    };
    let (a, _) = issue(&ravi, "acme", "cloud", "emp-1").await;
    let (b, b_at) = issue(&uma, "acme", "ess", "emp-1").await;
    let (c, c_at) = issue(&ravi, "globex", "cloud", "emp-1").await;
    let (d, _) = issue(&uma, "globex", "ess", "emp-2").await;
    world.admin.post(&format!("{LINKS}/{d}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    for (query, expected) in [
        ("&tenant_id=acme".to_owned(), vec![&b, &a]),
        ("&portal=cloud".to_owned(), vec![&c, &a]),
        (format!("&consultant_id={uma}"), vec![&d, &b]),
        ("&profile_id=emp-2".to_owned(), vec![&d]),
        ("&state=revoked".to_owned(), vec![&d]),
        ("&state=active".to_owned(), vec![&c, &b, &a]),
        ("&state=scheduled".to_owned(), vec![]),
        (format!("&created_from={b_at}"), vec![&d, &c, &b]),
        (format!("&created_to={c_at}"), vec![&b, &a]),
        (format!("&created_from={b_at}&created_to={c_at}"), vec![&b]),
        ("&tenant_id=acme&portal=cloud&profile_id=emp-1".to_owned(), vec![&a]),
        ("&tenant_id=initech".to_owned(), vec![]),
        ("&profile_id=%25".to_owned(), vec![]),
    ] {
        assert_eq!(walk(&world.admin, &query, 2).await.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    // A client's own reach is a filter that it cannot leave.
    let portal = world.portal("cloud", "acme").await;
    assert_eq!(walk(&portal, "", 2).await, [a]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_links_state_follows_from_its_times(world: &World) {
    let consultant = world.consultant().await;
    let mut request = Api::issue_request(&consultant);
    request["starts_at"] = json!(world.clock.now().plus(Duration::hours(2)));
    request["duration"] = json!({ "value": 1, "unit": "hours" });
    let link = world.admin.post(LINKS, &request).await.ok();
    assert_eq!(link["starts_at"], request["starts_at"]);
    assert_eq!(link["expires_at"], json!(world.clock.now().plus(Duration::hours(3))));
    let id = link["id"].as_str().unwrap();
    let microsecond = Duration::microseconds(1);
    for (step, expected) in [
        (Duration::ZERO, "scheduled"),
        (Duration::hours(2) - microsecond, "scheduled"),
        (microsecond, "active"),
        (Duration::hours(1) - microsecond, "active"),
        (microsecond, "expired"),
        (Duration::weeks(9), "expired"),
    ] {
        world.clock.advance(step);
        assert_eq!(state(world, id).await, expected);
        for listed in ["scheduled", "active", "expired", "revoked"] {
            let found = walk(&world.admin, &format!("&state={listed}"), 10).await;
            assert_eq!(found.len(), usize::from(listed == expected), "{listed}");
        }
    }
    let revoked = world.admin.issue(&consultant).await;
    world.admin.post(&format!("{LINKS}/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    world.clock.advance(Duration::weeks(9));
    assert_eq!(state(world, &revoked).await, "revoked");
    assert_eq!(walk(&world.admin, "&state=revoked", 10).await, [revoked]);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_window_is_counted_from_its_start_in_hours(world: &World) {
    let consultant = world.consultant().await;
    for (value, unit, hours) in
        [(1, "hours", 1), (672, "hours", 672), (28, "days", 672), (4, "weeks", 672), (2, "days", 48)]
    {
        let mut request = Api::issue_request(&consultant);
        request["duration"] = json!({ "value": value, "unit": unit });
        let link = world.admin.post(LINKS, &request).await.ok();
        assert_eq!(link["starts_at"], json!(world.clock.now()));
        assert_eq!(link["expires_at"], json!(world.clock.now().plus(Duration::hours(hours))));
    }
    // Another offset is taken and normalised.
    let mut request = Api::issue_request(&consultant);
    let noon = world.clock.now().plus(Duration::days(2)).to_string();
    let (day, _) = noon.split_once('T').unwrap();
    request["starts_at"] = json!(format!("{day}T09:00:00+05:30"));
    let link = world.admin.post(LINKS, &request).await.ok();
    assert_eq!(link["starts_at"], format!("{day}T03:30:00Z"));
    assert_eq!(link["expires_at"], format!("{day}T07:30:00Z"));
}

#[apply(on_both_databases)]
async fn a_revoked_link_ends_its_session_and_stays_revoked(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let (link, access) = (session["magic_link_id"].as_str().unwrap(), session["access_token"].as_str().unwrap());
    let (path, revoke) = (format!("{LINKS}/{link}"), format!("{LINKS}/{link}/revoke"));
    for reason in ["", "no", "  x  ", "a\u{202e}reason"] {
        portal.post(&revoke, &json!({ "reason": reason })).await.refused_field("/reason");
    }
    portal.post(&revoke, &json!({})).await.refused(400, "invalid_body");
    assert!(portal.is_active(access).await);

    let meera = json!({ "reason": "The work is done", "requested_by": { "id": "emp-7", "name": "Meera Iyer" } });
    let revoked = portal.post(&revoke, &meera).await.ok();
    assert!(!portal.is_active(access).await, "from the moment of the answer");
    assert_eq!(revoked["state"], "revoked");
    assert_eq!(revoked["revoke_reason"], "The work is done");
    assert_eq!(revoked["revoked_by"], json!({ "type": "portal_user", "id": "emp-7", "name": "Meera Iyer" }));

    let again = portal.post(&revoke, &json!({ "reason": "Another reason" })).await.ok();
    assert_eq!((&again["revoked_at"], &again["revoke_reason"]), (&revoked["revoked_at"], &revoked["revoke_reason"]));
    assert_eq!(portal.get(&path).await.ok()["revoked_by"], revoked["revoked_by"]);
    let ended = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
    assert_eq!((&ended["state"], &ended["end_cause"]), (&json!("ended"), &json!("revoked")));

    let events = portal.events(&format!("&magic_link_id={link}")).await;
    let tail: Vec<_> = events.iter().rev().take(2).collect();
    assert_eq!((&tail[0]["type"], &tail[1]["type"]), (&json!("session.ended"), &json!("magic_link.revoked")));
    for event in tail {
        assert_eq!(event["actor"], json!({ "type": "portal_user", "id": "emp-7", "name": "Meera Iyer" }));
        assert_eq!(event["client_id"], portal.client_id.as_str());
    }
    let token = world.token(link, 1).await;
    let page = world.stranger();
    assert_eq!(page.post("/l/preview", &json!({ "token": token })).await.ok()["state"], "revoked");
    page.post("/l/continue", &json!({ "token": token })).await.refused(410, "link_revoked");
    portal.post(&format!("{path}/resend"), &json!({})).await.refused(410, "link_revoked");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_ended_link_is_not_revoked(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    world.clock.advance(Duration::hours(4));
    let revoked = world.admin.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Too late" })).await;
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.body["state"], "expired");
    assert!(revoked.body.get("revoked_at").is_none());
    assert!(world.admin.events("&type=magic_link.revoked").await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn who_asked_stands_in_the_trail(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let asha = json!({ "id": "emp-8", "name": "Asha Rao" });
    let portal_user = |id: &str, name: &str| json!({ "type": "portal_user", "id": id, "name": name });

    let mut request = Api::issue_request(&consultant);
    portal.post(LINKS, &request).await.ok();
    request["profile"]["id"] = json!("emp-9");
    request["requested_by"] = asha.clone();
    let link = portal.post(LINKS, &request).await.ok();
    let issued = portal.events("&type=magic_link.issued").await;
    assert_eq!(issued[0]["actor"], portal_user("emp-7", "Meera Iyer"), "the person who grants");
    assert_eq!(issued[1]["actor"], portal_user("emp-8", "Asha Rao"), "the person who sent the form");
    assert_eq!(issued[1]["data"]["issued_by"]["id"], "emp-7");
    assert!(issued.iter().all(|event| event["client_id"] == portal.client_id.as_str()));

    world.clock.advance(Duration::minutes(1));
    let resend = format!("{LINKS}/{}/resend", link["id"].as_str().unwrap());
    assert_eq!(portal.post(&resend, &json!({ "requested_by": asha })).await.status, 202);
    assert_eq!(portal.events("&type=magic_link.resent").await[0]["actor"], portal_user("emp-8", "Asha Rao"));

    let leave = json!({ "reason": "On leave", "requested_by": asha });
    world.admin.post(&format!("/v1/consultants/{consultant}/suspend"), &leave).await.ok();
    let suspended = world.admin.events("&type=consultant.suspended").await;
    assert_eq!(suspended[0]["actor"], portal_user("emp-8", "Asha Rao"));
    // Links of any tenant end with it: their logs name the client, and nobody of another customer.
    let revoked = eventually("both ends are on record", async || {
        Some(world.admin.events("&type=magic_link.revoked").await).filter(|events| events.len() == 2)
    })
    .await;
    assert!(revoked.iter().all(|event| event["actor"]["id"] == world.admin.client_id.as_str()), "{revoked:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_support_session_cannot_grant(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let consultant = session["consultant"]["id"].as_str().unwrap();
    let link = format!("{LINKS}/{}", session["magic_link_id"].as_str().unwrap());
    world.clock.advance(Duration::minutes(5));
    let before = (world.admin.get(&link).await.ok(), world.admin.get("/v1/consultants").await.ok());
    let path = format!("/v1/consultants/{consultant}");
    for acting in [session["id"].clone(), json!("whatever"), json!("")] {
        let with = |mut body: Value| {
            body["acting_session_id"] = acting.clone();
            body
        };
        let reason = json!({ "reason": "Because I can" });
        let eve = json!({ "name": "Eve", "email": "eve@support.example" });
        for reply in [
            world.admin.post(LINKS, &with(Api::issue_request(consultant))).await,
            world.admin.post(&format!("{link}/resend"), &with(json!({}))).await,
            world.admin.post("/v1/consultants", &with(eve.clone())).await,
            world.admin.patch(&path, &with(eve)).await,
            world.admin.post(&format!("{path}/suspend"), &with(reason.clone())).await,
            world.admin.post(&format!("{path}/reinstate"), &with(reason)).await,
        ] {
            reply.refused(403, "support_session_cannot_grant");
        }
    }
    assert_eq!((world.admin.get(&link).await.ok(), world.admin.get("/v1/consultants").await.ok()), before);
    assert_eq!(world.admin.events("&type=magic_link.issued").await.len(), 1);
    assert!(world.admin.events("&type=magic_link.resent").await.is_empty());

    // Taking away is no granting; who acted is on record.
    let revoke = json!({ "reason": "I am done here", "acting_session_id": session["id"] });
    assert_eq!(portal.post(&format!("{link}/revoke"), &revoke).await.ok()["state"], "revoked");
    let revoked = portal.events("&type=magic_link.revoked").await;
    assert_eq!(revoked[0]["data"]["acting_session_id"], session["id"]);
}
