//! A link that waits for a second pair of eyes: it gives nothing and mails nothing until another person approves it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Duration, OffsetDateTime};

use crate::support::{
    Api, Database, Receiver, SecondCopy, Settings, World, apply, command, eventually, on_both_databases,
};

const LINKS: &str = "/v1/magic-links";

/// A tenant with a contact, where each link wants an approval, and the portal's client that asks and decides.
pub(super) async fn acme(world: &World, approval: &Value) -> Api {
    let acme = json!({"name": "ACME Ltd", "time_zone": "Asia/Kolkata",
        "contacts": [{"name": "Vikram Shah", "email": "vikram@acme.example"}]});
    world.admin.put("/v1/tenants/acme", &acme).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({ "approval": approval })).await.ok();
    let scopes = [
        "links:issue",
        "links:approve",
        "links:read",
        "links:revoke",
        "sessions:redeem",
        "sessions:introspect",
        "audit:write",
        "audit:read",
        "webhooks:manage",
    ];
    world.client(Some("cloud"), &["acme"], &scopes).await
}

fn always() -> Value {
    json!({"required_for": "always"})
}

pub(super) fn id(link: &Value) -> &str {
    link["id"].as_str().unwrap()
}

pub(super) async fn act(portal: &Api, link: &str, what: &str, body: &Value) -> crate::support::Reply {
    portal.post(&format!("{LINKS}/{link}/{what}"), body).await
}

pub(super) fn vikram() -> Value {
    json!({"id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example"})
}

pub(super) fn approval() -> Value {
    json!({ "approver": vikram() })
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_access_waits_for_another_person_and_begins_with_the_approval(world: &World) {
    let portal = acme(world, &always()).await;
    let request = Api::issue_request(&world.consultant().await);
    let reply = portal.post_once(LINKS, "asked", &request).await;
    assert_eq!(reply.status.as_u16(), 201);
    let asked = reply.ok();
    let now = world.clock.now();
    assert_eq!((&asked["state"], &asked["approval"]["state"]), (&json!("pending"), &json!("pending")));
    assert_eq!(asked["approval"]["lapses_at"], json!(now.plus(Duration::hours(24))));
    let repeat = portal.post_once(LINKS, "asked", &request).await;
    assert_eq!((repeat.header("idempotency-replayed"), &repeat.body["id"]), ("true", &asked["id"]));
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok()["state"], "pending");

    // The contact is asked, and nobody else hears of it.
    let mail = eventually("the question", async || world.mails.notices("approval_requested").await.pop()).await;
    let text = mail.to_string();
    assert!(text.contains("vikram@acme.example") && text.contains("Meera Iyer asks"), "{text}");
    assert_eq!(world.mails.everything().await.len(), 1);

    // Nothing can be done with it meanwhile.
    act(&portal, id(&asked), "resend", &json!({})).await.refused(409, "approval_required");
    let more = json!({"duration": {"value": 1, "unit": "hours"}, "reason": "It takes a little longer",
        "extended_by": {"id": "emp-7", "name": "Meera Iyer"}});
    act(&portal, id(&asked), "extend", &more).await.refused(409, "approval_required");

    world.clock.advance(Duration::hours(3));
    let mut shorter = approval();
    shorter["duration"] = json!({"value": 2, "unit": "hours"});
    shorter["access"] = json!("read_only");
    shorter["comment"] = json!("Two hours of looking are enough");
    let link = act(&portal, id(&asked), "approve", &shorter).await.ok();
    let now = world.clock.now();
    assert_eq!((&link["id"], &link["state"], &link["access"]), (&asked["id"], &json!("active"), &json!("read_only")));
    assert_eq!((&link["starts_at"], &link["expires_at"]), (&json!(now), &json!(now.plus(Duration::hours(2)))));
    assert_eq!(link["approval"]["decided_by"], json!({"type": "portal_user", "id": "emp-3", "name": "Vikram Shah"}));
    assert_eq!((&link["approval"]["access"], &link["approval"]["duration"]["value"]), (&json!("full"), &json!(4)));

    // Now the consultant gets the mail, and may come in.
    let session = portal.redeem(&world.click(&world.token(id(&asked), 1).await).await).await.ok();
    assert_eq!(session["access"], "read_only");
    act(&portal, id(&asked), "approve", &approval()).await.refused(409, "already_decided");
    act(&portal, id(&asked), "deny", &json!({"approver": vikram(), "reason": "Too late"}))
        .await
        .refused(409, "already_decided");
    act(&portal, id(&asked), "withdraw", &json!({})).await.refused(409, "already_decided");
    let types = portal.event_types(&format!("&magic_link_id={}", id(&asked))).await;
    assert!(
        types.starts_with(&[
            "magic_link.requested".into(),
            "magic_link.refused".into(),
            "magic_link.refused".into(),
            "magic_link.approved".into(),
            "magic_link.issued".into()
        ]),
        "{types:?}"
    );
    let evidence = portal.get(&format!("{LINKS}/{}/evidence", id(&asked))).await.ok();
    assert_eq!(evidence["evidence"]["link"]["approval"]["decided_by_email"], "vikram.shah@acme.example");
}

