//! Requests to issue that are wrong somewhere: the field is named, and nothing is half done.

use serde_json::{Value, json};

use crate::support::{Api, Reply, World, apply, on_both_databases};

const LINKS: &str = "/v1/magic-links";

/// A well-formed id that nobody has.
const NOBODY: &str = "con_01kaq3v9e8fwmvd2x7n0c5hb3z";

/// The right request with one member set.
fn with(consultant: &str, pointer: &str, value: Value) -> Value {
    let mut request = Api::issue_request(consultant);
    let (parent, member) = pointer.rsplit_once('/').unwrap();
    request.pointer_mut(parent).unwrap()[member] = value;
    request
}

/// Sends a text as it stands.
async fn post_text(api: &Api, path: &str, text: impl Into<String>) -> Reply {
    let request = api.request(reqwest::Method::POST, path).header("content-type", "application/json");
    api.send(request.body(text.into())).await
}

/// Issues one link rightly, and finds that it is the only one that was ever issued or mailed.
async fn nothing_else_was_done(world: &World, consultant: &str) {
    let link = world.admin.issue(consultant).await;
    world.mails.wait_for(&link, 1).await;
    let links = world.admin.get(LINKS).await.ok();
    assert_eq!(links["items"].as_array().unwrap().len(), 1, "{links}");
    assert_eq!(world.admin.events("&type=magic_link.issued").await.len(), 1);
    assert_eq!(world.mails.all().await.len(), 1);
}

#[apply(on_both_databases)]
async fn a_field_out_of_range_is_named_and_nothing_is_issued(world: &World) {
    let consultant = world.consultant().await;
    let day = time::Duration::days(1);
    let long = |length| "x".repeat(length);
    let cases = [
        ("/reason", json!("too short"), "/reason"),
        ("/reason", json!("         x         "), "/reason"),
        ("/reason", json!(long(501)), "/reason"),
        ("/ticket", json!(""), "/ticket"),
        ("/ticket", json!(long(65)), "/ticket"),
        ("/duration/value", json!(0), "/duration"),
        ("/duration/value", json!(-1), "/duration"),
        ("/duration/value", json!(673), "/duration"),
        ("/duration/value", json!(i64::MAX), "/duration"),
        ("/duration/value", json!(i64::MIN), "/duration"),
        ("/duration", json!({ "value": 29, "unit": "days" }), "/duration"),
        ("/duration", json!({ "value": 5, "unit": "weeks" }), "/duration"),
        ("/duration", json!({ "value": i64::MAX, "unit": "weeks" }), "/duration"),
        ("/duration", json!({ "value": i64::MAX / 168 + 1, "unit": "weeks" }), "/duration"),
        ("/starts_at", json!(world.clock.now().minus(day)), "/starts_at"),
        ("/starts_at", json!(world.clock.now().plus(day * 29)), "/starts_at"),
        ("/starts_at", json!("9999-12-31T23:59:59Z"), "/starts_at"),
        ("/tenant_id", json!(""), "/tenant_id"),
        ("/tenant_id", json!("_system"), "/tenant_id"),
        ("/tenant_id", json!("*"), "/tenant_id"),
        ("/tenant_id", json!("../acme"), "/tenant_id"),
        ("/tenant_id", json!(long(65)), "/tenant_id"),
        ("/portal", json!("nowhere"), "/portal"),
        ("/portal", json!(""), "/portal"),
        ("/consultant_id", json!(NOBODY), "/consultant_id"),
        ("/profile/id", json!(""), "/profile/id"),
        ("/profile/id", json!("emp 1042"), "/profile/id"),
        ("/profile/id", json!(long(129)), "/profile/id"),
        ("/profile/name", json!(" "), "/profile/name"),
        ("/profile/name", json!(long(101)), "/profile/name"),
        ("/issued_by/id", json!("emp\u{a0}7"), "/issued_by/id"),
        ("/issued_by/name", json!(""), "/issued_by/name"),
        ("/requested_by", json!({ "id": "", "name": "Meera Iyer" }), "/requested_by/id"),
        ("/requested_by", json!({ "id": "emp-7", "name": "" }), "/requested_by/name"),
    ];
    for (pointer, value, named) in cases {
        let request = with(&consultant, pointer, value);
        world.admin.post(LINKS, &request).await.refused_field(named);
    }
    nothing_else_was_done(world, &consultant).await;
}

