//! What the consultant gets and sees: mails, fresh mails, and the landing page.

use reqwest::Method;
use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

async fn preview(world: &World, token: &str) -> Value {
    world.stranger().post("/l/preview", &json!({ "token": token })).await.ok()
}

async fn refuses(world: &World, token: &str, status: u16, code: &str) {
    world.stranger().post("/l/continue", &json!({ "token": token })).await.refused(status, code);
}

/// Issues with a start and a duration in days.
async fn issue_days(world: &World, start: Duration, days: i64) -> String {
    let mut request = Api::issue_request(&world.consultant().await);
    request["starts_at"] = json!(world.clock.now().plus(start));
    request["duration"] = json!({ "value": days, "unit": "days" });
    world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned()
}

/// Waits until the newest mail of a link is as wished.
async fn delivery(world: &World, link: &str, wished: impl Fn(&Value) -> bool) -> Value {
    let started = std::time::Instant::now();
    loop {
        let delivery = world.admin.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone();
        if wished(&delivery) {
            return delivery;
        }
        assert!(started.elapsed().as_secs() < 30, "{delivery}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_fresh_mail_comes_after_a_cool_down_and_voids_what_was_before(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let resend = format!("{LINKS}/{link}/resend");
    let old_token = world.token(&link, 1).await;
    for (step, wait) in [(0, 60..=61), (59, 1..=2)] {
        world.clock.advance(Duration::seconds(step));
        let reply = portal.post(&resend, &json!({})).await;
        reply.refused(429, "resend_cool_down");
        let seconds: u64 = reply.header("retry-after").parse().unwrap();
        assert!(wait.contains(&seconds), "{seconds}");
    }
    let old_code = world.click(&old_token).await;
    assert!(portal.events("&type=magic_link.resent").await.is_empty());

    world.clock.advance(Duration::seconds(1));
    let answer = portal.post(&resend, &json!({})).await;
    assert_eq!(answer.status, 202);
    assert!(!answer.text.contains("eyJ"), "no token in the answer");
    let token = world.token(&link, 2).await;
    assert_ne!(token, old_token);
    assert_eq!(preview(world, &old_token).await["state"], "superseded");
    refuses(world, &old_token, 410, "link_superseded").await;
    portal.redeem(&old_code).await.refused(410, "link_superseded");
    portal.post(&resend, &json!({})).await.refused(429, "resend_cool_down");
    let code = world.click(&token).await;
    assert_eq!(portal.redeem(&code).await.status, 201);
    let kinds = portal.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(
        kinds,
        [
            "magic_link.issued",
            "magic_link.mailed",
            "magic_link.continued",
            "magic_link.resent",
            "magic_link.mailed",
            "magic_link.refused",
            "magic_link.refused",
            "magic_link.continued",
            "session.opened",
        ]
    );
    let refused = portal.events("&type=magic_link.refused").await;
    assert!(refused.iter().all(|event| event["data"]["code"] == "link_superseded"), "{refused:?}");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_scheduled_link_opens_from_its_windows_start(world: &World) {
    let link = issue_days(world, Duration::days(3), 1).await;
    // Its mail arrives when it opens, but for a clock that was set.
    world.clock.advance(Duration::days(3));
    let token = world.token(&link, 1).await;
    world.clock.advance(Duration::minutes(2) - Duration::days(3));
    assert_eq!(preview(world, &token).await["state"], "not_yet");
    refuses(world, &token, 409, "link_not_yet_valid").await;
    world.clock.advance(Duration::days(3) - Duration::minutes(2) - Duration::microseconds(1));
    refuses(world, &token, 409, "link_not_yet_valid").await;
    assert!(world.admin.events("&type=session.opened").await.is_empty());
    world.clock.advance(Duration::microseconds(1));
    assert_eq!(preview(world, &token).await["state"], "ready");
    let code = world.click(&token).await;
    assert_eq!(world.admin.redeem(&code).await.status, 201);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_token_too_old_for_its_long_window_is_replaced_from_the_page(world: &World) {
    let link = issue_days(world, Duration::ZERO, 14).await;
    let token = world.token(&link, 1).await;
    world.clock.advance(Duration::days(1) - Duration::seconds(1));
    assert_eq!(preview(world, &token).await["state"], "ready");
    world.clock.advance(Duration::seconds(1));
    let shown = preview(world, &token).await;
    assert_eq!((&shown["state"], &shown["can_resend"]), (&json!("token_expired"), &json!(true)));
    refuses(world, &token, 410, "token_expired").await;

    let asked = world.stranger().post("/l/resend", &json!({ "token": token })).await;
    assert_eq!(asked.ok(), json!({ "state": "queued" }));
    let fresh = world.token(&link, 2).await;
    let addresses: Vec<Value> = world.mails.about(&link).await.iter().map(|mail| mail["To"].clone()).collect();
    assert_eq!(addresses[0], addresses[1], "to the registered address only");
    assert_eq!(preview(world, &token).await["state"], "superseded");
    let code = world.click(&fresh).await;
    assert_eq!(world.admin.redeem(&code).await.status, 201);
    let resent = world.admin.events("&type=magic_link.resent").await;
    assert_eq!((resent.len(), &resent[0]["actor"]["type"]), (1, &json!("consultant")));

    // Asking again at once brings nothing, and says so: the old mail may not void the new one, which has to cool down.
    world.stranger().post("/l/resend", &json!({ "token": token })).await.refused(410, "link_superseded");
    let again = world.stranger().post("/l/resend", &json!({ "token": fresh })).await;
    again.refused(429, "resend_cool_down");
    assert!(again.header("retry-after").parse::<u64>().is_ok_and(|seconds| (60..=121).contains(&seconds)), "{again:?}");
    assert_eq!(world.admin.events("&type=magic_link.resent").await.len(), 1);
    let marker = issue_days(world, Duration::ZERO, 1).await;
    world.mails.wait_for(&marker, 1).await;
    assert_eq!(world.mails.about(&link).await.len(), 2);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_code_lives_a_minute(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let code = world.click(&token).await;
    world.clock.advance(Duration::seconds(61));
    world.admin.redeem(&code).await.refused(410, "token_expired");
    // The raw token is for portals with a landing page of their own.
    world.admin.redeem(&token).await.refused(403, "code_required");
    assert!(world.admin.get(&format!("{LINKS}/{link}")).await.ok().get("spent_at").is_none());
    let code = world.click(&token).await;
    assert_eq!(world.admin.redeem(&code).await.status, 201);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn the_page_names_every_state_and_changes_nothing(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME Ltd", "time_zone": "Asia/Tokyo" })).await.ok();
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let shown = preview(world, &token).await;
    assert_eq!(shown["state"], "ready");
    assert_eq!(shown["tenant"], json!({ "id": "acme", "name": "ACME Ltd" }));
    assert_eq!(shown["portal"], json!({ "id": "cloud", "name": "Cloud" }));
    assert_eq!((&shown["time_zone"], &shown["can_resend"]), (&json!("Asia/Tokyo"), &json!(true)));
    for secret in ["@", "emp-1042", "emp-7", "mlk_", "con_"] {
        assert!(!shown.to_string().contains(secret), "{secret} is not for whoever holds the mail");
    }
    let code = world.click(&token).await;
    portal.redeem(&code).await.ok();
    assert_eq!(preview(world, &token).await["state"], "spent");
    refuses(world, &token, 410, "link_spent").await;
    world.clock.advance(Duration::hours(4));
    let shown = preview(world, &token).await;
    assert_eq!((&shown["state"], &shown["can_resend"]), (&json!("expired"), &json!(false)));
    refuses(world, &token, 410, "link_expired").await;
    portal.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.refused(410, "link_expired");
    world.stranger().post("/l/resend", &json!({ "token": token })).await.refused(410, "link_expired");

    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    portal.post(&format!("{LINKS}/{link}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    let shown = preview(world, &token).await;
    assert_eq!((&shown["state"], &shown["can_resend"]), (&json!("revoked"), &json!(false)));
    assert!(portal.events("&type=magic_link.resent").await.is_empty());
}

/// Where a gateway or a mail program sends somebody who has a link of ours, there is a page that takes it.
#[apply(on_both_databases)]
async fn whatever_is_left_of_a_links_address_is_the_page(world: &World) {
    let link = world.portal("cloud", "acme").await.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let stranger = world.stranger();
    for tail in [
        "",
        "/",
        "//",
        ".",
        "...",
        ")",
        "*",
        "&",
        "&%2335;",
        "%20",
        "%09",
        "%0A",
        "%0D%0A",
        "%22",
        "%3E",
        "%C2%A0",
        "%E2%80%8B",
        "%E2%80%A6",
        "%AD",
        "%23",
        "%2523",
        "%252523",
        "%25252523",
        ".%23",
        "%20%23",
        "%3F%23",
        "%2F%23",
        "-23",
        "=23",
        ":",
        "?",
        ";jsessionid=1",
        "/%20",
        "%5B",
    ] {
        for path in [format!("/l{tail}"), format!("/L{tail}"), format!("//l{tail}"), format!("/l{tail}{token}")] {
            let shown = stranger.get(&path).await;
            let kind = shown.header("content-type").to_owned();
            assert_eq!((shown.status.as_u16(), kind.as_str()), (200, "text/html; charset=utf-8"), "{path}");
            assert!(!shown.text.contains(&token), "{path}");
        }
    }
    for path in [format!("/link/{token}"), format!("/open/{token}/"), format!("/{token}")] {
        assert_eq!(stranger.get(&path).await.status, 200, "{path}");
    }
    // Other words are other paths.
    let v1 = format!("/v1/magic-links/{token}");
    for (path, status) in
        [("/lx", 404), ("/l_x", 404), ("/l1", 404), ("/l/x", 404), ("/links", 404), ("/l/verify", 405), (&v1, 401)]
    {
        assert_eq!(stranger.get(path).await.status, status, "{path}");
    }
}

/// A `%` that begins no escape: what a cut, or the escapes of an old program, leave of a link.
#[apply(on_both_databases)]
async fn half_an_escape_in_a_links_address_is_the_page_too(world: &World) {
    let link = world.portal("cloud", "acme").await.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let (stranger, half) = (world.stranger(), token.len() / 2);
    for tail in
        ["%", "%2", "%3", "%zz", "%u0023", "%u003D", "%%23", "%23%", "%%%", "%25%", "/%", "/%u0023", "%%32%33", "%é"]
    {
        for path in [
            format!("/l{tail}"),
            format!("/L{tail}"),
            format!("//l{tail}"),
            format!("/l{tail}{token}"),
            format!("/l/{tail}{token}"),
            format!("/l%23{token}{tail}"),
            format!("/l{tail}{token}{tail}"),
            format!("/l%23{}{tail}", &token[..half]),
            format!("/l%23{}{tail}{}", &token[..half], &token[half..]),
            format!("/open{tail}/{token}"),
        ] {
            let shown = stranger.get(&path).await;
            let kind = shown.header("content-type").to_owned();
            assert_eq!((shown.status.as_u16(), kind.as_str()), (200, "text/html; charset=utf-8"), "{path}");
            assert!(!shown.text.contains(&token), "{path}");
            let head = stranger.send(stranger.request(Method::HEAD, &path)).await;
            assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""), "{path}");
            let posted = stranger.send(stranger.request(Method::POST, &path).json(&json!({ "token": token }))).await;
            // With the letter behind it, some are whole escapes.
            assert!([400, 405].contains(&posted.status.as_u16()), "{path}: {posted:?}");
        }
    }
    // Other words are other paths.
    for path in ["/lx%", "/l_%", "/l1%zz", "/links%", "/l/preview%", "/l/page.js%", "/v1/%"] {
        stranger.get(path).await.refused(400, "invalid_request");
    }
    let path = format!("/v1/magic-links/{token}%");
    stranger.get(&path).await.refused(400, "invalid_request");
}

#[apply(on_both_databases)]
async fn looking_at_a_link_leaves_it_unspent(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let page = world.stranger();
    let head = page.send(page.request(Method::HEAD, "/l")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    for _ in 0..10 {
        let shown = page.get("/l").await;
        assert_eq!((shown.status.as_u16(), shown.header("cache-control")), (200, "no-store"));
        assert_eq!(shown.header("referrer-policy"), "no-referrer");
        assert!(shown.header("content-security-policy").starts_with("default-src 'none'"));
        assert_eq!(page.get(&format!("/l?token={token}")).await.status, 200);
        assert_eq!(preview(world, &token).await["state"], "ready");
    }
    // Pressing the button often is no spending either.
    let codes = [world.click(&token).await, world.click(&token).await];
    let read = world.admin.get(&format!("{LINKS}/{link}")).await.ok();
    assert_eq!((read.get("spent_at"), &read["state"]), (None, &json!("active")));
    let kinds = world.admin.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(kinds, ["magic_link.issued", "magic_link.mailed", "magic_link.continued", "magic_link.continued"]);
    assert_eq!(world.admin.redeem(&codes[0]).await.status, 201);
    world.admin.redeem(&codes[1]).await.refused(410, "link_spent");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_dead_links_mail_is_cancelled_while_others_wait_for_the_server(world: &World) {
    world.mails.misbehave(wiremock::ResponseTemplate::new(503).insert_header("retry-after", "600"));
    let mut links = Vec::new();
    for _ in 0..4 {
        let link = world.admin.issue(&world.consultant().await).await;
        let waiting = delivery(world, &link, |delivery| delivery["last_error"].is_string()).await;
        assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("queued"), &json!(1)));
        links.push(link);
    }
    let [revoked, superseded, live, suspended] = &links[..] else { unreachable!("four links") };
    world.admin.post(&format!("{LINKS}/{revoked}/revoke"), &json!({ "reason": "Not needed" })).await.ok();
    delivery(world, revoked, |delivery| delivery["state"] == "cancelled").await;
    let consultant = world.admin.get(&format!("{LINKS}/{suspended}")).await.ok()["consultant"]["id"].clone();
    let suspend = format!("/v1/consultants/{}/suspend", consultant.as_str().unwrap());
    world.admin.post(&suspend, &json!({ "reason": "On leave" })).await.ok();
    delivery(world, suspended, |delivery| delivery["state"] == "cancelled").await;

    world.mails.behave();
    world.clock.advance(Duration::seconds(60));
    // What failed waits its ten minutes, so the first generation cannot leave before it is superseded.
    assert_eq!(world.admin.post(&format!("{LINKS}/{superseded}/resend"), &json!({})).await.status, 202);
    delivery(world, superseded, |delivery| delivery["state"] == "accepted").await;
    world.clock.advance(Duration::minutes(11));
    for link in [live, superseded] {
        let taken = delivery(world, link, |delivery| delivery["state"] == "accepted").await;
        assert_eq!(taken["provider"], "mailpit");
    }
    // One failed attempt each; then what lives is mailed once more, in its newest generation.
    let mailed = async |link: &String| world.mails.about(link).await.len();
    assert_eq!((mailed(revoked).await, mailed(suspended).await), (1, 1));
    assert_eq!((mailed(live).await, mailed(superseded).await), (2, 2));
    assert_eq!(preview(world, &world.token(superseded, 2).await).await["state"], "ready");
    assert_eq!(world.admin.events("&type=magic_link.mailed").await.len(), 2);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_expired_link_is_never_mailed_late(world: &World) {
    world.mails.misbehave(wiremock::ResponseTemplate::new(503));
    let link = world.admin.issue(&world.consultant().await).await;
    delivery(world, &link, |delivery| delivery["last_error"].is_string()).await;
    world.mails.behave();
    world.clock.advance(Duration::hours(4));
    let marker = world.admin.issue(&world.consultant().await).await;
    delivery(world, &marker, |delivery| delivery["state"] == "accepted").await;
    delivery(world, &link, |delivery| delivery["state"] == "cancelled").await;
    assert_eq!(world.mails.about(&link).await.len(), 1, "the one that was not taken");
    assert!(world.admin.events(&format!("&magic_link_id={link}&type=magic_link.mailed")).await.is_empty());
}

#[apply(on_both_databases)]
async fn the_callers_host_header_goes_nowhere(world: &World) {
    let canary = "canary.evil.example";
    let send = async |api: &Api, method: Method, path: &str, body: &Value| {
        let request = api.request(method, path).header("host", canary).header("x-forwarded-host", canary);
        let request = request.header("x-forwarded-proto", "gopher").header("forwarded", format!("host={canary}"));
        let reply = api.send(request.header("x-forwarded-for", canary).header("origin", canary).json(body)).await;
        assert!(!reply.text.contains(canary) && !reply.text.contains("gopher"), "{}", reply.text);
        assert!(!format!("{:?}", reply.headers).contains(canary), "{:?}", reply.headers);
        reply
    };
    let page = world.stranger();
    let request = Api::issue_request(&world.consultant().await);
    let issued = send(&world.admin, Method::POST, LINKS, &request).await.ok();
    let link = issued["id"].as_str().unwrap();
    let token = world.token(link, 1).await;
    let body = json!({ "token": token });
    let code = send(&page, Method::POST, "/l/continue", &body).await.ok();
    assert!(code["redirect_url"].as_str().unwrap().starts_with("http://127.0.0.1:8081/acme/cloud/callback?code="));
    let code = crate::support::code_of(&code);
    send(&page, Method::POST, "/l/preview", &body).await.ok();
    send(&page, Method::POST, "/l/resend", &body).await;
    send(&world.admin, Method::POST, "/v1/sessions", &json!({ "token": code })).await.ok();
    for path in
        ["/l", "/docs", "/docs/", "/problems", "/nowhere", "/v1/magic-links", "/.well-known/jwks.json", "/openapi.json"]
    {
        send(&page, Method::GET, path, &json!({})).await;
    }
    for mail in world.mails.all().await {
        let text = mail.to_string();
        assert!(!text.contains(canary) && !text.contains("gopher"), "{text}");
        assert!(text.contains("http://127.0.0.1:8080/l#"));
    }
    let trail = serde_json::to_string(&world.admin.events("").await).unwrap();
    assert!(!trail.contains(canary));
}
