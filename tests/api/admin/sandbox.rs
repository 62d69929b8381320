//! A sandbox: what becomes one, and a clock that is moved forward for every copy of the service.

use std::process::{Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use magic_link::clock::Clock;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::support::{
    Api, Process, Receiver, SecondCopy, Settings, Sql, World, apply, code_of, command, eventually, grant,
    on_both_databases,
};

const CLOCK: &str = "/v1/sandbox/clock";
const FARTHEST: i64 = 400 * 86_400;

async fn advance(api: &Api, seconds: i64) -> Value {
    api.post(CLOCK, &json!({ "advance_seconds": seconds })).await.ok()
}

fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("claims")
}

/// The command line over the database at this address.
async fn run(world: &World, url: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = command(world);
    command.args(args).env("MAGIC_LINK_DATABASE_URL", url).envs(environment.iter().copied());
    let run = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output().expect("it runs"));
    run.await.expect("no panic")
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(why), "{output:?}");
}

/// The address of an empty database beside the world's.
fn empty(world: &World) -> String {
    if world.database_url.starts_with("sqlite") {
        return world.database_url.replace("magic-link.db", "sandbox.db");
    }
    let name = format!("{}_sandbox", Sql::name(world));
    Sql::control(world).run(&format!("CREATE DATABASE {name} TEMPLATE template0")).expect("a database");
    world.database_url.replace(&format!("/{}?", Sql::name(world)), &format!("/{name}?"))
}

#[apply(on_both_databases)]
#[settings(Settings::no_service())]
async fn an_empty_database_becomes_that_of_a_sandbox_for_ever(world: &World) {
    let (ordinary, url) = (world.database_url.as_str(), empty(world));
    let as_sandbox = [("MAGIC_LINK_SANDBOX", "true")];
    refused(&run(world, ordinary, &["sandbox", "init"], &[]).await, "is not empty");
    refused(&run(world, ordinary, &["client", "list"], &as_sandbox).await, "this database is no sandbox's");
    refused(&run(world, ordinary, &["serve"], &as_sandbox).await, "this database is no sandbox's");

    for existed in [false, true] {
        let done = run(world, &url, &["sandbox", "init", "--json"], &[]).await;
        assert!(done.status.success(), "{done:?}");
        assert_eq!(serde_json::from_slice::<Value>(&done.stdout).unwrap(), json!({ "existed": existed }));
    }
    refused(&run(world, &url, &["client", "list"], &[]).await, "this database is a sandbox's");
    refused(&run(world, &url, &["serve"], &[]).await, "this database is a sandbox's");
    let left = Sql::open(&url).count("FROM tolerated_migrations WHERE version = '20261128030000'");
    assert_eq!(left, 0, "an older program, which knows no sandbox, refuses it");

    if !world.database_url.starts_with("sqlite") {
        grant(&url);
    }
    let run_url = crate::support::for_a_service(&url);
    let environment = [("MAGIC_LINK_SANDBOX", "true"), ("MAGIC_LINK_DATABASE_URL", run_url.as_str())];
    let created = run(
        world,
        &url,
        &["client", "create", "--json", "--name", "A", "--tenant", "*", "--scope", "admin", "--scope", "audit:read"],
        &as_sandbox,
    )
    .await;
    let created: Value = serde_json::from_slice(&created.stdout).expect("a client");
    let process = Process::start_with(world, &environment, Stdio::inherit());
    let admin = Api::new(&process.base, created["key"].as_str());
    assert_eq!(admin.get(CLOCK).await.ok()["moved_seconds"], 0);
    assert_eq!(advance(&admin, 90).await["moved_seconds"], 90);
    assert_eq!(admin.events("&tenant_id=_system&type=sandbox.created").await.len(), 1, "once");
    drop(process);
    let process = Process::start_with(world, &environment, Stdio::inherit());
    assert_eq!(admin.at(&process.base).get(CLOCK).await.ok()["moved_seconds"], 90, "it is stored");
    refused(&run(world, &url, &["sandbox", "init"], &[("MAGIC_LINK_DATABASE_URL", ordinary)]).await, "is not empty");
}