#[apply(on_both_databases)]
async fn who_asks_who_approves_and_the_consultant_are_three_persons(world: &World) {
    let portal = acme(world, &always()).await;
    let consultant = world.consultant().await;
    let email =
        world.admin.get(&format!("/v1/consultants/{consultant}")).await.ok()["email"].as_str().unwrap().to_owned();
    let mut request = Api::issue_request(&consultant);
    request["requested_by"] = json!({"id": "Emp-11", "name": "Dev Rao"});
    let asked = portal.post(LINKS, &request).await.ok();
    let approver = |id: &str, email: &str| json!({"approver": {"id": id, "name": "Somebody", "email": email}});
    for (id_of, address) in [
        ("emp-7", "another@acme.example"),
        ("EMP-7", "another@acme.example"),
        ("emp-11", "another@acme.example"),
        ("emp-8", "hr@acme.example"),
        ("emp-8", "HR@Acme.Example"),
        (consultant.as_str(), "another@acme.example"),
        ("emp-8", email.as_str()),
        ("emp-8", email.to_uppercase().as_str()),
    ] {
        act(&portal, id(&asked), "approve", &approver(id_of, address)).await.refused(403, "own_request");
    }
    let refused = portal.events(&format!("&magic_link_id={}&type=magic_link.refused", id(&asked))).await;
    assert_eq!(refused.len(), 8);
    // Through another client it is the same persons.
    let other = world.client(None, &["acme"], &["links:approve", "links:read"]).await;
    act(&other, id(&asked), "approve", &approver("emp-7", "another@acme.example")).await.refused(403, "own_request");
    act(&other, id(&asked), "approve", &approver("emp-8", "another@acme.example")).await.ok();

    // Who asks says who they are, and is not the consultant.
    let mut nobody = Api::issue_request(&world.consultant().await);
    nobody["issued_by"].as_object_mut().unwrap().remove("email");
    portal.post(LINKS, &nobody).await.refused_field("/issued_by/email");
    let mut own = Api::issue_request(&consultant);
    own["issued_by"]["email"] = json!(email.to_uppercase());
    portal.post(LINKS, &own).await.refused(403, "own_request");
    // An approver without an address cannot be compared.
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let wrong = json!({"approver": {"id": "emp-8", "name": "Somebody"}});
    act(&portal, id(&asked), "approve", &wrong).await.refused(400, "invalid_body");
}