#[apply(on_both_databases)]
async fn text_that_looks_like_something_else_is_refused_everywhere(world: &World) {
    let consultant = world.consultant().await;
    let treacherous = [
        "\u{0}",
        "\t",
        "\r\nBcc: eve@evil.example",
        "\n",
        "\u{1b}[2J",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "\u{2029}",
        "\u{202e}",
        "\u{2066}",
        "\u{feff}",
    ];
    for character in treacherous {
        let text = format!("Payroll stops {character}here");
        for pointer in ["/reason", "/ticket", "/profile/name", "/issued_by/name"] {
            let request = with(&consultant, pointer, json!(text));
            world.admin.post(LINKS, &request).await.refused_field(pointer);
        }
        for pointer in ["/profile/id", "/issued_by/id"] {
            let request = with(&consultant, pointer, json!(format!("emp{character}-7")));
            world.admin.post(LINKS, &request).await.refused_field(pointer);
        }
        let person = json!({ "name": text, "email": "eve@support.example" });
        world.admin.post("/v1/consultants", &person).await.refused_field("/name");
        world.admin.put("/v1/tenants/acme", &json!({ "name": text })).await.refused_field("/name");
        let client = json!({ "name": text, "tenants": ["acme"], "scopes": ["links:read"] });
        world.admin.post("/v1/clients", &client).await.refused_field("/name");
    }
    assert_eq!(world.admin.events("&type=consultant.registered").await.len(), 1);
    assert!(world.admin.events("&type=tenant.saved").await.is_empty());
    nothing_else_was_done(world, &consultant).await;
}

#[apply(on_both_databases)]
async fn letters_of_every_script_are_text(world: &World) {
    let consultant = world.consultant().await;
    for reason in
        ["वेतन की गणना रुक जाती है", "給与計算が三番目の手順で止まります", "حساب الرواتب متوقف", "Ψ 🙂 <b>&amp;'\"=1+1"]
    {
        let link = world.admin.post(LINKS, &with(&consultant, "/reason", json!(reason))).await.ok();
        assert_eq!(link["reason"], reason);
    }
}

#[apply(on_both_databases)]
async fn a_body_of_the_wrong_shape_is_refused_by_the_name_of_its_member(world: &World) {
    let consultant = world.consultant().await;
    let cases = [
        ("/colour", json!("red"), "colour"),
        ("/duration/colour", json!("red"), "colour"),
        ("/profile/colour", json!("red"), "colour"),
        ("/issued_by/colour", json!("red"), "colour"),
        ("/requested_by", json!({ "id": "emp-7", "name": "Meera", "colour": "red" }), "colour"),
        ("/consultant_id", json!("con_1"), "con_"),
        ("/consultant_id", json!(NOBODY.to_uppercase()), "con_"),
        ("/consultant_id", json!("mlk_01kaq3v9e8fwmvd2x7n0c5hb3z"), "con_"),
        ("/consultant_id", json!("' OR 1=1 --"), "con_"),
        ("/duration/value", json!(1.5), "/duration/value"),
        ("/duration/value", json!("4"), "/duration/value"),
        ("/duration/unit", json!("months"), "/duration/unit"),
        ("/duration/unit", json!({ "hours": null }), "/duration/unit"),
        ("/starts_at", json!("tomorrow"), "/starts_at"),
        ("/starts_at", json!("2026-11-23T03:30:00"), "/starts_at"),
        ("/access", json!("admin"), "/access"),
        ("/access", json!({ "full": null }), "/access"),
        ("/reason", json!(["Payroll run for November"]), "/reason"),
        ("/reason", json!({ "text": "Payroll run for November" }), "/reason"),
        // Serde would take an array for an object, by position.
        ("/duration", json!([4, "hours"]), "/duration"),
        ("/profile", json!(["emp-1042", "Asha Rao"]), "/profile"),
        ("/issued_by", json!(["emp-7", "Meera Iyer", "hr@acme.example"]), "/issued_by"),
        ("/requested_by", json!(["emp-7", "Meera Iyer"]), "/requested_by"),
    ];
    for (pointer, value, named) in cases {
        let reply = world.admin.post(LINKS, &with(&consultant, pointer, value)).await;
        reply.refused(400, "invalid_body");
        assert!(reply.text.contains(named), "{named} is not in {}", reply.text);
    }
    // A moment beyond the calendar of UTC is its end.
    let beyond = with(&consultant, "/starts_at", json!("9999-12-31T23:59:59-23:59"));
    world.admin.post(LINKS, &beyond).await.refused_field("/starts_at");
    // Without a length a link needs a policy that sets one.
    let mut endless = Api::issue_request(&consultant);
    endless.as_object_mut().unwrap().remove("duration");
    world.admin.post(LINKS, &endless).await.refused_field("/duration");
    for member in ["tenant_id", "portal", "consultant_id", "reason", "profile", "issued_by"] {
        let mut request = Api::issue_request(&consultant);
        request.as_object_mut().unwrap().remove(member);
        let reply = world.admin.post(LINKS, &request).await;
        reply.refused(400, "invalid_body");
        assert!(reply.text.contains(member), "{member} is not in {}", reply.text);
    }
    nothing_else_was_done(world, &consultant).await;
}

