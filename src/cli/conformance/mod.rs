//! `magic-link conformance`: drives somebody's portal as its visitor, against a private service with a clock of its own.
//!
//! The private service is the real one. The run issues links, reads the mails, opens the portal's pages as a browser
//! would, and looks at what the service has on record. Each check of the table (`checks`) is a story of its own.

mod browser;
mod checks;
mod service;
mod visits;
mod webhooks;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use clap::Args;
use reqwest::Method;
#[cfg(unix)]
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use url::Url;

use self::browser::{Browser, Site};
use self::checks::{CHECKS, Check};
use self::service::PrivateService;
use super::Failure;
use super::output::{Output, line};
use crate::secrets::WebhookSecret;

/// The longest that one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(90);

/// Why a check failed; what was found instead.
type Finding = Result<(), String>;

fn ensure(holds: bool, found: impl FnOnce() -> String) -> Finding {
    if holds { Ok(()) } else { Err(found()) }
}

#[derive(Args, Clone)]
#[command(after_long_help = HELP)]
pub(super) struct Conformance {
    /// Address of the portal under test, as browsers reach it
    #[arg(long, value_name = "URL")]
    portal_url: Url,
    /// Address that the private service listens on: the portal is configured to call it; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8089")]
    listen: SocketAddr,
    /// Id of the portal
    #[arg(long, default_value = "cloud")]
    portal: String,
    /// Tenant of the visits, which the portal knows
    #[arg(long, default_value = "acme")]
    tenant: String,
    /// Another tenant that the portal knows
    #[arg(long, default_value = "globex")]
    foreign_tenant: String,
    /// Path of a tenant's pages, with a slash at its end
    #[arg(long, default_value = "/{tenant_id}/cloud/")]
    root: String,
    /// The callback, below the root
    #[arg(long, default_value = "callback")]
    callback: String,
    /// A page that only a visitor sees and whose view is reported, below the root
    #[arg(long, default_value = "employees/emp-9")]
    page: String,
    /// What "I am done" posts to, below the root
    #[arg(long, default_value = "done")]
    done: String,
    /// Words by which the banner says that everything is recorded
    #[arg(long, default_value = "recorded")]
    recorded: String,
    /// Path of the receiver of webhook messages; without it they are not checked
    #[arg(long, value_name = "PATH")]
    webhook: Option<String>,
    /// Run this check alone; may be repeated
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Leave this check out; may be repeated
    #[arg(long, value_name = "CHECK")]
    without: Vec<String>,
    /// Seconds to wait until the portal answers
    #[arg(long, default_value_t = 120)]
    wait: u64,
    /// Command that starts the portal, and ends when the run does; its environment has the three variables
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

const HELP: &str = "\
The run starts a private service: the real one, with a database and a clock of its own, which is gone afterwards. \
Your portal needs three things of it, which are printed at the start, and are the environment of the COMMAND, if there is one:

  CONFORMANCE_SERVICE_URL     where the service listens (--listen)
  CONFORMANCE_KEY             the portal's API key
  CONFORMANCE_WEBHOOK_SECRET  what signs webhook messages

Let the portal use them in place of its own, e.g.

  magic-link conformance --portal-url http://127.0.0.1:8081 -- sh -c \\
      'SERVICE=$CONFORMANCE_SERVICE_URL KEY=$CONFORMANCE_KEY exec ./my-portal'

(`exec`, because the run ends this one process), or start it by hand while the run waits for it (--wait). The links are for one page of one tenant (--tenant, --root, \
--page); a second tenant (--foreign-tenant) must be one that the portal knows, too. The visitor presses the first \
button of the first form that the callback leads to. Portal and run must have the same time.

Exit code 0: every check that ran has passed. 1: one has failed. With --json one object is printed, for CI.";

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Passed,
    Failed,
    LeftOut,
}

/// A check and what it came to.
#[derive(Debug, Serialize)]
struct Outcome {
    check: &'static str,
    state: State,
    why: &'static str,
    standard: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Report {
    passed: usize,
    failed: usize,
    left_out: usize,
    checks: Vec<Outcome>,
}

/// A portal under test, and the service beside it.
struct Run {
    command: Conformance,
    service: PrivateService,
    secret: SecretString,
    /// No cookie is in it: each check begins with its own.
    browser: Browser,
}

/// The portal's process, which ends with the run, and so do those that it has started.
struct Portal(Child);

impl Drop for Portal {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw) {
            let _has_ended_or_not = kill_process_group(group, Signal::KILL);
        }
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Conformance {
    /// The portal's address without a slash at its end.
    fn portal_base(&self) -> &str {
        self.portal_url.as_str().trim_end_matches('/')
    }

    /// An address below a tenant's root.
    fn address(&self, tenant: &str, page: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}{}{page}", self.portal_base(), self.root.replace("{tenant_id}", tenant)))
    }