#[apply(on_both_databases)]
async fn an_approval_never_widens_what_was_asked_for(world: &World) {
    let portal = acme(world, &always()).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["access"] = json!("read_only");
    let asked = portal.post(LINKS, &request).await.ok();
    let mut wider = approval();
    wider["duration"] = json!({"value": 5, "unit": "hours"});
    wider["access"] = json!("full");
    let refused = act(&portal, id(&asked), "approve", &wider).await;
    refused.refused_field("/duration");
    refused.refused_field("/access");
    let mut acting = approval();
    acting["acting_session_id"] = json!("ses_01kaq3v9e8fwmvd2x7n0c5hb2z");
    act(&portal, id(&asked), "approve", &acting).await.refused(403, "support_session_cannot_grant");

    // The policy of the moment counts, a freeze, and a suspension.
    world
        .admin
        .put(
            "/v1/tenants/acme/policy",
            &json!({"approval": always(), "require_ticket": true,
        "max_duration": {"value": 3, "unit": "hours"}, "extend": {"max_total": {"value": 3, "unit": "hours"}}}),
        )
        .await
        .ok();
    act(&portal, id(&asked), "approve", &approval()).await.refused(403, "policy_forbids");
    world.admin.put("/v1/issuing", &json!({"frozen": true, "reason": "An attack"})).await.ok();
    act(&portal, id(&asked), "approve", &approval()).await.refused(409, "issuing_frozen");
    world.admin.put("/v1/issuing", &json!({"frozen": false})).await.ok();
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok()["state"], "pending", "none of it decided");
    let mut shorter = approval();
    shorter["duration"] = json!({"value": 3, "unit": "hours"});
    // A repeat with the same key is no second decision.
    let path = format!("{LINKS}/{}/approve", id(&asked));
    let link = portal.post_once(&path, "once", &shorter).await.ok();
    assert_eq!(portal.post_once(&path, "once", &shorter).await.ok()["id"], link["id"]);
    assert_eq!(portal.events("&type=magic_link.approved").await.len(), 1);
    portal.get(&format!("{LINKS}/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z")).await.refused(404, "not_found");
    act(&portal, "mlk_01kaq3v9e8fwmvd2x7n0c5hb1z", "approve", &approval()).await.refused(404, "not_found");
}

#[apply(on_both_databases)]
async fn who_is_denied_hears_by_whom_and_why(world: &World) {
    let portal = acme(world, &always()).await;
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let denial = json!({"approver": vikram(), "reason": "The payroll run is over"});
    let denied = act(&portal, id(&asked), "deny", &denial).await.ok();
    assert_eq!(
        (&denied["state"], &denied["approval"]["decision_reason"]),
        (&json!("denied"), &json!("The payroll run is over"))
    );
    let mail = eventually("the answer", async || world.mails.notices("request_denied").await.pop()).await.to_string();
    assert!(
        mail.contains("hr@acme.example") && mail.contains("Vikram Shah") && mail.contains("The payroll run is over"),
        "{mail}"
    );
    act(&portal, id(&asked), "approve", &approval()).await.refused(409, "already_decided");
    assert!(world.mails.about(id(&asked)).await.iter().all(|mail| !mail.to_string().contains("#eyJ")), "no token left");

    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let withdrawn = act(&portal, id(&asked), "withdraw", &json!({"reason": "It was solved by telephone"})).await.ok();
    assert_eq!(withdrawn["state"], "withdrawn");
    // A revocation of one that waits is a withdrawal.
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let revoked = act(&portal, id(&asked), "revoke", &json!({"reason": "Not needed"})).await.ok();
    assert_eq!(
        (&revoked["state"], &revoked["approval"]["decision_reason"]),
        (&json!("withdrawn"), &json!("Not needed"))
    );
    let evidence = portal.get(&format!("{LINKS}/{}/evidence", id(&asked))).await.ok();
    assert_eq!(evidence["evidence"]["link"]["state"], "withdrawn");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_request_lapses_after_a_day(world: &World) {
    let portal = acme(world, &always()).await;
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    // Nobody looks at once.
    world.clock.advance(Duration::hours(26));
    act(&portal, id(&asked), "approve", &approval()).await.refused(410, "lapsed");
    act(&portal, id(&asked), "resend", &json!({})).await.refused(410, "lapsed");
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok()["state"], "lapsed");
    eventually("on record", async || (portal.events("&type=magic_link.lapsed").await.len() == 1).then_some(())).await;
    let mail = eventually("the answer", async || world.mails.notices("request_denied").await.pop()).await.to_string();
    assert!(mail.contains("was not decided on in time") && mail.contains("you can ask anew"), "{mail}");
    let shown = portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok();
    let until = OffsetDateTime::parse(shown["expires_at"].as_str().unwrap(), &Rfc3339).unwrap();
    let until =
        until.format(format_description!("([day padding:none] [month repr:short] [year], [hour]:[minute] UTC)"));
    assert!(mail.contains(&until.unwrap()), "the end that every answer shows, {}: {mail}", shown["expires_at"]);
    assert_eq!(portal.get(&format!("{LINKS}?state=lapsed")).await.ok()["items"][0]["id"], asked["id"]);
}