#[apply(on_both_databases)]
async fn a_text_that_is_not_one_json_object_is_refused(world: &World) {
    let consultant = world.consultant().await;
    let right = Api::issue_request(&consultant).to_string();
    let beyond = |number: &str| right.replace("\"value\":4", &format!("\"value\":{number}"));
    assert_ne!(beyond("5"), right);
    let cases = [
        // Longer than any number we know.
        beyond("9223372036854775808"),
        beyond("-9223372036854775809"),
        beyond("1e400"),
        beyond("1e18"),
        beyond("04"),
        // The same member twice.
        right.replacen('{', "{\"reason\":\"The first of two reasons\",", 1),
        right.replace("\"unit\":", "\"unit\":\"days\",\"unit\":"),
        right.replace("\"id\":\"emp-1042\"", "\"id\":\"emp-1\",\"id\":\"emp-1042\""),
        // Arrays, other values, more or less than one.
        format!("[{right}]"),
        "[]".into(),
        "null".into(),
        "\"text\"".into(),
        "42".into(),
        "{}".into(),
        format!("{right}{right}"),
        format!("{right}]"),
        right.trim_end_matches('}').to_owned(),
        right.replace(':', "="),
        right.replace('"', "'"),
        " ".into(),
        "{\"reason\":\"\\ud800\"}".into(),
        // Deep.
        "[".repeat(60_000),
        "{\"reason\":".to_owned() + &"[".repeat(60_000),
        "{\"a\":".repeat(10_000),
        "{\"profile\":".repeat(5_000),
    ];
    for text in cases {
        let shown: String = text.chars().take(60).collect();
        let reply = post_text(&world.admin, LINKS, text).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, "invalid_body"), "{shown}: {reply:?}");
    }
    let request = world.admin.request(reqwest::Method::POST, LINKS).header("content-type", "application/json");
    world.admin.send(request.body(&b"{\"reason\":\"\xff\xfe\"}"[..])).await.refused(400, "invalid_body");
    nothing_else_was_done(world, &consultant).await;
}

#[apply(on_both_databases)]
async fn a_suspended_consultant_gets_no_link(world: &World) {
    let (consultant, other) = (world.consultant().await, world.consultant().await);
    let path = format!("/v1/consultants/{consultant}");
    world.admin.post(&format!("{path}/suspend"), &json!({ "reason": "On leave" })).await.ok();
    world.admin.post(LINKS, &Api::issue_request(&consultant)).await.refused(409, "consultant_suspended");
    nothing_else_was_done(world, &other).await;
    world.admin.post(&format!("{path}/reinstate"), &json!({ "reason": "Back again" })).await.ok();
    world.admin.issue(&consultant).await;
}

#[apply(on_both_databases)]
async fn a_client_issues_for_its_own_tenant_and_portal_only(world: &World) {
    let consultant = world.consultant().await;
    for (portal, tenant) in [("ess", "acme"), ("cloud", "globex")] {
        let client = world.client(Some(portal), &[tenant], &["links:issue"]).await;
        client.post(LINKS, &Api::issue_request(&consultant)).await.refused(403, "client_not_permitted");
        let refusals = world.admin.events("&tenant_id=_system&type=access.refused").await;
        assert_eq!(refusals.last().unwrap()["client_id"], client.client_id.as_str());
    }
    nothing_else_was_done(world, &consultant).await;
}

#[apply(on_both_databases)]
async fn an_address_is_one_plain_address(world: &World) {
    let hostile = [
        "",
        "ravi",
        "@support.example",
        "ravi@",
        "a@b@support.example",
        "a@support.example,b@evil.example",
        "a@support.example;b@evil.example",
        "Ravi <ravi@support.example>",
        "<ravi@support.example>",
        "\"ravi kumar\"@support.example",
        "ravi kumar@support.example",
        "ravi@support.example\r\nBcc: eve@evil.example",
        "ravi\u{0}@support.example",
        "ravi@sup\u{ad}port.example",
        "ravi\u{2009}@support.example",
        "ravi\u{202e}@support.example",
        "ravi@[127.0.0.1]",
        "ravi(eve)@support.example",
        "ravi\\@support.example",
        "ravi@support..example",
        ".ravi@support.example",
        "ravi@-support.example",
        "rävi@support.example",
        "mailto:ravi@support.example?bcc=eve@evil.example",
    ];
    let known = world.consultant().await;
    for email in hostile {
        let person = json!({ "name": "Ravi Kumar", "email": email });
        world.admin.post("/v1/consultants", &person).await.refused_field("/email");
        world
            .admin
            .patch(&format!("/v1/consultants/{known}"), &json!({ "email": email }))
            .await
            .refused_field("/email");
        let tenant = json!({ "name": "ACME", "contacts": [{ "name": "HR", "email": email }] });
        world.admin.put("/v1/tenants/acme", &tenant).await.refused_field("/contacts/0/email");
    }
    let local = "a".repeat(65);
    let person = json!({ "name": "Ravi Kumar", "email": format!("{local}@support.example") });
    world.admin.post("/v1/consultants", &person).await.refused_field("/email");
    let consultants = world.admin.get("/v1/consultants").await.ok();
    assert_eq!(consultants["items"].as_array().unwrap().len(), 1);
    assert!(world.admin.events("&type=consultant.changed").await.is_empty());
    nothing_else_was_done(world, &known).await;
}
