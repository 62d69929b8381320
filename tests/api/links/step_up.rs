//! Step-up: a mailed code between the button and the portal.

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::Duration;

use crate::support::device::{careful, mailed_code};
use crate::support::{Reply, World, apply, code_of, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// A link to the Cloud portal: its id and its token.
async fn link(world: &World) -> (String, String) {
    let link = world.admin.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    (link, token)
}

/// Presses the button: what the page gets.
async fn press(world: &World, token: &str) -> Value {
    let answer = world.stranger().post("/l/continue", &json!({ "token": token })).await.ok();
    assert!(answer.get("redirect_url").is_none(), "{answer}");
    answer["step_up"].clone()
}

/// The code on another page: only what the link itself tells.
async fn verify_elsewhere(world: &World, token: &str, code: &str) -> Reply {
    let shown = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    let body = json!({ "token": token, "id": shown["step_up"]["id"], "code": code });
    world.stranger().post("/l/verify", &body).await
}

async fn verify(world: &World, token: &str, asked: &Value, code: &str) -> Reply {
    let body = json!({ "token": token, "id": asked["id"], "page_secret": asked["page_secret"], "code": code });
    world.stranger().post("/l/verify", &body).await
}

/// Another code than this.
fn wrong(code: &str) -> String {
    format!("{:06}", (code.parse::<u32>().unwrap() + 1) % 1_000_000)
}

async fn is_spent(world: &World, link: &str) -> bool {
    world.admin.get(&format!("{LINKS}/{link}")).await.ok().get("spent_at").is_some()
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_right_code_opens_the_portal_and_nothing_else_does(world: &World) {
    let (link, token) = link(world).await;
    // Looking mails nothing, and a raw token opens nothing.
    world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert!(world.mails.notices("step_up_code").await.is_empty());
    world.admin.redeem(&token).await.refused(403, "step_up_required");
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    verify(world, &token, &asked, &wrong(&code)).await.refused(403, "step_up_code_wrong");
    // What is no code is no try.
    let (head, tail) = code.split_at(3);
    for no_code in ["", "12", "1234567", &"1".repeat(300), &format!("{head} {tail}"), "\u{661}\u{662}\u{663}456"] {
        let refused = verify(world, &token, &asked, no_code).await;
        refused.refused(400, "invalid_body");
        assert_eq!(refused.body["errors"][0]["pointer"], "/code");
    }
    // A page that names a secret names its own.
    let mut elsewhere = asked.clone();
    elsewhere["page_secret"] = json!("A".repeat(43));
    verify(world, &token, &elsewhere, &code).await.refused(410, "step_up_void");
    assert!(!is_spent(world, &link).await);

    let answer = verify(world, &token, &asked, &code).await.ok();
    verify(world, &token, &asked, &code).await.refused(410, "step_up_void");
    let session = world.admin.redeem(&code_of(&answer)).await;
    assert_eq!(session.status, 201);
    assert!(is_spent(world, &link).await);
    let types = world.admin.event_types(&format!("&magic_link_id={link}")).await;
    assert_eq!(
        types,
        [
            "magic_link.issued",
            "magic_link.mailed",
            "magic_link.refused",
            "magic_link.code_sent",
            "magic_link.code_refused",
            "magic_link.code_refused",
            "magic_link.continued",
            "magic_link.code_refused",
            "session.opened",
        ]
    );
    let trail = world.admin.events(&format!("&magic_link_id={link}")).await;
    assert!(!serde_json::to_string(&trail).unwrap().contains(&format!("\"{code}\"")), "no code in the trail");
    // The other portal wants none.
    let mut request = crate::support::Api::issue_request(&world.consultant().await);
    request["portal"] = json!("ess");
    let other = world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    world.click(&world.token(&other, 1).await).await;
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn five_wrong_codes_end_it_however_many_come_at_once(world: &World) {
    let (link, token) = link(world).await;
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    let guess = wrong(&code);
    let crowd = join_all((0..20).map(|_| verify(world, &token, &asked, &guess))).await;
    let looked_at = crowd.iter().filter(|reply| reply.code() == "step_up_code_wrong").count();
    let ended = crowd.iter().filter(|reply| reply.code() == "step_up_void").count();
    assert_eq!((looked_at, ended), (5, 15));
    verify(world, &token, &asked, &code).await.refused(410, "step_up_void");
    assert!(!is_spent(world, &link).await);
    assert_eq!(world.admin.events("&type=magic_link.code_refused").await.len(), 21);
    // A new asking works, but not at once.
    let again = world.stranger().post("/l/continue", &json!({ "token": token })).await;
    again.refused(429, "resend_cool_down");
    world.clock.advance(Duration::seconds(31));
    let asked = press(world, &token).await;
    let fresh = mailed_code(world, 2).await;
    // Of the codes of a link the newest alone counts, also where the one before has attempts left.
    world.clock.advance(Duration::seconds(31));
    let newest = press(world, &token).await;
    let newest_code = mailed_code(world, 3).await;
    verify(world, &token, &asked, &fresh).await.refused(410, "step_up_void");
    verify(world, &token, &newest, &newest_code).await.ok();
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_counts_ten_minutes_and_dies_with_its_link(world: &World) {
    let (link, token) = link(world).await;
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    world.clock.advance(Duration::minutes(10));
    verify(world, &token, &asked, &code).await.refused(410, "step_up_void");
    let asked = press(world, &token).await;
    let code = mailed_code(world, 2).await;
    assert_eq!(world.admin.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.status, 202);
    verify(world, &token, &asked, &code).await.refused(410, "link_superseded");
    let fresh = world.token(&link, 2).await;
    verify(world, &fresh, &asked, &code).await.refused(410, "step_up_void");
    // Five an hour, for whoever presses on and on.
    for count in 3..=5 {
        world.clock.advance(Duration::seconds(31));
        press(world, &fresh).await;
        mailed_code(world, count).await;
    }
    world.clock.advance(Duration::seconds(31));
    let refused = world.stranger().post("/l/continue", &json!({ "token": fresh })).await;
    refused.refused(429, "resend_cool_down");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 1_000, "{refused:?}");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn the_code_is_entered_where_the_link_is_opened_again(world: &World) {
    let (_, token) = link(world).await;
    let shown = async || world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert!(shown().await.get("step_up").is_none(), "none was mailed");
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    let mail = world.mails.notices("step_up_code").await[0]["Text"].as_str().unwrap().to_owned();
    assert!(mail.contains("on the page of your access link") && !mail.contains("window"), "{mail}");
    let open = shown().await;
    assert_eq!((&open["state"], &open["step_up"]["id"]), (&json!("ready"), &asked["id"]));
    assert_eq!(open["step_up"]["expires_at"], asked["expires_at"]);
    assert!(open["step_up"].get("page_secret").is_none());
    // Attempts count per code, wherever they are made.
    for _ in 0..2 {
        verify_elsewhere(world, &token, &wrong(&code)).await.refused(403, "step_up_code_wrong");
        verify(world, &token, &asked, &wrong(&code)).await.refused(403, "step_up_code_wrong");
    }
    let opened = verify_elsewhere(world, &token, &code).await.ok();
    assert!(shown().await.get("step_up").is_none(), "used");
    assert_eq!(world.admin.redeem(&code_of(&opened)).await.status, 201);
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_that_is_over_is_offered_to_nobody(world: &World) {
    let (link, token) = link(world).await;
    let is_open = async |token: &str| {
        world.stranger().post("/l/preview", &json!({ "token": token })).await.ok().get("step_up").is_some()
    };
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    for _ in 0..5 {
        assert!(is_open(&token).await);
        verify(world, &token, &asked, &wrong(&code)).await.refused(403, "step_up_code_wrong");
    }
    assert!(!is_open(&token).await, "no attempt is left");
    world.clock.advance(Duration::minutes(1));
    press(world, &token).await;
    assert!(is_open(&token).await);
    world.clock.advance(Duration::minutes(10));
    assert!(!is_open(&token).await, "ten minutes");
    press(world, &token).await;
    assert_eq!(world.admin.post(&format!("{LINKS}/{link}/resend"), &json!({})).await.status, 202);
    let fresh = world.token(&link, 2).await;
    assert!(!is_open(&fresh).await && !is_open(&token).await, "another generation");
}

#[apply(on_both_databases)]
#[settings(careful())]
async fn a_code_counts_for_its_own_time_whatever_becomes_of_the_token(world: &World) {
    let mut request = crate::support::Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": 3, "unit": "days" });
    let link = world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let token = world.token(&link, 1).await;
    // Four minutes before the token is too old.
    world.clock.advance(Duration::hours(24) - Duration::minutes(4));
    let asked = press(world, &token).await;
    let code = mailed_code(world, 1).await;
    world.clock.advance(Duration::minutes(9));
    let shown = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!((&shown["state"], &shown["step_up"]["id"]), (&json!("ready"), &asked["id"]));
    verify(world, &token, &asked, &wrong(&code)).await.refused(403, "step_up_code_wrong");
    let answer = verify_elsewhere(world, &token, &code).await.ok();
    assert_eq!(world.admin.redeem(&code_of(&answer)).await.status, 201);
    // Of the token itself nothing else is left.
    let shown = world.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
    assert_eq!(shown["state"], "spent");
}
