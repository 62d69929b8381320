//! No request, no message and no repeat outlives the right of the client behind it; nobody decides on the own access.

use std::process::Stdio;

use serde_json::{Value, json};
use time::Duration;

use super::approvals::{acme, act, approval, id, vikram};
use crate::support::{Api, Process, Receiver, Settings, Signer, Sql, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";

fn always() -> Value {
    json!({"required_for": "always"})
}

async fn change(world: &World, client: &Api, with: Value) {
    world.admin.patch(&format!("/v1/clients/{}", client.client_id), &with).await.ok();
}

#[apply(on_both_databases)]
async fn what_a_client_asked_for_is_not_approved_once_it_could_not_ask(world: &World) {
    let portal = acme(world, &json!({"required_for": "none", "longer_than": {"value": 4, "unit": "hours"}})).await;
    let consultant = world.consultant().await;
    let link = portal.post(LINKS, &Api::issue_request(&consultant)).await.ok();
    let ask = async |caller: &Api| {
        let mut request = Api::issue_request(&consultant);
        request["profile"]["id"] = json!(caller.client_id);
        let asked = caller.post(LINKS, &request).await.ok();
        assert_eq!(asked["state"], "pending");
        asked
    };
    let narrowed = world.client(Some("cloud"), &["acme", "globex"], &["links:request"]).await;
    let asked = ask(&narrowed).await;
    change(world, &narrowed, json!({"tenants": ["globex"]})).await;
    act(&portal, id(&asked), "approve", &approval()).await.refused(403, "client_not_permitted");
    change(world, &narrowed, json!({"tenants": ["acme"], "scopes": ["links:read"]})).await;
    act(&portal, id(&asked), "approve", &approval()).await.refused(403, "client_not_permitted");
    change(world, &narrowed, json!({"scopes": ["links:request"]})).await;
    act(&portal, id(&asked), "approve", &approval()).await.ok();

    let longer = json!({"duration": {"value": 3, "unit": "hours"}, "reason": "It takes a little longer",
        "extended_by": {"id": "emp-7", "name": "Meera Iyer", "email": "hr@acme.example"}});
    let waiting = narrowed.post(&format!("{LINKS}/{}/extend", id(&link)), &longer).await.ok();
    let extension = format!("extensions/{}", waiting["extension"]["id"].as_str().unwrap());
    change(world, &narrowed, json!({"scopes": ["links:read"]})).await;
    let refused = act(&portal, id(&link), &format!("{extension}/approve"), &approval()).await;
    refused.refused(403, "client_not_permitted");
    act(&portal, id(&link), &format!("{extension}/withdraw"), &json!({})).await.ok();

    let disabled = world.client(Some("cloud"), &["acme"], &["links:request"]).await;
    let waiting = disabled.post(&format!("{LINKS}/{}/extend", id(&link)), &longer).await.ok();
    world.admin.post(&format!("/v1/clients/{}/disable", disabled.client_id), &json!({})).await.ok();
    let extension = format!("extensions/{}/approve", waiting["extension"]["id"].as_str().unwrap());
    act(&portal, id(&link), &extension, &approval()).await.refused(409, "client_disabled");
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&link))).await.ok()["expires_at"], link["expires_at"]);
    let refusals = world.admin.events("&type=magic_link.refused").await;
    assert_eq!(refusals.iter().filter(|event| event["data"]["code"] == "client_disabled").count(), 1, "{refusals:?}");
}

#[apply(on_both_databases)]
async fn a_replacement_needs_the_right_to_revoke_when_it_is_approved(world: &World) {
    let portal = acme(world, &always()).await;
    let asker = world.client(Some("cloud"), &["acme"], &["links:request", "links:revoke"]).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["replace"] = json!(true);
    let asked = asker.post(LINKS, &request).await.ok();
    change(world, &asker, json!({"scopes": ["links:request"]})).await;
    act(&portal, id(&asked), "approve", &approval()).await.refused(403, "client_not_permitted");
}

