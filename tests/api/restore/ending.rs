//! What was spent, revoked, suspended, disabled or ended after the backup stays so; so does everything else.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flate2::read::ZlibDecoder;
use serde_json::{Value, json};
use time::Duration;
use wiremock::ResponseTemplate;

use super::{click, confirm, json, ready};
use crate::support::{
    Api, Auditor, Backup, Database, Receiver, Reply, Settings, Signer, Sql, World, apply, command, eventually,
    on_both_databases,
};

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

/// The bits of the status list that an access token names.
async fn bits(world: &World, access_token: &str) -> Vec<u8> {
    let uri = claims(access_token)["status"]["status_list"]["uri"].as_str().unwrap().to_owned();
    let list = world.stranger().patient().get(uri.strip_prefix("http://127.0.0.1:8080").unwrap()).await;
    assert_eq!(list.status, 200, "{list:?}");
    let list = URL_SAFE_NO_PAD.decode(claims(&list.text)["status_list"]["lst"].as_str().unwrap()).unwrap();
    let mut bits = Vec::new();
    ZlibDecoder::new(list.as_slice()).read_to_end(&mut bits).unwrap();
    bits
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap()
}

#[apply(on_both_databases)]
async fn nothing_comes_back_with_a_backup(world: &World) {
    let (admin, portal) = (world.admin.clone().patient(), world.portal("cloud", "acme").await.patient());
    let (stays, leaves) = (world.consultant().await, world.consultant().await);
    let before = world.open_session(&portal).await;
    let (spent, revoked, of_who_leaves) =
        (portal.issue(&stays).await, portal.issue(&stays).await, portal.issue(&leaves).await);
    let tokens = [world.token(&spent, 1).await, world.token(&revoked, 1).await, world.token(&of_who_leaves, 1).await];
    let leaked = world.client(None, &["acme"], &["links:read"]).await.patient();
    let backup = Backup::of(world);

    let after = portal.redeem(&click(world, &tokens[0]).await).await.ok();
    admin.post(&format!("/v1/magic-links/{revoked}/revoke"), &json!({ "reason": "No longer needed" })).await.ok();
    let suspend = format!("/v1/consultants/{leaves}/suspend");
    admin.post(&suspend, &json!({ "reason": "Left the company" })).await.ok();
    admin.post(&format!("/v1/clients/{}/disable", leaked.client_id), &json!({})).await.ok();
    portal.post(&format!("/v1/sessions/{}/end", text(&before, "id")), &json!({})).await.ok();
    leaked.get("/v1/magic-links").await.refused(401, "unauthenticated");
    assert!(portal.is_active(text(&after, "access_token")).await);

    // Under the service, which goes on running: everything is back.
    backup.restore(world);
    ready(world).await;
    leaked.get("/v1/magic-links").await.ok();
    assert!(portal.is_active(text(&before, "access_token")).await);

    let done = json(world, &["restore"]).await;
    assert_eq!((done["revoked_links"].as_i64(), done["ended_sessions"].as_i64()), (Some(4), Some(1)), "{done}");
    assert_eq!(done["consultants"].as_array().unwrap().len(), 3);
    let clients: Vec<&str> = done["clients"].as_array().unwrap().iter().map(|one| text(one, "id")).collect();
    assert_eq!(clients.len(), 3);
    assert!([&admin, &portal, &leaked].iter().all(|client| clients.contains(&client.client_id.as_str())), "{done}");
    for client in [&admin, &portal, &leaked] {
        client.get("/v1/magic-links").await.refused(401, "unauthenticated");
    }
    ready(world).await;

    confirm(world, &[&admin, &portal]).await;
    leaked.get("/v1/magic-links").await.refused(401, "unauthenticated");
    for session in [&before, &after] {
        assert!(!portal.is_active(text(session, "access_token")).await);
        assert!(bits(world, text(session, "access_token")).await.iter().all(|byte| *byte == 0xff));
    }
    for (link, token) in [&spent, &revoked, &of_who_leaves].into_iter().zip(&tokens) {
        let pressed = world.stranger().patient().post("/l/continue", &json!({ "token": token })).await;
        pressed.refused(410, "signing_key_revoked");
        assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
    }

    // It begins anew, for whom somebody has confirmed.
    let issue = Api::issue_request(&stays);
    portal.post("/v1/magic-links", &issue).await.refused(409, "issuing_frozen");
    json(world, &["unfreeze"]).await;
    portal.post("/v1/magic-links", &issue).await.refused(409, "consultant_suspended");
    json(world, &["consultant", "confirm", &stays]).await;
    portal.post("/v1/magic-links", &Api::issue_request(&leaves)).await.refused(409, "consultant_suspended");
    let link = portal.issue(&stays).await;
    let fresh = portal.redeem(&click(world, &world.token(&link, 1).await).await).await.ok();
    assert!(portal.is_active(text(&fresh, "access_token")).await);
    assert!(bits(world, text(&fresh, "access_token")).await.iter().all(|byte| *byte == 0));
}

