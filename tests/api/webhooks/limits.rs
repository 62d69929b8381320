//! No client, and no tenant, has so many endpoints or such slow ones that others hear later.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Receiver, Settings, Sql, World, apply, eventually, on_both_databases};

const ENDPOINTS: &str = "/v1/webhook-endpoints";
const SCOPES: &[&str] = &["webhooks:manage"];

fn request() -> Value {
    json!({ "url": "https://portal.example/hook" })
}

#[apply(on_both_databases)]
#[settings(Settings::config("webhooks.endpoints_per_tenant = 3"))]
async fn a_tenant_has_so_many_endpoints_of_all_its_clients(world: &World) {
    let clients = join_all((0..8).map(|_| world.client(None, &["acme", "globex"], SCOPES))).await;
    let request = request();
    let outcomes = join_all(clients.iter().map(|client| client.post(ENDPOINTS, &request))).await;
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|reply| reply.status == 201);
    assert_eq!((made.len(), refused.len()), (3, 5));
    for reply in refused {
        reply.refused(409, "too_many_webhook_endpoints");
    }
    // Those of everybody, and those of another tenant, are counted by themselves.
    let operator = world.client(None, &["*"], SCOPES).await;
    operator.post(ENDPOINTS, &request).await.ok();
    let other = world.client(None, &["initech"], SCOPES).await;
    other.post(ENDPOINTS, &request).await.ok();
    let near = world.client(Some("ess"), &["globex"], SCOPES).await;
    near.post(ENDPOINTS, &request).await.refused(409, "too_many_webhook_endpoints");
    // A client that is given the tenant brings its endpoints along.
    let change = json!({ "tenants": ["initech", "acme"] });
    let path = format!("/v1/clients/{}", other.client_id);
    world.admin.patch(&path, &change).await.refused(409, "too_many_webhook_endpoints");

    let gone = made[0].body["id"].as_str().unwrap();
    world.admin.send(world.admin.request(Method::DELETE, &format!("{ENDPOINTS}/{gone}"))).await;
    near.post(ENDPOINTS, &request).await.ok();
    near.post(ENDPOINTS, &request).await.refused(409, "too_many_webhook_endpoints");
    world.admin.patch(&path, &change).await.ok();
    let owner = made[1].body["client_id"].as_str().unwrap();
    world.admin.post(&format!("/v1/clients/{owner}/disable"), &json!({})).await.ok();
    near.post(ENDPOINTS, &request).await.ok();
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn endpoints_that_never_answer_take_no_call_from_those_of_others(world: &World) {
    let (silent, good) = (Receiver::start().await, Receiver::start().await);
    silent.dawdle(300);
    let clients = join_all((0..4).map(|_| world.client(Some("cloud"), &["acme"], SCOPES))).await;
    let create = |client: &Api| {
        let client = client.clone();
        let request = json!({ "url": silent.url() });
        async move {
            for made in join_all((0..20).map(|_| client.post(ENDPOINTS, &request))).await {
                made.ok();
            }
        }
    };
    join_all(clients.iter().map(create)).await;
    let (acme, globex) = (world.portal("cloud", "acme").await, world.portal("cloud", "globex").await);
    let endpoint = good.endpoint_of(&globex).await;
    acme.issue(&world.consultant().await).await;
    silent.wait_for(1).await;
    let mut issue = Api::issue_request(&world.consultant().await);
    issue["tenant_id"] = json!("globex");
    globex.post("/v1/magic-links", &issue).await.ok();
    let mut sql = Sql::of(world);
    let id = endpoint["id"].as_str().unwrap();
    let under_way = format!("FROM webhook_deliveries WHERE lease_until IS NOT NULL AND endpoint_id <> '{id}'");
    eventually("the other tenant is told", async || {
        assert!(sql.count(&under_way) <= 16, "a quarter of the calls is the most");
        (!good.messages().await.is_empty()).then_some(())
    })
    .await;
    // The service does not stop while calls are under way.
    for client in &clients {
        world.admin.post(&format!("/v1/clients/{}/disable", client.client_id), &json!({})).await.ok();
    }
    eventually("the calls have run out of time", async || (sql.count(&under_way) == 0).then_some(())).await;
}

// Whoever tests an endpoint that does not answer learns no more from a thousand messages.
#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn so_many_tests_of_an_endpoint_wait_and_no_more(world: &World) {
    let receiver = Receiver::start().await;
    receiver.answer_with(500);
    let client = world.client(Some("cloud"), &["acme"], SCOPES).await;
    let [endpoint, other] = [receiver.endpoint_of(&client).await, receiver.endpoint_of(&client).await];
    let test = |endpoint: &Value| format!("{ENDPOINTS}/{}/test", endpoint["id"].as_str().unwrap());
    for _ in 0..100 {
        client.post(&test(&endpoint), &json!({})).await.ok();
    }
    let refused = client.post(&test(&endpoint), &json!({})).await;
    refused.refused(429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "60");
    client.post(&test(&other), &json!({})).await.ok();
}