#[apply(on_both_databases)]
async fn a_policy_says_which_links_wait_and_a_client_may_only_ask(world: &World) {
    let portal =
        acme(world, &json!({"required_for": "full_access", "longer_than": {"value": 8, "unit": "hours"}})).await;
    let ask = async |access: &str, hours: i64| {
        let mut request = Api::issue_request(&world.consultant().await);
        request["access"] = json!(access);
        request["duration"] = json!({"value": hours, "unit": "hours"});
        let mut only = request.clone();
        only["validate_only"] = json!(true);
        let draft = portal.post(LINKS, &only).await.ok();
        let link = portal.post(LINKS, &request).await.ok();
        assert_eq!(draft["state"], link["state"]);
        assert_eq!(draft["approval"]["required"] == true, link["state"] == "pending");
        link["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(ask("full", 1).await, "pending");
    assert_eq!(ask("read_only", 8).await, "active");
    assert_eq!(ask("read_only", 9).await, "pending");

    let asking = world.client(Some("cloud"), &["acme"], &["links:request", "links:read"]).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["access"] = json!("read_only");
    let asked = asking.post(LINKS, &request).await.ok();
    assert_eq!(asked["state"], "pending", "whatever the policy says");
    act(&asking, id(&asked), "approve", &approval()).await.refused(403, "insufficient_scope");
    act(&asking, id(&asked), "resend", &json!({})).await.refused(403, "insufficient_scope");
    act(&asking, id(&asked), "withdraw", &json!({})).await.ok();
    // Another tenant's or portal's request does not exist.
    let stranger = world.client(Some("ess"), &["acme"], &["links:approve"]).await;
    let asked = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    act(&stranger, id(&asked), "approve", &approval()).await.refused(404, "not_found");
}

#[apply(on_both_databases)]
async fn a_bulk_revocation_withdraws_what_waits_from_its_answer_on(world: &World) {
    let portal = acme(world, &always()).await;
    let consultant = world.consultant().await;
    let asked = portal.post(LINKS, &Api::issue_request(&consultant)).await.ok();
    let other = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    let order = json!({"consultant_id": consultant, "reason": "The contract has ended"});
    let revocation = portal.post("/v1/revocations", &order).await.ok();
    let withdrawn = portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok();
    assert_eq!(
        (&withdrawn["state"], &withdrawn["approval"]["decision_reason"]),
        (&json!("withdrawn"), &json!("The contract has ended"))
    );
    act(&portal, id(&asked), "approve", &approval()).await.refused(409, "already_decided");
    let done = eventually("carried out", async || {
        let now = portal.get(&format!("/v1/revocations/{}", id(&revocation))).await.ok();
        (now["state"] == "done").then_some(now)
    })
    .await;
    assert_eq!((&done["requests"], &done["links"]), (&json!(1), &json!(0)));
    let events = portal.events(&format!("&magic_link_id={}&type=magic_link.withdrawn", id(&asked))).await;
    assert_eq!((events.len(), &events[0]["data"]["revocation_id"]), (1, &revocation["id"]));
    // What was asked for afterwards, and what it does not select, waits on.
    let later = portal.post(LINKS, &Api::issue_request(&consultant)).await.ok();
    for link in [&later, &other] {
        act(&portal, id(link), "approve", &approval()).await.ok();
    }
    // A suspension is one, too; and a dry run counts what it would withdraw.
    let asked = portal.post(LINKS, &Api::issue_request(&consultant)).await.ok();
    let dry = json!({"consultant_id": consultant, "reason": "Only counted", "dry_run": true});
    let counted = portal.post("/v1/revocations", &dry).await.ok();
    assert_eq!((&counted["requests"], &counted["links"]), (&json!(1), &json!(1)));
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok()["state"], "pending");
    world
        .admin
        .post(&format!("/v1/consultants/{consultant}/suspend"), &json!({"reason": "Under investigation"}))
        .await
        .ok();
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&asked))).await.ok()["state"], "withdrawn");
}