#[apply(on_both_databases)]
async fn a_list_that_the_backup_never_had_has_every_bit_set(world: &World) {
    let portal = world.portal("cloud", "acme").await.patient();
    let consultant = world.consultant().await;
    let backup = Backup::of(world);
    // The first session of all: the backup knows no list.
    let link = portal.issue(&consultant).await;
    let session = portal.redeem(&click(world, &world.token(&link, 1).await).await).await.ok();
    backup.restore(world);
    json(world, &["restore"]).await;
    ready(world).await;
    assert!(bits(world, text(&session, "access_token")).await.iter().all(|byte| *byte == 0xff));
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn what_was_queued_is_not_sent(world: &World) {
    let (admin, portal) = (world.admin.clone().patient(), world.portal("cloud", "acme").await.patient());
    let receiver = Receiver::start().await;
    receiver.answer_with(503);
    let endpoint = receiver.endpoint_of(&portal).await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let link = portal.issue(&world.consultant().await).await;
    receiver.wait_for(1).await;
    let backup = Backup::of(world);
    backup.restore(world);
    let done = json(world, &["restore"]).await;
    assert!(done["cancelled_mails"].as_i64() > Some(0) && done["cancelled_webhook_messages"] == 1, "{done}");
    world.mails.behave();
    receiver.answer_with(202);
    confirm(world, &[&admin, &portal]).await;
    let path = format!("/v1/magic-links/{link}");
    assert_eq!(admin.get(&path).await.ok()["delivery"]["state"], "cancelled");
    // That one ends with its link; nobody else revokes a notice.
    let notices = format!("/v1/mail-deliveries?template=access_issued&magic_link_id={link}");
    assert_eq!(admin.get(&notices).await.ok()["items"][0]["state"], "cancelled");
    let deliveries = format!("/v1/webhook-endpoints/{}/deliveries", text(&endpoint, "id"));
    let of_issuing = async || {
        let messages = portal.get(&deliveries).await.ok();
        let issued = messages["items"].as_array().unwrap().iter().find(|one| one["type"] == "magic_link.issued");
        issued.unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(of_issuing().await, "cancelled");
}

/// The consultant and the admin are told that a link's access has ended, once the provider takes mails again.
async fn are_told(admin: &Api, link: &str) -> bool {
    let states = notices(admin, link).await;
    states.len() == 2 && states.iter().all(|state| state == "queued" || state == "sending")
}

/// States of the notices that a link's access has ended.
async fn notices(admin: &Api, link: &str) -> Vec<String> {
    let mut states = Vec::new();
    for template in ["access_revoked", "access_withdrawn"] {
        let path = format!("/v1/mail-deliveries?template={template}&magic_link_id={link}");
        let page = admin.get(&path).await.ok();
        states.extend(page["items"].as_array().unwrap().iter().map(|one| text(one, "state").to_owned()));
    }
    states
}

#[apply(on_both_databases)]
async fn who_is_told_of_a_restore_is_told_however_often_it_is_run(world: &World) {
    let (admin, portal) = (world.admin.clone().patient(), world.portal("cloud", "acme").await.patient());
    let link = portal.issue(&world.consultant().await).await;
    world.token(&link, 1).await;
    world.mails.misbehave(ResponseTemplate::new(503));
    json(world, &["restore"]).await;
    let again = json(world, &["restore"]).await;
    assert_eq!((&again["cancelled_mails"], &again["cancelled_webhook_messages"]), (&json!(0), &json!(0)), "{again}");
    ready(world).await;
    confirm(world, &[&admin]).await;
    assert!(are_told(&admin, &link).await, "{:?}", notices(&admin, &link).await);
    // A later restore begins anew, of whichever backup.
    json(world, &["unfreeze"]).await;
    json(world, &["restore"]).await;
    confirm(world, &[&admin]).await;
    assert_eq!(notices(&admin, &link).await, ["cancelled", "cancelled"]);
}

/// A restore was killed before it had cancelled what was queued, and a copy of the service runs.
#[apply(on_both_databases)]
async fn what_ends_before_a_restore_is_repeated_is_told_after_it(world: &World) {
    let admin = world.admin.clone().patient();
    let link = admin.issue(&world.consultant().await).await;
    world.token(&link, 1).await;
    world.mails.misbehave(ResponseTemplate::new(503));
    let begun = "UPDATE service_state SET restoring_at = '2026-11-22 10:00:00', erasing_held = true";
    Sql::of(world).run(begun).unwrap();
    let revoke = json!({ "tenant_id": "acme", "reason": "All of it" });
    assert_eq!(admin.post("/v1/revocations", &revoke).await.ok()["state"], "running");
    assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
    // The brakes do not wait for it.
    json(world, &["link", "revoke-all", "--everything", "--reason", "All of it"]).await;
    json(world, &["restore"]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    assert!(are_told(&admin, &link).await, "{:?}", notices(&admin, &link).await);
}

#[apply(on_both_databases)]
async fn a_restore_that_broke_off_keeps_the_service_from_being_ready(world: &World) {
    let (admin, consultant) = (world.admin.clone().patient(), world.consultant().await);
    Sql::of(world).run("UPDATE service_state SET restoring_at = '2026-11-22 10:00:00'").unwrap();
    let reply = world.stranger().get("/readyz").await;
    reply.refused(503, "restore_required");
    assert!(reply.body["detail"].as_str().unwrap().contains("magic-link restore"), "{reply:?}");
    // No mail leaves meanwhile.
    let link = admin.issue(&consultant).await;
    let freeze = async |frozen: bool| {
        world.admin.put("/v1/issuing", &json!({ "frozen": frozen, "reason": "It was begun" })).await
    };
    freeze(true).await.ok();
    freeze(false).await.refused(503, "restore_required");
    let output = command(world).arg("unfreeze").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("restored from a backup"), "{said}");
    assert_eq!(admin.get("/v1/issuing").await.ok()["frozen"], true);
    json(world, &["restore"]).await;
    ready(world).await;
    confirm(world, &[&admin]).await;
    assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["delivery"]["state"], "cancelled");
    assert!(world.mails.about(&link).await.is_empty());
}

#[apply(on_both_databases)]
async fn a_freeze_does_not_end_beside_the_beginning_of_a_restore(world: &World) {
    // SQLite has one writer: there is no beside.
    if world.database == Database::Sqlite {
        return;
    }
    world.admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "It was restored" })).await.ok();
    let mut restore = Sql::of(world);
    restore.run("BEGIN").unwrap();
    restore.run("UPDATE service_state SET restoring_at = '2026-11-22 10:00:00', erasing_held = true").unwrap();
    let unfreeze = async { world.admin.clone().impatient().put("/v1/issuing", &json!({ "frozen": false })).await };
    let waits = "FROM pg_locks WHERE NOT granted";
    let begun = async {
        eventually("the freeze waits", async || (Sql::of(world).count(waits) > 0).then_some(())).await;
        restore.run("COMMIT").unwrap();
    };
    let (answer, ()) = futures_util::future::join(unfreeze, begun).await;
    answer.refused(503, "restore_required");
    assert_eq!(world.admin.get("/v1/issuing").await.ok()["frozen"], true);
    assert_eq!(Sql::of(world).count("FROM service_state WHERE erasing_held"), 1);
}

