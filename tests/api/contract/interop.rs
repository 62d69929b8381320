//! Libraries of others take what we sign: messages, security events, access tokens and status lists. Run by
//! `make interop`, which installs them.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Api, Auditor, Database, Process, Receiver, Settings, World, code_of};

/// Lets a program verify messages: one JSON object a line on its standard input, exit code 0 if all are good.
fn verify(program: &mut Command, lines: &str) -> bool {
    let mut child = program.stdin(Stdio::piped()).spawn().expect("`make interop` has installed it");
    child.stdin.take().expect("standard input is piped").write_all(lines.as_bytes()).expect("it reads");
    child.wait().expect("it ends").success()
}

/// Both programs take all that is good, and refuse each that is not.
fn take(good: &str, bad: &[String]) {
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
        assert!(run(good), "{script} takes what is good");
        for line in bad {
            assert!(!run(line), "{script} refuses what was changed, is over, or is for somebody else: {line}");
        }
    }
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
        take(&good, &bad);
    });
}

#[test]
#[ignore = "needs the libraries that `make interop` installs"]
fn standard_libraries_of_two_languages_verify_our_access_tokens() {
    World::run(Database::Sqlite, &Settings::no_service(), async |world| {
        // They find everything by the issuer, so the issuer has to be where the service is.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let issuer = format!("http://127.0.0.1:{port}");
        let audience = "https://cloud.example";
        let environment = [
            ("MAGIC_LINK_LISTEN", issuer.strip_prefix("http://").unwrap()),
            ("MAGIC_LINK_PUBLIC_URL", issuer.as_str()),
            ("MAGIC_LINK_PORTALS__CLOUD__AUDIENCE", audience),
            ("MAGIC_LINK_PORTALS__CLOUD__CALLBACK_URL", "http://127.0.0.1:8081/callback"),
        ];
        let _process = Process::start_with(world, &environment, Stdio::inherit());
        let (admin, visitor) = (world.admin.at(&issuer), world.stranger().at(&issuer));
        let consultant = json!({ "name": "Ravi Kumar", "email": "ravi@support.example" });
        let consultant = admin.post("/v1/consultants", &consultant).await.ok()["id"].as_str().unwrap().to_owned();
        let mut tokens = Vec::new();
        for _ in 0..2 {
            let link = admin.issue(&consultant).await;
            let token = world.token(&link, 1).await;
            let code = code_of(&visitor.post("/l/continue", &json!({ "token": token })).await.ok());
            tokens.push(admin.redeem(&code).await.ok()["access_token"].as_str().unwrap().to_owned());
        }
        let ended = admin.form("/v1/revoke", &[("token", &tokens[1])]).await;
        assert_eq!(ended.status, 200);
        let line = |token: &str, audience: &str| {
            format!("{}\n", json!({ "access_token": token, "issuer": issuer, "audience": audience }))
        };
        let mut forged = tokens[0].clone();
        forged.replace_range(60..61, if &forged[60..61] == "A" { "B" } else { "A" });
        let bad = [line(&tokens[0], "https://ess.example"), line(&tokens[1], audience), line(&forged, audience)];
        take(&line(&tokens[0], audience), &bad);
    });
}

#[test]
#[ignore = "needs the libraries that `make interop` installs"]
fn a_customer_approves_with_the_lines_of_the_readme() {
    World::run(Database::Sqlite, &Settings::default(), async |world| {
        let acme =
            json!({ "name": "ACME Ltd", "contacts": [{ "name": "Vikram Shah", "email": "vikram@acme.example" }] });
        world.admin.put("/v1/tenants/acme", &acme).await.ok();
        let always = json!({ "approval": { "required_for": "always" } });
        world.admin.put("/v1/tenants/acme/policy", &always).await.ok();
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let folder = crate::support::folder("customer");
        let python = here.join("target/interop/venv/bin/python");
        let run = |script: &str, arguments: &[&str], input: &str| {
            std::fs::write(folder.join("script.py"), script).unwrap();
            let mut program = Command::new(&python);
            program.current_dir(&folder).arg("script.py").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = program.spawn().expect("`make interop` has installed it");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{script}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let key = run(
            "from cryptography.hazmat.primitives.asymmetric import ec\nfrom cryptography.hazmat.primitives import serialization as s\n\
             import jwt\nfrom jwt.algorithms import ECAlgorithm\nkey = ec.generate_private_key(ec.SECP256R1())\n\
             open('approval-key.pem', 'wb').write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))\n\
             open('customer.pem', 'wb').write(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))\n\
             print(ECAlgorithm.to_jwk(key.public_key()))",
            &[],
            "",
        );
        let jwk: serde_json::Value = serde_json::from_str(&key).unwrap();
        let public = json!({ "kty": jwk["kty"], "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"] });
        world.admin.put("/v1/tenants/acme/approval-key", &json!({ "public_key": public })).await.ok();
        let asked = world.admin.post("/v1/magic-links", &Api::issue_request(&world.consultant().await)).await.ok();
        let readme = std::fs::read_to_string(here.join("openapi/README.md")).unwrap();
        let lines = readme.split("```python\n# approve.py").nth(1).unwrap().split("```").next().unwrap();
        let lines = lines.split_once('\n').unwrap().1;
        let text = run(lines, &["emp-3", "vikram.shah@acme.example"], &asked.to_string());
        let approver = json!({ "id": "emp-3", "name": "Vikram Shah", "email": "vikram.shah@acme.example" });
        let path = format!("/v1/magic-links/{}/approve", asked["id"].as_str().unwrap());
        world.admin.post(&path, &json!({ "approver": approver, "signed_approval": text })).await.ok();
        let mut auditor = Auditor::of("acme", &world.admin).await;
        auditor.approval_keys = vec![std::fs::read_to_string(folder.join("customer.pem")).unwrap()];
        auditor.audit(&world.admin).await;
    });
}
