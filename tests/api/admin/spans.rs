//! Spans for a collector: what follows from a request is one trace, whoever records the other parts of it.

use std::process::Stdio;

use futures_util::future::join_all;
use magic_link::clock::Clock;
use reqwest::Method;
use serde_json::json;

use crate::support::{
    Api, Collector, Database, Process, Receiver, Recorded, SecondCopy, Settings, World, apply, eventually,
    on_both_databases,
};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

const SERVER: u64 = 2;
const CLIENT: u64 = 3;

/// A copy of the service that sends spans. They have all arrived when it is dropped.
fn copy(world: &World, collector: &Collector, more: &str) -> SecondCopy {
    let lines = format!("traces.endpoint = '{}'\n{more}\n{}", collector.url(), Receiver::allowed().config);
    SecondCopy::start_with(world, Clock::System, &Settings::config(&lines))
}

async fn consultant(admin: &Api) -> String {
    let request = json!({ "name": "Neha Joshi", "email": "neha.joshi@support.example" });
    admin.post("/v1/consultants", &request).await.ok()["id"].as_str().unwrap().to_owned()
}

async fn issue_in(api: &Api, consultant: &str, traceparent: &str) -> String {
    let request = api.request(Method::POST, "/v1/magic-links").json(&Api::issue_request(consultant));
    let reply = api.send(request.header("traceparent", traceparent)).await;
    assert_eq!(reply.header("trace-id"), TRACE_ID);
    reply.ok()["id"].as_str().unwrap().to_owned()
}

#[track_caller]
fn only<'s>(spans: &'s [Recorded], name: &str) -> &'s Recorded {
    let mut found = spans.iter().filter(|span| span.name == name);
    let (first, next) = (found.next(), found.next());
    assert!(next.is_none(), "{name} is there twice: {spans:#?}");
    first.unwrap_or_else(|| panic!("no {name} among {spans:#?}"))
}

