//! `magic-link conformance`: portals that keep the rules pass, and each rule that is broken is caught by its check.

mod portal;

use std::io::{BufRead, BufReader, Read as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use self::portal::{Break, serve};
use crate::support::folder;

/// What is broken, and the check that sees it.
const BROKEN: &[(Break, &str)] = &[
    (Break::OpensWithoutSession, "no-session"),
    (Break::RedeemsAtHead, "head-redeems-nothing"),
    (Break::SignsInAtGet, "get-signs-nobody-in"),
    (Break::KeepsCodeInAddress, "code-hidden"),
    (Break::TellsAddress, "code-hidden"),
    (Break::OpensUsedCode, "code-once"),
    (Break::LetsScriptsReadCookie, "session-cookie"),
    (Break::KeepsPlantedCookie, "session-cookie"),
    (Break::LetsPagesBeKept, "page-headers"),
    (Break::TakesFormsOfOthers, "login-csrf"),
    (Break::SignsInAtGet, "login-csrf"),
    (Break::OpensForeignTenants, "foreign-tenant"),
    (Break::ForgetsEndInBanner, "banner"),
    (Break::RemembersYes, "revocation"),
    (Break::OpensWithoutService, "service-down"),
    (Break::SkipsNumbers, "reports"),
    (Break::SendsNoCount, "reports"),
    (Break::LetsOthersEnd, "done"),
    (Break::KeepsSessionAfterDone, "done"),
    (Break::TakesForgedMessages, "webhook"),
    (Break::TakesOldMessages, "webhook"),
    (Break::GivesMinuteOfGrace, "no-grace"),
    (Break::BelievesOwnClockAlone, "ended-at-service"),
];

fn conformance(portal_url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_magic-link"));
    command.args(["conformance", "--json", "--listen", "127.0.0.1:0", "--portal-url", portal_url]).args(arguments);
    command.current_dir(folder("conformance")).stdin(Stdio::null());
    command
}

/// The report about a portal that breaks a rule, or none, and the exit code.
fn report(breaks: Option<Break>, only: Option<&str>) -> (Value, Option<i32>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let mut arguments = vec!["--page", "page", "--webhook", "/hook"];
    arguments.extend(only.into_iter().flat_map(|check| ["--only", check]));
    let mut command = conformance(&url, &arguments);
    let mut run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut told = BufReader::new(run.stderr.take().expect("standard error")).lines();
    let mut variable = |name: &str| {
        let line = told.next().expect("what the portal has to know").expect("a line");
        line.strip_prefix(name).and_then(|line| line.strip_prefix('=')).unwrap_or_else(|| panic!("{line}")).to_owned()
    };
    let service = variable("CONFORMANCE_SERVICE_URL");
    let (key, secret) = (variable("CONFORMANCE_KEY"), variable("CONFORMANCE_WEBHOOK_SECRET"));
    let portal = serve(listener, breaks, service, key, secret);
    let mut text = String::new();
    run.stdout.take().expect("standard output").read_to_string(&mut text).expect("a text");
    let status = run.wait().expect("it ends");
    drop(portal.stop(false));
    let said: Vec<_> = told.map_while(Result::ok).collect();
    assert!(status.code().is_some(), "{status} {said:?}");
    let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {said:?}"));
    (report, status.code())
}

fn of_state(report: &Value, state: &str) -> Vec<Value> {
    report["checks"].as_array().expect("checks").iter().filter(|check| check["state"] == state).cloned().collect()
}

#[test]
fn a_portal_that_keeps_every_rule_passes_every_check() {
    let (report, code) = report(None, None);
    assert_eq!((of_state(&report, "failed"), of_state(&report, "left_out"), code), (vec![], vec![], Some(0)));
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(report["passed"], checks.len());
    for check in checks {
        for member in ["why", "standard"] {
            assert!(check[member].as_str().is_some_and(|text| text.len() > 10), "{check}");
        }
        let name = check["check"].as_str().unwrap();
        assert!(name == "visit" || BROKEN.iter().any(|(_, caught_by)| *caught_by == name), "{name} catches nothing");
    }
}

#[test]
fn each_broken_rule_is_caught_by_its_check() {
    // Four at once: each waits most of its time.
    for some in BROKEN.chunks(4) {
        std::thread::scope(|scope| {
            for (breaks, check) in some {
                scope.spawn(move || {
                    let (report, code) = report(Some(*breaks), Some(check));
                    let failed = of_state(&report, "failed");
                    let names: Vec<_> = failed.iter().map(|one| one["check"].as_str().unwrap()).collect();
                    assert_eq!((names, code), (vec![*check], Some(1)), "{breaks:?}: {report}");
                    assert!(
                        !failed[0]["found"].as_str().unwrap().contains("private service"),
                        "{breaks:?}: {failed:?}"
                    );
                });
            }
        });
    }
}

#[test]
fn the_example_portal_passes() {
    let binary = Path::new(env!("CARGO_BIN_EXE_magic-link")).with_file_name("example-portal");
    assert!(binary.is_file(), "{} is missing: cargo build --package example-portal", binary.display());
    // Any port that is free: the portal binds it anew.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!(
        "exec env PORTAL_LISTEN=127.0.0.1:{port} PORTAL_PUBLIC_URL=http://127.0.0.1:{port} \
         PORTAL_SERVICE_URL=$CONFORMANCE_SERVICE_URL \
         PORTAL_CLOUD_KEY=$CONFORMANCE_KEY PORTAL_ESS_KEY=$CONFORMANCE_KEY \"$0\""
    );
    let mut command = conformance(&format!("http://127.0.0.1:{port}"), &["--", "sh", "-c", &script]);
    let output = command.arg(&binary).output().expect("it runs");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((of_state(&report, "failed"), output.status.code()), (vec![], Some(0)), "{output:?}");
    let left_out: Vec<_> = of_state(&report, "left_out").iter().map(|check| check["check"].clone()).collect();
    assert_eq!(left_out, ["webhook"], "it takes no messages");
}

#[test]
fn what_cannot_be_run_is_said() {
    for (arguments, why) in [
        (&["--only", "everything"][..], "there is no check `everything`"),
        (&["--root", "cloud"], "begins and ends with a slash"),
        (&["--foreign-tenant", "acme"], "another one than"),
        (&["--wait", "0", "--", "no-such-program"], "cannot start no-such-program"),
        (&["--wait", "0"], "did not answer"),
    ] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = conformance(&format!("http://127.0.0.1:{port}"), arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{why}: {output:?}");
    }
}

// A portal is often started by another program, as npm does.
#[test]
#[cfg(target_os = "linux")]
fn what_a_portal_has_started_ends_with_the_run() {
    let place = folder("conformance-children");
    let pid = place.join("pid");
    let script = format!("sleep 300 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
    for is_ended in [false, true] {
        let wait = if is_ended { "60" } else { "1" };
        let mut command = conformance("http://127.0.0.1:9", &["--wait", wait, "--", "sh", "-c", &script]);
        let mut run = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let began = std::time::Instant::now();
        while !pid.exists() && began.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let child = std::fs::read_to_string(&pid).expect("it was started").trim().to_owned();
        std::fs::remove_file(&pid).expect("a file");
        if is_ended {
            assert!(Command::new("kill").arg(run.id().to_string()).status().expect("a signal").success());
        }
        assert!(!run.wait().expect("it ends").success());
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let began = std::time::Instant::now();
        while !state().is_empty() && !state().contains(") Z ") && began.elapsed().as_secs() < 20 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(state().is_empty() || state().contains(") Z "), "{}", state());
    }
}
