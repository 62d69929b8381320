//! Endpoints: who manages them, what is refused, and where their secrets are not.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Sql, World, apply, on_both_databases};

const ENDPOINTS: &str = "/v1/webhook-endpoints";
const URL: &str = "https://portal.example/hook?token=t0ps3cret";

async fn create(client: &Api) -> Value {
    client.post(ENDPOINTS, &json!({ "url": URL })).await.ok()
}

fn ids(list: &Value) -> Vec<&Value> {
    list["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect()
}

#[apply(on_both_databases)]
async fn a_client_manages_its_own_endpoints(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let made = create(&portal).await;
    assert_eq!(
        (&made["client_id"], &made["url"], &made["state"]),
        (&json!(portal.client_id), &json!(URL), &json!("active"))
    );
    assert_eq!((&made["format"], made["events"].as_array().unwrap().len()), (&json!("cloudevents"), 23));
    let path = format!("{ENDPOINTS}/{}", made["id"].as_str().unwrap());
    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("secret");
    assert_eq!(portal.get(&path).await.ok(), shown);

    let change =
        json!({ "url": "https://portal.example/other", "description": "Production", "events": ["session.ended"] });
    let changed = portal.patch(&path, &change).await.ok();
    assert_eq!((&changed["url"], &changed["description"]), (&change["url"], &change["description"]));
    assert_eq!(changed["events"], json!(["session.ended"]));
    let off = portal.patch(&path, &json!({ "state": "disabled" })).await.ok();
    assert_eq!(
        (&off["state"], &off["disable_cause"], &off["url"]),
        (&json!("disabled"), &json!("client"), &change["url"])
    );
    assert_eq!(portal.patch(&path, &json!({ "state": "active" })).await.ok()["state"], "active");

    let more = create(&portal).await;
    let list = portal.get(ENDPOINTS).await.ok();
    assert_eq!(ids(&list), [&more["id"], &made["id"]]);
    let page = portal.get(&format!("{ENDPOINTS}?page_size=1")).await.ok();
    let next = page["next_cursor"].as_str().unwrap();
    let rest = portal.get(&format!("{ENDPOINTS}?page_size=1&cursor={next}")).await.ok();
    assert_eq!((ids(&page), ids(&rest), rest.get("next_cursor")), (vec![&more["id"]], vec![&made["id"]], None));

    let gone = portal.send(portal.request(Method::DELETE, &path)).await;
    assert_eq!((gone.status.as_u16(), gone.text.as_str()), (204, ""));
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::GET, format!("{path}/deliveries")),
        (Method::POST, format!("{path}/test")),
    ] {
        portal.send(portal.request(method, &path)).await.refused(404, "not_found");
    }
    assert_eq!(ids(&portal.get(ENDPOINTS).await.ok()), [&more["id"]]);

    let types: Vec<String> = world.admin.event_types("&tenant_id=_system").await;
    let types: Vec<&str> = types.iter().filter_map(|kind| kind.strip_prefix("webhook_endpoint.")).collect();
    assert_eq!(types, ["created", "changed", "changed", "disabled", "changed", "created", "deleted"]);
}

#[apply(on_both_databases)]
async fn an_administrator_manages_those_within_reach(world: &World) {
    let (portal, neighbour) = (world.portal("cloud", "acme").await, world.portal("cloud", "acme").await);
    let made = create(&portal).await;
    let path = format!("{ENDPOINTS}/{}", made["id"].as_str().unwrap());
    neighbour.get(&path).await.refused(404, "not_found");
    assert_eq!(neighbour.get(ENDPOINTS).await.ok(), json!({ "items": [] }), "the same reach is not the same client");
    let scopes = ["webhooks:manage", "admin"];
    let near = world.client(Some("cloud"), &["acme", "globex"], &scopes).await;
    assert_eq!(ids(&near.get(ENDPOINTS).await.ok()), [&made["id"]]);
    near.patch(&path, &json!({ "description": "Looked at" })).await.ok();
    let far = world.client(Some("ess"), &["*"], &scopes).await;
    far.get(&path).await.refused(404, "not_found");

    let of_portal = json!({ "url": URL, "client_id": portal.client_id });
    assert_eq!(near.post(ENDPOINTS, &of_portal).await.ok()["client_id"], portal.client_id.as_str());
    far.post(ENDPOINTS, &of_portal).await.refused_field("/client_id");
    neighbour.post(ENDPOINTS, &of_portal).await.refused_field("/client_id");
    world.admin.post(&format!("/v1/clients/{}/disable", portal.client_id), &json!({})).await.ok();
    near.post(ENDPOINTS, &of_portal).await.refused(409, "client_disabled");
}