#[apply(on_both_databases)]
async fn a_revocation_that_was_pending_in_the_backup_is_carried_out(world: &World) {
    let admin = world.admin.clone().patient();
    let link = admin.issue(&world.consultant().await).await;
    // One whose worker, and whose server, are gone.
    let order = admin.post("/v1/revocations", &json!({ "tenant_id": "globex", "reason": "An old one" })).await.ok();
    Sql::of(world)
        .run(
            "UPDATE revocations SET done_at = NULL, xid_watermark = 9000000000000000, lease_until = '2999-01-01 00:00:00'",
        )
        .unwrap();
    json(world, &["restore"]).await;
    confirm(world, &[&admin]).await;
    let pending = format!("/v1/revocations/{}", text(&order, "id"));
    eventually("it is carried out", async || (admin.get(&pending).await.ok()["state"] == "done").then_some(())).await;
    assert_eq!(admin.get(&format!("/v1/magic-links/{link}")).await.ok()["state"], "revoked");
}

/// An order to remove the key waits in the backup, and was cancelled after it.
#[apply(on_both_databases)]
async fn an_ordered_change_of_an_approval_key_does_not_come_back(world: &World) {
    let admin = world.admin.clone().patient();
    let tenant = json!({ "name": "ACME", "contacts": [{ "name": "Anil Rao", "email": "anil@acme.example" }] });
    admin.put("/v1/tenants/acme", &tenant).await.ok();
    let (path, customer) = ("/v1/tenants/acme/approval-key", Signer::new());
    admin.put(path, &json!({ "public_key": customer.jwk() })).await.ok();
    let ordered = admin.post(&format!("{path}/remove"), &json!({})).await.ok();
    assert!(ordered["ordered_change"].is_object(), "{ordered}");
    let backup = Backup::of(world);
    admin.post(&format!("{path}/cancel"), &json!({})).await.ok();
    backup.restore(world);
    let done = json(world, &["restore"]).await;
    assert_eq!(done["approval_keys"][0]["tenant_id"], "acme");
    assert_eq!(done["approval_keys"][0]["key_thumbprint"], json!(customer.thumbprint()));
    confirm(world, &[&world.admin]).await;
    ready(world).await;
    let key = admin.get(path).await.ok();
    assert_eq!((&key["required"], key.get("ordered_change")), (&json!(true), None));
}

