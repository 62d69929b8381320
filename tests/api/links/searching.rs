//! Who has access, and who is inside now: lists of links and sessions answer it by themselves.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, Sql, World, apply, mailed, on_both_databases};

/// The ids of a whole list, a few items a page.
async fn walk(api: &Api, list: &str, query: &str) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.get(&format!("{list}?page_size=2&{query}{cursor}")).await.ok();
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// Issues a link as this person, for a ticket, for so many hours.
async fn issue(world: &World, caller: &Api, (issuer, ticket, hours): (&str, Option<&str>, i64)) -> String {
    world.clock.advance(Duration::seconds(1));
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["id"] = issuer.into();
    request["ticket"] = ticket.map_or(Value::Null, Into::into);
    request["duration"]["value"] = hours.into();
    let link = caller.post("/v1/magic-links", &request).await.ok()["id"].as_str().unwrap().to_owned();
    mailed(caller, &link).await;
    link
}

async fn open(world: &World, portal: &Api, link: &str) -> Value {
    let code = world.click(&world.token(link, 1).await).await;
    portal.redeem(&code).await.ok()
}

/// Reports events with these numbers.
async fn report(world: &World, portal: &Api, session: &Value, numbers: &[i64]) {
    let act = |seq: &i64| {
        json!({ "seq": seq, "occurred_at": world.clock.now(), "action": "employee.viewed", "kind": "view",
            "resource_type": "employee", "resource_id": "emp-9" })
    };
    let events = json!({ "events": numbers.iter().map(act).collect::<Vec<_>>() });
    portal.post(&format!("/v1/sessions/{}/events", session["id"].as_str().unwrap()), &events).await.ok();
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn links_are_found_by_what_is_known_of_them(world: &World) {
    let (portal, desk) = (world.portal("cloud", "acme").await, world.portal("cloud", "acme").await);
    let inside = issue(world, &portal, ("emp-7", Some("SUP-1"), 4)).await;
    let first = open(world, &portal, &inside).await;
    report(world, &portal, &first, &[1, 3]).await;
    let done = issue(world, &portal, ("emp-7", Some("SUP-1"), 20)).await;
    let ended = open(world, &portal, &done).await;
    let end = json!({ "consultant_done": true, "sources": {} });
    portal.post(&format!("/v1/sessions/{}/end", ended["id"].as_str().unwrap()), &end).await.ok();
    let silent = issue(world, &desk, ("emp-8", Some("SUP 2 ä"), 20)).await;
    let left = open(world, &desk, &silent).await;
    desk.post(&format!("/v1/sessions/{}/end", left["id"].as_str().unwrap()), &json!({})).await.ok();
    let bounced = issue(world, &desk, ("emp-8", None, 2)).await;
    let revoked = issue(world, &desk, ("emp-8", None, 2)).await;
    desk.post(&format!("/v1/magic-links/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    Sql::of(world)
        .run(&format!(
            "UPDATE mail_jobs SET state = 'bounced' WHERE magic_link_id = '{bounced}' AND template = 'magic_link'"
        ))
        .unwrap();
    world.clock.advance(Duration::minutes(16));
    let all = [&revoked, &bounced, &silent, &done, &inside];
    let soon = world.clock.now().plus(Duration::hours(3));

    let [own, other] = [&portal, &desk].map(|client| format!("client_id={}", client.client_id));
    for (query, expected) in [
        ("state=active", vec![&bounced, &silent, &done, &inside]),
        ("state=active,revoked", all.to_vec()),
        ("state=revoked,scheduled,expired", vec![&revoked]),
        ("ticket=SUP-1", vec![&done, &inside]),
        ("ticket=%20SUP-1%20", vec![&done, &inside]),
        ("ticket=sup-1", vec![]),
        ("ticket=SUP", vec![]),
        ("ticket=SUP+2+%C3%A4", vec![&silent]),
        ("issued_by_id=emp-8", vec![&revoked, &bounced, &silent]),
        (own.as_str(), vec![&done, &inside]),
        (other.as_str(), vec![&revoked, &bounced, &silent]),
        ("delivery_state=bounced", vec![&bounced]),
        ("delivery_state=accepted", vec![&revoked, &silent, &done, &inside]),
        ("delivery_state=failed", vec![]),
        ("audit_state=gaps", vec![&inside]),
        ("audit_state=unclosed", vec![&silent]),
        ("audit_state=complete", vec![&revoked, &bounced, &done]),
        ("in_use=true", vec![&inside]),
        ("in_use=false", vec![&revoked, &bounced, &silent, &done]),
        (&format!("expires_before={soon}"), vec![&revoked, &bounced]),
        ("tenant_id=acme&state=active&issued_by_id=emp-7&in_use=false", vec![&done]),
        ("tenant_id=globex&ticket=SUP-1", vec![]),
    ] {
        let found = walk(&world.admin, "/v1/magic-links", query).await;
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    for wrong in ["state=", "state=active,", "state=active;revoked", "state=open", "ticket=", "in_use=yes"] {
        world.admin.get(&format!("/v1/magic-links?{wrong}")).await.refused(400, "invalid_query");
    }
    // Its own reach is a filter that a client cannot leave.
    let foreign = world.portal("cloud", "globex").await;
    assert!(walk(&foreign, "/v1/magic-links", "ticket=SUP-1").await.is_empty());
    assert!(walk(&foreign, "/v1/magic-links", &own).await.is_empty());
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_link_shows_its_use_and_a_session_its_people_and_its_reason(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = issue(world, &portal, ("emp-7", Some("SUP-1"), 20)).await;
    let read = async || portal.get(&format!("/v1/magic-links/{link}")).await.ok();
    let unused = read().await;
    assert_eq!((&unused["in_use"], &unused["event_count"]), (&json!(false), &json!(0)));
    assert_eq!((unused.get("first_used_at"), unused.get("last_used_at")), (None, None));
    assert_eq!(unused["client_id"], portal.client_id.as_str());

    let first = open(world, &portal, &link).await;
    report(world, &portal, &first, &[1, 2]).await;
    world.clock.advance(Duration::hours(2));
    portal.post(&format!("/v1/magic-links/{link}/resend"), &json!({})).await.ok();
    let second = portal.redeem(&world.click(&world.token(&link, 2).await).await).await.ok();
    report(world, &portal, &second, &[1]).await;
    let used = read().await;
    assert_eq!((&used["in_use"], &used["event_count"]), (&json!(true), &json!(3)));
    assert_eq!((&used["first_used_at"], &used["last_used_at"]), (&first["started_at"], &second["started_at"]));

    let sessions = portal.get("/v1/sessions").await.ok();
    let [newest, oldest] = &sessions["items"].as_array().unwrap()[..] else { panic!("two sessions") };
    for (session, opened, events) in [(newest, &second, 1), (oldest, &first, 2)] {
        assert_eq!((&session["id"], &session["event_count"]), (&opened["id"], &json!(events)));
        assert_eq!((&session["consultant"], &session["profile"]), (&opened["consultant"], &opened["profile"]));
        assert_eq!((&session["reason"], &session["ticket"]), (&used["reason"], &json!("SUP-1")));
        let alone = portal.get(&format!("/v1/sessions/{}", session["id"].as_str().unwrap())).await.ok();
        assert_eq!(alone["consultant"], opened["consultant"]);
    }
    assert_eq!((&oldest["end_cause"], newest.get("end_cause")), (&json!("replaced"), None));
    assert_eq!((&oldest["last_event_at"], &newest["last_event_at"]), (&first["started_at"], &second["started_at"]));

    let other = world.open_session(&portal).await;
    let ids = [&other, &second, &first].map(|session| session["id"].as_str().unwrap().to_owned());
    let started = |session: &Value| session["started_at"].as_str().unwrap().to_owned();
    let consultant = format!("consultant_id={}", first["consultant"]["id"].as_str().unwrap());
    for (query, expected) in [
        ("profile_id=emp-1042".to_owned(), &ids[..]),
        ("profile_id=emp-1".to_owned(), &[]),
        (format!("tenant_id=acme&profile_id=emp-1042&{consultant}"), &ids[1..]),
        (format!("started_from={}", started(&second)), &ids[..2]),
        (format!("started_to={}", started(&second)), &ids[2..]),
        (format!("started_from={}&started_to={}", started(&first), started(&second)), &ids[2..]),
    ] {
        assert_eq!(walk(&portal, "/v1/sessions", &query).await, expected, "{query}");
    }
}