#[apply(on_both_databases)]
async fn what_is_wrong_with_an_endpoint_is_told_by_field(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let made = create(&portal).await;
    let path = format!("{ENDPOINTS}/{}", made["id"].as_str().unwrap());
    for (url, code) in [
        ("portal.example/hook", "malformed"),
        ("http://portal.example/hook", "not_https"),
        ("https://user:word@portal.example/hook", "credentials"),
        ("https://portal.example/hook#part", "fragment"),
        ("https://127.0.0.1/hook", "not_public"),
        ("https://10.1.2.3/hook", "not_public"),
        ("https://169.254.169.254/latest/meta-data", "not_public"),
        ("https://[::1]/hook", "not_public"),
        ("https://[::ffff:192.168.0.1]/hook", "not_public"),
        ("https://[64:ff9b::a00:1]/hook", "not_public"),
        ("https://0x7f000001/hook", "not_public"),
        ("http://127.0.0.1:9000/hook", "not_https"),
        ("https://portal.example/hook\u{200b}", "malformed"),
        ("https://por\u{ad}tal.example/hook", "malformed"),
        ("https://portal.example\\hook", "malformed"),
        ("https:portal.example/hook", "malformed"),
        (&format!("https://portal.example/{}", "x".repeat(500)), "too_long"),
    ] {
        for reply in
            [portal.post(ENDPOINTS, &json!({ "url": url })).await, portal.patch(&path, &json!({ "url": url })).await]
        {
            reply.refused_field("/url");
            assert_eq!(reply.body["errors"][0]["code"], code, "{url}");
        }
    }
    for (field, value) in [
        ("description", json!("x".repeat(101))),
        ("description", json!("two\nlines")),
        ("events", json!([])),
        ("audience", json!("https://portal.example")),
    ] {
        for (method, path) in [(Method::POST, ENDPOINTS), (Method::PATCH, &path)] {
            let mut request = json!({ "url": URL });
            request[field] = value.clone();
            portal.send(portal.request(method, path).json(&request)).await.refused_field(&format!("/{field}"));
        }
    }
    let caep = json!({ "url": URL, "format": "caep", "events": ["session.ended", "session.opened"] });
    portal.post(ENDPOINTS, &caep).await.refused_field("/events");
    for wrong in [
        json!({}),
        json!({ "url": URL, "events": ["magic_link.mailed"] }),
        json!({ "url": URL, "secret": "mine" }),
        json!({ "url": URL, "format": "xml" }),
    ] {
        portal.post(ENDPOINTS, &wrong).await.refused(400, "invalid_body");
    }
    portal.patch(&path, &json!({ "format": "caep" })).await.refused(400, "invalid_body");
    let rotate = format!("{path}/rotate-secret");
    for seconds in [-1, 2_592_001] {
        portal.post(&rotate, &json!({ "overlap_seconds": seconds })).await.refused_field("/overlap_seconds");
    }
    assert_eq!(portal.get(ENDPOINTS).await.ok()["items"].as_array().unwrap().len(), 1);
}

#[apply(on_both_databases)]
async fn a_client_has_twenty_endpoints_at_most(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let outcomes =
        futures_util::future::join_all((0..30).map(|_| async { portal.post(ENDPOINTS, &json!({ "url": URL })).await }))
            .await;
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|reply| reply.status == 201);
    assert_eq!((made.len(), refused.len()), (20, 10));
    for reply in refused {
        reply.refused(409, "too_many_webhook_endpoints");
    }
    let path = format!("{ENDPOINTS}/{}", made[0].body["id"].as_str().unwrap());
    portal.send(portal.request(Method::DELETE, &path)).await;
    create(&portal).await;
}

#[apply(on_both_databases)]
async fn a_secret_is_shown_once_and_kept_under_seal(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let request = json!({ "url": URL });
    let made = portal.post_once(ENDPOINTS, "hook-1", &request).await;
    let replayed = portal.post_once(ENDPOINTS, "hook-1", &request).await;
    assert_eq!((made.status.as_u16(), replayed.header("idempotency-replayed")), (201, "true"));
    assert_eq!((&replayed.body["id"], replayed.body.get("secret")), (&made.body["id"], None));
    let path = format!("{ENDPOINTS}/{}", made.body["id"].as_str().unwrap());
    let rotated = portal.post(&format!("{path}/rotate-secret"), &json!({})).await.ok();
    assert!(rotated["previous_secret_expires_at"].is_string());
    let secrets = [&made.body, &rotated].map(|one| one["secret"].as_str().unwrap().to_owned());
    assert_eq!(secrets.iter().collect::<BTreeSet<_>>().len(), 2);
    let mut seen = vec![
        portal.get(&path).await.text,
        portal.get(ENDPOINTS).await.text,
        portal.patch(&path, &json!({ "description": "x" })).await.text,
    ];
    seen.extend(world.admin.events("&tenant_id=_system").await.iter().map(Value::to_string));
    let mut sql = Sql::of(world);
    seen.extend(
        sql.texts("SELECT sealed_secret || ' ' || COALESCE(previous_sealed_secret, '') AS text FROM webhook_endpoints"),
    );
    seen.extend(sql.texts("SELECT payload AS text FROM audit_payloads"));
    for text in &seen {
        assert!(!secrets.iter().any(|secret| text.contains(secret.strip_prefix("whsec_").unwrap())), "{text}");
    }
    let trail = world.admin.events("&tenant_id=_system").await;
    assert!(
        !trail.iter().any(|event| event.to_string().contains("t0ps3cret")),
        "addresses may hold secrets of their own"
    );
    portal.send(portal.request(Method::DELETE, &path)).await;
    assert_eq!(sql.texts("SELECT sealed_secret AS text FROM webhook_endpoints"), [""]);
}

#[apply(on_both_databases)]
async fn an_operator_sees_endpoints_and_messages(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let made = create(&portal).await;
    let id = made["id"].as_str().unwrap();
    portal.patch(&format!("{ENDPOINTS}/{id}"), &json!({ "url": "https://localhost/" })).await.ok();
    portal.post(&format!("{ENDPOINTS}/{id}/test"), &json!({})).await.ok();
    for (arguments, expected) in
        [(vec!["webhook", "list"], id), (vec!["webhook", "deliveries", id], "webhook_endpoint.test")]
    {
        let output = crate::support::command(world).args(&arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains(expected), "{said}");
    }
}