#[apply(on_both_databases)]
async fn a_redemption_is_not_repeated_for_a_client_that_lost_the_tenant(world: &World) {
    let portal = world.client(Some("cloud"), &["acme", "globex"], &["links:issue", "sessions:redeem"]).await;
    let link = portal.issue(&world.consultant().await).await;
    let body = json!({"token": world.click(&world.token(&link, 1).await).await});
    let opened = portal.post_once("/v1/sessions", "one", &body).await.ok();
    let again = portal.post_once("/v1/sessions", "one", &body).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.ok()["id"], opened["id"]);
    change(world, &portal, json!({"tenants": ["globex"]})).await;
    portal.post_once("/v1/sessions", "one", &body).await.refused(404, "not_found");
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed_on_manual_clock())]
async fn a_message_that_waits_is_not_sent_to_a_client_that_lost_the_tenant(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(500);
    let client = world.client(Some("cloud"), &["acme", "globex"], &["links:issue", "webhooks:manage"]).await;
    let endpoint = receiver.endpoint_of(&client).await;
    client.issue(&world.consultant().await).await;
    receiver.wait_for(1).await;
    change(world, &client, json!({"tenants": ["globex"]})).await;
    receiver.answer_with(200);
    let list = format!("/v1/webhook-endpoints/{}/deliveries", endpoint["id"].as_str().unwrap());
    eventually("the message is cancelled", async || {
        world.clock.advance(Duration::seconds(5));
        let items = world.admin.get(&list).await.ok()["items"].clone();
        (items[0]["state"] == "cancelled").then_some(())
    })
    .await;
    assert_eq!(receiver.messages().await.len(), 1, "the first attempt");
    // It says of the tenant that was lost: what there was is nothing to the client any more.
    assert_eq!(client.get(&list).await.ok()["items"], json!([]));
}

#[apply(on_both_databases)]
async fn nobody_reviews_the_own_emergency(world: &World) {
    world.admin.put("/v1/tenants/acme", &json!({"name": "ACME"})).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({"emergency": "allowed"})).await.ok();
    let scopes = ["links:issue", "links:emergency", "links:approve", "links:revoke"];
    let portal = world.client(Some("cloud"), &["acme"], &scopes).await;
    let consultant = world.consultant().await;
    let mut request = Api::issue_request(&consultant);
    request["emergency"] = json!({"justification": "Salaries are paid in one hour, and the run is stuck"});
    request["requested_by"] = json!({"id": "emp-99", "name": "Sunil Das"});
    let link = portal.post_once(LINKS, "urgent", &request).await.ok();
    act(&portal, id(&link), "revoke", &json!({"reason": "The work is done"})).await.ok();
    let review = |reviewer: &str| json!({"reviewer": {"id": reviewer, "name": "Somebody"}, "finding": "justified", "comment": "It was needed"});
    for party in ["emp-7", "EMP-7", "emp-99", "Emp-99", &consultant.to_uppercase()] {
        act(&portal, id(&link), "review", &review(party)).await.refused(403, "own_request");
    }
    let path = format!("{LINKS}/{}/review", id(&link));
    portal.post_once(&path, "review", &review("emp-8")).await.ok();
    assert_eq!(portal.post_once(&path, "review", &review("emp-8")).await.header("idempotency-replayed"), "true");
}

#[apply(on_both_databases)]
async fn every_repeat_says_that_it_is_one(world: &World) {
    let portal = acme(world, &always()).await;
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let order = json!({"tenant_id": "acme", "ticket": "SUP-1", "reason": "The ticket was closed"});
    for (path, body) in [(format!("{LINKS}/{}/approve", id(&asked)), approval()), ("/v1/revocations".to_owned(), order)]
    {
        let first = portal.post_once(&path, "one", &body).await;
        assert!(first.status.is_success() && first.header("idempotency-replayed").is_empty(), "{first:?}");
        let again = portal.post_once(&path, "one", &body).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (first.status, "true"), "{path}");
    }
}

