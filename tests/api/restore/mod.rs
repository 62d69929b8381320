//! A backup is restored: nothing comes back that had ended, and the log says what is lost.

mod confirming;
mod damaged;
mod ending;
mod log;
mod moving;
mod outside;
mod readiness;
mod runbook;

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Api, World, code_of, command, eventually};

/// Runs a command; the clients of the test go on meanwhile, and notice what the service closes.
async fn run(world: &World, arguments: &[&str]) -> Output {
    let mut command = command(world);
    command.args(arguments);
    output(command).await
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// The one JSON object that a command prints.
async fn json(world: &World, arguments: &[&str]) -> Value {
    let output = run(world, &[arguments, &["--json"]].concat()).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Confirms clients.
async fn confirm(world: &World, clients: &[&Api]) {
    let ids = clients.iter().map(|client| client.client_id.as_str());
    json(world, &["client", "confirm"].into_iter().chain(ids).collect::<Vec<_>>()).await;
}

/// Waits until the service has noticed that its database was replaced, and is ready on the new one.
async fn ready(world: &World) {
    eventually("the service is ready", async || {
        let reply = world.stranger().get("/readyz").await;
        (reply.status == 200).then_some(())
    })
    .await;
}

/// The consultant presses the button, again while the service has lost its connections.
async fn click(world: &World, token: &str) -> String {
    let pressed = world.stranger().patient().post("/l/continue", &serde_json::json!({ "token": token })).await;
    code_of(&pressed.ok())
}
