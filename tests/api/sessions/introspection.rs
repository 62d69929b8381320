//! Whether a session holds: exact, for however many ask at once.

use std::cell::Cell;
use std::time::Instant;

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Database, Process, Settings, World, apply, on_both_databases, rounds};

/// When a question was asked that was answered `active`, and when the revocation was answered.
#[derive(Default)]
struct Watched {
    last_active: Cell<Option<Instant>>,
    revoked: Cell<Option<Instant>>,
}

#[apply(on_both_databases)]
async fn nobody_who_asks_after_a_revocation_was_answered_hears_active(world: &World) {
    let processes: Vec<Process> = match world.database {
        Database::Postgres => vec![Process::start(world), Process::start(world)],
        Database::Sqlite => Vec::new(),
    };
    let mut bases: Vec<&str> = processes.iter().map(|process| process.base.as_str()).collect();
    if bases.is_empty() {
        bases.push(&world.base);
    }
    let portal = world.portal("cloud", "acme").await;
    let copies: Vec<Api> = bases.iter().map(|base| portal.at(base).patient()).collect();
    let consultant = world.consultant().await;
    let mut sessions = Vec::new();
    // Five hundred in `make soak`.
    for _ in 0..(rounds(8) * 5 / 2).min(500) {
        let link = portal.issue(&consultant).await;
        let code = world.click(&world.token(&link, 1).await).await;
        let session = portal.redeem(&code).await.ok();
        sessions.push((link, session["access_token"].as_str().unwrap().to_owned(), Watched::default()));
    }
    let done = Cell::new(false);
    let (started, asked_in_all) = (Instant::now(), Cell::new(0_u32));
    let ask = async |caller: usize| {
        let mut number = caller;
        // Everybody goes on until each session was asked about after the last revocation, too.
        let mut rest = usize::MAX;
        while rest > 0 {
            let (_, token, watched) = &sessions[number % sessions.len()];
            let asked = Instant::now();
            asked_in_all.set(asked_in_all.get() + 1);
            if copies[number % copies.len()].is_active(token).await {
                watched.last_active.set(watched.last_active.get().max(Some(asked)));
            }
            number += 1;
            rest = if done.get() { rest.min(sessions.len()) - 1 } else { rest };
        }
    };
    let revoke = async {
        for (number, (link, _, watched)) in sessions.iter().enumerate() {
            let path = format!("/v1/magic-links/{link}/revoke");
            copies[number % copies.len()].post(&path, &json!({ "reason": "The work is done" })).await.ok();
            watched.revoked.set(Some(Instant::now()));
        }
        done.set(true);
    };
    join(join_all((0..8).map(ask)), revoke).await;
    let mut closest: Option<f64> = None;
    for (link, _, watched) in &sessions {
        let (Some(active), Some(revoked)) = (watched.last_active.get(), watched.revoked.get()) else { continue };
        assert!(active < revoked, "{link} was active {:?} after the revocation was answered", active - revoked);
        let gap = -(revoked - active).as_secs_f64() * 1e3;
        closest = Some(closest.map_or(gap, |known| known.max(gap)));
    }
    let per_second = f64::from(asked_in_all.get()) / started.elapsed().as_secs_f64();
    eprintln!(
        "{:?}: {} links revoked one by one beside {per_second:.0} introspections a second; start of the last active \
         answer - revocation: {closest:?} ms at most",
        world.database,
        sessions.len()
    );
}

#[apply(on_both_databases)]
async fn everybody_who_asks_at_once_hears_of_their_own_session_only(world: &World) {
    let (cloud, other) = (world.portal("cloud", "acme").await, world.portal("ess", "acme").await);
    let first = world.open_session(&cloud).await;
    let second = world.open_session(&cloud).await;
    let path = format!("/v1/sessions/{}/end", second["id"].as_str().unwrap());
    cloud.post(&path, &json!({})).await.ok();
    let [first, second] = [&first, &second].map(|session| session["access_token"].as_str().unwrap());
    let stranger =
        Api::new(&world.base, Some("mlsk_01kaq3v9e8fwmvd2x7n0c5hb4z_0123456789012345678901234567890123456789012"));
    let questions = (0..200).map(async |number| {
        let (caller, token) = match number % 5 {
            0 => (&cloud, first),
            1 => (&cloud, second),
            2 => (&other, first),
            3 => (&cloud, "garbage"),
            _ => (&stranger, first),
        };
        let reply = caller.form("/v1/introspect", &[("token", token)]).await;
        match number % 5 {
            0 => assert_eq!((reply.status.as_u16(), &reply.body["active"]), (200, &json!(true)), "{reply:?}"),
            4 => reply.refused(401, "unauthenticated"),
            _ => assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "{\"active\":false}")),
        }
    });
    join_all(questions).await;
}

#[apply(on_both_databases)]
async fn whoever_is_not_known_hears_nothing_about_the_form(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let wrong =
        Api::new(&world.base, Some("mlsk_01kaq3v9e8fwmvd2x7n0c5hb4z_0123456789012345678901234567890123456789012"));
    let send = async |caller: &Api| caller.send(caller.request(Method::POST, "/v1/introspect").json(&json!({}))).await;
    send(&wrong).await.refused(401, "unauthenticated");
    send(&world.stranger()).await.refused(401, "unauthenticated");
    send(&world.client(None, &["*"], &["links:read"]).await).await.refused(403, "insufficient_scope");
    send(&portal).await.refused(415, "unsupported_media_type");
}

#[apply(on_both_databases)]
async fn a_client_is_shut_out_from_its_next_question_on(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    assert!(portal.is_active(token).await);
    let path = format!("/v1/clients/{}", portal.client_id);
    let rotated = world.admin.post(&format!("{path}/rotate"), &json!({})).await.ok();
    portal.form("/v1/introspect", &[("token", token)]).await.refused(401, "unauthenticated");
    let portal = Api::new(&world.base, rotated["key"].as_str());
    assert!(portal.is_active(token).await);
    world.admin.post(&format!("{path}/disable"), &json!({})).await.ok();
    portal.form("/v1/introspect", &[("token", token)]).await.refused(401, "unauthenticated");
}

#[apply(on_both_databases)]
#[settings(Settings::manual_clock())]
async fn an_end_is_told_a_quarter_of_an_hour_before(world: &World) {
    let portal = world.portal("cloud", "acme").await;
    let session = world.open_session(&portal).await;
    let token = session["access_token"].as_str().unwrap();
    let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
    let told = async || {
        let introspected = portal.form("/v1/introspect", &[("token", token)]).await.ok();
        (introspected["ends_soon"].clone(), portal.get(&path).await.ok()["ends_soon"].clone())
    };
    // The session lasts as long as its window: four hours.
    for (ahead, soon) in [(0, false), (0, false), (224, false), (1, true), (14, true)] {
        world.clock.advance(time::Duration::minutes(ahead));
        assert_eq!(told().await, (soon.into(), soon.into()), "{ahead} minutes later");
    }
    world.clock.advance(time::Duration::minutes(1));
    assert_eq!(told().await, (serde_json::Value::Null, false.into()), "it is over");
}