/// The same signature as its mathematical twin: of (r, s), (r, n - s).
fn twin(jws: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let (word, signature) = jws.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for place in (0..32).rev() {
        let order = i32::from(u8::from_str_radix(&ORDER[2 * place..2 * place + 2], 16).unwrap());
        let digit = order - i32::from(signature[32 + place]) - borrow;
        borrow = i32::from(digit < 0);
        signature[32 + place] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    format!("{word}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[apply(on_both_databases)]
async fn a_signed_change_is_good_once_however_it_is_signed(world: &World) {
    acme(world, &always()).await;
    let keeper = world.client(None, &["acme"], &["policies:write", "tenants:read"]).await;
    let (key, now) = (Signer::new(), world.clock.now().unix_seconds());
    let (path, remove) = ("/v1/tenants/acme/approval-key", "/v1/tenants/acme/approval-key/remove");
    keeper.put(path, &json!({"public_key": key.jwk()})).await.ok();
    let word = key.successor("acme", "none", now + 2);
    keeper.post(remove, &json!({"signed_change": word})).await.ok();
    keeper.put(path, &json!({"public_key": key.jwk()})).await.ok();
    for again in [word.clone(), twin(&word)] {
        keeper.post(remove, &json!({"signed_change": again})).await.refused(403, "customer_signature_invalid");
    }
    assert_eq!(keeper.get(path).await.ok()["required"], true);
}

#[apply(on_both_databases)]
#[settings(Settings { config: "limits.mails_per_recipient_hour = 3".into(), ..Settings::manual_clock() })]
async fn warnings_and_questions_have_a_limit_that_the_caller_sees(world: &World) {
    let portal = acme(world, &always()).await;
    // There is one contact; who only tightens never waits.
    let policy = async |hours: i64| {
        let policy = json!({"approval": always(), "max_duration": {"value": hours, "unit": "hours"}});
        world.admin.put("/v1/tenants/acme/policy", &policy).await
    };
    let replies = [policy(4).await, policy(5).await, policy(6).await, policy(7).await, policy(8).await];
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status.as_u16()).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 429]);
    // Another client has a room of its own.
    let loosest = json!({"approval": always(), "max_duration": {"value": 9, "unit": "hours"}});
    let policies = world.client(None, &["acme"], &["policies:write"]).await;
    policies.put("/v1/tenants/acme/policy", &loosest).await.ok();
    policy(5).await.ok();
    // Of those who keep others from hearing of an emergency, or of a question: none.
    let ask = async |caller: &Api, profile: &str| {
        let mut request = Api::issue_request(&world.consultant().await);
        request["profile"]["id"] = json!(profile);
        caller.post(LINKS, &request).await
    };
    for profile in ["emp-1", "emp-2", "emp-3"] {
        ask(&portal, profile).await.ok();
    }
    let refused = ask(&portal, "emp-4").await;
    refused.refused(429, "rate_limited");
    assert!(!refused.header("retry-after").is_empty());
    eventually("all are asked", async || (world.mails.notices("approval_requested").await.len() == 3).then_some(()))
        .await;
    // Others go on asking, whatever one client has asked and withdrawn.
    let weak = world.client(Some("cloud"), &["acme"], &["links:request"]).await;
    for _ in 0..3 {
        let asked = ask(&weak, "emp-5").await.ok();
        weak.post(&format!("{LINKS}/{}/withdraw", id(&asked)), &json!({})).await.ok();
    }
    ask(&weak, "emp-5").await.refused(429, "rate_limited");
    ask(&world.portal("cloud", "acme").await, "emp-6").await.ok();
    world.clock.advance(Duration::minutes(61));
    ask(&portal, "emp-4").await.ok();
}

#[apply(on_both_databases)]
#[settings(Settings { config: "limits.mails_per_recipient_hour = 2".into(), ..Settings::manual_clock() })]
async fn one_client_uses_up_nothing_of_what_others_may_mail(world: &World) {
    let (noisy, other) = (world.portal("cloud", "acme").await, world.portal("cloud", "globex").await);
    let consultant = world.consultant().await;
    let issue = async |caller: &Api, tenant: &str, profile: &str| {
        let mut request = Api::issue_request(&consultant);
        request["tenant_id"] = json!(tenant);
        request["profile"]["id"] = json!(profile);
        request["issued_by"]["email"] = json!("dpo@globex.example");
        caller.post(LINKS, &request).await
    };
    let link = issue(&noisy, "acme", "emp-1").await.ok();
    issue(&noisy, "acme", "emp-1").await.refused(409, "access_exists");
    issue(&noisy, "acme", "emp-2").await.refused(429, "rate_limited");
    let theirs = issue(&other, "globex", "emp-1").await.ok();
    world.mails.wait_for(id(&theirs), 1).await;

    // Of forty new ends the consultant and the admin hear of two, or of what leaves together with those.
    for _ in 0..40 {
        let longer = json!({"duration": {"value": 1, "unit": "hours"}, "reason": "It takes a little longer",
            "extended_by": {"id": "emp-7", "name": "Meera Iyer"}});
        noisy.post(&format!("{LINKS}/{}/extend", id(&link)), &longer).await.ok();
    }
    let mut sql = Sql::of(world);
    eventually("all are settled", async || (sql.count("FROM mail_jobs WHERE finished_at IS NULL") == 0).then_some(()))
        .await;
    let told = |sql: &mut Sql, template: &str| {
        sql.count(&format!("FROM mail_jobs WHERE template = '{template}' AND state = 'accepted'"))
    };
    let (moved, changed) = (told(&mut sql, "access_moved"), told(&mut sql, "access_changed"));
    assert!((2..=18).contains(&moved) && changed <= 18, "{moved} {changed}");
    // What they caused at that address does not count for another tenant.
    other.post(&format!("{LINKS}/{}/revoke", id(&theirs)), &json!({"reason": "The work is done"})).await.ok();
    eventually("the admin is told", async || {
        (sql.count("FROM mail_jobs WHERE template = 'access_revoked' AND state = 'accepted'") == 1).then_some(())
    })
    .await;
}