#[apply(on_both_databases)]
#[settings(Settings::sandbox())]
async fn a_moved_clock_is_moved_for_every_copy_at_the_answer(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let copy = SecondCopy::start_with(world, Clock::System, &Settings::sandbox());
    let other = portal.at(&copy.base);
    for _ in 0..5 {
        let link = portal.issue(&world.consultant().await).await;
        let token = world.token(&link, 1).await;
        let code = world.click(&token).await;
        let session = portal.redeem(&code).await.ok();
        let access = session["access_token"].as_str().unwrap();
        assert!(other.is_active(access).await, "it is remembered there");
        advance(&world.admin, 9 * 3_600).await;
        assert!(!other.is_active(access).await, "the next request to another copy");
        advance(&world.admin, 24 * 3_600).await;
        let shown = other.stranger().post("/l/preview", &json!({ "token": token })).await.ok();
        assert_eq!(shown["state"], "expired");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::sandbox())]
async fn what_is_due_after_a_move_is_done_soon(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let asking = world.client(Some("cloud"), &["acme"], &["links:request", "links:read"]).await;
    let mut request = Api::issue_request(&world.consultant().await);
    request["profile"]["id"] = "emp-2".into();
    let pending = asking.post("/v1/magic-links", &request).await.ok();
    assert_eq!(pending["state"], "pending");

    // To a moment, by a copy that nobody asks anything else.
    let to = OffsetDateTime::now_utc() + time::Duration::hours(25);
    let to = to.format(&time::format_description::well_known::Rfc3339).unwrap();
    world.admin.post(CLOCK, &json!({ "to": to })).await.ok();
    let types = async || world.admin.event_types("&tenant_id=acme").await;
    eventually("everything that is over is on record", async || {
        let types = types().await;
        let due = ["magic_link.expired", "session.ended", "magic_link.lapsed"];
        due.iter().all(|due| types.iter().any(|kind| kind == due)).then_some(())
    })
    .await;
    assert_eq!(
        asking.get(&format!("/v1/magic-links/{}", pending["id"].as_str().unwrap())).await.ok()["state"],
        "lapsed"
    );
    let path = format!("/v1/magic-links/{}", session["magic_link_id"].as_str().unwrap());
    assert_eq!(portal.get(&path).await.ok()["state"], "expired");
    // Keys sign on, and a link of that day goes its way.
    world.open_session(&portal).await;

    let rest = world.admin.get(CLOCK).await.ok()["remaining_seconds"].as_i64().unwrap();
    let clock = advance(&world.admin, rest).await;
    assert!(clock["moved_seconds"].as_i64().unwrap() >= FARTHEST - 1, "{clock}");
    eventually("what was kept long enough is erased", async || {
        let events = world.admin.events("&tenant_id=acme&type=magic_link.issued").await;
        events.iter().any(|event| event["erased"].is_object()).then_some(())
    })
    .await;
    world.open_session(&portal).await;
}

#[apply(on_both_databases)]
#[settings(Settings::sandbox())]
async fn the_clock_only_moves_forward_and_400_days_at_most(world: &World) {
    let clock = advance(&world.admin, 3_600).await;
    assert_eq!((&clock["moved_seconds"], &clock["remaining_seconds"]), (&json!(3_600), &json!(FARTHEST - 3_600)));
    for past in ["2020-01-01T00:00:00Z", clock["now"].as_str().unwrap()] {
        let same = world.admin.post(CLOCK, &json!({ "to": past })).await.ok();
        assert_eq!(same["moved_seconds"], 3_600, "{past}");
    }
    for (body, field) in [
        (json!({ "advance_seconds": 0 }), "/advance_seconds"),
        (json!({ "advance_seconds": -1 }), "/advance_seconds"),
        (json!({ "advance_seconds": FARTHEST + 1 }), "/advance_seconds"),
        (json!({ "advance_seconds": FARTHEST }), "/advance_seconds"),
        (json!({ "to": "9999-01-01T00:00:00Z" }), "/to"),
        (json!({}), ""),
        (json!({ "advance_seconds": 1, "to": "2040-01-01T00:00:00Z" }), ""),
    ] {
        world.admin.post(CLOCK, &body).await.refused_field(field);
    }
    assert_eq!(world.admin.get(CLOCK).await.ok()["moved_seconds"], 3_600);
    let moves = world.admin.events("&tenant_id=_system&type=sandbox.clock_moved").await;
    assert_eq!(moves.len(), 1, "what changed nothing is not on record");
    let (event, data) = (&moves[0], &moves[0]["data"]);
    assert_eq!((&data["moved_seconds"], &event["occurred_at"]), (&json!(3_600), &data["to"]));
    assert_eq!(event["client_id"], world.admin.client_id.as_str());

    let mut sql = Sql::of(world);
    for back in ["0", "NULL"] {
        assert!(
            sql.run(&format!("UPDATE service_state SET sandbox_moved_micros = {back}")).is_err(),
            "by hand: {back}"
        );
    }
    let bound = world.client(Some("cloud"), &["acme"], &["admin"]).await;
    bound.get(CLOCK).await.refused(403, "client_not_permitted");
    bound.post(CLOCK, &json!({ "advance_seconds": 1 })).await.refused(403, "client_not_permitted");
}