/// The order waits in the backup, and its time has come when that is restored: it may have been cancelled meanwhile.
#[apply(on_both_databases)]
async fn an_ordered_change_whose_time_came_after_the_backup_does_not_come_back(world: &World) {
    let admin = world.admin.clone().patient();
    let tenant = json!({ "name": "ACME", "contacts": [{ "name": "Anil Rao", "email": "anil@acme.example" }] });
    admin.put("/v1/tenants/acme", &tenant).await.ok();
    let (path, customer) = ("/v1/tenants/acme/approval-key", Signer::new());
    admin.put(path, &json!({ "public_key": customer.jwk() })).await.ok();
    admin.post(&format!("{path}/remove"), &json!({})).await.ok();
    // No log is signed once more within the hour.
    for log in ["acme", "_system"] {
        assert_eq!(admin.get(&format!("/v1/audit-log/{log}/checkpoint")).await.status, 200);
    }
    let comes = json!(world.clock.now().plus(Duration::seconds(3)));
    let comes = comes.as_str().unwrap().replace('T', " ").replace('Z', "");
    let change = format!("UPDATE tenant_approval_keys SET effective_at = '{comes}' WHERE seq = 2");
    Sql::of(world).run(&change).unwrap();
    let backup = Backup::of(world);
    backup.restore(world);
    let required = async || admin.get(path).await.ok()["required"].clone();
    eventually("its time has come", async || (required().await == false).then_some(())).await;
    // A command that is recorded before the restore is no sign of when the backup was made.
    json(world, &["freeze", "--reason", "A break-in"]).await;
    let done = json(world, &["restore"]).await;
    assert_eq!(done["approval_keys"][0]["key_thumbprint"], json!(customer.thumbprint()));
    confirm(world, &[&world.admin]).await;
    ready(world).await;
    assert_eq!(required().await, true);
    let mut auditor = Auditor::of("acme", &admin).await;
    auditor.approval_keys.push(customer.jwk().to_string());
    auditor.audit(&admin).await;
    // What was seen in effect before the backup stays.
    let long_ago = "UPDATE tenant_approval_keys SET cancelled_at = NULL, created_at = '2026-01-01 00:00:00', \
                    effective_at = '2026-01-04 00:00:00' WHERE seq = 2";
    Sql::of(world).run(long_ago).unwrap();
    json(world, &["restore"]).await;
    confirm(world, &[&world.admin]).await;
    assert_eq!(required().await, false);
}

