//! Libraries of others take the messages and the security events that we sign. Run by `make interop`, which installs them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Database, Receiver, World};

/// Lets a program verify messages: one JSON object a line on its standard input, exit code 0 if all are good.
fn verify(program: &mut Command, lines: &str) -> bool {
    let mut child = program.stdin(Stdio::piped()).spawn().expect("`make interop` has installed it");
    child.stdin.take().expect("standard input is piped").write_all(lines.as_bytes()).expect("it reads");
    child.wait().expect("it ends").success()
}

#[test]
#[ignore = "needs the libraries that `make interop` installs"]
fn standard_libraries_of_two_languages_take_our_signatures() {
    World::run(Database::Sqlite, &Receiver::allowed(), async |world| {
        let receiver = Receiver::start().await;
        let portal = world.portal("cloud", "acme").await;
        let endpoint = receiver.endpoint_of(&portal).await;
        let path = format!("/v1/webhook-endpoints/{}/rotate-secret", endpoint["id"].as_str().unwrap());
        let rotated = portal.post(&path, &json!({})).await.ok();
        portal.issue(&world.consultant().await).await;
        let message = receiver.wait_for(1).await.swap_remove(0);
        let line = |secret: &str, text: &str| {
            let headers = json!({ "webhook-id": message.id, "webhook-timestamp": message.timestamp.to_string(),
                "webhook-signature": message.signatures.join(" ") });
            format!("{}\n", json!({ "secret": secret, "headers": headers, "body": text }))
        };
        let [old, new] = [&endpoint, &rotated].map(|one| one["secret"].as_str().unwrap());
        let ears = Receiver::start().await;
        let caep = json!({ "url": ears.url(), "format": "caep", "audience": "https://portal.example" });
        portal.post("/v1/webhook-endpoints", &caep).await.ok();
        let session = world.open_session(&portal).await;
        portal.post(&format!("/v1/sessions/{}/end", session["id"].as_str().unwrap()), &json!({})).await.ok();
        let set = ears.wait_for(1).await.swap_remove(0).text;
        let jwks = world.stranger().get("/.well-known/jwks.json").await.ok();
        let event = |audience: &str| {
            let issuer = "http://127.0.0.1:8080";
            format!("{}\n", json!({ "set": set, "jwks": jwks, "issuer": issuer, "audience": audience }))
        };
        let good = line(old, &message.text) + &line(new, &message.text) + &event("https://portal.example");
        let bad = [line(new, &message.text.replace("acme", "evil")), event("https://elsewhere.example")];
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let [target, scripts] = [here.join("target/interop"), here.join("tests/interop")];
        for (program, script) in [("venv/bin/python", "verify.py"), ("node", "verify.mjs")] {
            let program = if program == "node" { PathBuf::from(program) } else { target.join(program) };
            let run = |lines: &str| {
                // A module is looked for beside its script.
                std::fs::copy(scripts.join(script), target.join(script)).unwrap();
                // Of a forgery it complains at length.
                verify(Command::new(&program).arg(target.join(script)).stderr(Stdio::null()), lines)
            };
            assert!(run(&good), "{script} takes both secrets and the security event");
            assert!(bad.iter().all(|line| !run(line)), "{script} refuses what was changed, or is for somebody else");
        }
    });
}
