//! A tenant's policy: it binds whoever grants from then on, and whoever loosens it is seen.

use serde_json::{Value, json};
use time::Duration;

use crate::support::{Api, Settings, World, apply, eventually, on_both_databases};

const LINKS: &str = "/v1/magic-links";
const POLICY: &str = "/v1/tenants/acme/policy";

/// A client that changes policies, and gives no access.
async fn keeper(world: &World) -> Api {
    world.client(None, &["acme"], &["policies:write", "tenants:read", "tenants:write", "audit:read"]).await
}

/// ACME, registered, with a contact who reads mail.
async fn acme(keeper: &Api) {
    let acme = json!({"name": "ACME Ltd", "time_zone": "Asia/Kolkata",
        "contacts": [{"name": "Meera Iyer", "email": "meera@acme.example"}, {"name": "Dev", "email": "dev@acme.example"}]});
    keeper.put("/v1/tenants/acme", &acme).await.ok();
}

/// The codes of a refusal's fields, by pointer.
fn broken(reply: &Value) -> Vec<(String, String)> {
    let errors = reply["errors"].as_array().expect("the rules that it breaks");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    errors.iter().map(|error| (text(&error["pointer"]), text(&error["code"]))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
}

#[apply(on_both_databases)]
async fn a_policy_binds_the_next_link_and_changes_none_that_exists(world: &World) {
    let (keeper, portal) = (keeper(world).await, world.portal("cloud", "acme").await);
    acme(&keeper).await;
    let mut wide = Api::issue_request(&world.consultant().await);
    wide["duration"] = json!({"value": 3, "unit": "weeks"});
    wide.as_object_mut().unwrap().remove("ticket");
    let before = portal.post(LINKS, &wide).await.ok();

    let policy = json!({"max_duration": {"value": 2, "unit": "days"}, "default_duration": {"value": 6, "unit": "hours"},
        "access_allowed": ["read_only"], "require_ticket": true, "session_hours": 2, "reentry": "mail"});
    let saved = keeper.put(POLICY, &policy).await.ok();
    assert_eq!(saved["max_duration"], json!({"value": 48, "unit": "hours"}));
    assert_eq!(
        saved["set"],
        json!(["max_duration", "default_duration", "access_allowed", "require_ticket", "session_hours", "reentry"])
    );

    let mut wide = Api::issue_request(&world.consultant().await);
    wide["duration"] = json!({"value": 3, "unit": "days"});
    wide.as_object_mut().unwrap().remove("ticket");
    let refused = portal.post(LINKS, &wide).await;
    refused.refused(403, "policy_forbids");
    assert_eq!(
        broken(&refused.body),
        pairs(&[("/duration", "too_long"), ("/access", "not_allowed"), ("/ticket", "ticket_required")])
    );
    assert!(refused.body["errors"][0]["detail"].as_str().unwrap().contains("48 hours"), "{refused:?}");
    let recorded = world.admin.events("&tenant_id=_system&type=access.refused").await;
    assert!(recorded.iter().any(|event| event["data"]["code"] == "policy_forbids"), "{recorded:?}");

    let mut right = Api::issue_request(&world.consultant().await);
    right["access"] = json!("read_only");
    right.as_object_mut().unwrap().remove("duration");
    let link = portal.post(LINKS, &right).await.ok();
    let id = link["id"].as_str().unwrap();
    let length = |link: &Value| {
        let time = |name: &str| {
            time::OffsetDateTime::parse(link[name].as_str().unwrap(), &time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        time("expires_at") - time("starts_at")
    };
    assert_eq!(length(&link), Duration::hours(6), "the policy's default");

    // A session lives two hours there, and the configured eight where the link was issued before.
    let session = portal.redeem(&world.click(&world.token(id, 1).await).await).await.ok();
    let lives = |session: &Value| {
        let time = |name: &str| {
            time::OffsetDateTime::parse(session[name].as_str().unwrap(), &time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        time("expires_at") - time("started_at")
    };
    assert_eq!(lives(&session), Duration::hours(2));
    let token = world.token(before["id"].as_str().unwrap(), 1).await;
    let older = portal.redeem(&world.click(&token).await).await.ok();
    assert_eq!(lives(&older), Duration::hours(8));

    // What was granted before stays as it was.
    let kept = portal.get(&format!("{LINKS}/{}", before["id"].as_str().unwrap())).await.ok();
    assert_eq!((&kept["access"], &kept["expires_at"]), (&before["access"], &before["expires_at"]));
    // Its ticket cannot be taken away any more from one that has one.
    let cleared = portal.patch(&format!("{LINKS}/{id}"), &json!({"ticket": ""})).await;
    cleared.refused(403, "policy_forbids");
    assert_eq!(broken(&cleared.body), pairs(&[("/ticket", "ticket_required")]));
}

#[apply(on_both_databases)]
async fn without_a_policy_the_configuration_is_in_force(world: &World) {
    let reader = world.client(None, &["acme", "nobody-knows"], &["tenants:read"]).await;
    let shown = reader.get("/v1/tenants/nobody-knows/policy").await.ok();
    assert_eq!(
        shown,
        json!({"tenant_id": "nobody-knows", "max_duration": {"value": 672, "unit": "hours"},
        "access_allowed": ["full", "read_only"], "forbidden": [], "require_ticket": false,
        "approval": {"required_for": "none"}, "extend": {"max_total": {"value": 672, "unit": "hours"}},
        "emergency": "forbidden", "session_hours": 8, "reentry": shown["reentry"], "set": []})
    );
    // A link whose request names no length needs a policy that does.
    let portal = world.portal("cloud", "acme").await;
    let mut request = Api::issue_request(&world.consultant().await);
    request.as_object_mut().unwrap().remove("duration");
    let refused = portal.post(LINKS, &request).await;
    refused.refused(422, "validation_failed");
    assert_eq!(broken(&refused.body), pairs(&[("/duration", "missing")]));
    // Only a registered tenant has one, and only within reach.
    let keeper = world.client(None, &["acme"], &["policies:write"]).await;
    keeper.put(POLICY, &json!({})).await.refused(404, "not_found");
    keeper.put("/v1/tenants/globex/policy", &json!({})).await.refused(404, "not_found");
}

#[apply(on_both_databases)]
async fn an_extension_stays_within_the_policy(world: &World) {
    let (keeper, portal) = (keeper(world).await, world.portal("cloud", "acme").await);
    acme(&keeper).await;
    let id = portal.issue(&world.consultant().await).await;
    keeper.put(POLICY, &json!({"max_duration": {"value": 5, "unit": "hours"}, "extend": {"max_total": {"value": 6, "unit": "hours"}}})).await.ok();
    let extend = |hours: i64| {
        json!({"duration": {"value": hours, "unit": "hours"}, "reason": "The payroll run is repeated",
        "extended_by": {"id": "emp-7", "name": "Meera Iyer"}})
    };
    let refused = portal.post(&format!("{LINKS}/{id}/extend"), &extend(3)).await;
    refused.refused(403, "policy_forbids");
    assert_eq!(broken(&refused.body), pairs(&[("/duration", "too_long")]));
    portal.post(&format!("{LINKS}/{id}/extend"), &extend(2)).await.ok();
}

#[apply(on_both_databases)]
async fn a_policy_that_contradicts_itself_or_the_configuration_names_both(world: &World) {
    let keeper = keeper(world).await;
    acme(&keeper).await;
    let hours = |value: i64| json!({"value": value, "unit": "hours"});
    for (policy, expected) in [
        (json!({"max_duration": hours(673)}), vec![("/max_duration", "contradicts_configuration")]),
        (json!({"max_duration": hours(0)}), vec![("/max_duration", "out_of_range")]),
        (
            json!({"max_duration": hours(4), "default_duration": hours(5)}),
            vec![("/default_duration", "contradicts_policy")],
        ),
        (
            json!({"max_duration": hours(4), "extend": {"max_total": hours(3)}}),
            vec![("/extend/max_total", "contradicts_policy")],
        ),
        (json!({"extend": {"max_total": hours(3)}}), vec![("/extend/max_total", "contradicts_policy")]),
        (
            json!({"approval": {"required_for": "always", "longer_than": hours(3)}}),
            vec![("/approval/longer_than", "contradicts_policy")],
        ),
        (
            json!({"max_duration": hours(4), "extend": {"max_total": hours(4)}, "approval": {"required_for": "none", "longer_than": hours(4)}}),
            vec![("/approval/longer_than", "contradicts_policy")],
        ),
        (json!({"access_allowed": []}), vec![("/access_allowed", "out_of_range")]),
        (json!({"session_hours": 9}), vec![("/session_hours", "contradicts_configuration")]),
        (json!({"session_hours": 0}), vec![("/session_hours", "out_of_range")]),
        (
            json!({"max_duration": hours(700), "session_hours": 90}),
            vec![("/max_duration", "contradicts_configuration"), ("/session_hours", "contradicts_configuration")],
        ),
    ] {
        let refused = keeper.put(POLICY, &policy).await;
        refused.refused(422, "validation_failed");
        assert_eq!(broken(&refused.body), pairs(&expected), "{policy}");
    }
    for wrong in [
        json!({"max_duration": 4}),
        json!({"access_allowed": "full"}),
        json!({"forbidden": ["everything"]}),
        json!([]),
        json!({"approval": {}}),
        json!({"emergency": "sometimes"}),
        json!({"maximum": 4}),
    ] {
        keeper.put(POLICY, &wrong).await.refused(400, "invalid_body");
    }
    assert_eq!(keeper.get(POLICY).await.ok()["set"], json!([]), "nothing was saved");
    let granted = json!({"require_ticket": true, "acting_session_id": "ses_01kaq3v9e8fwmvd2x7n0c5hb2z"});
    keeper.put(POLICY, &granted).await.refused(403, "support_session_cannot_grant");
    // A null is as good as nothing.
    keeper.put(POLICY, &json!({"max_duration": null, "require_ticket": null})).await.ok();
}

#[apply(on_both_databases)]
async fn whoever_loosens_a_policy_is_on_record_and_the_contacts_hear_of_it(world: &World) {
    let keeper = keeper(world).await;
    acme(&keeper).await;
    let by = json!({"id": "emp-9", "name": "Eve Marlow"});
    let strict = json!({"max_duration": {"value": 1, "unit": "days"}, "require_ticket": true, "requested_by": by});
    keeper.put(POLICY, &strict).await.ok();
    // The same again is no change.
    keeper.put(POLICY, &strict).await.ok();
    keeper
        .put(POLICY, &json!({"max_duration": {"value": 2, "unit": "days"}, "require_ticket": true, "requested_by": by}))
        .await
        .ok();

    let changes = keeper.events("&tenant_id=acme&type=policy.saved").await;
    let told: Vec<&Value> = changes.iter().map(|event| &event["data"]["loosens"]).collect();
    assert_eq!(told, [&json!(false), &json!(true)]);
    assert_eq!(changes[1]["data"]["before"]["max_duration"], json!({"value": 1, "unit": "days"}));
    assert_eq!(changes[1]["data"]["after"]["max_duration"], json!({"value": 2, "unit": "days"}));
    assert_eq!(changes[1]["actor"]["name"], "Eve Marlow");

    // Both contacts, once, with what was and what is.
    let mails = eventually("both mails", async || {
        let mails = world.mails.notices("policy_loosened").await;
        (mails.len() == 2).then_some(mails)
    })
    .await;
    for mail in &mails {
        let text = mail.to_string();
        assert!(text.contains("Longest access: 48 hours (before: 24 hours)") && text.contains("Eve Marlow"), "{text}");
        assert!(!text.contains("Ticket: "), "what did not change is not told: {text}");
    }
    let sent = world.admin.get("/v1/mail-deliveries?template=policy_loosened").await.ok();
    assert_eq!(sent["items"].as_array().unwrap().len(), 2);
    assert_eq!(sent["items"][0]["consultant_id"], Value::Null);
}

#[apply(on_both_databases)]
async fn who_gives_access_changes_no_policy_unless_an_operator_says_so_by_name(world: &World) {
    let both = json!(["links:issue", "policies:write"]);
    let create =
        |combined: Value| json!({"name": "Portal", "tenants": ["acme"], "scopes": both, "combined_scopes": combined});
    let refused = world.admin.post("/v1/clients", &create(json!([]))).await;
    refused.refused(422, "validation_failed");
    assert_eq!(broken(&refused.body), pairs(&[("/scopes", "kept_apart")]));
    world.admin.post("/v1/clients", &create(json!(["links:issue"]))).await.refused(422, "validation_failed");
    let client = world.admin.post("/v1/clients", &create(json!(["policies:write"]))).await.ok();

    // Nor does one that exists come to hold both.
    let only = world
        .admin
        .post("/v1/clients", &json!({"name": "Keeper", "tenants": ["acme"], "scopes": ["policies:write"]}))
        .await
        .ok();
    let path = format!("/v1/clients/{}", only["id"].as_str().unwrap());
    world.admin.patch(&path, &json!({"scopes": both})).await.refused(422, "validation_failed");
    world.admin.patch(&path, &json!({"scopes": both, "combined_scopes": ["policies:write"]})).await.ok();
    let events = world.admin.events("&tenant_id=_system&type=client.created").await;
    let named = events.iter().find(|event| event["data"]["client_id"] == client["id"]).expect("on record");
    assert_eq!(named["data"]["combined_scopes"], json!(["policies:write"]));

    // A bound administrator is no operator.
    let bound = world.client(None, &["acme"], &["admin", "links:issue", "policies:write"]).await;
    bound.post("/v1/clients", &create(json!(["policies:write"]))).await.refused(403, "client_not_permitted");
    // And a client of one portal changes nothing for the others.
    let one = world.client(Some("cloud"), &["acme"], &["policies:write", "tenants:write"]).await;
    acme(&keeper(world).await).await;
    one.put(POLICY, &json!({"require_ticket": true})).await.refused(403, "client_not_permitted");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn a_request_is_checked_without_being_carried_out(world: &World) {
    let (keeper, portal) = (keeper(world).await, world.portal("cloud", "acme").await);
    acme(&keeper).await;
    keeper.put(POLICY, &json!({"default_duration": {"value": 6, "unit": "hours"}, "session_hours": 3})).await.ok();
    let request = Api::issue_request(&world.consultant().await);
    let only = |request: &Value| {
        let mut only = request.clone();
        only["validate_only"] = json!(true);
        only
    };
    let mut silent = only(&request);
    silent.as_object_mut().unwrap().remove("duration");
    let reply = portal.post(LINKS, &silent).await;
    assert_eq!(reply.status.as_u16(), 200);
    let draft = reply.ok();
    let now = world.clock.now();
    assert_eq!((&draft["state"], &draft["starts_at"]), (&json!("active"), &json!(now)));
    assert_eq!(draft["expires_at"], json!(now.plus(Duration::hours(6))));
    portal.get(&format!("{LINKS}/{}", draft["id"].as_str().unwrap())).await.refused(404, "not_found");
    // Nothing was written, mailed or counted.
    assert_eq!(portal.get(LINKS).await.ok()["items"], json!([]));
    assert_eq!(portal.event_types("&type=magic_link.issued").await, Vec::<String>::new());
    portal.post_once(LINKS, "a-key", &only(&request)).await.refused(400, "invalid_header");

    let mut later = only(&request);
    later["starts_at"] = json!(now.plus(Duration::hours(1)));
    assert_eq!(portal.post(LINKS, &later).await.ok()["state"], "scheduled");

    // It is refused as the request itself would be.
    let first = portal.post(LINKS, &request).await.ok();
    let refused = portal.post(LINKS, &only(&request)).await;
    refused.refused(409, "access_exists");
    assert_eq!(refused.body["magic_link_id"], first["id"]);
    let mut replacing = only(&request);
    replacing["replace"] = json!(true);
    assert_eq!(portal.post(LINKS, &replacing).await.ok()["state"], "active");
    replacing["starts_at"] = json!(now.plus(Duration::hours(1)));
    portal.post(LINKS, &replacing).await.refused(422, "validation_failed");
    assert_eq!(portal.get(&format!("{LINKS}/{}", first["id"].as_str().unwrap())).await.ok()["state"], "active");
    keeper.put(POLICY, &json!({"access_allowed": ["read_only"]})).await.ok();
    portal.post(LINKS, &only(&Api::issue_request(&world.consultant().await))).await.refused(403, "policy_forbids");
    let mut unknown = only(&request);
    unknown["consultant_id"] = json!("con_01kaq3v9e8fwmvd2x7n0c5hb3z");
    portal.post(LINKS, &unknown).await.refused(422, "validation_failed");
    world.admin.put("/v1/issuing", &json!({"frozen": true, "reason": "An attack"})).await.ok();
    portal.post(LINKS, &only(&request)).await.refused(409, "issuing_frozen");
}