    /// Why a check does not run.
    fn leaves_out(&self, check: &Check) -> Option<&'static str> {
        let named = |names: &[String]| names.iter().any(|name| name == check.name);
        match check.name {
            _ if named(&self.without) => Some("--without"),
            _ if !self.only.is_empty() && !named(&self.only) => Some("--only"),
            "webhook" if self.webhook.is_none() => Some("no --webhook"),
            "foreign-tenant" if !self.root.contains("{tenant_id}") => Some("no {tenant_id} in --root"),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let is_known = |name: &&String| CHECKS.iter().any(|check| check.name == name.as_str());
        if let Some(unknown) = self.only.iter().chain(&self.without).find(|name| !is_known(name)) {
            let known: Vec<&str> = CHECKS.iter().map(|check| check.name).collect();
            return Err(format!("there is no check `{unknown}`; there are {}", known.join(", ")).into());
        }
        if !self.root.starts_with('/') || !self.root.ends_with('/') {
            return Err("--root begins and ends with a slash".into());
        }
        if self.tenant == self.foreign_tenant {
            return Err("--foreign-tenant is another one than --tenant".into());
        }
        for page in [&self.callback, &self.page, &self.done] {
            self.address(&self.tenant, page)?;
        }
        Ok(())
    }
}

impl Run {
    /// Addresses that were parsed before.
    fn below(&self, tenant: &str, page: &str) -> Url {
        self.command.address(tenant, page).unwrap_or_else(|_| self.command.portal_url.clone())
    }

    fn page(&self, tenant: &str) -> Url {
        self.below(tenant, &self.command.page)
    }

    fn callback(&self, tenant: &str) -> Url {
        self.below(tenant, &self.command.callback)
    }

    fn done(&self) -> Url {
        self.below(&self.command.tenant, &self.command.done)
    }

    fn webhook_secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// What the portal has to know.
    fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("CONFORMANCE_SERVICE_URL", self.service.url.clone()),
            ("CONFORMANCE_KEY", self.service.portal_key.clone()),
            ("CONFORMANCE_WEBHOOK_SECRET", self.webhook_secret().to_owned()),
        ]
    }

    /// Starts the portal, or says what it has to know; waits until it answers.
    async fn portal(&self) -> Result<Option<Portal>, Failure> {
        let portal = if let Some((program, arguments)) = self.command.command.split_first() {
            let mut command = Command::new(program);
            // Its own words are no part of the report.
            command.args(arguments).envs(self.variables()).stdout(io::stderr());
            #[cfg(unix)]
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            Some(Portal(command.spawn().map_err(|error| format!("cannot start {program}: {error}"))?))
        } else {
            // On standard error: with `--json` standard output is for the report.
            for (name, value) in self.variables() {
                writeln!(io::stderr(), "{name}={value}")?;
            }
            writeln!(io::stderr(), "waiting for the portal at {}", self.command.portal_url)?;
            None
        };
        let page = self.page(&self.command.tenant);
        let answers = async {
            while self.browser.fresh().send(Method::GET, &page, Site::Same, None).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(self.command.wait), answers).await;
        let late = |_elapsed| format!("the portal did not answer at {page} within {} seconds", self.command.wait);
        waited.map_err(late)?;
        Ok(portal)
    }

    async fn judge(&self, check: &'static Check) -> Outcome {
        let (state, found) = match self.command.leaves_out(check) {
            Some(why) => (State::LeftOut, Some(why.to_owned())),
            None => match tokio::time::timeout(CHECK_TIMEOUT, (check.run)(self)).await {
                Ok(Ok(())) => (State::Passed, None),
                Ok(Err(found)) => (State::Failed, Some(found)),
                Err(_) => (State::Failed, Some(format!("no end within {} seconds", CHECK_TIMEOUT.as_secs()))),
            },
        };
        // Whatever the check did before it ended.
        self.service.be_up(true);
        Outcome { check: check.name, state, why: check.why, standard: check.standard, found }
    }
}

/// Needs no configuration: the private service has its own.
pub(super) fn start(command: Conformance, output: &Output) -> Result<(), Failure> {
    let system = actix_web::rt::System::new();
    let outcome = system.block_on(run(command, output));
    // Dropping it would wait for threads of the private service; the process ends anyway.
    std::mem::forget(system);
    outcome
}

async fn run(command: Conformance, output: &Output) -> Result<(), Failure> {
    command.check()?;
    let service = PrivateService::start(&command).await?;
    let run = Run { command, service, secret: WebhookSecret::generate(), browser: Browser::new()? };
    let outcome = tokio::select! {
        outcome = all(&run, output) => outcome,
        () = run.service.ended() => Err("the run was ended".into()),
    };
    run.service.end().await;
    let report = outcome?;
    if output.json {
        line(&serde_json::to_string(&report)?)?;
    } else {
        line(&format!("{} passed, {} failed, {} left out", report.passed, report.failed, report.left_out))?;
    }
    if report.failed > 0 {
        return Err(format!("the portal does not conform: {} checks failed", report.failed).into());
    }
    Ok(())
}

async fn all(run: &Run, output: &Output) -> Result<Report, Failure> {
    let _portal = run.portal().await?;
    let mut checks = Vec::new();
    for check in CHECKS {
        let outcome = run.judge(check).await;
        if !output.json {
            say(&outcome)?;
        }
        checks.push(outcome);
    }
    let count = |state| checks.iter().filter(|outcome| outcome.state == state).count();
    let (passed, failed, left_out) = (count(State::Passed), count(State::Failed), count(State::LeftOut));
    Ok(Report { passed, failed, left_out, checks })
}

fn say(outcome: &Outcome) -> io::Result<()> {
    let found = outcome.found.as_deref().unwrap_or_default();
    match outcome.state {
        State::Passed => line(&format!("passed    {}", outcome.check)),
        State::LeftOut => line(&format!("left out  {}: {found}", outcome.check)),
        State::Failed => line(&format!(
            "FAILED    {}: {found}\n          why:      {}\n          standard: {}",
            outcome.check, outcome.why, outcome.standard
        )),
    }
}