#[apply(on_both_databases)]
#[settings(Settings { config: "limits.mails_per_recipient_hour = 1".into(), ..Settings::default() })]
async fn an_emergency_is_told_whatever_was_mailed_before(world: &World) {
    let tenant = json!({"name": "ACME", "contacts": [{"name": "Anil Rao", "email": "anil@acme.example"}]});
    world.admin.put("/v1/tenants/acme", &tenant).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({"emergency": "allowed"})).await.ok();
    let portal = world.client(Some("cloud"), &["acme"], &["links:issue", "links:emergency", "links:revoke"]).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["issued_by"]["email"] = json!("anil@acme.example");
    // The one notice of the hour.
    eventually("one notice", async || (!world.mails.notices("policy_loosened").await.is_empty()).then_some(())).await;
    request["emergency"] = json!({"justification": "Salaries are paid in one hour, and the run is stuck"});
    portal.post(LINKS, &request).await.ok();
    eventually("it is told", async || world.mails.notices("emergency_issued").await.pop()).await;
}

/// Another tenant's flood of notices is in the queue before the link, and after it all the same.
#[apply(on_both_databases)]
async fn tenants_take_turns_in_a_long_queue_of_mails(world: &World) {
    const FLOOD: usize = 3_000;
    let (noisy, other) = (world.portal("cloud", "acme").await, world.portal("cloud", "globex").await);
    let link = noisy.issue(&world.consultant().await).await;
    world.mails.wait_for(&link, 1).await;
    let (numbers, number) = Sql::numbers(world.database, FLOOD);
    let mut sql = Sql::of(world);
    sql.run(&format!(
        "INSERT INTO mail_jobs (id, template, dedup_key, consultant_id, tenant_id, portal, magic_link_id, recipient, state, attempts,
         unknown_attempts, retry_round, next_attempt_at, created_at)
         SELECT 'mjb_' || {number}, 'access_issued', 'flood ' || {number}, consultant_id, tenant_id,
         portal, magic_link_id, 'flood' || {number} || '@acme.example', 'queued', 0, 0, 0, created_at, created_at
         FROM mail_jobs, ({numbers}) AS n WHERE template = 'magic_link'"
    ))
    .unwrap();
    let mut request = Api::issue_request(&world.consultant().await);
    request["tenant_id"] = json!("globex");
    let theirs = other.post(LINKS, &request).await.ok();
    world.mails.wait_for(id(&theirs), 1).await;
    let before = sql.count("FROM mail_jobs WHERE dedup_key LIKE 'flood%' AND finished_at IS NOT NULL");
    assert!(before < FLOOD / 2, "{before} of {FLOOD} went first");
}

/// Whoever reads the log has stopped.
#[apply(on_both_databases)]
async fn a_log_that_nobody_reads_holds_nothing(world: &World) {
    let process = Process::start_with(world, &[], Stdio::piped());
    let portal = world.portal("cloud", "acme").await.at(&process.base);
    for _ in 0..600 {
        portal.get(&format!("{LINKS}/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z")).await.refused(404, "not_found");
    }
    assert_eq!(portal.stranger().get("/readyz").await.status, 200);
    process.ask_to_stop();
    assert!(process.stopped().await.success());
}

#[apply(on_both_databases)]
async fn a_second_person_is_another_one(world: &World) {
    let portal = acme(world, &always()).await;
    let consultant = world.consultant().await;
    let mut request = Api::issue_request(&consultant);
    request["requested_by"] = json!({"id": consultant.to_uppercase(), "name": "Ravi Kumar"});
    portal.post(LINKS, &request).await.refused(403, "own_request");
    request["requested_by"] = vikram();
    request["requested_by"].as_object_mut().unwrap().remove("email");
    let asked = portal.post(LINKS, &request).await.ok();
    act(&portal, id(&asked), "approve", &approval()).await.refused(403, "own_request");
}