#[apply(on_both_databases)]
async fn whatever_ends_access_counts_the_requests_that_wait(world: &World) {
    let portal = acme(world, &always()).await;
    let consultant = world.consultant().await;
    let ask = async |api: &Api| api.post(LINKS, &Api::issue_request(&consultant)).await.ok();
    let state = async |asked: &Value| portal.get(&format!("{LINKS}/{}", id(asked))).await.ok()["state"].clone();
    let printed = |arguments: &[&str]| {
        let output = command(world).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let asked = ask(&portal).await;
    let dry = printed(&["link", "revoke-all", "--dry-run", "--tenant", "acme", "--reason", "The ticket was closed"]);
    assert!(dry.contains("(0 links, 0 sessions, 1 request)"), "{dry}");
    assert_eq!(state(&asked).await, "pending");
    let suspended = printed(&["consultant", "suspend", &consultant, "--reason", "Under investigation"]);
    assert!(suspended.contains("(0 links, 0 sessions, 1 request)"), "{suspended}");
    assert_eq!(state(&asked).await, "withdrawn");
    printed(&["consultant", "reinstate", &consultant, "--reason", "It was a mistake"]);

    // The client was disabled before; its requests go when that is asked for.
    let asking = world.client(Some("cloud"), &["acme"], &["links:request", "links:read"]).await;
    let asked = ask(&asking).await;
    let disable = format!("/v1/clients/{}/disable", asking.client_id);
    world.admin.post(&disable, &json!({})).await.ok();
    assert_eq!(state(&asked).await, "pending");
    let disabled = world.admin.post(&disable, &json!({"revoke_links": true})).await.ok();
    assert!(disabled["revocation_id"].is_string(), "{disabled}");
    assert_eq!(state(&asked).await, "withdrawn");
}

#[apply(on_both_databases)]
async fn lists_show_what_waits_among_the_links_and_by_its_state(world: &World) {
    let portal = acme(world, &json!({"required_for": "full_access"})).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let mut request = Api::issue_request(&world.consultant().await);
        request["access"] = json!(if number % 2 == 0 { "full" } else { "read_only" });
        ids.push(portal.post(LINKS, &request).await.ok()["id"].as_str().unwrap().to_owned());
    }
    ids.reverse();
    let listed = async |query: &str| {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = portal.get(&format!("{LINKS}?page_size=2{query}{cursor}")).await.ok();
            found.extend(page["items"].as_array().unwrap().iter().map(|link| id(link).to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    };
    assert_eq!(listed("").await, ids);
    let every_other = |first: usize| ids.iter().skip(first).step_by(2).cloned().collect::<Vec<_>>();
    assert_eq!(listed("&state=pending").await, every_other(0));
    assert_eq!(listed("&state=active,replaced").await, every_other(1));
    assert_eq!(listed("&state=pending,active").await, ids);
    assert_eq!(listed("&state=denied,withdrawn,lapsed").await, Vec::<String>::new());
    assert_eq!(listed("&ticket=SUP-48213").await, ids);
    assert_eq!(listed("&in_use=true").await, Vec::<String>::new());
}

#[apply(on_both_databases)]
async fn an_approval_takes_the_place_of_the_open_link_where_it_was_asked_to(world: &World) {
    let portal = acme(world, &json!({"required_for": "none"})).await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post(LINKS, &request).await.ok();
    world.admin.put("/v1/tenants/acme/policy", &json!({ "approval": always() })).await.ok();
    let refused = portal.post(LINKS, &request).await;
    refused.refused(409, "access_exists");
    let mut replacing = request.clone();
    replacing["replace"] = json!(true);
    let asked = portal.post(LINKS, &replacing).await.ok();
    assert_eq!(portal.get(&format!("{LINKS}/{}", id(&first))).await.ok()["state"], "active", "until it is approved");
    act(&portal, id(&asked), "approve", &approval()).await.ok();
    let ended = portal.get(&format!("{LINKS}/{}", id(&first))).await.ok();
    assert_eq!((&ended["state"], &ended["replaced_by"]), (&json!("replaced"), &asked["id"]));
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn webhooks_tell_of_each_decision(world: &World) {
    let receiver = Receiver::start().await;
    let portal = acme(world, &always()).await;
    receiver.endpoint_of(&portal).await;
    let one = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    act(&portal, id(&one), "approve", &approval()).await.ok();
    let two = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    act(&portal, id(&two), "deny", &json!({"approver": vikram(), "reason": "No"})).await.refused_field("/reason");
    act(&portal, id(&two), "deny", &json!({"approver": vikram(), "reason": "Not now"})).await.ok();
    let three = portal.post(LINKS, &Api::issue_request(&world.consultant().await)).await.ok();
    act(&portal, id(&three), "withdraw", &json!({})).await.ok();
    let messages = receiver.wait_for(7).await;
    let told = |link: &Value| {
        let mut about: Vec<_> = messages.iter().filter(|message| message.body["subject"] == link["id"]).collect();
        about.sort_by_key(|message| message.body["sequence"].to_string());
        about.iter().map(|message| message.kind().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told(&one), ["magic_link.requested", "magic_link.approved", "magic_link.issued"]);
    assert_eq!(told(&two), ["magic_link.requested", "magic_link.denied"]);
    assert_eq!(told(&three), ["magic_link.requested", "magic_link.withdrawn"]);
}

#[apply(on_both_databases)]
async fn an_access_is_asked_for_once_at_a_time(world: &World) {
    let portal = acme(world, &always()).await;
    let request = Api::issue_request(&world.consultant().await);
    let first = portal.post(LINKS, &request).await.ok();
    let mut only = request.clone();
    only["validate_only"] = json!(true);
    for again in [&request, &only] {
        let refused = portal.post(LINKS, again).await;
        refused.refused(409, "request_exists");
        assert_eq!(refused.body["magic_link_id"], first["id"]);
    }
    act(&portal, id(&first), "withdraw", &json!({})).await.ok();
    let second = portal.post(LINKS, &request).await.ok();
    // What is to take the place of an open link opens at once, which is said when it is asked for.
    act(&portal, id(&second), "approve", &approval()).await.ok();
    let mut later = request.clone();
    later["replace"] = json!(true);
    later["starts_at"] = json!(world.clock.now().plus(Duration::hours(2)));
    portal.post(LINKS, &later).await.refused_field("/replace");
}

#[apply(on_both_databases)]
async fn of_requests_for_one_access_at_once_one_waits(world: &World) {
    let portal = acme(world, &always()).await;
    // SQLite has one writer.
    let copy = (world.database == Database::Postgres).then(|| SecondCopy::start(world, world.clock.clone()));
    let there = copy.as_ref().map_or_else(|| portal.clone(), |copy| portal.at(&copy.base));
    for _ in 0..6 {
        let request = Api::issue_request(&world.consultant().await);
        let asked = (0..24).map(|number| if number % 2 == 0 { &portal } else { &there });
        let replies = join_all(asked.map(|caller| caller.post(LINKS, &request))).await;
        let (waiting, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(|reply| reply.status == 201);
        assert_eq!((waiting.len(), refused.len()), (1, 23));
        for refused in refused {
            refused.refused(409, "request_exists");
        }
    }
}
