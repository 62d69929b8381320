//! A fresh link from the landing page: whoever shows a token of ours hears whether one is on its way.

use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use crate::support::{
    Api, Reply, Settings, Sql, World, apply, eventually, hold_mails, on_both_databases, release_mails,
};

const LINKS: &str = "/v1/magic-links";

fn limited(limits: &str) -> Settings {
    Settings { config: limits.to_owned(), ..Settings::manual_clock() }
}

async fn press(world: &World, token: &str) -> Reply {
    world.stranger().post("/l/resend", &json!({ "token": token })).await
}

async fn preview(world: &World, token: &str) -> Value {
    world.stranger().post("/l/preview", &json!({ "token": token })).await.ok()
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn seven_customers_seven_presses_seven_mails(world: &World) {
    let consultant = world.consultant().await;
    let mut tokens = Vec::new();
    for _ in 0..7 {
        let link = world.admin.issue(&consultant).await;
        tokens.push((world.token(&link, 1).await, link));
    }
    let (token, _) = &tokens[0];
    let early = press(world, token).await;
    early.refused(429, "resend_cool_down");
    assert!((59..=61).contains(&early.header("retry-after").parse::<i64>().unwrap()), "{early:?}");
    world.clock.advance(Duration::seconds(60));
    for (token, link) in &tokens {
        assert_eq!(press(world, token).await.status, 202);
        world.token(link, 2).await;
    }
    assert_eq!(world.admin.events("&type=magic_link.resent").await.len(), 7);
    press(world, "nothing at all").await.refused(400, "token_invalid");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_old_mail_hears_of_the_newer_one_and_cannot_replace_it(world: &World) {
    let mut request = Api::issue_request(&world.consultant().await);
    request["duration"] = json!({ "value": 2, "unit": "weeks" });
    let link = world.admin.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned();
    let old = world.token(&link, 1).await;
    world.clock.advance(Duration::hours(1));
    assert_eq!(press(world, &old).await.status, 202);
    let newer = world.token(&link, 2).await;
    let delivered = eventually("the mail is taken", async || {
        let delivery = world.admin.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone();
        (delivery["state"] == "accepted").then_some(delivery)
    })
    .await;

    world.clock.advance(Duration::hours(23));
    let shown = preview(world, &old).await;
    assert_eq!((&shown["state"], &shown["can_resend"]), (&json!("superseded"), &json!(false)));
    assert_eq!(shown["newest_mailed_at"], delivered["at"]);
    let refused = press(world, &old).await;
    refused.refused(410, "link_superseded");
    let at = delivered["at"].as_str().unwrap();
    assert!(refused.body["detail"].as_str().unwrap().contains(at), "{refused:?}");
    assert_eq!(preview(world, &newer).await["state"], "ready", "it still works");
    // It is as old as a token lives: whoever finds the first mail only may ask.
    world.clock.advance(Duration::hours(1));
    assert_eq!(preview(world, &old).await["can_resend"], true);
    assert_eq!(press(world, &old).await.status, 202);
    world.token(&link, 3).await;
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn where_the_newer_mail_failed_the_old_one_asks_again(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let old = world.token(&link, 1).await;
    world.clock.advance(Duration::minutes(2));
    world.mails.misbehave(wiremock::ResponseTemplate::new(400));
    assert_eq!(press(world, &old).await.status, 202);
    eventually("the mail fails", async || {
        let delivery = world.admin.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone();
        (delivery["state"] == "failed").then_some(())
    })
    .await;
    world.mails.behave();
    assert_eq!(preview(world, &old).await["can_resend"], true);
    let early = press(world, &old).await;
    early.refused(429, "resend_cool_down");
    world.clock.advance(Duration::seconds(early.header("retry-after").parse().unwrap()));
    assert_eq!(press(world, &old).await.status, 202);
}

#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 4"))]
async fn nobody_gets_more_than_so_many_mails_an_hour(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let consultant = world.consultant().await;
    let mut links = Vec::new();
    for number in 0..4 {
        let mut request = Api::issue_request(&consultant);
        // An address is the same in upper and lower case.
        let admin = request["issued_by"]["email"].as_str().unwrap().to_owned();
        request["issued_by"]["email"] = json!(if number % 2 == 0 { admin.to_uppercase() } else { admin });
        links.push(portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned());
    }
    let refused = portal.post(LINKS, &Api::issue_request(&consultant)).await;
    refused.refused(429, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0, "{refused:?}");
    // Fresh ones count, too; another consultant's do not, nor do those of another client (`links::outlived`).
    let token = world.token(&links[0], 1).await;
    world.clock.advance(Duration::minutes(2));
    let resend = format!("{LINKS}/{}/resend", links[0]);
    portal.post(&resend, &json!({})).await.refused(429, "rate_limited");
    press(world, &token).await.refused(429, "rate_limited");
    let other = portal.issue(&world.consultant().await).await;

    // The admin of all five has heard of four; the others are not sent, and no grant fails for it.
    let notices = eventually("all notices are settled", async || {
        let told = world.admin.get("/v1/mail-deliveries?template=access_issued").await.ok();
        let items = told["items"].as_array().unwrap().clone();
        let is_settled = |state: &Value| state == "accepted" || state == "cancelled";
        (items.len() == 5 && items.iter().all(|item| is_settled(&item["state"]))).then_some(items)
    })
    .await;
    let sent = notices.iter().filter(|notice| notice["state"] == "accepted").count();
    let withheld = notices.iter().find(|notice| notice["state"] == "cancelled").unwrap();
    assert_eq!(sent, 4, "{notices:?}");
    assert_eq!(withheld["last_error"], "the address had its limit of notices within the hour");
    world.mails.wait_for(&other, 1).await;
    world.clock.advance(Duration::hours(1));
    assert_eq!(portal.post(&resend, &json!({})).await.status, 202);
}

// One batch of the queue holds more than may leave.
#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 3"))]
async fn a_burst_of_notices_is_not_above_the_limit(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let mut consultants = Vec::new();
    for _ in 0..12 {
        consultants.push(world.consultant().await);
    }
    for consultant in &consultants {
        portal.issue(consultant).await;
    }
    // As if none had been tried.
    hold_mails(world).await;
    let fresh = "UPDATE mail_jobs SET attempts = 0, state = 'queued', last_error = NULL WHERE finished_at IS NULL";
    Sql::of(world).run(fresh).unwrap();
    // The provider is asked again.
    world.clock.advance(Duration::minutes(6));
    world.mails.behave();
    release_mails(world);
    let settled = async || {
        let told = world.admin.get("/v1/mail-deliveries?template=access_issued").await.ok();
        let states: Vec<String> =
            told["items"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap().to_owned()).collect();
        states.iter().all(|state| state == "accepted" || state == "cancelled").then_some(states)
    };
    let states = eventually("all are settled", settled).await;
    let sent = states.iter().filter(|state| *state == "accepted").count();
    assert_eq!((sent, states.len()), (3, 12), "{states:?}");
}

/// Waits until all mails of a template are settled; how many were sent.
async fn sent_of(world: &World, template: &str, number: usize) -> usize {
    let mails = eventually("all are settled", async || {
        let mails = world.admin.get(&format!("/v1/mail-deliveries?page_size=200&template={template}")).await.ok();
        let states: Vec<_> = mails["items"].as_array().unwrap().iter().map(|mail| mail["state"].clone()).collect();
        let is_settled = |state: &Value| state == "accepted" || state == "cancelled";
        (states.len() == number && states.iter().all(is_settled)).then_some(states)
    });
    mails.await.iter().filter(|state| *state == "accepted").count()
}

// Whoever is no customer is named by one client for many of them.
#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 2"))]
async fn a_stranger_is_not_flooded_with_notices_of_many_tenants(world: &World) {
    let client = world.client(None, &["*"], &["links:issue"]).await;
    for _ in 0..6 {
        let consultant = world.consultant().await;
        for _ in 0..2 {
            let mut request = Api::issue_request(&consultant);
            let profile = request["profile"]["id"].as_str().unwrap();
            request["tenant_id"] = json!(format!("invented-{profile}-{consultant}"));
            request["issued_by"]["email"] = json!("Stranger@elsewhere.example");
            client.post(LINKS, &request).await.ok();
        }
    }
    assert_eq!(sent_of(world, "access_issued", 12).await, 8, "four times as many as for one tenant");
    // What is no news to anybody else is told all the same.
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!("hr@globex.example");
    client.post(LINKS, &request).await.ok();
    assert_eq!(sent_of(world, "access_issued", 13).await, 9);
}

// What must not be missed is held back only from those who heard so many times of the very same.
#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 1"))]
async fn a_stranger_is_not_flooded_with_emergencies(world: &World) {
    let client = world.client(None, &["*"], &["links:issue", "links:emergency"]).await;
    let emergency = async |tenant: &str, by: &str| {
        let contacts = json!({ "name": tenant, "contacts": [{ "name": "Anil Rao", "email": "anil@group.example" }] });
        world.admin.put(&format!("/v1/tenants/{tenant}"), &contacts).await.ok();
        let allowed = json!({ "emergency": "allowed" });
        world.admin.put(&format!("/v1/tenants/{tenant}/policy"), &allowed).await.ok();
        let mut request = Api::issue_request(&world.consultant().await);
        request["tenant_id"] = json!(tenant);
        request["issued_by"]["email"] = json!(by);
        request["emergency"] = json!({ "justification": "Salaries are paid in one hour, and the run is stuck" });
        client.post(LINKS, &request).await.ok();
    };
    for number in 0..5 {
        emergency(&format!("customer-{number}"), "stranger@elsewhere.example").await;
    }
    assert_eq!(sent_of(world, "emergency_issued", 10).await, 8, "four to each");
    emergency("customer-5", "meera@customer.example").await;
    assert_eq!(sent_of(world, "emergency_issued", 12).await, 9);
}

// One client has links of a consultant mailed afresh for one tenant after the other.
#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 1"))]
async fn a_consultant_is_not_flooded_with_fresh_links_of_many_tenants(world: &World) {
    let consultant = world.consultant().await;
    let mut links = Vec::new();
    for number in 0..5 {
        let client = world.client(None, &["*"], &["links:issue"]).await;
        let mut request = Api::issue_request(&consultant);
        request["tenant_id"] = json!(format!("customer-{number}"));
        links.push(client.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned());
    }
    world.clock.advance(Duration::minutes(61));
    let resend = async |link: &str| world.admin.post(&format!("{LINKS}/{link}/resend"), &json!({})).await;
    for link in &links[..4] {
        resend(link).await.ok();
    }
    resend(&links[0]).await.refused(429, "resend_cool_down");
    resend(&links[4]).await.refused(429, "rate_limited");
    world.clock.advance(Duration::minutes(61));
    resend(&links[4]).await.ok();
}

// Each change is told to the address before.
#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_recipient_hour = 2"))]
async fn an_address_that_is_moved_to_and_fro_is_told_so_often_and_no_more(world: &World) {
    let (here, there) = ("Stranger@elsewhere.example", "other@elsewhere.example");
    let person = json!({ "name": "Ravi Kumar", "email": here });
    let consultant = world.admin.post("/v1/consultants", &person).await.ok()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/consultants/{consultant}");
    let moves = async |client: &Api, to: &str| client.patch(&path, &json!({ "email": to })).await;
    let mut clients = vec![world.admin.clone()];
    for _ in 0..4 {
        clients.push(world.client(None, &["*"], &["admin", "consultants:write"]).await);
    }
    for client in &clients[..4] {
        for to in [there, here, there, here] {
            moves(client, to).await.ok();
        }
        let refused = moves(client, there).await;
        refused.refused(429, "rate_limited");
        assert!(refused.header("retry-after").parse::<i64>().unwrap() > 0, "{refused:?}");
        assert_eq!(world.admin.get(&path).await.ok()["email"], here, "nothing was changed");
    }
    // Who has moved nothing may as long as all of them have not moved it four times as often. A name tells nobody.
    moves(&clients[4], there).await.refused(429, "rate_limited");
    moves(&clients[4], &here.to_uppercase()).await.ok();
    clients[4].patch(&path, &json!({ "name": "Ravi S. Kumar" })).await.ok();
    assert_eq!(sent_of(world, "address_changed", 16).await, 16);
    world.clock.advance(Duration::minutes(61));
    moves(&clients[0], there).await.ok();
    assert_eq!(sent_of(world, "address_changed", 17).await, 17);
}

#[apply(on_both_databases)]
#[settings(limited("limits.mails_per_tenant_day = 3"))]
async fn tenants_that_nobody_registered_share_one_limit_of_the_day(world: &World) {
    let consultant = world.consultant().await;
    let issue = async |tenant: &str| {
        let mut request = Api::issue_request(&consultant);
        request["tenant_id"] = json!(tenant);
        world.admin.post(LINKS, &request).await
    };
    for number in 0..3 {
        assert_eq!(issue(&format!("invented-{number}")).await.status, 201);
    }
    let refused = issue("invented-3").await;
    refused.refused(429, "rate_limited");
    assert!(refused.body["detail"].as_str().unwrap().contains("never registered"), "{refused:?}");
    world.admin.put("/v1/tenants/acme", &json!({ "name": "ACME" })).await.ok();
    assert_eq!(issue("acme").await.status, 201, "a customer is not stopped by it");
    world.clock.advance(Duration::days(1));
    assert_eq!(issue("invented-3").await.status, 201);
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_newer_mail_that_waits_was_not_mailed(world: &World) {
    let link = world.admin.issue(&world.consultant().await).await;
    let old = world.token(&link, 1).await;
    world.clock.advance(Duration::hours(1));
    world.mails.misbehave_about("\"Tags\":[\"magic_link\"]", ResponseTemplate::new(503));
    assert_eq!(press(world, &old).await.ok(), json!({ "state": "queued" }));
    eventually("an attempt has failed", async || {
        let delivery = world.admin.get(&format!("{LINKS}/{link}")).await.ok()["delivery"].clone();
        (delivery["state"] == "queued" && delivery["attempts"] == 1).then_some(())
    })
    .await;
    let shown = preview(world, &old).await;
    assert_eq!((&shown["state"], &shown["newest_mail"]), (&json!("superseded"), &json!("waiting")));
    assert_eq!((shown.get("newest_mailed_at"), &shown["can_resend"]), (None, &json!(false)), "{shown}");
    let refused = press(world, &old).await;
    refused.refused(410, "link_superseded");
    assert_eq!(refused.body["detail"], "a newer link waits to be mailed; use that one");

    world.mails.behave();
    world.clock.advance(Duration::minutes(1));
    let shown = eventually("the mail is out", async || {
        let shown = preview(world, &old).await;
        (shown["newest_mail"] == "mailed").then_some(shown)
    })
    .await;
    assert!(shown["newest_mailed_at"].is_string(), "{shown}");
}