/// Whether the payloads of a log may be erased that were recorded 400 days ago.
async fn purge(world: &World, admin: &Api, tenant: &str) -> Reply {
    let before = world.clock.now().minus(Duration::days(400));
    let request = json!({ "before": before, "reason": "The contract has ended" });
    admin.post(&format!("/v1/audit-log/{tenant}/purges"), &request).await
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn nothing_is_erased_that_a_later_hold_keeps_until_somebody_says_so(world: &World) {
    let admin = world.admin.clone().patient();
    for tenant in ["acme", "globex"] {
        admin.put(&format!("/v1/tenants/{tenant}"), &json!({ "name": tenant })).await.ok();
    }
    let kept = json!({ "name": "Initech", "retention_days": 900 });
    admin.put("/v1/tenants/initech", &kept).await.ok();
    let backup = Backup::of(world);
    let hold = json!({ "reason": "Labour court, case 2026-118" });
    admin.post("/v1/audit-log/acme/legal-holds", &hold).await.ok();

    backup.restore(world);
    ready(world).await;
    let restored = json(world, &["restore"]).await;
    assert_eq!(restored["legal_holds"], json!([]));
    assert_eq!(restored["retentions"], json!([{ "tenant_id": "initech", "retention_days": 900 }]));
    confirm(world, &[&world.admin]).await;
    // The time of all of it is over, and the worker comes by.
    world.clock.advance(Duration::days(402));
    for tenant in ["acme", "globex"] {
        purge(world, &admin, tenant).await.refused(409, "legal_hold");
    }
    let placed = json(world, &["audit", "hold", "--tenant", "acme", "--reason", "Labour court, case 2026-118"]).await;
    let holds = json(world, &["audit", "holds", "--tenant", "acme"]).await;
    assert_eq!(holds["items"], json!([placed]));
    assert_eq!(admin.events("&type=audit.purged").await, Vec::<Value>::new());

    json(world, &["unfreeze"]).await;
    world.clock.advance(Duration::hours(2));
    eventually("the retention run", async || {
        (!admin.events("&type=audit.purged&tenant_id=globex").await.is_empty()).then_some(())
    })
    .await;
    purge(world, &admin, "acme").await.refused(409, "legal_hold");
    let release = ["audit", "release", text(&placed, "id"), "--tenant", "acme", "--reason", "The case was settled"];
    assert!(json(world, &release).await["released_at"].is_string());
    purge(world, &admin, "acme").await.ok();
}

/// The clock of the machine that restores is behind the moment at which the backup was frozen.
#[apply(on_both_databases)]
async fn erasing_is_held_whatever_the_clock_of_the_restore_says(world: &World) {
    let admin = world.admin.clone().patient();
    admin.put("/v1/tenants/acme", &json!({ "name": "acme" })).await.ok();
    admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "An exercise" })).await.ok();
    Sql::of(world).run("UPDATE service_state SET frozen_at = '2998-01-01 00:00:00'").unwrap();
    let backup = Backup::of(world);
    backup.restore(world);
    ready(world).await;
    json(world, &["restore"]).await;
    confirm(world, &[&world.admin]).await;
    purge(world, &admin, "acme").await.refused(409, "legal_hold");
    // A freeze of later holds nothing.
    json(world, &["unfreeze"]).await;
    purge(world, &admin, "acme").await.ok();
    admin.put("/v1/issuing", &json!({ "frozen": true, "reason": "An exercise" })).await.ok();
    purge(world, &admin, "acme").await.ok();
}
