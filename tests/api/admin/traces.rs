//! The trace of a caller: taken, told, and passed on to those who are called in its course.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Process, Receiver, Settings, World, apply, eventually, folder, on_both_databases};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Issues a link as a caller who is at this place of a trace.
async fn issue_in(api: &Api, consultant: &str, traceparent: &str) -> String {
    let request = api.request(Method::POST, "/v1/magic-links").json(&Api::issue_request(consultant));
    let reply = api.send(request.header("traceparent", traceparent).header("tracestate", "vendor=asha.rao")).await;
    assert_eq!(reply.header("trace-id"), TRACE_ID);
    reply.ok()["id"].as_str().unwrap().to_owned()
}

#[apply(on_both_databases)]
#[settings(Receiver::allowed())]
async fn a_callers_trace_reaches_the_provider_and_the_receivers_of_webhooks(world: &World) {
    let receiver = Receiver::start().await;
    receiver.endpoint_of(&world.admin).await;
    let consultant = world.consultant().await;
    for flags in ["01", "00"] {
        let traceparent = format!("00-{TRACE_ID}-{PARENT}-{flags}");
        let link = issue_in(&world.admin, &consultant, &traceparent).await;
        world.mails.wait_for(&link, 1).await;
        // Nobody records a span here: whoever is called hangs below the caller's.
        assert_eq!(world.mails.traceparents().await.pop().unwrap(), Some(traceparent.clone()));
        let told = eventually("the message", async || {
            let messages = receiver.messages().await;
            messages.into_iter().find(|message| message.body["data"]["magic_link_id"] == link.as_str())
        });
        assert_eq!(told.await.traceparent, Some(traceparent));
        let events = world.admin.events(&format!("&magic_link_id={link}&type=magic_link.issued")).await;
        assert_eq!(events[0]["trace_id"], TRACE_ID);
    }
    // Who brings no trace starts none for others.
    let link = world.admin.issue(&consultant).await;
    world.mails.wait_for(&link, 1).await;
    assert_eq!(world.mails.traceparents().await.pop().unwrap(), None);
    assert_eq!(receiver.wait_for(3).await[2].traceparent, None);
}

#[apply(on_both_databases)]
async fn every_answer_tells_the_trace_of_its_request(world: &World) {
    let send = async |method: Method, path: &str, traceparent: &str| {
        let request = world.admin.request(method, path).header("traceparent", traceparent);
        world.admin.send(request).await
    };
    let given = format!("00-{TRACE_ID}-{PARENT}-01");
    for (method, path, status) in [
        (Method::GET, "/v1/clients", 200),
        (Method::HEAD, "/v1/clients", 200),
        (Method::GET, "/l", 200),
        (Method::GET, "/healthz", 200),
        (Method::GET, "/readyz", 200),
        (Method::GET, "/openapi.json", 200),
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/v1/clients", 405),
        (Method::POST, "/v1/magic-links", 400),
    ] {
        let reply = send(method.clone(), path, &given).await;
        assert_eq!((reply.status.as_u16(), reply.header("trace-id")), (status, TRACE_ID), "{method} {path}");
        let own = send(method, path, &given.replace(PARENT, "0000000000000000")).await;
        assert_ne!(own.header("trace-id"), TRACE_ID, "{path}: what is no place in a trace names none");
    }
    // Two places are none.
    let request = world.admin.request(Method::GET, "/v1/clients").header("traceparent", &given);
    assert_ne!(world.admin.send(request.header("traceparent", &given)).await.header("trace-id"), TRACE_ID);
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn a_start_is_logged_with_version_schema_and_configuration(world: &World) {
    let started = async |session_hours: &str, secret: &str| {
        let path = folder(&format!("started-{:?}-{session_hours}-{secret}", world.database)).join("log");
        let log = std::fs::File::create(&path).unwrap();
        let environment = [
            ("MAGIC_LINK_LOG__LEVEL", "info"),
            ("MAGIC_LINK_LINKS__SESSION_HOURS", session_hours),
            ("MAGIC_LINK_MAIL__MAILPIT_USER", "u"),
            ("MAGIC_LINK_MAIL__MAILPIT_PASSWORD", secret),
        ];
        let process = Process::start_with(world, &environment, log.into());
        // It hears signals once it answers.
        world.admin.at(&process.base).get("/healthz").await.ok();
        process.ask_to_stop();
        process.stopped().await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(secret), "{text}");
        let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| line["message"] == "started").unwrap()
    };
    let first = started("8", "s3cret-1").await;
    assert_eq!(first["service.version"], env!("CARGO_PKG_VERSION"));
    let schema = "SELECT max(version) AS text FROM __diesel_schema_migrations";
    assert_eq!(first["schema.version"], json!(crate::support::Sql::of(world).texts(schema)[0]));
    assert_eq!(first["config.digest"].as_str().map(str::len), Some(16));
    assert_eq!(started("8", "s3cret-2").await["config.digest"], first["config.digest"], "it tells of no secret");
    assert_ne!(started("9", "s3cret-1").await["config.digest"], first["config.digest"]);
}