#[apply(on_both_databases)]
async fn elsewhere_there_is_no_such_clock(world: &World) {
    world.admin.get(CLOCK).await.refused(404, "not_found");
    world.admin.post(CLOCK, &json!({ "advance_seconds": 1 })).await.refused(404, "not_found");
    for path in ["/sandbox/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/sandbox"] {
        world.stranger().get(path).await.refused(404, "route_not_found");
    }
}

#[apply(on_both_databases)]
#[settings(Settings::sandbox())]
async fn tokens_of_a_sandbox_say_so_and_its_metadata_agrees(world: &World) {
    let issuer = "http://127.0.0.1:8080/sandbox";
    for path in [
        "/sandbox/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/sandbox",
        "/.well-known/openid-configuration",
    ] {
        let metadata = world.stranger().get(path).await.ok();
        assert_eq!(metadata["issuer"], issuer, "{path}");
        assert_eq!(metadata["jwks_uri"], "http://127.0.0.1:8080/.well-known/jwks.json", "{path}");
    }
    let portal = world.portal("cloud", "acme").await;
    let link = portal.issue(&world.consultant().await).await;
    let token = world.token(&link, 1).await;
    let code = code_of(&world.stranger().post("/l/continue", &json!({ "token": token })).await.ok());
    let session = portal.redeem(&code).await.ok();
    let access = session["access_token"].as_str().unwrap();
    for token in [&token, &code, access] {
        assert_eq!(claims(token)["iss"], issuer);
    }
    let list = claims(access)["status"]["status_list"]["uri"].as_str().unwrap().to_owned();
    let path = list.strip_prefix("http://127.0.0.1:8080").unwrap();
    assert_eq!(claims(&world.stranger().get(path).await.text)["sub"], list.as_str(), "it is served where it says");
    let answer = portal.form("/v1/introspect", &[("token", access)]).await.ok();
    assert_eq!((&answer["active"], &answer["iss"]), (&json!(true), &json!(issuer)));
}

fn allowed() -> Settings {
    Settings { config: format!("sandbox = true\n{}", Receiver::allowed().config), ..Receiver::allowed() }
}

#[apply(on_both_databases)]
#[settings(allowed())]
async fn webhook_messages_are_signed_at_the_true_time(world: &World) {
    let receiver = Receiver::start().await;
    let portal = world.portal("cloud", "acme").await;
    receiver.endpoint_of(&portal).await;
    let began = OffsetDateTime::now_utc().unix_timestamp();
    advance(&world.admin, 30 * 86_400).await;
    portal.issue(&world.consultant().await).await;
    let [message, ..] = &receiver.wait_for(1).await[..] else { panic!("a message") };
    let signed_after = message.timestamp - began;
    assert!((0..3_600).contains(&signed_after), "receivers compare it with their own clock: {signed_after}");
    let told = message.body["time"].as_str().unwrap();
    let told = OffsetDateTime::parse(told, &time::format_description::well_known::Rfc3339).unwrap();
    assert!(told.unix_timestamp() - began >= 30 * 86_400, "what it tells is of the sandbox's time: {told}");
}

#[apply(on_both_databases)]
#[settings(Settings::sandbox())]
async fn moves_that_meet_are_all_counted(world: &World) {
    let copy = SecondCopy::start_with(world, Clock::System, &Settings::sandbox());
    let other = world.admin.at(&copy.base);
    let moves = (0..16).map(|number| {
        let api = if number % 2 == 0 { &world.admin } else { &other };
        advance(api, 60)
    });
    let moved: Vec<i64> = futures_util::future::join_all(moves)
        .await
        .iter()
        .map(|clock| clock["moved_seconds"].as_i64().unwrap())
        .collect();
    assert_eq!(world.admin.get(CLOCK).await.ok()["moved_seconds"], 16 * 60);
    assert_eq!(other.get(CLOCK).await.ok()["moved_seconds"], 16 * 60, "{moved:?}");
    assert_eq!(world.admin.events("&tenant_id=_system&type=sandbox.clock_moved").await.len(), 16);
}