#[track_caller]
fn says(span: &Recorded, said: &[(&str, &str)]) {
    for (key, value) in said {
        assert_eq!(span.attributes.get(*key).map(String::as_str), Some(*value), "{key} of {span:#?}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_link_its_mail_and_its_webhook_message_are_one_trace(world: &World) {
    let (collector, receiver) = (Collector::start().await, Receiver::start().await);
    let service = copy(world, &collector, "traces.headers = 'api-key=k3y, x-scope=links'");
    let admin = world.admin.at(&service.base);
    receiver.endpoint_of(&admin).await;
    let link = issue_in(&admin, &consultant(&admin).await, &format!("00-{TRACE_ID}-{PARENT}-01")).await;
    world.mails.wait_for(&link, 1).await;
    let message = receiver.wait_for(1).await.remove(0);
    drop(service);

    let spans: Vec<Recorded> = collector.spans().await.into_iter().filter(|span| span.trace_id == TRACE_ID).collect();
    let request = only(&spans, "POST /v1/magic-links");
    assert_eq!((request.kind, request.parent_id.as_str(), request.failed), (SERVER, PARENT, false));
    says(
        request,
        &[
            ("http.request.method", "POST"),
            ("http.route", "/v1/magic-links"),
            ("http.response.status_code", "201"),
            ("magic_link.client.id", &admin.client_id),
        ],
    );
    let transaction = only(&spans, "transaction");
    assert_eq!((transaction.kind, &transaction.parent_id), (CLIENT, &request.span_id));
    says(transaction, &[("db.system.name", if world.database == Database::Sqlite { "sqlite" } else { "postgresql" })]);
    // A notice about the link may have left, too.
    let of_link =
        |span: &&Recorded| span.attributes.get("magic_link.mail.template").is_some_and(|it| it == "magic_link");
    let mails: Vec<&Recorded> = spans.iter().filter(|span| span.name == "mail").filter(of_link).collect();
    let [mail] = mails.as_slice() else { panic!("one mail: {spans:#?}") };
    let webhook = only(&spans, "webhook");
    for call in [mail, webhook] {
        assert_eq!((call.kind, &call.parent_id, call.failed), (CLIENT, &transaction.span_id, false));
        assert_eq!(call.links, std::slice::from_ref(&transaction.span_id));
    }
    says(mail, &[("magic_link.mail.provider", "mailpit")]);
    says(webhook, &[("http.request.method", "POST"), ("magic_link.webhook.event_type", "magic_link.issued")]);
    // Those who were called go on below our spans.
    let below = |span: &Recorded| Some(format!("00-{TRACE_ID}-{}-01", span.span_id));
    assert!(world.mails.traceparents().await.contains(&below(mail)));
    assert_eq!(message.traceparent, below(webhook));

    assert_eq!(request.resource["service.name"], "magic-link");
    assert_eq!(request.resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert!(collector.headers("api-key").await.iter().all(|key| key == "k3y"));
    let text = format!("{:?}", collector.spans().await);
    for secret in ["Neha", "Asha", "Meera", "@", "eyJ", "Payroll", admin.key(), "127.0.0.1", &link] {
        assert!(!text.contains(secret), "a span says {secret}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn whoever_begins_a_trace_decides_whether_it_is_recorded(world: &World) {
    let collector = Collector::start().await;
    let service = copy(world, &collector, "");
    let admin = world.admin.at(&service.base);
    let consultant = consultant(&admin).await;
    let link = issue_in(&admin, &consultant, &format!("00-{TRACE_ID}-{PARENT}-00")).await;
    world.mails.wait_for(&link, 1).await;
    let passed_on = world.mails.traceparents().await.pop().unwrap().unwrap();
    assert!(passed_on.starts_with(&format!("00-{TRACE_ID}-")) && passed_on.ends_with("-00"), "{passed_on}");
    // A trace that begins here; probes begin none.
    let own = admin.get("/v1/magic-links/mlk_01kaq3v9e8fwmvd2x7n0c5hb1z").await;
    let probes = [admin.get("/healthz").await, admin.get("/readyz").await];
    drop(service);
    let spans = collector.spans().await;
    assert!(spans.iter().all(|span| span.trace_id != TRACE_ID), "{spans:#?}");
    let found: Vec<&Recorded> = spans.iter().filter(|span| span.trace_id == own.header("trace-id")).collect();
    let read = found.iter().find(|span| span.kind == SERVER).unwrap();
    assert_eq!((read.name.as_str(), read.parent_id.as_str()), ("GET /v1/magic-links/{id}", ""));
    says(read, &[("http.response.status_code", "404")]);
    for probe in probes {
        assert!(spans.iter().all(|span| span.trace_id != probe.header("trace-id")), "{spans:#?}");
    }

    let collector = Collector::start().await;
    let service = copy(world, &collector, "traces.sample_ratio = 0");
    let admin = world.admin.at(&service.base);
    admin.get("/v1/clients").await.ok();
    let request = admin.request(Method::GET, "/v1/clients").header("traceparent", format!("00-{TRACE_ID}-{PARENT}-01"));
    admin.send(request).await.ok();
    drop(service);
    let spans = collector.spans().await;
    assert_eq!(spans.iter().map(|span| span.trace_id.as_str()).collect::<Vec<_>>(), [TRACE_ID]);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn requests_that_share_a_transaction_say_so(world: &World) {
    let collector = Collector::start().await;
    let service = copy(world, &collector, "");
    let admin = world.admin.at(&service.base);
    let consultant = consultant(&admin).await;
    for _ in 0..4 {
        join_all((0..32).map(|_| admin.issue(&consultant))).await;
    }
    drop(service);
    let spans = collector.spans().await;
    let shared: Vec<&Recorded> =
        spans.iter().filter(|span| span.attributes.contains_key("db.operation.batch.size")).collect();
    let linked: Vec<&&Recorded> = shared.iter().filter(|span| !span.links.is_empty()).collect();
    assert!(!linked.is_empty(), "none of {} spans", spans.len());
    for span in linked {
        // The first one of the transaction, in whatever trace it is.
        let first = shared.iter().find(|other| span.links.first() == Some(&other.span_id)).unwrap();
        let size = |span: &Recorded| span.attributes["db.operation.batch.size"].clone();
        assert!(size(first) == size(span) && first.trace_id != span.trace_id, "{first:#?} {span:#?}");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_collector_that_is_down_costs_spans_and_nothing_else(world: &World) {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = format!("http://{nobody}");
    let environment = [
        // As deployments say it for all of their services.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "200"),
        ("MAGIC_LINK_METRICS_LISTEN", "127.0.0.1:0"),
    ];
    let process = Process::start_with(world, &environment, Stdio::null());
    let admin = world.admin.at(&process.base);
    let link = admin.issue(&consultant(&admin).await).await;
    world.mails.wait_for(&link, 1).await;
    eventually("spans are counted as lost", async || {
        let text = reqwest::get(format!("{}/metrics", process.metrics)).await.unwrap().text().await.unwrap();
        let is_lost =
            |line: &str| line.starts_with("magic_link_spans_total{outcome=\"lost\"} ") && !line.ends_with(" 0");
        text.lines().any(is_lost).then_some(())
    })
    .await;
    process.ask_to_stop();
    assert!(process.stopped().await.success());
}
